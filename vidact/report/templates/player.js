"use strict";
// A clip's player: all its pictures and bars show the same moment.

const FALLBACK_SECONDS = 0.1; // between frames whose times do not grow
const LEAST_HEIGHT = 240; // of a canvas on which outlines are drawn: small pictures are enlarged

/** What one run shows of the clip. */
class Panel {
  constructor(element, data, player) {
    this.element = element;
    this.data = data;
    this.player = player;
    this.original = element.querySelector(".original");
    this.overlay = element.querySelector(".overlay");
    this.heatmap = element.querySelector(".heatmap");
    const chart = (name) => new BarChart(element.querySelector(name), (frame) => this.seek(frame));
    this.charts = [chart(".frame-relevance"), chart(".frame-hotspots")];
    const { width, height } = data.sprite;
    const enlarged = Math.max(1, Math.ceil(LEAST_HEIGHT / height));
    for (const canvas of [this.original, this.overlay]) resize(canvas, enlarged * width, enlarged * height);
    this.heatmap.style.aspectRatio = `${width} / ${height}`;
    paintShades(element.querySelector(".shades"));
  }

  seek(frame) {
    const step = this.data.places.indexOf(frame);
    if (step >= 0) this.player.seek(step);
  }

  /** Unpack the chosen explanation, once. */
  async choose(method, target) {
    const number = this.data.choices[method]?.[target] ?? -1;
    const explanation = this.data.explanations[number] ?? null;
    if (explanation && !explanation.bytes) {
      explanation.bytes = await inflate(explanation.data);
      explanation.shadeOfByte = shadeNumbers(explanation);
    }
    return explanation;
  }

  show(explanation) {
    this.explanation = explanation;
    this.element.classList.toggle("unexplained", !explanation);
    this.element.querySelector(".explained").textContent = explanation
      ? explainedText(explanation)
      : "This run has no such explanation of this clip.";
    if (!explanation) return clear(this.heatmap);
    const { seconds } = this.data;
    const { positive, negative, hotspots, limit } = explanation;
    const net = positive.map((value, frame) => value + negative[frame]);
    const relevanceAt = (frame) => `${signed(positive[frame])} ${signed(negative[frame])}`;
    const hotspotsAt = (frame) => `${hotspots[frame]}`;
    this.charts[0].draw({ up: positive, down: negative, net, describe: relevanceAt, seconds });
    this.charts[1].draw({ up: hotspots, down: hotspots.map(() => 0), describe: hotspotsAt, seconds });
    this.element.querySelector(".against-end").textContent = short(-limit);
    this.element.querySelector(".for-end").textContent = signed(limit);
    this.element.querySelector(".unit").textContent = legendText(explanation);
    this.element.querySelector(".frame-relevance small").textContent = `${explanation.unit}; the line is the sum`;
  }

  paint(step) {
    const frame = this.data.places[step];
    const picture = this.player.pictures[this.data.sprite.uri];
    for (const canvas of [this.original, this.overlay]) paintFrame(canvas, picture, this.data.sprite, frame);
    if (!this.explanation) return;
    paintHotspots(this.overlay, this.explanation, frame);
    paintHeatmap(this.heatmap, this.explanation, frame);
    for (const chart of this.charts) chart.follow(frame, this.player.moment(step));
  }
}

function explainedText({ method, role, target, score, where }) {
  const parts = [`${method} explains ${target} (${role})`];
  if (score !== null) parts.push(`score ${short(score)}`);
  if (where) parts.push(`of it ${where}`);
  return parts.join(" · ").replace("-", "−");
}

function legendText({ limit, largest, unit }) {
  if (largest === 0) return "the relevance is zero everywhere";
  const end = largest > limit ? `the scale ends at the ${constants.clipPercentile}th percentile of |R|` : "the scale ends at max |R|";
  return `${unit} per voxel; ${end}`;
}

