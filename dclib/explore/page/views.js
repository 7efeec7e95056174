/* The views. Each fills `main` for a route and returns {list, update(route), destroy()}, all of which may be absent. */
"use strict";

const MIDDLE = 9, EDGE = 6;   // photographs that stand for a cluster; page.py puts them into the first sheets
const ALIKE = 200;            // photographs that "more like this" finds
const SHOWN_COPIES = 24;      // of one group of duplicates, before the reader asks for all

const heading = text => h("h1", { tabindex: -1, id: "heading" }, text);
const fill = (node, ...children) => node.append(...children.filter(child => child !== null));
const say = text => { document.getElementById("said").textContent = text; };

/* A field in which the reader names a cluster. */
function nameField(grouping, c, className) {
  return h("input", {
    class: className, type: "text", value: typedName(grouping, c), placeholder: `${numberOf(c)}: type a name`,
    "aria-label": `Name of cluster ${c}`, maxlength: 200, spellcheck: "false", autocomplete: "off",
    oninput: event => { giveName(grouping, c, event.target.value); showStorage(); },
    onkeydown: event => { if (event.key === "Enter") event.target.blur(); },
  });
}

function coherenceMeter(value) {
  const bar = h("span", { class: "meter", "aria-hidden": "true" }, h("span"));
  bar.firstChild.style.width = `${Math.round(Math.max(0, Math.min(1, value)) * 100)}%`;
  return h("span", { class: "coherence", title: "1: no photograph could as well be in another cluster" },
    bar, `coherence ${value.toFixed(2)}`);
}

/* What was said of the whole collection: shown, and to be opened. */
function verdictAndNotes() {
  const [told, notes] = ["verdict", "notes"].map(id => document.getElementById(id).content.cloneNode(true));
  return [
    told.childElementCount ? h("section", { class: "verdict", "aria-label": "What came out" }, told) : null,
    notes.childElementCount
      ? h("details", { class: "notes" }, h("summary", {}, "How this was made"), h("ul", {}, notes)) : null,
  ];
}

/* Clusters. */

function clustersView(main, route, remembered) {
  const grouping = State.grouping;
  const n = grouping.order.length;
  const host = h("div");
  fill(main,
    heading(Store.about.title),
    h("p", { class: "lead" }, `${photographs(Store.about.n)}, sorted into ${count(n, "cluster", "clusters")} by a ` +
      "network that was told nothing about them. What is in one cluster looks alike to it; the clearest come first. " +
      "Open a cluster to see all of it, and give it a name where you see what it is."),
    ...verdictAndNotes(),
    namesTools(grouping),
    grouping.none.length ? h("p", { class: "muted" }, `${photographs(grouping.none.length)} could not be sorted: `,
      h("a", { href: linkTo({ view: "cluster", c: -1 }) }, "show them")) : null,
    host,
  );
  const list = new VirtualList(host, {
    n, label: "Clusters", active: remembered?.active, layout: cardLayout,
    render: i => clusterCard(grouping, grouping.order[i]),
  });
  return { list };
}

function cardLayout(width) {
  const gap = width < 600 ? 14 : 20;
  const columns = Math.max(1, Math.floor((width + gap) / (360 + gap)));
  const cell = Math.floor((width - gap * (columns - 1)) / columns);
  const unit = (cell - 2 - 24 - 5 * 3) / 6;   // border, padding, gaps
  return { columns, gap, cell, height: () => Math.ceil(3 * unit + 3 + 133) };
}

function clusterCard(grouping, c) {
  const members = membersOf(grouping, c);
  const middle = members.slice(0, MIDDLE);
  const edge = edgeOf(grouping, c, EDGE).filter(p => !middle.includes(p));
  return h("article", { class: "card" },
    nameField(grouping, c, "card-name"),
    h("a", { class: "mosaic", href: linkTo({ view: "cluster", c }),
             "aria-label": `Open ${nameOf(grouping, c)}, ${photographs(members.length)}` },
      h("span", { class: "middle" }, middle.map(p => thumb(p))),
      h("span", { class: "edge-word" }, edge.length ? "at its edge" : ""),
      h("span", { class: "edge" }, edge.map(p => thumb(p)))),
    h("p", { class: "card-foot" }, h("span", {}, photographs(members.length)), coherenceMeter(grouping.coherence[c])));
}

