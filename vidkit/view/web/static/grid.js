// A grid of any number of clips: only what is in sight is in the page, and rows are fetched as they come near.

import { play, plays, stop } from "./play.js";
import { ask, tell, trouble } from "./tell.js";

const PAGE = 200, GAP = 8, BEYOND = 2;  // rows of an answer; pixels between tiles; rows of tiles out of sight
const CAPTION = 38;  // pixels under a picture
const SETTLE = 40;  // milliseconds of rest before rows are fetched: a thumb that is dragged passes most of them

const seconds = value => value == null ? "" : `${value < 10 ? value.toFixed(1) : Math.round(value)} s`;

export class Grid {
  // `link`: the address of a clip's page, from its key
  constructor(root, pane, marks, link) {
    Object.assign(this, { root, pane, marks, link });
    this.scroll = root.querySelector(".scroll");
    this.list = root.querySelector(".tiles");
    this.base = `/d/${pane.number}`;
    this.tiles = new Map();
    this.pool = [];
    this.at = 0;
    this.aim = null;  // what a key marks: where the pointer or the focus came last
    this.width = 150;
    this.total = 0;
    this.pages = new Map();
    this.scroll.addEventListener("scroll", () => this.soon(), { passive: true });
    new ResizeObserver(() => this.lay()).observe(this.scroll);
    this.listen();
    marks.onChange(() => { for (const [i, tile] of this.tiles) this.mark(tile, this.row(i)); });
  }

  // --- what is shown

  async ask(params, keys, then = () => {}) {
    this.abort?.abort();
    this.abort = new AbortController();
    this.params = params;
    this.keys = keys;
    const mine = this.abort;
    let answer;
    try {
      answer = await this.fetch(0, true);
    } catch (error) {
      if (error.name !== "AbortError") trouble(error.said ?? { error: "the server does not answer: was it stopped?" });
      return;
    }
    if (mine !== this.abort) return;
    stop();
    const held = this.list.contains(document.activeElement);
    this.pages = new Map([[0, answer.rows]]);
    this.columns = answer.columns;
    this.total = answer.total;
    this.at = Math.min(this.at, Math.max(0, this.total - 1));
    for (const i of [...this.tiles.keys()]) this.drop(i);
    this.lay();
    if (held && this.total) this.go(this.at);  // its tile is another one now
    then(answer);
  }

  fetch(page, facets = false) {
    const params = new URLSearchParams(this.params);
    params.set("from", page * PAGE);
    params.set("count", PAGE);
    params.set("v", this.pane.version);
    if (facets) params.set("facets", "1");
    const how = { signal: this.abort.signal };
    if (this.keys) Object.assign(how, { method: "POST", body: JSON.stringify({ keys: this.keys }) });
    return ask(`${this.base}/rows?${params}`, how);
  }

  async load(page) {
    if (this.pages.has(page)) return;
    this.pages.set(page, null);
    const mine = this.abort;
    try {
      const answer = await this.fetch(page);
      if (mine !== this.abort) return;
      this.pages.set(page, answer.rows);
      for (const [i, tile] of this.tiles) if (Math.floor(i / PAGE) === page) this.fill(tile, i);
    } catch (error) {
      if (mine === this.abort) this.pages.delete(page);
      if (error.name !== "AbortError") trouble(error.said ?? { error: "the server does not answer: was it stopped?" });
    }
  }

  row(i) {
    const found = this.pages.get(Math.floor(i / PAGE))?.[i % PAGE];
    return found ? Object.fromEntries(this.columns.map((name, j) => [name, found[j]])) : null;
  }

  // --- where it is shown

  lay() {
    const room = this.scroll.clientWidth - 2 * GAP;
    if (room <= 0) return;
    const before = this.across ? Math.floor(this.scroll.scrollTop / this.high) * this.across : 0;
    this.across = Math.max(1, Math.floor((room + GAP) / (this.width + GAP)));
    this.wide = Math.floor((room + GAP) / this.across) - GAP;
    this.high = Math.round(this.wide / this.pane.aspect) + CAPTION + GAP;
    this.list.style.height = `${Math.ceil(this.total / this.across) * this.high + GAP}px`;
    this.root.style.setProperty("--tile", `${this.wide}px`);
    this.root.style.setProperty("--picture", `${Math.round(this.wide / this.pane.aspect)}px`);
    if (before && Math.floor(before / this.across) !== Math.floor(this.scroll.scrollTop / this.high)) {
      this.scroll.scrollTop = Math.floor(before / this.across) * this.high;
    }
    for (const [i, tile] of this.tiles) this.put(tile, i);
    this.draw();
  }

  soon() {
    this.frame ??= requestAnimationFrame(() => { this.frame = null; this.draw(); });
  }

  draw() {
    const top = Math.floor(this.scroll.scrollTop / this.high) - BEYOND;
    const bottom = Math.ceil((this.scroll.scrollTop + this.scroll.clientHeight) / this.high) + BEYOND;
    const first = Math.max(0, top * this.across), end = Math.min(this.total, bottom * this.across);
    const held = document.activeElement?.closest?.(".tile");
    for (const [i, tile] of [...this.tiles]) {
      if ((i < first || i >= end) && tile !== held) this.drop(i);  // the focus would be lost with its tile
    }
    for (let i = first; i < end; i++) if (!this.tiles.has(i)) this.add(i);
    clearTimeout(this.timer);
    this.timer = setTimeout(() => {
      for (let page = Math.floor(first / PAGE); page <= Math.floor((end - 1) / PAGE); page++) this.load(page);
    }, this.pages.has(Math.floor(first / PAGE)) ? 0 : SETTLE);
  }

