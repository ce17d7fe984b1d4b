// CROWN going backward: the margin as a linear function of the last ReLUs, of what enters them, of the ReLUs before, ... of the inputs.

// the line that stands for a ReLU on [l, u] under a factor: its slope, its height at 0, and on which side of the ReLU it lies
function lineFor([l, u], factor) {
  if (l >= 0) return { slope: 1, height: 0, side: "on" };
  if (u <= 0) return { slope: 0, height: 0, side: "off" };
  if (factor > 0) return { slope: u > -l ? 1 : 0, height: 0, side: "below" };
  return { slope: u / (u - l), height: (-l * u) / (u - l), side: "above" };
}

// a linear function at its least, each variable in its own interval
const alone = (row, constant, ends) => row.reduce((sum, a, i) => sum + Math.min(a * ends[i][0], a * ends[i][1]), constant);

// All steps for the class that CROWN finds the nearest: { kind, layer, row, constant, bound, lines, size }. "outputs" and "entries"
// are of a ReLU layer, "inputs" of the network; size is what the factors' products amount to, before and after they are added up.
function backwards(layers, point, eps) {
  const { box, label, margins: [intervals, , exact] } = analyse(layers, point, eps), scores = logits(layers, point), net = margins(layers, label);
  const found = bounds(net, box, true), last = net.at(-1), hidden = net.length - 1;
  const others = scores.map((_, j) => j).filter((j) => j !== label);
  const walk = (j) => {
    const steps = [];
    let row = last.weight[j], constant = last.bias[j];
    for (let k = hidden - 1; k >= 0; k--) {
      const { weight, bias } = layers[k], lines = found[k].map((ends, i) => lineFor(ends, row[i]));
      if (k === hidden - 1) steps.push({ kind: "outputs", layer: k, row, constant, bound: alone(row, constant, found[k].map(rectified)), size: null });
      constant += row.reduce((sum, a, i) => sum + a * lines[i].height, 0);
      row = row.map((a, i) => a * lines[i].slope);
      steps.push({ kind: "entries", layer: k, row, constant, bound: alone(row, constant, found[k]), lines, size: null });
      constant += row.reduce((sum, a, i) => sum + a * bias[i], 0);
      const next = weight[0].map((_, j) => row.reduce((sum, a, i) => sum + a * weight[i][j], 0));
      const size = [row.reduce((sum, a, i) => sum + weight[i].reduce((s, w) => s + Math.abs(a * w), 0), 0), next.reduce((sum, a) => sum + Math.abs(a), 0)];
      row = next;
      const ends = k ? found[k - 1].map(rectified) : box;
      steps.push({ kind: k ? "outputs" : "inputs", layer: k - 1, row, constant, bound: alone(row, constant, ends), size });
    }
    return steps;
  };
  const all = others.map((_, j) => walk(j)), nearest = all.reduce((best, steps, j) => (steps.at(-1).bound < all[best].at(-1).bound ? j : best), 0);
  return { label, other: others[nearest], steps: all[nearest], found: found.slice(0, -1), box, intervals, exact };
}

const compute = ({ networks, network, point, eps }) => backwards(networks.find((n) => n.name === network).layers, point, eps);

const NAMES = ["network", "point", "eps", "step"];
const sub = (k) => [...String(k)].map((c) => "₀₁₂₃₄₅₆₇₈₉"[c]).join("");

