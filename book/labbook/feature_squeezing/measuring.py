"""What the claims of chapter 2 share: networks, images that ship, thresholds, and shares with their intervals."""

from __future__ import annotations

import functools
import math

import torch
from torch import Tensor, nn

from advlab import data, evaluate

from .. import networks
from ..results import Measurement
from . import examples

NAMES = {"mnist": "MNIST", "cifar10": "CIFAR-10"}


def network(dataset: str) -> nn.Module:
    return networks.network(examples.NETWORKS[dataset])


def clean(dataset: str, n: int | None) -> tuple[Tensor, Tensor]:
    """The clean test images that ship: 10,000 of MNIST, 2,000 of CIFAR-10."""
    x, y = data.mnist() if dataset == "mnist" else data.cifar10(full=False)
    return (x, y) if n is None else (x[: 10 * n], y[: 10 * n])


def halves(dataset: str, n: int | None) -> tuple[Tensor, Tensor]:
    """Clean images that set thresholds, and others: of all 10,000 test images, or of those that ship for a slice."""
    return examples.clean_halves(dataset, None if n is None else 10 * n, full=n is None)


@functools.cache
def shipped(dataset: str) -> tuple[examples.Examples, dict[str, Tensor]]:
    """The adversarial images that ship, and which of them reached their goal, attack -> (seeds,) bool."""
    found = examples.load(dataset)
    return found, found.successful(network(dataset))


def threshold(fit: Tensor, rate: float = 0.05) -> float:
    """The threshold of :class:`SqueezingDetector` from the scores (n,) of clean images."""
    return float(fit.sort().values[math.ceil(len(fit) * (1 - rate)) - 1])


def share(hits: Tensor) -> Measurement:
    k, n = int(hits.sum()), len(hits)
    return Measurement(k / n if n else math.nan, n, evaluate.clopper_pearson(k, n))


def over_seeds(hits: Tensor, counted: Tensor, draws: int = 2000) -> Measurement:
    """The share of ``hits`` among ``counted``, both (attacks, seeds) bool, with an interval by the bootstrap over seeds.

    Images of one seed are not independent, so that whole seeds are drawn anew.
    """
    generator = torch.Generator().manual_seed(0)
    seeds = counted.shape[1]
    picked = torch.randint(seeds, (draws, seeds), generator=generator)
    top, bottom = ((hits & counted).sum(0).double()[picked].sum(1), counted.sum(0).double()[picked].sum(1))
    low, high = (top / bottom.clamp_min(1)).quantile(torch.tensor([0.025, 0.975]).double()).tolist()
    n = int(counted.sum())
    return Measurement(float((hits & counted).sum()) / max(n, 1), n, (low, high))


def _curve(shares: list[Tensor], budgets: list[float]) -> dict[str, list[float]]:
    counts = [int(s.sum()) for s in shares]
    intervals = [evaluate.clopper_pearson(k, len(s)) for k, s in zip(counts, shares, strict=True)]
    return {
        "budget": budgets,
        "evades": [k / len(s) for k, s in zip(counts, shares, strict=True)],
        "low": [low for low, _ in intervals],
        "high": [high for _, high in intervals],
    }
