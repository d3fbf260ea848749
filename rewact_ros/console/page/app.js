// The page: one stream in, calls out. Every text of the graph is set as text, never as HTML.

import { Curve } from "./curve.js";
import { Jog } from "./jog.js";

export const $ = (id) => document.getElementById(id);
// Nothing for so long, and the page says that it knows nothing any more.
const SILENT_MS = 1000;
const RETRY_MS = 500;
// Nobody reads figures that change faster, and each time the page is laid out anew.
const TABLES_MS = 500;
// A command path that is slower than this at times is worth a look.
const SLOW_MS = 100;
const GROUPS = {
  "buttons-robot": ["arm", "disarm", "resume", "clear_fault", "take_over", "release",
    "confirm_reset"],
  "buttons-episode": ["success", "failure", "go_on", "pause", "unpause", "continue_batch",
    "renew_bound"],
};

const state = {
  socket: null, session: sessionStorage.getItem("session") || "", leads: false, heard: 0, tables: 0,
  cameras: [], buttons: new Map(), now: null, force: false,
};
const curve = new Curve($("curve"));
const jog = new Jog($("jog"), (message) => send({ jog: message }));
const figures = new Map();
// Ages of statuses when they were shown, ms: for whoever measures the page.
window.rewactAges = [];

export function element(tag, text = "", names = "") {
  const made = document.createElement(tag);
  made.textContent = text;
  if (names) made.className = names;
  return made;
}

export function say(text, bad = false) {
  $("said").textContent = text;
  $("said").className = bad ? "bad" : "";
}

/** POST; returns the answer, or null where it was refused, which is said. */
export async function call(path, given = {}, quiet = false) {
  try {
    const response = await fetch(path, {
      method: "POST",
      headers: { "Content-Type": "application/json", "Authorization": `Bearer ${state.session}` },
      body: JSON.stringify(given),
    });
    const answer = await response.json().catch(() => ({ error: `HTTP ${response.status}` }));
    if (!response.ok) {
      if (!quiet) say(answer.error || `HTTP ${response.status}`, true);
      return quiet ? answer : null;
    }
    if (answer.message) say(answer.message);
    return answer;
  } catch {
    say("the console does not answer: nothing is known to have happened", true);
    return null;
  }
}

export async function get(path) {
  const response = await fetch(path, { headers: { "Authorization": `Bearer ${state.session}` } });
  const answer = await response.json().catch(() => ({ error: `HTTP ${response.status}` }));
  if (!response.ok) throw new Error(answer.error || `HTTP ${response.status}`);
  return answer;
}

export const leads = () => state.leads;

// The stream ----------------------------------------------------------------------------------

function send(message) {
  if (state.socket && state.socket.readyState === WebSocket.OPEN) {
    state.socket.send(JSON.stringify(message));
  }
}

function connect() {
  const scheme = location.protocol === "https:" ? "wss" : "ws";
  const socket = new WebSocket(`${scheme}://${location.host}/stream`);
  socket.binaryType = "arraybuffer";
  state.socket = socket;
  socket.onopen = () => {
    send({ session: state.session });
    send({ hidden: document.hidden });
  };
  socket.onmessage = (event) => {
    if (typeof event.data !== "string") return showPicture(event.data);
    const message = JSON.parse(event.data);
    if (message.cameras) return begin(message);
    if (message.trouble) return trouble(message);
    return show(message);
  };
  socket.onclose = () => {
    jog.stop();
    if (state.socket === socket) setTimeout(connect, RETRY_MS);
  };
}

function begin(message) {
  curve.clear();
  $("events").replaceChildren();
  state.cameras = message.cameras;
  $("cameras").replaceChildren();
  figures.clear();
  if (!message.cameras.length) $("cameras").append(element("p", "this console has no cameras"));
  for (const name of message.cameras) {
    const figure = element("figure", "", "old");
    const image = element("img");
    image.alt = `camera ${name}`;
    const caption = element("figcaption", `${name}: no picture yet`);
    figure.append(image, caption);
    $("cameras").append(figure);
    figures.set(name, { figure, image, caption, at: 0, url: "" });
  }
  state.buttons.clear();
  const labels = new Map(message.buttons.map((b) => [b.name, b.label]));
  const recorder = message.buttons.map((b) => b.name).filter((n) => n.startsWith("record_"));
  for (const [group, names] of Object.entries({ ...GROUPS, "buttons-recorder": recorder })) {
    $(group).replaceChildren(...names.map((name) => makeButton(name, labels.get(name))));
  }
}

function makeButton(name, label) {
  const button = element("button", label);
  button.type = "button";
  button.dataset.name = name;
  // It stays clickable: a press that cannot be says why.
  button.onclick = () => {
    const why = button.dataset.why;
    if (why) return say(`${label}: ${why}`, true);
    return call(`/api/press/${name}`);
  };
  state.buttons.set(name, button);
  return button;
}

function allow(button, why) {
  button.setAttribute("aria-disabled", why ? "true" : "false");
  button.dataset.why = why;
  button.title = why;
}

