// Says what live figures, outputs and checks say in the page's language. The page holds a table of words; a text without a
// row stays English and is noted in `advlabUnsaid`. As labbook/words.py does it, which has the rules.
(() => {
  const HOLE = /\{(#?\d+)\}/, HOLES = /\{(#?\d+)\}/g;
  const WITHIN = "((?:[^.?!]|[.?!](?! ))+?)", NUMBER = "((?:(?![a-z]{2})(?:[^.?!]|[.?!](?! )))+?)";
  const SENTENCES = /(?<=[.?!]) |(?<=[.?!]”) /, PARTS = /(?<=[.?!,;:]) |(?<=[.?!]”) /, WIDE = /[\u2e80-\uffef“”]/;
  const SIGNS = { ",": "，", ";": "；", ":": "：", ".": "。" };
  const WHERE = ".advlab-live, .cell_output, .advlab-front, .advlab-recorded, .toggle-button", NOT = "pre, code, script, style, mjx-container";
  const NAMED = ["aria-label", "aria-valuetext", "alt", "title", "data-says"];

  const literal = (text) => text.replace(/[.*+?^${}()|[\]\\]/g, "\\$&");
  function joined(first, rest) {
    const wide = WIDE.test(rest.slice(0, 1)), held = wide && /[,;:]$/.test(first) ? first.slice(0, -1) + SIGNS[first.at(-1)] : first;
    return held + (/[，；：。！？]$/.test(held) || (WIDE.test(held.slice(-1)) && wide) ? "" : " ") + rest;
  }

  const swapped = (text) => text.replace(/^[a-z]/i, (c) => (c === c.toUpperCase() ? c.toLowerCase() : c.toUpperCase()));

  function table(rows) {
    const exact = new Map(rows), known = new Map(), unsaid = new Set();
    const open = rows.filter(([english]) => HOLE.test(english)).sort(([a], [b]) => b.replace(HOLES, "").length - a.replace(HOLES, "").length)
      .map(([english, text]) => ({
        fits: new RegExp(`^${english.split(HOLE).map((part, k) => (k % 2 === 0 ? literal(part) : part.startsWith("#") ? NUMBER : WITHIN)).join("")}$`, "s"),
        numbers: [...english.matchAll(HOLES)].map((found) => found[1]), text,
      }));
    function row(text) {
      for (const form of [text, swapped(text)]) if (exact.has(form)) return exact.get(form); // a row may be for the middle of a sentence
      if (!/[a-z]{2}/.test(text)) return text;
      for (const { fits, numbers, text: said } of open) {
        const found = fits.exec(text);
        if (found) return said.replace(HOLES, (_, n) => say(found[numbers.indexOf(n) + 1]));
      }
      const sign = SIGNS[text.at(-1)], bare = sign && row(text.slice(0, -1));
      return bare === undefined ? undefined : bare + sign;
    }
    function whole(text) {
      const found = row(text), parts = text.split(PARTS);
      if (found !== undefined) return found;
      for (let k = parts.length - 1; k > 0; k--) {
        const first = row(parts.slice(0, k).join(" "));
        if (first === undefined) continue;
        const rest = whole(parts.slice(k).join(" "));
        return rest === undefined ? undefined : joined(first, rest);
      }
      return undefined;
    }
    function say(text) {
      const bare = text.trim();
      if (!/[a-z]/i.test(bare)) return text;
      if (known.has(bare)) return text.replace(bare, () => known.get(bare));
      let found = whole(bare);
      if (found === undefined) {
        unsaid.add(bare);
        found = bare.split(SENTENCES).map((part) => whole(part) ?? part).reduce(joined);
      }
      known.set(bare, found).set(found, found); // what has been said is not said again
      return text.replace(bare, () => found);
    }
    return { say, unsaid };
  }

  function translate(root, say) {
    const inside = (node) => node?.closest?.(WHERE) && !node.closest(NOT);
    const text = (node) => {
      if (!inside(node.parentElement)) return;
      const said = say(node.data);
      if (said !== node.data) node.data = said;
    };
    const names = (node) => {
      if (!inside(node)) return;
      for (const name of NAMED) {
        const held = node.getAttribute(name), said = held && say(held);
        if (said !== held) node.setAttribute(name, said);
      }
    };
    const all = (node) => {
      if (node.nodeType === Node.TEXT_NODE) return text(node);
      if (node.nodeType !== Node.ELEMENT_NODE) return null;
      const walk = document.createTreeWalker(node, NodeFilter.SHOW_TEXT | NodeFilter.SHOW_ELEMENT);
      for (let at = walk.currentNode; at; at = walk.nextNode()) (at.nodeType === Node.TEXT_NODE ? text : names)(at);
      return null;
    };
    all(root);
    const seen = new MutationObserver((changes) => {
      for (const { type, target, addedNodes } of changes) {
        if (type === "characterData") text(target);
        else if (type === "attributes") names(target);
        else addedNodes.forEach(all);
      }
      seen.takeRecords(); // our own
    });
    seen.observe(root, { subtree: true, childList: true, characterData: true, attributeFilter: NAMED });
  }

  if (typeof document === "undefined") { globalThis.advlabTable = table; return; }
  const start = () => {
    const held = document.getElementById("advlab-words");
    if (!held || globalThis.advlabUnsaid) return;
    const { say, unsaid } = table(JSON.parse(held.textContent));
    globalThis.advlabUnsaid = unsaid;
    translate(document.body, say);
  };
  if (document.readyState === "loading") document.addEventListener("DOMContentLoaded", start);
  else start();
})();
