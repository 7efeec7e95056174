// What progress/state.js says of a run, put into the front page every few seconds. It is loaded as a script, since a
// page opened as a file may not fetch.
(function () {
  "use strict";
  const SECONDS = 3;
  const SILENT = 60; // seconds without a word: the run was ended from outside
  const place = document.getElementById("dclib-progress");

  function named(pages) {
    return pages.map(function (page) { return page.replace(/_/g, " "); }).join(", ");
  }

  function told(state) {
    if (state.ended) return state.ended;
    if (!state.total) return "";
    const age = (Date.now() - Date.parse(state.updated)) / 1000;
    const done = state.done.length + " of " + state.total + " pages done";
    if (age > SILENT) return "A run was interrupted: " + done + ". The command make book goes on with it.";
    return [
      "A run is going on: " + done,
      state.running.length ? "at work on " + named(state.running) : "",
      state.waiting.length ? state.waiting.length + " waiting: " + named(state.waiting) : "",
      state.failed.length ? "failed: " + named(state.failed) : "",
      state.left ? "about " + state.left + " left" : "",
    ].filter(Boolean).join("; ") + ". Load this page again to see new ones.";
  }

  window.dclibProgress = function (state) {
    place.textContent = told(state);
    if (!state.total) return;
    const bar = document.createElement("progress");
    bar.max = state.total;
    bar.value = state.done.length;
    bar.setAttribute("aria-label", "pages done");
    place.prepend(bar, document.createElement("br"));
  };

  function load() {
    const script = document.createElement("script");
    script.src = "progress/state.js?" + Date.now();
    script.onload = script.onerror = function () { script.remove(); };
    document.body.appendChild(script);
  }

  load();
  setInterval(load, 1000 * SECONDS);
})();
