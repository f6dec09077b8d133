"use strict";
// The page around the players: colours, lazy players, keys, filter, confusion cells.

const players = new Map(); // by article; filled when an article comes near
const articles = [...document.querySelectorAll("article.clip")];

function playerOf(article) {
  if (!players.has(article)) {
    const player = new Player(article);
    players.set(article, player);
    player.ready.catch((error) => {
      article.dataset.state = "broken";
      article.querySelector(".now").textContent = `This browser cannot show the clip: ${error.message}`;
    });
  }
  return players.get(article);
}

function watchArticles() {
  const near = new IntersectionObserver(
    (entries) => {
      for (const { isIntersecting, target } of entries) if (isIntersecting) playerOf(target);
    },
    { rootMargin: "800px" },
  );
  for (const article of articles) near.observe(article);
}

function setColours() {
  const { forColour, againstColour, hotspotColour, relevanceColours } = constants;
  const middle = (relevanceColours.length - 1) / 2;
  const colours = {
    "--for": forColour,
    "--against": againstColour,
    "--hotspot": hotspotColour,
    "--for-on-dark": relevanceColours[middle + 3], // a lighter one of the same scale
    "--against-on-dark": relevanceColours[middle - 3],
  };
  for (const [name, value] of Object.entries(colours)) document.documentElement.style.setProperty(name, value);
}

