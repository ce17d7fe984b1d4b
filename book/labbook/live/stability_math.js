// Networks of two inputs: bounds by intervals and by CROWN, as advlab.stability has them, and the exact answer by cutting
// polygons. A network is a list of layers { weight: rows, bias }, with a ReLU between each two; bounds are pairs [l, u].

const open = ([l, u]) => l < 0 && u > 0;
const rectified = ([l, u]) => [Math.max(l, 0), Math.max(u, 0)];

const logits = (layers, x) => layers.reduce((inputs, { weight, bias }, k) => {
  const v = k ? inputs.map((t) => Math.max(t, 0)) : inputs;
  return bias.map((b, i) => weight[i].reduce((sum, w, j) => sum + w * v[j], b));
}, x);

// The network whose outputs are the margins of one class over every other: their difference is taken before any bound
function margins(layers, label) {
  const { weight, bias } = layers[layers.length - 1], others = bias.map((_, j) => j).filter((j) => j !== label);
  return [...layers.slice(0, -1), {
    weight: others.map((j) => weight[label].map((w, i) => w - weight[j][i])), bias: others.map((j) => bias[label] - bias[j]),
  }];
}

const interval = ({ weight, bias }, ends) => bias.map((b, i) => {
  let centre = b, radius = 0;
  ends.forEach(([l, u], j) => { centre += weight[i][j] * ((l + u) / 2); radius += Math.abs(weight[i][j]) * ((u - l) / 2); });
  return [centre - radius, centre + radius];
});

// CROWN: a lower bound of row . (the ReLUs after the layers bounded so far) + constant on a convex polygon, walked back to the
// inputs, where an affine function is least at a corner
function backward(layers, found, polygon, row, constant) {
  for (let k = found.length - 1; k >= 0; k--) {
    const { weight, bias } = layers[k], next = weight[0].map(() => 0);
    found[k].forEach(([l, u], i) => {
      let a = row[i];
      if (l < 0 && u <= 0) a = 0;
      else if (l < 0 && a > 0) a = u > -l ? a : 0; // below: the steeper or the flatter line
      else if (l < 0) { a *= u / (u - l); constant -= a * l; } // above: the chord
      constant += a * bias[i];
      weight[i].forEach((w, j) => { next[j] += a * w; });
    });
    row = next;
  }
  return constant + Math.min(...polygon.map(([x, y]) => row[0] * x + row[1] * y));
}

// Bounds on the inputs of each ReLU layer and on the outputs over a box. CROWN is asked where intervals leave a unit open.
function bounds(layers, box, crown = false) {
  const found = [];
  layers.forEach((layer, k) => {
    const ends = interval(layer, k ? found[k - 1].map(rectified) : box), last = k + 1 === layers.length;
    found.push(ends.map((pair, i) => {
      if (!crown || !(last || open(pair))) return pair;
      const row = layer.weight[i], low = backward(layers, found, corners(box), row, layer.bias[i]);
      return [Math.max(pair[0], low), Math.min(pair[1], -backward(layers, found, corners(box), row.map((w) => -w), -layer.bias[i]))];
    }));
  });
  return found;
}

// affine functions [a, b, c] of the two inputs, through a layer
const composed = ({ weight, bias }, rows) => weight.map((w, i) => [0, 1, 2].map((c) => w.reduce((sum, v, j) => sum + v * rows[j][c], c === 2 ? bias[i] : 0)));

// Branch and bound, one node: CROWN's bounds where the units in `fixed` ("layer,unit" -> whether it is on) keep their side. Where
// all units before it are settled, such a side is a half plane, and cuts the polygon. null where nothing is left of it.
function branch(layers, polygon, fixed) {
  const found = [];
  let rows = [[1, 0, 0], [0, 1, 0]]; // the layer's inputs, as long as they are affine
  for (const [k, layer] of layers.entries()) {
    rows &&= composed(layer, rows);
    for (let i = 0; rows && i < layer.bias.length; i++) {
      const side = fixed[`${k},${i}`];
      if (side !== undefined) polygon = cut(polygon, rows[i])[side ? 0 : 1];
      if (!polygon) return null;
    }
    found.push(layer.weight.map((row, i) => {
      const ends = [backward(layers, found, polygon, row, layer.bias[i]), -backward(layers, found, polygon, row.map((w) => -w), -layer.bias[i])];
      const side = fixed[`${k},${i}`];
      return side === undefined ? ends : ends.map((v) => (side ? Math.max(v, 0) : Math.min(v, 0)));
    }));
    rows = rows && !found[k].some(open) ? rows.map((row, i) => (found[k][i][0] >= 0 ? row : [0, 0, 0])) : null;
  }
  return { found, polygon, bound: Math.min(...found.at(-1).map(([l]) => l)) };
}

