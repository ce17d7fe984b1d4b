// All defences against all attacks: images are counted anew for the attacks that the reader chooses.

const SORTS = ["name", "worst case", "clean", "proved", "gap"];
const HEADS = { name: "defence", "worst case": "worst case", clean: "clean", proved: "proved", gap: "gap" };
// What can be said of an image, from left to right in a bar
const PARTS = [
  ["bounded", "proved by bounds"], ["searched", "proved by search"], ["open", "stands, not decided"],
  ["refuted", "stands, but refuted by the verifier"], ["broken", "broken"],
];

// Counts of a row's images under these attacks; an image stands if it does so clean and after each attack. By symmetry
// the upper end of Clopper and Pearson's interval for k of n is 1 minus the lower end for n - k.
function counted({ outcomes, known }, attacks, lows) {
  const columns = ["clean", ...attacks].map((name) => outcomes[name]), n = known.length;
  const found = { n, clean: 0, stands: 0, bounded: 0, searched: 0, open: 0, refuted: 0, broken: 0 };
  for (let i = 0; i < n; i++) {
    const stands = columns.every((column) => column[i] === "1");
    if (columns[0][i] === "1") found.clean += 1;
    if (stands) found.stands += 1;
    found[stands ? ["refuted", "open", "searched", "bounded"][+known[i]] : "broken"] += 1;
  }
  const proved = found.bounded + found.searched, low = lows[n][found.stands], high = 1 - lows[n][n - found.stands];
  return { ...found, proved, gap: found.stands - proved, low, high };
}

// The rows that are shown, in order; rows that are level stay as they were given
function compute({ rows, lows, dataset, attacks, sort, show }) {
  const shown = rows.filter((row) => row.dataset === dataset && (show === "all" || row.group === show || row.papers.includes(show)));
  const found = shown.map((row) => ({ key: row.key, label: row.label, ...counted(row, attacks, lows) }));
  const name = ({ label }) => label.toLowerCase(), by = sort === "worst case" ? "stands" : sort;
  return found.sort((a, b) => (sort !== "name" ? b[by] - a[by] : name(a) < name(b) ? -1 : +(name(a) > name(b))));
}

const share = (k, n) => ((100 * k) / n).toFixed(1);
const listed = (names) => (names.length < 2 ? names.join() : `${names.slice(0, -1).join(", ")} and ${names[names.length - 1]}`);

// What is seen, in words: the row that stands best, how many stand on half, and what one more attack would do
function sentence(state) {
  const { attacks, dataset, settings, offered } = state, rows = compute({ ...state, sort: "worst case" }), [first] = rows;
  const head = `${settings[dataset]}, ${attacks.length ? `against ${listed(attacks)}` : "without an attack"}`;
  if (!first) return `${head}: no row is shown.`;
  const { n, stands, low, high, proved, label } = first, level = rows.filter((row) => row.stands === stands).length - 1;
  if (!stands) return `${head}: no row stands on any of ${n} images.`;
  const verb = `${level ? ` and ${level} more stand` : " stands"} ${rows.length > 1 ? "most often, " : ""}on`;
  const range = `${share(stands, n)}\u00a0% of ${n} images (95\u00a0% interval ${(100 * low).toFixed(1)} to ${(100 * high).toFixed(1)})`;
  const proof = level ? "" : `, with proof on ${share(proved, n)}\u00a0%`, half = rows.filter((row) => 2 * row.stands >= n).length;
  const half_of = rows.length > 1 ? `; at least half stand in ${half} of ${rows.length} rows` : "";
  const told = `${head}: ${label}${verb} ${range}${proof}${half_of}.`;
  const others = offered.filter((name) => !attacks.includes(name));
  if (!others.length) return told;
  const left = (name) => compute({ ...state, attacks: [...attacks, name] }).find((row) => row.key === first.key).stands;
  const worst = others.reduce((a, b) => (left(b) < left(a) ? b : a));
  if (left(worst) === stands) return `${told} No other attack alone would take more from ${label}.`;
  return `${told} With ${worst} too, ${label} would keep ${share(left(worst), n)}\u00a0%.`;
}

const HELD = ["rows", "lows", "settings", "offered"], NAMES = ["dataset", "attacks", "sort", "show"];

