// Exact answers about uniform points on the sphere in d dimensions, in double precision; natural logs throughout, so that
// nothing underflows. Each function is the twin of one in advlab.spheres, and tests/test_live_spheres.py holds it to 1e-9.

const log1mexp = (v) => (v > -Math.LN2 ? Math.log(-Math.expm1(v)) : Math.log1p(-Math.exp(v))); // log(1 - e^v), v <= 0
const LOG_ROOT_2PI = 0.5 * Math.log(2 * Math.PI);

// What Stirling's formula lacks: log Gamma(x) - [(x - 1/2) log x - x + log sqrt(2 pi)], x >= 10
function stirlingRest(x) {
  const z = 1 / (x * x);
  return (1 / 12 - z * (1 / 360 - z * (1 / 1260 - z * (1 / 1680 - z * (1 / 1188 - (z * 691) / 360360))))) / x;
}

function logGamma(x) {
  let shift = 0;
  for (; x < 10; x++) shift -= Math.log(x);
  return shift + (x - 0.5) * Math.log(x) - x + LOG_ROOT_2PI + stirlingRest(x);
}

function logBeta(a, b) {
  const [low, high] = a < b ? [a, b] : [b, a];
  if (high < 10) return logGamma(low) + logGamma(high) - logGamma(low + high);
  // the difference of the two large terms, without its cancellation
  return logGamma(low) + stirlingRest(high) - stirlingRest(low + high) -
    (high - 0.5) * Math.log1p(low / high) - low * Math.log(low + high) + low;
}

// log I_x(a, b), the regularised incomplete beta function, from log x and log(1 - x): Lentz's continued fraction
function logIncompleteBeta(a, b, logX, logY) {
  const x = Math.exp(logX);
  if (x > (a + 1) / (a + b + 2)) return log1mexp(Math.min(0, logIncompleteBeta(b, a, logY, logX)));
  let c = 1, d = 1 / (1 - ((a + b) * x) / (a + 1)), fraction = d;
  for (let m = 1; m < 5000; m++) {
    const even = (m * (b - m) * x) / ((a + 2 * m - 1) * (a + 2 * m));
    const odd = (-(a + m) * (a + b + m) * x) / ((a + 2 * m) * (a + 2 * m + 1));
    d = 1 / (1 + even * d); c = 1 + even / c; fraction *= c * d;
    d = 1 / (1 + odd * d); c = 1 + odd / c;
    const step = c * d;
    fraction *= step;
    if (Math.abs(step - 1) < 1e-16) break;
  }
  return a * logX + b * logY - Math.log(a) - logBeta(a, b) + Math.log(fraction);
}

// The root of an increasing concave f, given as (x) => [value, slope]. Newton's steps fall short of it, so they cannot diverge.
function concaveRoot(f, x) {
  for (let i = 0; i < 200; i++) {
    const [value, slope] = f(x), step = value / slope;
    x -= step;
    if (Math.abs(step) <= 4e-16 * Math.abs(x) || (i > 0 && step > 0)) break; // a step back is rounding
  }
  return x;
}

// The root of f between two points where its signs differ: false position that halves the weight of an end that stays
function root(f, low, high) {
  let a = f(low), b = f(high), side = 0;
  for (let i = 0; i < 300 && a !== 0 && b !== 0; i++) {
    let x = (low * b - high * a) / (b - a);
    if (!(x > low && x < high) || i % 12 === 11) x = (low + high) / 2;
    if (x === low || x === high) break;
    const value = f(x);
    if (value * a > 0) { low = x; a = value; if (side < 0) b /= 2; side = -1; }
    else { high = x; b = value; if (side > 0) a /= 2; side = 1; }
  }
  return Math.abs(a) < Math.abs(b) ? low : high;
}

// Gauss-Legendre nodes and weights on [-1, 1]
function gaussLegendre(n) {
  const nodes = new Float64Array(n), weights = new Float64Array(n);
  for (let i = 0; i < n; i++) {
    let x = Math.cos((Math.PI * (i + 0.75)) / (n + 0.5)), slope = 1;
    for (let turn = 0; turn < 100; turn++) {
      let p = 1, before = 0;
      for (let k = 1; k <= n; k++) [p, before] = [((2 * k - 1) * x * p - (k - 1) * before) / k, p];
      slope = (n * (x * p - before)) / (x * x - 1);
      x -= p / slope;
      if (Math.abs(p / slope) < 1e-15) break;
    }
    nodes[i] = x;
    weights[i] = 2 / ((1 - x * x) * slope * slope);
  }
  return { nodes, weights };
}
const LEGENDRE = gaussLegendre(96);

