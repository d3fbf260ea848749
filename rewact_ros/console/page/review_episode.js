// One opened episode: its pictures and curves move together with one cursor.

import { element, get, say } from "./app.js";
import { Chart, legend } from "./review_curves.js";

export class Episode {
  /** clicked: called with time and value of a click on the progress. */
  constructor(place, clicked) {
    this.place = place;
    this.clicked = clicked;
    this.what = null;
    this.id = "";
    this.step = 0;
    this.build();
    new ResizeObserver(() => this.draw()).observe(this.charts);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.draw());
  }

  build() {
    this.cameras = element("div", "", "cameras");
    this.slider = element("input");
    this.slider.type = "range";
    this.slider.min = 0;
    this.slider.setAttribute("aria-label", "time");
    this.slider.oninput = () => this.stepTo(Number(this.slider.value));
    this.now = element("output", "");
    const scrub = element("div", "", "scrub");
    const button = (text, about, step) => {
      const made = element("button", text);
      made.type = "button";
      made.title = made.ariaLabel = about;
      made.onclick = () => this.stepTo(this.step + step);
      return made;
    };
    scrub.append(button("◀", "one frame back (left)", -1), this.slider,
      button("▶", "one frame on (right)", 1), this.now);
    this.charts = element("div", "", "charts");
    this.happenings = element("ol", "", "happenings");
    this.faults = element("div", "", "small warn");
    this.place.replaceChildren(this.cameras, scrub, this.faults, this.charts, this.happenings);
  }

  /** The answer, or null where it was refused, which is said. */
  async open(id) {
    let found;
    this.wanted = id;
    try {
      found = await get(`/api/review/episode/${id}`);
    } catch (error) {
      if (this.wanted === id) say(error.message, true);
      return null;
    }
    if (this.wanted !== id) return null;  // another one was opened meanwhile
    const same = this.id === id && this.what;
    this.what = found;
    this.id = id;
    if (!same) {
      this.step = 0;
      this.begin();
    } else {
      this.draw();
    }
    return found;
  }

  begin() {
    const { what } = this;
    this.slider.max = what.frames_ms.length - 1;
    this.images = what.cameras.map((name, k) => {
      const figure = element("figure");
      const image = element("img");
      image.alt = `camera ${name}`;
      const caption = element("figcaption", name);
      figure.append(image, caption);
      return { figure, image, caption, name, k, loading: false, wanted: null };
    });
    this.cameras.replaceChildren(...this.images.map((one) => one.figure));
    this.cameras.hidden = !this.images.length;
    this.drawn = what.groups.map((group) => new Chart(group, what));
    this.charts.replaceChildren(...this.drawn.map((chart) => {
      const box = element("div", "", "box");
      const title = element("div", chart.group.title, "small title");
      box.append(title, chart.canvas, legend(chart, () => this.draw()));
      this.listen(chart);
      return box;
    }));
    if (!this.drawn.length) this.charts.append(element("p", "nothing to draw was recorded"));
    this.faults.replaceChildren(...what.faults.map((fault) => element("p", fault)));
    this.happenings.replaceChildren(...what.happenings.map((event) => {
      const item = element("li");
      const jump = element("button", `${event.t.toFixed(2)} s · ${event.text}`,
        `link ${event.kind}`);
      jump.type = "button";
      jump.onclick = () => this.goTo(event.t);
      item.append(jump);
      return item;
    }));
    this.draw();
    this.stepTo(0);
  }

  listen(chart) {
    const { canvas } = chart;
    canvas.onpointerdown = (event) => {
      const [t, value] = chart.at(event);
      if (chart.isProgress && this.clicked(t, value)) return;
      canvas.setPointerCapture(event.pointerId);
      this.goTo(t);
    };
    canvas.onpointermove = (event) => {
      if (canvas.hasPointerCapture(event.pointerId)) this.goTo(chart.at(event)[0]);
    };
  }

  draw() {
    if (!this.what) return;
    const marks = this.what.marks?.points ? { ...this.what.marks, fps: this.what.fps,
      pending: this.pending } : null;
    for (const chart of this.drawn) {
      chart.draw(marks);
      chart.cursor(this.seconds());
    }
  }

  seconds() {
    return this.what.frames_ms[this.step] / 1000;
  }

  /** The frame of a dataset that the cursor stands at. */
  frame() {
    return Math.round(this.seconds() * (this.what.fps || 0));
  }

  goTo(t) {
    const times = this.what.frames_ms;
    let low = 0, high = times.length - 1;
    while (low < high) {
      const middle = (low + high + 1) >> 1;
      if (times[middle] <= 1000 * t) low = middle; else high = middle - 1;
    }
    if (low + 1 < times.length && times[low + 1] - 1000 * t < 1000 * t - times[low]) low++;
    this.stepTo(low);
  }

  stepTo(step) {
    if (!this.what) return;
    this.step = Math.min(Math.max(step, 0), this.what.frames_ms.length - 1);
    this.slider.value = this.step;
    const frame = this.what.fps ? ` · frame ${this.step}` : "";
    this.now.textContent = `${this.seconds().toFixed(2)} / ${this.what.span_s.toFixed(2)} s${frame}`;
    for (const chart of this.drawn) chart.cursor(this.seconds());
    for (const one of this.images) this.ask(one);
  }

  /** One picture of a camera at a time is under way: the newest that is wanted comes next. */
  ask(one) {
    one.wanted = `/api/review/picture/${this.id}/${one.k}?at=${this.seconds().toFixed(3)}`;
    if (one.loading) return;
    one.loading = true;
    const asked = one.wanted;
    const done = (trouble) => {
      one.loading = false;
      one.caption.textContent = trouble ? `${one.name}: no picture` : one.name;
      one.figure.classList.toggle("old", trouble);
      if (one.wanted !== asked && this.images.includes(one)) this.ask(one);
    };
    one.image.onload = () => done(false);
    one.image.onerror = () => done(true);
    one.image.src = asked;
  }
}
