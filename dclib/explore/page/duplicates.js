/* The view of photographs that show the same. */
"use strict";

const SHOWN_COPIES = 24;   // of one group of duplicates, before the reader asks for all

function duplicatesView(main, route, remembered) {
  const { paths, bytes } = Store.photos;
  const groups = Store.groups;
  const n = groups.reduce((sum, group) => sum + group.length, 0);
  if (!groups.length) {
    fill(main, heading("Duplicates"), h("p", { class: "lead" }, `No two ${things()} show the same.`));
    return {};
  }
  const host = h("div");
  const told = h("span", { class: "muted", role: "status", id: "ticked" });
  const tickedPhotos = () => groups.flat().filter(p => Store.ticked.has(paths[p]));
  const tell = () => {
    const list = tickedPhotos();
    const room = bytesInWords(list.reduce((sum, p) => sum + bytes[p], 0));
    told.textContent = list.length ? `${list.length.toLocaleString("en")} ticked, ${room}` : "Nothing ticked";
    for (const button of main.querySelectorAll("[data-needs-ticks]")) button.disabled = !list.length;
    keep();
    showStorage();
  };
  const tick = (list, on) => {
    for (const p of list) if (on) Store.ticked.set(paths[p], bytes[p]); else Store.ticked.delete(paths[p]);
    tell();
  };
  const all = on => {
    tick(groups.flat(), false);
    if (on) tick(groups.flatMap(group => group.slice(1)), true);
    list.refresh();
  };
  const save = kind => {
    const chosen = tickedPhotos().map(p => safePath(paths[p]));
    if (kind === "csv") download("duplicates.csv", csv([["path"], ...chosen.map(path => [path])]), "text/csv");
    else {
      const whole = chosen.filter(path => !/[\r\n]/.test(path));
      download("duplicates.txt", whole.map(path => `${path}\n`).join(""), "text/plain");
      const broken = chosen.length - whole.length;
      if (broken) say(`${broken} left out, for a line break is in the name; the table has them.`, true);
    }
  };
  const button = (id, word, onclick) => h("button", { type: "button", id, "data-needs-ticks": true, onclick }, word);
  fill(main, heading("Duplicates"),
    h("p", { class: "lead" },
      `${photographs(n)} show the same as another one, in ${count(groups.length, "group", "groups")}. ` +
      "Tick those that you do not need and save the list. Nothing is deleted here."),
    h("div", { class: "row sticky" },
      h("button", { type: "button", id: "tick-all", onclick: () => all(true) }, "Tick all but the largest"),
      button("untick", "Untick all", () => all(false)),
      button("save-txt", "Save list (text)", () => save("txt")),
      button("save-csv", "Save list (CSV)", () => save("csv")),
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
  const warn = () => {
    warning.textContent = group.every(p => Store.ticked.has(paths[p])) ? "None would be left." : "";
  };
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
    h("p", { class: "row" },
      h("strong", {}, `${group.length} ${exact[group[1]] ? "exact copies" : "nearly the same"}`), warning,
      group.length > SHOWN_COPIES
        ? h("a", { href: linkTo({ view: "photographs", same: group[0] }) }, "show all of them") : null),
    h("div", { class: "copies-row" }, group.slice(0, SHOWN_COPIES).map(one)));
}