function namesTools(grouping) {
  const file = h("input", {
    type: "file", accept: ".csv,text/csv", class: "unseen", id: "names-file", tabindex: -1, "aria-label": "Table of names",
    onchange: async event => {
      const [chosen] = event.target.files;
      if (!chosen) return;
      try {
        const n = readNames(grouping, new Uint8Array(await chosen.arrayBuffer()));
        await render();
        say(`${count(n, "cluster has", "clusters have")} a name from the table.`);
      } catch (error) { say(error.message); }
      document.getElementById("said").classList.add("shown");
    },
  });
  return h("div", { class: "row" },
    h("button", { type: "button", id: "names-export",
      onclick: () => download("clusters.csv", namesCsv(grouping), "text/csv") }, "Save names as a table (CSV)"),
    h("button", { type: "button", onclick: () => file.click() }, "Read names from a table"), file);
}

/* One cluster. */

const SORTS = {
  middle: "from the middle to the edge",
  edge: "from the edge to the middle",
  name: "by name",
  date: "by date",
};

function sorted(list, by, grouping) {
  const { paths, taken } = Store.photos;
  const order = {
    edge: (a, b) => grouping.sharpness[a] - grouping.sharpness[b],
    name: (a, b) => (paths[a] < paths[b] ? -1 : 1),
    date: (a, b) => (taken[a] || Infinity) - (taken[b] || Infinity) || (paths[a] < paths[b] ? -1 : 1),
  }[by];
  return order ? [...list].sort(order) : list;
}

function clusterView(main, route, remembered) {
  const grouping = State.grouping;
  const c = Number(route.c);
  const members = membersOf(grouping, c);
  const at = grouping.order.indexOf(c);
  const host = h("div");
  const by = route.sort in SORTS ? route.sort : "middle";
  const beside = (step, word) => {
    const other = grouping.order[at + step];
    return at < 0 || other === undefined ? null
      : h("a", { class: "button", href: linkTo({ view: "cluster", c: other }) }, word);
  };
  const title = heading(nameOf(grouping, c));
  const field = c < 0 ? null : nameField(grouping, c, "name");
  field?.addEventListener("input", () => { title.textContent = nameOf(grouping, c); });
  fill(main,
    h("nav", { class: "row spread", "aria-label": "Clusters" },
      h("a", { href: linkTo({ view: "clusters" }) }, "← All clusters"),
      h("span", { class: "row" }, beside(-1, "‹ Clearer"), beside(1, "Vaguer ›"))),
    title,
    h("p", { class: "row muted" }, field ? h("label", { class: "row" }, "Name", field) : null,
      h("span", {}, photographs(members.length)), c < 0 ? null : coherenceMeter(grouping.coherence[c] || 0)),
    c < 0 ? null : closest(grouping, c, members),
    h("p", {}, h("label", { class: "row" }, "In order",
      h("select", { id: "sort", onchange: event => go({ ...route, sort: event.target.value }, true) },
        Object.entries(SORTS).filter(([key]) => key !== "date" || Store.photos.dated)
          .map(([key, words]) => h("option", { value: key, selected: key === by }, words))))),
    host,
  );
  return { list: photoGrid(host, sorted(members, by, grouping),
    { label: `Photographs of ${nameOf(grouping, c)}`, active: remembered?.active, list: true }) };
}

/* Where photographs of a cluster would go if it did not exist. */
function closest(grouping, c, members) {
  const votes = new Map();
  for (const p of members) {
    const second = grouping.second[p];
    if (second >= 0) votes.set(second, (votes.get(second) || 0) + 1);
  }
  const first = [...votes].sort((a, b) => b[1] - a[1]).slice(0, 3);
  if (!first.length) return null;
  return h("p", { class: "muted" }, "Next to it: ",
    first.flatMap(([other], i) => [i ? ", " : "", h("a", { href: linkTo({ view: "cluster", c: other }) }, nameOf(grouping, other))]));
}

/* All photographs, and search. */

function foundPhotographs(route, near) {
  const { paths, taken, listed, duplicate } = Store.photos;
  Store.lower ??= paths.map(path => path.normalize("NFC").toLowerCase());
  const words = (route.q || "").normalize("NFC").toLowerCase().split(/\s+/).filter(Boolean);
  const from = Date.parse(route.from || "") / 1000, to = Date.parse(route.to || "") / 1000 + 86400;
  const dated = !Number.isNaN(from) || !Number.isNaN(to);
  const found = (near || Array.from(listed)).filter(p => words.every(word => Store.lower[p].includes(word))
    && !(dated && Number.isNaN(taken[p])) && !(taken[p] < from) && !(taken[p] >= to)
    && (route.same === undefined || duplicate[p] === duplicate[Number(route.same)]));
  return route.sort === "date" ? sorted(found, "date") : found;
}

