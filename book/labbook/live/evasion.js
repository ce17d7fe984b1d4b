// How often each attacker gets past, against the budget: measured points with their intervals, read off by a slider; and an
// image changed by as much.

// what each curve says at this budget; null where it was not measured there
function compute({ curves, budget }) {
  return curves.map(({ budget: measured, share, low, high }) => {
    const i = measured.findIndex((v) => Math.abs(v - budget) <= 1e-9 * Math.max(1, Math.abs(budget)));
    return i < 0 ? null : { share: share[i], low: low[i], high: high[i] };
  });
}

// an image moved towards an attacked one, by a change whose norm is budget / unit, and cut to [0, 1]
function movedBy({ clean, attacked, norm, unit, budget }) {
  const [x, towards] = [clean, attacked].map((text) => Float64Array.from(bytesOf(text), (b) => b / 255)), change = towards.map((v, i) => v - x[i]);
  const size = norm === "l2" ? Math.sqrt(change.reduce((sum, v) => sum + v * v, 0)) : change.reduce((most, v) => Math.max(most, Math.abs(v)), 0);
  return x.map((v, i) => Math.min(1, Math.max(0, v + (size ? (change[i] * budget) / (unit * size) : 0))));
}

const HUES = ["blue", "orange", "green", "grey", "blue dashed", "orange dashed", "green dashed", "grey dashed"];
const LEFT = 48, RIGHT = 18;

function render({ model, el }) {
  const curves = model.get("curves"), labelX = model.get("label_x"), labelY = model.get("label_y");
  const stops = [...new Set(curves.flatMap((c) => c.budget))].sort((a, b) => a - b), show = (v) => String(+v.toPrecision(4));
  const link = traits(model, ["budget"], () => draw());
  const budget = slider(labelX, { values: stops, show }, link.set("budget"));
  const chart = plot({ height: 290, left: LEFT, right: RIGHT, top: 26 }), first = stops[0], last = stops[stops.length - 1];
  const margin = first === last ? 0.5 : 0.02 * (last - first), from = first - margin, to = last + margin;
  chart.axes(
    { from, to, ticks: round(first, last === first ? first + 1 : last, 6).filter((v) => v <= to).map((v) => [v, show(v)]), title: labelX },
    { from: 0, to: 1, ticks: [0, 0.25, 0.5, 0.75, 1].map((v) => [v, `${100 * v}\u00a0%`]), title: "" },
  );
  chart.note()(from, 1, labelY, { dx: -LEFT + 4, dy: -13, name: "title" });
  const here = chart.strokes("margin");
  const dots = curves.map((c, k) => {
    const hue = HUES[k];
    chart.strokes(`whisker ${hue.split(" ")[0]}`)(c.budget.map((v, i) => [v, c.low[i], v, c.high[i]]));
    chart.curve(`line ${hue}`)(c.budget.map((v, i) => [v, c.share[i]]));
    c.budget.forEach((v, i) => chart.dot(`${hue.includes(" ") ? "ring" : "dot"} ${hue}`, 3)(v, c.share[i]));
    return chart.dot(`dot ${hue}`, 6);
  });
  const rows = curves.map((c, k) => {
    const read = make("td", {});
    return { read, root: make("tr", {}, make("td", { class: "legend" }, make("span", { class: HUES[k] }, c.name)), read) };
  });
  const table = make("table", { class: "readout" }, make("tbody", {}, ...rows.map((r) => r.root)));
  const beside = model.get("beside"), image = beside && picture(beside.shape);
  const say = stage(model, el, "evasion", [budget], beside ? make("div", { class: "panels" }, make("div", { class: "main" }, chart.root), image.root) : chart.root, table);
  // pointing at the plot moves the slider, a finger's touch too
  const point = (event) => {
    if (event.type === "pointermove" && event.pointerType !== "mouse") return;
    const { left, width } = chart.root.getBoundingClientRect();
    const v = from + ((to - from) * (event.clientX - left - LEFT)) / (width - LEFT - RIGHT);
    const nearest = stops.reduce((best, s) => (Math.abs(s - v) < Math.abs(best - v) ? s : best));
    if (nearest !== model.get("budget")) link.set("budget")(nearest);
  };
  for (const type of ["pointermove", "pointerdown"]) chart.root.addEventListener(type, point);

  const capital = (text) => text[0].toUpperCase() + text.slice(1);
  const rate = (p) => (p === 0 || p === 1 ? String(100 * p) : (100 * p).toFixed(1));
  const said = ({ share, low, high }) => `${rate(share)}\u00a0% (${rate(low)} to ${rate(high)}\u00a0%)`;
  function draw() {
    const now = model.get("budget"), found = compute({ curves, budget: now });
    budget.write(now);
    here([[now, 0, now, 1]]);
    image?.draw(movedBy({ ...beside, budget: now }), "a change of this size", `${labelX}: ${show(now)}`);
    found.forEach((f, k) => {
      dots[k](f ? now : NaN, f ? f.share : NaN);
      rows[k].read.textContent = f ? said(f) : "not measured here";
    });
    const measured = found.map((f, k) => [f, curves[k].name]).filter(([f]) => f);
    const [best, name] = measured.reduce((a, b) => (b[0].share > a[0].share ? b : a), measured[0] ?? [null, ""]);
    const whose = measured.length > 1 ? ` for the strongest of ${measured.length} attackers, ${name}` : curves.length > 1 ? ` for ${name}` : "";
    say(`${capital(labelX)}: ${show(now)}. ` + (best ? `${capital(labelY)}: ${said(best)}${whose}.` : "Nothing was measured here."));
    model.set("shares", found.map((f) => f && f.share));
    model.save_changes();
  }
  draw();
  return link.off;
}

export { compute, movedBy };
export default { render };
