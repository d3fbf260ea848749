// Hold to move: pads, keys and a gamepad. Held means a message every few hundredths of a second.

import { call, element } from "./app.js";

const PERIOD_MS = 40;
// The same letters as `rewact teleop`; o and c move the last direction, mostly a gripper.
const KEYS = {
  i: ["x", 1], k: ["x", -1], j: ["y", 1], l: ["y", -1], u: ["z", 1], m: ["z", -1],
  b: ["yaw", 1], n: ["yaw", -1], r: ["roll", 1], f: ["roll", -1], t: ["pitch", 1], g: ["pitch", -1],
};
// Of the standard layout: sticks, and the right shoulder button as the deadman.
const STICKS = [["x", 1, -1], ["y", 0, -1], ["z", 3, -1], ["yaw", 2, -1]];
const DEADMAN_BUTTON = 5, REST = 0.08;

export class Jog {
  constructor(place, send) {
    this.place = place;
    this.send = send;
    this.held = new Map(); // what holds it → [direction, sign]
    this.number = 0;
    this.directions = [];
    this.on = false;
    this.wasHeld = false;
    window.addEventListener("keydown", (event) => this.key(event, true));
    window.addEventListener("keyup", (event) => this.key(event, false));
    // Whatever takes the page's focus takes the hand off it.
    window.addEventListener("blur", () => this.stop());
    window.addEventListener("pagehide", () => this.stop());
    setInterval(() => this.tick(), PERIOD_MS);
  }

  show(message, leads) {
    const jog = message.jog;
    this.place.hidden = !jog;
    if (!jog) return;
    if (this.directions.join() !== jog.directions.join()) this.build(jog.directions);
    this.on = jog.on && leads;
    if (!this.on) this.stop();
    this.toggle.textContent = this.on ? "Switch jog off" : "Switch jog on";
    this.toggle.setAttribute("aria-disabled", leads ? "false" : "true");
    const words = !leads ? "take control to jog" : !this.on ? "off"
      : jog.others ? `another process speaks as '${jog.source}' too: end it`
        : jog.leads ? "you lead the arm" : jog.waits || "ready: hold a pad or a key";
    this.words.textContent = words;
    for (const button of this.place.querySelectorAll(".pair button")) button.disabled = !this.on;
  }

  build(directions) {
    this.directions = directions;
    const head = element("div", "", "line");
    this.toggle = element("button", "Switch jog on");
    this.toggle.id = "jog-switch";
    this.toggle.type = "button";
    this.toggle.onclick = () => call("/api/jog", { on: !this.on });
    this.words = element("span", "", "small");
    this.words.id = "jog-words";
    head.append(element("h2", "Jog"), this.toggle, this.words);
    const pads = element("div", "", "pads");
    for (const direction of directions) {
      const pair = element("div", "", "pair");
      pair.append(
        this.pad(direction, -1), element("span", this.label(direction)), this.pad(direction, 1));
      pads.append(pair);
    }
    const help = element("p", "hold to move, let go to stop; a gamepad moves while its right " +
      "shoulder button is held", "small");
    this.place.replaceChildren(head, pads, help);
  }

  label(direction) {
    const keys = Object.entries(KEYS).filter(([, [d]]) => d === direction).map(([k]) => k);
    if (!keys.length && direction === this.directions.at(-1)) keys.push("o", "c");
    return keys.length ? `${direction} (${keys.join("/")})` : direction;
  }

  pad(direction, sign) {
    const button = element("button", sign > 0 ? "+" : "−");
    button.type = "button";
    button.dataset.jog = `${direction}${sign > 0 ? "+" : "-"}`;
    button.setAttribute("aria-label", `${direction} ${sign > 0 ? "plus" : "minus"}`);
    const hold = (event) => {
      event.preventDefault();
      button.setPointerCapture(event.pointerId);
      this.hold(`pointer ${event.pointerId}`, direction, sign);
    };
    const release = (event) => this.release(`pointer ${event.pointerId}`);
    button.addEventListener("pointerdown", hold);
    for (const name of ["pointerup", "pointercancel", "lostpointercapture"]) {
      button.addEventListener(name, release);
    }
    button.addEventListener("contextmenu", (event) => event.preventDefault());
    return button;
  }

  key(event, down) {
    const name = `key ${event.code}`;
    if (!down) return this.release(name);
    const writing = ["INPUT", "TEXTAREA", "SELECT"].includes(event.target.tagName);
    if (writing || event.repeat || event.ctrlKey || event.metaKey || event.altKey) return;
    let [direction, sign] = KEYS[event.key.toLowerCase()] || ["", 0];
    if (["o", "c"].includes(event.key.toLowerCase())) {
      [direction, sign] = [this.directions.at(-1), event.key.toLowerCase() === "o" ? 1 : -1];
    }
    // The other tabs have keys of their own, which must not move an arm.
    if (this.place.closest("main")?.hidden) return;
    if (this.on && this.directions.includes(direction)) this.hold(name, direction, sign);
  }

  hold(name, direction, sign) {
    if (!this.on) return;
    this.held.set(name, [direction, sign]);
    this.tick();
  }

  release(name) {
    if (this.held.delete(name)) this.tick();
  }

  stop() {
    this.held.clear();
    this.tick();
  }

  gamepad(rates) {
    for (const pad of navigator.getGamepads ? navigator.getGamepads() : []) {
      if (!pad || !pad.connected || !pad.buttons[DEADMAN_BUTTON]?.pressed) continue;
      for (const [direction, axis, sign] of STICKS) {
        const value = pad.axes[axis] || 0;
        if (this.directions.includes(direction) && Math.abs(value) > REST) {
          rates[direction] = (rates[direction] || 0) + sign * value;
        }
      }
      return true;
    }
    return false;
  }

  tick() {
    const rates = {};
    for (const [direction, sign] of this.held.values()) {
      rates[direction] = (rates[direction] || 0) + sign;
    }
    const looked = this.on && document.hasFocus() && !document.hidden &&
      !this.place.closest("main")?.hidden;
    const pressed = looked && (this.gamepad(rates) || this.held.size > 0);
    if (pressed || this.wasHeld) {
      this.send({ n: this.number++, t: performance.now(), pressed, rates: pressed ? rates : {} });
    }
    this.wasHeld = pressed;
    for (const button of this.place.querySelectorAll(".pair button")) {
      const sign = button.dataset.jog.endsWith("+") ? 1 : -1;
      const rate = rates[button.dataset.jog.slice(0, -1)] || 0;
      button.classList.toggle("held", pressed && Math.sign(rate) === sign);
    }
  }
}
