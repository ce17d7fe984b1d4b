"""The live figures of Random Mask: their JavaScript against NumPy and the library's masks, what they say, and a look."""

import itertools
from collections import Counter

import numpy as np
import pytest
import torch
import traitlets
from browser import needs_chromium, page, page_of
from figures import stands_in_its_frame
from node import javascript, needs_node
from torch import nn

from advlab import masking
from labbook import live
from labbook.live import figure, gallery

SOURCE = figure.module("plot.js", "squeezing_math.js", "squeezing_parts.js", "masked_maps.js")
SETTINGS = [
    {"drop": drop, "period": period, "shift": shift, "example": k % 2, "seed": k}
    for k, (drop, period, shift) in enumerate([(0.5, 1, 3), (0.5, 2, 1), (0.3, 4, 4), (0.95, 16, 7), (0.0, 8, 5), (0.7, 8, 15)])
]


@pytest.fixture(scope="module")
def parts():
    generator = torch.Generator().manual_seed(0)
    x = (torch.rand(2, 3, 16, 16, generator=generator) * 255).round() / 255
    return x, torch.randn(6, 3, 3, 3, generator=generator), torch.randn(6, generator=generator) / 10, ["one", "two"]


@needs_node
def test_the_page_computes_what_python_and_torch_do(parts, tmp_path):
    figures = [live.MaskedMaps(*parts, **setting) for setting in SETTINGS]
    names = ("images", "shape", "weight", "bias", "example", "drop", "period", "shift", "seed")
    found = javascript(tmp_path, SOURCE, "a.map(figure.compute)", [{n: getattr(f, n) for n in names} for f in figures])
    for f, answer in zip(figures, found, strict=True):
        x, weight, bias, _ = parts
        x = (x.double() * 255).round() / 255
        kept = torch.from_numpy(f.kept())
        moved = x[f.example : f.example + 1].roll(f.shift, 3)
        around = nn.functional.pad(moved, (1, 1, 1, 1), mode="circular")
        truth = (nn.functional.conv2d(around, weight.double(), bias.double()) * kept).relu()[0]
        one, other, errors = f.computed()
        np.testing.assert_allclose(one, truth, atol=1e-9)
        for mine, theirs in ((one, "one"), (other, "other"), (errors, "errors"), (f.kept(), "kept")):
            seen = [[row[str(i)] for i in range(len(row))] if isinstance(row, dict) else row for row in answer[theirs]]
            np.testing.assert_allclose(np.array(seen, float).reshape(mine.shape), mine, atol=1e-9)
        assert answer["error"] == pytest.approx(errors[f.shift], abs=1e-9)


@needs_node
def test_one_filter_at_two_places_answers_as_a_convolution_does(parts, tmp_path):
    """The layer after is a torch convolution on the whole masked map; the page looks at nine of its values."""
    random = np.random.default_rng(0)
    x, weight, bias, _ = parts
    states = [
        s | {"channel": k, "place": random.integers(0, 16, 2).tolist(), "taps": random.normal(size=9).tolist()}
        for k, s in enumerate(SETTINGS)
    ]
    figures = [live.MaskedMaps(*parts, **state) for state in states]
    names = ("images", "shape", "weight", "bias", "example", "channel", "drop", "period", "shift", "seed", "place", "taps")
    found = javascript(tmp_path, SOURCE, "a.map(figure.compute)", [{n: getattr(f, n) for n in names} for f in figures])
    for f, state, answer in zip(figures, states, found, strict=True):
        x = (parts[0].double() * 255).round() / 255
        taps = torch.tensor(state["taps"], dtype=torch.float64).view(1, 1, 3, 3)
        kept = torch.from_numpy(f.kept())[f.channel]

        def layers(moved, mask, f=f, taps=taps):
            around = nn.functional.pad(moved, (1, 1, 1, 1), mode="circular")
            free = nn.functional.conv2d(around, weight.double(), bias.double()).relu()[:, [f.channel]]
            return nn.functional.conv2d(nn.functional.pad(free * mask, (1, 1, 1, 1), mode="circular"), taps)[0, 0]

        row, column = f.place
        picture = x[f.example : f.example + 1]
        truth = [layers(picture, 1)[row, column], layers(picture, kept)[row, column]]
        truth.append(layers(picture.roll(f.shift, 3), kept)[row, (column + f.shift) % 16])
        np.testing.assert_allclose(answer["answers"], truth, atol=1e-9)
        np.testing.assert_allclose(f.looked(), truth, atol=1e-9)
        cells = [[(row + r) % 16, (column + s + by) % 16] for by in (0, f.shift) for r in (-1, 0, 1) for s in (-1, 0, 1)]
        assert np.ravel(answer["seen"]).tolist() == [int(kept[r, c]) for r, c in cells]


