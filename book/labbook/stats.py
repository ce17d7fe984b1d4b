"""What claims return: shares, means and ratios, each with its 95 % interval.

A number of the manifest is kept to its last bit, so that a function computes in the library (torch or NumPy) that its values
came in, and takes the generator that it draws from where there was more than one.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.stats import t as student
from torch import Tensor

from advlab.evaluate import clopper_pearson, mean_interval

from .entries import Measurement

Array = NDArray[np.float64]
DRAWS = 2000  #: of a bootstrap


def share_of(k: int, n: int, none: float = math.nan) -> Measurement:
    """``k`` of ``n`` with the exact interval of Clopper and Pearson; the value is ``none`` where n is 0.

    Guarantee: as of :func:`advlab.evaluate.clopper_pearson`, if the n trials are independent.

    >>> share_of(3, 4).value
    0.75
    """
    return Measurement(k / n if n else none, n, clopper_pearson(k, n))


def share(hits: Tensor, none: float = math.nan) -> Measurement:
    """:func:`share_of` for ``hits`` (n,) bool.

    >>> share(torch.tensor([True, True, True, False])).n
    4
    """
    return share_of(int(hits.sum()), len(hits), none)


def share_columns(shares: Sequence[Measurement]) -> dict[str, list[float]]:
    """The columns "ours", "low", "high" and "n" of a series, from its shares.

    >>> share_columns([share_of(3, 4), share_of(0, 0)])["n"]
    [4.0, 0.0]
    """
    intervals = [s.interval or (math.nan, math.nan) for s in shares]
    return {
        "ours": [s.value for s in shares],
        "low": [low for low, _ in intervals],
        "high": [high for _, high in intervals],
        "n": [float(s.n or 0) for s in shares],
    }


def curve(axis: Mapping[str, list[float]], name: str, hits: Iterable[Tensor], none: float = math.nan) -> dict[str, list[float]]:
    """A series: beside the columns of ``axis`` the :func:`share` of each of ``hits``, as ``name``, with "low" and "high".

    >>> curve({"eps": [0.1]}, "evades", [torch.tensor([True, True])])["evades"]
    [1.0]
    """
    found = share_columns([share(each, none) for each in hits])
    return {**axis, name: found["ours"], "low": found["low"], "high": found["high"]}


def mean_over_seeds(values: Tensor | Array, low: float = -math.inf, high: float = math.inf) -> Measurement:
    """The mean of independent values (n,), as of several trainings, with an interval by Student's law, cut off at both ends.

    Guarantee: it covers the true mean as often as it says if the values are normal. Infinite for a single value.

    >>> mean_over_seeds(np.array([0.5, 0.6, 1.0]), 0.0, 1.0).interval[1]  # not above 1
    1.0
    """
    n = len(values)
    values = values.double() if isinstance(values, Tensor) else values
    mean, half = float(values.mean()), math.inf
    if n > 1:
        deviation = values.std() if isinstance(values, Tensor) else values.std(ddof=1)
        half = float(student.ppf(0.975, n - 1)) * float(deviation) / math.sqrt(n)
    return Measurement(mean, n, (max(mean - half, low), min(mean + half, high)))


def mean_over_images(values: Tensor | Array) -> Measurement:
    """The mean of values (n,), one an image, with an interval by the bootstrap: :func:`advlab.evaluate.mean_interval`.

    >>> mean_over_images(np.arange(101.0)).value
    50.0
    """
    mean, low, high = mean_interval(torch.as_tensor(values))
    return Measurement(mean, len(values), (low, high))


def pooled(top: Tensor, bottom: Tensor, *, generator: torch.Generator, draws: int = DRAWS) -> Measurement:
    """The sum of ``top`` over the sum of ``bottom``, (seeds,) each, with an interval by the bootstrap over whole seeds.

    Images of one seed are not independent, so that seeds are drawn anew and not images. ``n`` is the sum of ``bottom``.
    No guarantee: as of :func:`advlab.evaluate.mean_interval`.

    >>> pooled(torch.tensor([1.0, 1.0]), torch.tensor([2.0, 2.0]), generator=torch.Generator().manual_seed(0)).interval
    (0.5, 0.5)
    """
    top, bottom = top.double(), bottom.double()
    picked = torch.randint(len(top), (draws, len(top)), generator=generator)
    ratios = top[picked].sum(1) / bottom[picked].sum(1).clamp_min(1)
    low, high = ratios.quantile(torch.tensor([0.025, 0.975]).double()).tolist()
    n = int(bottom.sum())
    return Measurement(float(top.sum()) / max(n, 1), n, (low, high))


def ratio(top: Array, bottom: Array, *, rng: np.random.Generator, draws: int = DRAWS) -> Measurement:
    """The mean of ``top`` over the mean of ``bottom``, (n,) each, of the same images, with an interval by the paired bootstrap.

    It is not :func:`pooled`, whose n is the sum of ``bottom`` and which draws by torch. No guarantee, as there.

    >>> ratio(np.array([1.0, 2.0]), np.array([2.0, 4.0]), rng=np.random.default_rng(0)).interval
    (0.5, 0.5)
    """
    pairs = np.stack([top, bottom], 1)  # (n, 2)
    drawn = pairs[rng.integers(len(pairs), size=(draws, len(pairs)))].mean(1)  # (draws, 2)
    low, high = np.quantile(drawn[:, 0] / drawn[:, 1], [0.025, 0.975]).tolist()
    mean = pairs.mean(0)
    return Measurement(float(mean[0] / mean[1]), len(pairs), (low, high))
