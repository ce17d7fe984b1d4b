"""A game for a class: prove or break images with known answers, against the clock, on a machine without the network.

A player is a function ``solve(net, x, y, eps)``; see :func:`play`. Points are the verification competition's: one wrong answer
costs more than a dozen right ones earn, so that nobody wins by guessing.
"""

from __future__ import annotations

import copy
import random
import runpy
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple, cast

import torch
from torch import Tensor, nn

from .networks import network
from .relu_stability.claims import ROWS, verdicts

RIGHT, WRONG = 10, -150

#: (net, x, y, eps) -> ("robust", None), ("counterexample", an image) or ("unknown", None)
Solver = Callable[[nn.Module, Tensor, int, float], tuple[str, Tensor | None]]


class Round(NamedTuple):
    """What a player said of one image, and what it was worth."""

    image: int  #: its place in the test set
    said: str
    points: int
    why: str


def instances(n: int, seed: int = 0) -> list[tuple[int, str]]:
    """``n`` images of the test set, right ones, half of them robust (rounded up), with the answers that chapter 3's verifier
    gave: (place, "robust" or "counterexample"). Raises ValueError for fewer than 1 or more than there are.

    >>> [answer for _, answer in instances(4)].count("robust")
    2
    """
    known = [(k, v.status) for k, v in enumerate(verdicts(ROWS["rs"]).verdicts) if v.stage != "prediction"]
    kinds = [[each for each in known if each[1] == status] for status in ("robust", "counterexample")]
    if not 1 <= n <= 2 * min(map(len, kinds)):
        raise ValueError(f"n is {n}; it must be from 1 to {2 * min(map(len, kinds))}")
    draw = random.Random(seed)
    chosen = draw.sample(kinds[0], n - n // 2) + draw.sample(kinds[1], n // 2)
    draw.shuffle(chosen)
    return chosen


def judge(net: nn.Module, x: Tensor, y: int, eps: float, answer: str, said: tuple[str, Tensor | None]) -> tuple[int, str]:
    """The points for what was ``said`` of the image ``x`` (c, h, w), whose true ``answer`` is known, and why.

    A counterexample is one if it lies in the ball and in [0, 1], and the network in float64 misreads it.
    """
    claim, image = said if isinstance(said, tuple | list) and len(said) == 2 else (None, None)
    if claim == "unknown":
        return 0, "left open"
    if claim == "robust":
        return (RIGHT, "proved") if answer == "robust" else (WRONG, "there is a counterexample")
    if claim != "counterexample" or not isinstance(image, Tensor) or image.shape != x.shape:
        return WRONG, 'not an answer: "robust", "counterexample" with an image of the same shape, or "unknown"'
    if not ((image - x).abs().max() <= eps + 1e-7 and image.min() >= 0 and image.max() <= 1):
        return WRONG, "the image is outside the ball, or no image"
    with torch.no_grad():
        misread = int(copy.deepcopy(net).double()(image[None].double()).argmax()) != y
    return (RIGHT, "broken") if misread else (WRONG, "the network reads that image correctly")


def play(solve: Solver, n: int = 20, seconds: float = 300.0, seed: int = 0) -> Iterator[Round]:
    """Ask ``solve`` about ``n`` images, one after the other, until ``seconds`` of wall time are over; late answers count 0.

    Parameters
    ----------
    solve : (net, x, y, eps) -> ("robust", None), ("counterexample", image) or ("unknown", None); net takes (n, 1, 28, 28) in
        [0, 1] to logits, x is one image (1, 28, 28), read correctly as y, and eps the budget in linf
    n, seed : which images, the same for each player
    seconds : of the whole game

    Yields
    ------
    rounds : one for each image

    Raises
    ------
    RuntimeError
        where ``solve`` raises anything

    Examples
    --------
    >>> sum(r.points for r in play(lambda net, x, y, eps: ("unknown", None), n=2))
    0
    """
    row = ROWS["rs"]
    net, (images, labels), end = network(row.network), row.data(row.images), time.monotonic() + seconds
    for place, answer in instances(n, seed):
        x, y = images[place], int(labels[place])
        if time.monotonic() >= end:
            yield Round(place, "", 0, "time is over")
            continue
        try:
            said = solve(copy.deepcopy(net), x.clone(), y, row.eps)
        except Exception as e:  # a player's code raises anything
            raise RuntimeError(f"solve fails on image {place} ({type(e).__name__}: {e})") from e
        late = time.monotonic() >= end
        points, why = (0, "too late") if late else judge(net, x, y, row.eps, answer, said)
        yield Round(place, str(said[0] if isinstance(said, tuple | list) and said else said), points, why)


def player(path: str | Path) -> Solver:
    """The function ``solve`` of a Python file, which is run. Raises ValueError where it has none, or cannot be run.

    Only for files that you trust as much as their author.
    """
    try:
        solve = runpy.run_path(str(path)).get("solve")
    except Exception as e:  # a player's code raises anything
        raise ValueError(f"{path} cannot be run ({type(e).__name__}: {e})") from e
    if not callable(solve):
        raise ValueError(f"{path} has no function solve(net, x, y, eps)")
    return cast(Solver, solve)
