// How far a budget eps per input moves a linear unit with d inputs: worst case against random signs, in closed form and vote by vote.

// weights of equal size with norm 1; margin is what the unit must lose to change its answer
function compute({ d, eps, margin }) {
  return {
    worst: eps * Math.sqrt(d),                              // eps |w|_1
    random: eps,                                            // standard deviation: eps |w|_2
    needed: margin / Math.sqrt(d),                          // the smallest eps that reaches the margin
    chance: Math.min(1, Math.exp(-(margin ** 2) / (2 * eps ** 2))), // Hoeffding's bound for random signs
  };
}

// The inputs vote in turn: weights of random signs, and random signs that agree with them (1) or not (-1). The path of the sum
// of the random votes has at most about 256 points; where signs are chosen all agree, and the path is straight.
function votes({ d, eps, seed }) {
  const n = Math.round(d), draw = uniforms(seed), sign = () => (draw() < 0.5 ? -1 : 1), step = eps / Math.sqrt(n), every = Math.ceil(n / 256);
  const weights = Int8Array.from({ length: n }, sign), random = Int8Array.from({ length: n }, (_, i) => sign() * weights[i]), path = [[0, 0]];
  let sum = 0;
  random.forEach((vote, i) => {
    sum += vote;
    if ((i + 1) % every === 0 || i + 1 === n) path.push([i + 1, sum * step]);
  });
  return { n, weights, random, path, agree: (n + sum) / 2, sum: sum * step };
}

const MOST = 5.2; // log10 of the most inputs
const scientific = (v) => (v === 0 || Math.abs(v) >= 0.001 ? String(+v.toPrecision(2)) : v.toExponential(1)).replace("-", "\u2212");
const FOR = [31, 120, 196], AGAINST = [217, 98, 10];

// Values of either sign as the pixels of a square
function ballots() {
  const canvas = make("canvas", { role: "img" }), caption = make("figcaption", {});
  const draw = (n, values, title, says) => {
    const side = Math.ceil(Math.sqrt(n)), context = canvas.getContext("2d"), image = new ImageData(side, side);
    canvas.width = canvas.height = side;
    for (let i = 0; i < n; i++) image.data.set([...(values(i) > 0 ? FOR : AGAINST), 255], 4 * i);
    context.putImageData(image, 0, 0);
    caption.replaceChildren(make("strong", {}, title), make("br"), says);
    canvas.setAttribute("aria-label", `${title}: ${says}`);
  };
  return { root: make("figure", {}, canvas, caption), draw };
}

function render({ model, el }) {
  const margin = model.get("margin"), link = traits(model, ["log10_d", "eps", "seed"], () => draw());
  const d = slider("inputs d", { min: 0, max: MOST, step: 0.1, show: (v) => whole(10 ** v) }, link.set("log10_d"));
  const eps = slider("budget ε", { min: 0.005, max: 0.5, step: 0.005, show: (v) => v.toFixed(3) }, link.set("eps"));
  const again = make("button", { type: "button" }, "draw other signs");
  const views = [ballots(), ballots(), ballots()], chart = plot({ height: 230, left: 52 });
  const edge = chart.strokes("margin"), name = chart.note(), chosen = chart.curve("line worst"), random = chart.curve("line random");
  const dots = [chart.dot("dot worst"), chart.dot("dot random")];
  const say = stage(model, el, "linear-shift", [d, eps], make("div", { class: "presses" }, again), make("div", { class: "panels triple" }, ...views.map((v) => v.root)),
    make("figure", { class: "main" }, make("figcaption", {}, "the sum, as one input votes after the other"), legend([["worst", "chosen signs"], ["random", "random signs"]]), chart.root));
  let known = {};
  function draw() {
    const logD = model.get("log10_d"), budget = model.get("eps"), seed = model.get("seed");
    d.write(logD); eps.write(budget);
    const here = compute({ d: Math.round(10 ** logD), eps: budget, margin });
    if (known.logD !== logD || known.seed !== seed) { // the signs do not depend on the budget
      known = { logD, seed, ...votes({ d: 10 ** logD, eps: 1, seed }) };
      const { n, weights, agree } = known;
      views[0].draw(n, (i) => weights[i], "the weights", "blue: +, orange: \u2212");
      views[1].draw(n, () => 1, "chosen signs", `for the attack: ${whole(n)} of ${whole(n)}`);
      views[2].draw(n, (i) => known.random[i], "random signs", `for it: ${whole(agree)} of ${whole(n)}`);
    }
    const { n } = known, path = known.path.map(([k, v]) => [k, v * budget]), sum = known.sum * budget;
    const low = Math.min(0, ...path.map(([, v]) => v)), high = Math.max(margin, here.worst, ...path.map(([, v]) => v)), from = low - 0.06 * (high - low), to = high + 0.1 * (high - low);
    chart.axes({ from: 0, to: n, ticks: round(0, n, 4).filter(Number.isInteger).map((v) => [v, whole(v)]), title: "votes counted" },
      { from, to, ticks: round(from, to, 4).map((v) => [v, scientific(v)]), title: "" });
    edge([[0, margin, n, margin]]);
    name(0, margin, "the margin", { dx: 5, dy: -6 });
    chosen([[0, 0], [n, here.worst]]);
    random(path);
    dots[0](n, here.worst);
    dots[1](n, sum);
    const crossed = here.worst >= margin, votesFor = n === 1 ? "one input" : `${whole(n)} inputs`;
    say(`With ${votesFor} and ε = ${budget.toFixed(3)} each vote weighs ${scientific(budget / Math.sqrt(n))}. Where signs are chosen all votes agree: ` +
      `the sum is ${scientific(here.worst)} and ${crossed ? "crosses" : "does not reach"} the margin (that takes ε = ${scientific(here.needed)}). ` +
      `These random signs come to ${scientific(sum)}, and others to about ±${scientific(here.random)}; they reach the margin with probability at most ${scientific(here.chance)}.`, crossed);
    model.set("shift", [here.worst, here.random]);
    model.set("drawn", sum);
    model.save_changes();
  }
  again.addEventListener("click", () => link.set("seed")(model.get("seed") + 1));
  draw();
  return link.off;
}

export { compute, votes };
export default { render };