class Player {
  constructor(article) {
    this.article = article;
    this.step = 0;
    this.data = readJson(article.querySelector(".data"));
    this.times = this.data.times;
    const elements = article.querySelectorAll(".panel");
    this.panels = this.data.runs.map((run, place) => new Panel(elements[place], run, this));
    this.playButton = article.querySelector(".play");
    this.scrubber = article.querySelector(".scrubber");
    this.now = article.querySelector(".now");
    this.selects = Object.fromEntries(
      [...article.querySelectorAll("[data-choice]")].map((select) => [select.dataset.choice, select]),
    );
    this.playButton.addEventListener("click", () => this.toggle());
    this.scrubber.addEventListener("input", () => this.seek(Number(this.scrubber.value)));
    for (const name of ["method", "target"]) this.selects[name]?.addEventListener("change", () => this.choose());
    this.ready = this.load();
  }

  async load() {
    this.pictures = await Promise.all(this.data.pictures.map(loadPicture));
    await this.choose();
    this.article.dataset.state = "ready";
  }

  /** Show the explanations of the chosen method and target; of several choices in haste the last one counts. */
  async choose() {
    const [method, target] = ["method", "target"].map((name) => Number(this.selects[name]?.value ?? 0));
    const choice = (this.choice = `${method} ${target}`);
    const explanations = await Promise.all(this.panels.map((panel) => panel.choose(method, target)));
    if (this.choice !== choice) return;
    this.panels.forEach((panel, place) => panel.show(explanations[place]));
    this.goTo(this.step);
  }

  /** Go to the next method or target. */
  cycle(name) {
    const select = this.selects[name];
    if (!select) return;
    select.selectedIndex = (select.selectedIndex + 1) % select.length;
    this.choose();
  }

  moment(step) {
    const numbers = this.data.runs.map((run) => run.numbers[run.places[step]]);
    const frames = new Set(numbers).size === 1 ? `frame ${numbers[0]}` : `frames ${numbers.join(", ")}`;
    return `${frames} · ${this.times[step].toFixed(2)} s`;
  }

  /** Go where the reader points, and stay there. */
  seek(step) {
    this.pause();
    this.goTo(step);
  }

  goTo(step) {
    this.step = Math.min(this.times.length - 1, Math.max(0, step));
    this.scrubber.value = this.step;
    this.scrubber.setAttribute("aria-valuetext", this.moment(this.step));
    this.now.textContent = `${this.moment(this.step)} · ${this.step + 1} of ${this.times.length}`;
    for (const panel of this.panels) panel.paint(this.step);
  }

  get isPlaying() {
    return this.article.dataset.playing === "yes";
  }

  toggle() {
    if (this.isPlaying) this.pause();
    else this.play();
  }

  play() {
    for (const other of players.values()) other.pause();
    this.setPlaying(true);
    this.due = null;
    requestAnimationFrame((now) => this.tick(now));
  }

  pause() {
    if (this.isPlaying) this.setPlaying(false);
  }

  setPlaying(isPlaying) {
    this.article.dataset.playing = isPlaying ? "yes" : "no";
    this.playButton.textContent = isPlaying ? "Pause" : "Play";
    this.now.setAttribute("aria-live", isPlaying ? "off" : "polite"); // no screen reader keeps up with frames
  }

  tick(now) {
    if (!this.isPlaying) return;
    this.due ??= now + this.milliseconds();
    if (now >= this.due) {
      this.goTo((this.step + 1) % this.times.length);
      this.due = Math.max(this.due + this.milliseconds(), now);
    }
    requestAnimationFrame((later) => this.tick(later));
  }

  /** How long the present frame stays; the last one as long as the one before it. */
  milliseconds() {
    const step = Math.min(this.step, this.times.length - 2);
    const seconds = step < 0 ? 0 : this.times[step + 1] - this.times[step];
    return (1000 * (seconds > 0 ? seconds : FALLBACK_SECONDS)) / Number(this.selects.speed.value);
  }
}