// --- the normal distribution

// Q(x) / phi(x) for x > 0
function mills(x) {
  if (x < 2.5) return Math.exp(normalLogCdf(-x) + 0.5 * x * x + LOG_ROOT_2PI);
  let c = x, d = 0, fraction = x;
  for (let k = 1; k < 500; k++) {
    d = 1 / (x + k * d); c = x + k / c;
    fraction *= c * d;
    if (Math.abs(c * d - 1) < 1e-16) break;
  }
  return 1 / fraction;
}

function normalLogCdf(x) {
  if (x > 0) return log1mexp(normalLogCdf(-x));
  if (x <= -2.5) return Math.log(mills(-x)) - 0.5 * x * x - LOG_ROOT_2PI;
  let term = x, sum = x;
  for (let k = 3; Math.abs(term) > 1e-17; k += 2) sum += term *= (x * x) / k;
  return Math.log(0.5 + sum * Math.exp(-0.5 * x * x - LOG_ROOT_2PI));
}

// x with log Phi(x) = logP < 0
function normalQuantile(logP) {
  if (logP > -Math.LN2) return -normalQuantile(log1mexp(logP));
  return concaveRoot((x) => {
    const value = normalLogCdf(x);
    return [value - logP, Math.exp(-0.5 * x * x - LOG_ROOT_2PI - value)];
  }, -Math.sqrt(-2 * logP));
}

// --- caps

const logSine = (angle) => (Math.cos(angle) ** 2 < 0.5 ? 0.5 * Math.log1p(-(Math.cos(angle) ** 2)) : Math.log(Math.sin(angle)));

// log of the density of the angle between a uniform point and a fixed one
function logAngleDensity(d) {
  const constant = logBeta((d - 1) / 2, 0.5);
  return (angle) => (d > 2 ? (d - 2) * logSine(angle) : 0) - constant;
}

// log of the share of the sphere within this angle of a pole
function logCapMeasure(angle, d) {
  if (angle > Math.PI / 2) return log1mexp(logCapMeasure(Math.PI - angle, d));
  return logIncompleteBeta((d - 1) / 2, 0.5, 2 * logSine(angle), 2 * Math.log(Math.abs(Math.cos(angle)))) - Math.LN2;
}

// the angle of the cap with this log measure
function capAngle(logMeasure, d) {
  if (logMeasure > -Math.LN2) return Math.PI - (logMeasure < 0 ? capAngle(log1mexp(logMeasure), d) : 0);
  const logDensity = logAngleDensity(d);
  return Math.exp(concaveRoot((u) => {
    const angle = Math.exp(u), value = logCapMeasure(angle, d);
    return [value - logMeasure, Math.exp(u + logDensity(angle) - value)];
  }, Math.log(Math.PI / 2)));
}

// the mean chord from a uniform point to the cap of this angle; points inside count as 0
function meanDistanceToCap(angle, d) {
  const logDensity = logAngleDensity(d), width = 12 / Math.sqrt(d), centre = Math.PI / 2;
  const low = Math.max(angle, centre - width), high = Math.min(Math.PI, Math.max(angle, centre) + width);
  let sum = 0;
  LEGENDRE.nodes.forEach((node, i) => {
    const at = low + ((high - low) * (1 + node)) / 2;
    sum += LEGENDRE.weights[i] * Math.exp(logDensity(at)) * 2 * Math.sin((at - angle) / 2);
  });
  return (sum * (high - low)) / 2;
}

// the largest possible mean distance to errors of this log measure: that of a cap
const optimalDistance = (logMeasure, d) => meanDistanceToCap(capAngle(logMeasure, d), d);
// the paper's asymptotic form of it
const gaussianDistance = (logMeasure, d) => -normalQuantile(logMeasure) / Math.sqrt(d);

// --- quadratic networks: errors where sum c_i z_i^2 > 0, z normal; n counts how often each c_i occurs

const ones = (c) => c.map(() => 1);
const coefficients = (alphas, radius, sphere) => alphas.map((a) => (sphere === "inner" ? a - 1 : 1 / radius ** 2 - a));
function total(n, values) {
  let sum = 0;
  for (let i = 0; i < n.length; i++) sum += n[i] * values[i];
  return sum;
}

