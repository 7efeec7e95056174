// What tests/reading_pages.py asks of a page in a browser. Every answer is a list of sentences about one element each,
// but for `tabbing` and `words`, which give what Python goes on with.
window.reading = (() => {
  const named = node => {
    if (!node || node.nodeType !== 1) return String(node);
    const id = node.id ? `#${node.id}` : [...node.classList].slice(0, 3).map(name => `.${name}`).join('');
    const text = (node.getAttribute('aria-label') || node.textContent || '').trim().replace(/\s+/g, ' ').slice(0, 40);
    return `<${node.localName}${id}>${text ? ` "${text}"` : ''}`;
  };
  const seen = node => node.checkVisibility({visibilityProperty: true}) && node.getClientRects().length > 0;
  const style = getComputedStyle;
  const still = () => {
    const sheet = new CSSStyleSheet();  // an element with styles may be against a page's own rules
    sheet.replaceSync(`*, *::before, *::after { transition: none !important; animation: none !important;
                           scroll-behavior: auto !important; caret-color: transparent !important }
      html.without-words *, html.without-words *::before { -webkit-text-fill-color: transparent !important;
                                                           text-shadow: none !important;
                                                           text-decoration-color: transparent !important }
      html.without-words .reading-above { visibility: hidden !important }
      html.without-words svg text, html.without-words svg tspan { fill: transparent !important }`);
    document.adoptedStyleSheets = [...document.adoptedStyleSheets, sheet];
  };
  const openAll = () => {
    document.activeElement?.blur();
    for (const node of document.querySelectorAll('details')) node.open = true;
  };

  const ready = async () => {
    for (const image of document.images) image.loading = 'eager';
    await Promise.all([...document.images].map(image => image.decode().catch(() => {})));
    await document.fonts.ready;
    still();
  };

  // ---- sideways
  const sideways = () => {
    const width = document.documentElement.clientWidth;
    const over = document.scrollingElement.scrollWidth - width;
    if (over <= 0) return [];
    const held = node => {
      for (let p = node.parentElement; p && p !== document.body; p = p.parentElement)
        if (style(p).overflowX !== 'visible') return true;
      return false;
    };
    const wide = [...document.querySelectorAll('body *')].filter(
      node => node.getBoundingClientRect().right > width + 0.5 && seen(node) && !held(node)
        && style(node).position !== 'fixed');
    const last = wide.filter(node => !wide.some(other => other !== node && node.contains(other)));
    return [`scrolls sideways by ${over} px: ${last.slice(0, 3).map(named).join(', ')}`];
  };

  // ---- how words are set
  const set = () => {
    const found = new Set();
    const texts = document.createTreeWalker(document.querySelector('article') || document.body, NodeFilter.SHOW_TEXT);
    while (texts.nextNode()) {
      const node = texts.currentNode.parentElement;
      if (!texts.currentNode.data.trim() || !seen(node)) continue;
      if (style(node).fontWeight < 400 && !node.closest('math')) found.add(`words in a thin face: ${named(node)}`);
      if (!node.closest('th')) continue;
      for (const word of texts.currentNode.data.matchAll(/[\p{L}\d_]{2,}/gu)) {
        if (word[0].includes('_')) continue;  // a name from a program may be longer than any column
        const range = document.createRange();
        range.setStart(texts.currentNode, word.index);
        range.setEnd(texts.currentNode, word.index + word[0].length);
        const lines = new Set([...range.getClientRects()].map(rect => Math.round(rect.top)));
        if (lines.size > 1) found.add(`a word of a table's head is broken: ${named(node)}`);
      }
    }
    return [...found];
  };

  // ---- formulas
  const formulas = () => {
    const wrong = [...document.querySelectorAll('.math')].filter(node => {
      const made = node.querySelector('math');
      return !made || (seen(node) && made.getBoundingClientRect().width < 1);
    });
    return wrong.map(node => `a formula is not shown: ${named(node)}`);
  };

  // ---- keyboard
  const FOCUSABLE = 'a[href], button, input, select, textarea, summary, iframe, [tabindex], [contenteditable]';
  const look = node => {
    const s = style(node);
    const line = parseFloat(s.outlineWidth) > 0 && s.outlineStyle !== 'none' ? `${s.outlineColor}` : '';
    return [line, s.boxShadow, s.backgroundColor, s.borderColor, s.borderStyle, s.textDecorationLine,
            s.textDecorationThickness, s.color].join('|');
  };
  const looks = node => [node, node.parentElement, ...node.children].filter(n => n && n.nodeType === 1).map(look).join('/');
  const inGroup = node => node.localName === 'input' && node.type === 'radio' && node.name;
  let before = new Map(), visited = new Set(), order = [], unseen = [];
  const wanted = () => [...document.querySelectorAll(FOCUSABLE)].filter(node =>
    node.tabIndex >= 0 && !node.disabled && seen(node) && !node.closest('[inert]')
    && (node.localName !== 'summary' || node.parentElement.localName === 'details')
    && (!inGroup(node) || node.checked));
  const tabbing = () => {
    before = new Map(wanted().map(node => [node, looks(node)]));
    visited = new Set(); order = []; unseen = [];
    document.addEventListener('focusin', event => {
      const node = event.target;
      if (visited.has(node)) return;
      visited.add(node);
      order.push(node);
      const sized = [node, ...node.querySelectorAll('*')].map(part => part.getBoundingClientRect());
      if (before.has(node) && looks(node) === before.get(node)) unseen.push(`focus is not to be seen on ${named(node)}`);
      else if (!sized.some(rect => rect.width > 1 && rect.height > 1)) unseen.push(`focus goes to something that has no size: ${named(node)}`);
    });
    document.activeElement?.blur();
    return before.size;
  };
  const tabbed = () => {
    const missed = [...before.keys()].filter(node => !visited.has(node) && node.isConnected && seen(node) && !inGroup(node));
    const found = missed.map(node => `the Tab key never comes to ${named(node)}`);
    const first = order[0];
    const target = first?.localName === 'a' && (first.id === 'skip' || document.getElementById(first.hash.slice(1)));
    if (first && document.querySelector('article') && !target)
      found.push(`the first Tab comes to ${named(first)}; it must be a link past the menus, to an element of the page`);
    return [...found, ...unseen];
  };
  const mouseOnly = () => {
    const reached = node => node.closest(FOCUSABLE) || node.closest('label')
      || (node.closest('details') && node.closest('summary'));
    const found = [...document.querySelectorAll('body *')].filter(node => style(node).cursor === 'pointer' && seen(node)
      && (!node.parentElement || style(node.parentElement).cursor !== 'pointer') && !reached(node));
    return found.map(node => `can be pressed by a mouse alone: ${named(node)}; make it a button or a link`);
  };
  const labels = () => [...document.querySelectorAll('label')].filter(node => {
    const own = node.control;
    return seen(node) && own && (!(own.tabIndex >= 0) || !own.checkVisibility({visibilityProperty: true}));
  }).map(node => `a label whose field the keyboard cannot reach: ${named(node)}`);

  // ---- contrast
  const parts = text => (text.match(/[\d.]+(?:e-?\d+)?/g) || []).map(Number);
  const colour = text => {
    let [r, g, b, a = 1] = parts(text);
    if (text.startsWith('color(srgb')) [r, g, b] = [r * 255, g * 255, b * 255];
    return [r, g, b, a];
  };
  const over = (top, below) => top.slice(0, 3).map((v, i) => v * top[3] + below[i] * (1 - top[3]));
  const linear = v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4;
  const light = ([r, g, b]) => 0.2126 * linear(r / 255) + 0.7152 * linear(g / 255) + 0.0722 * linear(b / 255);
  const ratio = (one, other) => {
    const [a, b] = [light(one), light(other)].sort((x, y) => y - x);
    return (a + 0.05) / (b + 0.05);
  };
  const ground = new Map();
  const behind = node => {  // {flat: colour of what lies behind, by the styles, share: what opacity leaves, image}
    if (!node) return {flat: [...colour(style(document.documentElement).backgroundColor)], share: 1, image: null};
    if (ground.has(node)) return ground.get(node);
    const s = style(node), below = behind(node.parentElement), own = colour(s.backgroundColor);
    let base = below.flat[3] === 0 ? [255, 255, 255] : below.flat;
    const made = {flat: over(own, base), share: below.share * parseFloat(s.opacity), image: below.image};
    if (own[3] > 0.99) made.image = null;
    if (s.backgroundImage !== 'none') made.image = node;
    ground.set(node, made);
    return made;
  };
  const clipped = (node, rect) => rect.width < 2 || rect.height < 2 || style(node).clip === 'rect(0px, 0px, 0px, 0px)'
    || rect.right + scrollX < 0 || rect.bottom + scrollY < 0;
  const bare = on => {  // without words, and without what stands above the page
    if (on)
      for (const node of document.querySelectorAll('body *'))
        if (['fixed', 'sticky'].includes(style(node).position)) node.classList.add('reading-above');
    document.documentElement.classList.toggle('without-words', on);
  };
  const root = node => {
    while (node.ownerSVGElement) node = node.ownerSVGElement;
    return node.getBoundingClientRect();
  };
  const words = () => {
    ground.clear();
    const {mode, theme} = document.documentElement.dataset;
    const wanted = matchMedia('(prefers-color-scheme: dark)').matches ? 'dark' : 'light';
    if (theme && theme !== wanted) throw new Error(`the page is ${theme} (${mode}) where the system asks for ${wanted}`);
    const low = [], onPictures = [], counted = new Map(), met = new Set();
    let looked = 0;
    const fields = [...document.querySelectorAll('input, textarea')].filter(n => seen(n)
      && !['hidden', 'range', 'checkbox', 'radio', 'color', 'file', 'image'].includes(n.type));
    const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
    const jobs = [];
    while (texts.nextNode())
      if (texts.currentNode.data.trim()) jobs.push([texts.currentNode.parentElement, texts.currentNode, null]);
    for (const field of fields)
      if (field.placeholder || field.value) jobs.push([field, null, field.value ? null : '::placeholder']);
    for (const [node, text, pseudo] of jobs) {
      if (!node || ['SCRIPT', 'STYLE', 'NOSCRIPT', 'TEMPLATE', 'TITLE', 'DESC', 'OPTION'].includes(node.tagName.toUpperCase())) continue;
      if (!seen(node) && !(node.ownerSVGElement && node.getClientRects().length)) continue;
      if (node.closest(':disabled, [aria-disabled="true"]')) continue;
      const inSvg = node.ownerSVGElement;
      const s = style(node, pseudo);
      looked++;
      if (inSvg) {
        const rect = node.getBoundingClientRect();
        if (!clipped(node, rect)) onPictures.push([rect, s.fill, parseFloat(s.fillOpacity) * parseFloat(s.opacity), named(node), '', root(node)]);
        continue;
      }
      const back = behind(node);
      const own = colour(s.color);
      own[3] *= back.share * (pseudo ? parseFloat(s.opacity) : 1);
      if (back.image) {
        let rect = node.getBoundingClientRect();
        if (text) {
          const range = document.createRange();
          range.selectNodeContents(text);
          rect = range.getBoundingClientRect();
        }
        const box = back.image.getBoundingClientRect();
        const inside = rect.left >= box.left - 1 && rect.right <= box.right + 1 && rect.top >= box.top - 1;
        if (clipped(node, rect) || !inside) continue;  // scrolled out of its box
        const edge = rect.left - box.left < 24 ? 'l' : box.right - rect.right < 24 ? 'r' : '';
        const same = [s.color, back.flat.map(Math.round), back.image.className, style(back.image).backgroundImage.length,
                      box.width > 600, edge].join(';');
        if (counted.has(same)) continue;
        counted.set(same, 1);
        onPictures.push([rect, s.color, back.share, named(node), same, box]);
        continue;
      }
      const value = ratio(over(own, back.flat), back.flat);
      if (value < 4.5) {
        const rect = node.getBoundingClientRect();
        if (clipped(node, rect) && !pseudo) continue;
        const said = `contrast ${value.toFixed(2)} (${s.color} on rgb(${back.flat.map(Math.round)})): ${named(node)}`;
        if (!met.has(`${node.className}${value}`)) low.push(said);
        met.add(`${node.className}${value}`);
      }
    }
    const box = r => [r.left + scrollX, r.top + scrollY, r.width, r.height];
    return {looked, low, onPictures: onPictures.map(([rect, fill, share, name, same, picture]) =>
      ({box: box(rect), picture: box(picture), colour: colour(fill), share, name, same}))};
  };

  // ---- axe-core
  const accessible = async rules => {
    const options = {resultTypes: ['violations'], iframes: false, preload: false};
    if (rules) options.runOnly = {type: 'rule', values: rules};
    const found = await axe.run(document, options);
    return found.violations.filter(v => ['serious', 'critical'].includes(v.impact)).flatMap(v =>
      v.nodes.slice(0, 5).map(n => `axe ${v.id} (${v.impact}): ${n.html.slice(0, 160)}: `
        + (n.failureSummary || v.help).replace(/\s+/g, ' ').slice(0, 200)));
  };
  return {ready, openAll, sideways, set, formulas, tabbing, tabbed, mouseOnly, labels, words, bare, accessible};
})();