@needs_node
def test_it_opens_where_the_filter_answers_most(parts, tmp_path):
    f = live.MaskedMaps(*parts, channel=2)
    free = np.abs(f._read(f._maps()[2].clip(0)))
    assert free[tuple(f.place)] == free.max()
    assert f.alt == f.describe()
    maps = [f._maps()[2].ravel().tolist(), 16, f.taps]
    assert javascript(tmp_path, SOURCE, "figure.strongest(...a)", maps) == f.place


def test_its_masks_have_the_counts_of_the_library_where_those_are_whole(parts):
    for drop, period in itertools.product((0.0, 0.5), (1, 2, 4, 8, 16)):
        f = live.MaskedMaps(*parts, drop=drop, period=period)
        kind = {"kind": "channel"} if period == 1 else {"kind": "periodic", "period": period}
        theirs = masking.draw_mask((6, 16, 16), drop, **kind)
        assert (~f.kept()).sum() == (theirs == 0).sum()
        if period > 1:
            assert len(set((~f.kept()).sum((1, 2)).tolist())) == 1, "as many in each channel"


def test_moves_by_the_period_commute_and_others_do_not(parts):
    for period in (1, 2, 4, 8, 16):
        errors = live.MaskedMaps(*parts, period=period).computed()[2]
        assert errors[::period].max() < 1e-12
        others = np.delete(errors, np.arange(0, 16, period))
        assert not len(others) or others.min() > 0.3


def test_what_it_says(parts):
    assert "moves them along and changes nothing else" in live.MaskedMaps(*parts, period=4, shift=8).describe()
    assert "% of their size" in live.MaskedMaps(*parts, period=4, shift=1).describe()
    still = live.MaskedMaps(*parts).still()
    assert len(still.axes) == 5


def test_bad_arguments_are_refused(parts):
    x, weight, bias, names = parts
    for wrong in ((x[..., :8], weight, bias, names), (x, weight, bias, names[:1]), (x[:, :, :12, :12], weight, bias, names)):
        with pytest.raises(ValueError, match="power of 2"):
            live.MaskedMaps(*wrong)
    with pytest.raises(ValueError, match="weight is"):
        live.MaskedMaps(x, weight[:2], bias, names)
    with pytest.raises(ValueError, match="multiples of 1/255"):
        live.MaskedMaps(x + 1e-3, weight, bias, names)
    f = live.MaskedMaps(*parts)
    for name, value in (
        ("period", 3),
        ("period", 32),
        ("shift", 16),
        ("channel", 6),
        ("example", 2),
        ("drop", 0.99),
        ("place", [0, 16]),
    ):
        with pytest.raises(traitlets.TraitError):
            setattr(f, name, value)


@needs_chromium
@pytest.mark.parametrize("width", [1280, 400])
def test_the_figure_moves_by_keyboard_in_a_page(parts, tmp_path, width):
    address = page_of({"masked-maps": live.MaskedMaps(*parts, period=4, shift=4)}, tmp_path)
    with page() as p:
        p.set_viewport_size({"width": width, "height": 900})
        p.goto(address)
        f = p.locator(".advlab-masked-maps")
        verdict = f.locator(".verdict")
        verdict.wait_for()
        assert "changes nothing else" in verdict.inner_text()
        for label, key, said in (
            ("move by", "ArrowRight", "the move changes all maps by"),
            ("period", "Home", "whole channels"),
            ("period", "End", "no repetition"),
            ("drop ratio", "Home", "0 of 9 taps are blind at the first place and 0 at the second"),
        ):
            f.get_by_label(label, exact=True).focus()
            p.keyboard.press(key)
            assert said in verdict.inner_text().replace("\u00a0", " ")
        assert "changes nothing else" in verdict.inner_text(), "without masks every move commutes"
        canvas = "c => c.getContext('2d').getImageData(0, 0, c.width, c.height).data.join()"
        before = f.locator("canvas").nth(1).evaluate(canvas)
        f.get_by_label("row", exact=True).focus()
        p.keyboard.press("End")
        assert f.locator("canvas").nth(1).evaluate(canvas) != before
        f.get_by_role("button", name="go where it answers most").click()
        assert f.locator("canvas").nth(1).evaluate(canvas) == before
        f.locator("canvas").first.click(position={"x": 2, "y": 2})
        assert f.get_by_label("row", exact=True).get_attribute("aria-valuetext") == "1"
        f.get_by_label("channel", exact=True).focus()
        p.keyboard.press("End")
        f.get_by_label("drop ratio", exact=True).focus()
        p.keyboard.press("End")
        assert f.locator(".nine text").get_by_text("blind").count() > 9
        stands_in_its_frame(f, "masked-maps")
        assert p.evaluate("document.documentElement.scrollWidth") <= width
        assert not p.outside
        assert not p.errors
        (tmp_path / f"look{width}.png").write_bytes(f.screenshot())


