// A sequential network in the page: forward, and the gradient of cross entropy with respect to the input.
// Layers come from Python (network.py) as {kind, shape, ...}; weights as one array of doubles in their order.

// The fast way through a convolution. Its input lies with the channels innermost, in a border of zeros, so that a row of taps is
// one run of numbers; four outputs at two places are summed at a time; the way back starts from what is not zero, which after
// ReLUs and pools is little. The same sums as the definition, in another order.
function packed({ shape: [outputs], input: [inputs, h, w], kernel: k, padding: p }, weights, at) {
  const run = k * inputs, taps = k * run, fours = new Float64Array(Math.ceil(outputs / 4) * 4 * taps), rows = new Float64Array(outputs * taps);
  for (let o = 0; o < outputs; o++) for (let i = 0; i < inputs; i++) for (let ky = 0; ky < k; ky++) for (let kx = 0; kx < k; kx++) {
    const weight = weights[at + ((o * inputs + i) * k + ky) * k + kx], tap = ky * run + kx * inputs + i;
    rows[o * taps + tap] = weight;
    fours[((o >> 2) * taps + tap) * 4 + (o & 3)] = weight;
  }
  return { fours, rows, run, taps, wide: (w + 2 * p) * inputs, board: new Float64Array((h + 2 * p) * (w + 2 * p) * inputs) };
}

// between an image (channels outermost) and the board of its convolution; `back` from the board to the image
function moved({ input: [inputs, h, w], padding: p }, { board, wide }, x, back) {
  for (let i = 0, j = 0; i < inputs; i++) for (let y = 0; y < h; y++) {
    let to = (y + p) * wide + p * inputs + i;
    for (let c = 0; c < w; c++, j++, to += inputs) if (back) x[j] = board[to]; else board[to] = x[j];
  }
}

function convolved(layer, { fours, run, taps, wide, board }, out, bias) {
  const [outputs, oh, ow] = layer.shape, { input: [inputs], kernel: k, stride: s } = layer;
  for (let o = 0; o < outputs; o += 4) for (let y = 0; y < oh; y++) for (let x = 0; x < ow; x += 2) {
    let a0 = 0, a1 = 0, a2 = 0, a3 = 0, b0 = 0, b1 = 0, b2 = 0, b3 = 0, q = o * taps;
    const two = x + 1 < ow;
    for (let ky = 0; ky < k; ky++) {
      let i = (y * s + ky) * wide + x * s * inputs, j = two ? i + s * inputs : i;
      for (const end = i + run; i < end; i++, j++, q += 4) {
        const u = board[i], v = board[j], w0 = fours[q], w1 = fours[q + 1], w2 = fours[q + 2], w3 = fours[q + 3];
        a0 += u * w0; a1 += u * w1; a2 += u * w2; a3 += u * w3;
        b0 += v * w0; b1 += v * w1; b2 += v * w2; b3 += v * w3;
      }
    }
    const a = [a0, a1, a2, a3], b = [b0, b1, b2, b3];
    for (let m = 0; m < 4 && o + m < outputs; m++) {
      const to = ((o + m) * oh + y) * ow + x;
      out[to] = a[m] + bias[o + m];
      if (two) out[to + 1] = b[m] + bias[o + m];
    }
  }
}

function convolvedBack(layer, { rows, run, taps, wide, board }, g) {
  const [outputs, oh, ow] = layer.shape, { input: [inputs], kernel: k, stride: s } = layer;
  board.fill(0);
  for (let o = 0, at = 0; o < outputs; o++) for (let y = 0; y < oh; y++) for (let x = 0; x < ow; x++, at++) {
    const v = g[at];
    if (v === 0) continue;
    for (let ky = 0, q = o * taps; ky < k; ky++) {
      const from = (y * s + ky) * wide + x * s * inputs;
      for (let i = from; i < from + run; i++, q++) board[i] += v * rows[q];
    }
  }
}

const size = (shape) => shape.reduce((a, b) => a * b, 1);

