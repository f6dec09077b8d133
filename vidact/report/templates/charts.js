"use strict";
// Bars over the frames of a clip, as SVG whose lengths are in percent: they stretch with the page.

/** Write a number with three significant digits, and a real minus sign. */
function short(value) {
  if (value === 0) return "0";
  const size = Math.abs(value);
  const text = size >= 1e-3 && size < 1e5 ? String(Number(value.toPrecision(3))) : value.toExponential(1);
  return text.replace("-", "−");
}

function signed(value) {
  return value > 0 ? `+${short(value)}` : short(value);
}

class BarChart {
  /** @param onFrame called with the number of a frame that was clicked. */
  constructor(figure, onFrame) {
    this.figure = figure;
    this.plot = figure.querySelector("svg");
    this.value = figure.querySelector("output");
    const pick = (event) => {
      const box = this.plot.getBoundingClientRect();
      const frame = Math.floor(((event.clientX - box.left) / box.width) * this.count);
      onFrame(Math.min(this.count - 1, Math.max(0, frame)));
    };
    this.plot.addEventListener("pointerdown", pick);
    this.plot.addEventListener("pointermove", (event) => event.buttons === 1 && pick(event));
  }

  /** Draw bars up and down from zero, and, if `net` is given, a line with dots. */
  draw({ up, down, net, describe, seconds }) {
    this.count = up.length;
    this.describe = describe;
    const top = Math.max(...up, 0);
    const bottom = Math.min(...down, 0);
    const span = top - bottom || 1;
    const y = (value) => `${(100 * (top - value)) / span}%`;
    const step = 100 / this.count;
    this.plot.replaceChildren();
    this.cursor = this.add("rect", { y: 0, width: `${step}%`, height: "100%" }, "cursor");
    up.forEach((value, frame) => this.bar(frame, [value, 0], y, "up"));
    down.forEach((value, frame) => this.bar(frame, [0, value], y, "down"));
    this.add("line", { x1: 0, x2: "100%", y1: y(0), y2: y(0) }, "zero");
    if (net) this.line(net, y);
    this.figure.querySelector(".top").textContent = short(top);
    this.figure.querySelector(".bottom").textContent = short(bottom);
    const [first, last] = this.figure.querySelectorAll(".seconds span");
    first.textContent = `${seconds[0].toFixed(2)} s`;
    last.textContent = this.count > 1 ? `${seconds[this.count - 1].toFixed(2)} s` : "";
    this.plot.setAttribute("aria-valuemax", this.count - 1);
  }

  add(kind, attributes, className) {
    const element = document.createElementNS(this.plot.namespaceURI, kind);
    for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
    element.setAttribute("class", className);
    return this.plot.appendChild(element);
  }

  bar(frame, [high, low], y, className) {
    if (high === low) return;
    const step = 100 / this.count;
    const place = { x: `${(frame + 0.12) * step}%`, width: `${0.76 * step}%`, y: y(high) };
    const height = `${parseFloat(y(low)) - parseFloat(y(high))}%`;
    this.add("rect", { ...place, height }, className);
  }

  line(net, y) {
    const x = (frame) => `${((frame + 0.5) * 100) / this.count}%`;
    net.slice(1).forEach((value, frame) => {
      this.add("line", { x1: x(frame), y1: y(net[frame]), x2: x(frame + 1), y2: y(value) }, "net");
    });
    net.forEach((value, frame) => this.add("circle", { cx: x(frame), cy: y(value), r: 2 }, "net"));
  }

  /** Move the cursor to a frame. */
  follow(frame, spoken) {
    this.cursor.setAttribute("x", `${(100 * frame) / this.count}%`);
    this.value.textContent = this.describe(frame);
    this.plot.setAttribute("aria-valuenow", frame);
    this.plot.setAttribute("aria-valuetext", `${spoken}: ${this.describe(frame)}`);
  }
}
