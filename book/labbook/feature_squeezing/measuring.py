"""What the claims of chapter 2 share: networks, images that ship, thresholds, intervals over seeds."""

from __future__ import annotations

import functools
import math

import torch
from torch import Tensor, nn

from advlab import data

from .. import networks
from ..results import Measurement
from ..stats import pooled
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


def over_seeds(hits: Tensor, counted: Tensor) -> Measurement:
    """The share of ``hits`` among ``counted``, both (attacks, seeds) bool, with an interval over seeds: :func:`pooled`."""
    return pooled((hits & counted).sum(0), counted.sum(0), generator=torch.Generator().manual_seed(0))
