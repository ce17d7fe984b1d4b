// Who decides how many inputs within how many CPU seconds: the inputs as they are decided, and step curves.

// how many inputs each curve has decided by then
const compute = ({ curves, seconds }) => curves.map(({ at, count, n }) => {
  const i = at.findLastIndex((t) => t <= seconds * (1 + 1e-12)), decided = i < 0 ? 0 : count[i];
  return { decided, share: decided / n };
});

// for each curve, in the order of the inputs, which of them are decided by a stop; `when` holds each one's first stop, 255 for never
const decidedBy = ({ curves, stops, seconds }) => curves.map(({ when }) => Array.from(bytesOf(when), (k) => k < 255 && stops[k] <= seconds * (1 + 1e-12)));

// The inputs as cells, decided or not
function lane(n) {
  const columns = Math.max(25, Math.ceil(Math.sqrt(16 * n))), rows = Math.ceil(n / columns), part = (name) => make("path", { class: name });
  const cells = Array.from({ length: n }, (_, i) => `M${(i % columns) + 0.1} ${Math.floor(i / columns) + 0.1}h.8v.8h-.8z`);
  const open = part("heat grey dashed"), done = part("bar green"), svg = make("svg", { viewBox: `0 0 ${columns} ${rows}`, role: "img" }, open, done);
  const draw = (decided, says) => {
    [[open, false], [done, true]].forEach(([path, which]) => path.setAttribute("d", cells.filter((_, i) => decided[i] === which).join("")));
    svg.setAttribute("aria-label", says);
  };
  return { root: svg, draw };
}

const time = (t, digits = 2) => `${+t.toPrecision(digits)}\u00a0s`;
const rate = (share) => `${share === 0 || share === 1 ? 100 * share : (100 * share).toFixed(1)}\u00a0%`;

// Who leads and who is last, in words; those that share a place are named together.
function verdict(found) {
  const shares = found.map(({ share }) => share), top = Math.max(...shares), low = Math.min(...shares);
  const at = (share) => found.filter((f) => f.share === share).map((f) => `${f.name}: ${f.said}`).join(", ");
  if (found.length === 1) return `${found[0].name} has decided ${found[0].said}.`;
  return top === low ? `the same share of inputs is decided by all; ${at(top)}.`
    : `the largest share of inputs is decided by ${at(top)}; the smallest by ${at(low)}.`;
}

function render({ model, el }) {
  const curves = model.get("curves"), stops = model.get("stops"), log = Math.log10;
  const link = traits(model, ["seconds"], () => draw()), from = log(stops[0]), to = log(stops.at(-1));
  const seconds = slider("CPU time", { values: stops, show: (t) => time(t, 3) }, (t) => { play.pause(); link.set("seconds")(t); });
  const at = () => stops.findLastIndex((s) => s <= model.get("seconds") * (1 + 1e-12));
  const play = player(el, "moment", { n: stops.length, at, move: (k) => link.set("seconds")(stops[k]), pause: Math.min(400, 9000 / stops.length) });
  const sides = { left: 48, right: 18, top: 26, bottom: 38 }, chart = plot({ height: 290, ...sides });
  const decades = Array.from({ length: Math.floor(to + 1e-9) - Math.ceil(from - 1e-9) + 1 }, (_, i) => Math.ceil(from - 1e-9) + i);
  chart.axes(
    { from, to, ticks: [...decades.map((d) => [d, String(+(10 ** d).toPrecision(1))]), ...(to - Math.floor(to + 1e-9) > 0.15 ? [[to, String(+stops.at(-1).toPrecision(3))]] : [])], title: "CPU seconds" },
    { from: 0, to: 1, ticks: [0, 0.25, 0.5, 0.75, 1].map((v) => [v, `${100 * v}\u00a0%`]), title: "" },
  );
  chart.note()(from, 1, "inputs decided", { dx: -sides.left + 4, dy: -13, name: "title" });
  const here = chart.strokes("margin"), dots = curves.map(({ at, count, n }, k) => {
    const steps = at.flatMap((t, i) => [[log(t), i ? count[i - 1] / n : 0], [log(t), count[i] / n]]);
    chart.curve(`line ${HUES[k]}`)([[from, 0], ...steps, [to, (count.at(-1) ?? 0) / n]]);
    return chart.dot(`dot ${HUES[k]}`, 5);
  });
  const lanes = curves.map((c, k) => {
    const read = make("span", {}), cells = lane(c.n);
    const told = `median\u00a0${c.median === null ? "not\u00a0reached" : time(c.median)}, mean\u00a0${time(c.mean)}`;
    const caption = make("figcaption", { class: "legend" }, make("span", { class: HUES[k] }, c.name), read, make("em", {}, told));
    return { read, cells, root: make("figure", { class: "lane" }, caption, cells.root) };
  });
  const say = stage(model, el, "race", [seconds, play], ...lanes.map((r) => r.root), chart.root);
  pointing(chart.root, sides, (x) => {
    const v = from + x * (to - from), nearest = stops.reduce((best, s) => (Math.abs(log(s) - v) < Math.abs(log(best) - v) ? s : best));
    play.pause();
    link.set("seconds")(nearest);
  });

  function draw() {
    const now = model.get("seconds"), found = compute({ curves, seconds: now });
    seconds.write(now);
    here([[log(now), 0, log(now), 1]]);
    const said = found.map(({ decided, share }, k) => `${rate(share)} (${whole(decided)} of ${whole(curves[k].n)})`);
    const decided = decidedBy({ curves, stops, seconds: now });
    found.forEach(({ share }, k) => {
      dots[k](log(now), share);
      lanes[k].read.textContent = said[k];
      lanes[k].cells.draw(decided[k], `${curves[k].name}, decided within ${time(now, 3)}: ${said[k]}`);
    });
    say(`Within ${time(now, 3)}, ` + verdict(found.map(({ share }, k) => ({ share, name: curves[k].name, said: said[k] }))));
    model.set("shares", found.map((f) => f.share));
    model.save_changes();
  }
  draw();
  return () => { play.pause(); link.off(); };
}

export { compute, decidedBy, verdict };
export default { render };
