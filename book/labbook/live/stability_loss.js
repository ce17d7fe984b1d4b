// One ReLU and the loss that asks it to be stable: -tanh(1 + l u) over the plane of its bounds, and the triangle it costs.

const REACH = 4, RATE = 0.1, MOST = 200;

function slope(l, u) { // the gradient of the loss
  const s = 1 / Math.cosh(1 + l * u) ** 2;
  return [-u * s, -l * s];
}

// The loss, its gradient, the area of the triangle that relaxes the ReLU, and gradient descent from here
function compute({ lower, upper, steps }) {
  const path = [[lower, upper]], gradient = slope(lower, upper), state = stateOf(lower, upper);
  for (let k = 0; k < steps; k++) {
    const [l, u] = path[k], [a, b] = slope(l, u);
    path.push([l - RATE * a, u - RATE * b]);
  }
  return {
    loss: -Math.tanh(1 + lower * upper), gradient, size: Math.hypot(...gradient), area: state ? 0 : (-upper * lower) / 2,
    state, path, end: path[steps],
  };
}

// The bounds with l u at most c < 0, or with l u at least c > 0 and l > 0, as a polygon out to the corner
function beyond(c) {
  const from = c < 0 ? c / REACH : Math.sqrt(c), to = c < 0 ? -REACH : c / REACH, n = 40;
  const edge = Array.from({ length: n + 1 }, (_, i) => from * (to / from) ** (i / n)).map((l) => [l, c / l]);
  return [...edge, ...(c < 0 ? [[-REACH, REACH]] : [[c / REACH, REACH], [REACH, REACH]])];
}

const LEVELS = { orange: [-0.6, -0.4, -0.2, 0, 0.2, 0.4, 0.6, 0.8, 0.95], blue: [-0.82, -0.88, -0.93, -0.97, -0.99] };
const GRID = Array.from({ length: 8 }, (_, i) => i - 3.5), LONG = 0.26; // an arrow's length for a gradient of length 1

function arrow(l, u) { // three strokes, or none where it would not be seen
  const [a, b] = slope(l, u).map((v) => -LONG * v), size = Math.hypot(a, b), head = Math.min(0.16, size / 2) / size;
  if (size < 0.03) return [];
  const tip = [l + a, u + b], wing = (side) => [...tip, tip[0] - head * (a + side * b), tip[1] - head * (b - side * a)];
  return [[l, u, ...tip], wing(0.6), wing(-0.6)];
}