function setUpTheme() {
  const button = document.getElementById("theme");
  if (!button) return;
  const root = document.documentElement;
  const isDark = () =>
    (root.dataset.theme ?? (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light")) === "dark";
  const label = () => (button.textContent = isDark() ? "Light" : "Dark");
  button.addEventListener("click", () => {
    root.dataset.theme = isDark() ? "light" : "dark";
    label();
  });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", label);
  button.hidden = false;
  label();
}

/** Move to another clip that the filter shows. */
function moveFocus(article, distance) {
  const seen = [...document.querySelectorAll("article.clip:not([hidden])")];
  const other = seen[seen.indexOf(article) + distance];
  if (!other) return;
  players.get(article)?.pause();
  other.scrollIntoView({ block: "start" });
  other.focus({ preventScroll: true });
}

const actions = {
  " ": (player) => player.toggle(),
  ArrowLeft: (player) => player.seek(player.step - 1),
  ArrowRight: (player) => player.seek(player.step + 1),
  Home: (player) => player.seek(0),
  End: (player) => player.seek(player.times.length - 1),
  m: (player) => player.cycle("method"),
  t: (player) => player.cycle("target"),
  n: (player) => moveFocus(player.article, 1),
  "]": (player) => moveFocus(player.article, 1),
  p: (player) => moveFocus(player.article, -1),
  "[": (player) => moveFocus(player.article, -1),
};

function onKey(event) {
  const article = event.target.closest?.("article.clip");
  const action = actions[event.key.length === 1 ? event.key.toLowerCase() : event.key];
  if (!article || !action || event.ctrlKey || event.metaKey || event.altKey) return;
  const isOwn = event.target.closest("select") || (event.key === " " && event.target.closest("button"));
  if (isOwn) return; // the element has its own use for keys
  event.preventDefault();
  const player = playerOf(article);
  player.ready.then(
    () => action(player),
    () => {}, // it says so itself
  );
}

function setUpFilter() {
  const [ofClass, ofVerdict, sort] = ["filter-class", "filter-verdict", "sort"].map((id) => document.getElementById(id));
  if (!sort) return;
  for (const select of [ofClass, ofVerdict]) select.addEventListener("change", applyFilter);
  sort.addEventListener("change", () => {
    document.getElementById("players").append(...sorted(sort.value));
  });
  document.getElementById("method-of-all")?.addEventListener("change", (event) => {
    for (const article of articles) setMethod(article, event.target.value);
  });
  applyFilter();
}

/** Choose a method by its name in a clip's own list, also before its player is built. */
function setMethod(article, name) {
  const select = article.querySelector('[data-choice="method"]');
  const option = [...(select?.options ?? [])].find((candidate) => candidate.text === name);
  if (!option) return;
  select.value = option.value;
  players.get(article)?.choose();
}

function applyFilter() {
  const name = document.getElementById("filter-class").value;
  const verdict = document.getElementById("filter-verdict").value;
  for (const article of articles) {
    article.hidden = !(fitsVerdict(article, verdict) && (!name || article.dataset.class === name));
    if (article.hidden) players.get(article)?.pause();
  }
  const seen = articles.filter((article) => !article.hidden).length;
  document.getElementById("count").textContent = `${seen} of ${articles.length} clips`;
}

function fitsVerdict(article, verdict) {
  const verdicts = article.dataset.verdicts.split(" ");
  if (verdict === "right") return verdicts.every((word) => word === "right");
  if (verdict === "wrong") return verdicts.includes("wrong");
  return verdict !== "differ" || new Set(verdicts).size > 1;
}

function sorted(by) {
  const compareText = (key) => (a, b) => a.dataset[key].localeCompare(b.dataset[key]);
  const confidence = (article) => Number(article.dataset.confidence);
  const orders = {
    name: compareText("name"),
    class: compareText("class"),
    sure: (a, b) => confidence(b) - confidence(a),
    unsure: (a, b) => confidence(a) - confidence(b),
  };
  return orders[by] ? articles.toSorted(orders[by]) : articles;
}

function showEverything() {
  for (const id of ["filter-class", "filter-verdict"]) document.getElementById(id).value = "";
  applyFilter();
}

/** Bring a clip that the address names to the reader, whatever the filter hides. */
function followAddress() {
  const article = document.getElementById(location.hash.slice(1));
  if (!article?.matches("article.clip")) return;
  if (article.hidden) showEverything();
  article.scrollIntoView({ block: "start" });
  article.focus({ preventScroll: true });
}

function element(kind, text) {
  const made = document.createElement(kind);
  made.textContent = text;
  return made;
}

/** List the clips of a confusion cell; those that have a player lead to it. */
function listExamples(area, button, { names, outcomes }, links) {
  const [wanted, taken] = [Number(button.dataset.true), Number(button.dataset.predicted)];
  const found = outcomes.filter((outcome) => outcome.true === wanted && outcome.predicted === taken);
  const list = document.createElement("ul");
  for (const { clip_id: id, probability } of found) {
    const item = document.createElement("li");
    const link = Object.hasOwn(links, id) ? element("a", id) : element("span", id);
    if (link.matches("a")) link.href = `#${links[id]}`;
    else link.title = "no player for this clip";
    const share = probability === null ? "no number" : `${(100 * probability).toFixed(1)} %`;
    item.append(link, element("span", ` ${share}`));
    list.append(item);
  }
  const what = wanted === taken ? `${names[wanted]}, recognised` : `${names[wanted]}, taken for ${names[taken]}`;
  area.replaceChildren(element("h4", `${what}: ${found.length} clip${found.length === 1 ? "" : "s"}`), list);
}

function setUpConfusion() {
  const links = document.getElementById("links");
  for (const card of document.querySelectorAll(".classes")) {
    const data = readJson(document.getElementById(card.dataset.outcomes));
    card.addEventListener("click", (event) => {
      const button = event.target.closest("button.cell");
      if (!button) return;
      for (const cell of card.querySelectorAll("button.cell")) cell.setAttribute("aria-pressed", cell === button);
      listExamples(card.querySelector(".examples"), button, data, readJson(links));
    });
    card.addEventListener("click", (event) => {
      const link = event.target.closest(".examples a");
      if (link && link.hash === location.hash) followAddress(); // else the address changes and does it
    });
  }
}

setColours();
setUpTheme();
setUpFilter();
setUpConfusion();
watchArticles();
document.addEventListener("keydown", onKey);
addEventListener("hashchange", followAddress);
addEventListener("beforeprint", () => articles.forEach(playerOf));
followAddress();
