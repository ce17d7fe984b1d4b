"""Claims of chapter 2 on our attacks that know the detector.

Rates are shares of the same first seeds; every image is rounded to 8 bits before the detector is asked.
"""

from __future__ import annotations

import functools
import math
from dataclasses import replace
from typing import Any, cast

import torch
from torch import Tensor

from advlab import attacks, evaluate
from advlab.data import eight_bits
from advlab.squeezing import adaptive
from advlab.squeezing.detector import SqueezingDetector
from advlab.squeezing.squeezers import JOINT, median_filter

from ..results import Measurement, claim
from ..stats import curve, pooled, share
from . import examples
from .measuring import NAMES, halves, network

SECTION = "Xu et al. (2018), section 5-D"


@functools.cache
def level(dataset: str, n: int | None = None) -> float:
    """The joint detector's threshold at 5 % false positives, from the clean images that set it."""
    return SqueezingDetector(network(dataset), JOINT[dataset]).fit(halves(dataset, n)[0]).threshold_


def judge(dataset: str, x_adv: Tensor, y: Tensor, targets: Tensor | None, at: float) -> tuple[Tensor, Tensor]:
    """Of images rounded to 8 bits: which reach their goal, and which do so and pass the detector, (n,) bool each."""
    model, images = network(dataset), eight_bits(x_adv)
    guess = evaluate.predict(model, images)
    hit = guess != y if targets is None else guess == targets
    return hit, hit & (SqueezingDetector(model, JOINT[dataset]).score_samples(images) <= at)


class Run:
    """One adaptive attack on the first seeds: what it made, and what the detector says."""

    def __init__(self, dataset: str, x: Tensor, y: Tensor, x_adv: Tensor, targets: Tensor | None, at: float) -> None:
        self.dataset, self.x, self.y, self.x_adv, self.targets, self.at = dataset, x, y, eight_bits(x_adv), targets, at
        self.hit, self.evades = judge(dataset, x_adv, y, targets, at)
        self.l2 = evaluate.distances(self.x_adv, x, "l2")

    def within(self, l2: float) -> Tensor:
        return self.evades & (self.l2 <= l2)

    def clipped(self, eps: float) -> Tensor:
        """Which still evade after a clip of the finished image to ``eps`` in linf, as the paper clips."""
        images = torch.minimum(torch.maximum(self.x_adv, self.x - eps), self.x + eps).clamp(0, 1)
        return judge(self.dataset, images, self.y, self.targets, self.at)[1]


_BUDGET = {
    "mnist": {"learning_rate": 0.03},
    "cifar10": {"learning_rate": 0.01, "initial_c": 10.0, "search_steps": 4, "steps": 50},
}
TRIAL = {"search_steps": 2, "steps": 20}  #: of a slice


@functools.cache
def run(dataset: str, kind: str, goal: str, n: int) -> Run:
    """Ours. ``kind``: a key of :data:`adaptive.GRADIENTS`; ``goal``: "any", "next" or "LL". Equal budgets for all."""
    model, at = network(dataset), level(dataset, None if n >= 12 else n)
    x, y = examples.seeds(dataset, n)
    targets = None if goal == "any" else examples.targets(model, x, y, f"attack {goal}")
    squeezers = adaptive.with_gradient(JOINT[dataset], kind)
    budget = _BUDGET[dataset] | (TRIAL if n < 12 else {})
    x_adv = adaptive.evade_l2(model, squeezers, at, x, y, targets=targets, **cast(dict[str, Any], budget))
    return Run(dataset, x, y, x_adv, targets, at)


#: Budgets in L2 at which the curves of evasion are read.
L2_BUDGETS = {"mnist": [0.5, 1.0, 1.5, 2.0, 2.5, 3.0, 3.5, 4.0, 5.0, 6.0], "cifar10": [0.1, 0.2, 0.3, 0.5, 0.7, 1.0, 1.5, 2.0]}


def evasion(made: Run) -> Measurement:
    """The share that evades at any distance; the series is the curve against the budget in L2."""
    budgets = L2_BUDGETS[made.dataset]
    return replace(share(made.evades), series=curve({"budget": budgets}, "evades", [made.within(b) for b in budgets]))