BLIND = figure.module("squeezing_parts.js", "blind_test.js")
CLASSES = ["bird", "cat", "deer", "dog"]
BUDGETS = [4, 16]
NAMED = {"heron": [[0, 1, 2], [3, 1, -1]], "otter": [[1, 1, 2], [2, -1, 2]]}  # makers with names that no other text holds
LABELS = [0, 1, 2]


@pytest.fixture(scope="module")
def blind():
    generator = torch.Generator().manual_seed(0)
    made = {m: (torch.rand(2, 3, 3, 8, 8, generator=generator) * 255).round() / 255 for m in NAMED}
    return made, torch.tensor(LABELS), CLASSES, BUDGETS, {m: torch.tensor(v) for m, v in NAMED.items()}


def order_of(seed, budget, pairs=6):
    numbers = list(itertools.islice(gallery.mulberry32(seed), pairs * (budget + 1)))[pairs * budget :]
    return [(("heron", "otter")[i // 3], i % 3) for i in sorted(range(pairs), key=numbers.__getitem__)]


def tally_of(seed, budget, answers):
    counts = {maker: Counter(judged=0, right=0, wrong=0, panel=0, same=0) for maker in NAMED}
    for (maker, image), answer in zip(order_of(seed, budget), answers, strict=False):
        counts[maker]["judged"] += 1
        counts[maker]["right" if answer == LABELS[image] else "wrong"] += 1
        named = NAMED[maker][budget][image]
        if named not in (-1, LABELS[image]):
            counts[maker]["panel"] += 1
            counts[maker]["same"] += answer == named
    return [dict(c) for c in counts.values()]


@needs_node
def test_the_blind_test_in_the_page_draws_and_counts_as_python_does(blind, tmp_path):
    random = np.random.default_rng(0)
    settings = [
        {"seed": seed, "budget": budget, "answers": random.integers(0, 4, given).tolist()}
        for seed, budget, given in itertools.product(range(4), (0, 1), (0, 1, 4, 6))
    ]
    figures = [live.BlindTest(*blind, **setting) for setting in settings]
    names = ("images", "shape", "makers", "labels", "panel", "seed", "budget", "answers")
    found = javascript(tmp_path, BLIND, "a.map(figure.compute)", [{n: getattr(f, n) for n in names} for f in figures])
    same = 0
    for setting, answer in zip(settings, found, strict=True):
        order = order_of(setting["seed"], setting["budget"])
        assert sorted(order) == sorted(itertools.product(NAMED, range(3))), "every pair once"
        assert [(list(NAMED)[m], i) for m, i in answer["order"]] == order
        assert answer["tally"] == tally_of(**setting)
        maker, image = order[min(len(setting["answers"]), 5)]
        trial = answer["trial"]
        assert (list(NAMED)[trial["maker"]], trial["image"]) == (maker, image)
        truth = blind[0][maker][setting["budget"], image].double().flatten()
        np.testing.assert_allclose(trial["pixels"], (truth * 255).round() / 255, atol=1e-9)
        same += sum(t["same"] for t in answer["tally"])
    assert same, "no case in which reader and panel name one class: the answers must be drawn otherwise"
    assert order_of(0, 0) != order_of(0, 1), "a reader who has seen the makers at one budget must not know them at the next"
    at = javascript(tmp_path, BLIND, "figure.compute({...a, at: 2}).trial", {n: getattr(figures[0], n) for n in names})
    assert at["at"] == 2
    assert (list(NAMED)[at["maker"]], at["image"]) == order_of(0, 0)[2]


def test_what_the_blind_test_says(blind):
    assert "within 4/255" in live.BlindTest(*blind).describe()
    assert "another class 0 (heron), 1 (otter)" in live.BlindTest(*blind).describe()
    f = live.BlindTest(*blind, budget=1)
    assert "within 16/255" in f.alt
    assert "another class 1 (heron), 1 (otter)" in f.alt
    titles = [ax.get_title(loc="left") for ax in f.still().axes]
    assert titles == ["heron", "", "", "otter", "", ""]
    assert figure.png(f.still()) == figure.png(f.still())


def test_a_bad_blind_test_is_refused(blind):
    made, y, classes, budgets, panel = blind
    one = {"heron": made["heron"]}
    for wrong, says in (
        (({}, y, classes, budgets, {}), "at least one"),
        ((one, y, classes, budgets, panel), "the same makers"),
        ((made, y[:2], classes, budgets, panel), "2 labels it must be"),
        ((made, y, classes, [4], panel), "1 budgets"),
        (({**made, "otter": made["otter"][..., :4]}, y, classes, budgets, panel), "otter.*equal sides"),
        (({**made, "heron": torch.tensor(0.5)}, y, classes, budgets, panel), "heron.*it must be"),
        (({m: x[:, :0] for m, x in made.items()}, y[:0], classes, budgets, panel), "not empty"),
        (({m: x[:, :, :1] for m, x in made.items()}, y, classes, budgets, panel), "it must be"),
        (({**made, "otter": made["otter"] + 1e-3}, y, classes, budgets, panel), "otter.*multiples of 1/255"),
        ((made, y, classes, budgets, {**panel, "otter": panel["otter"][0]}), "it must be .budgets, n."),
        ((made, y, classes, budgets, {**panel, "otter": panel["otter"] - 2}), "panel.*whole numbers from -1 to 3"),
        ((made, y + 2, classes, budgets, panel), "y must hold whole numbers from 0 to 3"),
        ((made, y.float(), classes, budgets, panel), "y must hold whole numbers"),
    ):
        with pytest.raises(ValueError, match=says):
            live.BlindTest(*wrong)
    f = live.BlindTest(*blind)
    for name, value in (("budget", 2), ("budget", -1), ("answers", [4]), ("answers", [-1]), ("answers", [0] * 7)):
        with pytest.raises(traitlets.TraitError):
            setattr(f, name, value)


@needs_chromium
@pytest.mark.parametrize("width", [1280, 400])
def test_a_reader_judges_blindly_by_keyboard_and_mouse(blind, tmp_path, width):
    address = page_of({"blind-test": live.BlindTest(*blind, budget=1)}, tmp_path)
    with page() as p:
        p.set_viewport_size({"width": width, "height": 900})
        p.goto(address)
        f = p.locator(".advlab-blind-test")
        verdict, table, canvas = f.locator(".verdict"), f.locator("table"), f.locator("canvas")
        verdict.wait_for()

        def pixels():
            return canvas.evaluate("c => c.getContext('2d').getImageData(0, 0, c.width, c.height).data.join()")

        def press(name):
            f.get_by_role("button", name=name, exact=True).click()

        def blinded(image):
            assert f"Image {image} of 6" in verdict.inner_text()
            assert f"{image} of 6" in f.locator("figcaption").inner_text()
            assert not table.count()
            shown = f.evaluate("e => e.outerHTML")
            assert not any(maker in shown for maker in NAMED), "the maker must not be on the page"

        blinded(1)
        assert f.get_by_role("button", name="show who made them").is_disabled()
        first = pixels()
        f.get_by_role("button", name="bird", exact=True).focus()
        p.keyboard.press("Tab")
        p.keyboard.down("Enter")
        p.keyboard.down("Enter")  # held: the key repeats
        p.keyboard.up("Enter")
        blinded(2)
        assert pixels() != first
        assert p.evaluate("document.activeElement.textContent") == "cat", "the focus stays for the next image"
        assert p.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"
        press("dog")
        blinded(3)
        press("show who made them")

        def table_holds(answers):
            rows = [r.split("\t") for r in table.locator("tbody").inner_text().split("\n")]
            counts = tally_of(0, 1, answers)
            expected = [[f"{c['right']} of {c['judged']}", *(str(c[k]) for k in ("wrong", "panel", "same"))] for c in counts]
            assert rows == [[maker, *row] for maker, row in zip(NAMED, expected, strict=True)]

        table_holds([1, 3])
        assert "Of 2 images you read" in verdict.inner_text()
        assert not f.get_by_role("button", name="dog", exact=True).count(), "no answers after the reveal"
        assert p.evaluate("document.activeElement.type") == "range", "the focus moves to what came"
        maker, image = order_of(0, 1)[1]
        assert f.locator("figcaption").inner_text().startswith(maker)
        assert f"true class {CLASSES[image]}; you: dog" in f.locator("figcaption").inner_text()
        p.keyboard.press("End")
        assert "you: no answer" in f.locator("figcaption").inner_text()
        p.keyboard.press("Home")
        assert "you: cat" in f.locator("figcaption").inner_text()
        assert pixels() == first
        (tmp_path / f"look{width}.png").write_bytes(f.screenshot())

        press("start again")
        blinded(1)
        press("deer")
        f.locator("select").first.select_option("4/255")
        blinded(1)
        answers = [2, 0, 3, 1, 1, 2]
        for k, answer in enumerate(answers):
            blinded(k + 1)
            press(CLASSES[answer])
        rows = [r.split("\t") for r in table.locator("tbody").inner_text().split("\n")]
        assert [row[1] for row in rows] == [f"{c['right']} of 3" for c in tally_of(1, 0, answers)], "revealed after the last"
        assert f.get_by_role("button", name="show who made them").is_disabled()
        f.locator("select").last.select_option("pixel by pixel")
        assert canvas.evaluate("c => getComputedStyle(c).imageRendering") == "pixelated"
        assert p.evaluate("document.documentElement.scrollWidth") <= width
        assert not p.outside
        assert not p.errors
