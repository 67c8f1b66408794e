// How many clips have which mark; choosing and exporting them.

import { save } from "./marks.js";
import { tell } from "./tell.js";

export class MarksMenu {
  constructor(root, grids, filters) {
    Object.assign(this, { root, grids, filters });
    this.all = [...new Map(grids.map(grid => [grid.pane.marks, grid])).values()];
    for (const { marks } of this.all) marks.onChange(() => this.show());
    root.querySelector(".csv").addEventListener("click", () => this.each((grid, name) => save(`${name}-marks.csv`, grid.marks.csv())));
    root.querySelector(".exclude").addEventListener("click", () => this.exclude());
    root.querySelector(".clear").addEventListener("click", () => {
      if (confirm("Take all marks away?")) for (const { marks } of this.all) marks.clear();
    });
    root.addEventListener("keydown", event => { if (event.key === "Escape") root.open = false; });
    document.addEventListener("pointerdown", event => { if (!root.contains(event.target)) root.open = false; });
    this.show();
  }

  each(call) { for (const grid of this.all) if (grid.marks.of.size) call(grid, grid.pane.name.replace(/[^\w.-]+/g, "-")); }

  // the marks that are ticked in the menu; all, where none is
  chosen() {
    const ticked = [...this.root.querySelectorAll(".those input:checked")].map(box => Number(box.value));
    return new Set(ticked.length ? ticked : [1, 2, 3, 4, 5, 6, 7, 8, 9]);
  }

  exclude() {
    const wanted = this.chosen();
    this.each((grid, name) => save(`${name}-exclude.csv`, grid.marks.exclusions(wanted)));
    tell("Exclusion list: vidkit build-dataset --exclude FILE");
  }

  show() {
    const counts = new Map();
    for (const { marks } of this.all) for (const [mark, count] of marks.counts()) counts.set(mark, (counts.get(mark) ?? 0) + count);
    const total = [...counts.values()].reduce((a, b) => a + b, 0);
    this.root.querySelector("summary output").value = total ? total.toLocaleString("en") : "";
    for (const button of this.root.querySelectorAll("button")) button.disabled = !total;
    this.root.querySelector(".hint").hidden = total > 0;
    const those = this.root.querySelector(".those"), chosen = new Set(this.filters.params.getAll("mark"));
    those.replaceChildren(...[...counts].map(([mark, count]) => {
      const line = document.createElement("label");
      line.innerHTML = `<input type="checkbox" value="${mark}"><b class="mark" data-mark="${mark}">${mark}</b><output>${count.toLocaleString("en")}</output>`;
      const box = line.querySelector("input");
      box.checked = chosen.has(String(mark));
      box.setAttribute("aria-label", `Show clips with mark ${mark}`);
      box.addEventListener("change", () => {
        this.filters.params.delete("mark");
        for (const one of those.querySelectorAll("input:checked")) this.filters.params.append("mark", one.value);
        this.filters.changed();
      });
      return line;
    }));
  }
}
