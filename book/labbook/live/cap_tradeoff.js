// How far errors of a given measure can lie from a typical point: the cap, exactly, and the paper's asymptotic form.

// The angle of the cap, the exact mean distance to it, the asymptotic one, and the share of the exact one that a margin of
// this degree reaches; band is the height that 95 % of the sphere keeps within; grown is the angle of the set of points within
// the chord `reach` of the cap, near that set's share of the sphere
function compute({ d, log10_measure, degree, reach = 0 }) {
  const logMeasure = log10_measure * Math.LN10, angle = capAngle(logMeasure, d), exact = meanDistanceToCap(angle, d);
  const band = Math.cos(capAngle(Math.log(0.025), d));
  const grown = Math.min(Math.PI, angle + 2 * Math.asin(reach / 2)), near = grown < Math.PI ? Math.exp(logCapMeasure(grown, d)) : 1;
  return { angle, exact, gaussian: gaussianDistance(logMeasure, d), degree: exact / Math.sqrt(degree), band, grown, near };
}

const RATES = { from: Math.log10(0.3), to: Math.log10(300) }; // the axis is the log of minus the log of the measure
const POINTS = 60, STOPS = ladder(0.3, 300, 20).map((v) => -v);

const curves = (d) => Array.from({ length: POINTS }, (_, i) => {
  const v = RATES.from + ((RATES.to - RATES.from) * i) / (POINTS - 1), logMeasure = -(10 ** v) * Math.LN10;
  return { v, exact: optimalDistance(logMeasure, d), gaussian: gaussianDistance(logMeasure, d) };
});

const DOTS = 1500;

// Random points of the sphere as [height, how far to the side]: the height is exact in any dimension; the rest is one circle
// of directions, as in three dimensions (in two, its two ends)
function scattered(d) {
  const turn = uniforms(2);
  return Array.from(coordinates(DOTS, d, 1), (t) => {
    const angle = 2 * Math.PI * turn();
    return [t, Math.sqrt(1 - t * t) * (d === 2 ? Math.sign(angle - Math.PI) : Math.cos(angle))];
  });
}

// A sphere seen from the side with the cap on top, drawn to its true angle, and the points that are near it
function ball() {
  const R = 84, cx = 100, cy = 100, part = (name) => make("path", { class: name });
  const band = part("band"), cap = part("cap"), edge = part("rim"), near = part("spots orange"), far = part("spots blue"), chord = part("line ink"), pole = make("circle", { class: "dot ink", r: 4 });
  const equator = make("path", { class: "equator", d: `M${cx - R} ${cy}A${R} ${R * 0.16} 0 0 0 ${cx + R} ${cy}` });
  const outline = make("circle", { class: "outline", cx, cy, r: R });
  const root = make("svg", { viewBox: "0 0 200 200", role: "img", class: "plot ball" }, band, cap, equator, far, near, edge, outline, chord, pole);
  const caption = make("figcaption", {});
  const dotted = (points) => points.map(([t, side]) => `M${(cx + R * side).toFixed(1)} ${(cy - R * t).toFixed(1)}h0`).join("");
  const draw = ({ angle, band: height, grown }, measure, points, reach) => {
    const within = ([t]) => t >= Math.cos(grown);
    near.setAttribute("d", dotted(points.filter(within)));
    far.setAttribute("d", dotted(points.filter((p) => !within(p))));
    const w = R * Math.sin(angle), at = cy - R * Math.cos(angle), h = R * Math.min(1, height), side = Math.sqrt(R * R - h * h);
    const large = angle > Math.PI / 2 ? 1 : 0;
    cap.setAttribute("d", `M${cx - w} ${at}A${R} ${R} 0 ${large} 1 ${cx + w} ${at}A${w} ${w * 0.16} 0 0 1 ${cx - w} ${at}Z`);
    edge.setAttribute("d", `M${cx - w} ${at}A${w} ${w * 0.16} 0 0 1 ${cx + w} ${at}`);
    band.setAttribute("d", `M${cx - side} ${cy - h}A${R} ${R} 0 0 0 ${cx - side} ${cy + h}H${cx + side}A${R} ${R} 0 0 0 ${cx + side} ${cy - h}Z`);
    pole.setAttribute("cx", cx + R);
    pole.setAttribute("cy", cy);
    chord.setAttribute("d", `M${cx + R} ${cy}L${cx + w} ${Math.min(at, cy)}`);
    caption.textContent = `Orange: the cap of measure ${measure}, up to ${((angle * 180) / Math.PI).toFixed(1)}° from its pole. ` +
      `Grey: where 95\u00a0% of the sphere lies. Each dot is a random point at its true height, orange if within ${reach.toFixed(2)} of the cap. The line leads from a typical point to the cap.`;
    root.setAttribute("aria-label", caption.textContent);
  };
  return { root: make("figure", { class: "aside" }, root, caption), draw };
}

