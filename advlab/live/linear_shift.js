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

const BOX = { left: 46, top: 10, width: 360, height: 190, dMax: 5.2, low: -3, high: 3 };
const px = (logD) => BOX.left + (BOX.width * logD) / BOX.dMax;
const py = (value) => {
  const share = (Math.log10(Math.max(value, 1e-9)) - BOX.low) / (BOX.high - BOX.low);
  return BOX.top + BOX.height * (1 - Math.min(1, Math.max(0, share)));
};
const scientific = (v) => (v >= 0.001 ? v.toPrecision(2) : v === 0 ? "0" : v.toExponential(1));

function render({ model, el }) {
  const margin = model.get("margin");
  const link = traits(model, ["log10_d", "eps"], () => draw());
  const d = slider("inputs d", { min: 0, max: BOX.dMax, step: 0.1, show: (v) => Math.round(10 ** v).toLocaleString("en") }, link.set("log10_d"));
  const eps = slider("budget ε", { min: 0.005, max: 0.5, step: 0.005, show: (v) => v.toFixed(3) }, link.set("eps"));
  const curve = (name) => make("path", { class: name, fill: "none" }), dot = (name) => make("circle", { class: name, r: 5 });
  const worst = curve("worst"), random = curve("random"), worstDot = dot("worst"), randomDot = dot("random");
  const axes = make("g", { class: "axes" });
  for (let k = BOX.low; k <= BOX.high; k++) {
    axes.append(make("line", { x1: BOX.left, x2: BOX.left + BOX.width, y1: py(10 ** k), y2: py(10 ** k) }));
    axes.append(make("text", { x: BOX.left - 6, y: py(10 ** k) + 4, "text-anchor": "end" }, String(+(10 ** k).toPrecision(1))));
  }
  for (let k = 0; k <= 5; k++) axes.append(make("text", { x: px(k), y: BOX.top + BOX.height + 16, "text-anchor": "middle" }, (10 ** k).toLocaleString("en")));
  const bar = make("line", { class: "margin", x1: BOX.left, x2: BOX.left + BOX.width, y1: py(margin), y2: py(margin) });
  const names = make("g", { class: "names" },
    make("text", { x: px(2.1), y: py(margin) - 6 }, "the margin"),
    make("text", { x: BOX.left + BOX.width, y: BOX.top + BOX.height + 32, "text-anchor": "end" }, "inputs d"));
  const svg = make("svg", { viewBox: "0 0 420 236", role: "img", class: "plot" }, axes, bar, worst, random, worstDot, randomDot, names);
  const verdict = make("p", { class: "verdict", role: "status" });
  el.classList.add("advlab-live", "advlab-linear-shift");
  el.setAttribute("role", "group");
  el.setAttribute("aria-label", model.get("alt"));
  el.replaceChildren(
    make("div", { class: "controls" }, d.root, eps.root),
    make("div", { class: "legend" }, make("span", { class: "worst" }, "worst case, ε √d"), make("span", { class: "random" }, "random signs, ε")),
    svg, verdict,
  );
  function draw() {
    const logD = model.get("log10_d"), budget = model.get("eps");
    d.write(logD); eps.write(budget);
    const at = (v) => compute({ d: 10 ** v, eps: budget, margin });
    const grid = Array.from({ length: 27 }, (_, i) => (BOX.dMax * i) / 26);
    const line = (key) => grid.map((v, i) => `${i ? "L" : "M"}${px(v).toFixed(1)} ${py(at(v)[key]).toFixed(1)}`).join("");
    worst.setAttribute("d", line("worst"));
    random.setAttribute("d", line("random"));
    const here = at(logD);
    for (const [node, key] of [[worstDot, "worst"], [randomDot, "random"]]) {
      node.setAttribute("cx", px(logD));
      node.setAttribute("cy", py(here[key]));
    }
    const crossed = here.worst >= margin;
    verdict.textContent = `With ${Math.round(10 ** logD).toLocaleString("en")} inputs and ε = ${budget.toFixed(3)} an attack moves the unit by ` +
      `${scientific(here.worst)}, random signs by ${scientific(here.random)}. The attack ${crossed ? "crosses" : "does not reach"} the margin ` +
      `(it needs ε = ${scientific(here.needed)}); random signs do with probability at most ${scientific(here.chance)}.`;
    verdict.classList.toggle("broken", crossed);
    svg.setAttribute("aria-label", verdict.textContent);
    model.set("shift", [here.worst, here.random]);
    model.save_changes();
  }
  draw();
  return link.off;
}

export { compute };
export default { render };
