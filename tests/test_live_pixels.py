"""Pixels and the steps of a squeezer: counts in the page against the library's squeezer tried on every change."""

import itertools

import pytest
import torch
from browser import needs_chromium, page, page_of
from figures import answer_to_keys, has_words_and_a_picture
from node import javascript, needs_node

from advlab import data, squeezing
from labbook import live


@pytest.fixture(scope="module")
def pictures():
    g = torch.Generator().manual_seed(0)
    return {"the digit": data.mnist("test", 1)[0][0], "noise": torch.randint(0, 256, (3, 9, 9), generator=g) / 255}


def tried(x, bits, budget):
    """How many values change their level under some of 81 changes within the budget, by the library."""
    x = x.double()
    before = squeezing.reduce_bit_depth(x, bits)
    changes = torch.linspace(-budget / 255, budget / 255, 81, dtype=torch.float64)
    turned = torch.stack([squeezing.reduce_bit_depth((x + d).clamp(0, 1), bits) != before for d in changes])
    return int(turned.any(0).sum())


@needs_node
def test_the_page_counts_what_the_library_turns(pictures, tmp_path):
    cases = [{"bits": b, "budget": e} for b, e in itertools.product((1, 2, 3, 5, 8), (0, 1, 8, 40, 76, 127, 128))]
    f = live.PixelSteps(pictures)
    found = javascript(
        tmp_path, f._esm, "a[1].map((s) => figure.compute({ ...a[0], ...s }))", [{"pictures": f.pictures}, cases]
    )
    for case, counts in zip(cases, found, strict=True):
        x = [(v.double() * 255).round() / 255 for v in pictures.values()]
        assert counts == [tried(v, **case) for v in x] == live.PixelSteps(pictures, **case).computed(), case


def test_what_it_says_and_refuses(pictures):
    f = live.PixelSteps(pictures, bits=1, budget=8)
    has_words_and_a_picture(f)
    counts = f.computed()
    assert f"{counts[0]} of the 784 values of the digit" in f.describe()
    assert counts[0] / 784 < counts[1] / 243, "a digit has few values near one half"
    assert live.PixelSteps(pictures, budget=128).computed() == [784, 243]
    for wrong, says in (
        ({}, "one or two"),
        ({"a": torch.zeros(2, 3, 3)}, "one channel or three"),
        ({"a": torch.full((1, 2, 2), 0.3)}, "multiples"),
    ):
        with pytest.raises(ValueError, match=says):
            live.PixelSteps(wrong)


@needs_chromium
@pytest.mark.parametrize("width", [1280, 360])
def test_it_moves_by_keyboard(pictures, tmp_path, width):
    f = live.PixelSteps(pictures)
    with page() as p:
        p.set_viewport_size({"width": width, "height": 900})
        p.goto(page_of({"steps": f}, tmp_path))
        moves = [
            ("budget ε", "End", "784 of the 784 values of the digit across a step (100 %)"),
            ("bit depth", "ArrowRight", "there are 3 steps"),
        ]
        answer_to_keys(p, {"pixel-steps": [*moves, ("budget ε", "Home", "push 0 of the 784")]})
        assert not p.errors
