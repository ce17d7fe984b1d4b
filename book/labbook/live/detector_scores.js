// The joint detector's scores: clean images above, adversarial images below, and the threshold between them.

const unpack = ({ packed, sizes, squeezers }) => { // clean scores, then each attack's, as lists of rows
  const all = new Float32Array(bytesOf(packed).buffer), k = squeezers.length;
  let at = 0;
  return sizes.map((n) => Array.from({ length: n }, () => all.subarray(at, (at += k))));
};

// The joint score (the maximum over the chosen squeezers) of every image; the threshold for this false-positive rate, and
// what it and the marked one flag: of the clean images, of each attack, of the attack shown; and the area under the ROC
function judge(groups, { attacks, attack, chosen, false_positive_rate, marked }) {
  const which = [...chosen.keys()].filter((i) => chosen[i]);
  const joint = groups.map((rows) => Float64Array.from(rows, (row) => which.reduce((most, i) => Math.max(most, row[i]), 0)));
  const [clean, ...each] = joint, sorted = clean.slice().sort(), threshold = thresholdAt(sorted, false_positive_rate);
  const above = (scores, t) => scores.reduce((n, v) => n + (v > t), 0);
  const shown = attack === "all" ? Float64Array.from(each.flatMap((s) => [...s])) : each[attacks.indexOf(attack)];
  const counts = (t) => ({ clean: above(clean, t), shown: above(shown, t) });
  return {
    threshold, ...counts(threshold), cleanScores: clean, shownScores: shown,
    each: each.map((s) => above(s, threshold)), marked: marked === null ? null : counts(marked), auc: areaUnderRoc(sorted, shown),
  };
}

const compute = (state) => judge(unpack(state), state);

const BINS = 48, NAMES = ["attack", "chosen", "false_positive_rate", "scale"];
const RATES = [0, 0.001, 0.002, 0.005, 0.01, 0.015, 0.02, 0.03, 0.04, 0.05, 0.06, 0.08, 0.1, 0.15, 0.2, 0.3, 0.5];
const capital = (text) => text[0].toUpperCase() + text.slice(1);

