/* What is known of the photographs, and what the reader adds: names of clusters, ticked duplicates. */
"use strict";

const Store = {
  about: null,        // title, n, root, key, groupings ...
  photos: null,       // paths, size, bytes, taken, duplicate, exact, listed
  groupings: [],      // those loaded so far
  names: {},          // grouping's name -> cluster -> name
  ticked: new Map(),  // paths of duplicates to be removed, and how many bytes each has
  keeps: true,        // whether the browser keeps what is typed
};

const waiting = new Map();
const arrived = new Map();

/* Called by the scripts in data/. */
function handOver(name, value) {
  arrived.set(name, value);
}

/* One part of the data, as a promise; loaded once. */
function part(name) {
  if (!waiting.has(name)) {
    waiting.set(name, new Promise((resolve, reject) => {
      const script = document.createElement("script");
      script.src = `data/${name}.js`;
      script.onload = () => {
        script.remove();
        const value = arrived.get(name);
        arrived.delete(name);
        if (value) resolve(value); else reject(new Error(`data/${name}.js holds nothing`));
      };
      script.onerror = () => {
        waiting.delete(name);
        reject(new Error(`data/${name}.js is missing: keep the files of this folder together`));
      };
      document.head.append(script);
    }));
  }
  return waiting.get(name);
}

/* An array of numbers from base64. */
function unpacked(text, Type) {
  const raw = atob(text);
  const bytes = new Uint8Array(raw.length);
  for (let i = 0; i < raw.length; i++) bytes[i] = raw.charCodeAt(i);
  return new Type(bytes.buffer);
}

async function loadPhotographs() {
  Store.about = await part("about");
  const p = await part("photographs");
  Store.photos = {
    paths: p.paths,
    listed: unpacked(p.listed, Uint32Array),
    size: unpacked(p.size, Uint32Array),
    bytes: unpacked(p.bytes, Uint32Array),
    taken: unpacked(p.taken, Float64Array),
    duplicate: unpacked(p.duplicate, Int32Array),
    exact: unpacked(p.exact, Uint8Array),
  };
  Store.photos.dated = Store.photos.taken.some(seconds => !Number.isNaN(seconds));
  Store.groups = duplicateGroups();
}

/* A clustering with its clusters in order of coherence and the photographs of each from middle to edge. */
async function loadGrouping(g) {
  if (Store.groupings[g]) return Store.groupings[g];
  const raw = await part(`grouping-${g}`);
  const grouping = {
    number: g,
    ...Store.about.groupings[g],
    cluster: unpacked(raw.cluster, Int32Array),
    second: unpacked(raw.second, Int32Array),
    distance: unpacked(raw.distance, Uint16Array),
    sharpness: unpacked(raw.sharpness, Uint16Array),
    place: unpacked(raw.place, Uint16Array),
    coherence: unpacked(raw.coherence, Float32Array),
  };
  const members = Array.from({ length: grouping.clusters }, () => []);
  const none = [];
  grouping.cluster.forEach((c, p) => (c < 0 ? none : members[c]).push(p));
  for (const list of members) list.sort((a, b) => grouping.distance[a] - grouping.distance[b] || a - b);
  grouping.members = members;
  grouping.none = none;
  grouping.order = members.map((_, c) => c).filter(c => members[c].length)
    .sort((a, b) => grouping.coherence[b] - grouping.coherence[a] || a - b);
  Store.groupings[g] = grouping;
  return grouping;
}

function membersOf(grouping, c) {
  return c < 0 ? grouping.none : grouping.members[c] || [];
}

/* Those almost in another cluster, the farthest from certain first. */
function edgeOf(grouping, c, count) {
  grouping.edges ??= new Map();
  if (!grouping.edges.has(c)) {
    const list = [...membersOf(grouping, c)].sort((a, b) => grouping.sharpness[a] - grouping.sharpness[b]);
    grouping.edges.set(c, list.slice(0, count));
  }
  return grouping.edges.get(c);
}

/* [{photo, cosine}] of one photograph, nearest first. */
async function neighboursOf(g, p) {
  const { block } = Store.about;
  const m = Store.about.groupings[g].neighbours;
  const raw = await part(`neighbours-${g}-${Math.floor(p / block)}`);
  raw.near ??= unpacked(raw.nearest, Uint32Array);
  raw.cosines ??= unpacked(raw.cosine, Int8Array);
  const start = (p % block) * m;
  return Array.from({ length: m }, (_, i) => ({ photo: raw.near[start + i], cosine: raw.cosines[start + i] / 127 }))
    .filter(({ photo }) => photo < Store.about.n);
}

