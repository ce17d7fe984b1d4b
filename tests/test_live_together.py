"""The live figure of chapter 5: its JavaScript against counting by hand, what it says in every state, and a look."""

import functools
import importlib.resources
import itertools
import json

import numpy as np
import pytest
import traitlets
from browser import needs_chromium, page, page_of
from node import javascript, needs_node
from scipy import stats

from labbook import live, results
from labbook.all_against_all import defences, ladder, tables
from labbook.live import figure

SOURCE = figure.module("all_against_all.js")
ATTACKS = ("noise", "transfer", "Square", "PGD", "adaptive")
STATE = ("rows", "lows", "settings", "offered", "dataset", "attacks", "sort", "show")
SORTS = ("worst case", "clean", "proved", "gap", "name")
SUBSETS = [list(chosen) for size in range(6) for chosen in itertools.combinations(ATTACKS, size)]


def made_up(key, rates, group="one defence", papers=(), dataset="mnist", n=200, flags=(), label=None, seed=0):
    """A row whose images fall at these rates to one attack after the other; of those that stand some are proved."""
    random = np.random.default_rng([seed, *key.encode()])
    strength, noise = random.random(n), 0.04
    outcomes = {
        name: (strength + noise * random.standard_normal(n) < rate) * 1.0
        for name, rate in zip(("clean", *ATTACKS), rates, strict=False)
    }
    outcomes = {name: column * outcomes["clean"] for name, column in outcomes.items()}
    stands, bounded, proved = np.all(list(outcomes.values()), 0), strength < rates[6] - 0.05, strength < rates[6]
    known = np.where(stands & bounded, 3, np.where(stands & proved, 2, random.random(n) < 0.6))
    return {
        "dataset": dataset,
        "setting": {"mnist": "MNIST, linf 0.1", "cifar10": "CIFAR-10, linf 2/255"}[dataset],
        "key": key,
        "label": label or key,
        "group": group,
        "papers": list(papers),
        "flags": list(flags),
        "outcomes": {name: column.tolist() for name, column in outcomes.items()},
        "known": known.astype(float).tolist(),
    }


SQUEEZE, STABLE, MASK = "Feature Squeezing", "ReLU stability", "Random Mask"
MADE = [
    made_up("none", (0.985, 0.98, 0.80, 0.71, 0.22, 0.17, 0.0), "no defence", label="no defence"),
    made_up("adversarial", (0.985, 0.985, 0.97, 0.96, 0.93, 0.925, 0.3), label="adversarial training"),
    made_up("rs", (0.98, 0.98, 0.965, 0.955, 0.94, 0.935, 0.92), papers=[STABLE], label="RS loss"),
    made_up("mask", (0.975, 0.965, 0.84, 0.55, 0.06, 0.04, 0.0), papers=[MASK], label="random mask", flags=["budget-unused"]),
    made_up(
        "mask_adversarial",
        (0.97, 0.97, 0.95, 0.93, 0.88, 0.84, 0.12),
        "pair",
        [MASK],
        label="random mask, adversarial training",
    ),
    made_up(
        "detector",
        (0.94, 0.935, 0.90, 0.92, 0.83, 0.31, 0.0),
        papers=[SQUEEZE],
        label="squeezing detector",
        flags=["black-box-wins"],
    ),
    made_up(
        "rs_detector",
        (0.935, 0.935, 0.93, 0.92, 0.91, 0.88, 0.86),
        "pair",
        [STABLE, SQUEEZE],
        label="RS loss, squeezing detector",
    ),
    made_up("one_bit", (0.97, 0.96, 0.94, 0.9, 0.84, 0.75, 0.6), papers=[SQUEEZE], label="one bit before the network"),
    made_up("none", (0.72, 0.71, 0.65, 0.5, 0.18, 0.1, 0.0), "no defence", dataset="cifar10", label="no defence", seed=1),
    made_up("adversarial", (0.64, 0.64, 0.62, 0.59, 0.53, 0.51, 0.1), dataset="cifar10", label="adversarial training"),
    made_up("rs", (0.61, 0.61, 0.58, 0.53, 0.48, 0.47, 0.45), papers=[STABLE], dataset="cifar10", label="RS loss"),
]


