// A mask on feature maps and a picture that moves: with a period, moves by it commute with the masked layer, others do not.

const PERIODS = [1, 2, 4, 8, 16, 32];

// For each channel whether a position is kept: of a tile of side `period` exactly round(drop period^2) are not, those with
// the smallest numbers; with period 1 whole channels, exactly round(drop channels)
function masks({ drop, period, seed }, channels, side) {
  const draw = uniforms(seed), cells = period * period, zeros = (n) => Math.floor(drop * n + 0.5);
  const numbers = Array.from({ length: channels * cells }, draw);
  const smallest = (values, n) => {
    const order = values.map((v, i) => i).sort((a, b) => values[a] - values[b]), kept = new Uint8Array(values.length).fill(1);
    for (const i of order.slice(0, zeros(n))) kept[i] = 0;
    return kept;
  };
  const whole = period === 1 ? smallest(numbers, channels) : null;
  return Array.from({ length: channels }, (_, c) => {
    const tile = whole ? [whole[c]] : smallest(numbers.slice(c * cells, (c + 1) * cells), cells);
    return Uint8Array.from({ length: side * side }, (_, i) => tile[(Math.floor(i / side) % period) * period + ((i % side) % period)]);
  });
}

// 3 x 3 filters on a picture that wraps around: (channels, side * side)
function convolve(x, side, weight, bias) {
  const plane = side * side, inputs = x.length / plane, turn = (v) => (v + side) % side;
  return bias.map((b, k) => Float64Array.from({ length: plane }, (_, i) => {
    const row = Math.floor(i / side), column = i % side;
    let sum = b;
    for (let c = 0; c < inputs; c++) for (let r = 0; r < 3; r++) for (let s = 0; s < 3; s++) {
      sum += weight[((k * inputs + c) * 3 + r) * 3 + s] * x[c * plane + turn(row + r - 1) * side + turn(column + s - 1)];
    }
    return sum;
  }));
}

const rolled = (v, side, by) => v.map((_, i) => v[i - (i % side) + (((i % side) - by + side) % side)]); // to the right
const masked = (maps, kept) => maps.map((v, c) => v.map((value, i) => (kept[c][i] ? Math.max(0, value) : 0)));
const length = (maps) => Math.sqrt(maps.reduce((sum, v) => v.reduce((s, a) => s + a * a, sum), 0));

// The layer after the move, the move after the layer, of every channel; the error |f(Sx) - S f(x)| / |f(x)| of every move
function compute({ images, shape, weight, bias, example, drop, period, shift, seed }) {
  const [inputs, side] = shape, plane = side * side;
  const x = Array.from({ length: inputs }, (_, c) => imageAt(bytesOf(images), inputs * plane, example).slice(c * plane, (c + 1) * plane));
  const maps = convolve(x.flatMap((v) => Array.from(v)), side, weight, bias), kept = masks({ drop, period, seed }, bias.length, side);
  const still = masked(maps, kept), size = length(still);
  const after = (by) => [masked(maps.map((v) => rolled(v, side, by)), kept), still.map((v) => rolled(v, side, by))];
  const apart = ([a, b]) => (size > 0 ? length(a.map((v, c) => v.map((value, i) => value - b[c][i]))) / size : 0);
  const errors = Array.from({ length: side }, (_, by) => apart(after(by))), [one, other] = after(shift);
  return { picture: x.map((v) => rolled(v, side, shift)), kept, one, other, errors, error: errors[shift] };
}

const HELD = ["images", "shape", "weight", "bias", "seed"], NAMES = ["example", "channel", "drop", "period", "shift"];

function render({ model, el }) {
  const shape = model.get("shape"), [inputs, side] = shape, names = model.get("names"), channels = model.get("bias").length;
  const link = traits(model, NAMES, () => draw());
  const example = choice("picture", names.map((name, i) => [i, name]), (v) => link.set("example")(+v));
  const channel = slider("channel", { max: channels - 1, show: (v) => String(v + 1) }, link.set("channel"));
  const drop = slider("drop ratio", { max: 0.95, step: 0.05, show: (v) => v.toFixed(2) }, link.set("drop"));
  const period = slider("period", { values: PERIODS.filter((q) => q <= side), show: String }, link.set("period"));
  const shift = slider("move by", { max: side - 1, show: String }, link.set("shift"));
  const views = [picture([inputs, side, side]), ...[0, 1, 2].map(() => picture([1, side, side]))];
  const chart = plot({ height: 200, left: 48 });
  chart.axes({ from: 0, to: side - 1, ticks: [0, 0.25, 0.5, 0.75].map((v) => [v * side, String(v * side)]), title: "move, in pixels" },
    { from: 0, to: 1.5, ticks: [0, 0.5, 1, 1.5].map((v) => [v, String(v)]), title: "" });
  const line = chart.curve("line blue"), dot = chart.dot("dot ink", 5);
  const say = stage(model, el, "masked-maps", [example, channel, drop, period, shift],
    make("div", { class: "panels quadruple" }, ...views.map((v) => v.root)),
    make("figure", { class: "main" }, make("figcaption", {}, "error of every move: the masked layer after it, against it after the masked layer"), chart.root));

  function draw() {
    const now = Object.fromEntries([...HELD, ...NAMES].map((k) => [k, model.get(k)])), k = now.channel;
    example.write(now.example); channel.write(k); drop.write(now.drop); period.write(now.period); shift.write(now.shift);
    const found = compute(now), most = Math.max(1e-12, ...found.one[k], ...found.other[k]);
    const grey = (kept) => (v, i) => (kept[i] ? 0.15 + (0.85 * v) / most : 0);
    views[0].draw(found.picture.flatMap((v) => Array.from(v)), "the picture", `moved by ${now.shift}`);
    views[1].draw(found.one[k].map(grey(found.kept[k])), "moved, then masked", "black: masked");
    views[2].draw(found.other[k].map(grey(rolled(found.kept[k], side, now.shift))), "masked, then moved", "black: masked");
    views[3].draw(found.one[k].map((v, i) => Math.abs(v - found.other[k][i]) / most), "the difference", "black: none");
    line(found.errors.map((v, by) => [by, v]));
    dot(now.shift, found.error);
    const all = found.kept.reduce((sum, v) => sum + v.reduce((s, a) => s + a, 0), 0) / (channels * side * side);
    say(`${(100 * (1 - all)).toFixed(0)}\u00a0% of the values are masked, with period ${now.period}` +
      `${now.period === 1 ? " (whole channels)" : now.period === side ? " (no repetition)" : ""}. Moving the picture by ${now.shift} ` +
      (found.error < 1e-9 ? "moves the maps along, and changes nothing else." : `changes the maps by ${(100 * found.error).toFixed(0)}\u00a0% of their size.`),
      found.error >= 1e-9);
    model.set("error", found.error);
    model.save_changes();
  }
  draw();
  return link.off;
}

export { compute, masks };
export default { render };
