// What progress/state.js says of a run, put into the front page every few seconds. It is loaded as a script, since a
// page opened as a file may not fetch.
(function () {
  "use strict";
  const SECONDS = 3;
  const SILENT = 60; // seconds without a word: the run was ended from outside
  const place = document.getElementById("dclib-progress");

  function told(state) {
    if (state.ended) return state.ended;
    if (!state.total) return "";
    const age = (Date.now() - Date.parse(state.updated)) / 1000;
    const done = state.done.length + " of " + state.total + " pages done";
    if (age > SILENT) return "A run was interrupted: " + done + ". The command make book goes on with it.";
    return [
      "A run is going on: " + done,
      state.running.length ? "at work on " + state.running.join(", ") : "",
      state.waiting.length ? state.waiting.length + " waiting: " + state.waiting.join(", ") : "",
      state.failed.length ? "failed: " + state.failed.join(", ") : "",
      state.left ? "about " + state.left + " left" : "",
    ].filter(Boolean).join("; ") + ". Load this page again to see new ones.";
  }

  window.dclibProgress = function (state) {
    place.textContent = told(state);
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
