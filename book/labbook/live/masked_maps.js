// One filter on a masked map, at two places that see the same pattern; and what a move of the picture does to all maps.

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

// The map of one channel without its mask, the window around a place before the move and after it, which taps of it are blind,
// and what a filter that reads the window answers: without a mask, before the move, after it
function looked(map, kept, side, [row, column], shift, taps) {
  const turn = (v) => ((v % side) + side) % side;
  const around = (by) => taps.map((_, i) => turn(row + Math.floor(i / 3) - 1) * side + turn(column + (i % 3) - 1 + by));
  const window = around(0).map((i) => Math.max(0, map[i])), seen = [around(0), around(shift)].map((at) => at.map((i) => kept[i]));
  const sum = (open) => taps.reduce((total, t, i) => total + (open[i] ? t * window[i] : 0), 0);
  return { window, seen, answers: [sum(taps.map(() => 1)), ...seen.map(sum)] };
}

// where the filter's answer without masks is the largest in size
function strongest(map, side, taps) {
  const all = new Uint8Array(side * side).fill(1), size = (i) => Math.abs(looked(map, all, side, [Math.floor(i / side), i % side], 0, taps).answers[0]);
  const best = Array.from({ length: side * side }, (_, i) => size(i)).reduce((top, v, i, sizes) => (v > sizes[top] + 1e-12 ? i : top), 0);
  return [Math.floor(best / side), best % side];
}

const pictureOf = ({ images, shape: [inputs, side], example }) => Array.from({ length: inputs }, (_, c) =>
  imageAt(bytesOf(images), inputs * side * side, example).slice(c * side * side, (c + 1) * side * side));
const mapsOf = (state, x) => convolve(x.flatMap((v) => Array.from(v)), state.shape[1], state.weight, state.bias);

// the error |f(Sx) - S f(x)| / |f(x)| of every move
function errorsOf(maps, kept, side) {
  const still = masked(maps, kept), size = length(still);
  return Array.from({ length: side }, (_, by) => {
    let sum = 0;
    maps.forEach((map, c) => {
      for (let i = 0; i < map.length; i++) {
        const j = i - (i % side) + ((i + by) % side), here = kept[c][j] && map[i] > 0 ? map[i] : 0; // where i moves to
        sum += (here - still[c][i]) ** 2;
      }
    });
    return size > 0 ? Math.sqrt(sum) / size : 0;
  });
}

// The layer after the move, the move after the layer, of every channel; the errors of moves; and the look at one place
function compute(state) {
  const { shape: [, side], bias, drop, period, shift, seed, channel = 0, place = [0, 0], taps = new Array(9).fill(1) } = state;
  const x = pictureOf(state), maps = mapsOf(state, x), kept = masks({ drop, period, seed }, bias.length, side), errors = errorsOf(maps, kept, side);
  const one = masked(maps.map((v) => rolled(v, side, shift)), kept), other = masked(maps, kept).map((v) => rolled(v, side, shift));
  return { kept, one, other, errors, error: errors[shift], ...looked(maps[channel], kept[channel], side, place, shift, taps) };
}

const HELD = ["images", "shape", "weight", "bias", "seed", "taps"], NAMES = ["example", "channel", "drop", "period", "shift", "place"];
const amount = (v) => (Math.abs(v) < 5e-4 ? "0" : (+v.toPrecision(2)).toString().replace("-", "\u2212"));

