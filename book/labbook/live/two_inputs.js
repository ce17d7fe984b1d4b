// A network of two inputs: its linear regions, and the least margin over a box by intervals, by CROWN and exactly.

const compute = ({ networks, network, point, eps }) => analyse(networks.find((n) => n.name === network).layers, point, eps);

const METHODS = ["intervals", "CROWN", "exact"], NAMES = ["network", "point", "eps"];

function render({ model, el }) {
  const networks = model.get("networks"), labels = model.get("labels"), most = model.get("eps_max");
  const classes = networks[0].layers.at(-1).bias.length, link = traits(model, NAMES, () => draw());
  const network = choice("network", networks.map((n) => [n.name, n.name]), link.set("network"));
  const axis = (k) => slider(`input x${"₁₂"[k]}`, { max: 1, step: 0.01, show: (v) => v.toFixed(2) },
    (v) => link.set("point")(model.get("point").map((old, i) => (i === k ? v : old))));
  const inputs = [axis(0), axis(1)], eps = slider("radius ε", { max: most, step: most / 60, show: (v) => v.toFixed(3) }, link.set("eps"));

  const sides = { left: 34, right: 14, top: 24, bottom: 38 }, map = plot({ height: 324, ...sides });
  const ticks = [0, 0.25, 0.5, 0.75, 1].map((v) => [v, String(v)]);
  map.axes({ from: 0, to: 1, ticks, title: "input x₁" }, { from: 0, to: 1, ticks, title: "" });
  const fills = Array.from({ length: classes }, (_, k) => map.curve(`heat deep ${HUES[k]}`)), folds = map.strokes("folds");
  for (let k = 0; k < classes; k++) map.strokes(`spots now ${HUES[k]}`)(model.get("data").filter((_, i) => labels[i] === k));
  map.note()(0, 1, "input x₂", { dx: -sides.left + 4, dy: -11, name: "title" });
  const inner = map.strokes("folds now"), edge = map.curve("line ink"), here = map.dot("dot ink", 4), worst = map.dot("ring ink", 6), name = map.note();
  pointing(map.root, sides, (x, y) => link.set("point")([x, y].map((v) => Math.round(100 * v) / 100)));

  const line = plot({ height: 152, left: 66, right: 16, top: 8 }), zero = line.strokes("margin"), proved = line.area("heat green");
  const rows = METHODS.map(() => [line.strokes("whisker ink"), line.dot("dot ink", 5)]);
  const cells = METHODS.map(() => [make("td", {}), make("td", {})]), regions = make("div", { class: "readout" });
  const head = make("tr", {}, ...["bounds by", "least margin", "unstable"].map((text) => make("th", { scope: "col" }, text)));
  const table = make("table", { class: "readout" }, make("thead", {}, head), make("tbody", {}, ...METHODS.map((m, i) => make("tr", {}, make("td", {}, m), ...cells[i]))));
  const say = stage(model, el, "two-inputs", [...(networks.length > 1 ? [network] : []), ...inputs, eps],
    legend(Array.from({ length: classes }, (_, k) => [HUES[k], `class ${k}`])),
    make("div", { class: "panels" }, panel("square", "classes and linear regions", map.root), panel("half", "the least margin in the box", line.root, table, regions)));

  let drawn = null;
  function draw() {
    const now = Object.fromEntries(NAMES.map((k) => [k, model.get(k)])), { layers } = networks.find((n) => n.name === now.network);
    network.write(now.network); inputs.forEach((c, k) => c.write(now.point[k])); eps.write(now.eps);
    if (drawn !== now.network) {
      const { parts } = pieces(layers, corners([[0, 1], [0, 1]]));
      territories(parts, classes).forEach((polygons, k) => fills[k](joined(polygons)));
      folds(outlines(parts.map((p) => p.polygon)));
      drawn = now.network;
    }
    const found = analyse(layers, now.point, now.eps), { margins: [naive, crown, exact], unstable, units } = found;
    inner(outlines(found.polygons));
    edge([...corners(found.box), corners(found.box)[0]]);
    here(...now.point);
    worst(...found.worst);
    const right = found.worst[0] > 0.75;
    name(...found.worst, "worst", { dx: right ? -9 : 9, dy: found.worst[1] > 0.9 ? 15 : -7, anchor: right ? "end" : "start" });
    const low = Math.min(naive, 0), high = Math.max(exact, 0), spare = 0.08 * (high - low) || 1, [from, to] = [low - spare, high + spare];
    line.axes({ from, to, ticks: round(from, to, 5).map((v) => [v, minus(v)]), title: "margin; above 0: proved robust" }, { from: 3, to: 0, ticks: METHODS.map((m, i) => [i + 0.5, m]), title: "" });
    proved([[0, to, 0, 3]]);
    zero([[0, 0, 0, 3]]);
    found.margins.forEach((v, i) => {
      rows[i][0]([[v, i + 0.5, exact, i + 0.5]]);
      rows[i][1](v, i + 0.5);
      cells[i][0].textContent = few(v);
      cells[i][1].textContent = `${unstable[i]} of ${units}`;
    });
    regions.textContent = `${whole(found.regions)} linear ${found.regions === 1 ? "region" : "regions"} in the box`;
    const answer = exact <= 0 ? `${exact < -1e-12 ? "The answer changes" : "Another class draws level"} in the box: the least margin of class ${found.label} is ${few(exact)}, at (${short(found.worst[0])}, ${short(found.worst[1])}).`
      : `The network says class ${found.label} in the whole box, with a margin of at least ${few(exact)}: ` +
        (naive > 0 ? "intervals prove it." : crown > 0 ? "CROWN proves it, intervals do not." : "neither intervals nor CROWN prove it.");
    say(`${answer} Bounds: ${few(naive)} by intervals, ${few(crown)} by CROWN. Unstable of ${units} ReLUs: ${unstable[0]} by intervals, ${unstable[1]} by CROWN, ${unstable[2]} in truth.`, exact <= 0);
    model.set("found", [found.label, naive, crown, exact, ...unstable, found.regions]);
    model.save_changes();
  }
  draw();
  return link.off;
}

export { compute };
export default { render };
