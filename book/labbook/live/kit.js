// What every live figure uses: decoding, controls, drawing. Plain functions, no imports; a figure's file follows this one
// in the same module (see Figure in __init__.py).

const bytesOf = (base64) => Uint8Array.from(atob(base64), (c) => c.charCodeAt(0));

const numeral = (k) => (k === 8 ? "an 8" : `a ${k}`); // a digit with its article

// IEEE half precision, little endian -> doubles
const halvesOf = (base64) => halvesIn(new Uint16Array(bytesOf(base64).buffer));

function halvesIn(raw) {
  const out = new Float64Array(raw.length);
  for (let i = 0; i < raw.length; i++) {
    const sign = raw[i] & 0x8000 ? -1 : 1, exponent = (raw[i] >> 10) & 31, fraction = raw[i] & 1023;
    out[i] = sign * (exponent === 0 ? fraction * 2 ** -24 : (1 + fraction / 1024) * 2 ** (exponent - 15));
  }
  return out;
}

// mulberry32: a small generator of uniform numbers in [0, 1) which Python repeats to the bit
function uniforms(seed) {
  let a = seed >>> 0;
  return () => {
    a = (a + 0x6d2b79f5) >>> 0;
    let t = Math.imul(a ^ (a >>> 15), a | 1);
    t = (t + Math.imul(t ^ (t >>> 7), t | 61)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
  };
}

function make(tag, attributes = {}, ...children) {
  const svg = ["svg", "g", "line", "path", "rect", "text", "circle", "title"].includes(tag);
  const node = svg ? document.createElementNS("http://www.w3.org/2000/svg", tag) : document.createElement(tag);
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
  // in JupyterLab the arrow keys would go to another cell, and Enter into this one's text
  if (["input", "select", "button"].includes(tag)) node.setAttribute("data-lm-suppress-shortcuts", "true");
  node.append(...children);
  return node;
}

// A labelled slider. Arrow keys move it by a step, Page keys by ten, as in every browser. With `values`, it walks over those
// numbers instead of min, max and step; a value between two of them is shown as it is, beside the nearest stop.
function slider(label, { min = 0, max, step = 1, values, show }, onInput) {
  const input = make("input", { type: "range", "aria-label": label, min, max: values ? values.length - 1 : max, step });
  const output = make("output", {});
  const write = (value) => {
    if (!values) input.value = value;
    else input.value = values.reduce((best, v, i) => (Math.abs(v - value) < Math.abs(values[best] - value) ? i : best), 0);
    output.textContent = show(+value);
    input.setAttribute("aria-valuetext", show(+value));
  };
  input.addEventListener("input", () => {
    const value = values ? values[+input.value] : +input.value;
    write(value); onInput(value);
  });
  return { root: make("label", { class: "control" }, make("span", {}, label), input, output), write };
}

// Numbers from low to high in about equal ratios, `each` to a factor of ten, rounded to two digits; the ends as they are
function ladder(low, high, each) {
  const inner = Array.from({ length: Math.ceil(Math.log10(high / low) * each) }, (_, i) => +(low * 10 ** (i / each)).toPrecision(2));
  return [...new Set([low, ...inner.filter((v) => v > low && v < high), high])];
}

function choice(label, options, onChange) {
  const select = make("select", {}, ...options.map(([value, text]) => make("option", { value }, text)));
  select.addEventListener("change", () => onChange(select.value));
  return { root: make("label", { class: "control" }, make("span", {}, label), select), write: (v) => { select.value = v; } };
}

// Keep a control and a trait of the model in step, and redraw on every change from either side.
function traits(model, names, redraw) {
  for (const name of names) model.on(`change:${name}`, redraw);
  const set = (name) => (value) => { model.set(name, value); model.save_changes(); };
  return { set, off: () => names.forEach((name) => model.off(`change:${name}`, redraw)) };
}

// The frame of a figure: its name and alt text, controls, parts, and a sentence that says what is seen. The function that
// comes back writes the sentence, also as the label of the plots and, once it changes, of the figure.
function stage(model, el, name, controls, ...parts) {
  const verdict = make("p", { class: "verdict", role: "status" });
  el.classList.add("advlab-live", `advlab-${name}`);
  el.setAttribute("role", "group");
  el.setAttribute("aria-label", model.get("alt"));
  el.replaceChildren(make("div", { class: controls.length > 4 ? "controls many" : "controls" }, ...controls.map((c) => c.root)), ...parts, verdict);
  return (text, broken = false) => {
    if (verdict.textContent && verdict.textContent !== text) el.setAttribute("aria-label", text);
    verdict.textContent = text;
    verdict.classList.toggle("broken", broken);
    for (const svg of el.querySelectorAll("svg.plot")) svg.setAttribute("aria-label", text);
  };
}

const whole = (v) => Math.round(v).toLocaleString("en");
const percent = (p) => (p > 0.9995 ? "> 99.9" : (100 * p).toFixed(1)) + "\u00a0%";
