// What a word of the glossary means, beside the word: under the pointer, with the keyboard's focus, at a tap.
// Escape closes it; it stays while the pointer is on it. The definitions come as a script, for pages are opened as files.
(() => {
  "use strict";
  const TERMS = "a.dclib-term, a.reference:has(> .std-term)";
  const WAIT = 200; // ms in which the pointer may go from the word to the box
  let box, shown, leaving;
  let loading;

  const load = (link) =>
    (loading ||= new Promise((resolve) => {
      const script = document.createElement("script");
      script.src = new URL("glossary_terms.js", link.href).href;
      script.onload = () => resolve(window.dclibTerms);
      script.onerror = () => resolve({}); // the link still leads to the glossary
      document.head.append(script);
    }));

  const hide = () => {
    clearTimeout(leaving);
    if (!shown) return;
    shown.removeAttribute("aria-describedby");
    shown = undefined;
    if (box) box.hidden = true;
  };
  const hideSoon = () => {
    clearTimeout(leaving);
    leaving = setTimeout(hide, WAIT);
  };
  const stay = () => clearTimeout(leaving);

  const make = () => {
    box = document.createElement("div");
    box.id = "dclib-meaning";
    box.setAttribute("role", "tooltip");
    box.hidden = true;
    box.addEventListener("pointerenter", stay);
    box.addEventListener("pointerleave", hideSoon);
    document.body.append(box);
  };

  const place = (link) => {
    const word = link.getClientRects()[0];
    const wide = document.documentElement.clientWidth;
    box.style.left = "0";
    box.style.top = "0";
    const left = Math.max(8, Math.min(word.left, wide - box.offsetWidth - 8));
    const below = word.bottom + box.offsetHeight + 12 < window.innerHeight;
    const top = below || word.top < box.offsetHeight + 12 ? word.bottom + 6 : word.top - box.offsetHeight - 6;
    box.style.left = `${left + window.scrollX}px`;
    box.style.top = `${top + window.scrollY}px`;
  };

  const show = async (link) => {
    stay();
    if (shown === link) return;
    hide();
    shown = link;
    const meaning = (await load(link))[new URL(link.href).hash.slice(1)];
    if (shown !== link || !meaning) return;
    if (!box) make();
    box.innerHTML = meaning;
    box.hidden = false;
    link.setAttribute("aria-describedby", box.id);
    place(link);
  };

  const termOf = (event) => event.target.closest?.(TERMS);
  document.addEventListener("pointerover", (event) => {
    const link = termOf(event);
    if (link && event.pointerType !== "touch") show(link);
  });
  document.addEventListener("pointerout", (event) => {
    if (termOf(event) && event.pointerType !== "touch" && termOf(event) !== document.activeElement) hideSoon();
  });
  document.addEventListener("focusin", (event) => {
    const link = termOf(event);
    if (link?.matches(":focus-visible")) show(link);
  });
  document.addEventListener("focusout", (event) => termOf(event) && hideSoon());
  document.addEventListener("keydown", (event) => event.key === "Escape" && hide());
  window.addEventListener("resize", () => shown && box && !box.hidden && place(shown));
  document.addEventListener("click", (event) => {
    const link = termOf(event);
    if (link && event.pointerType === "touch" && shown !== link) {
      event.preventDefault(); // a first tap shows, a second one follows the link
      show(link);
    } else if (!link && !event.target.closest?.("#dclib-meaning")) {
      hide();
    }
  });
})();