  add(i) {
    const tile = this.pool.pop() ?? make();
    this.tiles.set(i, tile);
    tile.dataset.i = i;
    tile.setAttribute("aria-posinset", i + 1);
    tile.setAttribute("aria-setsize", this.total);
    this.put(tile, i);
    this.fill(tile, i);
    this.list.append(tile);
  }

  drop(i) {
    const tile = this.tiles.get(i);
    stop(tile);
    this.tiles.delete(i);
    tile.remove();
    tile.querySelector("img").removeAttribute("src");
    this.pool.push(tile);
  }

  put(tile, i) {
    const x = GAP + (i % this.across) * (this.wide + GAP), y = GAP + Math.floor(i / this.across) * this.high;
    tile.style.transform = `translate(${x}px, ${y}px)`;
  }

  fill(tile, i) {
    const row = this.row(i), link = tile.querySelector("a"), img = tile.querySelector("img");
    tile.className = `tile ${row ? row.status : "waits"}`;
    link.tabIndex = i === this.at ? 0 : -1;
    delete tile.dataset.video;
    const [why, name, info] = ["why", "name", "info"].map(part => tile.querySelector(`.${part}`));
    why.textContent = name.textContent = info.textContent = "";
    if (!row) { img.hidden = true; link.removeAttribute("href"); link.removeAttribute("aria-label"); return; }
    const version = `v=${this.pane.version}`, stored = row.status === "ok";
    link.href = this.link(row.key);
    img.hidden = !stored;
    if (stored) {
      tile.dataset.video = `${this.base}/video/${row.key}.mp4?${version}`;
      img.src = `${this.base}/thumb/${row.key}.webp?${version}`;
    } else {
      const [code, words] = [document.createElement("b"), document.createElement("small")];
      code.textContent = row.error ?? row.status;
      words.textContent = row.message === row.error ? "" : row.message ?? "";
      why.append(code, words);
    }
    name.textContent = row.class || "(no class)";
    const said = row.said == null ? [] : [`${row.right ? "\u2713" : "\u2717"} ${row.said} ${Math.round(100 * row.sure)} %`];
    info.textContent = [...said, row.split, seconds(row.seconds), row.warned ? "warnings" : ""].filter(Boolean).join(" \u00b7 ");
    info.classList.toggle("wrong", row.right === false);
    const mark = this.mark(tile, row);
    link.title = row.clip_id;
    link.setAttribute("aria-label", [name.textContent, info.textContent, stored ? "" : row.error, row.clip_id,
      mark ? `mark ${mark}` : ""].filter(Boolean).join(", "));
  }

  mark(tile, row) {
    const mark = row ? this.marks.get(row.key) : 0;
    const shown = tile.querySelector(".mark");
    shown.textContent = mark || "";
    shown.dataset.mark = mark;
    return mark;
  }

  // --- pointer and keys

  listen() {
    const tile = event => event.target.closest(".tile");
    const on = (kind, call) => this.list.addEventListener(kind, event => { const of = tile(event); if (of) call(of, event); });
    on("pointerover", of => { this.aim = Number(of.dataset.i); play(of); });
    on("pointerout", (of, event) => { if (!of.contains(event.relatedTarget)) stop(of); });
    on("focusin", of => { this.at = this.aim = Number(of.dataset.i); this.rove(); play(of); });
    on("focusout", of => { if (plays(of)) stop(of); });
    this.list.addEventListener("error", event => {  // of a picture: it does not bubble
      const of = event.target.closest?.(".tile");
      if (of && event.target.tagName === "IMG" && event.target.hasAttribute("src")) {
        event.target.hidden = true;
        of.querySelector(".why").textContent = "no picture";
      }
    }, true);
    this.root.addEventListener("keydown", event => this.key(event));
  }

  rove() {
    for (const [i, tile] of this.tiles) tile.querySelector("a").tabIndex = i === this.at ? 0 : -1;
  }

  go(i) {
    this.at = Math.max(0, Math.min(this.total - 1, i));
    const y = Math.floor(this.at / this.across) * this.high, view = this.scroll;
    if (y < view.scrollTop) view.scrollTop = y;
    else if (y + this.high + GAP > view.scrollTop + view.clientHeight) view.scrollTop = y + this.high + GAP - view.clientHeight;
    this.draw();
    this.rove();
    this.tiles.get(this.at)?.querySelector("a").focus({ preventScroll: true });
  }

  key(event) {
    if (event.ctrlKey || event.metaKey || event.altKey || event.target.closest("input, select, textarea")) return;
    const screen = Math.max(1, Math.floor(this.scroll.clientHeight / this.high)) * this.across;
    const steps = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -this.across, ArrowDown: this.across, PageUp: -screen,
      PageDown: screen, Home: -this.at, End: this.total };
    if (event.key in steps && event.target.closest(".tile, .scroll")) {
      event.preventDefault();
      this.go(this.at + steps[event.key]);
    } else if (event.key === " " && event.target.closest(".tile")) {
      event.preventDefault();
      const tile = event.target.closest(".tile");
      if (tile.querySelector("video")) stop(tile); else play(tile, true);
    } else if (/^[0-9]$/.test(event.key)) this.put_mark(Number(event.key));
  }

  put_mark(mark) {
    const row = this.aim == null ? null : this.row(this.aim);
    if (!row) return;
    const now = this.marks.toggle(row.key, mark, { id: row.clip_id, split: row.split, class: row.class });
    tell(now ? `Mark ${now}: ${row.clip_id}` : `No mark: ${row.clip_id}`);
  }
}

function make() {
  const tile = document.createElement("li");
  tile.innerHTML = '<a><span class="picture"><img alt="" decoding="async"><span class="why"></span></span>'
    + '<span class="name"></span><span class="info"></span></a><b class="mark" aria-hidden="true"></b>';
  return tile;
}