// The picture with a frame around nine pixels, which a pointer moves
function scene([inputs, side], colour, onPlace) {
  const scale = Math.max(1, Math.round(256 / side)), plane = side * side, canvas = make("canvas", { class: "plane", role: "img", width: side * scale, height: side * scale });
  const caption = make("figcaption", {});
  const draw = (values, [row, column], text) => {
    const context = canvas.getContext("2d");
    for (let i = 0; i < plane; i++) {
      const of = (c) => Math.round(255 * values[inputs === 3 ? c : 0][i]);
      context.fillStyle = `rgb(${of(0)},${of(1)},${of(2)})`;
      context.fillRect((i % side) * scale, Math.floor(i / side) * scale, scale, scale);
    }
    for (const [width, ink] of [[5, "#10151c"], [3, colour]]) { // the frame wraps around, as the picture does
      context.lineWidth = width; context.strokeStyle = ink;
      for (const dx of [-side, 0, side]) for (const dy of [-side, 0, side]) context.strokeRect((column - 1 + dx) * scale, (row - 1 + dy) * scale, 3 * scale, 3 * scale);
    }
    caption.textContent = text;
    canvas.setAttribute("aria-label", text);
  };
  const point = (event) => {
    if (event.type === "pointermove" && event.buttons !== 1) return;
    const box = canvas.getBoundingClientRect(), at = (v, from, length) => Math.min(side - 1, Math.max(0, Math.floor((side * (v - from)) / length)));
    onPlace([at(event.clientY, box.top, box.height), at(event.clientX, box.left, box.width)]);
  };
  for (const type of ["pointermove", "pointerdown"]) canvas.addEventListener(type, point);
  return { root: make("figure", {}, canvas, caption), draw };
}

// Nine numbers as cells; those not open are crossed out
function nine(kind) {
  const cells = Array.from({ length: 9 }, (_, i) => {
    const [x, y] = [4 + (i % 3) * 46, 4 + Math.floor(i / 3) * 46], rect = make("rect", { x, y, width: 44, height: 44, class: "cell" });
    const text = make("text", { x: x + 22, y: y + 26, "text-anchor": "middle" }), cross = make("path", { class: "cross", d: `M${x} ${y}l44 44m0 -44l-44 44` });
    return { rect, text, cross, root: make("g", {}, rect, cross, text) };
  });
  const svg = make("svg", { viewBox: "0 0 144 144", role: "img", class: "nine" }, ...cells.map((c) => c.root)), caption = make("figcaption", {});
  const draw = (values, open, most, text) => {
    cells.forEach(({ rect, text: number, cross }, i) => {
      rect.setAttribute("class", `cell ${kind ?? (values[i] < 0 ? "orange" : "blue")}`);
      rect.setAttribute("fill-opacity", open[i] ? (0.06 + 0.6 * Math.min(1, Math.abs(values[i]) / most)).toFixed(2) : 0);
      number.textContent = open[i] ? amount(values[i]) : "blind";
      cross.setAttribute("visibility", open[i] ? "hidden" : "visible");
    });
    caption.textContent = text;
    svg.setAttribute("aria-label", `${text} ${values.map((v, i) => (open[i] ? amount(v) : "blind")).join(", ")}`);
  };
  return { root: make("figure", {}, svg, caption), draw };
}

