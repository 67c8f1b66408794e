// A clip's page: frame by frame, marks, and on to the next clip.

import { Marks } from "./marks.js";
import { marked } from "./tiles.js";
import { tell } from "./tell.js";

const article = document.querySelector("article");
const row = JSON.parse(article.dataset.row), marks = new Marks(JSON.parse(article.dataset.pane).marks);
const video = document.getElementById("video"), buttons = [...article.querySelectorAll(".marking button")];

// --- marks

function show() {
  const mark = marks.get(row.key);
  for (const button of buttons) button.setAttribute("aria-pressed", Number(button.dataset.mark) === mark);
}
function put(mark) {
  const now = marks.toggle(row.key, mark, { id: row.id, split: row.split, class: row.class });
  tell(now ? `Mark ${now}` : "No mark");
}
for (const button of buttons) button.addEventListener("click", () => put(Number(button.dataset.mark)));
marks.onChange(show);
show();
marked(article, marks);

// --- frames

if (video) {
  const fps = Number(video.dataset.fps), frames = Number(video.dataset.frames), shown = document.getElementById("frame");
  const at = () => Math.min(frames - 1, Math.floor(video.currentTime * fps + 0.01));
  const say = () => { shown.value = at(); };
  const step = by => {
    video.pause();
    video.currentTime = (Math.max(0, Math.min(frames - 1, at() + by)) + 0.5) / fps;
  };
  document.getElementById("back-frame").addEventListener("click", () => step(-1));
  document.getElementById("next-frame").addEventListener("click", () => step(1));
  document.getElementById("speed").addEventListener("change", event => { video.playbackRate = Number(event.target.value); });
  video.addEventListener("timeupdate", say);
  video.addEventListener("seeked", say);
  video.addEventListener("error", () => tell("The browser cannot play this clip."));
  if (window.matchMedia("(prefers-reduced-motion: reduce)").matches) video.pause();
  if ("requestVideoFrameCallback" in video) {
    const each = () => { say(); video.requestVideoFrameCallback(each); };
    video.requestVideoFrameCallback(each);
  }
  document.addEventListener("keydown", event => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.target.closest("select, input")) return;
    if (event.key === ",") step(-1);
    if (event.key === ".") step(1);
    if (event.key === " " && !event.target.closest("button, a, summary, video")) {
      event.preventDefault();
      if (video.paused) video.play(); else video.pause();
    }
  });
}

// --- on

const go = id => document.getElementById(id)?.click();
document.addEventListener("keydown", event => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.target.closest("select, input, video")) return;
  if (event.key === "ArrowLeft") go("before");
  else if (event.key === "ArrowRight") go("after");
  else if (event.key === "Escape") go("back");
  else if (/^[0-9]$/.test(event.key)) put(Number(event.key));
});
