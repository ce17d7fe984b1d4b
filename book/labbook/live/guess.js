// A question before its answer: until the reader commits, nothing here draws or says the answer, nor the figure behind it.

class Unanswered extends Error {}

const place = (a, v) => (a.log ? Math.log10(v) : v);
const share = (a, v) => (place(a, v) - place(a, a.low)) / (place(a, a.high) - place(a, a.low)); // 0 at the low end, 1 at the high
const nearness = (a, guess, truth) => Math.max(0, 1 - Math.abs(share(a, guess) - share(a, truth)));
const shown = (a, v) => String(+v.toPrecision(a.digits)).replace("-", "−") + (a.unit ? `\u00a0${a.unit}` : "");
const interval = (a, [low, high]) => `${shown(a, low)} to ${shown(a, high)}`;

function field(a, label) {
  const input = make("input", { type: "number", step: "any", min: a.low, max: a.high, "aria-label": label, autocomplete: "off" });
  const read = () => {
    if (input.value === "" || !Number.isFinite(+input.value)) throw new Unanswered(`“${label}” waits for a number. Or press “show me”.`);
    if (+input.value < a.low || +input.value > a.high) throw new Unanswered(`“${label}” is a number from ${shown(a, a.low)} to ${shown(a, a.high)}.`);
    return +input.value;
  };
  return { input, read };
}

// a line from the low end to the high end
function scale(a) {
  const chart = plot({ height: a.unit ? 96 : 82, left: 22, right: 22, top: 4, bottom: a.unit ? 38 : 24 }), from = place(a, a.low), to = place(a, a.high);
  const decades = Array.from({ length: Math.floor(to) - Math.ceil(from) + 1 }, (_, i) => Math.ceil(from) + i);
  const ticks = a.log ? decades.map((k) => [k, power(k)]) : round(from, to, 6).map((v) => [v, String(v).replace("-", "−")]);
  chart.axes({ from, to, ticks, title: a.unit }, { from: 0, to: 1, ticks: [] });
  // words beside what reaches from `low` to `high`, on the side that has room
  const name = (low, high, y, text) => {
    const left = share(a, high) > 0.6;
    chart.note()(place(a, left ? low : high), y, text, { dx: left ? -9 : 9, dy: 4, anchor: left ? "end" : "start" });
  };
  return { chart, name };
}

// One column of inputs that a pointer can draw over, too; where some were left out, straight lines go on from the others.
function sketchpad(a) {
  const sides = { left: 44, right: 18, top: 10, bottom: 38 }, chart = plot({ height: 230, ...sides }), from = a.x[0], to = a.x.at(-1);
  chart.axes({ from, to, ticks: round(from, to, 6).map((v) => [v, String(v)]), title: a.across },
    { from: a.low, to: a.high, ticks: round(a.low, a.high, 5).map((v) => [v, String(v).replace("-", "−")]), title: a.up, side: "end" });
  return { chart, sides, from, to };
}

function filled(x, y) {
  const known = x.map((_, i) => i).filter((i) => y[i] !== null);
  return x.map((v, i) => {
    const before = known.filter((k) => k <= i).at(-1) ?? known[0], after = known.find((k) => k >= i) ?? known.at(-1);
    return before === after ? y[before] : y[before] + ((y[after] - y[before]) * (v - x[before])) / (x[after] - x[before]);
  });
}

function drawing(a) {
  const { chart, sides, from, to } = sketchpad(a), y = a.x.map(() => null), line = chart.curve("line orange dashed"), dots = a.x.map(() => chart.dot("dot orange", 4));
  const inputs = a.x.map((v, i) => {
    const input = make("input", { type: "range", min: a.low, max: a.high, step: (a.high - a.low) / 50, value: (a.low + a.high) / 2, "aria-label": `${a.label || a.up} at ${a.across} ${+v.toPrecision(3)}`, "aria-valuetext": "not drawn yet" });
    input.addEventListener("input", () => set(i, +input.value));
    dots[i](NaN, NaN); // hidden
    return input;
  });
  function set(i, v) {
    y[i] = v;
    inputs[i].value = v;
    inputs[i].setAttribute("aria-valuetext", shown(a, v));
    dots[i](a.x[i], v);
    line(a.x.map((at, k) => [at, y[k]]).filter(([, value]) => value !== null));
  }
  pointing(chart.root, sides, (u, v) => {
    const at = from + u * (to - from), nearest = a.x.reduce((best, x, i) => (Math.abs(x - at) < Math.abs(a.x[best] - at) ? i : best), 0);
    set(nearest, a.low + v * (a.high - a.low));
  });
  const read = () => {
    if (y.filter((v) => v !== null).length < 2) throw new Unanswered("Draw a line: drag across the axes, or move each of its points with Tab and the arrow keys. Or press “show me”.");
    return filled(a.x, y);
  };
  return { root: make("div", { class: "sketch" }, chart.root, make("div", { class: "knots" }, ...inputs)), read };
}