// u <= 0 with sum n_i r_i / w_i^power = pole / (1 - e^u), where w_i = 1 - r_i + r_i e^u, for r_i = c_i / max c and sum n_i r_i <= 0.
// It stands for the point 1 - e^u of the real axis, whose distance from the singularity at 1 it keeps exact.
function secular(r, n, power, pole = 0) {
  let most = 2 * pole, top = 0;
  for (let i = 0; i < r.length; i++) {
    if (r[i] < 0) most -= n[i] * r[i];
    if (r[i] === 1) top += n[i];
  }
  return root((u) => {
    const w = weights(r, u);
    let above = 0, below = pole ? pole / -Math.expm1(u) : 0;
    for (let i = 0; i < r.length; i++) {
      const term = (n[i] * r[i]) / (power === 2 ? w[i] * w[i] : w[i]);
      if (term > 0) above += term; else below -= term;
    }
    return Math.log(above / below);
  }, Math.min(-Math.LN2, Math.log(top / most) / power) - 1e-9, 0);
}
function weights(r, u) {
  const top = Math.exp(u), shift = Math.expm1(u);
  return r.map((v) => (v === 1 ? top : 1 + v * shift));
}
// minus half the sum of the logs of the weights: the cumulant function of sum r z^2 / 2
function cumulant(r, n, u) {
  const shift = Math.expm1(u);
  return -0.5 * total(n, r.map((v) => (v === 1 ? u : Math.log1p(v * shift))));
}

// log P(sum c_i z_i^2 > 0): -Infinity only where it is proved, by max c <= 0
function logTail(c, n, method = "exact") {
  const mean = total(n, c), largest = c.reduce((a, b) => Math.max(a, b), -Infinity);
  if (method === "clt") return normalLogCdf(mean / Math.sqrt(2 * total(n, c.map((v) => v * v))));
  if (largest <= 0) return -Infinity;
  if (c.every((v) => v >= 0)) return 0;
  if (mean > 0) return log1mexp(logTail(c.map((v) => -v), n, method));
  const r = c.map((v) => v / largest);
  return method === "exact" ? logInverse(r, n) : lugannaniRice(r, n);
}

// The inverse Laplace transform of e^K(s) / s, s = q + iy, along the vertical line through the least value of K(s) - log s.
// With y = nearest sinh t, the integrand falls exponentially and has no singularity near: the trapezoid rule converges fast.
function logInverse(r, n) {
  const u = secular(r, n, 1, 2), q = -Math.expm1(u), b = weights(r, u).map((w, i) => r[i] / w);
  const nearest = 1 / Math.sqrt(0.5 * total(n, b.map((v) => v * v)) + 1 / (q * q));
  const integrand = (t) => {
    const y = nearest * Math.sinh(t);
    let size = 2 * Math.log1p((y / q) ** 2) - 4 * t, turn = -2 * Math.atan(y / q);
    for (let i = 0; i < b.length; i++) {
      const v = b[i] * y;
      size += n[i] * Math.log(1 + v * v);
      turn += n[i] * Math.atan(v);
    }
    return [-0.25 * size, Math.exp(-0.25 * size) * Math.cos(0.5 * turn) * 0.5 * (1 + Math.exp(-2 * t))];
  };
  // e^-42 of the peak is left out
  const sum = (from, step) => {
    let s = 0;
    for (let t = from; ; t += step) {
      const [size, value] = integrand(t);
      s += value;
      if (size < -42) return s;
    }
  };
  let step = 0.25, whole = step * (sum(0, step) - 0.5 * integrand(0)[1]), before;
  do {
    before = whole;
    whole = whole / 2 + (step / 2) * sum(step / 2, step);
    step /= 2;
  } while (Math.abs(whole - before) > 1e-8 * Math.abs(whole) && step > 1e-3);
  return cumulant(r, n, u) - Math.log(q) + Math.log((nearest * whole) / Math.PI);
}

// Lugannani and Rice's saddlepoint formula, with its limit where the saddlepoint meets the pole at 0
function lugannaniRice(r, n) {
  const u = total(n, r) < 0 ? secular(r, n, 1) : 0, terms = weights(r, u).map((w, i) => (r[i] * -Math.expm1(u)) / w);
  const w = Math.sqrt(Math.max(0, -2 * cumulant(r, n, u))), v = Math.sqrt(0.5 * total(n, terms.map((x) => x * x)));
  if (w < 1e-4) {
    const skewness = (Math.sqrt(8) * total(n, r.map((x) => x ** 3))) / total(n, r.map((x) => x * x)) ** 1.5;
    return Math.log(0.5 - skewness / (6 * Math.sqrt(2 * Math.PI)));
  }
  return -0.5 * w * w - LOG_ROOT_2PI + Math.log(mills(w) + 1 / v - 1 / w);
}

