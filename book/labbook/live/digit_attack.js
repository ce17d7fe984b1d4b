// A real network and real digits in the page: noise, gradients and the reader's own brush, with a budget eps per pixel.

const METHODS = [["noise", "random signs"], ["fgsm", "FGSM, one step"], ["pgd", "PGD, ten steps"], ["hand", "your own brush"], ["few", "the gradient, as many pixels"]];
const SWEPT = ["noise", "fgsm", "pgd"], STEP = 0.01;

function panel(title, side) {
  const canvas = make("canvas", { width: side, height: side, role: "img", "aria-label": title });
  return { root: make("figure", {}, canvas, make("figcaption", {}, title)), canvas };
}

function paint(canvas, values, colour) {
  const context = canvas.getContext("2d"), image = context.createImageData(canvas.width, canvas.height);
  for (let i = 0; i < values.length; i++) image.data.set(colour(values[i]), 4 * i);
  context.putImageData(image, 0, 0);
}

const grey = (v) => [255 * v, 255 * v, 255 * v, 255];
// blue below zero, white at zero, vermilion above: the ends of a palette that colour-blind readers tell apart
const diverging = (v) => (v < 0 ? [255 + 255 * v, 255 + 141 * v, 255 + 77 * v, 255] : [255 - 42 * v, 255 - 161 * v, 255 - 255 * v, 255]);

function bars() {
  const rows = Array.from({ length: 10 }, (_, k) => {
    const bar = make("rect", { x: 18, y: 15 * k + 2, height: 11, width: 0, rx: 2 });
    const value = make("text", { x: 222, y: 15 * k + 11, "text-anchor": "end" });
    return { bar, value, root: make("g", {}, make("text", { x: 6, y: 15 * k + 11, "text-anchor": "middle" }, String(k)), bar, value) };
  });
  const root = make("svg", { viewBox: "0 0 226 154", class: "bars", role: "img" }, ...rows.map((r) => r.root));
  const draw = (probabilities, label) => {
    const guess = probabilities.indexOf(Math.max(...probabilities));
    rows.forEach(({ bar, value }, k) => {
      bar.setAttribute("width", 145 * probabilities[k]);
      bar.setAttribute("class", k === label ? "right" : k === guess ? "wrong" : "other");
      value.textContent = probabilities[k] >= 0.001 ? percent(probabilities[k]) : "";
    });
    root.setAttribute("aria-label", `Probabilities: ${probabilities.map((p, k) => `${k}: ${percent(p)}`).join(", ")}`);
  };
  return { root: make("figure", { class: "wide" }, root, make("figcaption", {}, "what the network believes")), draw };
}

// Ten digits to choose from, and under each the budget at which it breaks, once that was looked for
function strip(images, labels, side, onChoose) {
  const tiles = images.map((x, i) => {
    const canvas = make("canvas", { width: side, height: side, role: "img", "aria-label": `a handwritten ${labels[i]}` }), limit = make("span", { class: "limit" });
    const button = make("button", { type: "button" }, canvas, limit);
    paint(canvas, x, grey);
    button.addEventListener("click", () => onChoose(i));
    return { button, limit };
  });
  const write = (chosen, limits) => tiles.forEach(({ button, limit }, i) => {
    button.setAttribute("aria-pressed", String(i === chosen));
    limit.textContent = limits[i] ?? "";
    button.setAttribute("aria-label", `${numeral(labels[i])}${limits[i] ? `, breaks: ${limits[i]}` : ""}`);
  });
  return { root: make("div", { class: "strip", role: "group", "aria-label": "digit" }, ...tiles.map(({ button }) => button)), write };
}

// Painting with a pointer, or with arrow keys and the space bar: `onPaint(pixels)` gets the numbers of the pixels under the brush
function brushOn(canvas, side, onPaint) {
  let at = [side >> 1, side >> 1];
  const under = ([cx, cy]) => Array.from({ length: side * side }, (_, i) => i).filter((i) => Math.hypot((i % side) - cx, Math.floor(i / side) - cy) <= 1.5);
  canvas.addEventListener("pointerdown", (event) => canvas.setPointerCapture(event.pointerId));
  for (const type of ["pointerdown", "pointermove"]) canvas.addEventListener(type, (event) => {
    if (!event.buttons) return;
    const box = canvas.getBoundingClientRect();
    at = [event.clientX - box.left, event.clientY - box.top].map((v) => clip(Math.floor((v * side) / box.width), 0, side - 1));
    onPaint(under(at));
  });
  canvas.setAttribute("data-lm-suppress-shortcuts", "true");
  canvas.addEventListener("keydown", (event) => {
    const by = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1], " ": [0, 0] }[event.key];
    if (!by) return;
    event.preventDefault();
    at = at.map((v, k) => clip(v + by[k], 0, side - 1));
    if (event.key === " " || event.shiftKey) onPaint(under(at));
  });
}

