// Fewer bits and a median on a colour image, squeezed in the page; the network's outputs were computed beforehand.

const WINDOWS = 5, BITS = 8;

// The image as it is, with fewer bits, after the median, after both (in either order: a median moves with any ascending
// map), each with the network's stored probabilities; and the scores of the three against the first
function compute({ clean, attacked, shape, outputs, classes, example, adversarial, bits, window }) {
  const x = imageAt(bytesOf(adversarial ? attacked : clean), size(shape), example), n = classes.length;
  const stored = new Float32Array(bytesOf(outputs).buffer), reduced = reduceBitDepth(x, bits);
  const at = (b, w) => {
    const row = ((2 * example + (adversarial ? 1 : 0)) * BITS + b - 1) * WINDOWS + w - 1;
    return Array.from(stored.subarray(row * n, (row + 1) * n));
  };
  const images = [x, reduced, medianFilter(x, shape, window), medianFilter(reduced, shape, window)];
  const probabilities = [at(8, 1), at(bits, 1), at(8, window), at(bits, window)];
  return { images, probabilities, scores: probabilities.slice(1).map((p) => l1(probabilities[0], p)) };
}

const size = (shape) => shape.reduce((a, b) => a * b, 1);

const HELD = ["clean", "attacked", "shape", "outputs", "classes"], NAMES = ["example", "adversarial", "bits", "window"];

function render({ model, el }) {
  const labels = model.get("labels"), attacks = model.get("attacks"), classes = model.get("classes"), threshold = model.get("threshold");
  const link = traits(model, NAMES, () => draw());
  const example = choice("example", labels.map((y, i) => [i, `${i + 1}: ${classes[y]}, ${attacks[i]}`]), (v) => link.set("example")(+v));
  const side = choice("show", [[0, "the clean image"], [1, "its adversarial twin"]], (v) => link.set("adversarial")(v === "1"));
  const bits = slider("bit depth", { min: 1, max: BITS, show: bitsName }, link.set("bits"));
  const window = slider("median window", { min: 1, max: WINDOWS, show: times }, link.set("window"));
  const hues = ["grey", "blue", "orange", "green"], pictures = hues.map(() => picture(model.get("shape")));
  const chart = beliefs(classes, hues, 78), strip = scoreStrip(hues.slice(1), threshold);
  const names = legend([["grey", "the input"], ["blue", ""], ["orange", ""], ["green", "both"]]);
  const say = stage(model, el, "colour-squeeze", [example, side, bits, window],
    make("div", { class: "panels quadruple" }, ...pictures.map((p) => p.root)), names,
    make("div", { class: "panels" }, make("div", { class: "half" }, chart.root), make("div", { class: "half" }, strip.root)));

  function draw() {
    const now = Object.fromEntries([...HELD, ...NAMES].map((k) => [k, model.get(k)])), label = labels[now.example];
    example.write(now.example); side.write(+now.adversarial); bits.write(now.bits); window.write(now.window);
    const { images, probabilities, scores } = compute(now);
    const titles = ["the input", bitsName(now.bits), medianName(now.window), "both"];
    const guesses = probabilities.map((p) => p.indexOf(Math.max(...p)));
    pictures.forEach((p, i) => p.draw(images[i], titles[i], `${classes[guesses[i]]} (${percent(probabilities[i][guesses[i]])})`));
    titles.slice(1).forEach((t, i) => { names.children[i + 1].textContent = t; });
    chart.draw(probabilities, label);
    strip.draw(titles.slice(1), scores);
    const joint = Math.max(scores[0], scores[1]), flagged = threshold !== null && joint > threshold;
    const [seen, ...others] = guesses.map((k) => classes[k]);
    say(`${now.adversarial ? `The ${classes[label]} changed by ${attacks[now.example]}` : `The clean ${classes[label]}`}: the network sees ` +
      `${seen}; ${others[0]} with ${titles[1]}, ${others[1]} with ${titles[2]}, ${others[2]} with both. ` +
      `The larger score of the two squeezers is ${scoreName(joint)}` +
      (threshold === null ? "." : flagged ? `, above ${scoreName(threshold)}: flagged.` : `, not above ${scoreName(threshold)}: it passes.`), flagged);
    model.set("scores", scores);
    model.save_changes();
  }
  draw();
  return link.off;
}

export { compute };
export default { render };