/* Photographs like one, and those like them, by the product of cosines on the best way there; at most `count`. */
async function alike(g, p, count) {
  const best = new Map([[p, 1]]);
  const done = new Set();
  const found = [];
  while (found.length < count) {
    let next = -1;
    for (const [photo, score] of best) if (!done.has(photo) && (next < 0 || score > best.get(next))) next = photo;
    if (next < 0) break;
    done.add(next);
    found.push(next);
    for (const { photo, cosine } of await neighboursOf(g, next)) {
      const score = best.get(next) * Math.max(cosine, 0);
      if (score > (best.get(photo) ?? 0)) best.set(photo, score);
    }
  }
  return found;
}

/* [[photo, ...], ...]: photographs that show the same, the largest first, which is the one to keep. */
function duplicateGroups() {
  const { duplicate, size, bytes } = Store.photos;
  const groups = new Map();
  duplicate.forEach((group, p) => {
    if (group < 0) return;
    if (!groups.has(group)) groups.set(group, []);
    groups.get(group).push(p);
  });
  const pixels = p => size[2 * p] * size[2 * p + 1];
  const list = [...groups.values()].filter(group => group.length > 1);
  for (const group of list) group.sort((a, b) => pixels(b) - pixels(a) || bytes[b] - bytes[a] || a - b);
  return list.sort((a, b) => b.length - a.length || a[0] - b[0]);
}

/* Words. */

const count = (n, one, many) => `${n.toLocaleString("en")} ${n === 1 ? one : many}`;
const thing = () => Store.about?.words[0] ?? "photograph";   // what each of them is called
const things = () => Store.about?.words[1] ?? "photographs";
const aThing = () => `${/^[aeiou]/.test(thing()) ? "an" : "a"} ${thing()}`;
const capital = text => text[0].toUpperCase() + text.slice(1);
const photographs = n => count(n, thing(), things());

/* A name as it can be shown: a line break or another control character as its sign, a byte that is no text as a box. */
function shownName(text) {
  return text.replace(/[\u0000-\u001f]/g, c => String.fromCharCode(0x2400 + c.charCodeAt(0)))
    .replace(/[\u007f-\u009f\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]/gu, "\ufffd");
}

const fileName = p => shownName(Store.photos.paths[p].split("/").pop());

/* The end of a name tells more than its beginning where many begin alike. */
const shortName = p => { const name = fileName(p); return name.length > 17 ? `…${name.slice(-15)}` : name; };

function takenOf(p) {
  const seconds = Store.photos.taken[p];
  return Number.isNaN(seconds) ? "" : new Date(seconds * 1000).toISOString().slice(0, 16).replace("T", " ");
}

function bytesInWords(bytes) {
  return bytes >= 1e6 ? `${(bytes / 1e6).toFixed(1)} MB` : `${Math.max(1, Math.round(bytes / 1e3))} kB`;
}

/* Bytes of a text. A name on a disk may hold bytes that are no text; they come as U+DC80 to U+DCFF and go out as they
   were. */
function bytesOf(text) {
  const encoder = new TextEncoder();
  const pieces = text.split(/([\udc80-\udcff])/u).map(
    (piece, i) => (i % 2 ? Uint8Array.of(piece.charCodeAt(0) - 0xdc00) : encoder.encode(piece)));
  const bytes = new Uint8Array(pieces.reduce((sum, piece) => sum + piece.length, 0));
  let at = 0;
  for (const piece of pieces) {
    bytes.set(piece, at);
    at += piece.length;
  }
  return bytes;
}

/* One character for each byte. */
function latin(bytes) {
  let text = "";
  for (let i = 0; i < bytes.length; i += 8192) text += String.fromCharCode(...bytes.subarray(i, i + 8192));
  return text;
}

/* Where the original lies; "" where that is not known. */
function originalUrl(p) {
  if (!Store.about.root) return "";
  const path = `${Store.about.root.replace(/\\/g, "/").replace(/\/+$/, "")}/${Store.photos.paths[p]}`;
  const safe = latin(bytesOf(path)).replace(/[^A-Za-z0-9\-._~/:]/g,
    c => `%${c.charCodeAt(0).toString(16).padStart(2, "0").toUpperCase()}`);
  if (safe.startsWith("//")) return `file:${safe}`;   // of another machine
  return `file://${safe.startsWith("/") ? "" : "/"}${safe}`;
}

/* What the reader adds, kept by the browser where it does. */

const keyOf = what => `dclib-explorer-${Store.about.key}-${what}`;

/* Ticks are of photographs: those of their folder are found again whatever clusters there are, and by the clusters
   when the folder has been moved. One is not taken over by another photograph of that name, such as a camera's next
   IMG_0001.jpg; an earlier page has kept names alone. */
const ticksKeys = () => [`dclib-explorer-${Store.about.root || Store.about.key}-ticked`, keyOf("ticked")];

