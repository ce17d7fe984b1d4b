// A blind test: the reader names the class of adversarial images, not knowing who made them, and is then compared with a
// panel of networks that names classes too.

// The trials in order, [maker, image] each: every pair once, sorted by numbers that the seed gives to this budget
function trials({ shape, seed, budget }) {
  const [makers, , n] = shape, pairs = makers * n, draw = uniforms(seed);
  const numbers = Array.from({ length: (budget + 1) * pairs }, draw).slice(budget * pairs);
  const order = numbers.map((_, i) => i).sort((a, b) => numbers[a] - numbers[b]);
  return order.map((i) => [Math.floor(i / n), i % n]);
}

// images as bytes (makers, budgets, n, 3, h, h), of which only those of one image are decoded: three bytes in four letters
function pixelsOf(images, [, budgets, n, channels, h, w], maker, budget, image) {
  const pixels = channels * h * w, from = ((maker * budgets + budget) * n + image) * pixels;
  return Float64Array.from(bytesOf(images.slice((4 * from) / 3, (4 * (from + pixels)) / 3)), (b) => b / 255);
}

// The order of the trials, the one at `at` (left out: the first without an answer, or the last), and for each maker how
// many were judged: read by the reader as the true class and as another, by the panel as another, by both as the same other
function compute({ images, shape, makers, labels, panel, seed, budget, answers, at = answers.length }) {
  const order = trials({ shape, seed, budget }), place = Math.min(at, order.length - 1), [maker, image] = order[place];
  const tally = makers.map(() => ({ judged: 0, right: 0, wrong: 0, panel: 0, same: 0 }));
  answers.forEach((answer, k) => {
    const [m, i] = order[k], named = panel[m][budget][i], counts = tally[m], other = named >= 0 && named !== labels[i];
    counts.judged += 1;
    counts[answer === labels[i] ? "right" : "wrong"] += 1;
    if (other) counts.panel += 1;
    if (other && named === answer) counts.same += 1;
  });
  return { order, trial: { at: place, maker, image, pixels: pixelsOf(images, shape, maker, budget, image) }, tally };
}

const HELD = ["images", "shape", "makers", "labels", "panel"], NAMES = ["seed", "budget", "answers", "revealed"];
const COLUMNS = ["maker", "you: true class", "you: other class", "panel: other class", "both: same other class"];

function button(text, onPress) {
  const root = make("button", { type: "button" }, text);
  root.addEventListener("click", onPress);
  root.addEventListener("keydown", (event) => { if (event.repeat) event.preventDefault(); }); // a key held down presses once
  return root;
}

function render({ model, el }) {
  const [shape, makers, classes, labels, panel] = ["shape", "makers", "classes", "labels", "panel"].map((k) => model.get(k));
  const total = makers.length * shape[2], side = make("div", { class: "main" });
  let shown = 0, closed = null; // the trial that is looked back at; whether the answers are closed
  const again = () => { model.set("revealed", false); model.set("answers", []); model.save_changes(); };
  for (const name of ["budget", "seed"]) model.on(`change:${name}`, again);
  const link = traits(model, NAMES, () => draw());
  const budget = choice("budget", model.get("budgets").map((b, i) => [i, `${b}/255`]), (v) => link.set("budget")(+v));
  const view = picture(shape.slice(3)), canvas = view.root.querySelector("canvas");
  const drawn = choice("drawn", [["auto", "smooth"], ["pixelated", "pixel by pixel"]], (v) => { canvas.style.imageRendering = v; });
  canvas.style.imageRendering = "auto";
  const back = slider("image", { min: 1, max: total, show: (k) => `${k} of ${total}` }, (k) => { shown = k - 1; draw(); });
  const answer = (k) => {
    const answers = [...model.get("answers"), k];
    model.set("answers", answers);
    if (answers.length >= total) model.set("revealed", true);
    model.save_changes();
  };
  const answers = make("div", { class: "answers", role: "group", "aria-label": "its class" }, ...classes.map((name, k) => button(name, () => answer(k))));
  const reveal = button("show who made them", () => link.set("revealed")(true));
  const restart = button("start again", () => link.set("seed")(model.get("seed") + 1));
  const cells = makers.map(() => COLUMNS.slice(1).map(() => make("td", {})));
  const head = make("tr", {}, ...COLUMNS.map((text) => make("th", { scope: "col" }, text)));
  const rows = makers.map((name, m) => make("tr", {}, make("th", { class: "name", scope: "row" }, name), ...cells[m]));
  const table = make("table", { class: "readout" }, make("thead", {}, head), make("tbody", {}, ...rows));
  const say = stage(model, el, "blind-test", [budget, drawn], make("div", { class: "panels" }, view.root, side), make("div", { class: "presses" }, reveal, restart));
  el.setAttribute("aria-label", `A blind test of ${total} images: name the class of each.`); // the alt text would give the answer away

  // Answers before the reveal, the table after it; a focus on what goes away moves to what comes
  function turn(over, judged) {
    const held = closed === false && [...answers.children, reveal].includes(document.activeElement);
    closed = over;
    shown = Math.max(judged - 1, 0);
    side.replaceChildren(...(over ? [back.root, table] : [answers]));
    if (over && held) back.root.querySelector("input").focus();
  }

  function draw() {
    const now = Object.fromEntries([...HELD, ...NAMES].map((k) => [k, model.get(k)])), judged = now.answers.length;
    const over = now.revealed || judged >= total;
    if (over !== closed) turn(over, judged);
    budget.write(now.budget);
    reveal.disabled = over || judged === 0;
    const { trial, tally } = compute(over ? { ...now, at: shown } : now), { at, maker, image, pixels } = trial;
    if (!over) {
      view.draw(pixels, `${at + 1} of ${total}`, "its maker is hidden");
      return say(`Image ${at + 1} of ${total}: which class do you see?`);
    }
    back.write(at + 1);
    const named = panel[maker][now.budget][image], reader = at < judged ? classes[now.answers[at]] : "no answer";
    view.draw(pixels, makers[maker], `true class ${classes[labels[image]]}; you: ${reader}; the panel: ${named < 0 ? "does not agree" : classes[named]}`);
    tally.forEach((t, m) => [`${t.right} of ${t.judged}`, t.wrong, t.panel, t.same].forEach((text, c) => { cells[m][c].textContent = text; }));
    const all = (name) => tally.reduce((sum, t) => sum + t[name], 0);
    say(`Of ${judged} image${judged === 1 ? "" : "s"} you read ${all("wrong")} as another class, the panel ${all("panel")}; both name the same other class for ${all("same")}.`);
  }
  draw();
  return () => { link.off(); for (const name of ["budget", "seed"]) model.off(`change:${name}`, again); };
}

export { compute };
export default { render };