function photographsView(main, route, remembered, near) {
  const host = h("div");
  const told = h("p", { class: "muted", role: "status", id: "found" });
  const now = { ...route };
  const view = {};
  const show = () => {
    const found = foundPhotographs(now, near);
    told.textContent = found.length ? photographs(found.length) : "No photograph fits. Try fewer words or a longer time.";
    view.list?.destroy();
    host.replaceChildren();
    host.style.height = "0";
    view.list = photoGrid(host, found, { label: "Photographs", words: shortName, active: remembered?.active, list: true });
  };
  const changed = (key, value) => {
    if (value) now[key] = value; else delete now[key];
    remembered = undefined;
    quietly(now);
    show();
  };
  let typing;
  const field = (key, label, attributes) => h("label", { class: "field" }, label, h("input", {
    ...attributes, value: route[key] || "",
    oninput: event => { clearTimeout(typing); typing = setTimeout(() => changed(key, event.target.value), 120); },
  }));
  const like = route.near === undefined ? null : Number(route.near);
  fill(main,
    heading(like === null ? "Photographs" : "More like this"),
    ...(State.grouping ? [] : verdictAndNotes()),
    like === null ? null : h("p", { class: "row" },
      h("a", { class: "photo small", href: linkTo({ view: "photo", p: like }), "aria-label": fileName(like) }, thumb(like)),
      h("span", {}, `The photographs most like ${fileName(like)}, and those like them. `,
        h("a", { href: linkTo({ view: "photographs" }) }, "Show all photographs"))),
    h("form", { class: "row search", role: "search", onsubmit: event => event.preventDefault() },
      field("q", "File or folder name", { type: "search", id: "search", placeholder: "for example 2019 beach" }),
      Store.photos.dated ? [field("from", "Taken from", { type: "date" }), field("to", "to", { type: "date" }),
        h("label", { class: "field" }, "In order", h("select", { onchange: event => changed("sort", event.target.value) },
          h("option", { value: "" }, like === null ? "of the folders" : "of likeness"),
          h("option", { value: "date", selected: route.sort === "date" }, "of date")))] : null),
    told, host,
  );
  show();
  view.destroy = () => clearTimeout(typing);
  return view;
}

async function searchView(main, route, remembered) {
  const near = route.near !== undefined && State.grouping
    ? await alike(State.grouping.number, Number(route.near), ALIKE) : null;
  return photographsView(main, route, remembered, near);
}

/* One photograph. */

async function photoView(main, route, remembered) {
  const p = Number(route.p);
  const grouping = State.grouping;
  const near = grouping ? await neighboursOf(grouping.number, p) : [];
  const at = State.list ? State.list.indexOf(p) : -1;
  const step = by => (at < 0 ? undefined : State.list[at + by]);
  const turn = (by, word, label) => (step(by) === undefined ? null
    : h("a", { class: "button", href: linkTo({ view: "photo", p: step(by) }), "aria-label": label, "data-replace": true }, word));
  const host = h("div");
  fill(main,
    h("nav", { class: "row spread", "aria-label": "Photographs" },
      h("button", { type: "button", onclick: back }, "← Back"),
      at < 0 ? null : h("span", { class: "row" }, turn(-1, "‹", "The photograph before"),
        h("span", { class: "muted" }, `${(at + 1).toLocaleString("en")} of ${State.list.length.toLocaleString("en")}`),
        turn(1, "›", "The photograph after"))),
    heading(fileName(p)),
    h("div", { class: "sheet" }, largeView(p), facts(grouping, p)),
  );
  if (!near.length) return { turn: step };
  const cosines = new Map(near.map(({ photo, cosine }) => [photo, cosine]));
  fill(main,
    h("div", { class: "row spread" }, h("h2", { id: "neighbours" }, "Its neighbours"),
      h("a", { href: linkTo({ view: "photographs", near: p }) }, "More like this")),
    h("p", { class: "muted" }, "Most alike first; 1.00 is the highest likeness."), host);
  const list = photoGrid(host, near.map(({ photo }) => photo), {
    label: "Its neighbours", active: remembered?.active, words: photo => cosines.get(photo).toFixed(2) });
  return { list, turn: step };
}

