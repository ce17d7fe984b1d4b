// A quadratic network that uses k of d inputs and ignores the rest: its error rate, exact and by the CLT, and its nearest error.

// natural logs of the balanced error rate; the distance to the nearest inner error of a typical point, and the cap's bound for that rate
function compute({ d, share, outer_radius }) {
  const k = Math.max(1, Math.round(share * d)), { logError, alpha } = ignored(k, d, outer_radius);
  const nearest = meanFieldDistance([alpha, 0], outer_radius, "inner", [k, d - k]);
  const cap = k < d ? optimalDistance(logError, d) : null;
  return { k, exact: logError, clt: ignoredClt(k, d, outer_radius).logError, nearest, cap };
}

const TARGET = -14, LOWEST = -40; // log10 of the paper's error rate, and of the end of the axis

const needed = (d, radius) => [ignored, ignoredClt].map((rule) => inputsNeeded(TARGET * Math.LN10, d, radius, rule));

function render({ model, el }) {
  const link = traits(model, ["d", "share"], () => draw()), radius = model.get("outer_radius");
  const sizes = [...new Set([500, 1000, 3000, model.get("d")])].sort((a, b) => a - b);
  const d = choice("inputs d", sizes.map((v) => [v, whole(v)]), (v) => link.set("d")(+v));
  const share = slider("share used", { min: 0.02, max: 1, step: 0.01, show: (v) => `${Math.round(100 * v)}\u00a0%` }, link.set("share"));
  const rates = plot(), distances = plot();
  const shares = { from: 0, to: 1, ticks: [0, 0.25, 0.5, 0.75, 1].map((v) => [v, String(100 * v) + "\u00a0%"]), title: "share of the inputs used" };
  rates.axes(shares, { from: LOWEST, to: 0, ticks: [0, -10, -20, -30, -40].map((v) => [v, power(v)]), title: "" });
  rates.curve("margin")([[0, TARGET], [1, TARGET]]);
  rates.note()(0, TARGET, "10⁻¹⁴", { dx: 5, dy: 15 });
  const lines = { clt: rates.curve("line orange"), exact: rates.curve("line blue"), nearest: distances.curve("line blue"), cap: distances.curve("line grey") };
  const marks = [rates.dot("ring blue", 6), rates.dot("ring orange", 6)];
  const dots = { clt: rates.dot("dot orange"), exact: rates.dot("dot blue"), cap: distances.dot("dot grey", 4), nearest: distances.dot("dot blue") };
  const half = (content, title, ...captions) => make("figure", { class: "half" }, make("figcaption", {}, title), legend(captions), content);
  const panels = make("div", { class: "panels" },
    half(rates.root, "error rate of either sphere", ["blue", "exact (Beta)"], ["orange", "CLT"]),
    half(distances.root, "distance to the nearest error", ["blue", "this network"], ["grey", "the cap's bound"]));
  const say = stage(model, el, "ignored-inputs", [d, share], panels);
  let known = null;
  function draw() {
    const now = { d: model.get("d"), share: model.get("share"), outer_radius: radius };
    d.write(now.d); share.write(now.share);
    if (known?.d !== now.d) {
      const points = Array.from({ length: 50 }, (_, i) => compute({ ...now, share: 0.01 + (0.98 * i) / 49 }));
      known = { d: now.d, points, needed: needed(now.d, radius) };
      const reach = [0.2, 0.5, 1, 1.5, 2].find((v) => v >= 1.02 * Math.max(...points.map((p) => p.cap)));
      distances.axes(shares, { from: 0, to: reach, ticks: round(0, reach, 5).map((v) => [v, String(v)]), title: "" });
      for (const key of ["exact", "clt"]) lines[key](points.map((p) => [p.k / now.d, p[key] / Math.LN10]));
      for (const key of ["nearest", "cap"]) lines[key](points.map((p) => [p.k / now.d, p[key]]));
      marks.forEach((mark, i) => mark(known.needed[i] / now.d, TARGET));
    }
    const here = compute(now), [exact, clt] = known.needed, at = here.k / now.d;
    for (const key of ["exact", "clt"]) dots[key](at, here[key] === -Infinity ? LOWEST : here[key] / Math.LN10);
    for (const key of ["nearest", "cap"]) dots[key](at, here[key] ?? NaN);
    const below = here.exact < TARGET * Math.LN10;
    say((here.k === now.d ? `A network that uses all ${whole(now.d)} inputs makes no error: proved. `
      : `A network that uses ${whole(here.k)} of ${whole(now.d)} inputs errs at the rate ${power(here.exact / Math.LN10)} on each sphere (the CLT says ` +
        `${power(here.clt / Math.LN10)}), and its nearest error lies ${here.nearest.toFixed(3)} from a typical inner point. `) +
      `Below 10⁻¹⁴ from ${whole(exact)} inputs on: ${percent(1 - exact / now.d)} may be ignored (the CLT asks for ${whole(clt)}).`, !below);
    const log10 = (v) => (v === -Infinity ? null : v / Math.LN10);
    model.set("found", [here.k, log10(here.exact), log10(here.clt), here.nearest, exact, clt]);
    model.save_changes();
  }
  draw();
  return link.off;
}

export { compute, needed };
export default { render };
