// The spectrum of a quadratic network and what follows from it: error rates, exact and estimated, and the nearest error.

// the spectrum: `outliers` alphas of one size, and the quantiles of a normal or uniform distribution for the rest, never below 0
function spectrum({ d, outliers, size, centre, spread, shape }) {
  const rest = d - outliers;
  const quantile = shape === "normal" ? (p) => normalQuantile(Math.log(p)) : (p) => Math.sqrt(3) * (2 * p - 1);
  return Array.from({ length: d }, (_, i) =>
    i < outliers ? size : Math.max(0, centre + (spread ? spread * quantile((i - outliers + 0.5) / rest) : 0)));
}

const SPHERES = ["inner", "outer"];

// The section through two axes, the one set apart (or, without one, the one farthest out of the band) and a median one: the share
// of each circle on the wrong side of the ellipse across x^2 + up y^2 = 1
function section(alphas, { outliers, size, outer_radius: radius }) {
  const low = 1 / radius ** 2, sorted = [...alphas].sort((a, b) => a - b), up = sorted[alphas.length >> 1];
  const out = (a) => Math.max(low - a, a - 1), across = outliers ? size : sorted.reduce((far, a) => (out(a) >= out(far) ? a : far), sorted[0]);
  const above = (limit) => { // share of the circle where across cos^2 + up sin^2 exceeds the limit
    if (across === up) return across > limit ? 1 : 0;
    const share = (2 / Math.PI) * Math.acos(Math.sqrt(Math.min(1, Math.max(0, (limit - up) / (across - up))))); // cos^2 above that
    return across > up ? share : 1 - share;
  };
  return { across, up, wrong: [above(1), 1 - above(low)] };
}

// For each sphere: natural logs of the error rate (exact, by Lugannani and Rice, by the CLT), the mean-field distance to the
// nearest error and the largest possible one for that error rate, both over the radius; null where there is no error
function compute(state) {
  const alphas = spectrum(state), radius = state.outer_radius, low = 1 / radius ** 2;
  const side = (sphere) => {
    const [exact, saddlepoint, clt] = ["exact", "saddlepoint", "clt"].map((m) => quadraticLogError(alphas, radius, sphere, m));
    const wrong = exact > -Infinity;
    return { exact, saddlepoint, clt, nearest: meanFieldDistance(alphas, radius, sphere), cap: wrong ? optimalDistance(exact, state.d) : null };
  };
  return { alphas, bad: alphas.filter((a) => a < low || a > 1).length, inner: side("inner"), outer: side("outer"), section: section(alphas, state) };
}

const EXAMPLES = {
  "one bad alpha": { outliers: 1, size: 3, centre: 0.77, spread: 0 },
  "one slightly bad alpha": { outliers: 1, size: 1.05, centre: 0.77, spread: 0 },
  "a perfect network": { outliers: 0, size: 3, centre: 0.77, spread: 0.05 },
  "most alphas bad": { outliers: 0, size: 3, centre: 0.8, spread: 0.35 },
  "a fifth ignored": { outliers: 100, size: 0, centre: 0.97, spread: 0 },
};

const WIDEST = 3.5;

// Histogram boxes [from, to, 0, log10(1 + count)] of the values from one end of a zone to the other, both included
function binned(values, from, to, bins) {
  const counts = new Array(bins).fill(0), width = (to - from) / bins;
  for (const v of values) counts[Math.min(bins - 1, Math.floor((v - from) / width))]++;
  const boxes = counts.map((many, i) => [from + i * width + 0.004, from + (i + 1) * width - 0.004, 0, Math.log10(1 + many)]);
  return boxes.filter((box) => box[3] > 0);
}

// A row of bars for each sphere, all on one scale
function rows(colours, title) {
  const chart = plot({ height: 168, left: 44, top: 4 });
  const bars = colours.map((colour) => chart.area(`bar ${colour}`)), texts = SPHERES.map(() => colours.map(() => chart.note()));
  const place = (row, i) => row + 0.5 + (i - (colours.length - 1) / 2) * 0.29;
  const draw = (most, written, values) => { // values: for each sphere, [number, text] for each colour
    chart.axes(
      { from: 0, to: most, ticks: round(0, most, 4).map((v) => [v, written(v)]), title },
      { from: SPHERES.length, to: 0, ticks: SPHERES.map((name, row) => [row + 0.5, name]), title: "" },
    );
    bars.forEach((bar, i) => bar(values.map((side, row) => [0, side[i][0], place(row, i) - 0.12, place(row, i) + 0.12])));
    values.forEach((side, row) => side.forEach(([value, text], i) => {
      const inside = value > 0.6 * most;
      texts[row][i](value, place(row, i), text, { dx: inside ? -5 : 5, dy: 4, anchor: inside ? "end" : "start", name: inside ? `inside ${colours[i]}` : "over" });
    }));
  };
  return { root: chart.root, draw };
}

