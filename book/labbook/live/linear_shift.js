// How far a budget eps per input moves a linear unit with d inputs: worst case against random signs. Closed form.

// weights of equal size with norm 1; margin is what the unit must lose to change its answer
function compute({ d, eps, margin }) {
  return {
    worst: eps * Math.sqrt(d),                              // eps |w|_1
    random: eps,                                            // standard deviation: eps |w|_2
    needed: margin / Math.sqrt(d),                          // the smallest eps that reaches the margin
    chance: Math.min(1, Math.exp(-(margin ** 2) / (2 * eps ** 2))), // Hoeffding's bound for random signs
  };
}

const MOST = 5.2, LOW = -3, HIGH = 3; // log10 of the most inputs, of the smallest and the largest shift
const scientific = (v) => (v >= 0.001 ? v.toPrecision(2) : v === 0 ? "0" : v.toExponential(1));

function render({ model, el }) {
  const margin = model.get("margin");
  const link = traits(model, ["log10_d", "eps"], () => draw());
  const d = slider("inputs d", { min: 0, max: MOST, step: 0.1, show: (v) => whole(10 ** v) }, link.set("log10_d"));
  const eps = slider("budget ε", { min: 0.005, max: 0.5, step: 0.005, show: (v) => v.toFixed(3) }, link.set("eps"));
  const decades = (low, high) => Array.from({ length: high - low + 1 }, (_, i) => [low + i, (+(10 ** (low + i)).toPrecision(1)).toLocaleString("en")]);
  const chart = plot();
  chart.axes(
    { from: 0, to: MOST, ticks: decades(0, 5), title: "inputs d" },
    { from: LOW, to: HIGH, ticks: decades(LOW, HIGH), title: "" },
  );
  chart.curve("margin")([[0, Math.log10(margin)], [MOST, Math.log10(margin)]]);
  chart.note()(0, Math.log10(margin), "the margin", { dx: 5, dy: -6 });
  const lines = ["worst", "random"].map((key) => [key, chart.curve(`line ${key}`), chart.dot(`dot ${key}`)]);
  const say = stage(model, el, "linear-shift", [d, eps], legend([["worst", "worst case, ε √d"], ["random", "random signs, ε"]]), chart.root);
  const grid = Array.from({ length: 27 }, (_, i) => (MOST * i) / 26);
  function draw() {
    const logD = model.get("log10_d"), budget = model.get("eps");
    d.write(logD); eps.write(budget);
    const at = (v) => compute({ d: 10 ** v, eps: budget, margin }), here = at(logD);
    for (const [key, line, dot] of lines) {
      line(grid.map((v) => [v, Math.log10(at(v)[key])]));
      dot(logD, Math.log10(here[key]));
    }
    const crossed = here.worst >= margin;
    say(`With ${whole(10 ** logD)} inputs and ε = ${budget.toFixed(3)} an attack moves the unit by ` +
      `${scientific(here.worst)}, random signs by ${scientific(here.random)}. The attack ${crossed ? "crosses" : "does not reach"} the margin ` +
      `(it needs ε = ${scientific(here.needed)}); random signs do with probability at most ${scientific(here.chance)}.`, crossed);
    model.set("shift", [here.worst, here.random]);
    model.save_changes();
  }
  draw();
  return link.off;
}

export { compute };
export default { render };