const KINDS = {
  affine: {
    forward(l, w, at, x) {
      const plane = size(l.shape) / l.scale.length;
      return x.map((v, i) => (v - l.shift[Math.floor(i / plane)]) / l.scale[Math.floor(i / plane)]);
    },
    backward(l, w, at, x, g) {
      const plane = size(l.shape) / l.scale.length;
      return g.map((v, i) => v / l.scale[Math.floor(i / plane)]);
    },
  },
  relu: {
    forward: (l, w, at, x) => x.map((v) => (v > 0 ? v : 0)),
    backward: (l, w, at, x, g) => g.map((v, i) => (x[i] > 0 ? v : 0)),
  },
  conv: {
    prepare: packed,
    forward(l, w, at, x, held) {
      const out = new Float64Array(size(l.shape)), end = at + l.weights;
      held.board.fill(0);
      moved(l, held, x, false);
      convolved(l, held, out, w.subarray(end - l.shape[0], end));
      return out;
    },
    backward(l, w, at, x, g, held) {
      const out = new Float64Array(x.length);
      convolvedBack(l, held, g);
      moved(l, held, out, true);
      return out;
    },
  },
  pool: {
    // 2 x 2 maximum; of equal values the first in reading order, as in torch
    each(l, x, visit) {
      const [channels, oh, ow] = l.shape, [, h, w] = l.input;
      for (let c = 0, out = 0; c < channels; c++) for (let y = 0; y < oh; y++) for (let j = 0; j < ow; j++, out++) {
        const first = (c * h + 2 * y) * w + 2 * j;
        let best = first;
        for (const i of [first + 1, first + w, first + w + 1]) if (x[i] > x[best]) best = i;
        visit(out, best);
      }
    },
    forward(l, w, at, x) {
      const result = new Float64Array(size(l.shape));
      this.each(l, x, (out, best) => { result[out] = x[best]; });
      return result;
    },
    backward(l, w, at, x, g) {
      const result = new Float64Array(x.length);
      this.each(l, x, (out, best) => { result[best] += g[out]; });
      return result;
    },
  },
  linear: {
    forward(l, w, at, x) {
      const n = x.length, out = new Float64Array(size(l.shape));
      for (let o = 0; o < out.length; o++) {
        let sum = w[at + out.length * n + o];
        for (let i = 0, j = at + o * n; i < n; i++, j++) sum += w[j] * x[i];
        out[o] = sum;
      }
      return out;
    },
    backward(l, w, at, x, g) {
      const n = x.length, out = new Float64Array(n);
      for (let o = 0; o < g.length; o++) if (g[o] !== 0) for (let i = 0, j = at + o * n; i < n; i++, j++) out[i] += w[j] * g[o];
      return out;
    },
  },
};

function softmax(logits) {
  const top = Math.max(...logits), e = Array.from(logits, (z) => Math.exp(z - top)), sum = e.reduce((a, b) => a + b, 0);
  return e.map((v) => v / sum);
}

function network(layers, weights) {
  const offsets = [];
  let at = 0;
  for (const layer of layers) { offsets.push(at); at += layer.weights ?? 0; }
  const held = layers.map((layer, i) => KINDS[layer.kind].prepare?.(layer, weights, offsets[i]));
  const run = (x) => {
    const inputs = [];
    layers.forEach((layer, i) => { inputs.push(x); x = KINDS[layer.kind].forward(layer, weights, offsets[i], x, held[i]); });
    return { logits: x, inputs };
  };
  return {
    logits: (x) => run(x).logits,
    // d cross entropy(label) / d x
    gradient(x, label) {
      const { logits, inputs } = run(x);
      let g = Float64Array.from(softmax(logits), (p, k) => p - (k === label));
      for (let i = layers.length - 1; i >= 0; i--) g = KINDS[layers[i].kind].backward(layers[i], weights, offsets[i], inputs[i], g, held[i]);
      return g;
    },
  };
}

// The network of a figure, which it shares with others; its weights inflated: low bytes first, then high bytes
async function networkOf(model) {
  const held = await model.widget_manager.get_model(model.get("network").replace("IPY_MODEL_", ""));
  return network(held.get("layers"), await inflated(held.get("weights")));
}

async function inflated(base64) {
  const stream = new Blob([bytesOf(base64)]).stream().pipeThrough(new DecompressionStream("deflate"));
  const raw = new Uint8Array(await new Response(stream).arrayBuffer()), n = raw.length / 2;
  return halvesIn(Uint16Array.from({ length: n }, (_, i) => raw[i] | (raw[n + i] << 8)));
}
