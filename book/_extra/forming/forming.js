/* How clusters form: maps of the images at each clustering of a run, moved by a slider. The page's figure, which
   shows the same without scripts, goes into a fold below. */
"use strict";

(() => {
  const MOVE = 900, STAY = 1700;   // milliseconds that the dots move, and that playing stays at a clustering
  const EDGE = 10;                 // pixels around a map
  const still = matchMedia("(prefers-reduced-motion: reduce)");
  const isDark = () => document.documentElement.dataset.theme === "dark";

  const bytes = text => Uint8Array.from(atob(text), letter => letter.charCodeAt(0));
  const numbers = (text, Kind) => new Kind(bytes(text).buffer);

  function make(tag, attributes = {}, ...children) {
    const node = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) {
      if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
      else node.setAttribute(name, value);
    }
    node.append(...children);
    return node;
  }

  /* Hues a golden angle apart, as in the figure; lighter on a dark page. */
  function colourOf(cluster, dark) {
    const hue = (cluster * 137.508 + 205) % 360;
    return `hsl(${hue.toFixed(0)} 60% ${(dark ? 56 : 42) + (cluster % 3) * 8}%)`;
  }

  /* One network: its map, what there is to say of the clustering, and a few clusters' pictures. */
  class Panel {
    constructor(data, number, from) {
      Object.assign(this, { data, from, step: 0, one: null });
      this.canvas = make("canvas", { role: "img" });
      this.context = this.canvas.getContext("2d");
      this.said = make("p", { class: "forming-said" });
      this.rows = make("div", { class: "forming-clusters" });
      this.choice = make("select", { "aria-label": "Network", onchange: () => this.choose(+this.choice.value) },
        ...data.networks.map((network, i) => make("option", { value: i }, network.title)));
      this.choice.value = number;
      this.node = make("section", { class: "forming-panel", "aria-label": "Map of one network" },
        this.choice, this.canvas, this.said, this.rows);
      this.choose(number);
      new ResizeObserver(() => this.draw()).observe(this.canvas);
      new MutationObserver(() => this.show(this.step)).observe(document.documentElement,
        { attributes: true, attributeFilter: ["data-theme"] });
    }

    choose(number) {
      const network = this.data.networks[number];
      this.network = network;
      this.one = null;
      this.places = network.places.map(text => Float32Array.from(numbers(text, Uint16Array), value => value / 65535));
      this.clusters = network.clusters.map(text => numbers(text, network.bytes === 1 ? Uint8Array : Uint32Array));
      this.place = null;
      this.show(this.step);
    }

    get last() { return this.network.when.length - 1; }

    /* Go to a clustering; a network that has fewer stays at its last. */
    show(wanted) {
      this.step = wanted;
      this.at = Math.min(wanted, this.last);
      this.from_ = this.place;
      this.to = this.places[this.at];
      this.begun = this.from_ && this.from_ !== this.to && !still.matches ? performance.now() : null;
      if (this.begun === null) this.place = this.to;
      this.tell();
      this.draw();
    }

    tell() {
      const { network, at } = this, percent = share => `${Math.round(100 * share)} %`;
      const parts = at ? [`${percent(network.changed[at])} of all images changed their cluster`,
        `agreement with the clustering before ${network.agreement[at].toFixed(2)} of 1`] : [];
      if (network.colour.length) {
        parts.push(`clusters account for ${percent(network.colour[at])} of how images differ in their mean colour`);
      }
      const text = `${network.when[at]}${parts.length ? `: ${parts.join("; ")}` : ""}.`;
      this.said.textContent = text[0].toUpperCase() + text.slice(1);
      this.canvas.setAttribute("aria-label",
        `Map of ${this.data.mapped} images by ${network.title}. ${this.said.textContent}`);
      this.rows.replaceChildren(...network.followed.map((cluster, row) => this.row(cluster, row)));
    }

    /* A followed cluster: a button that lights up its dots, and its pictures. */
    row(cluster, row) {
      const count = this.clusters[this.at].reduce((sum, one) => sum + (one === cluster), 0);
      const button = make("button", { type: "button", "aria-pressed": this.one === cluster, onclick: () => {
        this.one = this.one === cluster ? null : cluster;
        this.tell();
        this.draw();
        this.rows.children[row].firstChild.focus();
      } }, make("span", { class: "forming-key", style: `background:${colourOf(cluster, isDark())}` }),
      count ? `${count} images` : "not yet");
      const pictures = this.data.tiles ? this.network.pictures[this.at][row] : [];
      return make("div", { class: "forming-cluster" }, button,
        make("span", { class: "forming-pictures", role: "img",
          "aria-label": count ? `${pictures.length} of its images` : "no images yet" },
        ...pictures.map(tile => this.picture(tile))));
    }

    picture(tile) {
      const { side, perRow } = this.data;
      const left = (tile % perRow) * side, top = Math.floor(tile / perRow) * side;
      return make("span", { class: "forming-picture", style: `width:${side}px;height:${side}px;` +
        `background:url("${this.from}sheet.jpg") -${left}px -${top}px` });
    }

    draw() {
      this.frame ??= requestAnimationFrame(now => { this.frame = undefined; this.paint(now); });
    }

    paint(now) {
      const { canvas, context } = this, side = canvas.clientWidth;
      if (!side) return;
      const ratio = Math.min(2, devicePixelRatio || 1);
      if (canvas.width !== Math.round(side * ratio)) canvas.width = canvas.height = Math.round(side * ratio);
      if (this.begun !== null) this.move(now);
      context.setTransform(ratio, 0, 0, ratio, 0, 0);
      context.clearRect(0, 0, side, side);
      const clusters = this.clusters[this.at], { place } = this, dark = isDark(), dot = side < 330 ? 2.6 : 3.2;
      const own = this.byColour() ? this.ownColours() : null, names = new Map();
      for (let i = 0; i < clusters.length; i++) {
        const cluster = clusters[i];
        if (!names.has(cluster)) names.set(cluster, colourOf(cluster, dark));
        context.globalAlpha = this.one === null || this.one === cluster ? 0.9 : 0.07;
        context.fillStyle = own ? own[i] : names.get(cluster);
        context.fillRect(EDGE + place[2 * i] * (side - 2 * EDGE) - dot / 2,
          EDGE + place[2 * i + 1] * (side - 2 * EDGE) - dot / 2, dot, dot);
      }
      if (this.begun !== null) this.draw();
    }

    /* Dots on the way from where they were to where they are. */
    move(now) {
      const part = Math.min(1, Math.max(0, (now - this.begun) / MOVE)), eased = part * part * (3 - 2 * part);
      const { from_, to } = this;
      this.place = part < 1 ? to.map((value, i) => from_[i] + eased * (value - from_[i])) : to;
      if (part >= 1) this.begun = null;
    }

    byColour() { return this.data.byColour && this.data.colours; }

    ownColours() {
      this.data.painted ??= (values => Array.from({ length: values.length / 3 },
        (_, i) => `rgb(${values[3 * i]} ${values[3 * i + 1]} ${values[3 * i + 2]})`))(bytes(this.data.colours));
      return this.data.painted;
    }
  }

  function build(place, data) {
    const from = place.dataset.from, count = data.networks.length;
    const panels = Array.from({ length: Math.min(2, count) }, (_, i) => new Panel(data, i, from));
    const last = Math.max(...data.networks.map(network => network.when.length)) - 1;
    const slider = make("input", { type: "range", min: 0, max: last, step: 1, value: 0,
      "aria-label": "Clustering", oninput: () => { stop(); go(+slider.value); } });
    const when = make("output", { "aria-live": "polite" });
    const play = make("button", { type: "button", onclick: () => (timer ? stop() : start()) });
    let timer = null;

    function go(step) {
      slider.value = step;
      const words = data.networks.reduce((a, b) => (a.when.length < b.when.length ? b : a)).when[step];
      when.textContent = words;
      slider.setAttribute("aria-valuetext", words);
      for (const panel of panels) panel.show(step);
      place.dataset.shown = step;
    }
    function start() {
      go(+slider.value >= last ? 0 : +slider.value + 1);
      timer = setInterval(() => (+slider.value >= last ? stop() : go(+slider.value + 1)), STAY);
      play.textContent = "❚❚ Pause";
    }
    function stop() {
      clearInterval(timer);
      timer = null;
      play.textContent = "▶ Play";
    }

    const tint = make("input", { type: "checkbox", onchange: () => {
      data.byColour = tint.checked;
      for (const panel of panels) panel.draw();
    } });
    const controls = make("div", { class: "forming-controls" }, play, slider, when);
    if (data.colours) controls.append(make("label", {}, tint, " dots in the images' own mean colours"));
    const figure = make("details", { class: "dclib-fold" }, make("summary", {}, "All clusterings side by side"),
      ...place.childNodes);
    place.append(controls, make("div", { class: "forming-panels" }, ...panels.map(panel => panel.node)), figure);
    addEventListener("beforeprint", () => { figure.open = true; });   // paper has no slider
    stop();
    go(0);
  }

  window.dclibForming = data => {
    for (const place of document.querySelectorAll(".dclib-forming[data-from]")) build(place, data);
  };
})();