function render({ model, el }) {
  const shape = model.get("shape"), [, side] = shape, names = model.get("names"), channels = model.get("bias").length;
  const link = traits(model, NAMES, () => draw()), turn = (v) => ((v % side) + side) % side, place = link.set("place");
  const example = choice("picture", names.map((name, i) => [i, name]), (v) => link.set("example")(+v));
  const channel = slider("channel", { max: channels - 1, show: (v) => String(v + 1) }, link.set("channel"));
  const drop = slider("drop ratio", { max: 0.95, step: 0.05, show: (v) => v.toFixed(2) }, link.set("drop"));
  const period = slider("period", { values: PERIODS.filter((q) => q <= side), show: String }, link.set("period"));
  const shift = slider("move by", { max: side - 1, show: String }, link.set("shift"));
  const row = slider("row", { max: side - 1, show: (v) => String(v + 1) }, (v) => place([v, model.get("place")[1]]));
  const column = slider("column", { max: side - 1, show: (v) => String(v + 1) }, (v) => place([model.get("place")[0], v]));
  const scenes = [scene(shape, "#f08a3c", place), scene(shape, "#4a9fe3", ([r, c]) => place([r, turn(c - model.get("shift"))]))];
  const windows = [nine("grey"), nine("grey")], filter = nine();
  const jump = make("button", { type: "button" }, "go where it answers most");
  const chart = plot({ height: 150, left: 48 });
  chart.axes({ from: 0, to: side - 1, ticks: [0, 0.25, 0.5, 0.75].map((v) => [v * side, String(v * side)]), title: "move, in pixels" },
    { from: 0, to: 1.5, ticks: [0, 0.5, 1, 1.5].map((v) => [v, String(v)]), title: "" });
  const line = chart.curve("line blue"), dot = chart.dot("dot ink", 5);
  const say = stage(model, el, "masked-maps", [example, channel, row, column, drop, period, shift],
    make("div", { class: "presses" }, jump), make("div", { class: "places" }, scenes[0].root, windows[0].root, scenes[1].root, windows[1].root, filter.root),
    make("figure", { class: "main" }, make("figcaption", {}, "all channels together, for every move: how much of their size the maps change, beyond moving along"), chart.root));
  let drawn = {};

  function draw() {
    const now = Object.fromEntries([...HELD, ...NAMES].map((k) => [k, model.get(k)])), [r, c] = now.place;
    example.write(now.example); channel.write(now.channel); drop.write(now.drop); period.write(now.period); shift.write(now.shift); row.write(r); column.write(c);
    if (drawn.example !== now.example) { const x = pictureOf(now); drawn = { example: now.example, x, maps: mapsOf(now, x) }; }
    if (drawn.drop !== now.drop || drawn.period !== now.period) { // what a place, a channel or a move does not change
      const kept = masks(now, channels, side);
      Object.assign(drawn, { drop: now.drop, period: now.period, kept, errors: errorsOf(drawn.maps, kept, side) });
    }
    const found = looked(drawn.maps[now.channel], drawn.kept[now.channel], side, now.place, now.shift, now.taps), error = drawn.errors[now.shift], most = Math.max(1e-9, ...found.window), [free, before, after] = found.answers;
    const blind = found.seen.map((open) => open.filter((v) => !v).length), moved = now.shift ? `the picture, moved by ${now.shift}` : "the picture, not moved";
    scenes[0].draw(drawn.x, now.place, "the picture");
    scenes[1].draw(drawn.x.map((v) => rolled(v, side, now.shift)), [r, turn(c + now.shift)], moved);
    windows.forEach((w, k) => w.draw(found.window, found.seen[k], most, `Map ${now.channel + 1} at the ${k ? "second" : "first"} place: the filter answers ${amount(found.answers[k + 1])}.`));
    filter.draw(now.taps, now.taps.map(() => 1), Math.max(1e-9, ...now.taps.map(Math.abs)), `The filter that reads it; without masks it answers ${amount(free)} at both.`);
    line(drawn.errors.map((v, by) => [by, v]));
    dot(now.shift, error);
    const same = Math.abs(before - after) <= 1e-9 * Math.max(1, Math.abs(free)), repeat = now.period === 1 ? " (whole channels)" : now.period === side ? " (no repetition)" : "";
    say(`One filter, one pattern, two places, masks of period ${now.period}${repeat}. Without masks it answers ${amount(free)} at both. ` +
      `With them, ${blind[0]} of 9 taps are blind at the first place and ${blind[1]} at the second: ` +
      (same ? `it answers ${amount(before)} at both. ` : `it answers ${amount(before)} and ${amount(after)}. Same pattern, two answers. `) +
      (error < 1e-9 ? "The move takes all maps along, and changes nothing else." : `Beyond moving them along, the move changes all maps by ${(100 * error).toFixed(0)}\u00a0% of their size.`),
      !same);
    model.set("error", error);
    model.set("answers", found.answers);
    model.save_changes();
  }
  jump.addEventListener("click", () => place(strongest(drawn.maps[model.get("channel")], side, model.get("taps"))));
  draw();
  return link.off;
}

export { compute, masks, strongest };
export default { render };