function render({ model, el }) {
  const [rows, , settings, offered] = HELD.map((k) => model.get(k)), distinct = (values) => [...new Set(values)];
  const link = traits(model, NAMES, () => draw());
  const dataset = choice("data set", Object.entries(settings), link.set("dataset"));
  const kinds = ["all", ...distinct(rows.map((row) => row.group)), ...distinct(rows.flatMap((row) => row.papers))];
  const show = choice("show", kinds.map((kind) => [kind, kind]), link.set("show"));
  const boxes = offered.map(() => make("input", { type: "checkbox" }));
  const ticks = offered.map((name, i) => make("label", {}, boxes[i], ` ${name}`));
  for (const box of boxes) box.addEventListener("change", () => link.set("attacks")(offered.filter((_, i) => boxes[i].checked)));
  const attacks = { root: make("div", { class: "control toggles", role: "group", "aria-label": "attacks" }, make("span", {}, "attacks"), ...ticks) };

  const heads = SORTS.map((sort) => {
    const button = make("button", { type: "button" }, HEADS[sort]);
    button.addEventListener("click", () => link.set("sort")(sort));
    return make("th", { scope: "col", role: "columnheader", class: sort.split(" ")[0] }, button);
  });
  const caption = make("caption", {}), body = make("tbody", { role: "rowgroup" });
  const table = make("table", { role: "table" }, caption,
    make("thead", { role: "rowgroup" }, make("tr", { role: "row" }, ...heads)), body);
  const keys = [...PARTS, ["tick", "clean accuracy"], ["range", "95\u00a0% interval"]];
  const legend = make("div", { class: "keys" }, ...keys.map(([name, text]) => make("span", {}, make("i", { class: name }), text)));
  const say = stage(model, el, "all-against-all", [dataset, show, attacks], legend, make("div", { class: "sheet" }, table));

  // The bar only repeats what the cells of its row say
  function bar(row) {
    const at = (k) => `${(100 * k) / row.n}%`;
    const parts = PARTS.filter(([name]) => row[name]).map(([name]) => make("i", { class: name, style: `width: ${at(row[name])}` }));
    const range = make("i", { class: "range", style: `left: ${100 * row.low}%; width: ${100 * (row.high - row.low)}%` });
    return make("div", { class: "bar", "aria-hidden": "true" }, ...parts, range, make("i", { class: "tick", style: `left: ${at(row.clean)}` }));
  }
  const unseen = (text) => make("span", { class: "unseen" }, text), small = (...lines) => make("small", {}, ...lines.flatMap((text) => [make("span", {}, text), " "]));
  function line(row) {
    const { flags } = rows.find((given) => given.key === row.key && given.dataset === model.get("dataset")), { n } = row;
    const cell = (name, k, ...more) => make("td", { role: "cell", class: name, "data-says": name }, make("b", {}, `${share(k, n)}\u00a0%`), ...more);
    const worst = cell("worst", row.stands,
      make("span", { class: "count" }, ` ${row.stands} of ${n}, `, unseen("95\u00a0% interval "), `${(100 * row.low).toFixed(1)} to ${(100 * row.high).toFixed(1)}`));
    worst.prepend(bar(row));
    return make("tr", { role: "row" },
      make("th", { scope: "row", role: "rowheader", class: "name" }, row.label, ...(flags.length ? [small(`flags: ${flags.join(", ")}`)] : [])),
      worst, cell("clean", row.clean),
      cell("proved", row.proved, small(`${row.bounded} by bounds,`, `${row.searched} by search`)),
      cell("gap", row.gap, small(`${row.open} not decided,`, `${row.refuted} refuted`)));
  }

  function draw() {
    const now = Object.fromEntries([...HELD, ...NAMES].map((k) => [k, model.get(k)])), found = compute(now);
    dataset.write(now.dataset); show.write(now.show);
    boxes.forEach((box, i) => { box.checked = now.attacks.includes(offered[i]); });
    heads.forEach((head, i) => {
      if (SORTS[i] === now.sort) head.setAttribute("aria-sort", i ? "descending" : "ascending");
      else head.removeAttribute("aria-sort");
    });
    caption.textContent = `${found.length} of ${rows.filter((row) => row.dataset === now.dataset).length} rows. ` +
      "Worst case: images that stand clean and after each chosen attack. Gap: those of them without a proof.";
    body.replaceChildren(...found.map(line));
    say(sentence(now));
  }
  draw();
  return link.off;
}

export { compute, sentence };
export default { render };
