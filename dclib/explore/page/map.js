/* All photographs on a plane: dots from afar, pictures from near. */
"use strict";

const NEAR = 300;    // pictures are drawn where at most so many are in view
const SHEETS = 400;  // sheets that the map keeps at hand: more than pictures in view

/* A colour for each cluster: hues a golden angle apart, so that clusters of like coherence differ. */
function colourOf(rank, dark) {
  const hue = (rank * 137.508 + 205) % 360;
  return `hsl(${hue.toFixed(0)} ${dark ? 65 : 60}% ${dark ? 62 + (rank % 3) * 6 : 40 + (rank % 3) * 7}%)`;
}

class PhotoMap {
  constructor(canvas, { grouping, onHover, onOpen, view }) {
    Object.assign(this, { canvas, onHover, onOpen });
    this.context = canvas.getContext("2d");
    this.view = view || { x: 0.5, y: 0.5, zoom: 1 };
    this.pointers = new Map();
    this.sheets = new Map();
    this.chosen = null;
    this.setGrouping(grouping);
    this.listen();
    this.observer = new ResizeObserver(() => this.resize());
    this.observer.observe(canvas);
    this.resize();
  }

  destroy() {
    this.gone = true;
    this.observer.disconnect();
    this.scheme.removeEventListener("change", this.redraw);
  }

  /* Another clustering: each photograph goes from where it was to where it is. */
  setGrouping(grouping) {
    const moving = this.grouping && !matchMedia("(prefers-reduced-motion: reduce)").matches;
    this.from = moving ? this.place : null;
    this.grouping = grouping;
    this.to = Float32Array.from(grouping.place, value => value / 65535);
    this.place = this.from || this.to;
    this.rank = new Map(grouping.order.map((c, i) => [c, i]));
    this.byCluster = [...grouping.order.map(c => [c, grouping.members[c]]), [-1, grouping.none]];
    this.begun = performance.now();
    this.draw();
  }

  resize() {
    const { clientWidth, clientHeight } = this.canvas;
    this.ratio = Math.min(2, devicePixelRatio || 1);
    this.canvas.width = Math.round(clientWidth * this.ratio);
    this.canvas.height = Math.round(clientHeight * this.ratio);
    this.width = clientWidth;
    this.height = clientHeight;
    this.draw();
  }

  draw() {
    this.frame ??= requestAnimationFrame(() => { this.frame = undefined; this.paint(); });
  }

  scale() {
    return Math.min(this.width, this.height) * 0.94 * this.view.zoom;
  }

  screen(p) {
    const scale = this.scale();
    return [(this.place[2 * p] - this.view.x) * scale + this.width / 2,
            (this.view.y - this.place[2 * p + 1]) * scale + this.height / 2];
  }

  paint() {
    if (this.gone || !this.width) return;
    this.step();
    const dark = isDark();
    const { context, ratio } = this;
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    context.clearRect(0, 0, this.width, this.height);
    const seen = [];
    const radius = Math.max(1.1, Math.min(7, 2.2 * Math.sqrt(this.view.zoom) * Math.sqrt(4000 / Store.about.n)));
    for (const [c, members] of this.byCluster) {
      const quiet = this.chosen !== null && c !== this.chosen;
      context.fillStyle = c < 0 ? "#888" : colourOf(this.rank.get(c), dark);
      context.globalAlpha = quiet ? 0.12 : 0.8;
      for (const p of members) {
        const [x, y] = this.screen(p);
        if (x < -20 || y < -20 || x > this.width + 20 || y > this.height + 20) continue;
        if (!quiet) seen.push(p);
        context.fillRect(x - radius, y - radius, 2 * radius, 2 * radius);
      }
    }
    context.globalAlpha = 1;
    if (seen.length <= NEAR) this.pictures(seen, dark);
    this.labels(dark);
    if (this.hovered !== undefined) this.ring(this.hovered);
    if (this.from) this.draw();
    this.canvas.dataset.seen = seen.length;
    this.canvas.dataset.zoom = this.view.zoom.toFixed(2);
  }

  /* One moment of the way to another clustering. */
  step() {
    if (!this.from) return;
    const t = Math.min(1, (performance.now() - this.begun) / 600);
    const eased = t * t * (3 - 2 * t);
    this.place = t < 1 ? this.to.map((value, i) => this.from[i] + (value - this.from[i]) * eased) : this.to;
    if (t >= 1) this.from = null;
  }

