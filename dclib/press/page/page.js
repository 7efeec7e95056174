// The page: takes a picture from its reader, and shows what the two networks make of it where an example stood.
"use strict";
(() => {
  const { Refusal, about, network, readPicture, turned } = window.dclibNetwork;
  const CLUSTERING = "deepercluster", SHEET = "#f4f1ea";
  const get = (name) => document.getElementById(`net-${name}`);
  const { image_size: size, resize } = about.networks[CLUSTERING];
  const networks = {};
  let seen = null; // of the picture on the page, by network
  let asked = 0; // pictures that were given so far: the last one counts

  const say = (words, wrong = false) => {
    get("said").textContent = words;
    get("said").classList.toggle("net-refused", wrong);
  };

  function load() {
    get("load").disabled = true;
    say("Loading the networks …");
    const scripts = Object.keys(about.networks).map((name) => new Promise((done, failed) => {
      const script = document.createElement("script");
      script.src = `network/${name}.js`;
      script.onload = () => done((networks[name] = network(name, about)));
      script.onerror = failed;
      document.head.append(script);
    }));
    return Promise.all(scripts).then(
      () => {
        get("load").hidden = true;
        for (const name of ["inputs", "which"]) get(name).hidden = false;
        emptySheet();
        say("Loaded. Take an example, drop a picture, or draw.");
        document.querySelector(".net-examples button").focus();
      },
      () => {
        get("load").disabled = false;
        say("The networks could not be loaded: their files are not beside this page, in the folder network. Build or copy the book whole.", true);
      },
    );
  }

  // whatever a reader gives, with a sentence in its place where it is no picture
  async function give(blob, words = "") {
    const mine = ++asked;
    try {
      if (!blob) throw new Refusal("Nothing came along that is a file. Save the picture first, then drop or choose it here.");
      say("Looking …");
      const { pixels, note } = await readPicture(blob, resize, size);
      if (mine === asked) show(pixels, [words, note]);
    } catch (error) {
      if (mine !== asked) return;
      say(error instanceof Refusal ? error.message : "That could not be shown; take another picture.", true);
      if (!(error instanceof Refusal)) console.warn(error);
    }
  }

  function show(pixels, notes) {
    const views = [0, 1, 2, 3].map((turn) => turned(pixels, size, turn));
    const began = performance.now();
    seen = Object.fromEntries(Object.entries(networks).map(([name, one]) => [name, views.map((view) => one.see(view))]));
    const found = networks[CLUSTERING].place(seen[CLUSTERING][0].features);
    const took = performance.now() - began;
    showSeen(pixels, seen[CLUSTERING][0].sobel);
    views.forEach((view, turn) => {
      get(`turn-${turn}`).src = colours(view);
      for (const name in networks) showBelief(name, turn, seen[name][turn].turns);
    });
    showClusters(found.clusters);
    get("near").replaceChildren(...found.near.slice(0, 12).map((i) => thumb(i, found.cosines[i].toFixed(2))));
    showLayers();
    const passes = 4 * Object.keys(networks).length;
    say([...notes, `${passes} passes, of two networks and four turns, took ${Math.ceil(took)} ms.`].filter(Boolean).join(" "));
    window.dclibNetwork.shown = { pixels, seen, found, took };
  }

  // a picture as an address that holds it: red, green and blue at each place, by its row and column
  function picture(width, height, ...levels) {
    const canvas = document.createElement("canvas");
    [canvas.width, canvas.height] = [width, height];
    const context = canvas.getContext("2d", { willReadFrequently: true });
    const image = context.createImageData(width, height), data = image.data.fill(255);
    for (let c = 0; c < 3; c++) {
      const level = levels[c % levels.length];
      for (let y = 0, at = c; y < height; y++) {
        for (let x = 0; x < width; x++, at += 4) data[at] = level(y, x);
      }
    }
    context.putImageData(image, 0, 0);
    return canvas.toDataURL();
  }

  const colours = (pixels) => picture(size, size, ...[0, 1, 2].map((c) => (y, x) => pixels[(c * size + y) * size + x]));

  function showSeen(pixels, { maps, side }) {
    const scale = maps.reduce((most, value) => Math.max(most, Math.abs(value)), 1e-12);
    get("picture").src = colours(pixels);
    ["across", "down"].forEach((name, c) => {
      get(name).src = picture(side, side, (y, x) => 127.5 + (127.5 * maps[(c * side + y) * side + x]) / scale);
    });
  }

  function showBelief(name, turn, shares) {
    const most = shares.indexOf(Math.max(...shares));
    shares.forEach((share, told) => {
      const cell = get(`${name}-${turn}-${told}`);
      cell.textContent = `${Math.round(100 * share)} %`;
      cell.style.setProperty("--share", share.toFixed(3));
      cell.classList.toggle("net-right", told === most && told === turn);
      cell.classList.toggle("net-wrong", told === most && told !== turn);
    });
  }

  function showClusters(order) {
    [0, 1].forEach((place) => {
      const cluster = order[place], sizes = about.clusters;
      const words = `${["Cluster", "Second choice: cluster"][place]} ${cluster} of ${sizes.length}, ${sizes[cluster].toLocaleString("en")} images`;
      get(`cluster-${place}`).textContent = words;
      const members = [...about.pool.cluster.keys()].filter((i) => about.pool.cluster[i] === cluster);
      get(`members-${place}`).replaceChildren(...members.slice(0, 9).map((i) => thumb(i, about.pool.names[i])));
    });
  }

  function thumb(i, words) {
    const figure = document.createElement("figure"), cell = document.createElement("span");
    const caption = document.createElement("figcaption");
    cell.className = "net-thumb";
    cell.setAttribute("role", "img");
    cell.setAttribute("aria-label", about.pool.names[i]);
    cell.title = about.pool.names[i];
    cell.style.setProperty("--across", about.pool.across);
    cell.style.setProperty("--x", i % about.pool.across);
    cell.style.setProperty("--y", Math.floor(i / about.pool.across));
    caption.textContent = words;
    figure.append(cell, caption);
    return figure;
  }

  function showLayers() {
    const name = document.querySelector("[name=net-which]:checked").value, cell = 34;
    seen[name][0].maps.forEach(({ maps, channels, side }, number) => {
      const plane = side * side, brightest = maps.reduce((a, b) => Math.max(a, b), 1e-12);
      const sums = Array.from({ length: channels }, (_, c) => maps.subarray(c * plane, (c + 1) * plane).reduce((a, b) => a + b, 0));
      const order = [...sums.keys()].sort((a, b) => sums[b] - sums[a]).slice(0, 8);
      get(`maps-${number}`).src = picture(8 * (cell + 2) - 2, cell, (y, x) => {
        const channel = order[Math.floor(x / (cell + 2))], u = x % (cell + 2);
        if (u >= cell || channel === undefined) return 128;
        const at = Math.floor((y * side) / cell) * side + Math.floor((u * side) / cell);
        return (255 * maps[channel * plane + at]) / brightest;
      });
      const lit = maps.reduce((n, value) => n + (value > 0), 0) / maps.length;
      get(`lit-${number}`).textContent = `${Math.round(100 * lit)} %`;
    });
  }

  // the sheet

  const sheet = get("sheet"), pen = sheet.getContext("2d");
  let last = null;

  function emptySheet() {
    pen.fillStyle = SHEET;
    pen.fillRect(0, 0, sheet.width, sheet.height);
  }

  function draw(event) {
    const box = sheet.getBoundingClientRect();
    const at = [((event.clientX - box.left) * sheet.width) / box.width, ((event.clientY - box.top) * sheet.height) / box.height];
    pen.strokeStyle = get("colour").value;
    pen.lineWidth = get("brush").value;
    pen.lineCap = "round";
    pen.beginPath();
    pen.moveTo(...(last || at));
    pen.lineTo(...at);
    pen.stroke();
    last = at;
  }

  sheet.addEventListener("pointerdown", (event) => {
    sheet.setPointerCapture(event.pointerId);
    draw(event);
  });
  sheet.addEventListener("pointermove", (event) => last && draw(event));
  for (const end of ["pointerup", "pointercancel"]) {
    sheet.addEventListener(end, () => {
      if (last) sheet.toBlob((blob) => give(blob, "Your drawing."));
      last = null;
    });
  }
  get("clear").addEventListener("click", emptySheet);

  // what is given

  get("load").addEventListener("click", load);
  get("file").addEventListener("change", (event) => {
    if (event.target.files.length) give(event.target.files[0]);
    event.target.value = ""; // so that the same file can be chosen again
  });
  for (const button of document.querySelectorAll(".net-examples button")) {
    button.addEventListener("click", () => {
      const image = button.firstElementChild;
      const bytes = Uint8Array.from(atob(image.src.split(",")[1]), (letter) => letter.charCodeAt(0));
      give(new Blob([bytes]), `An example: ${image.alt}.`);
    });
  }
  get("which").addEventListener("change", () => seen && showLayers());

  // a picture may be dropped anywhere: one that missed its place would take the page away
  const drop = get("drop");
  document.addEventListener("dragover", (event) => {
    event.preventDefault();
    drop.classList.toggle("net-over", drop.contains(event.target));
  });
  document.addEventListener("drop", async (event) => {
    event.preventDefault();
    drop.classList.remove("net-over");
    const files = [...(event.dataTransfer ? event.dataTransfer.files : [])];
    if (get("inputs").hidden) await load();
    if (!get("inputs").hidden) give(files[0], files.length > 1 ? "Several came; this is the first." : "");
  });

  window.dclibNetwork.give = give;
  get("controls").hidden = false;
})();
