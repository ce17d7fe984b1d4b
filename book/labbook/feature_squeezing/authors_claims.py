"""Claims of chapter 2 on the paper's own adaptive attack, as its authors' code has it, and on which of its parts matter."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, cast

import torch
from torch import Tensor, nn

from advlab.squeezing import adaptive
from advlab.squeezing.detector import joint_score
from advlab.squeezing.squeezers import JOINT, Squeezer

from ..results import Measurement, claim
from ..stats import curve, pooled, share
from . import examples
from .adaptive_claims import GOALS, SECTION, TRIAL, Run, evasion, level
from .measuring import network

#: For each of the authors' nine values of c we take 500 gradients, where they take 5,000.
GRADIENTS_FOR_EACH_C = 500


@functools.cache
def authors(
    goal: str, n: int, *, at: float | None = None, gradient: str = "none", greatest: bool = False, **settings: float
) -> Run:
    """The authors' attack on digits with their settings but for the number of gradients, and but for what is given.

    ``at`` is the threshold, ``gradient`` a key of :data:`adaptive.GRADIENTS`; ``greatest`` has the greatest score in the
    penalty, as the detector, where the authors have the sum of both.
    """
    model, at = network("mnist"), level("mnist", None if n >= 12 else n) if at is None else at
    x, y = examples.seeds("mnist", n)
    targets = None if goal == "any" else examples.targets(model, x, y, f"attack {goal}")
    squeezers = adaptive.with_gradient(JOINT["mnist"], gradient)
    budget = {"steps": GRADIENTS_FOR_EACH_C} | settings | (TRIAL if n < 12 else {})
    views = {"the worst": _worst(model, squeezers)} if greatest else squeezers
    x_adv = adaptive.paper_adaptive(model, views, at, x, y, targets=targets, **cast(dict[str, Any], budget))
    return Run("mnist", x, y, x_adv, targets, at)


def _worst(model: nn.Module, squeezers: Mapping[str, Squeezer]) -> Squeezer:
    """The squeezer of the greatest score, for each image: a penalty on it alone is one on the greatest."""

    def squeeze(x: Tensor) -> Tensor:
        with torch.no_grad():
            scores = torch.stack([joint_score(model, x, [squeezer]) for squeezer in squeezers.values()])  # (k, n)
        views = torch.stack([squeezer(x) for squeezer in squeezers.values()])  # (k, n, c, h, w)
        return views[scores.argmax(0), torch.arange(len(x))]

    return squeeze


def _authors_claims(goal: str, success: float, distance: float) -> None:
    @claim(
        f"feature_squeezing.evades_mnist_paper_{goal.lower()}",
        f"MNIST, the authors' adaptive attack, {GOALS[goal]}: share that evades, any distance",
        paper=success,
        where=SECTION,
        digits=0,
        note="Wrong, and below the threshold, after rounding to 8 bits. The settings of the authors' code, but for "
        f"{GRADIENTS_FOR_EACH_C} gradients for each of the nine values of c, where they take 5,000.",
        tier="laptop",
        networks=["mnist_cnn7"],
    )
    def evades(n: int = 100) -> Measurement:
        return evasion(authors(goal, n))

    @claim(
        f"feature_squeezing.distance_paper_{goal.lower()}",
        f"MNIST, the authors' adaptive attack, {GOALS[goal]}: mean L2 of the images that evade",
        unit="",
        paper=distance,
        where=SECTION,
        digits=2,
        note="As the row of its rate.",
        tier="laptop",
        networks=["mnist_cnn7"],
    )
    def mean_distance(n: int = 100) -> Measurement:
        made = authors(goal, n)
        return pooled(made.l2 * made.evades, made.evades, generator=torch.Generator().manual_seed(0))


_authors_claims("any", 0.68, 2.80)
_authors_claims("next", 0.44, 4.14)
_authors_claims("LL", 0.24, 4.67)


def _clipped(eps: float, printed: float) -> None:
    @claim(
        f"feature_squeezing.clipped_{round(10 * eps)}",
        f"MNIST, the authors' adaptive attack, untargeted, clipped afterwards to linf {eps}: share that evades",
        paper=printed,
        where="Xu et al. (2018), Figure 7",
        digits=0,
        note="Clipped after the attack, as in the authors' code; compare the attack that keeps to the budget throughout.",
        tier="laptop",
        networks=["mnist_cnn7"],
    )
    def measure(n: int = 100) -> Measurement:
        return share(authors("any", n).clipped(eps))


_clipped(0.3, 0.01)
_clipped(0.5, 0.06)


#: What of the attack is changed, one part at a time; all with 100 gradients for each c unless it says otherwise.
PARTS: dict[str, dict[str, Any]] = {
    "as the authors have it": {},
    "25 gradients for each c": {"steps": 25},
    "goes on from the last c": {"restart": False},
    "greatest score, no sum": {"greatest": True},
    "rate 0.03": {"learning_rate": 0.03},
    "the last three at once": {"restart": False, "greatest": True, "learning_rate": 0.03},
    "the paper's threshold, 0.0029": {"at": 0.0029},
    "soft gradient through the bits": {"gradient": "soft"},
}


@claim(
    "feature_squeezing.paper_parts",
    "MNIST, the authors' adaptive attack, untargeted, with 100 gradients for each c: share that evades",
    digits=0,
    note="The series changes one part of the attack at a time, on the same seeds.",
    tier="laptop",
    networks=["mnist_cnn7"],
)
def paper_parts(n: int = 100) -> Measurement:
    hits = [authors("any", n, **{"steps": 100, **changes}).evades for changes in PARTS.values()]
    return replace(share(hits[0]), series=curve({"part": [float(k) for k in range(len(hits))]}, "evades", hits))


@claim(
    "feature_squeezing.paper_asking",
    "MNIST, the authors' adaptive attack, any wrong class, with a search over c that asks the detector: share that evades",
    paper=0.68,
    where=SECTION,
    digits=0,
    note="All else as in the row of the authors' attack. Their search lowers c wherever the last point is wrong, also where it "
    "is detected.",
    tier="laptop",
    networks=["mnist_cnn7"],
)
def paper_asking(n: int = 100) -> Measurement:
    return evasion(authors("any", n, ask_detector=True))
