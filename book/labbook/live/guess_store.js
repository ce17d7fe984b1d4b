// Guesses stay on the reader's machine: in the browser's store, or, where a page has none, with the page.

const KEPT = "advlab.guess.", loose = (globalThis.advlabGuesses ??= {}); // name -> record, as text

const store = () => { try { return globalThis.localStorage; } catch { return null; } }; // a page from a file may be refused
const told = () => globalThis.dispatchEvent?.(new CustomEvent("advlab-guess"));

function recall(name) {
  try { return JSON.parse(store()?.getItem(KEPT + name) ?? loose[name] ?? "null"); } catch { return null; }
}

function keep(name, record) {
  loose[name] = JSON.stringify(record);
  try { store()?.setItem(KEPT + name, loose[name]); } catch { /* full, or refused: the page keeps it */ }
  told();
}

// the records of a chapter, [name, record] each, in the order in which they were made
function recallAll(chapter) {
  const held = store(), stored = held ? Object.keys(held).filter((key) => key.startsWith(KEPT)).map((key) => key.slice(KEPT.length)) : [];
  const names = [...new Set([...stored, ...Object.keys(loose)])].filter((name) => name.startsWith(`${chapter}.`));
  return names.map((name) => [name, recall(name)]).filter(([, record]) => record).sort((a, b) => a[1].at - b[1].at);
}

function forget(names) {
  for (const name of names) {
    delete loose[name];
    try { store()?.removeItem(KEPT + name); } catch { /* nothing was kept there */ }
  }
  told();
}
