// Feature squeezing in the page: the squeezers, bit for bit those of NumPy and SciPy, and the arithmetic of the detector.

// the nearest whole number, of two the even one
function rint(v) {
  const low = Math.floor(v), over = v - low;
  return over < 0.5 || (over === 0.5 && low % 2 === 0) ? low : low + 1;
}

function reduceBitDepth(x, bits) {
  const levels = 2 ** bits - 1;
  return x.map((v) => rint(v * levels) / levels);
}

// a place outside 0 ... n - 1, mirrored back with the edge pixel repeated
function mirrored(i, n) {
  const at = ((i % (2 * n)) + 2 * n) % (2 * n);
  return at < n ? at : 2 * n - 1 - at;
}

// Median over window x window, channel by channel, as scipy.ndimage.median_filter(mode="reflect"): an even window looks up
// and to the left and takes the upper of the two middle values.
function medianFilter(x, [channels, h, w], window) {
  if (window === 1) return x;
  const out = new Float64Array(x.length), found = new Float64Array(window * window), half = window >> 1, rank = found.length >> 1;
  const columns = Array.from({ length: w + window }, (_, j) => mirrored(j - half, w));
  for (let c = 0, to = 0; c < channels; c++) for (let i = 0; i < h; i++) for (let j = 0; j < w; j++, to++) {
    let n = 0;
    for (let a = 0; a < window; a++) {
      const row = (c * h + mirrored(i + a - half, h)) * w;
      for (let b = 0; b < window; b++) {
        const v = x[row + columns[j + b]];
        let k = n++;
        for (; k > 0 && found[k - 1] > v; k--) found[k] = found[k - 1];
        found[k] = v;
      }
    }
    out[to] = found[rank];
  }
  return out;
}

const l1 = (p, q) => p.reduce((sum, v, k) => sum + Math.abs(v - q[k]), 0);

// images stored as bytes, one after the other: the pixels of one in [0, 1]
const imageAt = (bytes, pixels, i) => Float64Array.from(bytes.subarray(i * pixels, (i + 1) * pixels), (b) => b / 255);

// the threshold that at most this share of the clean scores exceeds: sorted(clean)[ceil(n (1 - fpr)) - 1]
const thresholdAt = (sorted, fpr) => sorted[Math.max(0, Math.ceil(sorted.length * (1 - fpr)) - 1)];

// how many of the ascending numbers lie below v, or, with equal, are at most v
function below(sorted, v, equal) {
  let low = 0, high = sorted.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (sorted[middle] < v || (equal && sorted[middle] === v)) low = middle + 1; else high = middle;
  }
  return low;
}

// the chance that an adversarial score is above a clean one, ties counted half (Mann and Whitney): the area under the ROC
function areaUnderRoc(sorted, adversarial) {
  let twice = 0;
  for (const v of adversarial) twice += below(sorted, v, false) + below(sorted, v, true);
  return twice / (2 * sorted.length * adversarial.length);
}
