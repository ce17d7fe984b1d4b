// Units settling during training: the bounds of every unit at recorded steps, a plane for each training.

// how many units are unstable, always active, always zero
function tally(pairs) {
  const counts = [0, 0, 0];
  for (let i = 0; i < pairs.length; i += 2) counts[stateOf(pairs[i], pairs[i + 1])]++;
  return counts;
}

// the bounds of each training at one record, as l, u, l, u, ...
function recorded(all, { sizes, steps }, record) {
  let at = 0;
  return sizes.map((n) => {
    const from = at + 2 * n * record;
    at += 2 * n * steps.length;
    return all.subarray(from, from + 2 * n);
  });
}

const compute = (state) => recorded(halvesOf(state.packed), state, state.record).map(tally);

const HUE = ["orange", "blue", "grey"];

function render({ model, el }) {
  const [packed, sizes, steps, labels, reach] = ["packed", "sizes", "steps", "labels", "reach"].map((k) => model.get(k));
  const all = halvesOf(packed), n = steps.length, link = traits(model, ["record"], () => draw());
  const record = slider("training step", { max: n - 1, show: (k) => whole(steps[k]) }, (k) => { play.pause(); link.set("record")(k); });
  const pace = Math.min(900, Math.max(100, 8000 / n));
  const play = player(el, "step", { n, at: () => model.get("record"), move: link.set("record"), pause: pace });
  const ticks = round(-reach, reach, 5).map((v) => [v, minus(v)]);
  const charts = labels.map((label) => {
    const chart = plot({ height: labels.length > 2 ? 262 : 312, left: 34, right: 12, top: 24 });
    chart.axes({ from: -reach, to: reach, ticks, title: "lower bound l" }, { from: -reach, to: reach, ticks, title: "" });
    chart.note()(-reach, reach, "upper bound u", { dx: -30, dy: -11, name: "title" });
    chart.area("error-set")([[-reach, 0, 0, reach]]);
    chart.strokes("margin")([[-reach, 0, reach, 0], [0, -reach, 0, reach]]);
    return { root: panel(labels.length > 2 ? "third" : "half", label, chart.root), dots: HUE.map((hue) => chart.strokes(`spots unit ${hue}`)) };
  });
  const cells = labels.map(() => STATES.map(() => make("td", {})));
  const row = (label, i) => make("tr", {}, make("td", { class: "name" }, `${label} (${whole(sizes[i])})`), ...cells[i]);
  const head = make("tr", {}, ...["units", ...STATES].map((text) => make("th", { scope: "col" }, text)));
  const table = make("table", { class: "readout" }, make("thead", {}, head), make("tbody", {}, ...labels.map(row)));
  const say = stage(model, el, "settling-units", [record, play], legend(STATES.map((s, i) => [HUE[i], s])),
    make("div", { class: "panels" }, ...charts.map((c) => c.root)), table);

  const held = (v) => Math.min(reach, Math.max(-reach, v));
  function draw() {
    const now = model.get("record"), found = recorded(all, { sizes, steps }, now), counts = found.map(tally);
    record.write(now);
    found.forEach((pairs, k) => {
      const sets = [[], [], []];
      for (let i = 0; i < pairs.length; i += 2) sets[stateOf(pairs[i], pairs[i + 1])].push([held(pairs[i]), held(pairs[i + 1])]);
      sets.forEach((set, i) => charts[k].dots[i](set));
      counts[k].forEach((c, i) => { cells[k][i].textContent = whole(c); });
    });
    const told = counts.map(([open, on, off], k) => `${labels[k]}: ${whole(open)} of ${whole(sizes[k])} units unstable, ${whole(on)} always active, ${whole(off)} always zero`);
    say(`Step ${whole(steps[now])}. ${told.join("; ")}.`);
    model.set("counts", counts);
    model.save_changes();
  }
  draw();
  return () => { play.pause(); link.off(); };
}

export { compute };
export default { render };
