// What a person says of an opened episode: verdict, tag and note, marks of a dataset's episode.

import { call, element, say } from "./app.js";
import { tone } from "./review_list.js";

const VERDICTS = [["success", "Success", "s"], ["failure", "Failure", "f"],
  ["unlabelled", "Unlabelled", ""]];

export class Sayings {
  /** changed: called after each change, to show what is there now. */
  constructor(place, episode, changed) {
    this.place = place;
    this.episode = episode;
    this.changed = changed;
    this.build();
  }

  build() {
    this.title = element("h2", "");
    this.about = element("p", "", "small");
    this.verdict = element("p", "", "verdict");
    const buttons = element("div", "", "buttons");
    for (const [outcome, label, key] of VERDICTS) {
      buttons.append(this.button(label, key, () => this.judge(outcome)));
    }
    buttons.append(this.button("Undo verdict", "u", () => this.takeBack()));
    this.moment = this.button("Success at cursor", "k", () => this.mark());
    buttons.append(this.moment);
    this.marks = element("div", "", "marks");
    this.buildMarks();
    this.history = element("ol", "", "history small");
    this.place.replaceChildren(this.title, this.about, this.verdict, buttons, this.marks,
      this.buildNote(), this.history);
  }

  button(label, key, act) {
    const made = element("button", label);
    made.type = "button";
    if (key) made.append(element("kbd", key));
    made.onclick = act;
    return made;
  }

  buildMarks() {
    this.tool = element("select");
    this.tool.setAttribute("aria-label", "what a click or k marks");
    this.tool.onchange = () => { this.pending(null); };
    this.value = element("input");
    this.value.type = "number";
    Object.assign(this.value, { min: 0, max: 1, step: 0.05, value: 1 });
    const value = element("label", "progress ");
    value.append(this.value);
    this.valueLabel = value;
    this.clicks = element("input");
    this.clicks.type = "checkbox";
    const clicks = element("label", "", "check");
    clicks.append(this.clicks, " a click on the progress marks");
    const buttons = element("div", "", "buttons");
    buttons.append(
      this.button("Mark at cursor", "k", () => this.mark()),
      this.button("Fall", "x", () => this.send({ kind: "fall", frame: this.episode.frame() })),
      this.button("Undo mark", "z", () => this.undo()),
      this.button("Clear marks", "", () => this.send({ kind: "clear" })),
    );
    this.list = element("ul", "", "small");
    this.scheme = element("input");
    this.scheme.placeholder = "milestones: pick 0.5, place 1";
    this.shares = element("input");
    this.shares.placeholder = "subtasks: reach 0.4, place 0.6";
    const form = element("form", "", "scheme");
    const keep = element("button", "Keep");
    keep.type = "submit";
    this.scheme.setAttribute("aria-label", "milestones");
    this.shares.setAttribute("aria-label", "subtasks");
    form.append(this.scheme, this.shares, keep);
    form.onsubmit = (event) => this.keepScheme(event);
    const more = element("details");
    more.append(element("summary", "Milestones and subtasks of the dataset"), form);
    const row = element("div", "", "tools");
    row.append(this.tool, value, clicks);
    this.marks.append(element("h2", "Marks"), row, buttons, this.list, more);
  }

  buildNote() {
    const form = element("form", "", "note");
    this.tag = element("input");
    Object.assign(this.tag, { maxLength: 40, placeholder: "tag" });
    this.note = element("input");
    Object.assign(this.note, { maxLength: 500, placeholder: "note" });
    this.tag.setAttribute("aria-label", "tag");
    this.note.setAttribute("aria-label", "note");
    const keep = element("button", "Keep");
    keep.type = "submit";
    form.append(this.tag, this.note, keep);
    form.onsubmit = (event) => {
      event.preventDefault();
      this.post("annotate", { tag: this.tag.value, note: this.note.value });
    };
    return form;
  }

  // What it shows -----------------------------------------------------------------------------

  show(what) {
    const { row, marks } = what;
    this.title.textContent = row.name;
    this.about.textContent = [row.source, row.task].filter(Boolean).join(" · ");
    const at = what.succeeded_s === null ? "" : `at ${what.succeeded_s.toFixed(2)} s`;
    const by = row.by ? `by ${row.by}` : "";
    this.verdict.replaceChildren(element("strong", row.outcome, tone(row.outcome)),
      ` ${[at, by, when(row.labelled_at)].filter(Boolean).join(" · ")}`);
    this.moment.hidden = row.kind !== "bag";
    this.marks.hidden = row.kind === "bag";
    if (document.activeElement !== this.tag) this.tag.value = row.tag;
    if (document.activeElement !== this.note) this.note.value = row.note;
    this.history.replaceChildren(...what.history.map((one) => {
      const back = one.restored_at
        ? `; back to it by ${one.restored_by}, which took back ${one.taken_back}` : "";
      return element("li", `before: ${one.outcome}${one.by ? ` by ${one.by}` : ""}, replaced by ` +
        `${one.replaced_by || "?"} ${when(one.replaced_at)}${back}`);
    }));
    if (marks) this.showMarks(marks, what.fps);
  }

