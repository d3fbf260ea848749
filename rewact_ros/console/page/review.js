// Recorded episodes: the list, one of them, and the keys by which a person labels it quickly.

import { $, element, say } from "./app.js";
import { Episode } from "./review_episode.js";
import { List } from "./review_list.js";
import { Sayings } from "./review_marks.js";

let list = null, episode = null, sayings = null, viewer = null;

export function open(place) {
  place.className = "review";
  const listing = element("section", "", "listing");
  listing.setAttribute("aria-label", "episodes");
  viewer = element("div", "", "viewer");
  viewer.hidden = true;
  const looked = element("section", "", "looked");
  const said = element("section", "", "said");
  const back = element("button", "‹ Episodes", "back");
  back.type = "button";
  back.onclick = close;
  viewer.append(back, looked, said);
  place.replaceChildren(listing, viewer);
  list = new List(listing, choose);
  episode = new Episode(looked, (t, value) => sayings.click(t, value));
  sayings = new Sayings(said, episode, renew);
  said.append(keys());
  // First of all listeners: the keys of this tab are nobody else's.
  window.addEventListener("keydown", key, true);
  window.addEventListener("hashchange", () => { if (!place.hidden) list.ask(); });
  list.ask();
}

async function choose(id) {
  list.mark(id);
  episode.pending = null;
  const what = await episode.open(id);
  if (!what) return;
  viewer.hidden = false;
  $("review").classList.add("opened");
  sayings.show(what);
  episode.draw();
  if (matchMedia("(max-width: 1100px)").matches) viewer.scrollIntoView();
}

async function renew() {
  const what = await episode.open(episode.id);
  if (what) sayings.show(what);
  await list.ask();
}

function close() {
  viewer.hidden = true;
  $("review").classList.remove("opened");
  list.ask();
}

async function beside(step) {
  const id = await list.beside(step);
  if (!id) return say(step > 0 ? "this was the last episode" : "this was the first episode");
  return choose(id);
}

const KEYS = {
  s: ["success", () => sayings.judge("success")],
  f: ["failure", () => sayings.judge("failure")],
  u: ["undo verdict", () => sayings.takeBack()],
  k: ["mark at cursor", () => sayings.mark()],
  x: ["fall at cursor", () => sayings.marks.hidden ||
    sayings.send({ kind: "fall", frame: episode.frame() })],
  z: ["undo mark", () => sayings.marks.hidden || sayings.undo()],
  n: ["next episode", () => beside(1)],
  p: ["episode before", () => beside(-1)],
  ArrowLeft: ["frame back", (by) => episode.stepTo(episode.step - by)],
  ArrowRight: ["frame on", (by) => episode.stepTo(episode.step + by)],
  Home: ["", () => episode.stepTo(0)],
  End: ["", () => episode.stepTo(Infinity)],
};

function keys() {
  const made = element("p", "", "keys small");
  const names = { ArrowLeft: "←", ArrowRight: "→" };
  for (const [name, [about]] of Object.entries(KEYS)) {
    if (about) made.append(element("kbd", names[name] || name), `${about} `);
  }
  made.append(element("kbd", "shift ←→"), "ten frames");
  return made;
}

function key(event) {
  if ($("review").hidden || $("login").open) return;
  const { target } = event;
  const writes = ["TEXTAREA", "SELECT"].includes(target.tagName) ||
    (target.tagName === "INPUT" && !["range", "checkbox"].includes(target.type));
  if (writes || event.ctrlKey || event.metaKey || event.altKey) return;
  const name = event.key.length === 1 ? event.key.toLowerCase() : event.key;
  const found = KEYS[name];
  if (!found || (viewer.hidden && !["n", "p"].includes(name))) return;
  event.preventDefault();
  event.stopImmediatePropagation();
  // A key that is held steps on, but judges once.
  if (event.repeat && !name.startsWith("Arrow")) return;
  found[1](event.shiftKey ? 10 : 1);
}
