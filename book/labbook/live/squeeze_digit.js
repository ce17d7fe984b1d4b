// A real digit and its adversarial twin before the joint detector: fewer bits, a median, and the network on all three.

const pageOf = ({ layers, weights, net = network(layers, halvesOf(weights)), clean, attacked, shape }) =>
  ({ net, clean: bytesOf(clean), attacked: bytesOf(attacked), shape });

// The input, its reduced bits and its median: each image with the network's probabilities on it; and the scores of the two
function squeezed({ net, clean, attacked, shape }, { example, adversarial, bits, window }, believe = (key, x) => softmax(net.logits(x))) {
  const x = imageAt(adversarial ? attacked : clean, size(shape), example), from = `${example} ${adversarial}`;
  const images = [x, reduceBitDepth(x, bits), medianFilter(x, shape, window)];
  const keys = [from, bits === 8 ? from : `${from} bits ${bits}`, window === 1 ? from : `${from} median ${window}`];
  const probabilities = images.map((image, i) => believe(keys[i], image));
  return { images, probabilities, scores: probabilities.slice(1).map((p) => l1(probabilities[0], p)) };
}

const compute = (state) => squeezed(pageOf(state), state);

const NAMES = ["example", "adversarial", "bits", "window"];

async function render({ model, el }) {
  const [clean, attacked, shape] = ["clean", "attacked", "shape"].map((k) => model.get(k));
  const held = pageOf({ net: await networkOf(model), clean, attacked, shape });
  const labels = model.get("labels"), attacks = model.get("attacks"), known = new Map();
  const believe = (key, x) => { // one pass for each view that is seen; moving a slider back costs nothing
    if (!known.has(key)) known.set(key, softmax(held.net.logits(x)));
    return known.get(key);
  };
  const link = traits(model, NAMES, () => draw());
  const example = choice("example", labels.map((y, i) => [i, `${i + 1}: ${numeral(y)}, ${attacks[i]}`]), (v) => link.set("example")(+v));
  const side = choice("show", [[0, "the clean digit"], [1, "its adversarial twin"]], (v) => link.set("adversarial")(v === "1"));
  const bits = slider("bit depth", { min: 1, max: 8, show: bitsName }, link.set("bits"));
  const window = slider("median window", { min: 1, max: 5, show: times }, link.set("window"));
  const hues = ["grey", "blue", "orange"], pictures = hues.map(() => picture(held.shape)), threshold = model.get("threshold");
  const chart = beliefs(Array.from({ length: 10 }, (_, k) => String(k)), hues, 22), strip = scoreStrip(["blue", "orange"], threshold);
  const names = legend([["grey", "the input"], ["blue", ""], ["orange", ""]]);
  const say = stage(model, el, "squeeze-digit", [example, side, bits, window],
    make("div", { class: "panels triple" }, ...pictures.map((p) => p.root)), names,
    make("div", { class: "panels" }, make("div", { class: "half" }, chart.root), make("div", { class: "half" }, strip.root)));

  function draw() {
    const now = Object.fromEntries(NAMES.map((k) => [k, model.get(k)])), label = labels[now.example];
    example.write(now.example); side.write(+now.adversarial); bits.write(now.bits); window.write(now.window);
    const { images, probabilities, scores } = squeezed(held, now, believe);
    const titles = ["the input", bitsName(now.bits), medianName(now.window)];
    const guesses = probabilities.map((p) => p.indexOf(Math.max(...p)));
    pictures.forEach((p, i) => p.draw(images[i], titles[i], `${guesses[i]} (${percent(probabilities[i][guesses[i]])})`.replaceAll(" ", "\u00a0")));
    titles.slice(1).forEach((t, i) => { names.children[i + 1].textContent = t; });
    chart.draw(probabilities, label);
    strip.draw(titles.slice(1), scores);
    const joint = Math.max(...scores), flagged = joint > threshold, who = titles[1 + scores.indexOf(joint)];
    const [seen, ...others] = guesses.map(numeral), what = now.adversarial ? `${numeral(label)} changed by ${attacks[now.example]}` : `a clean ${label}`;
    say(`${what[0].toUpperCase()}${what.slice(1)}: the network reads ${seen}; ` +
      `${others[0]} with ${titles[1]}, ${others[1]} with ${titles[2]}. The joint score is ${scoreName(joint)}` +
      `${joint > 0 ? `, from ${who}` : ""}: ` + (flagged ? `above ${scoreName(threshold)}, so it is flagged.` : `not above ${scoreName(threshold)}, so it passes.`), flagged);
    model.set("scores", scores);
    model.set("flagged", flagged);
    model.save_changes();
  }
  draw();
  return link.off;
}

export { compute, pageOf, squeezed };
export default { render };
