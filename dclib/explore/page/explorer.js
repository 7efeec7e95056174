/* Which view is shown, by the part of the address behind #, so that back works; keys, light and dark. */
"use strict";

const State = { route: {}, grouping: null, list: null, view: null, mapView: null, depth: 0 };
const remembered = new Map();   // address -> where the reader was in it
let replacing = false;          // the next address takes the place of this one, for back
let turn = 0;                   // counts renderings: a late one gives way

const VIEWS = {
  clusters: { title: "Clusters", draw: clustersView, sorted: true },
  map: { title: "Map", draw: mapView, sorted: true },
  photographs: { get title() { return capital(things()); }, draw: searchView },
  duplicates: { title: "Duplicates", draw: duplicatesView },
  cluster: { tab: "clusters", draw: clusterView, sorted: true },
  photo: { draw: photoView },
};

const main = document.getElementById("main");
const hasGroupings = () => Store.about.groupings.length > 0;
const tabs = () => ["clusters", "map", "photographs", "duplicates"]
  .filter(name => hasGroupings() || !VIEWS[name].sorted);

function linkTo(route) {
  const wanted = { ...route };
  if (wanted.g === undefined && State.grouping) wanted.g = State.grouping.number;
  if (!Number(wanted.g)) delete wanted.g;
  return `#${new URLSearchParams(wanted)}`;
}

