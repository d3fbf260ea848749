// Curves of one episode over one axis of time: a canvas per group, the cursor drawn over them.

import { ink, line, sized } from "./plot.js";

const LEFT = 46, RIGHT = 8, TOP = 8, BOTTOM = 18;
const HUES = [210, 28, 140, 0, 275, 185, 55, 320, 100, 240];

export const short = (value) => {
  const size = Math.abs(value);
  return size && (size >= 1e5 || size < 1e-3) ? value.toExponential(1)
    : String(+value.toPrecision(3));
};

const colour = (k) => {
  const dark = matchMedia("(prefers-color-scheme: dark)").matches;
  return `hsl(${HUES[k % HUES.length]} 65% ${dark ? 68 : 40}%)`;
};

export class Chart {
  /** group: as /api/review/episode tells it; what: the episode's span and happenings. */
  constructor(group, what) {
    this.group = group;
    this.what = what;
    this.hidden = new Set();
    this.canvas = document.createElement("canvas");
    this.canvas.className = `chart ${group.name}`;
    this.canvas.setAttribute("role", "img");
    this.canvas.setAttribute("aria-label", group.title);
    this.drawn = document.createElement("canvas");
    this.names = this.group.series.map((s) => s.name);
    this.isProgress = group.name === "progress";
    this.range = this.isProgress ? [0, 1] : limits(group.series);
  }

  colour(k) {
    return this.isProgress && this.names[k] === "label" ? ink("--good")
      : this.isProgress ? ink("--accent") : colour(k);
  }

  x(t) {
    return LEFT + (t / this.what.span_s) * (this.width - LEFT - RIGHT);
  }

  y(v) {
    const [low, high] = this.range;
    const share = (Math.min(Math.max(v, low), high) - low) / (high - low);
    return this.height - BOTTOM - share * (this.height - TOP - BOTTOM);
  }

  /** Time and value under a pointer. */
  at(event) {
    const box = this.canvas.getBoundingClientRect();
    const t = ((event.clientX - box.left - LEFT) / (box.width - LEFT - RIGHT)) * this.what.span_s;
    const share = (box.bottom - BOTTOM - event.clientY) / (box.height - TOP - BOTTOM);
    const [low, high] = this.range;
    return [
      Math.min(Math.max(t, 0), this.what.span_s),
      low + Math.min(Math.max(share, 0), 1) * (high - low),
    ];
  }

  /** All but the cursor; marks: { points: [[frame, value, name]], curve, fps, pending }. */
  draw(marks) {
    const [pen, width, height] = sized(this.canvas);
    if (!width) return;
    [this.width, this.height] = [width, height];
    this.turns(pen);
    this.axes(pen);
    if (this.isProgress) this.band(pen);
    this.group.series.forEach((series, k) => {
      if (this.hidden.has(series.name)) return;
      if (this.isProgress && ["q10", "q90"].includes(series.name)) return;
      this.curve(pen, series, this.colour(k));
    });
    if (this.isProgress && marks) this.marks(pen, marks);
    this.drawn.width = this.canvas.width;
    this.drawn.height = this.canvas.height;
    this.drawn.getContext("2d").drawImage(this.canvas, 0, 0);
  }

  cursor(t) {
    if (!this.width || !this.drawn.width) return;
    const pen = this.canvas.getContext("2d");
    pen.save();
    pen.setTransform(1, 0, 0, 1, 0, 0);
    pen.clearRect(0, 0, this.canvas.width, this.canvas.height);
    pen.drawImage(this.drawn, 0, 0);
    pen.restore();
    pen.strokeStyle = ink("--ink");
    pen.lineWidth = 1;
    line(pen, this.x(t), TOP - 4, this.x(t), this.height - BOTTOM);
  }

  turns(pen) {
    pen.fillStyle = ink("--human-ground");
    for (const [from, to] of this.what.human_s) {
      pen.fillRect(this.x(from), TOP, Math.max(this.x(to) - this.x(from), 2),
        this.height - TOP - BOTTOM);
    }
    const inks = { alarm: "--bad", mode: "--line", episode: "--warn" };
    for (const event of this.what.happenings) {
      pen.strokeStyle = ink(inks[event.kind] || "--line");
      pen.lineWidth = 1;
      pen.setLineDash([3, 3]);
      line(pen, this.x(event.t), TOP, this.x(event.t), this.height - BOTTOM);
      pen.setLineDash([]);
    }
  }

