// What changes a digit within a budget eps per pixel: random signs, one step or ten steps of the gradient, the reader's own
// brush, or the gradient on as many pixels as the brush. Runs in a worker, in the page where there is none, and in Node.

const STEPS = 10;

const clip = (v, lo, hi) => (v < lo ? lo : v > hi ? hi : v);
const within = (x, signs, eps) => x.map((v, i) => clip(v + signs[i] * eps, 0, 1));

// `hand` lists the painted pixels, counted from 1, negative where they become darker
function painted(hand, n) {
  const signs = new Float64Array(n);
  for (const at of hand) signs[Math.abs(at) - 1] = Math.sign(at);
  return signs;
}

// The signs of the gradient on the `count` pixels where they raise the loss the most, to first order
function foremost(x, g, eps, count) {
  const gain = x.map((v, i) => g[i] * (clip(v + Math.sign(g[i]) * eps, 0, 1) - v)), signs = new Float64Array(x.length);
  for (const i of Array.from(x.keys()).sort((a, b) => gain[b] - gain[a]).slice(0, count)) signs[i] = Math.sign(g[i]);
  return signs;
}

// The changed image, step by step: a generator, so that a page without a worker can breathe between the steps.
function* attacking(net, x, label, { method, eps, hand }) {
  if (method === "noise") {
    const random = uniforms(1);
    return within(x, x.map(() => (random() < 0.5 ? -1 : 1)), eps);
  }
  if (method === "hand") return within(x, painted(hand, x.length), eps);
  if (method === "few") return within(x, foremost(x, net.gradient(x, label), eps, hand.length), eps);
  const steps = method === "fgsm" ? 1 : STEPS, length = method === "fgsm" ? eps : (2.5 * eps) / STEPS;
  let at = x;
  for (let step = 0; step < steps && eps > 0; step++) {
    const g = net.gradient(at, label);
    at = at.map((v, i) => clip(clip(v + length * Math.sign(g[i]), x[i] - eps, x[i] + eps), 0, 1));
    yield step + 1;
  }
  return at;
}

function through(work) {
  let next = work.next();
  while (!next.done) next = work.next();
  return next.value;
}

function answer(net, request) {
  const x_adv = through(attacking(net, request.x, request.label, request));
  return { x_adv, logits: net.logits(x_adv) };
}

function compute({ layers, weights, images, labels, digit, ...how }) {
  const net = network(layers, halvesOf(weights)), all = bytesOf(images), pixels = all.length / labels.length;
  const x = Float64Array.from(all.slice(digit * pixels, (digit + 1) * pixels), (b) => b / 255);
  return { ...answer(net, { x, label: labels[digit], ...how }), gradient: net.gradient(x, labels[digit]) };
}