function showPicture(buffer) {
  const name = state.cameras[new Uint8Array(buffer, 0, 1)[0]];
  const shown = figures.get(name);
  if (!shown) return;
  const url = URL.createObjectURL(new Blob([new Uint8Array(buffer, 1)], { type: "image/jpeg" }));
  shown.image.onload = shown.image.onerror = () => {
    if (shown.url) URL.revokeObjectURL(shown.url);
    shown.url = url;
    send({ shown: name });
  };
  shown.image.src = url;
  shown.at = performance.now();
  shown.caption.textContent = name;
  shown.figure.classList.remove("old");
}

function trouble(message) {
  const shown = figures.get(message.camera);
  if (!shown) return;
  shown.caption.textContent = message.trouble;
  shown.figure.classList.add("old");
}

// What it shows -------------------------------------------------------------------------------

function show(message) {
  state.heard = performance.now();
  state.now = message;
  document.body.classList.remove("lost");
  const age = Date.now() - 1000 * message.t;
  window.rewactAges.push(age);
  if (window.rewactAges.length > 20000) window.rewactAges.splice(0, 10000);
  $("link").textContent = `connected, ${Math.max(0, Math.round(age))} ms`;
  $("link").className = "chip good";
  state.leads = message.you.leads;
  showMode(message.robot);
  showControl(message);
  showEpisode(message);
  for (const [name, button] of state.buttons) {
    const why = message.buttons[name] || "";
    allow(button, why || (state.leads ? "" : readOnly(message)));
  }
  if (state.heard - state.tables > TABLES_MS) {
    state.tables = state.heard;
    showTables(message);
  }
  for (const event of message.events) addEvent(event);
  curve.add(message.points, message.t);
  const supervisor = message.nodes.find((node) => node.name === "supervisor");
  curve.draw(Number(supervisor?.values.completion) || 0, message.t);
  jog.show(message, state.leads);
  window.dispatchEvent(new CustomEvent("rewact-state", { detail: message }));
}

function readOnly(message) {
  if (!message.you.name) return "read-only: take control first";
  return message.leader ? `${message.leader} has control` : "take control first";
}

function showMode(robot) {
  $("mode").className = `mode ${robot.mode || "silent"}`;
  const who = robot.mode === "HUMAN" ? ` (${robot.leads})` : "";
  $("mode-name").textContent = robot.mode ? robot.mode + who : "hil is silent";
  $("mode-reason").textContent = robot.mode ? robot.reason
    : "no node commands the arm now, or this console does not hear it";
  $("mode-remedy").textContent = robot.remedy;
}

function showControl(message) {
  const leader = message.leader;
  $("leader").textContent = state.leads ? `you lead (${message.you.name})`
    : leader ? `${leader} leads` : message.you.name ? "nobody leads" : "read-only";
  $("control").textContent = state.leads ? "Give up control"
    : leader ? `Take control from ${leader}` : "Take control";
}

function showEpisode(message) {
  const { episode, robot } = message;
  const batch = episode && episode.episodes > 1 ? ` (${episode.episode} of ${episode.episodes})` : "";
  $("episode").textContent = episode ? episode.text + batch : "no supervisor is heard";
  $("clock").textContent = message.clock_s === null ? "" : `${message.clock_s.toFixed(1)} s`;
  const number = (value) => (value === null || value === undefined ? "–" : value.toFixed(2));
  $("progress-now").textContent = number(robot.reward ?? episode?.progress);
  $("alarms").replaceChildren(...(episode?.alarms || []).map((name) => element("span", name)));
  $("bound").textContent = episode ? episode.bound : "";
  $("recorder").textContent = robot.recorder || "no recorder is heard";
  const why = message.task || (state.leads ? "" : readOnly(message));
  allow($("task-start"), why);
  allow($("task-cancel"), why);
}

function row(cells, head = false) {
  const made = element("tr");
  for (const [text, names] of cells) made.append(element(head ? "th" : "td", text, names || ""));
  return made;
}

const fixed = (value, digits) =>
  value === null || value === undefined ? "–" : value.toFixed(digits);

function showTables(message) {
  const streams = message.robot.streams;
  $("streams").replaceChildren(
    row([["stream"], ["Hz", "n"], ["age s", "n"], ["state"]], true),
    ...streams.map((s) => row([
      [s.topic], [`${fixed(s.hz, 1)} / ${s.contract_hz}`, "n"],
      [`${fixed(s.age_s, 2)} / ${s.limit_s}`, "n"],
      [s.detail ? `${s.state}: ${s.detail}` : s.state, s.state === "ok" ? "good" : "bad"],
    ])),
  );
  const command = message.command;
  $("timings").replaceChildren(
    row([["hil"], ["p50 ms", "n"], ["p99 ms", "n"]], true),
    ...(command?.timings || []).map((t) =>
      row([[t.name.replaceAll("_", " ")], [fixed(t.p50, 1), "n"],
        [fixed(t.p99, 1), t.p99 > SLOW_MS ? "n warn" : "n good"]])),
    row([["clipped / refused / late ticks"], [""],
      [command ? `${command.clipped} / ${command.rejected} / ${command.late_ticks}` : "–", "n"]]),
    ...(command?.violation ? [row([[command.violation, "warn"], [""], [""]])] : []),
  );
  const levels = ["good", "warn", "bad", "bad"];
  $("nodes").replaceChildren(...message.nodes.map((node) => {
    const silent = node.age_s > 3;
    const text = silent ? `silent for ${Math.round(node.age_s)} s` : node.message;
    return row([[node.name], [text, silent ? "bad" : levels[node.level] || "bad"]]);
  }));
}

