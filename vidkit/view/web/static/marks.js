// Marks 1 to 9 of clips. They are kept in this browser, by the dataset's plan; the dataset itself is never changed.

const changed = new EventTarget();

export class Marks {
  constructor(plan) {
    this.name = `vidkit-marks:${plan}`;
    this.read();
    window.addEventListener("storage", event => {
      if (event.key === this.name) { this.read(); this.tell(); }
    });
  }

  read() {
    let kept = {};
    try { kept = JSON.parse(localStorage.getItem(this.name) ?? "{}"); } catch { /* not ours, or damaged: none */ }
    this.of = new Map(Object.entries(kept).filter(([, one]) => Number.isInteger(one?.mark)));
  }

  tell() { changed.dispatchEvent(new Event(this.name)); }

  onChange(call) { changed.addEventListener(this.name, call); }

  get(key) { return this.of.get(key)?.mark ?? 0; }

  // the same mark again takes it away
  toggle(key, mark, facts) {
    const now = mark && this.get(key) !== mark ? mark : 0;
    if (now) this.of.set(key, { ...facts, mark: now }); else this.of.delete(key);
    this.keep();
    return now;
  }

  keep() {
    localStorage.setItem(this.name, JSON.stringify(Object.fromEntries(this.of)));
    this.tell();
  }

  clear() { this.of.clear(); this.keep(); }

  counts() {
    const found = new Map();
    for (const { mark } of this.of.values()) found.set(mark, (found.get(mark) ?? 0) + 1);
    return new Map([...found].sort((a, b) => a[0] - b[0]));
  }

  // keys of the clips with one of these marks; a mark of 0 means any
  keys(wanted) { return [...this.of].filter(([, one]) => wanted.has(one.mark)).map(([key]) => key); }

  csv() {
    const rows = [...this.of].map(([key, one]) => [one.id, one.mark, one.split, one.class, key]);
    rows.sort((a, b) => a[1] - b[1] || (a[0] < b[0] ? -1 : 1));
    return text([["clip_id", "mark", "split", "class", "key"], ...rows]);
  }

  // what `vidkit build-dataset --exclude` takes
  exclusions(wanted) {
    const ids = [...this.of.values()].filter(one => wanted.has(one.mark)).map(one => one.id).sort();
    return text([["clip_id"], ...ids.map(id => [id])]);
  }
}

function text(rows) {
  const cell = value => /[",\n\r]/.test(String(value)) ? `"${String(value).replaceAll('"', '""')}"` : String(value);
  return rows.map(row => row.map(cell).join(",")).join("\n") + "\n";
}

export function save(name, content) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([content], { type: "text/csv" }));
  link.download = name;
  document.body.append(link);
  link.click();
  link.remove();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
}