/* The original where it can be shown; until then, or where it cannot, the thumbnail. */
function largeView(p) {
  const [width, height] = [Store.photos.size[2 * p] || 1, Store.photos.size[2 * p + 1] || 1];
  const url = originalUrl(p);
  const told = h("figcaption", { class: "muted" });
  const only = reason => { told.textContent = `${reason} The small picture is shown.`; box.classList.add("only-small"); };
  const box = h("div", { class: "large" }, thumb(p, width >= height ? "wide" : "tall"));
  box.style.aspectRatio = `${width} / ${height}`;
  box.style.maxWidth = `min(100%, ${Math.round(72 * width / height)}vh, ${Math.max(width, 4 * Store.about.thumb)}px)`;
  if (url) {
    box.append(h("img", { src: url, alt: fileName(p), decoding: "async",
      onload: event => event.target.classList.add("there"),
      onerror: event => { event.target.remove(); only("This browser cannot show the original: it was moved, or is of a kind such as HEIC."); } }));
  } else box.style.maxWidth = `min(100%, ${4 * Store.about.thumb}px)`;
  return h("figure", { class: "figure" }, box, told);
}

function facts(grouping, p) {
  const { paths, size, bytes, duplicate, exact } = Store.photos;
  const rows = [["Folder", shownName(paths[p].split("/").slice(0, -1).join("/")) || "the top one"]];
  if (takenOf(p)) rows.push(["Taken", takenOf(p)]);
  rows.push(["Size", `${size[2 * p]} × ${size[2 * p + 1]} pixels, ${bytesInWords(bytes[p])}`]);
  if (grouping && grouping.cluster[p] >= 0) {
    const c = grouping.cluster[p], second = grouping.second[p], sharp = grouping.sharpness[p] / 65535;
    const link = to => h("a", { href: linkTo({ view: "cluster", c: to }) }, nameOf(grouping, to));
    rows.push(["Cluster", link(c)]);
    if (second >= 0) rows.push(["Next best", h("span", {}, link(second), sharp < 0.05 ? ", almost as well"
      : sharp < 0.2 ? ", not much worse" : ", clearly worse")]);
  }
  if (duplicate[p] >= 0) {
    const others = Store.groups.find(group => group.includes(p))?.filter(q => q !== p) || [];
    rows.push([exact[p] ? "Exact copies" : "Nearly the same", h("span", {}, others.slice(0, 8).flatMap((q, i) =>
      [i ? ", " : "", h("a", { href: linkTo({ view: "photo", p: q }) }, fileName(q))]))]);
  }
  const url = originalUrl(p);
  if (url) rows.push(["Original", h("a", { href: url, target: "_blank", rel: "noopener" }, "open the file")]);
  return h("dl", { class: "facts" }, rows.flatMap(([name, value]) => [h("dt", {}, name), h("dd", {}, value)]));
}

/* The map. */