function addEvent(event) {
  const when = new Date(1000 * event.t).toLocaleTimeString();
  const words = [event.event, event.outcome, event.detail, event.by && `by ${event.by}`];
  const line = element("li", `${when} ${words.filter(Boolean).join(" · ")}`);
  $("events").prepend(line);
  while ($("events").children.length > 200) $("events").lastChild.remove();
}

/** What is not told any more must not look like calm. */
function watch() {
  const silent = performance.now() - state.heard;
  if (silent > SILENT_MS) {
    document.body.classList.add("lost");
    jog.stop();
    $("link").textContent = state.heard ? `nothing for ${Math.round(silent / 1000)} s` : "not connected";
    $("link").className = "chip bad";
    $("mode-name").textContent = "CONNECTION LOST";
    $("mode-reason").textContent = "what stands below is old; the robot may move";
    $("mode-remedy").textContent = "look at the robot; this page tries again by itself";
    for (const button of state.buttons.values()) allow(button, "not connected");
    allow($("task-start"), "not connected");
    allow($("task-cancel"), "not connected");
  }
  for (const shown of figures.values()) {
    if (shown.at && performance.now() - shown.at > 2000) {
      shown.figure.classList.add("old");
      shown.caption.textContent = `${shown.image.alt}: no picture for ` +
        `${Math.round((performance.now() - shown.at) / 1000)} s`;
    }
  }
}

// What is pressed -----------------------------------------------------------------------------

$("stop").onclick = () => {
  if (!state.session) return askToken("STOP needs the token too, once.");
  return call("/api/press/disarm");
};

$("task").onsubmit = (event) => {
  event.preventDefault();
  const why = $("task-start").dataset.why;
  if (why) return say(`Start: ${why}`, true);
  return call("/api/task", {
    text: $("task-text").value,
    timeout: Number($("task-timeout").value),
    episodes: Number($("task-episodes").value),
  });
};
$("task-cancel").onclick = () => {
  const why = $("task-cancel").dataset.why;
  return why ? say(`Cancel: ${why}`, true) : call("/api/cancel");
};

function askToken(why = "") {
  $("login-trouble").textContent = why;
  if (!$("login").open) $("login").showModal();
}

async function logIn(token, name) {
  const answer = await call("/api/login", { token, name }, true);
  if (!answer || !answer.session) {
    askToken(answer?.error || "the console does not answer");
    return false;
  }
  state.session = answer.session;
  sessionStorage.setItem("session", answer.session);
  send({ session: answer.session });
  return true;
}

$("login-form").onsubmit = async (event) => {
  event.preventDefault();
  const done = await logIn($("token").value, $("name").value);
  $("token").value = "";
  if (!done) return;
  $("login").close();
  await takeControl();
};
$("login-leave").onclick = () => $("login").close();

async function takeControl() {
  const leader = state.now?.leader;
  const force = Boolean(leader) && !state.leads;
  const answer = await call("/api/control", { take: true, force }, true);
  if (answer?.message) {
    state.leads = true;
  } else if (answer?.error) {
    // A console that was started anew knows no session of before.
    if (answer.error.startsWith("read-only")) askToken("this console wants its token");
    else say(answer.error, true);
  }
}

$("control").onclick = async () => {
  if (state.leads) return call("/api/control", { take: false });
  if (!state.session) return askToken();
  return takeControl();
};

document.addEventListener("visibilitychange", () => {
  if (document.hidden) jog.stop();
  send({ hidden: document.hidden });
});

// Tabs ----------------------------------------------------------------------------------------

const opened = new Set();

async function tab() {
  const known = ["live", "review", "learn"];
  const here = known.includes(location.hash.slice(1)) ? location.hash.slice(1) : "live";
  jog.stop();
  for (const name of known) {
    $(name).hidden = name !== here;
    $(`tab-${name}`).classList.toggle("here", name === here);
  }
  if (here !== "live" && !opened.has(here)) {
    opened.add(here);
    const module = await import(`./${here}.js`);
    module.open($(here));
  }
}

// A token in the address comes from the printed link; it goes from the address at once.
async function begun() {
  const match = location.hash.match(/^#token=(.+)$/);
  if (match) {
    history.replaceState(null, "", "#live");
    await logIn(decodeURIComponent(match[1]), "");
  }
  window.addEventListener("hashchange", tab);
  await tab();
  connect();
  setInterval(watch, 200);
}
begun();