let groups = 0;

// Each kind: a way to ask, a picture of guess and truth, both in words, and how near the guess came (1: there, 0: far off).
const KINDS = {
  number: {
    ask(a) {
      const { input, read } = field(a, a.label || "your guess");
      return { root: make("label", { class: "control" }, make("span", {}, a.label || "your guess"), input, a.unit), read };
    },
    reveal(a, guess) {
      const { chart, name } = scale(a);
      chart.dot("dot blue", 6)(place(a, a.truth), 0.72);
      name(a.truth, a.truth, 0.72, `the answer: ${shown(a, a.truth)}`);
      if (guess === null) return chart.root;
      chart.dot("ring orange", 6)(place(a, guess), 0.28);
      name(guess, guess, 0.28, `your guess: ${shown(a, guess)}`);
      return chart.root;
    },
    said: shown,
    near: (a, guess) => nearness(a, guess, a.truth),
    compared(a, guess) {
      if (shown(a, guess) === shown(a, a.truth)) return "";
      const times = guess / a.truth, apart = shown(a, Math.abs(guess - a.truth));
      if (!a.log) return `, ${apart} ${guess > a.truth ? "less" : "more"}`;
      return `, ${(times > 1 ? times : 1 / times).toPrecision(2)} times ${times > 1 ? "less" : "more"}`;
    },
  },
  range: {
    ask(a) {
      const ends = ["from", "to"].map((end) => field(a, a.label ? `${a.label}, ${end}` : end));
      const root = make("span", { class: "control" }, make("span", {}, a.label || "your guess"),
        ...ends.flatMap(({ input }, k) => [make("label", {}, ["from ", "to "][k], input)]), a.unit);
      return { root, read: () => ends.map(({ read }) => read()).sort((v, w) => v - w) };
    },
    reveal(a, guess) {
      const { chart, name } = scale(a), row = (hue, [low, high], y, words) => {
        chart.strokes(`line ${hue}`)([[place(a, low), y, place(a, high), y]]);
        for (const v of [low, high]) chart.dot(`dot ${hue}`, 4)(place(a, v), y);
        name(low, high, y, words);
      };
      row("blue", a.truth, 0.72, `the answer: ${interval(a, a.truth)}`);
      if (guess !== null) row("orange", guess, 0.28, `your guess: ${interval(a, guess)}`);
      return chart.root;
    },
    said: interval,
    near: (a, guess) => (nearness(a, guess[0], a.truth[0]) + nearness(a, guess[1], a.truth[1])) / 2,
    compared: (a, guess) => (guess[0] <= a.truth[0] && guess[1] >= a.truth[1] ? ", inside your range" : guess[1] < a.truth[0] || guess[0] > a.truth[1] ? ", outside your range" : ", partly in your range"),
  },
  choice: {
    ask(a) {
      const group = `guess-${groups++}`, inputs = a.options.map((option) => make("input", { type: "radio", name: group, value: option }));
      const root = make("fieldset", {}, make("legend", {}, a.label || "your guess"), ...inputs.map((input, i) => make("label", {}, input, ` ${a.options[i]}`)));
      const read = () => {
        const chosen = inputs.find((input) => input.checked);
        if (!chosen) throw new Unanswered(`“${a.label || "your guess"}” waits for a choice. Or press “show me”.`);
        return chosen.value;
      };
      return { root, read };
    },
    reveal: (a, guess) => make("ul", { class: "options" }, ...a.options.map((option) => {
      const marks = [...(option === a.truth ? ["the answer"] : []), ...(option === guess ? ["your guess"] : [])];
      return make("li", { class: option === a.truth ? "truth" : option === guess ? "missed" : "" }, option, ...(marks.length ? [make("strong", {}, ` – ${marks.join(", ")}`)] : []));
    })),
    said: (a, v) => v,
    near: (a, guess) => +(guess === a.truth),
    compared: (a, guess) => (guess === a.truth ? ": right" : ""),
  },
  sketch: {
    ask: drawing,
    reveal(a, guess) {
      const { chart } = sketchpad(a), points = (y) => a.x.map((v, i) => [v, y[i]]);
      chart.curve("line blue")(points(a.truth));
      if (guess !== null) chart.curve("line orange dashed")(points(guess));
      return make("div", {}, legend([["blue", "the answer"], ...(guess ? [["orange dashed", "your line"]] : [])]), chart.root);
    },
    said: (a, y) => `${shown(a, y[0])} … ${shown(a, y.at(-1))}`,
    near: (a, guess) => guess.reduce((sum, v, i) => sum + nearness(a, v, a.truth[i]), 0) / guess.length,
    compared: (a, guess) => `, your line is off by ${shown(a, guess.reduce((sum, v, i) => sum + Math.abs(v - a.truth[i]), 0) / guess.length)} on average`,
  },
};

