/* The views of clusters, and what views share. Each view fills `main` for a route and returns {list, update(route),
   destroy()}, all of which may be absent. */
"use strict";

const MIDDLE = 9, EDGE = 6;   // photographs that stand for a cluster; page.py puts them into the first sheets

const heading = text => h("h1", { tabindex: -1, id: "heading" }, text);
const fill = (node, ...children) => node.append(...children.filter(child => child !== null));
/* Words read aloud; `shown` to all for a while. */
function say(text, shown = false) {
  const said = document.getElementById("said");
  said.textContent = text;
  said.classList.toggle("shown", shown);
  clearTimeout(say.timer);
  if (shown) say.timer = setTimeout(() => said.classList.remove("shown"), 8000);
}

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
  return h("span", { class: "coherence", title: `1: no ${thing()} could as well be in another cluster` },
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
    heading(shownName(Store.about.title)),
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
      h("span", { class: "edge-word", "data-word": edge.length ? "at its edge" : "" }),
      h("span", { class: "edge" }, edge.map(p => thumb(p)))),
    h("p", { class: "card-foot" }, h("span", {}, photographs(members.length)), coherenceMeter(grouping.coherence[c])));
}

function namesTools(grouping) {
  const file = h("input", {
    type: "file", accept: ".csv,text/csv", class: "unseen", id: "names-file", tabindex: -1,
    "aria-label": "Table of names",
    onchange: async event => {
      const [chosen] = event.target.files;
      if (!chosen) return;
      try {
        const n = readNames(grouping, new Uint8Array(await chosen.arrayBuffer()));
        await render();
        say(`${count(n, "cluster has", "clusters have")} a name from the table.`, true);
      } catch (error) { say(error.message, true); }
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
    { label: `${capital(things())} of ${nameOf(grouping, c)}`, active: remembered?.active, list: true }) };
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
    first.flatMap(([other], i) => [i ? ", " : "",
      h("a", { href: linkTo({ view: "cluster", c: other }) }, nameOf(grouping, other))]));
}
