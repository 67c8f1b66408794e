// Tiles that stand in a page from the beginning: they play, and keys mark them.

import { Marks } from "./marks.js";
import { watch } from "./play.js";

export function marked(root, marks) {
  const show = () => {
    for (const tile of root.querySelectorAll(".tile")) {
      const key = tile.querySelector("a").pathname.split("/").pop(), mark = marks.get(key);
      let shown = tile.querySelector(".mark");
      if (!shown && mark) { shown = document.createElement("b"); shown.className = "mark"; tile.append(shown); }
      if (shown) { shown.textContent = mark || ""; shown.dataset.mark = mark; }
    }
  };
  marks.onChange(show);
  show();
}

for (const root of document.querySelectorAll("article")) {
  watch(root);
  if (root.dataset.pane) marked(root, new Marks(JSON.parse(root.dataset.pane).marks));
}
