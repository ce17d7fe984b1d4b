"""The claims of the worked example."""

from __future__ import annotations

import functools

from advlab.linear import least_squares, nearest_error
from torch import Tensor

from advlab import data, evaluate

from ..results import Measurement, claim


@functools.cache
def trained() -> tuple[Tensor, Tensor]:
    """Least squares on the first 2,000 training digits."""
    x, y = data.mnist("train", 2000)
    return least_squares(x.flatten(1), y)


def _distance(norm: str, n: int) -> Measurement:
    x, y = data.mnist(n=n)
    distance = nearest_error(*trained(), x.flatten(1).double(), y, norm)
    median, low, high = evaluate.median_interval(distance)
    return Measurement(median, n, (low, high))


@claim(
    "linear_classifiers.l2",
    "Least squares on 2,000 digits: median distance to the nearest error, L2",
    unit="",
    digits=2,
    note="Exact. A digit that is misread already counts as 0.",
)
def l2(n: int = 1000) -> Measurement:
    return _distance("l2", n)


@claim(
    "linear_classifiers.linf",
    "Least squares on 2,000 digits: median distance to the nearest error, linf",
    unit="",
    digits=3,
    note="Exact. A digit that is misread already counts as 0.",
)
def linf(n: int = 1000) -> Measurement:
    return _distance("linf", n)
