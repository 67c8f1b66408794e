// A tile plays while it is pointed at or has the focus; one at a time, after a moment, without sound.

const WAIT = 90;  // milliseconds: a pointer that only passes by starts nothing
const STILL = window.matchMedia("(prefers-reduced-motion: reduce)");

let timer = 0, now = null;

export function stop(tile = now) {
  if (tile !== now) return;
  clearTimeout(timer);
  if (now) {
    const video = now.querySelector("video");
    if (video) {
      video.removeAttribute("src");
      video.load();  // ends the request
      video.remove();
    }
    now.classList.remove("plays");
  }
  now = null;
}

// `asked`: by a key, not by passing; then it plays at once, and also where motion is not wanted
export function play(tile, asked = false) {
  if (tile === now && !asked) return;
  stop();
  const address = tile.dataset.video;
  if (!address || (STILL.matches && !asked)) return;
  now = tile;
  timer = setTimeout(() => {
    const video = document.createElement("video");
    Object.assign(video, { muted: true, loop: true, playsInline: true, autoplay: true, src: address });
    video.setAttribute("aria-hidden", "true");
    video.addEventListener("playing", () => tile.classList.add("plays"));
    video.addEventListener("error", () => video.remove());
    tile.querySelector(".picture").append(video);
  }, asked ? 0 : WAIT);
}

export const plays = tile => tile === now;

// for tiles that stand in the page from the beginning
export function watch(root) {
  const tile = event => event.target instanceof Element ? event.target.closest("[data-video]") : null;
  root.addEventListener("pointerover", event => { const found = tile(event); if (found) play(found); });
  root.addEventListener("pointerout", event => {
    const found = tile(event);
    if (found && !found.contains(event.relatedTarget)) stop(found);
  });
  root.addEventListener("focusin", event => { const found = tile(event); if (found) play(found); });
  root.addEventListener("focusout", event => { const found = tile(event); if (found) stop(found); });
}
