"use strict";
// Two things that a page can do without, and is better with: tables sort, and plots tell values where one points.

// --- tables: a click sorts up, the next one down, the third as it was

// The number that a cell begins with: of "52.50 ± 6.35", "<0.0001" or "1,024 of 2,048"; none of "1a.2".
function key(cell) {
  const found = cell.textContent.replace(/,(?=\d{3})/g, "").match(/^\s*[<+±]?\s*(-?\d+(\.\d+)?)(?![\w.])/);
  return found ? Number(found[1]) : NaN;
}

function sorted(rows, column, up) {
  const cell = row => row.cells[column];
  const there = rows.filter(row => !["", "–"].includes(cell(row).textContent.trim()));
  const numbers = there.every(row => !Number.isNaN(key(cell(row))));
  const order = (a, b) => numbers ? key(cell(a)) - key(cell(b))
    : cell(a).textContent.localeCompare(cell(b).textContent, "en", { numeric: true });
  const found = there.toSorted ? there.toSorted(order) : [...there].sort(order);
  return [...(up ? found : found.reverse()), ...rows.filter(row => !there.includes(row))];
}

for (const table of document.querySelectorAll("table")) {
  const heads = [...table.tHead.rows[0].cells], before = [...table.tBodies[0].rows];
  heads.forEach((head, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => {
      const was = head.getAttribute("aria-sort");
      const now = was === "ascending" ? "descending" : was === "descending" ? null : "ascending";
      heads.forEach(other => other.removeAttribute("aria-sort"));
      if (now) head.setAttribute("aria-sort", now);
      table.tBodies[0].append(...(now ? sorted(before, column, now === "ascending") : before));
    });
  });
}

// --- plots: what lies nearest to the pointer says its value

const NEAR = 24;  // pixels

function places(svg) {
  const found = [];
  for (const mark of svg.querySelectorAll(".point, .seed, .curve")) {
    const title = mark.querySelector("title");
    if (mark.dataset.each) {
      const said = mark.dataset.each.split("\n");
      const numbers = mark.querySelector("path").getAttribute("d").match(/-?[\d.]+/g).map(Number);
      said.forEach((words, i) => {
        found.push({ said: `${mark.dataset.name}, ${words}`, x: numbers[2 * i], y: numbers[2 * i + 1] });
      });
    } else {
      const use = mark.querySelector("use");
      found.push({ said: title.textContent, x: Number(use.getAttribute("x")), y: Number(use.getAttribute("y")) });
    }
    title.remove();  // or the browser would say it a second time
  }
  return found;
}

const told = document.createElement("div");
told.id = "told";
told.hidden = true;
document.body.append(told);

for (const svg of document.querySelectorAll("figure svg")) {
  const marks = places(svg);
  svg.addEventListener("pointermove", event => {
    const onto = svg.getScreenCTM();
    let best = null, least = NEAR;
    for (const mark of marks) {
      const place = new DOMPoint(mark.x, mark.y).matrixTransform(onto);
      const far = Math.hypot(place.x - event.clientX, place.y - event.clientY);
      if (far < least) [best, least] = [{ said: mark.said, place }, far];
    }
    told.hidden = best === null;
    if (best === null) return;
    told.textContent = best.said;
    const room = document.documentElement.clientWidth - told.offsetWidth - 4;
    told.style.left = `${Math.max(4, Math.min(best.place.x + 10, room))}px`;
    told.style.top = `${Math.max(4, best.place.y - told.offsetHeight - 8)}px`;
  });
  svg.addEventListener("pointerleave", () => { told.hidden = true; });
}