_KINDS = {
    "soft": "soft bits",
    "straight-through": "straight-through bits",
    "identity": "the identity through every squeezer",
}
GOALS = {"any": "untargeted", "next": "next class", "LL": "least likely class"}
_RUNS = [
    ("mnist", "soft", "any", 100),
    ("mnist", "soft", "next", 100),
    ("mnist", "straight-through", "any", 100),
    ("mnist", "identity", "any", 100),
    ("cifar10", "straight-through", "any", 100),
]


def _adaptive_claim(dataset: str, kind: str, goal: str, seeds: int) -> None:
    @claim(
        f"feature_squeezing.evades_{dataset}_{kind.replace('-', '_')}_{goal.lower()}",
        f"{NAMES[dataset]}, ours, a margin on all views, {_KINDS[kind]}, {GOALS[goal]}: share that evades, any distance",
        digits=0,
        note="Wrong, and below the threshold, after rounding to 8 bits. "
        f"{500 if dataset == 'mnist' else 200} gradients an image.",
        tier="laptop",
        networks=[examples.NETWORKS[dataset]],
    )
    def measure(n: int = seeds) -> Measurement:
        return evasion(run(dataset, kind, goal, n))


for _run in _RUNS:
    _adaptive_claim(*_run)


@claim(
    "feature_squeezing.evasion_distance_mnist",
    "MNIST, ours, a margin on all views, soft bits: median distance of an image that evades, L2",
    unit="",
    digits=2,
    note="Seeds that never evade count as infinitely far.",
    tier="laptop",
    networks=["mnist_cnn7"],
)
def evasion_distance_mnist(n: int = 100) -> Measurement:
    made = run("mnist", "soft", "any", n)
    median, low, high = evaluate.median_interval(torch.where(made.evades, made.l2, torch.inf))
    return Measurement(median, n, (low, high))


@claim(
    "feature_squeezing.plain_distance_mnist",
    "MNIST, DDN, which knows nothing of the detector: median distance of an image that is misread, L2",
    unit="",
    digits=2,
    note="On the seeds of the adaptive attacks, not rounded: what an error costs without the detector. An upper bound.",
    tier="laptop",
    networks=["mnist_cnn7"],
)
def plain_distance_mnist(n: int = 100) -> Measurement:
    x, y = examples.seeds("mnist", n)
    x_adv = attacks.ddn(network("mnist"), x, y)
    misread = evaluate.predict(network("mnist"), x_adv) != y
    median, low, high = evaluate.median_interval(torch.where(misread, evaluate.distances(x_adv, x, "l2"), torch.inf))
    return Measurement(median, n, (low, high))


#: Budgets of the attacks that keep to them, in linf.
LINF_BUDGETS = {"mnist": [0.1, 0.2, 0.3, 0.4, 0.5, 0.6], "cifar10": [k / 255 for k in (1, 2, 4, 8)]}


@functools.cache
def bounded(dataset: str, gradient: str, n: int) -> list[Tensor]:
    """Which of the first n seeds evade within each of :data:`LINF_BUDGETS`; an image that evades is kept for larger ones."""
    model, at = network(dataset), level(dataset, None if n >= 12 else n)
    x, y = examples.seeds(dataset, n)
    squeezers = adaptive.with_gradient(JOINT[dataset], gradient)
    steps = 5 if n < 12 else 60 if dataset == "mnist" else 30
    with torch.no_grad():
        likely = model(x).scatter(1, y[:, None], -math.inf).topk(2).indices.T
    best, done, found = x.clone(), torch.zeros(n, dtype=torch.bool), []
    for eps in LINF_BUDGETS[dataset]:
        for targets in (None, *likely):  # (n,) or the two likeliest wrong classes
            rows = (~done).nonzero()[:, 0]
            if not len(rows):
                break
            goals = None if targets is None else targets[rows]
            made = adaptive.evade_linf(
                model, squeezers, at, x[rows], y[rows], eps=eps, steps=steps, start=best[rows], targets=goals
            )
            _, evades = judge(dataset, made, y[rows], goals, at)
            if targets is None:
                best[rows] = made
            done[rows] |= evades
        found.append(done.clone())
    return found