// The two circles and the ellipse between them; `onSize` gets the alpha that a dragged end of the ellipse asks for
function ellipse(radius, onSize) {
  const U = 100, most = Math.max(1.62, 1.15 * radius), edge = U * most, part = (name) => make("path", { class: name, fill: "none" });
  const between = part("between"), axes = make("path", { class: "folds", d: `M${-edge} 0H${edge}M0 ${-edge}V${edge}` });
  const [right, wrong, border] = ["line blue", "line orange wrong", "line ink"].map(part), handle = make("circle", { class: "dot ink", r: 6 });
  const names = [make("text", { class: "over", x: -0.62 * U, y: 0.66 * U }, "inner"), make("text", { class: "over", x: 0.72 * radius * U + 5, y: -0.72 * radius * U }, "outer")];
  const root = make("svg", { viewBox: `${-edge} ${-edge} ${2 * edge} ${2 * edge}`, role: "img", class: "section" }, between, axes, right, wrong, border, ...names, handle), caption = make("figcaption", {});
  const angles = Array.from({ length: 361 }, (_, i) => (Math.PI * i) / 180), at = (r, t) => `${(U * r * Math.cos(t)).toFixed(1)} ${(-U * r * Math.sin(t)).toFixed(1)}`;
  const circle = (r) => `M${-U * r} 0a${U * r} ${U * r} 0 1 0 ${2 * U * r} 0a${U * r} ${U * r} 0 1 0 ${-2 * U * r} 0Z`;
  between.setAttribute("d", circle(radius) + circle(1));
  const draw = ({ across, up, wrong: shares }, apart) => {
    const value = (t) => across * Math.cos(t) ** 2 + up * Math.sin(t) ** 2;
    const arcs = (bad) => [[1, (t) => value(t) > 1], [radius, (t) => radius ** 2 * value(t) < 1]].flatMap(([r, errs]) =>
      angles.slice(1).flatMap((t, i) => (errs((t + angles[i]) / 2) === bad ? [`M${at(r, angles[i])}L${at(r, t)}`] : []))).join("");
    right.setAttribute("d", arcs(false));
    wrong.setAttribute("d", arcs(true));
    border.setAttribute("d", angles.map((t, i) => `${i ? "L" : "M"}${at(Math.min(20, 1 / Math.sqrt(Math.max(1e-9, value(t)))), t)}`).join(""));
    const end = across > 0 ? 1 / Math.sqrt(across) : Infinity;
    handle.setAttribute("cx", (U * Math.min(most - 0.08, end)).toFixed(1));
    const share = (v) => `${v === 0 || v === 1 ? 100 * v : (100 * v).toFixed(1)}\u00a0%`;
    caption.textContent = `Section through ${apart ? "an axis set apart" : "the worst axis"}, α = ${across.toFixed(2)}, and a median one, α = ${up.toFixed(2)}. ` +
      `The thin line is the network’s border; orange: wrong, ${share(shares[0])} of the inner circle and ${share(shares[1])} of the outer. Drag the dot.`;
    root.setAttribute("aria-label", caption.textContent);
  };
  const point = (event) => {
    if (event.type === "pointermove" && event.buttons !== 1) return;
    const box = root.getBoundingClientRect(), x = Math.abs(((event.clientX - box.left) / box.width) * 2 * most - most);
    onSize(Math.min(WIDEST, Math.round(20 / Math.max(0.05, x) ** 2) / 20));
  };
  for (const type of ["pointermove", "pointerdown"]) root.addEventListener(type, point);
  return { root: make("figure", { class: "aside" }, root, caption), draw };
}

