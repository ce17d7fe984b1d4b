// What the figures of ReLU stability share: numbers with a minus sign, the states of a unit, eight hues.

const minus = (text) => String(text).replace(/-/g, "−");
const few = (v) => minus(v === 0 || Math.abs(v) >= 1e-3 ? +v.toPrecision(3) : v.toExponential(1));
const short = (v) => minus(+v.toFixed(2));

const STATES = ["unstable", "always active", "always zero"];
const stateOf = (l, u) => (l >= 0 ? 1 : u <= 0 ? 2 : 0);

const HUES = ["blue", "orange", "green", "grey", "blue dashed", "orange dashed", "green dashed", "grey dashed"];

const panel = (name, caption, ...parts) => make("figure", { class: name }, make("figcaption", {}, caption), ...parts);

// polygons as one closed curve: each in turn, and back along the bridges between them, which enclose nothing
const joined = (polygons) => [...polygons.flatMap((p) => [...p, p[0]]), ...polygons.map((p) => p[0]).reverse()];
const outlines = (polygons) => polygons.flatMap((p) => p.map((a, i) => [...a, ...p[(i + 1) % p.length]]));
