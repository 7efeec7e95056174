/* Lists of any length of which only what is seen is in the page. */
"use strict";

/* An element with attributes, listeners (onclick ...) and children; text is only ever text. */
function h(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (name === "class") node.className = value;
    else if (["value", "checked", "hidden", "disabled"].includes(name)) node[name] = value;
    else if (value === true) node.setAttribute(name, "");
    else if (value !== null && value !== undefined && value !== false) node.setAttribute(name, value);
  }
  node.append(...children.flat().filter(child => child !== null && child !== undefined && child !== ""));
  return node;
}

/* A thumbnail, cut out of its sheet by the style. */
function thumb(p, className = "") {
  const { sheet } = Store.about;
  const at = p % (sheet * sheet);
  const node = h("span", { class: `thumb ${className}`, "aria-hidden": "true" });
  node.style.backgroundImage = `url("sheets/${Math.floor(p / (sheet * sheet))}.jpg")`;
  node.style.backgroundSize = `${sheet * 100}% ${sheet * 100}%`;
  node.style.backgroundPosition = `${(at % sheet) / (sheet - 1) * 100}% ${Math.floor(at / sheet) / (sheet - 1) * 100}%`;
  return node;
}

/* Items in rows below each other, in the flow of the page. `layout(width)` gives {columns, cell, gap, height(row)};
   `render(i, cell)` an element with one link or more. Arrow keys go from item to item. */
class VirtualList {
  constructor(host, { n, layout, render, label, active = 0 }) {
    Object.assign(this, { host, n, layout, render, active: Math.min(active, Math.max(0, n - 1)) });
    this.nodes = new Map();
    host.classList.add("virtual");
    host.setAttribute("role", "list");
    host.setAttribute("aria-label", label);
    this.onScroll = () => { this.frame ??= requestAnimationFrame(() => this.update()); };
    this.onKey = event => this.key(event);
    this.onFocus = event => this.focused(event);
    addEventListener("scroll", this.onScroll, { passive: true });
    host.addEventListener("keydown", this.onKey);
    host.addEventListener("focusin", this.onFocus);
    this.observer = new ResizeObserver(() => this.measure());
    this.observer.observe(host);
    this.measure();
  }

  destroy() {
    removeEventListener("scroll", this.onScroll);
    this.host.removeEventListener("keydown", this.onKey);
    this.host.removeEventListener("focusin", this.onFocus);
    this.observer.disconnect();
    cancelAnimationFrame(this.frame);
    this.gone = true;
  }

  measure() {
    const width = this.host.clientWidth;
    if (!width || width === this.width) return;
    this.width = width;
    Object.assign(this, this.layout(width));
    const rows = Math.ceil(this.n / this.columns);
    this.tops = new Float64Array(rows + 1);
    for (let row = 0; row < rows; row++) this.tops[row + 1] = this.tops[row] + this.height(row) + this.gap;
    this.host.style.height = `${Math.max(0, this.tops[rows] - this.gap)}px`;
    this.refresh();
  }

  /* Draw what is seen anew. */
  refresh() {
    for (const node of this.nodes.values()) node.remove();
    this.nodes.clear();
    this.update();
  }

  /* The last row that begins at or above `y`. */
  rowAt(y) {
    let low = 0, high = this.tops.length - 2;
    while (low < high) {
      const middle = (low + high + 1) >> 1;
      if (this.tops[middle] <= y) low = middle; else high = middle - 1;
    }
    return Math.max(0, low);
  }

  update() {
    this.frame = undefined;
    if (this.gone || !this.tops || this.tops.length < 2) return;
    const above = -this.host.getBoundingClientRect().top;
    const spare = innerHeight / 2;
    const first = this.rowAt(above - spare) * this.columns;
    const last = Math.min(this.n, (this.rowAt(above + innerHeight + spare) + 1) * this.columns);
    for (const [i, node] of this.nodes) {
      if ((i < first || i >= last) && !node.contains(document.activeElement)) {
        node.remove();
        this.nodes.delete(i);
      }
    }
    for (let i = first; i < last; i++) if (!this.nodes.has(i)) this.place(i);
  }

  place(i) {
    const row = Math.floor(i / this.columns);
    const inside = this.render(i, this.cell);
    const node = h("div", { role: "listitem", "aria-setsize": this.n, "aria-posinset": i + 1 }, inside);
    node.style.transform = `translate(${(i % this.columns) * (this.cell + this.gap)}px, ${this.tops[row]}px)`;
    node.style.width = `${this.cell}px`;
    node.style.height = `${this.height(row)}px`;
    node.dataset.item = i;
    const link = node.querySelector("a");
    if (link) link.tabIndex = i === this.active ? 0 : -1;
    const after = [...this.nodes.keys()].filter(other => other > i).sort((a, b) => a - b)[0];
    this.host.insertBefore(node, after === undefined ? null : this.nodes.get(after));
    this.nodes.set(i, node);
    return node;
  }

  /* Bring an item into view and give it the focus. */
  focus(i) {
    this.activate(i);
    const row = Math.floor(i / this.columns);
    const bar = document.querySelector(".bar").offsetHeight + 8;
    const top = this.host.getBoundingClientRect().top + this.tops[row];
    const bottom = top + this.height(row);
    if (top < bar) scrollBy(0, top - bar);
    else if (bottom > innerHeight) scrollBy(0, bottom - innerHeight + 8);
    this.update();
    (this.nodes.get(i) || this.place(i)).querySelector("a")?.focus({ preventScroll: true });
  }

  activate(i) {
    const link = at => this.nodes.get(at)?.querySelector("a");
    if (link(this.active)) link(this.active).tabIndex = -1;
    this.active = i;
    if (link(i)) link(i).tabIndex = 0;
  }

  focused(event) {
    const item = event.target.closest("[data-item]");
    if (item) this.activate(Number(item.dataset.item));
  }

  key(event) {
    if (event.target.matches("input, select, textarea") || event.altKey || event.ctrlKey || event.metaKey) return;
    const steps = {
      ArrowLeft: -1, ArrowRight: 1, ArrowUp: -this.columns, ArrowDown: this.columns,
      PageUp: -5 * this.columns, PageDown: 5 * this.columns, Home: -this.n, End: this.n,
    };
    if (!(event.key in steps)) return;
    const to = Math.max(0, Math.min(this.n - 1, this.active + steps[event.key]));
    event.preventDefault();
    event.stopPropagation();
    if (to !== this.active) this.focus(to);
  }
}

/* Squares of about `size` pixels, with `caption` pixels of words below each. */
function squares(size, caption = 0) {
  return width => {
    const gap = width < 600 ? 4 : 6;
    const columns = Math.max(width < 600 ? 3 : 2, Math.floor((width + gap) / (size + gap)));
    const cell = Math.floor((width - gap * (columns - 1)) / columns);
    return { columns, gap, cell, height: () => cell + caption };
  };
}

/* A list of photographs, each a link to itself. `words(p, i)` stands below it, `href(p)` says where it leads. */
function photoGrid(host, photos, { label, words, size = 112, active, list }) {
  return new VirtualList(host, {
    n: photos.length,
    layout: squares(size, words ? 20 : 0),
    label,
    active,
    render: i => h("a", {
      class: "photo", href: linkTo({ view: "photo", p: photos[i] }), title: fileName(photos[i]),
      "aria-label": words ? `${fileName(photos[i])}, ${words(photos[i], i)}` : fileName(photos[i]),
      onclick: () => { if (list) State.list = photos; },
    }, thumb(photos[i]), words ? h("span", { class: "caption", "aria-hidden": "true" }, words(photos[i], i)) : null),
  });
}
