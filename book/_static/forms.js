// The form that runs a page again: inputs from what the page says of itself, and two commands that follow them.
// The commands are those that dclib/report/commands.py writes; a test runs both.
(() => {
  const BREAK = " \\\n    ";
  const PLAIN_TEXT = /^(?!(?:true|false|none|nan|inf|infinity)$)[a-z_/][a-z0-9_.\/-]*$/i;
  const NUMBER = /^-?\d+(\.\d*)?(e[-+]?\d+)?$/i;

  const quote = (word) => (/^[\w@%+=:,.\/-]+$/.test(word) ? word : `'${word.replace(/'/g, `'"'"'`)}'`);
  const inQuotes = (text) => text.replace(/([\\"$`])/g, "\\$1");
  const forMake = (word) => quote(word.replace(/\$/g, "$$$$").replace(/=(?=\s)/, "=$$()"));

  // a string as JSON, but for what YAML refuses or takes for the end of a line
  const text = (value) =>
    JSON.stringify(value).replace(/[\x7f-\xa0\u2028\u2029\ufeff]/g, (c) => `\\u${c.charCodeAt(0).toString(16).padStart(4, "0")}`);
  // YAML takes 1e-5 for text and 1.0e-05 for a number, and asks for the sign of an exponent
  const number = (value) =>
    value.toLowerCase().replace(/^(-?\d+)(\.\d*)?e([-+]?)(\d+)$/, (_, whole, part, sign, power) =>
      `${whole}${part && part !== "." ? part : ".0"}e${sign || "+"}${power}`);
  const single = (kind, value) => (kind === "text" ? text(value) : kind === "bool" ? String(value) : number(value));
  const parts = (value) => value.split(",").map((one) => one.trim()).filter(Boolean);
  const yaml = (kind, value) =>
    /s$/.test(kind) ? `[${parts(value).map((one) => single(kind.slice(0, -1), one)).join(", ")}]` : single(kind, value);
  const range = (n) => `[${Array.from({ length: n }, (_, i) => i).join(", ")}]`;

  // what is wrong with a value, in words; nothing if it will do
  const wrong = (kind, value) => {
    const one = kind.replace(/s$/, "");
    if (one !== "int" && one !== "float") return "";
    const all = kind === one ? [value] : parts(value);
    const fits = (part) => (one === "int" ? /^-?\d+$/.test(part) : NUMBER.test(part));
    return all.every(fits) ? "" : `needs ${one === "int" ? "a whole number" : "a number"}${kind === one ? "" : "s, with commas between"}`;
  };
  const same = (kind, a, b) =>
    kind === "int" || kind === "float" ? a !== null && b !== null && Number(a) === Number(b) : String(a) === String(b);

  const make = (tag, attributes = {}, ...children) => {
    const element = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) {
      if (value === true) element.setAttribute(name, "");
      else if (value !== false && value !== undefined) element.setAttribute(name, value);
    }
    element.append(...children);
    return element;
  };

  const input = (field, id, now) => {
    if (field.kind === "bool") return make("input", { id, type: "checkbox", checked: Boolean(now) });
    if (field.choices && !field.free) {
      const options = field.choices.map((one) => make("option", { value: one, selected: one === now }, one || "(none)"));
      return make("select", { id }, ...options);
    }
    const mode = field.kind === "int" ? "numeric" : field.kind === "float" ? "decimal" : undefined;
    const hint = now === null ? "differs between the networks" : undefined;
    return make("input", {
      id, type: "text", value: now ?? "", inputmode: mode, placeholder: hint, list: field.free ? `${id}-list` : undefined,
      autocomplete: "off", autocapitalize: "off", spellcheck: "false",
    });
  };

  // a label, its input, its words and, where the value will not do, what it needs
  const row = (field, id, now) => {
    const element = input(field, id, now);
    const told = make("span", { id: `${id}-hint`, class: "dclib-hint" }, field.hint || "");
    const need = make("span", { id: `${id}-need`, class: "dclib-need" });
    element.setAttribute("aria-describedby", `${id}-hint ${id}-need`);
    const box = make("div", { class: "dclib-field" }, make("label", { for: id }, field.label || field.name), element, told, need);
    if (field.free) {
      box.append(make("datalist", { id: `${id}-list` }, ...field.choices.map((one) => make("option", { value: one }))));
    }
    const value = () => (field.kind === "bool" ? element.checked : element.value);
    const check = () => {
      const problem = wrong(field.kind, String(value())) || (value() < field.least ? `needs ${field.least} or more` : "");
      need.textContent = problem;
      if (problem) element.setAttribute("aria-invalid", "true");
      else element.removeAttribute("aria-invalid");
      return !problem;
    };
    return { field, box, element, value, check };
  };

  const duration = (s) => (s < 120 ? `${s.toFixed(0)} s` : s < 7200 ? `${(s / 60).toFixed(0)} min` : `${(s / 3600).toFixed(1)} h`);
  const plural = (n, word) => `${n} ${word}${n === 1 ? "" : "s"}`;

  const copy = async (words) => {
    try {
      await navigator.clipboard.writeText(words);
      return true;
    } catch {
      const area = make("textarea", { class: "dclib-away" });
      area.value = words;
      document.body.append(area);
      area.select();
      const done = document.execCommand("copy");
      area.remove();
      return done;
    }
  };

  const addCopyButton = (block) => {
    const said = make("span", { role: "status", class: "dclib-copied" });
    const button = make("button", { type: "button", class: "dclib-button" }, "Copy");
    button.setAttribute("aria-describedby", block.getAttribute("aria-labelledby"));
    button.addEventListener("click", async () => {
      said.textContent = (await copy(block.textContent)) ? "copied" : "could not be copied: select it";
      setTimeout(() => { said.textContent = ""; }, 3000);
    });
    block.after(make("div", { class: "dclib-copy" }, button, said));
  };

  const build = (box, page) => {
    const place = box.querySelector(".dclib-rerun-fields");
    const show = Object.fromEntries([...box.querySelectorAll("[data-command]")].map((one) => [one.dataset.command, one]));
    const time = box.querySelector(".dclib-time");
    const unknown = time.textContent;
    const known = new Map(page.settings.map((field) => [field.name, field]));
    const plain = page.fields.filter((field) => field.kind !== "dict");
    const rows = plain.map((field) => row(field, `rerun-${field.name}`, field.now));
    const named = Object.fromEntries(rows.map((one) => [one.field.name, one]));
    const first = { preset: named.preset.value(), data: named.data?.value() };
    const seeds = row({ name: "seeds", kind: "int", least: 1, label: "number of seeds", hint: "runs of each network that differ in chance alone" },
      "rerun-seeds", String(page.seeds));
    const more = []; // settings that were added
    const dict = page.fields.find((field) => field.kind === "dict");

    const own = () => named.preset.value() === first.preset; // the values that are known are those of this preset
    const settings = () => {
      const found = [];
      const n = Number(seeds.value());
      if (seeds.check() && n !== page.seedsOf[named.preset.value()]) found.push(["seeds", range(n), n]);
      for (const one of more) {
        const { kind, name, value } = one.field;
        const said = one.value();
        if (one.check() && !(own() && value !== null && same(kind, said, value))) found.push([name, yaml(kind, said)]);
      }
      return found;
    };

    const alone = (chosen) => {
      const words = [];
      for (const field of page.fields) {
        if (field.kind === "dict") {
          const inner = chosen.map(([key, value]) => `${text(key)}: ${value}`).join(", ");
          if (chosen.length) words.push(`-y ${quote(`{${text(field.name)}: {${inner}}}`)}`);
          continue;
        }
        const { kind, name, value } = field;
        const said = named[name].value();
        if (!named[name].check() || same(kind, said, value)) continue;
        const simple = kind === "text" && PLAIN_TEXT.test(said);
        words.push(simple ? `-p ${name} ${said}` : `-y ${quote(`{${text(name)}: ${yaml(kind, said)}}`)}`);
      }
      const out = page.notebook.replace(/\.ipynb$/, "-mine.ipynb");
      return [`${page.program} notebooks/${page.notebook} ${out} -k python3`, ...words].join(BREAK);
    };

    const options = (chosen) => chosen.map(([key, value]) => `--set ${quote(`${key}=${value}`)}`).join(" ");
    const whole = (chosen) => {
      const words = [];
      if (named.preset.value() && named.preset.value() !== page.makes) words.push(`PRESET=${inQuotes(named.preset.value())}`);
      if (named.data?.value()) words.push(`DATA=${inQuotes(named.data.value())}`);
      const count = chosen.find(([key]) => key === "seeds");
      if (count) words.push(`SEEDS=${count[2]}`);
      const rest = chosen.filter(([key]) => key !== "seeds");
      if (rest.length) words.push(`ARGS=${options(rest)}`);
      return ["make book", ...words.map(forMake)].join(BREAK);
    };

    const takes = (chosen) => {
      const others = chosen.some(([key, value]) => key !== "seeds" && !page.rows.some((one) => one[0] === key && yaml(known.get(key).kind, one[1]) === value));
      if (!page.times && own() && !others) return unknown;
      if (!page.times || others || !own() || (named.data && named.data.value() !== first.data)) {
        const given = [`--preset ${quote(named.preset.value() || page.makes)}`];
        if (named.data?.value()) given.push(`--data ${quote(named.data.value())}`);
        if (named.method) given.push(`--method ${quote(named.method.value())}`);
        const rest = options(chosen.filter(([key]) => key !== "seeds"));
        return `How long this takes is not known here. What the training of one seed takes is told by: ${[page.plan, ...given, rest].join(" ").trim()}`;
      }
      const n = Number(seeds.value()) || page.seeds;
      const of = ([fixed, each]) => fixed + n * each;
      const { cpu, jobs, reads } = page.times;
      const networks = of(page.times.networks);
      const training = networks > 0 ? `, up to ${duration(networks)} more where the networks it looks at are not trained` : "";
      return `On ${cpu}, where this book was built, with ${plural(n, "seed")}: about ${duration(of(page.times.page))} for this page`
        + `${training}; about ${duration(of(page.times.book))} for the whole book from nothing, ${jobs} pages at once. What is finished `
        + `is read back.${reads ? " It shows what other pages have measured: run those first." : ""}`;
    };

    const left = make("p", { class: "dclib-hint", role: "status" });
    const renew = () => {
      const chosen = settings();
      show.alone.textContent = alone(chosen);
      show.whole.textContent = whole(chosen);
      time.textContent = takes(chosen);
      const own = rows.filter((one) => !["preset", "data"].includes(one.field.name) && !same(one.field.kind, one.value(), one.field.now));
      const names = own.map((one) => one.field.name).join(", ");
      left.textContent = names ? `The whole book does not take ${names}: that is of this page alone.` : "";
    };

    const list = make("div", { class: "dclib-settings" });
    const addRow = (key, now) => {
      const field = known.get(key);
      if (!field || more.some((one) => one.field.name === key)) return null;
      const one = row(field, `rerun-set-${key.replace(/\W/g, "-")}`, now ?? field.value);
      const remove = make("button", { type: "button", class: "dclib-button", "aria-label": `leave out ${key}` }, "Leave out");
      remove.addEventListener("click", () => {
        more.splice(more.indexOf(one), 1);
        one.box.remove();
        picker.focus();
        renew();
      });
      one.box.append(remove);
      more.push(one);
      list.append(one.box);
      return one;
    };

    const groups = new Map();
    for (const field of page.settings) {
      const group = field.name.split(".").slice(0, -1).join(".");
      if (!groups.has(group)) groups.set(group, make("optgroup", { label: group }));
      groups.get(group).append(make("option", { value: field.name }, field.name));
    }
    const picker = make("select", { id: "rerun-add", "aria-describedby": "rerun-add-hint" }, make("option", { value: "" }, "choose one"), ...groups.values());
    const add = make("button", { type: "button", class: "dclib-button" }, "Add");
    add.addEventListener("click", () => {
      const one = addRow(picker.value);
      picker.value = "";
      if (one) one.element.focus();
      renew();
    });
    const adding = make("div", { class: "dclib-field" },
      make("label", { for: "rerun-add" }, "another setting"), picker, add,
      make("span", { id: "rerun-add-hint", class: "dclib-hint" }, dict?.hint || ""));

    const form = make("form", { "aria-label": "what this page is run with", novalidate: true });
    form.append(...rows.map((one) => one.box));
    if (dict) form.append(seeds.box, list, adding);
    for (const [key, now] of page.rows) addRow(key, now);
    form.addEventListener("input", renew);
    form.addEventListener("change", renew);
    form.addEventListener("submit", (event) => event.preventDefault());
    place.append(form);
    show.whole.after(left);
    Object.values(show).forEach(addCopyButton);
    renew();
  };

  document.addEventListener("DOMContentLoaded", () => {
    for (const box of document.querySelectorAll(".dclib-rerun")) {
      build(box, JSON.parse(box.querySelector('script[type="application/json"]').textContent));
    }
  });
})();
