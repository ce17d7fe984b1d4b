"""What the claims of chapter 1 share: the setting, means over seeds, and networks trained from seeds.

Distances are relative to the radius of the sphere.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from advlab.spheres.quadratic import quadratic_log_error
from advlab.spheres.sampling import concentric_spheres
from advlab.training import binary_cross_entropy, fit_online

from ..results import Measurement
from ..stats import mean_over_seeds

D, OUTER = 500, 1.3
RADIUS = {"inner": 1.0, "outer": OUTER}
V1, V3 = "Gilmer et al. (2018), version 1", "Gilmer et al. (2018), version 3"


def generator_of(seed: int) -> torch.Generator:
    """A stream apart from those that networks start from: points from the seed of a weight matrix are its own rows."""
    return torch.Generator().manual_seed(770_000 + seed)


def log10_error(*arguments: Any, **options: Any) -> float:
    return quadratic_log_error(*arguments, **options) / math.log(10)


Rows = dict[str, list[float]]


def series_of(rows: list[dict[str, float]]) -> Rows:
    return {key: [row[key] for row in rows] for key in rows[0]} if rows else {}


def _draw(n: int) -> tuple[Tensor, Tensor]:
    return concentric_spheres(n, D, OUTER)


def train(net: nn.Module, samples: int, rate: float, seed: int, batch_size: int = 250) -> list[float]:
    adam = functools.partial(torch.optim.Adam, lr=rate, fused=True)
    options = {"loss": binary_cross_entropy, "optimizer": adam, "seed": seed, "progress": False}
    return fit_online(net, _draw, samples=max(samples, batch_size), batch_size=batch_size, **options)


def fresh(build: Callable[[], nn.Module], seed: int) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return build()


def ratio_over_seeds(rows: Rows, keep: Callable[[int], bool] = lambda i: True) -> Measurement:
    """The mean ratio over seeds (each seed's mean first), with its interval over the seeds."""
    by_seed: dict[float, list[float]] = {}
    for i, seed in enumerate(rows.get("seed", [])):
        if keep(i):
            by_seed.setdefault(seed, []).append(rows["ratio"][i])
    means = [sum(values) / len(values) for values in by_seed.values()]
    found = mean_over_seeds(torch.tensor(means)) if means else Measurement(math.nan)
    return replace(found, n=sum(map(len, by_seed.values())), series=rows)