/* The route of an address; what does not exist gives way to the first view. */
function routeOf(address) {
  const route = Object.fromEntries(new URLSearchParams(address.replace(/^#/, "")));
  const { n, groupings } = Store.about;
  const whole = value => /^\d+$/.test(value);
  if (!(route.view in VIEWS) || (VIEWS[route.view].sorted && !hasGroupings())) route.view = tabs()[0];
  if (!whole(route.g) || Number(route.g) >= groupings.length) delete route.g;
  for (const key of ["p", "near", "same"]) if (!whole(route[key]) || Number(route[key]) >= n) delete route[key];
  if (route.view === "photo" && route.p === undefined) route.view = "photographs";
  if (route.view === "cluster" && !/^(-1|\d+)$/.test(route.c)) route.view = "clusters";
  return route;
}

function go(route, instead = false) {
  follow(linkTo(route), instead);
}

function follow(address, instead) {
  replacing = instead && address !== location.hash;
  if (instead) location.replace(address); else location.hash = address;
}

/* Another address for what is shown already. */
function quietly(route) {
  State.route = route;
  try { history.replaceState(history.state, "", linkTo(route)); } catch { /* the address stays behind */ }
  State.address = location.hash;
}

function back() {
  if (State.depth > 0) history.back();
  else go({ view: tabs()[0] });
}

function remember() {
  if (State.address !== undefined) remembered.set(State.address, { ...remembered.get(State.address), y: scrollY });
}

function rememberItem() {
  if (State.address === undefined || !State.view) return;
  const { list } = State.view;
  remembered.set(State.address, { y: 0, ...remembered.get(State.address), active: list?.active, list: State.list });
}

/* Draw the view of the address. `fresh`: it was not reached by back or forward; `instead`: in the place of the last
   one. */
async function render(fresh = true, instead = false) {
  rememberItem();
  const mine = ++turn;
  const route = routeOf(location.hash);
  const grouping = hasGroupings() ? await loadGrouping(Number(route.g || 0)) : null;
  if (mine !== turn) return;
  const samePlace = State.view?.update && State.route.view === route.view;
  const still = instead && State.route.view === route.view && State.route.p === route.p;
  const was = still ? { y: scrollY } : fresh ? undefined : remembered.get(location.hash);
  const focus = still ? document.activeElement?.id : "";
  const first = State.address === undefined;
  Object.assign(State, { route, grouping, address: location.hash });
  drawBar();
  if (samePlace) { State.view.update(route); return; }
  if (was?.list) State.list = was.list;
  const stage = h("div");
  const { draw } = VIEWS[route.view];
  State.view?.list?.destroy();
  State.view?.destroy?.();
  State.view = null;
  main.style.minHeight = was ? `${was.y + innerHeight}px` : "";
  main.replaceChildren(stage);
  const view = await draw(stage, route, was);
  if (mine !== turn) { view.list?.destroy(); view.destroy?.(); return; }
  State.view = view;
  const title = stage.querySelector("h1")?.textContent || Store.about.title;
  document.title = title === Store.about.title ? title : `${title} · ${Store.about.title}`;
  say("");
  scrollTo(0, was ? was.y : 0);
  view.list?.update();
  if (was && view.list?.nodes.has(view.list.active)) {
    view.list.nodes.get(view.list.active).querySelector("a")?.focus({ preventScroll: true });
  } else if (focus) document.getElementById(focus)?.focus({ preventScroll: true });
  else if (!first && document.activeElement === document.body) {
    stage.querySelector("h1")?.focus({ preventScroll: true });
  }
  main.dataset.shown = location.hash;
}

/* The bar: views, and the clustering where there are several. */
function drawBar() {
  const { view } = State.route;
  const here = VIEWS[view].tab || view;
  document.getElementById("tabs").replaceChildren(...tabs().map(name => h("a", {
    href: linkTo({ view: name }), "aria-current": name === here ? "page" : null,
  }, VIEWS[name].title, name === "duplicates" && Store.groups.length
    ? h("span", { class: "count" }, Store.groups.length.toLocaleString("en")) : null)));
  const bar = document.getElementById("grouping");
  const { groupings } = Store.about;
  bar.hidden = groupings.length < 2 || view === "duplicates";
  if (bar.hidden) return;
  const now = State.grouping.number;
  if (!bar.childElementCount) bar.append(...groupingControls(groupings));
  bar.querySelector("select").value = now;
  const slider = bar.querySelector("input");
  if (slider) {
    slider.value = now;
    slider.setAttribute("aria-valuetext", shownName(groupings[now].name));
  }
}

function groupingControls(groupings) {
  const choose = g => {
    const { view } = State.route;
    if (g < 0 || g >= groupings.length) return;
    go(view === "cluster" ? { view: "clusters", g } : { ...State.route, g }, true);
  };
  const select = h("select", { id: "grouping-choice", onchange: event => choose(Number(event.target.value)) },
    families(groupings.map(({ name, family }, g) => [family, h("option", { value: g }, shownName(name))])));
  const label = h("label", { for: "grouping-choice" }, "Clusters");
  if (groupings.length < 3) return [label, select];
  const step = (by, word, name) => h("button", { type: "button", class: "quiet", "aria-label": name,
    onclick: () => choose(State.grouping.number + by) }, word);
  return [label, select, step(-1, "‹", "The clustering before"), h("input", {
    type: "range", min: 0, max: groupings.length - 1, step: 1, "aria-label": "Step through the clusterings",
    oninput: event => choose(Number(event.target.value)) }), step(1, "›", "The clustering after")];
}

/* Options under a heading for each family, or as they are where there is one family. */
function families(options) {
  const names = [...new Set(options.map(([family]) => family))];
  const of = name => options.filter(([family]) => family === name).map(([, option]) => option);
  return names.length < 2 ? of(names[0]) : names.map(name => h("optgroup", { label: shownName(name) }, of(name)));
}

function showStorage() {
  const told = document.getElementById("storage");
  told.hidden = Store.keeps;
  told.textContent = Store.keeps ? "" : "This browser does not keep what you type from one visit to the next. " +
    "Save names and lists to files before you close this page.";
}

/* Light and dark. */

const isDark = () => {
  const { theme } = document.documentElement.dataset;
  return theme ? theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
};

function setTheme(theme) {
  if (theme) document.documentElement.dataset.theme = theme;
  State.view?.map?.draw();
}

function switchTheme() {
  const theme = isDark() ? "light" : "dark";
  setTheme(theme);
  try { localStorage.setItem("dclib-explorer-theme", theme); } catch { /* it lasts as long as the page */ }
}

/* Keys. */

function onKey(event) {
  if (event.ctrlKey || event.metaKey || event.altKey || document.getElementById("help-text").open) return;
  const typing = event.target.matches("input, select, textarea");
  if (event.key === "Escape") {
    if (typing) event.target.blur();
    else if (State.route.view === "cluster") go({ view: "clusters" });
    else if (State.route.view === "photo") back();
    return;
  }
  if (typing) return;
  const { view, route } = State;
  if (event.key === "/") search();
  else if (event.key === "?") document.getElementById("help-text").showModal();
  else if (/^[1-4]$/.test(event.key) && tabs()[event.key - 1]) go({ view: tabs()[event.key - 1] });
  else if (route.view === "photo" && (event.key === "ArrowLeft" || event.key === "ArrowRight")) {
    const p = view?.turn?.(event.key === "ArrowLeft" ? -1 : 1);
    if (p !== undefined) go({ view: "photo", p }, true);
  } else if (event.key.startsWith("Arrow") && view?.list?.n && !event.target.closest("a, button")) {
    view.list.focus(view.list.active);
  } else return;
  event.preventDefault();
}

async function search() {
  if (State.route.view !== "photographs") {
    go({ view: "photographs" });
    for (let i = 0; i < 40 && !document.getElementById("search"); i++) await new Promise(done => setTimeout(done, 25));
  }
  document.getElementById("search")?.focus();
}

function onClick(event) {
  const link = event.target.closest('a[href^="#"]');
  if (!link || event.ctrlKey || event.metaKey || event.shiftKey) return;
  event.preventDefault();
  if (link.id === "skip") {
    if (State.view?.list?.n) State.view.list.focus(State.view.list.active); else main.focus();
  } else {
    const address = link.getAttribute("href");
    if (address === location.hash) failing(render());
    else follow(address, link.hasAttribute("data-replace"));
  }
}

async function start() {
  history.scrollRestoration = "manual";
  history.replaceState({ depth: 0 }, "");
  try { setTheme(localStorage.getItem("dclib-explorer-theme")); } catch { /* as the system has it */ }
  document.getElementById("theme").addEventListener("click", switchTheme);
  document.getElementById("help").addEventListener("click", () => document.getElementById("help-text").showModal());
  document.addEventListener("keydown", onKey);
  document.addEventListener("click", onClick);
  await loadPhotographs();
  loadKept();
  showStorage();
  addEventListener("hashchange", () => {
    const fresh = history.state === null, instead = fresh && replacing;
    replacing = false;
    State.depth = fresh ? State.depth + (instead ? 0 : 1) : history.state.depth;
    if (fresh) history.replaceState({ depth: State.depth }, "");
    failing(render(fresh, instead));
  });
  addEventListener("scroll", remember, { passive: true });
  await render();
  document.documentElement.dataset.ready = performance.now().toFixed(0);
}

/* What went wrong, in words, where the photographs would be. */
function failing(promise) {
  promise.catch(error => {
    console.error(error);
    main.replaceChildren(heading("This cannot be shown"), h("p", { class: "warning" }, `${error.message}.`));
  });
}

failing(start());
