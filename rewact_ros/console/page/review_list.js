// The list of episodes: filters, order, pages. It comes again while recordings are still counted.

import { $, element, get, say } from "./app.js";

const SIZE = 50, AGAIN_MS = 1500, TYPED_MS = 250;
const COLUMNS = [
  ["name", "episode"], ["outcome", "outcome"], ["duration_s", "s"], ["alarms", "alarms"],
  ["gaps", "gaps"], ["interventions", "turns"],
];
const ABOUT = {
  gaps: "messages that were lost, and pictures or frames that are missing",
  interventions: "how often a person took over",
};

export class List {
  /** chosen: called with the id of an episode. */
  constructor(place, chosen) {
    this.place = place;
    this.chosen = chosen;
    this.question = { page: 0, sort: "name", down: 1, source: "", outcome: "", text: "" };
    this.rows = [];
    this.here = "";
    this.asked = 0;
    this.build();
  }

  build() {
    const filters = element("div", "", "filters");
    this.source = this.select("source", [["", "everywhere"]]);
    this.outcome = this.select("outcome", [
      ["", "any outcome"], ["success", "success"], ["failure", "failure"],
      ["unlabelled", "unlabelled"],
    ]);
    const text = element("input");
    text.type = "search";
    text.placeholder = "name, task, tag, note";
    text.setAttribute("aria-label", "search");
    text.oninput = () => {
      clearTimeout(this.typing);
      this.typing = setTimeout(() => this.ask({ text: text.value, page: 0 }), TYPED_MS);
    };
    filters.append(this.source, this.outcome, text);
    this.table = element("table", "", "episodes");
    this.pages = element("div", "", "pages");
    this.notes = element("div", "", "small");
    const scroll = element("div", "", "scroll");
    scroll.append(this.table);
    this.place.replaceChildren(element("h2", "Episodes"), filters, scroll, this.pages, this.notes);
  }

  select(key, options) {
    const made = element("select");
    made.setAttribute("aria-label", key);
    this.fill(made, options);
    made.onchange = () => this.ask({ [key]: made.value, page: 0 });
    return made;
  }

  fill(select, options) {
    const value = select.value;
    select.replaceChildren(...options.map(([key, text]) => {
      const option = element("option", text);
      option.value = key;
      return option;
    }));
    select.value = options.some(([key]) => key === value) ? value : "";
  }

  async ask(changed = {}) {
    Object.assign(this.question, changed);
    clearTimeout(this.again);
    const asked = ++this.asked;
    const query = new URLSearchParams({ ...this.question, size: SIZE });
    let found;
    try {
      found = await get(`/api/review/episodes?${query}`);
    } catch (error) {
      return say(error.message, true);
    }
    if (asked !== this.asked) return;  // a newer question is under way
    this.rows = found.rows;
    this.total = found.total;
    this.show(found);
    // What is counted or recorded now is soon known.
    const waits = found.pending || found.rows.some((row) => row.state === "recording");
    if (waits && !$("review").hidden) {
      this.again = setTimeout(() => this.ask(), AGAIN_MS);
    }
  }

  show(found) {
    this.fill(this.source, [["", "everywhere"], ...found.sources.map((s) => [s.name, s.name])]);
    this.source.value = this.question.source;
    const head = element("tr");
    for (const [key, title] of COLUMNS) {
      const cell = element("th", "", key === "name" || key === "outcome" ? "" : "n");
      const here = this.question.sort === key;
      const button = element("button", title + (here ? (this.question.down ? " ↓" : " ↑") : ""));
      button.type = "button";
      button.title = ABOUT[key] || "";
      button.onclick = () =>
        this.ask({ sort: key, down: here ? 1 - this.question.down : 1, page: 0 });
      cell.append(button);
      head.append(cell);
    }
    this.table.replaceChildren(head, ...found.rows.map((row) => this.row(row)));
    this.showPages(found);
    const troubles = found.sources.filter((s) => s.why)
      .map((s) => element("p", `${s.name}: ${s.why}`, "bad"));
    if (!found.sources.length) {
      troubles.push(element("p", "nothing to review: start the console with bags_dir or datasets"));
    } else if (!found.total) {
      troubles.push(element("p", "no episode fits"));
    }
    if (found.pending) troubles.push(element("p", `${found.pending} recordings are being counted`));
    this.notes.replaceChildren(...troubles);
  }

  row(row) {
    const made = element("tr", "", row.id === this.here ? "here" : "");
    made.dataset.id = row.id;
    const name = element("td");
    const link = element("button", row.name, "link");
    link.type = "button";
    link.onclick = () => this.chosen(row.id);
    name.append(link, element("span", [row.source, row.task].filter(Boolean).join(" · "), "small"));
    if (row.tag) name.append(element("span", row.tag, "tag"));
    const state = row.state === "ok" ? "" : row.state === "recording" ? "being recorded" : "damaged";
    const word = state || row.outcome + (row.discarded ? ", discarded" : "");
    const outcome = element("td", word, state ? "bad" : tone(row.outcome));
    if (row.why) {
      outcome.append(element("span", row.why, "small"));
      outcome.title = row.why;
    }
    const number = (value) => (row.counted ? (value ?? "–") : "…");
    const gaps = row.lost === null && row.missing === null ? "–"
      : row.counted ? (row.lost || 0) + (row.missing || 0) : "…";
    const cells = [
      row.duration_s === null ? "–" : row.duration_s.toFixed(1), number(row.alarms), gaps,
      number(row.interventions),
    ].map((value) => element("td", String(value), "n"));
    cells[2].title = `${row.lost ?? "?"} messages lost, ${row.missing ?? "?"} frames missing`;
    made.append(name, outcome, ...cells);
    return made;
  }

  showPages(found) {
    const last = Math.max(Math.ceil(found.total / SIZE) - 1, 0);
    const { page } = this.question;
    const step = (text, to) => {
      const button = element("button", text);
      button.type = "button";
      button.disabled = to < 0 || to > last;
      button.onclick = () => this.ask({ page: to });
      return button;
    };
    this.pages.replaceChildren(
      element("span", `${found.total} episodes`, "small"),
      ...(last ? [step("‹", page - 1), element("span", `${page + 1} / ${last + 1}`),
        step("›", page + 1)] : []),
    );
  }

  mark(id) {
    this.here = id;
    for (const row of this.table.querySelectorAll("tr[data-id]")) {
      row.classList.toggle("here", row.dataset.id === id);
      if (row.dataset.id === id) row.scrollIntoView({ block: "nearest" });
    }
  }

  /** The id of the episode so many rows further that can be opened; "": there is none. */
  async beside(step) {
    let place = this.rows.findIndex((row) => row.id === this.here);
    if (place < 0) place = step > 0 ? -1 : this.rows.length;
    for (let k = place + step; ; k += step) {
      if (k < 0 || k >= this.rows.length) {
        const page = this.question.page + step;
        if (page < 0 || page * SIZE >= this.total) return "";
        await this.ask({ page });
        k = step > 0 ? 0 : this.rows.length - 1;
      }
      if (this.rows[k]?.state === "ok") return this.rows[k].id;
      if (!this.rows.length) return "";
    }
  }
}

export const tone = (outcome) =>
  ({ success: "good", failure: "bad", unlabelled: "faint" })[outcome] || "";
