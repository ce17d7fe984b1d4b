// A sequential network in the page: forward, and the gradient of cross entropy with respect to the input.
// Layers come from Python (network.py) as {kind, shape, ...}; weights as one array of doubles in their order.

function convolve(layer, weights, at, input, output, back) {
  const [outputs, oh, ow] = layer.shape, [inputs, h, w] = layer.input, { kernel: k, stride: s, padding: p } = layer;
  for (let o = 0; o < outputs; o++) for (let i = 0; i < inputs; i++) for (let ky = 0; ky < k; ky++) for (let kx = 0; kx < k; kx++) {
    const weight = weights[at + ((o * inputs + i) * k + ky) * k + kx];
    if (weight === 0) continue;
    const left = Math.max(0, Math.ceil((p - kx) / s)), right = Math.min(ow - 1, Math.floor((w - 1 + p - kx) / s));
    for (let y = 0; y < oh; y++) {
      const row = y * s + ky - p;
      if (row < 0 || row >= h) continue;
      const from = (i * h + row) * w + kx - p, to = (o * oh + y) * ow;
      if (back) for (let x = left; x <= right; x++) input[from + x * s] += weight * output[to + x];
      else for (let x = left; x <= right; x++) output[to + x] += weight * input[from + x * s];
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
    forward(l, w, at, x) {
      const out = new Float64Array(size(l.shape)), [outputs, oh, ow] = l.shape, bias = at + l.weights - outputs;
      for (let o = 0; o < outputs; o++) out.fill(w[bias + o], o * oh * ow, (o + 1) * oh * ow);
      convolve(l, w, at, x, out, false);
      return out;
    },
    backward(l, w, at, x, g) {
      const out = new Float64Array(x.length);
      convolve(l, w, at, out, g, true);
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
      for (let o = 0; o < g.length; o++) for (let i = 0, j = at + o * n; i < n; i++, j++) out[i] += w[j] * g[o];
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
  const run = (x) => {
    const inputs = [];
    layers.forEach((layer, i) => { inputs.push(x); x = KINDS[layer.kind].forward(layer, weights, offsets[i], x); });
    return { logits: x, inputs };
  };
  return {
    logits: (x) => run(x).logits,
    // d cross entropy(label) / d x
    gradient(x, label) {
      const { logits, inputs } = run(x);
      let g = Float64Array.from(softmax(logits), (p, k) => p - (k === label));
      for (let i = layers.length - 1; i >= 0; i--) g = KINDS[layers[i].kind].backward(layers[i], weights, offsets[i], inputs[i], g);
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