function mapView(main, route) {
  const canvas = h("canvas", { id: "map", tabindex: 0, role: "img",
    "aria-label": "Map of all photographs. Arrows move it, plus and minus zoom, Enter shows the photograph in the middle. " +
      "The clusters, with all photographs, are also in the view Clusters." });
  const card = h("div", { class: "map-card", hidden: true });
  const words = h("p", { class: "lead" });
  const chooser = h("select", { "aria-label": "Show one cluster", onchange: event => {
    map.chosen = event.target.value === "" ? null : Number(event.target.value);
    map.draw();
  } });
  const button = (word, label, action) => h("button", { type: "button", "aria-label": label, title: label, onclick: action }, word);
  main.classList.add("wide");
  fill(main, heading("Map"), words,
    h("div", { class: "map-box" }, canvas, card, h("div", { class: "map-tools" }, chooser,
      button("+", "Nearer", () => map.zoom(1.5)), button("−", "Farther", () => map.zoom(1 / 1.5)),
      button("⤢", "All photographs", () => map.all()))));
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
    words.textContent = `Each dot is a photograph, coloured by its cluster; like lies near like (${kind}). ` +
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

/* Duplicates. */

function duplicatesView(main, route, remembered) {
  const { paths, bytes } = Store.photos;
  const groups = Store.groups;
  const n = groups.reduce((sum, group) => sum + group.length, 0);
  if (!groups.length) {
    fill(main, heading("Duplicates"), h("p", { class: "lead" }, "No two photographs show the same."));
    return {};
  }
  const host = h("div");
  const told = h("span", { class: "muted", role: "status", id: "ticked" });
  const tickedPhotos = () => groups.flat().filter(p => Store.ticked.has(paths[p]));
  const tell = () => {
    const list = tickedPhotos();
    told.textContent = list.length ? `${list.length.toLocaleString("en")} ticked, ${bytesInWords(list.reduce((sum, p) => sum + bytes[p], 0))}`
      : "Nothing ticked";
    for (const button of main.querySelectorAll("[data-needs-ticks]")) button.disabled = !list.length;
    keep();
    showStorage();
  };
  const tick = (list, on) => {
    for (const p of list) if (on) Store.ticked.add(paths[p]); else Store.ticked.delete(paths[p]);
    tell();
  };
  const all = on => { for (const group of groups) { tick(group, false); if (on) tick(group.slice(1), true); } list.refresh(); };
  const save = kind => {
    const chosen = tickedPhotos().map(p => safePath(paths[p]));
    if (kind === "csv") download("duplicates.csv", csv([["path"], ...chosen.map(path => [path])]), "text/csv");
    else {
      const whole = chosen.filter(path => !/[\r\n]/.test(path));
      download("duplicates.txt", whole.map(path => `${path}\n`).join(""), "text/plain");
      if (whole.length < chosen.length) say(`${chosen.length - whole.length} left out, for a line break is in the name; the table has them.`);
      document.getElementById("said").classList.toggle("shown", whole.length < chosen.length);
    }
  };
  fill(main, heading("Duplicates"),
    h("p", { class: "lead" }, `${photographs(n)} show the same as another one, in ${count(groups.length, "group", "groups")}. ` +
      "Tick those that you do not need and save the list. Nothing is deleted here."),
    h("div", { class: "row sticky" },
      h("button", { type: "button", id: "tick-all", onclick: () => all(true) }, "Tick all but the largest"),
      h("button", { type: "button", "data-needs-ticks": true, onclick: () => all(false) }, "Untick all"),
      h("button", { type: "button", "data-needs-ticks": true, id: "save-txt", onclick: () => save("txt") }, "Save list (text)"),
      h("button", { type: "button", "data-needs-ticks": true, id: "save-csv", onclick: () => save("csv") }, "Save list (CSV)"),
      told),
    host);
  const list = new VirtualList(host, {
    n: groups.length, label: "Groups of duplicates", active: remembered?.active,
    layout: width => copiesLayout(width, groups), render: i => copies(groups[i], tick),
  });
  tell();
  return { list };
}

const COPY = { gap: 12, words: 104, head: 56 };   // pixels, as in style.css

function copiesLayout(width, groups) {
  const gap = 14;
  const columns = width >= 1000 ? 2 : 1;
  const cell = Math.floor((width - gap * (columns - 1)) / columns);
  const inner = cell - 26;
  const across = Math.max(2, Math.floor((inner + COPY.gap) / (180 + COPY.gap)));
  const side = Math.floor((inner - COPY.gap * (across - 1)) / across);
  const height = row => {
    const most = Math.max(...groups.slice(row * columns, (row + 1) * columns).map(group => group.length));
    return COPY.head + Math.ceil(Math.min(most, SHOWN_COPIES) / across) * (side + COPY.words);
  };
  document.documentElement.style.setProperty("--copies", across);
  return { columns, gap, cell, height };
}

function copies(group, tick) {
  const { paths, size, bytes, exact } = Store.photos;
  const warning = h("span", { class: "alarm" });
  const warn = () => { warning.textContent = group.every(p => Store.ticked.has(paths[p])) ? "None would be left." : ""; };
  const one = (p, i) => h("div", { class: "copy" },
    h("a", { class: "photo", href: linkTo({ view: "photo", p }), "aria-label": fileName(p) }, thumb(p)),
    h("label", { class: "tick" }, h("input", { type: "checkbox", checked: Store.ticked.has(paths[p]),
      "aria-label": `Remove ${fileName(p)}`, onchange: event => { tick([p], event.target.checked); warn(); } }),
    h("span", {}, "remove"), i === 0 ? h("span", { class: "badge", title: "It is the largest" }, "keep") : null),
    h("span", { class: "clip", title: shownName(paths[p]) }, shownName(paths[p])),
    h("span", { class: "muted clip" }, `${size[2 * p]} × ${size[2 * p + 1]}, ${bytesInWords(bytes[p])}`),
    h("span", { class: "muted clip" }, takenOf(p)));
  warn();
  return h("section", { class: "copies" },
    h("p", { class: "row" }, h("strong", {}, `${group.length} ${exact[group[1]] ? "exact copies" : "nearly the same"}`), warning,
      group.length > SHOWN_COPIES ? h("a", { href: linkTo({ view: "photographs", same: group[0] }) }, "show all of them") : null),
    h("div", { class: "copies-row" }, group.slice(0, SHOWN_COPIES).map(one)));
}
