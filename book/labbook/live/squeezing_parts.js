// What the figures of feature squeezing share: pictures, the network's outputs side by side, scores and their threshold.

const times = (window) => (window === 1 ? "off" : `${window}\u00a0×\u00a0${window}`);
const bitsName = (bits) => `${bits}\u00a0bit${bits === 1 ? "" : "s"}`;
const medianName = (window) => (window === 1 ? "no median" : `median ${times(window)}`);
const outOf = (k, n) => (k === 0 || k === n ? `${k ? 100 : 0}\u00a0%` : `${(100 * k / n).toFixed(1)}\u00a0%`);


// a score: 1.97, 0.0031, 7.8 × 10⁻⁴
function scoreName(v) {
  if (v === 0 || v >= 1e-3) return String(+v.toPrecision(3));
  const [digits, exponent] = v.toExponential(1).split("e");
  return `${+digits}\u00a0×\u00a010${[...exponent].map((c) => SUPERSCRIPT[c]).join("")}`;
}

// A picture of (c, h, w) values in [0, 1], one channel or three, with a caption
function picture(shape) {
  const [channels, h, w] = shape, plane = h * w;
  const canvas = make("canvas", { width: w, height: h, role: "img" }), caption = make("figcaption", {});
  const draw = (values, title, says) => {
    const context = canvas.getContext("2d"), image = context.createImageData(w, h);
    for (let i = 0; i < plane; i++) {
      for (let c = 0; c < 3; c++) image.data[4 * i + c] = Math.round(255 * values[(channels === 1 ? 0 : c * plane) + i]);
      image.data[4 * i + 3] = 255;
    }
    context.putImageData(image, 0, 0);
    caption.replaceChildren(make("strong", {}, title), make("br"), says);
    canvas.setAttribute("aria-label", `${title}: ${says}`);
  };
  return { root: make("figure", {}, canvas, caption), draw };
}

// The network's probabilities on several views of one image, a row for each class; the true class lies on a grey band
function beliefs(names, hues, left) {
  const n = names.length, chart = plot({ height: 25 * n + 44, left, right: 20, top: 4, bottom: 38 }), thick = 0.84 / hues.length;
  chart.axes(
    { from: 0, to: 1, ticks: [0, 0.5, 1].map((v) => [v, `${100 * v}\u00a0%`]), title: "the network's probability" },
    { from: n, to: 0, ticks: names.map((name, k) => [k + 0.5, name]), title: "" },
  );
  const band = chart.area("band"), bars = hues.map((hue) => chart.area(`bar ${hue}`));
  const draw = (views, label) => {
    band([[0, 1, label, label + 1]]);
    views.forEach((p, s) => bars[s](p.map((v, k) => [0, v, k + 0.08 + s * thick, k + 0.08 + (s + 0.9) * thick])));
  };
  return { root: chart.root, draw };
}

// The L1 scores of some squeezers beside a threshold (or none), on a log axis where the threshold is small
function scoreStrip(rows, threshold) {
  const log = threshold !== null && threshold < 0.1, least = log ? Math.min(-6, Math.floor(Math.log10(threshold || 1e-6)) - 1) : 0;
  const to = log ? Math.log10(2) : 2, at = (v) => (log ? Math.log10(Math.max(v, 10 ** least)) : v);
  const chart = plot({ height: 34 * rows.length + 62, left: 14, right: 14, top: 20, bottom: 38 });
  const ticks = log ? Array.from({ length: 1 - least }, (_, i) => [least + i, power(least + i)]) : [0, 0.5, 1, 1.5, 2].map((v) => [v, String(v)]);
  chart.axes({ from: log ? least : 0, to, ticks, title: "L1 score of each squeezer" }, { from: rows.length, to: 0, ticks: [], title: "" });
  const zone = chart.area("band"), bars = rows.map((hue) => chart.area(`bar ${hue}`)), line = chart.strokes("margin");
  const notes = rows.map(() => chart.note()), edge = chart.note();
  const draw = (names, scores) => {
    if (threshold !== null) {
      zone([[at(threshold), to, 0, rows.length]]);
      line([[at(threshold), 0, at(threshold), rows.length]]);
      const right = at(threshold) > at(0) + 0.6 * (to - at(0));
      edge(at(threshold), 0, `flagged above ${scoreName(threshold)}`, { dy: -6, anchor: right ? "end" : "start", name: "title" });
    }
    scores.forEach((v, i) => {
      bars[i]([[at(0), at(v), i + 0.56, i + 0.88]]);
      notes[i](at(0), i + 0.47, `${names[i]}: ${scoreName(v)}`, { dx: 3 });
    });
  };
  return { root: chart.root, draw };
}

// Boxes to tick, at least one of them ticked; `onChange` gets the list of true and false
function toggles(label, names, onChange) {
  const boxes = names.map(() => make("input", { type: "checkbox" }));
  const labels = names.map((name, i) => make("label", {}, boxes[i], ` ${name}`));
  for (const box of boxes) box.addEventListener("change", () => onChange(boxes.map((b) => b.checked)));
  const write = (chosen) => boxes.forEach((box, i) => {
    box.checked = chosen[i];
    box.disabled = chosen[i] && chosen.filter(Boolean).length === 1; // the last one stays
  });
  return { root: make("div", { class: "control toggles", role: "group", "aria-label": label }, make("span", {}, label), ...labels), write };
}