function render({ model, el }) {
  const link = traits(model, ["lower", "upper", "steps"], () => draw());
  const move = (l, u) => { // one end after the other, so that l is never above u
    const ends = [["lower", l], ["upper", u]];
    for (const [name, v] of l > model.get("upper") ? ends.reverse() : ends) link.set(name)(v);
  };
  const bound = (name, label, onInput) => slider(label, { min: -REACH, max: REACH, step: 0.05, show: short }, onInput);
  const lower = bound("lower", "lower bound l", (v) => move(v, Math.max(v, model.get("upper"))));
  const upper = bound("upper", "upper bound u", (v) => move(Math.min(v, model.get("lower")), v));
  const steps = slider("descent steps", { max: MOST, show: whole }, link.set("steps"));

  const sides = { left: 34, right: 14, top: 24, bottom: 38 }, plane = plot({ height: 324, ...sides });
  const ticks = [-4, -2, 0, 2, 4].map((v) => [v, minus(v)]);
  plane.axes({ from: -REACH, to: REACH, ticks, title: "lower bound l" }, { from: -REACH, to: REACH, ticks, title: "" });
  plane.curve("band")([[-REACH, -REACH], [REACH, REACH], [REACH, -REACH]]);
  for (const [hue, levels] of Object.entries(LEVELS)) for (const level of levels) {
    const region = beyond(Math.atanh(-level) - 1);
    plane.curve(`heat ${hue}`)(region);
    if (hue === "blue") plane.curve("heat blue")(region.map(([l, u]) => [-u, -l]));
  }
  plane.strokes("margin")([[-REACH, 0, 0, 0], [0, 0, 0, REACH]]);
  const below = GRID.flatMap((l) => GRID.filter((u) => u >= l).map((u) => [l, u]));
  plane.strokes("folds now")(below.flatMap(([l, u]) => arrow(l, u)));
  plane.strokes("spots ink")(below);
  plane.note()(-REACH, REACH, "upper bound u", { dx: -sides.left + 4, dy: -11, name: "title" });
  plane.note()(-REACH, REACH, "unstable", { dx: 6, dy: 14 });
  plane.note()(0, REACH, "always active", { dx: 6, dy: 14 });
  plane.note()(-REACH, 0, "always zero", { dx: 6, dy: 36 });
  plane.note()(REACH, -REACH, "never: l > u", { dx: -6, dy: -8, anchor: "end", name: "title over" });
  const path = plane.curve("line ink"), end = plane.dot("ring ink", 6), here = plane.dot("dot ink", 5);
  pointing(plane.root, sides, (x, y) => {
    const [l, u] = [x, y].map((v) => +(Math.round((2 * v - 1) * REACH * 20) / 20).toFixed(2));
    move(Math.min(l, u), u);
  });

  const chart = plot({ height: 324, left: 30, top: 24 });
  chart.axes({ from: -4.3, to: 4.3, ticks, title: "input z" }, { from: -0.7, to: 4.3, ticks: [0, 1, 2, 3, 4].map((v) => [v, String(v)]), title: "" });
  chart.note()(-4.3, 4.3, "output", { dx: -26, dy: -11, name: "title" });
  const shade = chart.curve("heat deep orange"), chord = chart.curve("line orange dashed"), ends = chart.strokes("margin");
  chart.curve("folds now")([[-4.3, 0], [0, 0], [4.3, 4.3]]);
  const relu = chart.curve("line blue"), names = [chart.note(), chart.note()];
  const say = stage(model, el, "stability-loss", [lower, upper, steps],
    legend([["orange", "the loss rises to 1"], ["blue", "it falls to −1"], ["ink", "arrows: downhill"]]),
    make("div", { class: "panels" }, panel("square", "the loss over the plane of bounds", plane.root), panel("half", "the ReLU and its relaxation", chart.root)));

  function draw() {
    const now = Object.fromEntries(["lower", "upper", "steps"].map((k) => [k, model.get(k)])), { lower: l, upper: u } = now;
    lower.write(l); upper.write(u); steps.write(now.steps);
    const found = compute(now), { loss, size, area, state } = found, [a, b] = found.end, after = stateOf(a, b);
    path(found.path);
    here(l, u);
    end(now.steps ? a : NaN, b);
    const triangle = state ? [] : [[l, 0], [0, 0], [u, u]];
    shade(triangle);
    chord(state ? [] : [[l, 0], [u, u]]);
    relu([[l, Math.max(l, 0)], ...(state ? [] : [[0, 0]]), [u, Math.max(u, 0)]]);
    ends([[l, -0.7, l, 4.3], [u, -0.7, u, 4.3]]);
    names[0](l, -0.7, "l", { dx: -4, dy: -6, anchor: "end" });
    names[1](u, -0.7, "u", { dx: 4, dy: -6 });
    const told = now.steps ? ` ${whole(now.steps)} ${now.steps === 1 ? "step" : "steps"} of descent lead to l\u00a0=\u00a0${short(a)}, u\u00a0=\u00a0${short(b)}: ` +
      (after !== state ? `it becomes ${STATES[after]}.` : `it stays ${STATES[after]}.`) : "";
    say(`With bounds from ${short(l)} to ${short(u)} the unit is ${STATES[state]}. Its loss is ${few(loss)}, the gradient's length ${few(size)}` +
      (state ? "; it is exact, with no triangle." : `, the triangle's area ${few(area)}.`) + told, state === 0);
    model.set("found", [loss, size, area, a, b]);
    model.save_changes();
  }
  draw();
  return link.off;
}

export { compute };
export default { render };
