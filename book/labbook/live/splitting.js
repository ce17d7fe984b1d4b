// Adaptive multilevel splitting, played back from recorded scores: at each level the better particles live on, and the
// probability of reaching the error set is the product of the shares that did.

// particles of a level above its threshold, and the log10 probability up to there
function compute({ levels, scores, log10, level }) {
  const above = scores[level].filter((s) => s > levels[level]).length;
  return { above, of: scores[level].length, log10: log10[level], inside: scores[level].filter((s) => s > 0).length };
}

const PAUSE = 900; // milliseconds a level stays

function render({ model, el }) {
  const [levels, scores, log10] = ["levels", "scores", "log10"].map((k) => model.get(k)), n = levels.length;
  const link = traits(model, ["level"], () => draw());
  const level = slider("level", { min: 1, max: n, step: 1, show: (v) => `${v} of ${n}` }, (v) => { play.pause(); link.set("level")(v - 1); });
  const play = player(el, "level", { n, at: () => model.get("level"), move: link.set("level"), pause: PAUSE });
  const row = Math.max(9, Math.min(36, 320 / n)), height = row * n;
  const chart = plot({ height: height + 62, left: 34, right: 66, top: 22, bottom: 40 });
  const all = scores.flat(), least = all.reduce((a, b) => Math.min(a, b)), most = all.reduce((a, b) => Math.max(a, b), 0);
  const margin = 0.03 * (most - least), low = least - margin, high = most + margin, every = Math.ceil(14 / row);
  chart.axes(
    { from: low, to: high, ticks: round(low, high, 7).map((v) => [v, String(v).replace("-", "−")]), title: "score, an error above 0" },
    { from: n, to: 0, ticks: Array.from({ length: n }, (_, i) => i).filter((i) => (n - 1 - i) % every === 0).map((i) => [i + 0.5, String(i + 1)]), title: "" },
  );
  chart.area("error-set")([[0, high, 0, n]]);
  chart.note()(high, 0, "log₁₀ p", { dx: 58, dy: -6, anchor: "end", name: "title" });
  chart.note()(0, 0, "errors", { dx: 3, dy: -6, name: "title" });
  const dots = Object.fromEntries(["grey", "blue", "orange", "now grey", "now blue", "now orange"].map((k) => [k, chart.strokes(`spots ${k}`)]));
  const bars = chart.strokes("line ink");
  const labels = levels.map(() => chart.note());
  const names = legend([["grey", "given up"], ["blue", "lives on"], ["orange", "in the error set"]]);
  const say = stage(model, el, "splitting", [level, play], names, chart.root);

  function draw() {
    const now = Math.min(n - 1, model.get("level")), sets = Object.fromEntries(Object.keys(dots).map((k) => [k, []]));
    level.write(now + 1);
    for (let k = 0; k <= now; k++) scores[k].forEach((s, i) => {
      const y = k + 0.16 + 0.68 * ((i * 0.6180339887498949) % 1); // spread over the row
      sets[(k === now ? "now " : "") + (s > 0 ? "orange" : s > levels[k] ? "blue" : "grey")].push([s, y]);
    });
    for (const [key, move] of Object.entries(dots)) move(sets[key]);
    bars(levels.slice(0, now + 1).map((v, k) => [v, k + 0.04, v, k + 0.96]));
    labels.forEach((label, k) => label(high, k + 0.5, k <= now && (k === now || ((now - k) % every === 0)) ? log10[k].toFixed(2).replace("-", "−") : "", { dx: 58, dy: 4, anchor: "end" }));
    const here = compute({ levels, scores, log10, level: now });
    const chance = power(here.log10, 2);
    say(now + 1 === n ? `Level ${n} of ${n}: ${here.above} of ${here.of} particles are errors, so the error rate is about ${chance}.`
      : `Level ${now + 1} of ${n}: ${here.above} of ${here.of} particles score above ${levels[now].toPrecision(3).replace("-", "−")}, ` +
        `which has the probability ${chance}; ${here.inside || "none"} of them ${here.inside === 1 ? "is an error" : "are errors"}.`, now + 1 === n);
    model.set("reached", here.log10);
    model.save_changes();
  }
  draw();
  return () => { play.pause(); link.off(); };
}

export { compute };
export default { render };
