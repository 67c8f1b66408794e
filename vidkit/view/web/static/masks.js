// What models see of a clip. All kinds of pictures of all frames come in one picture; they are shown in step.

import { ask } from "./tell.js";

const article = document.getElementById("masks"), asked = JSON.parse(article.dataset.asked);
const [mask, ratio, seed, time, play] = ["mask", "ratio", "seed", "time", "play"].map(id => document.getElementById(id));
const models = [...article.querySelectorAll(".model")].map(root => ({ root, id: root.dataset.model, painted: null, turn: 0 }));
const STEP = 130;  // milliseconds of a frame

// what was chosen stays in the address, and goes on to the next clip
const before = new URLSearchParams(location.search);
for (const field of [mask, ratio, seed]) if (before.has(field.id)) field.value = before.get(field.id);

function chosen() {
  const found = {};
  if (mask.value) found.mask = mask.value;
  if (ratio.value !== ratio.dataset.trained) found.ratio = ratio.value;
  if (seed.value !== "0" && seed.value) found.seed = seed.value;
  return found;
}

function said() {
  const more = chosen(), address = new URL(location.href);
  for (const name of ["mask", "ratio", "seed"]) address.searchParams.delete(name);
  for (const [name, value] of Object.entries(more)) address.searchParams.set(name, value);
  history.replaceState(null, "", address);
  for (const link of article.querySelectorAll("a[data-clip]")) {
    const there = new URL(link.href);
    for (const name of ["mask", "ratio", "seed"]) there.searchParams.delete(name);
    for (const [name, value] of Object.entries(more)) there.searchParams.set(name, value);
    link.href = there;
  }
  for (const field of article.querySelectorAll("form input.chosen")) field.remove();
  for (const [name, value] of Object.entries(more)) {
    for (const form of article.querySelectorAll("form")) {
      form.append(Object.assign(document.createElement("input"), { type: "hidden", className: "chosen", name, value }));
    }
  }
}

async function paint(model) {
  const turn = ++model.turn, wrong = model.root.querySelector("[role=alert]");
  model.root.setAttribute("aria-busy", "true");
  try {
    const query = new URLSearchParams({ m: model.id, d: asked.d, key: asked.key, ...chosen() });
    const painted = await ask(`/masks/painted?${query}`);
    if (turn !== model.turn) return;
    const image = new Image();
    image.src = painted.image;
    await image.decode();
    if (turn !== model.turn) return;
    model.painted = { ...painted, image };
    wrong.hidden = true;
    lay(model);
  } catch (error) {
    if (turn !== model.turn) return;
    wrong.textContent = [error.said?.error ?? "The server does not answer: was it stopped?", error.said?.hint].filter(Boolean).join(". ");
    wrong.hidden = false;
  }
  model.root.setAttribute("aria-busy", "false");
}

function lay(model) {
  const { painted } = model, strip = model.root.querySelector(".strip");
  model.root.querySelector(".told").textContent =
    `${painted.strategy}, ratio ${Number(painted.ratio.toFixed(4))}: ${painted.visible} of ${painted.tokens} tokens visible`;
  strip.replaceChildren(...painted.rows.map(row => {
    const box = document.createElement("figure"), canvas = document.createElement("canvas"), words = document.createElement("figcaption");
    canvas.width = canvas.height = painted.side;
    canvas.setAttribute("role", "img");
    canvas.setAttribute("aria-label", `${row.name} ${row.caption}`);
    words.innerHTML = "<b></b> <span class=faint></span>";
    words.firstChild.textContent = row.name;
    words.lastChild.textContent = row.caption;
    box.append(canvas, words);
    return box;
  }));
  time.max = Math.max(...models.map(one => (one.painted?.frames ?? 1) - 1));
  draw();
}

function draw() {
  for (const { root, painted } of models) {
    if (!painted) continue;
    const at = Math.min(Number(time.value), painted.frames - 1), { side, image } = painted;
    root.querySelectorAll("canvas").forEach((canvas, i) => {
      canvas.getContext("2d").drawImage(image, at * side, i * side, side, side, 0, 0, side, side);
    });
  }
}

// --- time

let runs = !window.matchMedia("(prefers-reduced-motion: reduce)").matches;
function show_runs() {
  play.textContent = runs ? "Pause" : "Play";
  play.setAttribute("aria-pressed", runs);
}
setInterval(() => {
  if (!runs || document.hidden) return;
  time.value = (Number(time.value) + 1) % (Number(time.max) + 1);
  draw();
}, STEP);
play.addEventListener("click", () => { runs = !runs; show_runs(); });
time.addEventListener("input", () => { runs = false; show_runs(); draw(); });
show_runs();

// --- choices

let timer = 0;
function again() {
  document.getElementById("ratio-said").value = Number(ratio.value).toFixed(2);
  clearTimeout(timer);
  timer = setTimeout(() => { said(); for (const model of models) paint(model); }, 120);
}
for (const field of [mask, ratio, seed]) field.addEventListener("input", again);
document.addEventListener("keydown", event => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.target.closest("input, select")) return;
  if (event.key === "ArrowLeft") document.getElementById("before")?.click();
  if (event.key === "ArrowRight") document.getElementById("after")?.click();
  if (event.key === " " && !event.target.closest("button, a")) { event.preventDefault(); play.click(); }
});
document.getElementById("ratio-said").value = Number(ratio.value).toFixed(2);
said();
for (const model of models) paint(model);