function render({ model, el }) {
  const names = ["outliers", "size", "centre", "spread", "shape"], fixed = { d: model.get("d"), outer_radius: model.get("outer_radius") };
  const low = 1 / fixed.outer_radius ** 2;
  const link = traits(model, names, () => draw());
  const example = choice("example", [["", "of your own"], ...Object.keys(EXAMPLES).map((k) => [k, k])], (key) => {
    for (const [name, value] of Object.entries(EXAMPLES[key] ?? {})) model.set(name, Math.min(value, name === "outliers" ? fixed.d : value));
    if (key) model.set("shape", "normal");
    model.save_changes();
  });
  const counts = [0, ...ladder(1, fixed.d, 12)];
  const controls = {
    outliers: slider("alphas set apart", { values: counts, show: whole }, link.set("outliers")),
    size: slider("their size", { min: 0, max: WIDEST, step: 0.05, show: (v) => v.toFixed(2) }, link.set("size")),
    centre: slider("centre of the rest", { min: 0.3, max: 1.3, step: 0.01, show: (v) => v.toFixed(2) }, link.set("centre")),
    spread: slider("their spread", { min: 0, max: 0.6, step: 0.01, show: (v) => v.toFixed(2) }, link.set("spread")),
    shape: choice("their shape", [["normal", "normal"], ["uniform", "uniform"]], link.set("shape")),
  };
  const histogram = plot({ height: 236, top: 20 });
  const most = Math.log10(1 + fixed.d), marks = [1, 10, 100, 1000, 10000].filter((v) => v <= fixed.d);
  histogram.axes(
    { from: 0, to: WIDEST, ticks: round(0, WIDEST, 7).map((v) => [v, String(v)]), title: "alpha" },
    { from: 0, to: most * 1.12, ticks: marks.map((v) => [Math.log10(1 + v), String(v)]), title: "how many", side: "end" },
  );
  histogram.area("band")([[low, 1, 0, most * 1.12]]);
  histogram.note()((low + 1) / 2, most * 1.12, "no error from here", { dy: -6, anchor: "middle" });
  const inside = histogram.area("bar blue"), outside = histogram.area("bar orange");
  const rates = rows(["blue", "green", "orange"], "error rate, rarer to the right");
  const distances = rows(["blue", "grey"], "distance to the nearest error / radius");
  const half = (content, ...captions) => make("figure", { class: "half" }, legend(captions), content);
  const panels = make("div", { class: "panels" },
    half(rates.root, ["blue", "exact"], ["green", "Lugannani–Rice"], ["orange", "CLT"]),
    half(distances.root, ["blue", "nearest error"], ["grey", "the cap's bound"]));
  const cut = ellipse(fixed.outer_radius, (size) => { // pulling sets an axis apart where there is none
    model.set("outliers", Math.max(1, model.get("outliers")));
    link.set("size")(size);
  });
  const upper = make("div", { class: "panels" }, make("div", { class: "half" }, histogram.root), cut.root);
  const say = stage(model, el, "alpha-spectrum", [example, ...names.map((n) => controls[n])], upper, panels);

  const decimal = (log) => (log === -Infinity ? "0, proved" : power(log / Math.LN10));
  function draw() {
    const state = { ...fixed };
    for (const name of names) controls[name].write((state[name] = model.get(name)));
    example.write(Object.keys(EXAMPLES).find((k) => state.shape === "normal" && Object.entries(EXAMPLES[k]).every(([n, v]) => state[n] === v)) ?? "");
    const found = compute(state), { alphas } = found;
    cut.draw(found.section, state.outliers > 0);
    inside(binned(alphas.filter((v) => v >= low && v <= 1), low, 1, 6));
    outside([...binned(alphas.filter((v) => v < low), 0, low, 9), ...binned(alphas.filter((v) => v > 1), 1, WIDEST, 38)]);

    const all = SPHERES.flatMap((s) => ["exact", "saddlepoint", "clt"].map((m) => -found[s][m] / Math.LN10)).filter(Number.isFinite);
    const top = [5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000].find((v) => v >= 1.05 * Math.max(...all)) ?? 10000;
    const bar = (log) => [log === -Infinity ? top : -log / Math.LN10, decimal(log)];
    rates.draw(top, (v) => power(-v), SPHERES.map((s) => ["exact", "saddlepoint", "clt"].map((m) => bar(found[s][m]))));
    const far = Math.max(...SPHERES.flatMap((s) => [found[s].nearest ?? 0, found[s].cap ?? 0]));
    const reach = [0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 1, 1.5, 2].find((v) => v >= far * 1.05) ?? 2;
    const length = (v) => [v ?? 0, v === null ? "no error" : v.toFixed(3)];
    distances.draw(reach, String, SPHERES.map((s) => [length(found[s].nearest), length(found[s].cap)]));

    const told = (s) => `${s} sphere ${found[s].exact === -Infinity ? "error 0, proved" : `error ${decimal(found[s].exact)}`} (CLT ${decimal(found[s].clt)})`;
    const worst = SPHERES.reduce((a, b) => (found[a].exact >= found[b].exact ? a : b)), { nearest, cap } = found[worst];
    say(`${whole(found.bad)} of ${whole(fixed.d)} alphas are bad. ${told("inner").replace(/^./, "I")}; ${told("outer")}. ` +
      (nearest === null ? "There is no error to be near to." : nearest === 0 ? `A typical point of the ${worst} sphere is itself wrong.`
        : `On the ${worst} sphere the nearest error of a typical point lies ${nearest.toFixed(3)} radii away; no set of errors as rare can lie further than ${cap.toFixed(3)} on average.`),
    found.bad > 0);
    const plain = (v) => (v === -Infinity ? null : v / Math.LN10);
    model.set("log10_errors", SPHERES.map((s) => ["exact", "saddlepoint", "clt"].map((m) => plain(found[s][m]))));
    model.set("distances", SPHERES.map((s) => [found[s].nearest, found[s].cap]));
    model.save_changes();
  }
  draw();
  return link.off;
}

export { compute, section };
export default { render };
