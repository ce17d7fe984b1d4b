"""The live figure of Random Mask: its JavaScript against NumPy and the library's masks, what it says, and a look."""

import itertools

import numpy as np
import pytest
import torch
import traitlets
from browser import needs_chromium, page, page_of
from node import javascript, needs_node
from torch import nn

from advlab import live, masking
from advlab.live import figure

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
    for name, value in (("period", 3), ("period", 32), ("shift", 16), ("channel", 6), ("example", 2), ("drop", 0.99)):
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
            ("move by", "ArrowRight", "Moving the picture by 5 changes the maps by"),
            ("period", "Home", "whole channels"),
            ("period", "End", "no repetition"),
            ("drop ratio", "Home", "0 % of the values are masked"),
        ):
            f.get_by_label(label, exact=True).focus()
            p.keyboard.press(key)
            assert said in verdict.inner_text().replace("\u00a0", " ")
        assert "changes nothing else" in verdict.inner_text(), "without masks every move commutes"
        canvas = "c => c.getContext('2d').getImageData(0, 0, c.width, c.height).data.join()"
        before = f.locator("canvas").nth(1).evaluate(canvas)
        f.get_by_label("channel", exact=True).focus()
        p.keyboard.press("End")
        assert f.locator("canvas").nth(1).evaluate(canvas) != before
        difference = (
            f.locator("canvas").nth(3).evaluate("c => [...c.getContext('2d').getImageData(0, 0, c.width, c.height).data]")
        )
        assert max(v for i, v in enumerate(difference) if i % 4 < 3) == 0
        assert p.evaluate("document.documentElement.scrollWidth") <= width
        assert not p.outside
        assert not p.errors
        (tmp_path / f"look{width}.png").write_bytes(f.screenshot())