// A ReLU between its bounds, and the line that stands for it
function unitCard(name) {
  const W = 84, H = 52, part = (cls) => make("path", { class: cls, fill: "none" });
  const zone = make("rect", { class: "band", y: 0, height: H }), relu = part("line grey"), line = part("line blue");
  const svg = make("svg", { viewBox: `0 0 ${W} ${H}`, "aria-hidden": "true" }, zone, relu, line), words = make("span", {}), factor = make("strong", {});
  const root = make("div", { class: "unit" }, make("span", { class: "name" }, name), svg, words, factor);
  const draw = ([l, u], reach, chosen, text) => {
    const x = (v) => W / 2 + (v / reach) * (W / 2 - 3), y = (v) => H - 12 - (v / reach) * (H - 16), f = (v) => v.toFixed(1);
    zone.setAttribute("x", f(x(l)));
    zone.setAttribute("width", f(Math.max(1, x(u) - x(l))));
    relu.setAttribute("d", `M${f(x(-reach))} ${f(y(0))}L${f(x(0))} ${f(y(0))}L${f(x(reach))} ${f(y(reach))}`);
    line.setAttribute("d", chosen ? `M${f(x(l))} ${f(y(chosen.height + chosen.slope * l))}L${f(x(u))} ${f(y(chosen.height + chosen.slope * u))}` : "");
    line.setAttribute("class", `line ${chosen?.side === "above" ? "orange" : "blue"}`);
    words.textContent = !chosen ? (l >= 0 ? "always on" : u <= 0 ? "always off" : "unstable")
      : { on: "always on", off: "always off", below: `below: slope ${few(chosen.slope)}`, above: `above: slope ${few(chosen.slope)}` }[chosen.side];
    factor.textContent = text;
    root.classList.toggle("reached", text !== "");
  };
  return { root, draw };
}

