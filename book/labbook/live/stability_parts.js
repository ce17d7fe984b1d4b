// What the figures of ReLU stability share: numbers with a minus sign, the states of a unit, eight hues, a plot to point at.

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

// Clicks, taps and drags of the mouse on a plot with these margins, as shares of its width and height from the lower left
function pointing(root, { left, right, top, bottom }, onPoint) {
  const held = (v) => Math.min(1, Math.max(0, v));
  const point = (event) => {
    if (event.type === "pointermove" && (event.pointerType !== "mouse" || event.buttons !== 1)) return;
    const box = root.getBoundingClientRect(), [, , width, height] = root.getAttribute("viewBox").split(" "), scale = width / box.width;
    const x = ((event.clientX - box.left) * scale - left) / (width - left - right);
    onPoint(held(x), held(1 - ((event.clientY - box.top) * scale - top) / (height - top - bottom)));
  };
  root.classList.add("plane");
  for (const type of ["pointermove", "click"]) root.addEventListener(type, point);
}
