// Progress over time: the mean's line in its band from q10 to q90, and the completion level.

import { ink, line, sized } from "./plot.js";

const SPAN_S = 60;

export class Curve {
  constructor(canvas) {
    this.canvas = canvas;
    this.points = [];
  }

  clear() {
    this.points = [];
  }

  /** points: [seconds, value, q10, q90], null where there is none. */
  add(points, now) {
    this.points.push(...points);
    const first = this.points.findIndex((p) => p[0] > now - 2 * SPAN_S);
    if (first > 0) this.points.splice(0, first);
  }

  draw(completion, now) {
    const [pen, width, height] = sized(this.canvas);
    if (!width) return;
    const left = 34, bottom = height - 18, top = 8;
    const x = (t) => left + ((t - now + SPAN_S) / SPAN_S) * (width - left - 6);
    const y = (v) => bottom - Math.min(Math.max(v, 0), 1) * (bottom - top);
    pen.strokeStyle = ink("--line");
    pen.fillStyle = ink("--faint");
    pen.lineWidth = 1;
    for (const level of [0, 0.25, 0.5, 0.75, 1]) {
      line(pen, left, y(level), width - 6, y(level));
      pen.fillText(level.toFixed(2), 4, y(level) + 4);
    }
    for (let ago = 0; ago <= SPAN_S; ago += 10) {
      pen.fillText(ago ? `-${ago} s` : "now", Math.min(x(now - ago) - 10, width - 28), height - 4);
    }
    const seen = this.points.filter((p) => p[0] >= now - SPAN_S);
    this.band(pen, seen, x, y);
    this.path(pen, seen, x, y);
    if (completion > 0 && completion <= 1) {
      pen.strokeStyle = ink("--good");
      pen.setLineDash([6, 4]);
      line(pen, left, y(completion), width - 6, y(completion));
      pen.setLineDash([]);
      pen.fillStyle = ink("--good");
      pen.fillText(`complete ${completion.toFixed(2)}`, left + 4, y(completion) - 4);
    }
    if (!seen.length) {
      pen.fillStyle = ink("--faint");
      pen.fillText("no reward in the last minute", left + 8, y(0.5) - 6);
    }
  }

  band(pen, seen, x, y) {
    pen.fillStyle = ink("--band");
    for (const run of runs(seen, (p) => p[2] !== null && p[3] !== null)) {
      pen.beginPath();
      run.forEach((p, i) => (i ? pen.lineTo : pen.moveTo).call(pen, x(p[0]), y(p[3])));
      for (const p of run.slice().reverse()) pen.lineTo(x(p[0]), y(p[2]));
      pen.fill();
    }
  }

  path(pen, seen, x, y) {
    pen.strokeStyle = ink("--accent");
    pen.lineWidth = 2;
    for (const run of runs(seen, (p) => p[1] !== null)) {
      pen.beginPath();
      run.forEach((p, i) => (i ? pen.lineTo : pen.moveTo).call(pen, x(p[0]), y(p[1])));
      pen.stroke();
    }
  }
}

/** Parts without a gap: where no reward came for a second, nothing is drawn. */
function runs(points, known) {
  const found = [];
  let run = [];
  for (const point of points) {
    const gap = run.length && point[0] - run[run.length - 1][0] > 1;
    if (gap || !known(point)) {
      if (run.length) found.push(run);
      run = [];
    }
    if (known(point)) run.push(point);
  }
  if (run.length) found.push(run);
  return found;
}