function loadKept() {
  try {
    localStorage.setItem("dclib-explorer", "1");
    Store.names = JSON.parse(localStorage.getItem(keyOf("names")) || "{}");
    const ticked = ticksKeys().map(key => localStorage.getItem(key)).find(text => text) || "[]";
    const { paths, bytes } = Store.photos;
    const there = new Map(paths.map((path, p) => [path, bytes[p]]));
    Store.ticked = new Map(JSON.parse(ticked).map(one => (typeof one === "string" ? [one, there.get(one)] : one))
      .filter(([path, size]) => size === (there.get(path) ?? size)));
  } catch {
    Store.keeps = false;
  }
}

function keep() {
  try {
    localStorage.setItem(keyOf("names"), JSON.stringify(Store.names));
    for (const key of ticksKeys()) localStorage.setItem(key, JSON.stringify([...Store.ticked]));
    Store.keeps = true;
  } catch {
    Store.keeps = false;
  }
  return Store.keeps;
}

const typedName = (grouping, c) => (Store.names[grouping.name] || {})[c] || "";
const numberOf = c => (c < 0 ? "No cluster" : `Cluster ${c}`);
const nameOf = (grouping, c) => shownName(typedName(grouping, c)) || numberOf(c);

function giveName(grouping, c, name) {
  const names = Store.names[grouping.name] ??= {};
  if (name.trim()) names[c] = name.trim(); else delete names[c];
  return keep();
}

/* CSV by RFC 4180. A spreadsheet takes a cell that begins with = + - @ for a formula: a path gets ./ in front, which
   means the same file, and a name gets an apostrophe, which is taken off again when names are read. */

const FORMULA = /^'*[=+\-@\t\r]/;
const safePath = path => (/^[=+\-@\t\r]/.test(path) ? `./${path}` : path);
const safeName = name => (FORMULA.test(name) ? `'${name}` : name);
const cell = text => (/[",\r\n]/.test(text) ? `"${text.replace(/"/g, '""')}"` : text);
const csv = rows => rows.map(row => row.map(value => cell(String(value))).join(",")).join("\r\n") + "\r\n";

function namesCsv(grouping) {
  const rows = Store.photos.paths.map((path, p) => {
    const c = grouping.cluster[p];
    return [safePath(path), c < 0 ? "" : c, safeName(typedName(grouping, c))];
  });
  const listed = Array.from(Store.photos.listed, p => rows[p]);
  return csv([["path", "cluster", "name"], ...listed]);
}

/* Rows of cells; `text` may hold one character for each byte, for only ASCII has a meaning here. */
function csvRows(text, separator) {
  const rows = [];
  let row = [], value = "", quoted = false;
  for (let i = 0; i < text.length; i++) {
    const c = text[i];
    if (quoted) {
      if (c !== '"') value += c;
      else if (text[i + 1] === '"') value += text[++i];
      else quoted = false;
    } else if (c === '"' && value === "") quoted = true;
    else if (c === separator) { row.push(value); value = ""; }
    else if (c === "\n" || c === "\r") {
      if (c === "\r" && text[i + 1] === "\n") i++;
      row.push(value);
      rows.push(row);
      row = [];
      value = "";
    } else value += c;
  }
  if (value || row.length) rows.push([...row, value]);
  return rows;
}

/* Names from a table of paths and names: a cluster gets the one that most of its photographs there have, so that
   names can be taken over into a clustering made anew. Returns how many clusters were named. */
function readNames(grouping, bytes) {
  const text = latin(bytes).replace(/^\xef\xbb\xbf/, "");
  const head = text.split(/[\r\n]/, 1)[0];
  const separator = [",", ";", "\t"].find(mark => head.includes(mark)) || ",";
  const [titles = [], ...rows] = csvRows(text, separator);
  const at = title => titles.findIndex(t => t.trim().toLowerCase() === title);
  const path = at("path"), name = at("name");
  if (path < 0 || name < 0) throw new Error("This table has no columns “path” and “name” in its first row.");
  const numbers = new Map(Store.photos.paths.map((p, i) => [latin(bytesOf(p)), i]));
  const votes = new Map();
  for (const row of rows) {
    const raw = row[path] ?? "";
    const p = numbers.get(raw) ?? numbers.get(raw.replace(/^\.\//, ""));
    if (p === undefined || !row[name] || grouping.cluster[p] < 0) continue;
    const typed = new TextDecoder().decode(Uint8Array.from(row[name], c => c.charCodeAt(0)));
    const names = votes.get(grouping.cluster[p]) || new Map();
    const clean = /^'+[=+\-@\t\r]/.test(typed) ? typed.slice(1) : typed;
    votes.set(grouping.cluster[p], names.set(clean, (names.get(clean) || 0) + 1));
  }
  for (const [c, names] of votes) giveName(grouping, c, [...names].sort((a, b) => b[1] - a[1])[0][0]);
  return votes.size;
}

function download(name, text, type) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([bytesOf(text)], { type }));
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10000);
}
