// The filters beside the grid. What is chosen stands in the address, and nowhere else: it can be sent, and gone back from.

const TITLES = { split: "Split", status: "Status", error: "Failure", class: "Class", source: "Source", size: "Width x height" };
const MANY = 12;  // values: with more, there is a field to look for them

export class Filters {
  constructor(form, onChange) {
    this.form = form;
    this.facets = form.querySelector("#facets");
    this.onChange = onChange;
    this.params = new URLSearchParams(location.search);
    this.boxes = new Map();
    form.addEventListener("submit", event => event.preventDefault());
    form.addEventListener("change", event => this.take(event.target));
    for (const field of form.elements) {  // those that stand elsewhere in the page
      if (!form.contains(field)) field.addEventListener("change", () => this.take(field));
    }
    let timer = 0;
    form.addEventListener("input", event => {
      if (event.target.dataset.find) this.find(event.target);
      else if (event.target.type === "search") {
        clearTimeout(timer);
        timer = setTimeout(() => this.take(event.target, true), 180);
      }
    });
    form.querySelector(".reset").addEventListener("click", () => {
      const kept = this.params.getAll("d");
      this.params = new URLSearchParams(kept.map(one => ["d", one]));
      this.changed();
    });
    window.addEventListener("popstate", () => {
      this.params = new URLSearchParams(location.search);
      this.show();
      this.onChange();
    });
    this.show();
  }

  // --- from the page to the address

  take(field, typing = false) {
    const { name } = field;
    if (!name || field.dataset.find) return;
    if (name.endsWith("-low") || name.endsWith("-high")) {
      const range = name.split("-")[0];
      const [low, high] = ["low", "high"].map(end => this.form.elements[`${range}-${end}`].value.trim());
      this.set(range, low || high ? `${low}..${high}` : "");
    } else if (field.type === "checkbox" && name !== "warned") {
      const others = this.params.getAll(name).filter(value => value !== field.value);
      this.params.delete(name);
      for (const value of field.checked ? [...others, field.value] : others) this.params.append(name, value);
    } else this.set(name, field.type === "checkbox" ? (field.checked ? "1" : "") : field.value.trim());
    if (name === "pred" && !field.value) for (const one of ["right", "true", "said"]) this.params.delete(one);
    this.changed(typing);
  }

  set(name, value) { if (value) this.params.set(name, value); else this.params.delete(name); }

  changed(typing = false) {
    const query = this.params.toString();
    const address = location.pathname + (query ? `?${query}` : "");
    if (typing) history.replaceState(null, "", address); else history.pushState(null, "", address);
    this.show();
    this.onChange();
  }

  // --- from the address to the page

  show() {
    for (const field of this.form.elements) {
      const { name } = field;
      if (!name || field.dataset.find) continue;
      if (field.type === "checkbox") {
        field.checked = name === "warned" ? this.params.get(name) === "1" : this.params.getAll(name).includes(field.value);
      } else if (name.endsWith("-low") || name.endsWith("-high")) {
        const [low, high = ""] = (this.params.get(name.split("-")[0]) ?? "").split("..");
        field.value = name.endsWith("-low") ? low : high.replace("<", "");
      } else if (document.activeElement !== field) field.value = this.params.get(name) ?? "";
    }
    for (const one of this.form.querySelectorAll("[data-with]")) one.hidden = !this.params.has(one.dataset.with);
    const page = this.form.querySelector("#pred-page");
    if (page) page.href = `/said/${this.params.get("pred") ?? ""}`;
    const names = [...this.params.keys()].filter(name => name !== "d" && name !== "sort");
    this.form.querySelector(".reset").hidden = !names.length;
    document.body.classList.toggle("filtered", names.length > 0);
  }

  // counts by facet and value, of one dataset or added up over several
  count(found, warned) {
    for (const [name, values] of Object.entries(found)) this.facet(name, values);
    const box = this.form.elements.warned;
    box.closest("label").querySelector("output").value = warned.toLocaleString("en");
    box.closest("label").hidden = !warned && !box.checked;
  }

  facet(name, values) {
    const chosen = new Set(this.params.getAll(name)), there = Object.keys(values);
    for (const value of chosen) if (!there.includes(value)) values[value] = 0;
    let box = this.boxes.get(name);
    if (!box) {
      box = document.createElement("details");
      box.className = "facet";
      box.open = name !== "source" && name !== "size";
      box.innerHTML = "<summary></summary><fieldset><legend class=hidden></legend></fieldset>";
      box.querySelector("summary").textContent = box.querySelector("legend").textContent = TITLES[name];
      if (there.length > MANY) {
        const find = document.createElement("input");
        Object.assign(find, { type: "search", placeholder: `Find a ${TITLES[name].toLowerCase()}`, className: "find" });
        find.setAttribute("aria-label", find.placeholder);
        find.dataset.find = name;
        box.querySelector("fieldset").before(find);
      }
      this.boxes.set(name, box);
      this.facets.append(box);
    }
    box.hidden = there.length < 2 && !chosen.size && name !== "error";
    if (name === "error") box.hidden = !there.length;
    const set = box.querySelector("fieldset"), rows = new Map([...set.querySelectorAll("label")].map(one => [one.dataset.value, one]));
    for (const [value, count] of Object.entries(values)) {
      let line = rows.get(value);
      if (!line) {
        line = document.createElement("label");
        line.dataset.value = value;
        line.innerHTML = "<input type=checkbox><span></span><output></output>";
        Object.assign(line.querySelector("input"), { name, value });
        line.querySelector("span").textContent = value;
        line.title = value;
        set.append(line);
      }
      line.querySelector("input").checked = chosen.has(value);
      line.querySelector("output").value = count.toLocaleString("en");
      line.classList.toggle("none", !count);
    }
  }

  find(field) {
    const wanted = field.value.toLowerCase();
    for (const line of this.boxes.get(field.dataset.find).querySelectorAll("label")) {
      line.hidden = !line.dataset.value.toLowerCase().includes(wanted);
    }
  }
}