function render({ model, el }) {
  const link = traits(model, ["d", "log10_measure", "degree", "reach"], () => draw());
  const d = slider("dimensions d", { values: ladder(2, 150528, 20), show: whole }, link.set("d"));
  const rate = slider("error rate μ", { values: STOPS, show: (v) => power(v, 2) }, link.set("log10_measure"));
  const degree = choice("degree of the margin", [1, 2, 3, 4].map((k) => [k, String(k)]), (v) => link.set("degree")(+v));
  const reach = slider("grow the errors by", { max: 1.5, step: 0.01, show: (v) => v.toFixed(2) }, link.set("reach"));
  const chart = plot(), sphere = ball();
  const warp = (log10) => Math.log10(-log10);
  chart.axes(
    { ...RATES, ticks: [Math.log10(0.5), -1, -2, -4, -10, -30, -100, -300].map((v) => [warp(v), power(v)]), title: "error rate μ, rarer to the right" },
    { from: -3, to: 0.5, ticks: [-3, -2, -1, 0].map((v) => [v, String(+(10 ** v).toPrecision(1))]), title: "" },
  );
  const lower = chart.curve("line green"), gaussian = chart.curve("line orange dashed"), exact = chart.curve("line blue");
  const dots = { gaussian: chart.dot("dot orange", 4), degree: chart.dot("dot green"), exact: chart.dot("dot blue") };
  const names = legend([["blue", "the cap, exact"], ["orange", "−Φ⁻¹(μ) / √d"], ["green", ""]]);
  const panels = make("div", { class: "panels" }, make("figure", { class: "main" }, make("figcaption", {}, "mean distance to the errors"), names, chart.root), sphere.root);
  const say = stage(model, el, "cap-tradeoff", [d, rate, reach, degree], panels);
  let known = null;
  function draw() {
    const now = { d: model.get("d"), log10_measure: model.get("log10_measure"), degree: model.get("degree"), reach: model.get("reach") };
    d.write(now.d); rate.write(now.log10_measure); degree.write(now.degree); reach.write(now.reach);
    if (known?.d !== now.d) known = { d: now.d, points: curves(now.d), dots: scattered(now.d) };
    const here = compute(now), at = warp(now.log10_measure), height = (v) => Math.log10(Math.max(v, 1e-9));
    for (const [line, of] of [[exact, (p) => p.exact], [gaussian, (p) => p.gaussian], [lower, (p) => p.exact / Math.sqrt(now.degree)]]) {
      line(known.points.map((p) => [p.v, height(of(p))]));
    }
    dots.exact(at, height(here.exact));
    dots.gaussian(at, here.gaussian > 0 ? height(here.gaussian) : NaN);
    dots.degree(at, now.degree > 1 ? height(here.degree) : NaN);
    lower([]);
    if (now.degree > 1) lower(known.points.map((p) => [p.v, height(p.exact / Math.sqrt(now.degree))]));
    names.lastChild.textContent = `degree ${now.degree}, a rule of thumb: cap / √${now.degree}`;
    names.lastChild.hidden = now.degree === 1;
    const measure = power(now.log10_measure, 2);
    sphere.draw(here, measure, known.dots, now.reach);
    say(`In ${whole(now.d)} dimensions, errors of measure ${measure} lie at most ${here.exact.toPrecision(3)} from a random point on average, ` +
      `whatever their shape; the paper's form says ${here.gaussian.toPrecision(3).replace("-", "−")}. The cap that attains it starts ` +
      `${((here.angle * 180) / Math.PI).toFixed(1)}° from its pole.` +
      (now.reach > 0 ? ` Within ${now.reach.toFixed(2)} of it lies ${percent(here.near)} of the sphere.` : "") +
      (now.degree > 1 ? ` A margin of degree ${now.degree} is expected near ${here.degree.toPrecision(3)} (a rule of thumb, not a theorem).` : ""));
    model.set("distances", [here.exact, here.gaussian, here.degree]);
    model.save_changes();
  }
  draw();
  return link.off;
}

export { compute, curves, scattered };
export default { render };
