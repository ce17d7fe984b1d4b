// Where bounds lose: the mean width of what enters each layer, by intervals, by CROWN, and as samples reach it.

const WAYS = ["intervals", "CROWN", "samples"];

// For intervals and CROWN: by how much they exceed the samples at each layer, and the layer (from 1) at which that grows the most
function compute({ networks, network, budget }) {
  const widths = networks.find((n) => n.name === network).widths[budget], reached = widths[2];
  return [0, 1].map((way) => {
    const over = widths[way].map((w, k) => w / reached[k]), growth = over.map((v, k) => (k ? v / over[k - 1] : v));
    return { over, growth, worst: growth.reduce((best, g, k) => (g > growth[best] ? k : best), 0) };
  });
}

const NAMES = ["network", "budget"], LINES = ["line grey", "line blue", "line green dashed"], DOTS = ["grey", "blue", "green"];
const fold = (v) => (v < 10 ? v.toPrecision(2) : whole(+v.toPrecision(3)));

function render({ model, el }) {
  const networks = model.get("networks"), budgets = model.get("budgets"), link = traits(model, NAMES, () => draw());
  const network = choice("network", networks.map((n) => [n.name, n.name]), link.set("network"));
  const budget = slider("budget ε", { max: budgets.length - 1, show: (k) => String(+budgets[k].toPrecision(3)) }, link.set("budget"));
  const chart = plot({ height: 290, left: 62, top: 26 }), lines = LINES.map((name) => chart.curve(name));
  const most = Math.max(...networks.map((n) => n.widths[0][0].length)), dots = DOTS.map((hue) => Array.from({ length: most }, () => chart.dot(`dot ${hue}`, 4)));
  const title = chart.note(), notes = Array.from({ length: most }, () => chart.note());
  const all = networks.flatMap((n) => n.widths.flat(2)).filter((v) => v > 0).map(Math.log10), from = Math.floor(Math.min(...all)), to = Math.ceil(Math.max(...all));
  const say = stage(model, el, "tightness", [...(networks.length > 1 ? [network] : []), budget],
    legend([["grey", "intervals"], ["blue", "CROWN"], ["green dashed", "what samples reach"]]), chart.root);
  function draw() {
    const now = { network: model.get("network"), budget: model.get("budget") }, { widths } = networks.find((n) => n.name === now.network), here = widths[now.budget];
    network.write(now.network); budget.write(now.budget);
    const layers = here[0].length, place = (k) => (k + 1 === layers ? "the logits" : `layer ${k + 1}`), [loose, tight] = compute({ networks, ...now });
    chart.axes({ from: 0.6, to: layers + 0.4, ticks: here[0].map((_, k) => [k + 1, place(k)]), title: "" },
      { from, to, ticks: round(from, to, 6).filter(Number.isInteger).map((v) => [v, v < -3 || v > 4 ? power(v) : (+(10 ** v).toPrecision(1)).toLocaleString("en")]), title: "" });
    title(0.6, to, "mean width of what enters", { dx: -58, dy: -13, name: "title" });
    here.forEach((of, way) => {
      lines[way](of.map((w, k) => [k + 1, Math.log10(w)]));
      dots[way].forEach((dot, k) => dot(k < layers ? k + 1 : NaN, Math.log10(of[k] ?? 1)));
    });
    notes.forEach((note, k) => note(k + 1, Math.log10(here[0][k] ?? 1), k < layers ? `× ${fold(loose.over[k])}` : "", { dy: -9, anchor: "middle" }));
    const last = layers - 1, lost = (way) => (way.over[last] < 1.005 ? "nowhere" : `the most at ${place(way.worst)}`);
    say(`${networks.length > 1 ? `${now.network}, ε` : "ε"} = ${+budgets[now.budget].toPrecision(3)}. At ${place(last)} the intervals are ${fold(loose.over[last])} times as wide as what samples reach, ` +
      `CROWN’s bounds ${fold(tight.over[last])} times. Intervals lose ${lost(loose)} (a factor of ${fold(loose.growth[loose.worst])}), CROWN ${lost(tight)} (${fold(tight.growth[tight.worst])}).`);
    model.set("found", [loose.over[last], tight.over[last]]);
    model.save_changes();
  }
  draw();
  return link.off;
}

export { compute };
export default { render };
