// Branch and bound, click by click: a unit that is open is split into on and off, each half is bounded again, until all are proved.

// the open unit whose triangle is the largest, [layer, unit]; null where none is open
function widest(found) {
  let best = null, most = 0;
  found.slice(0, -1).forEach((layer, k) => layer.forEach(([l, u], i) => {
    const area = l < 0 && u > 0 ? (-l * u) / (u - l) : 0;
    if (area > most) { most = area; best = [k, i]; }
  }));
  return best;
}

// a node of the tree: what is fixed there, its part of the box and its bound, and the unit to split next
function grown(net, box, fixed, name) {
  const part = branch(net, box, fixed);
  return part ? { fixed, name, ...part, unit: widest(part.found), kids: null } : { fixed, name, polygon: null, bound: Infinity, unit: null, kids: null };
}

function split(net, box, node) {
  const [k, i] = node.unit;
  node.kids = [1, 0].map((on) => grown(net, box, { ...node.fixed, [`${k},${i}`]: on }, `unit ${i + 1} of layer ${k + 1} ${on ? "on" : "off"}`));
}

const leaves = (node) => (node.kids ? node.kids.flatMap(leaves) : [node]);
const proved = ({ bound }) => bound > 0;
const weakest = (tree) => leaves(tree).reduce((a, b) => (b.bound < a.bound ? b : a));

// the network of margins at the point, and the box around it
function asked({ networks, network, point, eps }) {
  const { layers } = networks.find((n) => n.name === network), scores = logits(layers, point);
  const box = corners(point.map((v) => [Math.max(0, v - eps), Math.min(1, v + eps)]));
  return { net: margins(layers, scores.indexOf(Math.max(...scores))), box };
}

// The whole search, the weakest leaf first: CROWN's bound, the one that is reached, and the leaves it takes
function compute({ most = 1000, ...state }) {
  const { net, box } = asked(state), tree = grown(net, box, {}, "the box"), first = tree.bound;
  let worst = weakest(tree);
  for (; leaves(tree).length < most && worst.unit; worst = weakest(tree)) split(net, box, worst);
  return { first, reached: worst.bound, leaves: leaves(tree).length, bounds: leaves(tree).filter((n) => n.polygon).map((n) => [n.polygon, n.bound]) };
}

const NAMES = ["network", "point", "eps"];

function render({ model, el }) {
  const networks = model.get("networks"), state = () => ({ networks, ...Object.fromEntries(NAMES.map((k) => [k, model.get(k)])) });
  const link = traits(model, NAMES, () => begin()), most = model.get("eps_max");
  const network = choice("network", networks.map((n) => [n.name, n.name]), link.set("network"));
  const eps = slider("radius ε", { max: most, step: most / 60, show: (v) => v.toFixed(3) }, link.set("eps"));
  const next = make("button", { type: "button" }, "split the weakest"), again = make("button", { type: "button" }, "start again");
  const sides = { left: 40, right: 14, top: 10, bottom: 38 }, map = plot({ height: 300, ...sides });
  const fills = ["green", "orange"].map((hue) => map.curve(`heat deep ${hue}`)), lines = map.strokes("folds now"), here = map.dot("dot ink", 4);
  const list = make("ul", { class: "branches" });
  const say = stage(model, el, "branch-and-bound", [...(networks.length > 1 ? [network] : []), eps],
    make("div", { class: "presses" }, next, again), legend([["green", "proved"], ["orange", "open"]]),
    make("div", { class: "panels" }, panel("square", "the box, as it has been cut", map.root), panel("half", "the tree, and a lower bound of the margin at each node", list)));
  let tree, net, box, exact;

  function begin() {
    const now = state(), found = analyse(networks.find((n) => n.name === now.network).layers, now.point, now.eps);
    network.write(now.network); eps.write(now.eps);
    ({ net, box } = asked(now));
    exact = found.margins[2];
    tree = grown(net, box, {}, "the box");
    const [[a, b], [c, d]] = found.box.map(([low, high]) => [low, Math.max(high, low + 1e-3)]), ticks = (from, to) => round(from, to, 3).map((v) => [v, String(v)]);
    map.axes({ from: a, to: b, ticks: ticks(a, b), title: "input x₁" }, { from: c, to: d, ticks: ticks(c, d), title: "" });
    here(...now.point);
    draw();
  }

  function row(node) {
    const words = `${node.name}: ${node.polygon ? `at least ${few(node.bound)}` : "empty"}`, state = proved(node) ? "proved" : node.unit ? "open" : "broken";
    const button = make("button", { type: "button" }, "split"), item = make("li", { class: state }, `${words} `);
    if (!node.kids && !proved(node) && node.unit) {
      button.setAttribute("aria-label", `split ${node.name}`);
      button.addEventListener("click", () => { split(net, box, node); draw(); });
      item.append(button);
    }
    if (node.kids) item.append(make("ul", { class: "branches" }, ...node.kids.map(row)));
    return item;
  }

  function draw() {
    const all = leaves(tree), open = all.filter((n) => !proved(n)), worst = weakest(tree), done = !open.length, stuck = !done && !worst.unit;
    fills.forEach((fill, k) => fill(joined(all.filter((n) => n.polygon && proved(n) === !k).map((n) => n.polygon))));
    lines(outlines(all.filter((n) => n.polygon).map((n) => n.polygon)));
    list.replaceChildren(row(tree));
    next.disabled = done || stuck;
    const many = `${all.length} ${all.length === 1 ? "leaf" : "leaves"}`;
    say(`CROWN alone: a margin of at least ${few(tree.bound)}. ` + (done ? `Proved, with ${many}: the margin is above 0 in the whole box.`
      : stuck ? `Refuted, with ${many}: no unit is open in the weakest leaf, and its margin falls to ${few(worst.bound)}.`
        : `${many}, ${open.length} open: at least ${few(worst.bound)}; in truth ${few(exact)}. Split a leaf.`), stuck);
    model.set("found", [all.length, open.length, worst.bound === Infinity ? null : worst.bound]);
    model.save_changes();
  }
  next.addEventListener("click", () => { split(net, box, weakest(tree)); draw(); });
  again.addEventListener("click", begin);
  begin();
  return link.off;
}

export { compute };
export default { render };