// What is kept of an answered question; `guess` is null for a reader who asked to be shown
function recordOf(question, parts, guess) {
  const told = parts.map((a, k) => {
    const { said, near } = KINDS[a.kind];
    return { label: a.label, answer: said(a, a.truth), guess: guess && said(a, guess[k]), near: guess && near(a, guess[k]) };
  });
  return { question, guess, told, at: Date.now() };
}

const capital = (text) => text.replace(/^./, (c) => c.toUpperCase());
const sentence = (a, guess) => {
  const { said, compared } = KINDS[a.kind], asks = !a.label || a.label.endsWith("?");
  const what = a.label ? `${capital(a.label)}${asks ? "" : ":"} ` : "", quoted = (v) => a.kind === "choice" ? `“${said(a, v)}”` : said(a, v);
  const answer = guess === null ? `the answer is ${quoted(a.truth)}.` : `you guessed ${quoted(guess)}; the answer is ${quoted(a.truth)}${compared(a, guess)}.`;
  return what + (asks ? capital(answer) : answer);
};

// the figure that waited, drawn into `el`; its module comes as it does on any page
async function waiting(model, el) {
  const figure = await model.widget_manager.get_model(model.get("inside").replace("IPY_MODEL_", ""));
  const address = URL.createObjectURL(new Blob([figure.get("_esm")], { type: "text/javascript" }));
  const loaded = await import(address).finally(() => URL.revokeObjectURL(address));
  return loaded.default.render({ model: figure, el });
}

async function render({ model, el }) {
  const name = model.get("name"), question = model.get("question"), parts = model.get("parts"), held = model.get("inside");
  const asked = parts.map((a) => KINDS[a.kind].ask(a));
  const commit = make("button", { type: "submit" }, "this is my guess"), skip = make("button", { type: "button" }, "show me");
  const form = make("form", { novalidate: "" }, ...asked.map(({ root }) => root), make("div", { class: "presses" }, commit, skip));
  const answers = make("div", { class: "answers", tabindex: "-1" }), figure = make("div", {});
  const say = stage(model, el, "guess", [], make("p", { class: "question" }, question), form, answers, make("p", { class: "printed" }, model.get("printed")));
  el.append(figure);
  let stop = null, drawn = false;

  async function show() {
    const record = recall(name), focused = form.contains(document.activeElement);
    form.hidden = !!record;
    el.classList.toggle("known", !!record);
    if (!record) {
      answers.replaceChildren();
      figure.replaceChildren();
      drawn = false;
      return say(held ? "The figure opens when you have guessed." : "The answer comes when you have guessed.");
    }
    answers.replaceChildren(...parts.map((a, k) => make("figure", {}, ...(a.label ? [make("figcaption", {}, a.label)] : []), KINDS[a.kind].reveal(a, record.guess && record.guess[k]))));
    say(parts.map((a, k) => sentence(a, record.guess && record.guess[k])).join(" "));
    if (focused) answers.focus();
    model.set("guess", record.guess);
    model.save_changes();
    if (!held || drawn) return null;
    drawn = true;
    const inner = make("div", {});
    figure.replaceChildren(inner);
    figure.setAttribute("aria-busy", "true");
    stop = await waiting(model, inner);
    figure.removeAttribute("aria-busy");
    return null;
  }

  const answer = (event) => {
    event.preventDefault();
    try { keep(name, recordOf(question, parts, asked.map(({ read }) => read()))); } catch (e) {
      if (!(e instanceof Unanswered)) throw e;
      say(e.message);
    }
  };
  form.addEventListener("submit", answer);
  form.addEventListener("keydown", (event) => { if (event.key === "Enter" && event.target !== skip) answer(event); }); // JupyterLab submits no form
  skip.addEventListener("click", () => keep(name, recordOf(question, parts, null)));
  globalThis.addEventListener("advlab-guess", show);
  await show();
  return () => { globalThis.removeEventListener("advlab-guess", show); stop?.(); };
}

export { KINDS, filled, recordOf };
export default { render };