// The least budget, in steps, at which each digit is misread: the worker is asked when it has nothing else to do
async function sweep(line, images, labels, method, most, limits, onFound, running) {
  for (let i = 0; i < images.length; i++) {
    let found = null;
    for (let k = 1; found === null && k * STEP <= most + 1e-9; k++) {
      const { logits } = await line.later({ x: images[i], label: labels[i], method, eps: Math.round(k * STEP * 100) / 100, hand: [] });
      if (!running()) return;
      if (logits.indexOf(Math.max(...logits)) !== labels[i]) found = (k * STEP).toFixed(2);
    }
    limits[i] = found ?? `> ${most.toFixed(2)}`;
    onFound();
  }
}

const NAMES = ["digit", "method", "eps", "hand"];

async function render({ model, el }) {
  const labels = model.get("labels"), all = bytesOf(model.get("images")), pixels = all.length / labels.length, side = Math.round(Math.sqrt(pixels));
  const images = labels.map((_, k) => Float64Array.from(all.subarray(k * pixels, (k + 1) * pixels), (b) => b / 255));
  const link = traits(model, NAMES, () => draw()), most = model.get("eps_max"), limits = {}; // method -> budgets found
  const digits = strip(images, labels, side, (i) => { link.set("hand")([]); link.set("digit")(i); });
  const method = choice("change", METHODS, link.set("method"));
  const eps = slider("budget ε", { min: 0, max: most, step: STEP, show: (v) => v.toFixed(2) }, link.set("eps"));
  let stroke = 1;
  const brush = choice("brush", [[1, "lighter"], [-1, "darker"], [0, "eraser"]], (v) => { stroke = +v; });
  const find = make("button", { type: "button" }, "at which budget does each break?");
  const clean = panel("the digit", side), change = panel("the change", side), attacked = panel("the result", side), chart = bars();
  const panels = make("div", { class: "panels" }, clean.root, change.root, attacked.root, chart.root);
  const say = stage(model, el, "digit-attack", [method, eps, brush], digits.root, panels);
  digits.root.after(make("div", { class: "presses" }, find));
  brushOn(attacked.canvas, side, (under) => {
    if (model.get("method") !== "hand") return;
    const others = model.get("hand").filter((at) => !under.includes(Math.abs(at) - 1));
    link.set("hand")(stroke ? [...others, ...under.map((i) => stroke * (i + 1))] : others);
  });

  const worker = await engine(model), line = queue(worker);
  let gone = false, sweeping = null;
  find.addEventListener("click", async () => {
    const how = sweeping = SWEPT.includes(model.get("method")) ? model.get("method") : "fgsm";
    limits[how] = [];
    find.disabled = true;
    await sweep(line, images, labels, how, most, limits[how], write, () => !gone && sweeping === how);
    find.disabled = false;
  });

  const write = () => digits.write(model.get("digit"), limits[model.get("method")] ?? []);

  async function draw() {
    const now = Object.fromEntries(NAMES.map((name) => [name, model.get(name)])), label = labels[now.digit], x = images[now.digit], own = now.method === "hand";
    method.write(now.method); eps.write(now.eps); write();
    brush.root.hidden = !own;
    attacked.canvas.classList.toggle("plane", own);
    if (own) attacked.canvas.setAttribute("tabindex", "0"); else attacked.canvas.removeAttribute("tabindex");
    const answer = await line.ask({ x, label, ...now });
    if (!answer || gone) return;
    const { x_adv, logits } = answer, p = softmax(logits), guess = p.indexOf(Math.max(...p));
    paint(clean.canvas, x, grey);
    paint(change.canvas, x_adv.map((v, i) => (now.eps ? (v - x[i]) / now.eps : 0)), diverging);
    paint(attacked.canvas, x_adv, grey);
    chart.draw(p, label);
    clean.canvas.setAttribute("aria-label", `the digit: ${numeral(label)}`);
    change.canvas.setAttribute("aria-label", `the change: at most ${now.eps.toFixed(2)} per pixel`);
    attacked.canvas.setAttribute("aria-label", `the result: read as ${numeral(guess)}${own ? ". Paint with the pointer, or with arrow keys and the space bar" : ""}`);
    const count = now.hand.length, words = METHODS.find(([id]) => id === now.method)[1].replace("as many pixels", `${count} pixels`);
    const next = !["hand", "few"].includes(now.method) ? "" : !count ? " Choose “your own brush” and paint on the result." : own ? " Now let the gradient change as many pixels." : "";
    say(`ε = ${now.eps.toFixed(2)}, ${words}${own ? ` on ${count} pixels` : ""}: the network reads ${guess} (${percent(p[guess])}). ` +
      (guess === label ? "It is right." : `It is ${numeral(label)}.`) + next, guess !== label);
    model.set("probabilities", p.map((v) => +v.toFixed(6)));
    model.save_changes();
  }
  draw();
  return () => { gone = true; link.off(); worker.stop(); };
}

export { compute };
export default { render };
