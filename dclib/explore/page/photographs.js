/* The views of all photographs, with search, and of one. */
"use strict";

const ALIKE = 200;   // photographs that "more like this" finds

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
    told.textContent = found.length ? photographs(found.length)
      : `No ${thing()} fits. Try fewer words or a longer time.`;
    view.list?.destroy();
    host.replaceChildren();
    host.style.height = "0";
    view.list = photoGrid(host, found,
      { label: capital(things()), words: shortName, active: remembered?.active, list: true });
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
    heading(like === null ? capital(things()) : "More like this"),
    ...(State.grouping ? [] : verdictAndNotes()),
    like === null ? null : h("p", { class: "row" },
      h("a", { class: "photo small", href: linkTo({ view: "photo", p: like }), "aria-label": fileName(like) },
        thumb(like)),
      h("span", {}, `The ${things()} most like ${fileName(like)}, and those like them. `,
        h("a", { href: linkTo({ view: "photographs" }) }, `Show all ${things()}`))),
    h("form", { class: "row search", role: "search", onsubmit: event => event.preventDefault() },
      field("q", "File or folder name", { type: "search", id: "search", placeholder: "for example 2019 beach" }),
      Store.photos.dated ? [field("from", "Taken from", { type: "date" }), field("to", "to", { type: "date" }),
        h("label", { class: "field" }, "In order",
          h("select", { onchange: event => changed("sort", event.target.value) },
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
  const turn = (by, word, label) => (step(by) === undefined ? null : h("a", {
    class: "button", href: linkTo({ view: "photo", p: step(by) }), "aria-label": label, "data-replace": true,
  }, word));
  const host = h("div");
  fill(main,
    h("nav", { class: "row spread", "aria-label": capital(things()) },
      h("button", { type: "button", onclick: back }, "← Back"),
      at < 0 ? null : h("span", { class: "row" }, turn(-1, "‹", `The ${thing()} before`),
        h("span", { class: "muted" }, `${(at + 1).toLocaleString("en")} of ${State.list.length.toLocaleString("en")}`),
        turn(1, "›", `The ${thing()} after`))),
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
  const box = h("div", { class: "large" }, thumb(p, width >= height ? "wide" : "tall"));
  box.style.aspectRatio = `${width} / ${height}`;
  const widest = Math.max(url ? width : 0, 4 * Store.about.thumb);
  if (url) {
    box.append(h("img", {
      src: url, alt: fileName(p), decoding: "async",
      onload: event => event.target.classList.add("there"),
      onerror: event => {
        event.target.remove();
        told.textContent = "This browser cannot show the original: it was moved, or is of a kind such as HEIC. " +
          "The small picture is shown.";
      },
    }));
  }
  const figure = h("figure", { class: "figure" }, box, told);
  figure.style.width = `min(100%, ${Math.round(72 * width / height)}vh, ${widest}px)`;
  return figure;
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