  pictures(seen, dark) {
    const { sheet, thumb: side } = Store.about;
    const room = Math.sqrt(this.width * this.height / Math.max(1, seen.length));
    const size = Math.max(20, Math.min(side, room * 0.6));
    for (const p of seen) {
      const image = this.sheet(Math.floor(p / (sheet * sheet)));
      if (!image.complete || !image.naturalWidth) continue;
      const at = p % (sheet * sheet);
      const [x, y] = this.screen(p);
      this.context.fillStyle = colourOf(this.rank.get(this.grouping.cluster[p]) ?? 0, dark);
      this.context.fillRect(x - size / 2 - 2, y - size / 2 - 2, size + 4, size + 4);
      this.context.drawImage(image, (at % sheet) * side, Math.floor(at / sheet) * side, side, side,
                             x - size / 2, y - size / 2, size, size);
    }
  }

  sheet(number) {
    let image = this.sheets.get(number);
    if (!image) {
      image = new Image();
      image.onload = () => this.draw();
      image.src = `sheets/${number}.jpg`;
    }
    this.sheets.delete(number);
    this.sheets.set(number, image);
    if (this.sheets.size > SHEETS) this.sheets.delete(this.sheets.keys().next().value);
    return image;
  }

  /* Names that the reader has typed, where the cluster is, and the number of the one that is shown alone. */
  labels(dark) {
    const { context, grouping } = this;
    context.font = "600 13px system-ui, sans-serif";
    context.textAlign = "center";
    context.textBaseline = "middle";
    context.lineJoin = "round";
    for (const c of grouping.order) {
      if (!(typedName(grouping, c) || c === this.chosen) || (this.chosen !== null && c !== this.chosen)) continue;
      const [x, y] = this.screen(grouping.members[c][0]);
      context.lineWidth = 4;
      context.strokeStyle = dark ? "#14181e" : "#ffffff";
      context.fillStyle = dark ? "#f0f2f5" : "#1c232b";
      context.strokeText(nameOf(grouping, c), x, y);
      context.fillText(nameOf(grouping, c), x, y);
    }
  }

  ring(p) {
    const [x, y] = this.screen(p);
    this.context.lineWidth = 3;
    this.context.strokeStyle = isDark() ? "#ffffff" : "#111111";
    this.context.beginPath();
    this.context.arc(x, y, 9, 0, 2 * Math.PI);
    this.context.stroke();
  }

  /* The photograph nearest to a point of the canvas, if one is within `reach` pixels. */
  at(x, y, reach) {
    let best, nearest = reach * reach;
    for (const [c, members] of this.byCluster) {
      if (this.chosen !== null && c !== this.chosen) continue;
      for (const p of members) {
        const [px, py] = this.screen(p);
        const d = (px - x) ** 2 + (py - y) ** 2;
        if (d < nearest) { nearest = d; best = p; }
      }
    }
    return best;
  }

  /* Zoom by a factor about a point of the canvas, which stays where it is. */
  zoom(factor, x = this.width / 2, y = this.height / 2) {
    const before = this.scale();
    this.view.zoom = Math.max(0.8, Math.min(400, this.view.zoom * factor));
    const after = this.scale();
    const dx = x - this.width / 2, dy = y - this.height / 2;
    this.view.x += dx / before - dx / after;
    this.view.y -= dy / before - dy / after;
    this.clamp();
  }

  move(dx, dy) {
    this.view.x -= dx / this.scale();
    this.view.y += dy / this.scale();
    this.clamp();
  }

  clamp() {
    this.view.x = Math.max(0, Math.min(1, this.view.x));
    this.view.y = Math.max(0, Math.min(1, this.view.y));
    this.draw();
  }

  all() {
    Object.assign(this.view, { x: 0.5, y: 0.5, zoom: 1 });
    this.draw();
  }

  hover(p, x, y, kind) {
    if (p === this.hovered && kind !== "touch") return;
    this.hovered = p;
    this.onHover(p, x, y, kind);
    this.draw();
  }

  listen() {
    const { canvas, pointers } = this;
    const place = event => [event.offsetX, event.offsetY];
    canvas.addEventListener("pointerdown", event => {
      canvas.setPointerCapture(event.pointerId);
      pointers.set(event.pointerId, place(event));
      this.moved = pointers.size > 1;
      this.start = place(event);
    });
    canvas.addEventListener("pointermove", event => {
      const [x, y] = place(event);
      if (!pointers.has(event.pointerId)) {
        if (event.pointerType === "mouse") this.hover(this.at(x, y, 24), x, y, "mouse");
        return;
      }
      const before = [...pointers.values()];
      const [px, py] = pointers.get(event.pointerId);
      pointers.set(event.pointerId, [x, y]);
      if (Math.hypot(x - this.start[0], y - this.start[1]) > 6) this.moved = true;
      if (pointers.size === 1) { if (this.moved) this.move(x - px, y - py); }
      else if (pointers.size === 2) this.pinch(before, [...pointers.values()]);
    });
    const up = event => {
      if (!pointers.delete(event.pointerId) || event.type === "pointercancel" || this.moved) return;
      const [x, y] = place(event);
      const found = this.at(x, y, 28);
      if (event.pointerType === "mouse") { if (found !== undefined) this.onOpen(found); }
      else this.hover(found, x, y, "touch");
    };
    canvas.addEventListener("pointerup", up);
    canvas.addEventListener("pointercancel", up);
    canvas.addEventListener("pointerleave", event => { if (event.pointerType === "mouse") this.hover(undefined); });
    canvas.addEventListener("wheel", event => {
      event.preventDefault();
      this.zoom(Math.exp(-event.deltaY * (event.deltaMode ? 0.05 : 0.0018)), ...place(event));
    }, { passive: false });
    canvas.addEventListener("keydown", event => this.key(event));
    this.redraw = () => this.draw();
    this.scheme = matchMedia("(prefers-color-scheme: dark)");
    this.scheme.addEventListener("change", this.redraw);
  }