  showMarks(marks, fps) {
    if (marks.why) return this.list.replaceChildren(element("li", marks.why, "bad"));
    const chosen = this.tool.value;
    const options = [["keypoint", "keypoint"],
      ...Object.entries(marks.milestones).map(([name, v]) => [`m ${name}`, `${name} (${v})`]),
      ...Object.entries(marks.subtasks).map(([name, v]) => [`s ${name}`, `subtask ${name} (${v})`]),
      ["start", "start"]];
    this.tool.replaceChildren(...options.map(([key, text]) => {
      const option = element("option", text);
      option.value = key;
      return option;
    }));
    // Another episode, other names, or one that was just marked: the next one comes by itself.
    const about = [this.episode.id, ...options.map(([key]) => key)].join();
    const stays = about === this.chosenFor && !this.placed;
    this.tool.value = stays && options.some(([key]) => key === chosen) ? chosen
      : this.nextName(marks);
    [this.chosenFor, this.placed] = [about, false];
    this.valueLabel.hidden = this.tool.value !== "keypoint";
    this.tool.onchange = () => {
      this.valueLabel.hidden = this.tool.value !== "keypoint";
      this.pending(null);
    };
    const subtasks = marks.entry?.subtasks || {};
    const items = marks.points.filter(([, , name]) => !Object.keys(subtasks).some((s) =>
      name === s || name === `${s} starts`)).map(([frame, value, name]) =>
      this.item(`${(frame / fps).toFixed(2)} s · frame ${frame} · ${name} ${value.toFixed(2)}`,
        frame / fps, { kind: "remove", frame }));
    items.push(...Object.entries(subtasks).map(([name, [first, end]]) =>
      this.item(`${name}: ${first} to ${end}`, null, { kind: "remove", name })));
    if (typeof marks.entry === "string") items.push(element("li", `by time (${marks.entry})`));
    if (!items.length) items.push(element("li", "nothing is marked"));
    if (marks.file) items.push(element("li", `in ${marks.file}`, "faint"));
    this.list.replaceChildren(...items);
    const words = (named) => Object.entries(named).map(([n, v]) => `${n} ${v}`).join(", ");
    for (const [input, named] of [[this.scheme, marks.milestones], [this.shares, marks.subtasks]]) {
      if (document.activeElement !== input) input.value = words(named);
    }
  }

  item(text, t, remove) {
    const made = element("li");
    const jump = element("button", text, "link");
    jump.type = "button";
    jump.onclick = () => { if (t !== null) this.episode.goTo(t); };
    const away = element("button", "×", "link");
    away.type = "button";
    away.ariaLabel = `remove ${text}`;
    away.onclick = () => this.send(remove);
    made.append(jump, " ", away);
    return made;
  }

  /** The milestone or subtask that is not marked yet comes next. */
  nextName(marks) {
    const entry = typeof marks.entry === "object" && marks.entry ? marks.entry : {};
    const milestone = Object.keys(marks.milestones).find((name) => !(name in entry));
    if (milestone) return `m ${milestone}`;
    const subtask = Object.keys(marks.subtasks).find((name) => !(name in (entry.subtasks || {})));
    return subtask ? `s ${subtask}` : "keypoint";
  }

  // What it asks for --------------------------------------------------------------------------

  async post(what, given = {}) {
    const { id } = this.episode;
    if (!id) return null;
    say("writing …");
    const answer = await call(`/api/review/${what}/${id}`, given);
    if (answer && this.episode.id === id) await this.changed();
    return answer;
  }

  judge(outcome) {
    return this.post("judge", { outcome });
  }

  takeBack() {
    return this.post("take_back");
  }

  undo() {
    return this.post("unmark");
  }

  send(mark) {
    return this.post("mark", mark);
  }

  pending(frame) {
    this.episode.pending = frame;
    this.episode.draw();
  }

  /** At the cursor, or where the progress was clicked. */
  async mark(frame = this.episode.frame(), value = Number(this.value.value)) {
    const { what } = this.episode;
    if (what.row.kind === "bag") {
      return this.post("judge", { outcome: "success", at: this.episode.seconds() });
    }
    const [kind, ...rest] = this.tool.value.split(" ");
    const name = rest.join(" ");
    if (kind === "start") return this.send({ kind, frame });
    if (kind === "keypoint") return this.send({ kind, frame, reward: value });
    if (kind === "m") {
      this.placed = true;
      return this.send({ kind: "milestone", name, frame });
    }
    const first = this.episode.pending;
    if (first === null || first === undefined) {
      this.pending(frame);
      return say(`${name} begins at frame ${frame}; mark its end`);
    }
    this.pending(null);
    this.placed = true;
    return this.send({ kind: "subtask", name, first: Math.min(first, frame),
      end: Math.max(first, frame) });
  }

  /** Whether a click on the progress was a mark. */
  click(t, value) {
    const { what } = this.episode;
    if (what.row.kind === "bag" || !this.clicks.checked) return false;
    this.episode.goTo(t);
    this.mark(this.episode.frame(), Math.round(value * 100) / 100);
    return true;
  }

  keepScheme(event) {
    event.preventDefault();
    const milestones = named(this.scheme.value), subtasks = named(this.shares.value);
    if (!milestones || !subtasks) return say("expected names with numbers: pick 0.5, place 1", true);
    return this.post("scheme", { milestones, subtasks });
  }
}

/** `pick 0.5, place 1` by name; null where it is something else. */
function named(text) {
  const found = {};
  for (const part of text.split(",").map((one) => one.trim()).filter(Boolean)) {
    const match = part.match(/^(.+?)[\s:=]+([0-9.]+)$/);
    if (!match || !Number.isFinite(Number(match[2]))) return null;
    found[match[1].trim()] = Number(match[2]);
  }
  return found;
}

function when(iso) {
  const at = new Date(iso || NaN);
  return Number.isNaN(at.getTime()) ? "" : at.toLocaleString();
}
