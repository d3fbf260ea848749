// One line on a canvas with its axes, in the page's own colours.

export const ink = (name) =>
  getComputedStyle(document.documentElement).getPropertyValue(name).trim();

/** The canvas's pen at its real size: [pen, width, height] in CSS pixels, wiped. */
export function sized(canvas) {
  const ratio = window.devicePixelRatio || 1;
  const { clientWidth: width, clientHeight: height } = canvas;
  const [w, h] = [Math.round(width * ratio), Math.round(height * ratio)];
  if (canvas.width !== w) canvas.width = w;
  if (canvas.height !== h) canvas.height = h;
  const pen = canvas.getContext("2d");
  pen.setTransform(ratio, 0, 0, ratio, 0, 0);
  pen.clearRect(0, 0, width, height);
  pen.font = "11px system-ui, sans-serif";
  return [pen, width, height];
}

export function line(pen, x0, y0, x1, y1) {
  pen.beginPath();
  pen.moveTo(x0, y0);
  pen.lineTo(x1, y1);
  pen.stroke();
}

const short = (value) => {
  const size = Math.abs(value);
  return size && (size >= 1e5 || size < 1e-3) ? value.toExponential(1) : String(+value.toPrecision(3));
};

/** points: [[x, y], …] in the order of x. */
export function drawCurve(canvas, points, title, axis) {
  const [pen, width, height] = sized(canvas);
  if (!width) return;
  const left = 48, right = width - 8, top = 20, bottom = height - 18;
  pen.fillStyle = ink("--faint");
  pen.fillText(title, left, 12);
  if (!points.length) return;
  const xs = points.map((p) => p[0]), ys = points.map((p) => p[1]);
  let [low, high] = [Math.min(...ys), Math.max(...ys)];
  if (low === high) [low, high] = [low - 0.5, high + 0.5];
  const [first, last] = [Math.min(...xs), Math.max(...xs)];
  const x = (v) => left + ((v - first) / Math.max(last - first, 1e-9)) * (right - left);
  const y = (v) => bottom - ((v - low) / (high - low)) * (bottom - top);
  pen.strokeStyle = ink("--line");
  for (let k = 0; k <= 4; k++) {
    const value = low + (k / 4) * (high - low);
    line(pen, left, y(value), right, y(value));
    pen.fillText(short(value), 4, y(value) + 4);
  }
  pen.fillText(short(first), left, height - 4);
  pen.fillText(`${short(last)} ${axis}`, right - 60, height - 4);
  pen.strokeStyle = ink("--accent");
  pen.lineWidth = 2;
  pen.beginPath();
  points.forEach((p, k) => (k ? pen.lineTo(x(p[0]), y(p[1])) : pen.moveTo(x(p[0]), y(p[1]))));
  pen.stroke();
}