// [the part where a x + b y + c > 0, the part where it is < 0] of a convex polygon, null for none; 0 goes with the rest
function cut(polygon, [a, b, c]) {
  const least = 1e-12 * (Math.abs(a) + Math.abs(b) + Math.abs(c)), parts = [[], []];
  const values = polygon.map(([x, y]) => a * x + b * y + c).map((v) => (Math.abs(v) <= least ? 0 : v));
  if (values.every((v) => v >= 0)) return [polygon, null];
  if (values.every((v) => v <= 0)) return [null, polygon];
  polygon.forEach((p, i) => {
    const j = (i + 1) % polygon.length, q = polygon[j], v = values[i], t = v / (v - values[j]);
    if (v >= 0) parts[0].push(p);
    if (v <= 0) parts[1].push(p);
    if (v * values[j] < 0) for (const part of parts) part.push([p[0] + t * (q[0] - p[0]), p[1] + t * (q[1] - p[1])]);
  });
  return parts;
}

// The pieces of a convex polygon on which every ReLU keeps its side, each with the outputs as rows [a, b, c], and the exact
// range of each layer's inputs and of the outputs: affine functions are least and greatest at corners.
function pieces(layers, polygon) {
  let parts = [{ polygon, rows: [[1, 0, 0], [0, 1, 0]] }];
  const ranges = layers.map((layer, k) => {
    const range = layer.bias.map(() => [Infinity, -Infinity]);
    parts = parts.flatMap((part) => {
      const outputs = composed(layer, part.rows);
      outputs.forEach(([a, b, c], i) => part.polygon.forEach(([x, y]) => {
        const v = a * x + b * y + c;
        range[i] = [Math.min(range[i][0], v), Math.max(range[i][1], v)];
      }));
      if (k + 1 === layers.length) return [{ polygon: part.polygon, rows: outputs }];
      return outputs.reduce((cells, row) => cells.flatMap(({ polygon: whole, rows }) => {
        const [on, off] = cut(whole, row), cell = (side, out) => (side ? [{ polygon: side, rows: [...rows, out] }] : []);
        return [...cell(on, row), ...cell(off, [0, 0, 0])];
      }), [{ polygon: part.polygon, rows: [] }]);
    });
    return range;
  });
  return { parts, ranges };
}

// The polygons on which each class has the largest logit; of equal ones the first has it
const territories = (parts, classes) => Array.from({ length: classes }, (_, k) => parts.flatMap(({ polygon, rows }) => {
  const won = rows.reduce((left, row, j) => {
    if (!left || j === k) return left;
    return j > k ? cut(left, rows[k].map((v, c) => v - row[c]))[0] : cut(left, row.map((v, c) => v - rows[k][c]))[1];
  }, polygon);
  return won ? [won] : [];
}));

const corners = ([[a, b], [c, d]]) => [[a, c], [b, c], [b, d], [a, d]];

// Everything about the box of radius eps around a point, cut to the unit square. A unit switches if it exceeds 1e-12 on both sides.
function analyse(layers, point, eps) {
  const box = point.map((v) => [Math.max(0, v - eps), Math.min(1, v + eps)]), scores = logits(layers, point);
  const label = scores.indexOf(Math.max(...scores)), net = margins(layers, label);
  const naive = bounds(net, box), crown = bounds(net, box, true), { parts, ranges } = pieces(net, corners(box));
  const least = (found) => Math.min(...found[found.length - 1].map(([l]) => l));
  const unstable = (found) => found.slice(0, -1).flat().filter(open).length;
  const switching = ranges.map((layer) => layer.map(([l, u]) => [l + 1e-12, u - 1e-12]));
  let worst = point, lowest = Infinity;
  for (const { polygon, rows } of parts) for (const [x, y] of polygon) for (const [a, b, c] of rows) {
    if (a * x + b * y + c < lowest) { lowest = a * x + b * y + c; worst = [x, y]; }
  }
  return {
    box, label, margins: [least(naive), least(crown), lowest], unstable: [unstable(naive), unstable(crown), unstable(switching)],
    units: naive.slice(0, -1).flat().length, regions: parts.length, worst, polygons: parts.map((p) => p.polygon),
  };
}