function render({ model, el }) {
  const [sizes, squeezers, attacks, marked] = ["sizes", "squeezers", "attacks", "marked"].map((k) => model.get(k));
  const groups = unpack({ packed: model.get("packed"), sizes, squeezers });
  const link = traits(model, NAMES, () => draw());
  const attack = choice("attack", [["all", "all attacks"], ...attacks.map((a) => [a, a])], link.set("attack"));
  const chosen = toggles("squeezers", squeezers, link.set("chosen"));
  const rate = slider("false positives, at most", { values: RATES, show: (v) => `${+(100 * v).toPrecision(3)}\u00a0%` }, link.set("false_positive_rate"));
  const scale = choice("axis", [["log", "logarithmic"], ["linear", "linear"]], link.set("scale"));
  const chart = plot({ height: 290, left: 14, right: 16, top: 8 }), height = 22 * (attacks.length + 1);
  const up = chart.area("bar blue"), down = chart.area("bar orange"), zone = chart.area("band"), axis = chart.strokes("line ink");
  const line = chart.strokes("margin"), given = chart.strokes("marked"), notes = [chart.note(), chart.note()], mark = chart.note();
  const longest = Math.max(...attacks.map((a) => a.length), 5), left = Math.min(132, 16 + 6.6 * longest);
  const table = plot({ height: height + 44, left, right: 52, top: 4, bottom: 38 });
  table.axes(
    { from: 0, to: 1, ticks: [0, 0.5, 1].map((v) => [v, `${100 * v}\u00a0%`]), title: "share flagged" },
    { from: attacks.length + 1, to: 0, ticks: ["clean", ...attacks].map((a, i) => [i + 0.5, a]), title: "" },
  );
  const rows = { blue: table.area("bar blue"), orange: table.area("bar orange"), grey: table.area("bar grey") };
  const values = [...attacks, ""].map(() => table.note());
  const part = (caption, root) => make("figure", { class: "half" }, make("figcaption", {}, caption), root);
  const names = legend([["blue", `${whole(sizes[0])} clean images, above`], ["orange", ""]]);
  const say = stage(model, el, "detector-scores", [attack, chosen, rate, scale], names,
    make("div", { class: "panels" }, part("joint scores, each histogram to its own height", chart.root), part("flagged at this threshold", table.root)));

  // the least decade to draw, over all the scores there are
  const least = groups.flat().reduce((a, row) => row.reduce((b, v) => (v > 0 ? Math.min(b, v) : b), a), 1);
  const floor = Math.max(-7, Math.min(-2, Math.floor(Math.log10(least))));

  function draw() {
    const now = Object.fromEntries(NAMES.map((k) => [k, model.get(k)]));
    attack.write(now.attack); chosen.write(now.chosen); rate.write(now.false_positive_rate); scale.write(now.scale);
    const here = judge(groups, { attacks, marked, ...now }), { cleanScores, shownScores, threshold } = here, log = now.scale === "log";
    const from = log ? floor : 0, to = log ? Math.log10(2) : 2, at = (v) => (log ? Math.log10(Math.max(v, 10 ** floor)) : v);
    const ticks = log ? Array.from({ length: 1 - floor }, (_, i) => [floor + i, (i ? "" : "≤ ") + power(floor + i)]) : round(0, 2, 4).map((v) => [v, String(v)]);
    chart.axes({ from, to, ticks, title: "joint score" }, { from: -1.16, to: 1.16, ticks: [], title: "" });
    const wide = (to - from) / BINS;
    const columns = (scores, sign) => {
      const counts = new Float64Array(BINS);
      for (const v of scores) counts[Math.min(BINS - 1, Math.max(0, Math.floor((at(v) - from) / wide)))]++;
      const most = Math.max(...counts);
      return Array.from(counts, (c, i) => [from + i * wide, from + (i + 0.92) * wide, 0, (sign * c) / most]).filter((b) => b[3]);
    };
    up(columns(cleanScores, 1)); down(columns(shownScores, -1));
    zone([[at(threshold), to, -1.16, 1.16]]);
    axis([[from, 0, to, 0]]);
    line([[at(threshold), -1.16, at(threshold), 1.16]]);
    const side = at(threshold) > from + 0.68 * (to - from) ? { dx: -5, anchor: "end" } : { dx: 5 };
    notes[0](at(threshold), 1.16, `flagged: ${outOf(here.clean, cleanScores.length)}`, { dy: 13, ...side });
    notes[1](at(threshold), -1.16, `flagged: ${outOf(here.shown, shownScores.length)}`, { dy: -5, ...side });
    if (marked !== null) given([[at(marked), -0.98, at(marked), 0.98]]);
    const far = marked !== null && (at(marked) - from) / (to - from) > (marked < threshold ? 0.35 : 0.68);
    if (marked !== null) mark(at(marked), 0.75, `marked: ${scoreName(marked)}`, { dx: far ? -4 : 4, anchor: far ? "end" : "start", name: "title over" });
    const counts = [here.clean, ...here.each], bar = (i) => [0, counts[i] / sizes[i], i + 0.18, i + 0.82];
    const seen = attacks.map((a, i) => [now.attack === "all" || now.attack === a, i + 1]);
    rows.blue([bar(0)]);
    rows.orange(seen.filter(([s]) => s).map(([, i]) => bar(i)));
    rows.grey(seen.filter(([s]) => !s).map(([, i]) => bar(i)));
    values.forEach((note, i) => note(1, i + 0.5, outOf(counts[i], sizes[i]), { dx: 48, dy: 4, anchor: "end" }));
    const what = now.attack === "all" ? "all attacks" : now.attack;
    names.children[1].textContent = `${whole(shownScores.length)} adversarial images of ${what}, below`;
    const using = squeezers.filter((_, i) => now.chosen[i]);
    const who = using.length > 1 ? `the largest of ${using.length} scores (${using.join(", ")})` : `the score of ${using[0]}`;
    say(`${capital(who)} above ${scoreName(threshold)} flags ${whole(here.clean)} of ${whole(cleanScores.length)} clean images ` +
      `(${outOf(here.clean, cleanScores.length)}) and ${whole(here.shown)} of ${whole(shownScores.length)} adversarial images of ${what} ` +
      `(${outOf(here.shown, shownScores.length)}); the area under the ROC curve is ${here.auc.toFixed(4)}.` +
      (marked === null ? "" : ` The marked threshold, ${scoreName(marked)}, flags ${outOf(here.marked.clean, cleanScores.length)} and ${outOf(here.marked.shown, shownScores.length)}.`));
    model.set("threshold", threshold);
    model.set("rates", [here.clean / cleanScores.length, here.shown / shownScores.length]);
    model.set("auc", here.auc);
    model.save_changes();
  }
  draw();
  return link.off;
}

export { compute };
export default { render };
