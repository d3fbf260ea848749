// What is learned: curves of the run, versions with their tests, and what the calibration supports.

import { $, call, element, get, leads, say } from "./app.js";
import { drawCurve } from "./plot.js";

const REFRESH_MS = 5000;
const FIRST = ["validation_success", "success", "interventions", "minutes_to_target", "loss"];

let place = null, running = "", chosen = "", shown = "";

export function open(where) {
  place = where;
  place.className = "live learn";
  place.replaceChildren(
    section("Calibration", element("p", "", "calibration"), element("p", "", "bound small")),
    section("Versions", element("p", "", "running"), element("div", "", "versions")),
    section("Curves", element("select", "", "names"), canvas()),
    section("Tests of versions", element("div", "", "tests")),
  );
  const names = place.querySelector(".names");
  names.setAttribute("aria-label", "curve");
  names.onchange = () => { chosen = names.value; drawChosen(); };
  window.addEventListener("rewact-state", (event) => showState(event.detail));
  refresh();
  setInterval(() => { if (!place.hidden) refresh(); }, REFRESH_MS);
}

function section(title, ...parts) {
  const made = element("section");
  made.append(element("h2", title), ...parts);
  return made;
}

function canvas() {
  const made = element("canvas");
  made.id = "learn-curve";
  return made;
}

function showState(message) {
  running = message.robot.policy?.version || "";
  const supervisor = message.nodes.find((node) => node.name === "supervisor");
  place.querySelector(".calibration").textContent =
    supervisor?.values.standing || "no calibration from ordinary work is told of";
  place.querySelector(".bound").textContent = message.episode?.bound || "";
  place.querySelector(".running").textContent =
    running ? `${running} runs` : "no policy is heard";
}

async function refresh() {
  let told;
  try {
    told = await get("/api/learn");
  } catch (error) {
    return say(error.message, true);
  }
  const text = JSON.stringify([told, running, leads()]);
  if (text !== shown) {
    shown = text;
    showVersions(told);
    showTests(told);
    showNames(told);
  }
  return drawChosen();
}

function showVersions(told) {
  const list = place.querySelector(".versions");
  if (!told.versions.length) {
    return list.replaceChildren(element("p", "no folder of versions: start the console with " +
      "policy_dir or run", "small"));
  }
  const back = element("button", "Roll back");
  back.type = "button";
  back.id = "rollback";
  back.onclick = () => call("/api/version", { rollback: true }).then(refresh);
  const table = element("table");
  table.append(head("version", "made", "updates", "", ""));
  for (const version of told.versions) {
    const row = element("tr");
    const adopt = element("button", version.version === running ? "runs" : "Adopt");
    adopt.type = "button";
    adopt.dataset.version = version.name;
    adopt.disabled = version.version === running || Boolean(version.trouble);
    adopt.onclick = () => call("/api/version", { name: version.name }).then(refresh);
    const success = told.best.version === version.version && told.best.success !== undefined
      ? `success ${(100 * told.best.success).toFixed(0)} % when tested` : "";
    row.append(
      element("td", version.version || version.name),
      element("td", new Date(1000 * version.made).toLocaleString()),
      element("td", version.updates === null ? "–" : String(version.updates), "n"),
      element("td", version.trouble || [...version.marks, success].filter(Boolean).join(", "),
        version.trouble ? "bad" : ""),
    );
    const cell = element("td");
    cell.append(adopt);
    row.append(cell);
    table.append(row);
  }
  list.replaceChildren(table, back);
}

function head(...words) {
  const row = element("tr");
  row.append(...words.map((word) => element("th", word)));
  return row;
}

function showTests(told) {
  const list = place.querySelector(".tests");
  if (!told.tests.length) return list.replaceChildren(element("p", "none yet", "small"));
  const table = element("table");
  table.append(head("robot steps", "success", "cycle s", "decision"));
  for (const test of told.tests) {
    const row = element("tr");
    const number = (value, digits) => (typeof value === "number" ? value.toFixed(digits) : "–");
    row.append(
      element("td", number(test.robot_steps, 0), "n"),
      element("td", number(test.validation_success, 2), "n"),
      element("td", number(test.validation_cycle_s, 1), "n"),
      element("td", String(test.validation_replaces ?? "")),
    );
    table.append(row);
  }
  return list.replaceChildren(table);
}

function showNames(told) {
  const names = place.querySelector(".names");
  const known = told.curves;
  if (!known.includes(chosen)) {
    chosen = FIRST.map((word) => known.find((name) => name.endsWith(word))).find(Boolean) ||
      known[0] || "";
  }
  names.replaceChildren(...known.map((name) => {
    const option = element("option", name);
    option.value = name;
    option.selected = name === chosen;
    return option;
  }));
  names.hidden = !known.length;
}

async function drawChosen() {
  let points = [];
  try {
    if (chosen) points = (await get(`/api/learn/curve?name=${encodeURIComponent(chosen)}`)).points;
  } catch (error) {
    say(error.message, true);
  }
  drawCurve($("learn-curve"), points.map((p) => [p[1], p[2]]), chosen || "no curve yet", "step");
}
