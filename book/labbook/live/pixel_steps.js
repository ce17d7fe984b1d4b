// Pixel values between the steps of a squeezer: which of them a budget can push across a step.

const levelOf = (byte, bits) => rint((byte / 255) * (2 ** bits - 1));

// for each of the 256 values, whether a change of at most budget / 255, within [0, 1], gives it another level
const pushable = (bits, budget) => Array.from({ length: 256 }, (_, v) =>
  levelOf(Math.max(0, v - budget), bits) !== levelOf(Math.min(255, v + budget), bits));

const countsOf = (bytes) => bytes.reduce((counts, v) => { counts[v]++; return counts; }, new Array(256).fill(0));

// where the levels change, in 255ths
const stepsOf = (bits) => Array.from({ length: 2 ** bits - 1 }, (_, k) => (255 * (k + 0.5)) / (2 ** bits - 1));

// of each picture's values, how many can be pushed
function compute({ pictures, bits, budget }) {
  const over = pushable(bits, budget);
  return pictures.map(({ pixels }) => bytesOf(pixels).reduce((sum, v) => sum + over[v], 0));
}

const HUES = ["blue", "green"], MOST = 128;

function render({ model, el }) {
  const held = model.get("pictures").map((p) => ({ ...p, bytes: bytesOf(p.pixels), counts: countsOf(bytesOf(p.pixels)) }));
  const link = traits(model, ["bits", "budget"], () => draw());
  const bits = slider("bit depth", { min: 1, max: 8, show: bitsName }, link.set("bits"));
  const budget = slider("budget ε", { max: MOST, show: (v) => `${v}/255` }, link.set("budget"));
  const rows = held.map(({ name, shape, counts }, k) => {
    const image = picture(shape), chart = plot({ height: 172, left: 44, top: 14 }), top = Math.log10(1 + Math.max(...counts)) * 1.08;
    chart.axes({ from: -1, to: 256, ticks: [0, 64, 128, 192, 255].map((v) => [v, String(v)]), title: "pixel value, of 255" },
      { from: 0, to: top, ticks: [1, 10, 100, 1000, 10000].filter((v) => Math.log10(1 + v) <= top).map((v) => [Math.log10(1 + v), whole(v)]), title: "" });
    const zone = chart.area("band"), safe = chart.area(`bar ${HUES[k]}`), loose = chart.area("bar orange"), steps = chart.strokes("margin");
    return { image, chart, zone, safe, loose, steps, top, root: make("div", { class: "panels pair" }, image.root, make("figure", { class: "main" }, make("figcaption", {}, `${name}: how many values`), chart.root)) };
  });
  const curve = plot({ height: 180, left: 48 });
  curve.axes({ from: 0, to: MOST, ticks: [0, 32, 64, 96, 128].map((v) => [v, String(v)]), title: "budget, of 255" },
    { from: 0, to: 1, ticks: [0, 0.5, 1].map((v) => [v, `${100 * v}\u00a0%`]), title: "" });
  const lines = held.map((_, k) => [curve.curve(`line ${HUES[k]}`), curve.dot(`dot ${HUES[k]}`)]);
  const say = stage(model, el, "pixel-steps", [bits, budget], ...rows.map((r) => r.root),
    make("figure", { class: "main" }, make("figcaption", {}, "share of the values that can be pushed across a step"), legend(held.map(({ name }, k) => [HUES[k], name])), curve.root));

  function draw() {
    const now = { bits: model.get("bits"), budget: model.get("budget") }, over = pushable(now.bits, now.budget), steps = stepsOf(now.bits);
    bits.write(now.bits); budget.write(now.budget);
    const pushed = held.map(({ counts }) => counts.reduce((sum, n, v) => sum + (over[v] ? n : 0), 0));
    const grid = Array.from({ length: MOST / 2 + 1 }, (_, i) => [2 * i, pushable(now.bits, 2 * i)]);
    held.forEach(({ name, bytes, counts, shape: [c, h, w] }, k) => {
      const row = rows[k], bar = (which) => counts.flatMap((n, v) => (n && over[v] === which ? [[v - 0.5, v + 0.5, 0, Math.log10(1 + n)]] : []));
      row.zone(now.budget ? steps.map((s) => [s - now.budget, s + now.budget, 0, row.top]) : []);
      row.steps(steps.length < 64 ? steps.map((s) => [s, 0, s, row.top]) : []);
      row.safe(bar(false));
      row.loose(bar(true));
      const marked = Array.from({ length: h * w }, (_, i) => Array.from({ length: c }, (_, j) => bytes[j * h * w + i]).some((v) => over[v]));
      const tint = [0.94, 0.5, 0.1], shown = [0, 1, 2].flatMap((j) => marked.map((m, i) => { const v = bytes[(c === 1 ? 0 : j) * h * w + i] / 255; return m ? 0.25 * v + 0.75 * tint[j] : v; }));
      row.image.draw(shown, name, "orange: can be pushed");
      const n = bytes.length;
      lines[k][0](grid.map(([e, can]) => [e, counts.reduce((sum, m, v) => sum + (can[v] ? m : 0), 0) / n]));
      lines[k][1](now.budget, pushed[k] / n);
    });
    say(`${bitsName(now.bits)} and a budget of ${now.budget}/255: ` + (steps.length === 1 ? "there is one step, at one half. " : `there are ${steps.length} steps. `) +
      held.map(({ name, bytes }, k) => `An attacker can push ${whole(pushed[k])} of the ${whole(bytes.length)} values of ${name} across a step (${outOf(pushed[k], bytes.length)}).`).join(" "));
    model.set("pushed", pushed);
    model.save_changes();
  }
  draw();
  return link.off;
}

export { compute };
export default { render };
