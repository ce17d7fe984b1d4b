"""Exercises of chapter 5."""

from __future__ import annotations

from collections.abc import Callable

import torch
from scipy.stats import binom
from torch import Tensor

from ..exercises import Wrong, close, exercise, require


def _bool(found: object, n: int, what: str) -> Tensor:
    if not isinstance(found, Tensor) or found.dtype != torch.bool or found.shape != (n,):
        raise Wrong(f"{what} should be a bool tensor of shape ({n},), one value an image.")
    return found


@exercise("all_against_all.stands", "What it means to stand", minutes=10, level="easy")
def stands(answer: Callable[[Tensor, Tensor, Tensor], Tensor]) -> None:
    clean = torch.tensor([3, 3, -1, 7, 3, 3])
    attacked = torch.tensor([3, 5, 3, 7, -1, 3])
    y = torch.tensor([3, 3, 3, 3, 3, 4])
    found = _bool(answer(clean, attacked, y), 6, "The result").tolist()
    require(found[0] and not found[1], "An image that is right before and after stands; one that is turned does not.")
    require(not found[2], "A clean image that raises an alarm is an error: somebody is sent away for nothing.")
    require(not found[3] and not found[5], "An image that was wrong from the start does not stand.")
    require(found[4], "An alarm on an attacked image is what the detector is for: that image stands.")
    for _ in range(5):
        clean, attacked, y = (torch.randint(low, 4, (50,)) for low in (-1, -1, 0))
        expected = [c == t and a in (t, -1) for c, a, t in zip(*(v.tolist() for v in (clean, attacked, y)), strict=True)]
        require(
            _bool(answer(clean, attacked, y), 50, "The result").tolist() == expected, "Some image of a random table differs."
        )


@exercise("all_against_all.worst_case", "The worst case is no minimum of rates", minutes=10, level="easy")
def worst_case(answer: Callable[[Tensor], float]) -> None:
    turns = torch.tensor([[True, False, True, True], [True, True, False, True]])  # each attack breaks another image
    found = answer(turns)
    require(
        abs(float(found) - 0.75) > 1e-9,
        "That is the least of the rows' means. Two attacks that break different images break more together than either.",
    )
    close(found, 0.5, "the share of images that stand against both attacks")
    for _ in range(5):
        table = torch.rand(3, 40) < 0.8
        expected = sum(all(row[k] for row in table.tolist()) for k in range(40)) / 40
        close(answer(table), expected, "the share of a random table")


@exercise("all_against_all.box", "A box of squeezed images", minutes=15, level="medium")
def box(answer: Callable[[Tensor, float, int], tuple[Tensor, Tensor]]) -> None:
    for bits in (1, 2, 5):
        levels = 2**bits - 1
        x = torch.rand(3, 1, 6, 6, dtype=torch.float64)
        found = answer(x, 0.13, bits)
        require(
            isinstance(found, tuple) and len(found) == 2 and all(isinstance(t, Tensor) and t.shape == x.shape for t in found),
            "Return a pair (low, high) of tensors in the shape of x.",
        )
        low, high = found
        for _ in range(200):
            inside = (x + 0.13 * (2 * torch.rand_like(x) - 1)).clamp(0, 1)
            squeezed = (inside * levels).round() / levels
            require(
                bool((low <= squeezed + 1e-9).all() and (squeezed <= high + 1e-9).all()),
                "A squeezed image of the ball lies outside your box. Squeeze the ends of the ball, do not move the result.",
            )
        ends = [((end.clamp(0, 1)) * levels).round() / levels for end in (x - 0.13, x + 0.13)]
        close(low, ends[0], "the lower end", hint="The box is larger than it need be: squeeze the ends too.")
        close(high, ends[1], "the upper end", hint="The box is larger than it need be: squeeze the ends too.")


@exercise("all_against_all.lead", "The lead that an alarm asks for", minutes=20, level="hard")
def lead(answer: Callable[[float, int], float]) -> None:
    for classes in (2, 3, 10):
        for threshold in (0.0, 0.05, 0.4, 0.9):
            found = float(answer(threshold, classes))
            logits = torch.zeros(classes, dtype=torch.float64)
            logits[0] = found
            chance = logits.softmax(0)
            gap = float(chance[0] - chance[1])
            require(
                gap > threshold - 1e-9,
                f"With your lead the true class is {gap:.3f} ahead of the others at the squeezed image, and at threshold "
                f"{threshold:g} an accepted image could close that. What if all other classes are equally near?",
            )
            close(
                found,
                torch.log(torch.tensor((1 + (classes - 1) * threshold) / (1 - threshold))).item(),
                "the lead",
                tolerance=1e-4,
                hint="It is enough, but not the least: what must survive is the gap, and it loses no more than the threshold.",
            )


@exercise("all_against_all.paired", "Are two defences better than one?", minutes=15, level="medium")
def paired(answer: Callable[[Tensor, Tensor], float]) -> None:
    first = torch.tensor([True] * 90 + [True] * 8 + [False] * 2)
    second = torch.tensor([True] * 90 + [False] * 8 + [True] * 2)
    expected = min(1.0, 2 * float(binom.cdf(2, 10, 0.5)))
    found = float(answer(first, second))
    require(
        abs(found - expected / 2) > 1e-6,
        "That is the probability of one side. A pair could also have been worse: count both sides.",
    )
    close(
        found,
        expected,
        "the p-value of ninety common successes, eight gained and two lost",
        hint="Only images that differ count.",
    )
    close(
        answer(first, first), 1.0, "the p-value of equal outcomes", hint="Nothing differs: there is nothing to be surprised at."
    )
    for _ in range(5):
        a, b = torch.rand(60) < 0.7, torch.rand(60) < 0.6
        more, less = int((a & ~b).sum()), int((b & ~a).sum())
        expected = min(1.0, 2 * float(binom.cdf(min(more, less), more + less, 0.5))) if more + less else 1.0
        close(answer(a, b), expected, "the p-value of a random table")
