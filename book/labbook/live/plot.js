// Drawing on axes: scales, ticks, curves, dots. Follows kit.js in the modules of the figures that plot.

const SUPERSCRIPT = { "-": "⁻", ".": "·", 0: "⁰", 1: "¹", 2: "²", 3: "³", 4: "⁴", 5: "⁵", 6: "⁶", 7: "⁷", 8: "⁸", 9: "⁹" };
// 10 to this power, in words of the page: 0.2, then 10⁻¹²·⁷
function power(log10, digits = 1) {
  if (log10 > -1.5 && log10 < 3) return String(+(10 ** log10).toPrecision(2));
  return "10" + [...String(+log10.toFixed(digits))].map((c) => SUPERSCRIPT[c]).join("");
}

// about `count` round numbers between two numbers
function round(from, to, count) {
  const rough = (to - from) / count, unit = 10 ** Math.floor(Math.log10(rough));
  const step = unit * [1, 2, 5, 10].find((m) => m * unit >= rough * 0.999), out = [];
  for (let i = Math.ceil(from / step - 1e-9); i * step <= to + 1e-9 * step; i++) out.push(+(i * step).toPrecision(12));
  return out;
}

// An SVG with a pair of axes, as wide as the page lets it be, so that letters keep their size. `axes` sets them, also again
// later; the others each add a thing and give the function that moves it, in the axes' units. Curves end at the frame; dots
// and notes start inside it.
function plot({ height = 250, left = 48, right = 18, top = 10, bottom = 38 } = {}) {
  let width = 0, w = 0;
  const h = height - top - bottom, frame = make("g", { class: "axes" }), inner = make("svg", { x: left, y: top, height: h }), front = make("g", {});
  const root = make("svg", { role: "img", class: "plot" }, frame, inner, front);
  const map = { x: Number, y: Number }, replays = [], held = (v, low, high) => Math.min(high, Math.max(low, v));
  const x = (v) => map.x(v), y = (v) => map.y(v), far = (v) => held(v, -1e4, 1e4).toFixed(2); // browsers draw no path with huge numbers
  function again(move) { // a function that can be called once more with its last arguments, when the width has changed
    let last = null;
    replays.push(() => last && move(...last));
    return (...now) => { last = now; move(...now); };
  }
  function resize(to) {
    width = to;
    w = width - left - right;
    root.setAttribute("viewBox", `0 0 ${width} ${height}`);
    inner.setAttribute("width", w);
    inner.setAttribute("viewBox", `${left} ${top} ${w} ${h}`);
    for (const replay of replays) replay();
  }
  const written = (text) => [...text].reduce((sum, c) => sum + (/[⁰¹²³⁴-⁹⁻·., ]/.test(c) ? 4.6 : 7), 0); // about, in pixels

  // each axis: { from, to, ticks: [[value, text], ...], title, side: "end" for a title on the right }; texts that would touch their neighbour are left out
  const axes = again((across, up) => {
    map.x = (v) => left + (w * (v - across.from)) / (across.to - across.from);
    map.y = (v) => top + h - (h * (v - up.from)) / (up.to - up.from);
    frame.replaceChildren();
    for (const [v, text] of up.ticks) {
      frame.append(make("line", { x1: left, x2: left + w, y1: y(v), y2: y(v) }));
      frame.append(make("text", { x: left - 6, y: y(v) + 4, "text-anchor": "end" }, text));
    }
    let end = -Infinity;
    for (const [v, text] of across.ticks) {
      const half = written(text) / 2, middle = held(x(v), half, width - half);
      frame.append(make("line", { x1: x(v), x2: x(v), y1: top + h, y2: top + h + 4 }));
      if (middle - half < end + 8) continue;
      frame.append(make("text", { x: middle, y: top + h + 17, "text-anchor": "middle" }, text));
      end = middle + half;
    }
    frame.append(make("line", { x1: left, x2: left + w, y1: top + h, y2: top + h }));
    frame.append(make("text", { class: "title", x: left + w, y: top + h + 34, "text-anchor": "end" }, across.title));
    const [at, anchor] = up.side === "end" ? [left + w, "end"] : [left + 5, "start"];
    if (up.title) frame.append(make("text", { class: "title over", x: at, y: top + 11, "text-anchor": anchor }, up.title));
  });
  function curve(name) {
    const node = make("path", { class: name, fill: "none" });
    inner.append(node);
    return again((points) => node.setAttribute("d", points.map(([a, b], i) => `${i ? "L" : "M"}${far(x(a))} ${far(y(b))}`).join("")));
  }
  function strokes(name) { // separate lines [[x, y, to x, to y], ...]; without an end, points
    const node = make("path", { class: name, fill: "none" });
    inner.append(node);
    return again((lines) => node.setAttribute("d", lines.map(([a, b, c = a, d = b]) => `M${far(x(a))} ${far(y(b))}L${far(x(c))} ${far(y(d))}`).join("")));
  }
  function area(name) { // rectangles [[from x, to x, from y, to y], ...]
    const node = make("path", { class: name });
    inner.append(node);
    const box = ([a, b, c, d]) => `M${far(x(a))} ${far(y(c))}H${far(x(b))}V${far(y(d))}H${far(x(a))}Z`;
    return again((boxes) => node.setAttribute("d", boxes.map(box).join("")));
  }
  function dot(name, r = 5) { // hidden where a coordinate is no number
    const node = make("circle", { class: name, r });
    front.append(node);
    return again((a, b) => {
      const shown = Number.isFinite(a) && Number.isFinite(b);
      node.setAttribute("visibility", shown ? "visible" : "hidden");
      node.setAttribute("cx", shown ? held(x(a), left, left + w).toFixed(2) : 0);
      node.setAttribute("cy", shown ? held(y(b), top, top + h).toFixed(2) : 0);
    });
  }
  function note() {
    const node = make("text", {});
    front.append(node);
    return again((a, b, text, { dx = 0, dy = 0, anchor = "start", name = "over" } = {}) => {
      node.setAttribute("class", name);
      node.setAttribute("x", held(x(a), left, left + w) + dx);
      node.setAttribute("y", held(y(b), top, top + h) + dy);
      node.setAttribute("text-anchor", anchor);
      node.textContent = text;
    });
  }
  resize(420);
  new ResizeObserver(([entry]) => {
    const now = Math.max(240, Math.round(entry.contentRect.width));
    if (entry.contentRect.width && now !== width) resize(now);
  }).observe(root);
  return { root, axes, curve, strokes, area, dot, note };
}

// coloured names of curves: [[class, text], ...]
const legend = (entries) => make("div", { class: "legend" }, ...entries.map(([name, text]) => make("span", { class: name }, text)));

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
