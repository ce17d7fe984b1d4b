// What a random point of the sphere looks like: one coordinate, its distance from another point, or their angle.

// each follows from one coordinate t of a uniform point; density is that of t's angle times the change of variable
const QUANTITIES = {
  coordinate: { name: "one coordinate", said: "one coordinate of a random point", of: (t) => t, from: -1, to: 1, unit: "", angle: (v) => Math.acos(v), stretch: (v) => 1 / Math.sqrt(1 - v * v) },
  distance: { name: "distance of two points", said: "the distance of two random points", of: (t) => Math.sqrt(2 - 2 * t), from: 0, to: 2, unit: "", angle: (v) => 2 * Math.asin(v / 2), stretch: (v) => 1 / Math.sqrt(1 - (v * v) / 4) },
  angle: { name: "angle between two points", said: "the angle between two random points", of: (t) => (Math.acos(t) * 180) / Math.PI, from: 0, to: 180, unit: "°", angle: (v) => (v * Math.PI) / 180, stretch: () => Math.PI / 180 },
};

// the density of the quantity at v, exact
function density({ d, quantity }, v) {
  const { angle, stretch } = QUANTITIES[quantity];
  return Math.exp(logAngleDensity(d)(angle(v))) * stretch(v);
}

// n samples, and the interval that holds 99 % of all points (symmetric in the coordinate), exact
function compute({ d, quantity, seed, n }) {
  const { of } = QUANTITIES[quantity], h = Math.cos(capAngle(Math.log(0.005), d));
  return { samples: coordinates(n, d, seed).map(of), interval: [of(-h), of(h)].sort((a, b) => a - b) };
}

const BINS = 120;

function render({ model, el }) {
  const link = traits(model, ["d", "quantity"], () => draw());
  const d = slider("dimensions d", { values: ladder(2, 2000, 20), show: whole }, link.set("d"));
  const quantity = choice("show", Object.entries(QUANTITIES).map(([k, { name }]) => [k, name]), link.set("quantity"));
  const chart = plot({ height: 260 });
  const band = chart.area("band"), bars = chart.area("bar blue"), line = chart.curve("line orange");
  const captions = legend([["blue", ""], ["orange", "exact density"], ["grey", "the middle 99\u00a0%"]]);
  const say = stage(model, el, "concentration", [quantity, d], captions, chart.root);
  function draw() {
    const now = { d: model.get("d"), quantity: model.get("quantity"), seed: model.get("seed"), n: model.get("n") };
    d.write(now.d); quantity.write(now.quantity);
    const { from, to, unit, name, said } = QUANTITIES[now.quantity], { samples, interval } = compute(now);
    const width = (to - from) / BINS, counts = new Float64Array(BINS);
    for (const v of samples) counts[Math.min(BINS - 1, Math.floor((v - from) / width))]++;
    const heights = counts.map((c) => c / now.n / width), inner = (i) => from + ((to - from) * (i + 0.5)) / 400;
    const exact = Array.from({ length: 400 }, (_, i) => [inner(i), density(now, inner(i))]);
    // the exact density of two dimensions has no top: the axis ends a little above the bars
    const top = 1.15 * Math.max(heights.reduce((a, b) => Math.max(a, b), 0), density(now, now.quantity === "distance" ? Math.SQRT2 : (from + to) / 2));
    chart.axes(
      { from, to, ticks: (now.quantity === "angle" ? [0, 30, 60, 90, 120, 150, 180] : round(from, to, 8)).map((v) => [v, `${v}${unit}`.replace("-", "−")]), title: name },
      { from: 0, to: top, ticks: round(0, top, 5).map((v) => [v, String(v)]), title: "density" },
    );
    bars(Array.from(heights, (h, i) => [from + i * width, from + (i + 1) * width, 0, h]).filter(([, , , h]) => h > 0));
    line(exact);
    band([[...interval, 0, top]]);
    const show = (v) => (now.quantity === "angle" ? v.toFixed(1) + "°" : v.toFixed(3)).replace("-", "−");
    captions.firstChild.textContent = `${whole(now.n)} random points`;
    say(`In ${whole(now.d)} dimensions, ${said} lies between ${show(interval[0])} and ${show(interval[1])} with probability 0.99; ` +
      `the ${whole(now.n)} drawn here range from ${show(samples.reduce((a, b) => Math.min(a, b)))} to ${show(samples.reduce((a, b) => Math.max(a, b)))}.`);
    model.set("interval", interval);
    model.save_changes();
  }
  draw();
  return link.off;
}

export { compute, density };
export default { render };