const quadraticLogError = (alphas, radius, sphere, method, n = ones(alphas)) => logTail(coefficients(alphas, radius, sphere), n, method);

// The nearest error of a typical point, one whose squared coordinates all equal 1 / d, as a chord of the unit sphere;
// 0 where the typical point is itself wrong, null where there is no error
function meanFieldDistance(alphas, radius, sphere, n = ones(alphas)) {
  const c = coefficients(alphas, radius, sphere), largest = c.reduce((a, b) => Math.max(a, b), -Infinity);
  if (largest <= 0) return null;
  if (total(n, c) >= 0) return 0;
  const r = c.map((v) => v / largest), u = secular(r, n, 2);
  const w = weights(r, u).map((v) => 1 / v);
  const d = total(n, ones(c)), centre = total(n, w) / d;
  const sine = Math.sqrt(total(n, w.map((v) => (v - centre) ** 2)) / total(n, w.map((v) => v * v)));
  return 2 * Math.sin(Math.asin(sine) / 2);
}

// --- networks that use k of d inputs with equal weights, as large as makes the errors of both spheres equal

const softplus = (l) => Math.max(l, 0) + Math.log1p(Math.exp(-Math.abs(l)));
const logistic = (l) => [-softplus(-l), -softplus(l)]; // log x and log(1 - x)

// The common log error and the alpha of the k inputs. B, the share of the k inputs in the squared length, is Beta(k/2, (d-k)/2):
// an inner error is B > 1 / alpha, an outer one B < 1 / (alpha radius^2).
function ignored(k, d, radius) {
  if (k === d) return { logError: -Infinity, alpha: 1 };
  const a = k / 2, b = (d - k) / 2, shrink = 2 * Math.log(radius);
  const inner = (l) => { const [x, y] = logistic(l); return logIncompleteBeta(b, a, y, x); };
  const outer = (l) => { const x = logistic(l)[0] - shrink; return logIncompleteBeta(a, b, x, log1mexp(x)); };
  const gap = (l) => inner(l) - outer(l);
  let low = Math.log(k / (d - k)), high = low, stride = 0.5;
  while (gap(low) < 0) low -= stride *= 2;
  for (stride = 0.5; gap(high) > 0;) high += stride *= 2;
  const l = root(gap, low, high);
  return { logError: inner(l), alpha: 1 + Math.max(Math.exp(-l), Number.EPSILON) }; // above 1, if by less than can be told
}

// the same by the central limit theorem
function ignoredClt(k, d, radius) {
  if (k === d) return { logError: normalLogCdf(-Math.sqrt(d / 2)), alpha: 1 }; // which proves nothing
  const n = [k, d - k];
  const both = (alpha) => ["inner", "outer"].map((sphere) => quadraticLogError([alpha, 0], radius, sphere, "clt", n));
  const alpha = root((v) => { const [i, o] = both(v); return i - o; }, d / k / radius ** 2, d / k);
  return { logError: both(alpha)[0], alpha };
}

// the smallest k whose error is below this log
function inputsNeeded(logError, d, radius, rule = ignored) {
  let low = 0, high = d; // fails at low, holds at high
  while (high - low > 1) {
    const k = (low + high) >> 1;
    if (rule(k, d, radius).logError < logError) high = k; else low = k;
  }
  return high;
}

// --- samples

// n values of one coordinate of a uniform point in d dimensions, z / sqrt(z^2 + chi^2_{d-1}), at a cost that d does not change
function coordinates(n, d, seed) {
  const uniform = uniforms(seed);
  const normal = () => {
    const length = Math.sqrt(-2 * Math.log(1 - uniform()));
    return length * Math.cos(2 * Math.PI * uniform());
  };
  // chi^2 with d - 1 degrees, twice a gamma variable of shape (d - 1) / 2: Marsaglia and Tsang's squeeze, and a power below shape 1
  const shape = (d - 1) / 2, boosted = shape < 1 ? shape + 1 : shape;
  const m = boosted - 1 / 3, c = 1 / Math.sqrt(9 * m);
  const chiSquared = () => {
    for (;;) {
      const x = normal(), v = (1 + c * x) ** 3;
      if (v <= 0 || Math.log(1 - uniform()) >= 0.5 * x * x + m - m * v + m * Math.log(v)) continue;
      return 2 * m * v * (shape < 1 ? (1 - uniform()) ** (1 / shape) : 1);
    }
  };
  return Float64Array.from({ length: n }, () => {
    const z = normal();
    return z / Math.sqrt(z * z + chiSquared());
  });
}