def small(seed=0, n=7, rows=4):
    """Random outcomes that agree with what is known, full of ties."""
    random = np.random.default_rng(seed)
    made = []
    for place in range(rows):
        outcomes = {name: random.integers(0, 2, n) for name in ("clean", *ATTACKS)}
        for column in outcomes.values():
            column[:2] = 1
        stands = np.all(list(outcomes.values()), 0)
        known = np.where(stands, random.integers(0, 4, n), random.integers(0, 2, n))
        row = MADE[0] | {"key": f"k{place}", "label": "DcdC"[place % 4] * 2, "group": ("one defence", "pair")[place % 2]}
        made.append(row | {"papers": [[], [MASK]][place // 2 % 2], "outcomes": outcomes, "known": known})
    return made


@functools.cache
def interval(k, n):
    """Clopper and Pearson's interval, SciPy's."""
    found = stats.binomtest(k, n).proportion_ci(0.95, method="exact")
    return found.low, found.high


def by_hand(rows, dataset, attacks, sort, show):
    """The figure's numbers from the given rows, an image at a time."""
    found = []
    for row in rows:
        if row["dataset"] != dataset or not (show == "all" or show == row["group"] or show in row["papers"]):
            continue
        n = len(row["known"])
        counts = dict.fromkeys(("clean", "stands", "bounded", "searched", "open", "refuted", "broken"), 0)
        for i in range(n):
            if row["outcomes"]["clean"][i]:
                counts["clean"] += 1
            if not row["outcomes"]["clean"][i] or any(not row["outcomes"][name][i] for name in attacks):
                counts["broken"] += 1
                continue
            counts["stands"] += 1
            counts[{3: "bounded", 2: "searched", 1: "open", 0: "refuted"}[int(row["known"][i])]] += 1
        proved = counts["bounded"] + counts["searched"]
        low, high = interval(counts["stands"], n)
        counts |= {"n": n, "proved": proved, "gap": counts["stands"] - proved, "low": low, "high": high}
        place = {"worst case": "stands"}.get(sort, sort)
        rank = row["label"].lower() if sort == "name" else -counts[place]
        found.append((rank, len(found), {"key": row["key"], "label": row["label"], **counts}))
    return [counts for _, _, counts in sorted(found, key=lambda each: each[:2])]


def state_of(f):
    return {name: getattr(f, name) for name in STATE}


def close(found, truth):
    assert [row["key"] for row in found] == [row["key"] for row in truth]
    for mine, theirs in zip(found, truth, strict=True):
        assert mine.keys() == theirs.keys()
        assert all(mine[k] == theirs[k] if isinstance(theirs[k], str) else abs(mine[k] - theirs[k]) < 1e-9 for k in theirs)


@needs_node
@pytest.mark.parametrize("rows", [MADE, small(0), small(1, n=12, rows=8), small(2, n=1)], ids=["made up", "7", "12", "1"])
def test_the_page_counts_as_one_does_by_hand(rows, tmp_path):
    """All choices of attacks, all orders and filters: counts, intervals, and the order of rows that are level."""
    kinds = ["all", *{row["group"] for row in rows}, *{paper for row in rows for paper in row["papers"]}]
    cases = [{"attacks": a, "sort": s, "show": "all"} for a, s in zip(SUBSETS, itertools.cycle(SORTS))]
    cases += [{"attacks": a, "sort": s, "show": kind} for a, s, kind in itertools.product(SUBSETS[::7], SORTS, kinds)]
    cases = [{"dataset": d, **case} for case in cases for d in dict.fromkeys(row["dataset"] for row in rows)]
    f = live.AllAgainstAll(rows)
    answers = javascript(tmp_path, SOURCE, "a[1].map((s) => figure.compute({...a[0], ...s}))", [state_of(f), cases])
    level = 0
    for case, answer in zip(cases, answers, strict=True):
        truth = by_hand(rows, **case)
        close(answer, truth)
        level += len({row["stands"] for row in truth}) < len(truth)
        for row in answer:
            assert row["bounded"] + row["searched"] + row["open"] + row["refuted"] + row["broken"] == row["n"]
            assert row["proved"] <= row["stands"] - row["refuted"] <= row["stands"] <= row["clean"]
        if case["attacks"] in SUBSETS[::11]:
            for name, value in case.items():
                setattr(f, name, value)
            close(f.computed(), truth)
    assert level, "no rows that are level: the order of those is not tried"


@needs_node
def test_page_and_python_say_the_same_true_sentence_in_every_state(tmp_path):
    worn = [made_up("a", (0.9, 0.1, 0.1, 0.1, 0, 0, 0), n=20), made_up("b", (0.9, 0.2, 0.2, 0.1, 0, 0, 0), "pair", n=20)]
    other = made_up("c", (0.9, 0.5, 0.5, 0.5, 0.5, 0.5, 0.2), "pair", dataset="cifar10", n=20)
    worlds = [MADE, small(0), small(3, rows=8), [MADE[0], MADE[-1]], [*worn[:1], other], worn]
    seen = set()
    for rows in worlds:
        f = live.AllAgainstAll(rows)
        kinds = dict.fromkeys(["all", *(row["group"] for row in rows), *(p for row in rows for p in row["papers"])])
        cases = [{"dataset": d, "attacks": a, "show": k} for d, a, k in itertools.product(f.settings, SUBSETS[::3], kinds)]
        cases.append({"dataset": "mnist", "attacks": list(ATTACKS), "show": "all"})
        told = javascript(tmp_path, SOURCE, "a[1].map((s) => figure.sentence({...a[0], ...s}))", [state_of(f), cases])
        for case, text in zip(cases, told, strict=True):
            for name, value in case.items():
                setattr(f, name, value)
            assert text == f.describe()
            assert text.endswith(".")
            assert text[0].isupper()
            assert len(text) < 330
            assert not any(word in text for word in ("NaN", "nan", "undefined", "Infinity", "[object"))
            if not (truth := by_hand(rows, sort="worst case", **case)):
                assert text.endswith("no row is shown.")
                seen.add("none")
                continue
            best = truth[0]
            if best["stands"] == 0:
                assert text.endswith(f"no row stands on any of {best['n']} images.")
                seen.add("all broken")
                continue
            text = text.replace("\u00a0", " ")
            assert f" {100 * best['stands'] / best['n']:.1f} % of {best['n']} images" in text
            assert f"interval {100 * best['low']:.1f} to {100 * best['high']:.1f})" in text
            level = [row for row in truth if row["stands"] == best["stands"]]
            assert (f": {best['label']} and {len(level) - 1} more stand" in text) == (len(level) > 1)
            assert (f"with proof on {100 * best['proved'] / best['n']:.1f} %" in text) == (len(level) == 1)
            half = sum(row["stands"] >= row["n"] / 2 for row in truth)
            assert (f"at least half stand in {half} of {len(truth)} rows" in text) == (len(truth) > 1)
            after = {}
            for name in set(ATTACKS) - set(case["attacks"]):
                later = by_hand(rows, **{**case, "attacks": [*case["attacks"], name], "sort": "name"})
                (after[name],) = (row["stands"] for row in later if row["key"] == best["key"])
            if not after:
                assert " too, " not in text
                assert "No other" not in text
                seen.add("all on")
            elif min(after.values()) == best["stands"]:
                assert f"No other attack alone would take more from {best['label']}." in text
                seen.add("no more")
            else:
                (name,) = (a for a in after if f" With {a} too, {best['label']} would keep" in text)
                assert after[name] == min(after.values())
                assert text.endswith(f" keep {100 * after[name] / best['n']:.1f} %.")
                seen.add("more")
    assert seen == {"none", "all broken", "all on", "no more", "more"}


def test_what_it_says_and_draws():
    f = live.AllAgainstAll(MADE)
    assert f.alt == f.describe()
    assert f.alt.startswith("MNIST, linf 0.1, against noise, transfer, Square, PGD and adaptive: RS loss stands most often")
    assert figure.png(f.still()) == figure.png(f.still())
    for chosen in ({}, {"dataset": "cifar10", "show": "pair"}):
        for name, value in chosen.items():
            setattr(f, name, value)
        (ax,) = f.still().axes
        widths = [[bar.get_width() for bar in container] for container in ax.containers]
        truth = by_hand(MADE, f.dataset, ATTACKS, "worst case", f.show)
        for part, drawn in zip(("bounded", "searched", "open", "refuted", "broken"), widths, strict=True):
            assert drawn == pytest.approx([100 * row[part] / row["n"] for row in truth])


def test_the_state_is_small():
    f = live.AllAgainstAll([row | {"key": f"{row['key']}{k}"} for k in (0, 1) for row in MADE])
    assert len(json.dumps({name: getattr(f, name) for name in STATE})) < 50_000


def test_bad_rows_are_refused():
    row, other = small(rows=2)
    ones = np.ones(7)

    def without(name):
        return {key: value for key, value in row.items() if key != name}

    for wrong, says in (
        ([], "a row at least"),
        ([without("known")], "has the fields"),
        ([row | {"colour": "red"}], "has the fields"),
        ([row | {"known": [*row["known"], 1]}], "of one length"),
        ([row | {"outcomes": {**row["outcomes"], "PGD": row["outcomes"]["PGD"][:5]}}], "of one length"),
        ([row | {"known": [], "outcomes": {"clean": []}}], "not empty"),
        ([row | {"outcomes": {**row["outcomes"], "PGD": 0.5 * ones}}], "k0: PGD holds .*0.5.* from 0 to 1"),
        ([row | {"outcomes": {**row["outcomes"], "PGD": float("nan") * ones}}], "k0: PGD holds .*nan"),
        ([row | {"outcomes": {**row["outcomes"], "PGD": 2 * ones}}], "k0: PGD holds"),
        ([row | {"known": 4 * ones}], "k0: known holds .* from 0 to 3"),
        ([row | {"outcomes": {"PGD": ones}}], "one for 'clean'"),
        ([row, other | {"outcomes": {**other["outcomes"], "another": ones}}], "k1 has the attacks"),
        ([row, other | {"outcomes": {"clean": other["outcomes"]["clean"]}}], "k1 has the attacks"),
        ([row, *small(n=8, rows=2)[1:]], "k1 has 8 images; the rows before it have 7"),
        ([row, other | {"setting": "another"}], "k1 has the setting"),
        ([row, row], "one key"),
        ([row | {"outcomes": {**row["outcomes"], "PGD": 0 * ones}, "known": 2 * ones}], "is proved to stand and falls to"),
    ):
        with pytest.raises(ValueError, match=says):
            live.AllAgainstAll(wrong)
    f = live.AllAgainstAll([row, other], attacks=["PGD", "noise"])
    assert f.attacks == ["noise", "PGD"], "in the order of the rows"
    for name, value in (
        ("attacks", ["FGSM"]),
        ("attacks", ["clean"]),
        ("attacks", ["PGD", "PGD"]),
        ("dataset", "cifar10"),
        ("sort", "colour"),
        ("show", MASK),
    ):
        with pytest.raises(traitlets.TraitError):
            setattr(f, name, value)
        with pytest.raises(traitlets.TraitError):
            live.AllAgainstAll([row, other], **{name: value})


def entry(id, series, flags=()):
    needed = dict.fromkeys(results.Entry.__dataclass_fields__, "")
    return results.Entry(**needed | {"id": f"all_against_all.{id}", "series": series, "flags": flags})


def test_the_rows_come_from_the_manifest(monkeypatch):
    columns = {name: [1.0, 1.0, 0.0, float(name != "PGD")] for name in ladder.ATTACKS}
    measured = {}
    for id in ("mnist_none", "mnist_rs", "mnist_mask_adversarial", "mnist_rs_detector", "cifar10_detector", "cifar10_rs"):
        worst = entry(id, columns, ("black-box-wins",) if id == "mnist_rs" else ())
        proof = entry(f"{id}_proved", {"known": [3.0, 1.0, 0.0, 0.0]})
        measured |= {e.id: e for e in ((worst,) if id == "cifar10_rs" else (worst, proof))}
    monkeypatch.setattr(results, "load", lambda chapter: measured)
    rows = tables.rows()
    assert [(row["dataset"], row["key"], row["label"], row["group"], row["papers"]) for row in rows] == [
        ("mnist", "none", "no defence", "no defence", []),
        ("mnist", "rs", "RS loss", "one defence", [STABLE]),
        ("mnist", "mask_adversarial", "random mask, adversarial training", "pair", [MASK]),
        ("mnist", "rs_detector", "RS loss, squeezing detector", "pair", [STABLE, SQUEEZE]),
        ("cifar10", "detector", "squeezing detector", "one defence", [SQUEEZE]),
    ], "what is not measured, or not all of it, is left out"
    assert [row["flags"] for row in rows] == [[], ["black-box-wins"], [], [], []]
    f = live.AllAgainstAll(rows)
    assert f.offered == list(ATTACKS)
    assert f.settings == {"mnist": "MNIST, linf 0.1", "cifar10": "CIFAR-10, linf 2/255"}
    assert [(row["clean"], row["stands"], row["proved"]) for row in f.computed()] == [(3, 2, 1)] * 4


def test_each_row_of_the_chapter_has_a_group_and_papers_with_names():
    for rows in defences.ROWS.values():
        groups = {key: tables.group_of(key, row) for key, row in rows.items()}
        assert [key for key, group in groups.items() if group == "no defence"] == ["none"]
        assert all((group == "pair") == ("," in rows[key].label) for key, group in groups.items())
        assert all(paper in tables.PAPERS for row in rows.values() for paper in row.papers)


READ = """(e) => [...e.querySelectorAll('tbody tr')].map((row) => ({
  cells: [...row.children].map((cell) => cell.innerText.replaceAll('\u00a0', ' ')),
  parts: [...row.querySelectorAll('.bar > i')].map((part) => [part.className, part.getBoundingClientRect().width]),
  bar: row.querySelector('.bar').getBoundingClientRect().width }))"""


@needs_chromium
@pytest.mark.parametrize("width", [1280, 390])
def test_a_reader_chooses_attacks_sorts_and_filters_by_keyboard_and_mouse(tmp_path, width):
    address = page_of({"all-against-all": live.AllAgainstAll(MADE)}, tmp_path)
    with page() as p:
        p.set_viewport_size({"width": width, "height": 900})
        p.goto(address)
        f = p.locator(".advlab-all-against-all")
        verdict = f.locator(".verdict")
        verdict.wait_for()

        def holds(dataset="mnist", attacks=ATTACKS, sort="worst case", show="all"):
            truth = by_hand(MADE, dataset, attacks, sort, show)
            found = f.evaluate(READ)
            assert len(found) == len(truth)
            for seen, row in zip(found, truth, strict=True):
                name, worst, clean, proved, gap = seen["cells"]
                assert name.split("\n")[0] == row["label"]
                assert f"{row['stands']} of 200" in worst
                assert f"{100 * row['low']:.1f} to {100 * row['high']:.1f}" in worst
                assert f"{row['clean'] / 2:.1f} %" in clean
                assert f"{row['bounded']} by bounds,\n{row['searched']} by search" in proved
                assert f"{row['gap'] / 2:.1f} %" in gap
                assert f"{row['open']} not decided,\n{row['refuted']} refuted" in gap
                drawn = {part: width / seen["bar"] for part, width in seen["parts"]}
                for part in ("bounded", "searched", "open", "refuted", "broken"):
                    assert drawn.get(part, 0) == pytest.approx(row[part] / 200, abs=0.005)
                assert drawn["range"] == pytest.approx(row["high"] - row["low"], abs=0.005)
            chosen = f.locator("[aria-sort]")
            assert chosen.count() == 1
            assert chosen.get_attribute("aria-sort") == ("ascending" if sort == "name" else "descending")
            assert p.evaluate("document.documentElement.scrollWidth") <= width
            assert f.evaluate("(e) => e.scrollWidth <= e.clientWidth")

        holds()
        f.get_by_label("PGD", exact=True).focus()
        p.keyboard.press("Space")
        assert p.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"
        p.keyboard.press("Tab")
        p.keyboard.press("Space")  # the next box
        holds(attacks=ATTACKS[:3])
        assert "against noise, transfer and Square:" in verdict.inner_text()
        assert " would keep " in verdict.inner_text()
        assert f.get_attribute("aria-label") == verdict.inner_text().replace("\n", " ")
        p.keyboard.press("Tab")  # the first head of the table
        p.keyboard.press("Enter")
        holds(attacks=ATTACKS[:3], sort="name")
        assert p.evaluate("document.activeElement.textContent") == "defence", "the focus stays"
        for sort in ("clean", "proved", "gap", "worst case"):
            f.get_by_role("button", name=sort, exact=True).click()
            holds(attacks=ATTACKS[:3], sort=sort)
        f.locator("select").nth(1).select_option("pair")
        holds(attacks=ATTACKS[:3], show="pair")
        f.locator("select").nth(1).select_option(SQUEEZE)
        holds(attacks=ATTACKS[:3], show=SQUEEZE)
        f.locator("select").nth(0).select_option("cifar10")
        holds("cifar10", ATTACKS[:3], show=SQUEEZE)
        assert verdict.inner_text().endswith("no row is shown.")
        f.locator("select").nth(1).select_option("all")
        for name in ATTACKS[:3]:
            f.get_by_label(name, exact=True).click()
        holds("cifar10", ())
        assert "without an attack" in verdict.inner_text()
        assert not p.outside
        assert not p.errors


AXE = importlib.resources.files("axe_playwright_python").joinpath("axe.min.js").read_text()


@needs_chromium
@pytest.mark.parametrize(("theme", "width"), [("light", 1280), ("dark", 390), ("light", 390), ("dark", 1280)])
def test_it_can_be_heard_and_read(tmp_path, theme, width):
    """Axe on the figure alone; a table with heads for those who hear it; the names of all controls."""
    address = page_of({"all-against-all": live.AllAgainstAll(MADE)}, tmp_path)
    with page(color_scheme=theme) as p:
        p.set_viewport_size({"width": width, "height": 900})
        p.goto(address)
        f = p.locator(".advlab-all-against-all")
        f.locator(".verdict").wait_for()
        ground, ink, soft, panel = {
            "light": ("#fff", "#222832", "#48566b", "#f3f4f5"),
            "dark": ("#121212", "#ced6dd", "#9ca4af", "#29313d"),
        }[theme]
        p.evaluate(
            """([theme, ground, ink, soft, panel]) => { const root = document.documentElement; root.dataset.theme = theme;
            const named = { background: ground, 'text-base': ink, 'text-muted': soft, surface: panel };
            for (const [name, colour] of Object.entries(named)) root.style.setProperty(`--pst-color-${name}`, colour);
            document.body.style.background = ground; }""",
            [theme, ground, ink, soft, panel],
        )  # fmt: skip
        p.evaluate(AXE)
        found = p.evaluate(
            "async () => { const r = await axe.run('.advlab-all-against-all'); return [r.passes.length, r.violations]; }"
        )
        assert found[0] >= 10
        assert not [(v["id"], [n["html"] for n in v["nodes"]]) for v in found[1]]
        assert f.get_by_role("columnheader").count() == 5
        assert f.get_by_role("rowheader").count() == 8
        assert f.get_by_role("cell").count() == 4 * 8
        assert f.get_by_role("table").get_by_role("button").count() == 5
        assert f.get_by_role("combobox", name="data set").count() == f.get_by_role("combobox", name="show").count() == 1
        assert f.get_by_role("group", name="attacks").get_by_role("checkbox").count() == 5
        (tmp_path / f"look-{theme}-{width}.png").write_bytes(f.screenshot())