  pinch(before, after) {
    const middle = ([[ax, ay], [bx, by]]) => [(ax + bx) / 2, (ay + by) / 2];
    const apart = ([[ax, ay], [bx, by]]) => Math.hypot(ax - bx, ay - by) || 1;
    const [x0, y0] = middle(before), [x1, y1] = middle(after);
    this.move(x1 - x0, y1 - y0);
    this.zoom(apart(after) / apart(before), x1, y1);
  }

  key(event) {
    const moves = { ArrowLeft: [60, 0], ArrowRight: [-60, 0], ArrowUp: [0, 60], ArrowDown: [0, -60] };
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.key in moves) this.move(...moves[event.key]);
    else if (event.key === "+" || event.key === "=") this.zoom(1.5);
    else if (event.key === "-") this.zoom(1 / 1.5);
    else if (event.key === "0") this.all();
    else if (event.key === "Enter") {
      const found = this.at(this.width / 2, this.height / 2, Infinity);
      if (found !== undefined) this.hover(found, this.width / 2, this.height / 2, "touch");
    } else return;
    event.preventDefault();
    event.stopPropagation();
  }
}

/* The view. */

function mapView(main, route) {
  const canvas = h("canvas", { id: "map", tabindex: 0, role: "img",
    "aria-label": `Map of all ${things()}. Arrows move it, plus and minus zoom, Enter shows the ${thing()} in the ` +
      `middle. The clusters, with all ${things()}, are also in the view Clusters.` });
  const card = h("div", { class: "map-card", hidden: true });
  const words = h("p", { class: "lead" });
  const chooser = h("select", { "aria-label": "Show one cluster", onchange: event => {
    map.chosen = event.target.value === "" ? null : Number(event.target.value);
    map.draw();
  } });
  const button = (word, label, onclick) => h("button",
    { type: "button", "aria-label": label, title: label, onclick }, word);
  main.classList.add("wide");
  fill(main, heading("Map"), words,
    h("div", { class: "map-box" }, canvas, card, h("div", { class: "map-tools" }, chooser,
      button("+", "Nearer", () => map.zoom(1.5)), button("−", "Farther", () => map.zoom(1 / 1.5)),
      button("⤢", `All ${things()}`, () => map.all()))));
  const onHover = (p, x, y, kind) => {
    card.hidden = p === undefined;
    if (p === undefined) return;
    const grouping = map.grouping;
    card.replaceChildren(thumb(p), h("span", { class: "map-words" }, h("strong", {}, fileName(p)),
      h("span", {}, nameOf(grouping, grouping.cluster[p])),
      kind === "touch" ? h("a", { class: "button", href: linkTo({ view: "photo", p }) }, "Open") : null));
    card.classList.toggle("still", kind === "touch");
    card.style.left = `${Math.max(0, Math.min(x + 16, map.width - card.offsetWidth - 4))}px`;
    card.style.top = `${Math.max(0, y + 16 + card.offsetHeight > map.height ? y - card.offsetHeight - 12 : y + 16)}px`;
  };
  const map = new PhotoMap(canvas, { grouping: State.grouping, view: State.mapView, onHover,
    onOpen: p => go({ view: "photo", p, g: State.grouping.number }) });
  State.mapView = map.view;
  const describe = () => {
    const { order, map: kind } = map.grouping;
    words.textContent = `Each dot is ${aThing()}, coloured by its cluster; like lies near like (${kind}). ` +
      "Zoom in until the dots turn into pictures.";
    map.chosen = null;
    chooser.replaceChildren(h("option", { value: "" }, "all clusters"),
      ...order.map(c => h("option", { value: c }, nameOf(map.grouping, c))));
  };
  describe();
  return {
    map,
    update: () => { map.setGrouping(State.grouping); describe(); },
    destroy: () => { map.destroy(); main.classList.remove("wide"); },
  };
}
