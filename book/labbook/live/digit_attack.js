// A real network and real digits in the page: noise, one step or ten steps of the gradient, with a budget eps per pixel.

const STEPS = 10;

// The attacked image, step by step: a generator, so that the page can breathe between the steps.
function* attacking(net, x, label, method, eps) {
  const clip = (v, lo, hi) => Math.min(hi, Math.max(lo, v));
  if (method === "noise") {
    const random = uniforms(1);
    return x.map((v) => clip(v + (random() < 0.5 ? -eps : eps), 0, 1));
  }
  const steps = method === "fgsm" ? 1 : STEPS, length = method === "fgsm" ? eps : (2.5 * eps) / STEPS;
  let at = x;
  for (let step = 0; step < steps && eps > 0; step++) {
    const g = net.gradient(at, label);
    at = at.map((v, i) => clip(clip(v + length * Math.sign(g[i]), x[i] - eps, x[i] + eps), 0, 1));
    yield step + 1;
  }
  return at;
}

function compute({ layers, weights, images, labels, digit, method, eps }) {
  const net = network(layers, halvesOf(weights)), all = bytesOf(images), pixels = all.length / labels.length;
  const x = Float64Array.from(all.slice(digit * pixels, (digit + 1) * pixels), (b) => b / 255);
  const work = attacking(net, x, labels[digit], method, eps);
  let next = work.next();
  while (!next.done) next = work.next();
  return { x_adv: next.value, logits: net.logits(next.value), gradient: net.gradient(x, labels[digit]) };
}

const METHODS = [["noise", "random signs"], ["fgsm", "FGSM, one step"], ["pgd", "PGD, ten steps"]];

function panel(title, side) {
  const canvas = make("canvas", { width: side, height: side, role: "img", "aria-label": title });
  return { root: make("figure", {}, canvas, make("figcaption", {}, title)), canvas };
}

function paint(canvas, values, colour) {
  const context = canvas.getContext("2d"), image = context.createImageData(canvas.width, canvas.height);
  values.forEach((v, i) => image.data.set([...colour(v), 255], 4 * i));
  context.putImageData(image, 0, 0);
}

const grey = (v) => [255 * v, 255 * v, 255 * v].map(Math.round);
// blue below zero, white at zero, vermilion above: the ends of a palette that colour-blind readers tell apart
const diverging = (v) => (v < 0 ? [255 + 255 * v, 255 + 141 * v, 255 + 77 * v] : [255 - 42 * v, 255 - 161 * v, 255 - 255 * v]).map(Math.round);

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

async function render({ model, el }) {
  const labels = model.get("labels"), all = bytesOf(model.get("images"));
  const pixels = all.length / labels.length, side = Math.round(Math.sqrt(pixels));
  const net = await networkOf(model);
  const link = traits(model, ["digit", "method", "eps"], () => draw());
  const digit = choice("digit", labels.map((y, i) => [i, String(y)]), (v) => link.set("digit")(+v));
  const method = choice("change", METHODS, link.set("method"));
  const eps = slider("budget ε", { min: 0, max: model.get("eps_max"), step: 0.01, show: (v) => v.toFixed(2) }, link.set("eps"));
  const clean = panel("the digit", side), change = panel("the change", side), attacked = panel("the result", side);
  const chart = bars(), panels = make("div", { class: "panels" }, clean.root, change.root, attacked.root, chart.root);
  const say = stage(model, el, "digit-attack", [digit, method, eps], panels);

  let turn = 0;  // a newer call of draw makes an older one stop
  async function draw() {
    const mine = ++turn, k = model.get("digit"), budget = model.get("eps"), how = model.get("method"), label = labels[k];
    digit.write(k); method.write(how); eps.write(budget);
    const x = Float64Array.from(all.slice(k * pixels, (k + 1) * pixels), (b) => b / 255);
    const work = attacking(net, x, label, how, budget);
    let next = work.next();
    while (!next.done) {
      if (next.value % 3 === 0) await new Promise((done) => setTimeout(done));
      if (mine !== turn) return;
      next = work.next();
    }
    const x_adv = next.value, p = softmax(net.logits(x_adv)), guess = p.indexOf(Math.max(...p));
    paint(clean.canvas, x, grey);
    paint(change.canvas, x_adv.map((v, i) => (budget ? (v - x[i]) / budget : 0)), diverging);
    paint(attacked.canvas, x_adv, grey);
    chart.draw(p, label);
    for (const [{ canvas }, words] of [[clean, `the digit: ${numeral(label)}`], [change, `the change: at most ${budget.toFixed(2)} per pixel`],
      [attacked, `the result: read as ${numeral(guess)}`]]) canvas.setAttribute("aria-label", words);
    const words = METHODS.find(([id]) => id === how)[1];
    say(`ε = ${budget.toFixed(2)}, ${words}: the network reads ${guess} (${percent(p[guess])}). ` +
      (guess === label ? "It is right." : `It is ${numeral(label)}.`), guess !== label);
    model.set("probabilities", p.map((v) => +v.toFixed(6)));
    model.save_changes();
  }
  draw();
  return () => { turn++; link.off(); };
}

export { compute };
export default { render };
