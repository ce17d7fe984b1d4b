// How near a reader's guesses came: those of one chapter, as guess.js kept them.

const AMONG = 0.9; // a guess within a tenth of its scale

const bar = (near) => make("svg", { viewBox: "0 0 100 10", role: "img", "aria-label": `${Math.round(100 * near)} of 100` },
  make("rect", { class: "other", x: 0, y: 4, width: 100, height: 2 }), make("rect", { class: near >= AMONG ? "right" : "wrong", x: 0, y: 1, width: 100 * near, height: 8, rx: 2 }));

function render({ model, el }) {
  const rows = make("tbody", {}), head = make("tr", {}, ...["question", "your guess", "the answer", "how near"].map((text) => make("th", { scope: "col" }, text)));
  const again = make("button", { type: "button" }, "forget these guesses"), table = make("table", { class: "readout" }, make("thead", {}, head), rows);
  const say = stage(model, el, "guesses", [], table, make("div", { class: "presses" }, again));
  const records = () => recallAll(model.get("chapter"));

  function show() {
    const found = records(), told = found.flatMap(([, { question, told: parts }]) => parts.map((part) => ({ question, ...part })));
    const made = told.filter(({ near }) => near !== null), good = made.filter(({ near }) => near >= AMONG).length;
    table.hidden = again.hidden = !found.length;
    rows.replaceChildren(...told.map(({ question, label, guess, answer, near }) => make("tr", {},
      make("td", { class: "name" }, label ? `${question} (${label})` : question), make("td", {}, guess ?? "–"), make("td", {}, answer), make("td", {}, near === null ? "–" : bar(near)))));
    say(!found.length ? "No guess of this chapter is kept here yet." : `${made.length} ${made.length === 1 ? "guess" : "guesses"}, ${good} of them right or within a tenth of the scale.` +
      (told.length > made.length ? ` ${told.length - made.length} answered without a guess.` : ""));
  }
  again.addEventListener("click", () => forget(records().map(([name]) => name)));
  globalThis.addEventListener("advlab-guess", show);
  show();
  return () => globalThis.removeEventListener("advlab-guess", show);
}

export default { render };