  axes(pen) {
    const [low, high] = this.range;
    const rows = this.height > 110 ? 4 : 2;
    pen.lineWidth = 1;
    for (let k = 0; k <= rows; k++) {
      const value = low + (k / rows) * (high - low);
      pen.strokeStyle = ink("--line");
      line(pen, LEFT, this.y(value), this.width - RIGHT, this.y(value));
      pen.fillStyle = ink("--faint");
      pen.fillText(short(value), 4, this.y(value) + 4);
    }
    const columns = this.width > 500 ? 6 : 3;
    for (let k = 0; k <= columns; k++) {
      const t = (k / columns) * this.what.span_s;
      const text = `${t.toFixed(this.what.span_s < 20 ? 1 : 0)} s`;
      const room = pen.measureText(text).width;
      pen.fillText(text, Math.min(this.x(t) - room / 2, this.width - room - 2), this.height - 4);
    }
  }

  /** From q10 to q90, both by the same times. */
  band(pen) {
    const find = (name) => this.group.series.find((s) => s.name === name);
    const low = find("q10"), high = find("q90");
    if (!low || !high) return;
    pen.fillStyle = ink("--band");
    pen.beginPath();
    let n = 0;
    high.t.forEach((t, k) => {
      if (high.v[k] !== null) pen[n++ ? "lineTo" : "moveTo"](this.x(t), this.y(high.v[k]));
    });
    for (let k = low.t.length - 1; k >= 0; k--) {
      if (low.v[k] !== null) pen.lineTo(this.x(low.t[k]), this.y(low.v[k]));
    }
    if (n) pen.fill();
  }

  curve(pen, series, stroke) {
    pen.strokeStyle = stroke;
    pen.lineWidth = this.isProgress ? 2 : 1.3;
    const gap = longest(series.t, this.what.span_s);
    let before = -Infinity, alone = false;
    pen.beginPath();
    series.t.forEach((t, k) => {
      const v = series.v[k];
      if (v === null) return void (before = -Infinity);
      const follows = t - before <= gap;
      if (!follows && alone) pen.lineTo(this.x(before) + 1.5, this.y(series.v[k - 1] ?? v));
      pen[follows ? "lineTo" : "moveTo"](this.x(t), this.y(v));
      alone = !follows;
      before = t;
    });
    pen.stroke();
  }

  marks(pen, marks) {
    const [fps, mark] = [marks.fps, ink("--good")];
    pen.strokeStyle = pen.fillStyle = mark;
    if (marks.curve.length) {
      pen.setLineDash([5, 3]);
      pen.lineWidth = 1.5;
      pen.beginPath();
      const step = Math.max(1, Math.floor(marks.curve.length / this.width));
      for (let k = 0; k < marks.curve.length; k += step) {
        pen[k ? "lineTo" : "moveTo"](this.x(k / fps), this.y(marks.curve[k]));
      }
      pen.stroke();
      pen.setLineDash([]);
    }
    let before = 0;
    for (const [frame, value, name] of marks.points) {
      const fall = value < before;
      before = value;
      pen.fillStyle = fall ? ink("--bad") : mark;
      pen.beginPath();
      pen.arc(this.x(frame / fps), this.y(value), 4.5, 0, 7);
      pen.fill();
      const text = name.startsWith("keypoint") ? value.toFixed(2) : name;
      const room = pen.measureText(text).width;
      const left = Math.min(this.x(frame / fps) + 7, this.width - room - 4);
      pen.fillText(text, left, this.y(value) + (value > 0.9 ? 14 : -6));
    }
    if (marks.pending !== null && marks.pending !== undefined) {
      pen.strokeStyle = ink("--warn");
      pen.lineWidth = 2;
      line(pen, this.x(marks.pending / fps), TOP, this.x(marks.pending / fps),
        this.height - BOTTOM);
    }
  }
}

/** Names with their colours; a name switches its curve off and on. */
export function legend(chart, changed) {
  const list = document.createElement("div");
  list.className = "legend small";
  chart.group.series.forEach((series, k) => {
    if (chart.isProgress && ["q10", "q90"].includes(series.name)) return;
    const name = document.createElement("button");
    name.type = "button";
    name.textContent = series.name;
    name.style.setProperty("--of", chart.colour(k));
    name.onclick = () => {
      const off = !chart.hidden.delete(series.name);
      if (off) chart.hidden.add(series.name);
      name.classList.toggle("off", off);
      changed();
    };
    list.append(name);
  });
  return list;
}

function limits(series) {
  let low = Infinity, high = -Infinity;
  for (const one of series) {
    for (const v of one.v) {
      if (v === null) continue;
      if (v < low) low = v;
      if (v > high) high = v;
    }
  }
  if (!(low <= high)) return [0, 1];
  const margin = (high - low || 1) * 0.05;
  return [low - margin, high + margin];
}

/** A longer time without a value is a gap, and no line is drawn over it. */
function longest(times, span) {
  if (times.length < 3) return Infinity;
  const apart = [];
  for (let k = 1; k < times.length; k++) apart.push(times[k] - times[k - 1]);
  apart.sort((a, b) => a - b);
  return Math.max(5 * apart[Math.floor(apart.length / 2)], span / 200, 0.3);
}