def _bounded_claim(dataset: str, gradient: str, place: int, seeds: int) -> None:
    eps = LINF_BUDGETS[dataset][place]
    shown = f"{eps}" if dataset == "mnist" else f"{round(255 * eps)}/255"

    @claim(
        f"feature_squeezing.bounded_{dataset}",
        f"{NAMES[dataset]}, attack that knows the detector, within linf {shown}: share that evades",
        digits=0,
        note="Margin on all views, 60 steps (30 on CIFAR-10) untargeted and to each of the two likeliest wrong classes.",
        tier="laptop",
        networks=[examples.NETWORKS[dataset]],
    )
    def measure(n: int = seeds) -> Measurement:
        hits = bounded(dataset, gradient, n)
        return replace(share(hits[place]), series=curve({"budget": LINF_BUDGETS[dataset]}, "evades", hits))


_bounded_claim("mnist", "soft", 2, 100)
_bounded_claim("cifar10", "straight-through", 3, 100)

KAPPAS = [0.0, 10.0, 20.0, 30.0, 40.0]


@claim(
    "feature_squeezing.confidence_evades_mnist",
    "MNIST, CW2 with confidence 40 that knows nothing of the detector: share that evades",
    digits=0,
    note="Untargeted; the series has the confidences from 0 to 40. Confidence alone defeats the detector.",
    tier="laptop",
    networks=["mnist_cnn7"],
)
def confidence_evades_mnist(n: int = 100) -> Measurement:
    model, at = network("mnist"), level("mnist", None if n >= 12 else n)
    x, y = examples.seeds("mnist", n)
    evading, lengths = [], []
    steps = 100 if n >= 12 else 20
    for kappa in KAPPAS:
        x_adv = attacks.cw_l2(model, x, y, confidence=kappa, search_steps=4, steps=steps)
        evading.append(judge("mnist", x_adv, y, None, at)[1])
        lengths.append(float(evaluate.distances(x_adv, x, "l2").median()))
    return replace(share(evading[-1]), series=curve({"budget": KAPPAS}, "evades", evading) | {"median_l2": lengths})


CUTOFFS = (0.4, 0.5, 0.6)


@claim(
    "feature_squeezing.random_cutoff_mnist",
    "MNIST, the one-bit cutoff drawn afresh at each look: share of looks that are evaded",
    paper=0.465,
    where=SECTION,
    digits=1,
    note="The cutoff is normal, mean 0.5, deviation 0.0625; the attack asks for a margin at cutoffs 0.4, 0.5 and 0.6 and "
    "through the median. Twenty looks an image. The paper's number is its own ensemble attack, untargeted.",
    tier="laptop",
    networks=["mnist_cnn7"],
)
def random_cutoff_mnist(n: int = 100) -> Measurement:
    model, at = network("mnist"), level("mnist", None if n >= 12 else n)
    x, y = examples.seeds("mnist", n)
    views = {f"cutoff {c}": functools.partial(adaptive.binary_filter, cutoff=c, gradient="soft") for c in CUTOFFS}
    views["median"] = functools.partial(median_filter, size=2)
    searches, steps = (5, 100) if n >= 12 else (2, 20)
    images = eight_bits(adaptive.evade_l2(model, views, at, x, y, search_steps=searches, steps=steps))
    wrong = evaluate.predict(model, images) != y
    generator = torch.Generator().manual_seed(0)
    passed = []
    for _ in range(20):
        cutoff = 0.5 + 0.0625 * float(torch.randn((), generator=generator))
        looks = {"bits": functools.partial(adaptive.binary_filter, cutoff=cutoff), "median": views["median"]}
        passed.append(wrong & (SqueezingDetector(model, looks).score_samples(images) <= at))
    each = torch.stack(passed).double().mean(0)  # the share of looks, for each seed
    return pooled(each, torch.ones_like(each), generator=generator.manual_seed(1))
