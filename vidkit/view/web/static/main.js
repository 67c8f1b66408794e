// The page of one dataset's clips, or of several side by side.

import { Filters } from "./filters.js";
import { Grid } from "./grid.js";
import { MarksMenu } from "./marks_menu.js";
import { Marks } from "./marks.js";
import { keys_help } from "./help.js";
import { tell, trouble } from "./tell.js";

const form = document.getElementById("asked");
const sizes = document.getElementById("size");
const ALONE = ["pred", "right", "true", "said"];  // predictions are of one dataset
const number = value => value.toLocaleString("en");

const kept = new Map();  // marks by plan: two folders of one plan share them
const grids = [...document.querySelectorAll(".pane")].map(root => {
  const pane = JSON.parse(root.dataset.pane);
  if (!kept.has(pane.marks)) kept.set(pane.marks, new Marks(pane.marks));
  return new Grid(root, pane, kept.get(pane.marks), key => {
    const query = ours().toString();
    return `/d/${pane.number}/clip/${key}${query ? `?${query}` : ""}`;
  });
});

const filters = new Filters(form, ask);

// the address without what only this page uses
function ours() {
  const params = new URLSearchParams(filters.params);
  params.delete("d");
  return params;
}

function ask() {
  const wanted = new Set(filters.params.getAll("mark").map(Number));
  const answers = new Map();
  for (const grid of grids) {
    grid.scroll.scrollTop = 0;
    grid.ask(ours(), wanted.size ? grid.marks.keys(wanted) : null, answer => {
      grid.root.querySelector(".count").textContent = answer.total === grid.pane.planned
        ? `${number(answer.total)} clips` : `${number(answer.total)} of ${number(grid.pane.planned)} clips`;
      grid.root.querySelector(".nothing").hidden = answer.total > 0;
      answers.set(grid, answer);
      if (answers.size === grids.length) {
        trouble(null);
        count(grids.map(one => answers.get(one)));
        if (first) first = false;
        else tell(grids.map(one => `${number(one.total)} clips`).join(", "));
        restore();
      }
    });
  }
  for (const link of document.querySelectorAll("[data-query]")) {
    const path = link.dataset.query, asked = ours();
    if (path.startsWith("/side")) for (const one of ALONE) asked.delete(one);
    const query = asked.toString();
    link.href = path + (query ? `${path.includes("?") ? "&" : "?"}${query}` : "");
  }
}

// counts of all datasets together, in the order of the first
function count(answers) {
  const facets = {};
  for (const [name, values] of answers.flatMap(one => Object.entries(one.facets))) {
    facets[name] ??= {};
    for (const [value, clips] of Object.entries(values)) facets[name][value] = (facets[name][value] ?? 0) + clips;
  }
  filters.count(facets, answers.reduce((sum, one) => sum + one.warned, 0));
}

let first = true;

// --- which datasets stand beside each other, under the same filters

function beside(numbers) {
  const params = ours();
  for (const one of numbers) params.append("d", one);
  location.assign(`/side?${params}`);
}
document.getElementById("beside")?.addEventListener("submit", event => {
  event.preventDefault();
  beside(new FormData(event.target).getAll("d"));
});
for (const grid of grids) {
  grid.root.querySelector(".take-away")?.addEventListener("click", () => {
    beside(grids.filter(one => one !== grid).map(one => one.pane.number));
  });
}

// --- size of tiles, and where one was before a clip's page was opened

sizes.value = localStorage.getItem("vidkit-tile") ?? sizes.value;
function resize() {
  localStorage.setItem("vidkit-tile", sizes.value);
  for (const grid of grids) { grid.width = Number(sizes.value); grid.lay(); }
}
sizes.addEventListener("input", resize);

const place = () => `vidkit-place:${location.pathname}${location.search}`;
window.addEventListener("pagehide", () => {
  sessionStorage.setItem(place(), JSON.stringify(grids.map(grid => [grid.scroll.scrollTop, grid.at])));
});
let restored = false;
function restore() {
  const before = sessionStorage.getItem(place());
  if (restored || !before) return;
  restored = true;
  JSON.parse(before).forEach(([top, at], i) => {
    if (grids[i]) { grids[i].scroll.scrollTop = top; grids[i].at = Math.min(at, grids[i].total - 1); grids[i].draw(); grids[i].rove(); }
  });
}

// --- keys of the whole page

document.addEventListener("keydown", event => {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  const typing = event.target.closest("input:not([type=checkbox]):not([type=range]), select, textarea, dialog");
  if (event.key === "Escape" && event.target.closest("#filters")) grids[0].go(grids[0].at);
  if (typing) return;
  if (event.key === "/") {
    event.preventDefault();
    document.body.classList.add("asking");
    form.elements.q.focus();
  } else if (event.target === document.body || !event.target.closest(".pane")) {
    // keys for a grid, typed where none has the focus
    if (["ArrowDown", "ArrowRight", "Home", "End", "PageDown"].includes(event.key) && !event.target.closest("form, details")) {
      event.preventDefault();
      grids[0].go(grids[0].at);
    } else if (/^[0-9]$/.test(event.key)) (grids.find(grid => grid.root.matches(":hover")) ?? grids[0]).put_mark(Number(event.key));
  }
});
for (const button of document.querySelectorAll(".open-filters, .close-filters")) {
  button.addEventListener("click", () => {
    const open = document.body.classList.toggle("asking");
    document.querySelector(".open-filters").setAttribute("aria-expanded", open);
    if (open) form.elements.q.focus();
  });
}

new MarksMenu(document.getElementById("marks"), grids, filters);
keys_help();
resize();
ask();