function render({ model, el }) {
  const networks = model.get("networks"), most = model.get("eps_max"), link = traits(model, NAMES, () => draw());
  const network = choice("network", networks.map((n) => [n.name, n.name]), link.set("network"));
  const eps = slider("radius ε", { max: most, step: most / 60, show: (v) => v.toFixed(3) }, link.set("eps"));
  const onward = make("button", { type: "button" }, "one step back"), again = make("button", { type: "button" }, "start again");
  const total = ({ layers }) => 2 * layers.length - 1, shown = () => networks.find((n) => n.name === model.get("network"));
  const stack = make("div", { class: "stack" }), chart = plot({ height: 236, left: 88, right: 16, top: 8 });
  const zero = chart.strokes("margin"), proved = chart.area("heat green"), path = chart.curve("line blue");
  const known = [["intervals", "grey"], ["exact", "ink"]].map(([name, hue]) => [name, chart.strokes(`line ${hue} dashed`)]);
  const dots = Array.from({ length: 7 }, () => chart.dot("dot blue", 4)), notes = dots.map(() => chart.note());
  const names = legend([["blue", "CROWN, so far"], ["grey dashed", "intervals"], ["ink dashed", "exact"]]);
  const say = stage(model, el, "crown-steps", [...(networks.length > 1 ? [network] : []), eps],
    make("div", { class: "presses" }, onward, again), make("div", { class: "panels" }, make("div", { class: "main" }, stack),
      panel("half", "lower bound of the margin after each step", names, chart.root)));
  let cards = null, of = "";

  function build({ layers }) { // a row for each layer, the last on top
    cards = layers.slice(0, -1).map(({ bias }, k) => bias.map((_, i) => unitCard(`unit ${i + 1}`)));
    const heads = layers.map(() => make("p", { class: "head" }));
    const inputs = make("p", { class: "sum" });
    stack.replaceChildren(...cards.map((row, k) => make("div", { class: "row" }, heads[k + 1], make("div", { class: "units" }, ...row.map((c) => c.root)))).reverse(),
      make("div", { class: "row" }, heads[0], inputs));
    return { heads, inputs };
  }
  let parts = null;

  const signed = (v) => (v < 0 ? "−" : "+") + few(Math.abs(v));
  function told({ kind, layer, bound, size }, done, { intervals, exact, other, label }, first) {
    const so = `at least ${few(bound)}`, cancel = size && size[0] - size[1] > 1e-12 * size[0]
      ? ` Their products amount to ${few(size[0])}, and ${few(size[0] - size[1])} of that cancels.` : "";
    if (first) return `The margin of class ${label} over class ${other} is a linear function of the outputs of ReLU layer ${layer + 1}. If each took its worst value for itself, the margin would be ${so}.`;
    if (kind === "entries") return `Each ReLU of layer ${layer + 1} gives way to a line: below it under a factor above 0, above it otherwise. By what enters the layer, each for itself, the margin is ${so}.`;
    if (!done) return `What enters layer ${layer + 2} is linear in the outputs of layer ${layer + 1}: the factors are multiplied out and added up.${cancel} By those outputs, each for itself, the margin is ${so}.`;
    return `Back at the inputs: the two are free of each other in the box, so nothing more is lost here.${cancel} CROWN proves a margin of ${so}; intervals prove ${few(intervals)}, and the truth is ${few(exact)}.`;
  }

  function draw() {
    const now = Object.fromEntries(NAMES.map((k) => [k, model.get(k)])), net = shown(), count = total(net), step = Math.min(now.step, count - 1);
    if (of !== now.network) { parts = build(net); of = now.network; }
    network.write(now.network); eps.write(now.eps);
    const result = backwards(net.layers, now.point, now.eps), { steps, found } = result, seen = steps.slice(0, step + 1), done = step === count - 1;
    onward.disabled = done;
    [...names.children].slice(1).forEach((entry) => { entry.hidden = !done; });
    found.forEach((layer, k) => {
      const reach = Math.max(1e-9, ...layer.flat().map(Math.abs)), outputs = seen.find((s) => s.kind === "outputs" && s.layer === k), entries = seen.find((s) => s.kind === "entries" && s.layer === k);
      layer.forEach((ends, i) => cards[k][i].draw(ends, reach, entries?.lines[i], entries ? `${signed(entries.row[i])}\u00a0z${sub(i + 1)}` : outputs ? `${signed(outputs.row[i])}\u00a0h${sub(i + 1)}` : ""));
      const at = entries ?? outputs;
      parts.heads[k + 1].textContent = `ReLU layer ${k + 1}` + (at ? `: the margin is at least ${few(at.constant)} plus these factors times the ${entries ? "units’ inputs z" : "units’ outputs h"}.` : "");
    });
    const end = seen.find((s) => s.kind === "inputs");
    parts.heads[0].textContent = `The two inputs, from ${result.box.map(([a, b]) => `${short(a)} to ${short(b)}`).join(" and from ")}`;
    parts.inputs.textContent = end ? `margin ≥ ${few(end.constant)} ${end.row.map((a, i) => `${a < 0 ? "−" : "+"} ${few(Math.abs(a))}\u00a0x${sub(i + 1)}`).join(" ")}` : "";
    const shows = [result.intervals, result.exact, 0, ...steps.map((s) => s.bound)], low = Math.min(...shows), high = Math.max(...shows), spare = 0.12 * (high - low) || 1, [from, to] = [low - spare, high + spare];
    const places = steps.map(({ kind, layer }) => (kind === "inputs" ? "inputs" : `${kind === "outputs" ? "from" : "into"} layer ${layer + 1}`));
    chart.axes({ from, to, ticks: round(from, to, 4).map((v) => [v, minus(v)]), title: "above 0: proved" }, { from: count, to: 0, ticks: places.map((name, i) => [i + 0.5, name]), title: "" });
    proved([[Math.max(0, from), to, 0, count]]);
    zero([[0, 0, 0, count]]);
    path(seen.map((s, i) => [s.bound, i + 0.5]));
    dots.forEach((dot, i) => dot(seen[i]?.bound ?? NaN, i + 0.5));
    notes.forEach((note, i) => { const right = seen[i] && seen[i].bound > (from + to) / 2; note(seen[i]?.bound ?? from, i + 0.5, seen[i] ? few(seen[i].bound) : "", { dx: right ? -8 : 8, dy: -5, anchor: right ? "end" : "start" }); });
    known.forEach(([name, line]) => line(done ? [[result[name], 0, result[name], count]] : []));
    say(`Step ${step + 1} of ${count}. ${told(seen.at(-1), done, result, step === 0)}`, done && seen.at(-1).bound <= 0);
    model.set("found", [result.label, result.intervals, steps.at(-1).bound, result.exact]);
    model.save_changes();
  }
  onward.addEventListener("click", () => link.set("step")(Math.min(model.get("step"), total(shown()) - 1) + 1));
  again.addEventListener("click", () => link.set("step")(0));
  draw();
  return link.off;
}

export { compute };
export default { render };
