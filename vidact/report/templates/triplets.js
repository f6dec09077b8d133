"use strict";
// Clips of an audit, as they are and with exchanged parts, all at the same moment.

const MOMENT_MILLISECONDS = 125;

class Triplets {
  constructor(element) {
    const { clips, cells } = readJson(document.getElementById(element.dataset.triplets));
    this.cells = cells;
    this.figures = [...element.querySelectorAll("figure")].map((figure, number) => ({
      figure,
      canvas: figure.querySelector("canvas"),
      ...clips[number],
    }));
    this.button = element.querySelector(".play-triplets");
    this.factor = element.querySelector(".triplet-factor");
    this.ofClass = element.querySelector(".triplet-class");
    this.withCells = element.querySelector(".triplet-cells");
    for (const select of [this.factor, this.ofClass]) select.addEventListener("change", () => this.choose());
    this.withCells?.addEventListener("change", () => this.paint());
    this.button.addEventListener("click", () => this.play(!this.timer));
    this.empty = element.querySelector(".no-triplet");
    this.moment = 0;
    this.choose();
    this.play(!matchMedia("(prefers-reduced-motion: reduce)").matches);
  }

  play(isPlaying) {
    clearInterval(this.timer);
    this.timer = isPlaying ? setInterval(() => this.next(), MOMENT_MILLISECONDS) : null;
    this.button.textContent = isPlaying ? "Pause" : "Play";
  }

  next() {
    this.moment += 1;
    this.paint();
  }

  /** Show the clips of the chosen factor and class; their pictures are loaded when they are first shown. */
  async choose() {
    for (const one of this.figures) {
      const { key, class: name } = one.figure.dataset;
      one.figure.hidden = key !== this.factor.value || (this.ofClass.value !== "" && name !== this.ofClass.value);
      if (!one.figure.hidden && !one.picture) {
        resize(one.canvas, one.sprite.width, one.sprite.height);
        one.picture = await loadPicture(one.sprite.uri);
      }
    }
    this.empty.hidden = this.figures.some(({ figure }) => !figure.hidden);
    this.paint();
  }

  paint() {
    for (const { figure, canvas, picture, sprite, frames, gap } of this.figures) {
      if (figure.hidden || !picture) continue;
      paintFrame(canvas, picture, sprite, this.moment % frames);
      if (this.withCells?.checked) this.paintCells(canvas, gap);
    }
  }

  /** Tint each cell of the first clip by how far the network leans on it. */
  paintCells(canvas, gap) {
    const context = canvas.getContext("2d");
    const clip = (canvas.width - 2 * gap) / 3;
    const [width, height] = [clip / this.cells[0].length, canvas.height / this.cells.length];
    this.cells.forEach((row, y) =>
      row.forEach((lean, x) => {
        context.fillStyle = `rgb(178 24 43 / ${0.7 * Math.min(1, Math.max(0, lean ?? 0))})`;
        context.fillRect(x * width, y * height, width, height);
      }),
    );
  }
}

for (const element of document.querySelectorAll(".triplets")) new Triplets(element);
