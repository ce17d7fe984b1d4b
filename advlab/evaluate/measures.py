"""What is measured of a network and of an attack: answers, distances, and intervals of shares, medians and means."""

from __future__ import annotations

import numpy as np
import torch
from scipy.special import betaincinv
from scipy.stats import binom, bootstrap
from torch import Tensor, nn

from .. import checks


@torch.no_grad()
def predict(model: nn.Module, x: Tensor, batch_size: int = 500) -> Tensor:
    """The predicted class of each input, in bounded memory.

    Parameters
    ----------
    model : maps (n, ...) to logits (n, k), or to one logit each, (n,), with class 1 where it is positive
    x : (n, ...)
    batch_size : 1 or more

    Returns
    -------
    classes : (n,) int64

    Raises
    ------
    TypeError, ValueError
        for half precision, a part in training mode, answers that are no finite logits, with the first that is not, and a model
        that changes its input in place

    Examples
    --------
    >>> predict(nn.Identity().eval(), torch.tensor([[0.9, 0.1], [0.2, 0.8]])).tolist()
    [0, 1]
    """
    checks.tensors(x=x)
    checks.setting("batch_size", batch_size, checks.COUNT)
    classes = [] if len(x) else [torch.empty(0, dtype=torch.int64, device=x.device)]
    with checks.watched(model):
        for begin in range(0, len(x), batch_size):
            part = x[begin : begin + batch_size]
            answer = checks.answered(model, part)
            if isinstance(answer, Tensor) and answer.ndim == 1:
                answer = torch.stack([0 * answer, answer], 1)
            classes.append(checks.finite(checks.logits(answer, len(part)), "the model's logits", begin).argmax(1))
    return torch.cat(classes)


def first_correct(model: nn.Module, x: Tensor, y: Tensor, n: int) -> tuple[Tensor, Tensor]:
    """An attack's seeds: the first ``n`` images of ``x`` (m, ...) that ``model`` classifies as ``y`` (m,), with their labels.

    Looks at no more images than it needs. Raises ValueError if there are not ``n``, TypeError or ValueError for an ``n`` or
    labels that do not fit, and what :func:`predict` raises.
    """
    checks.setting("n", n, checks.WHOLE)
    checks.tensors(x=x, y=y)
    checks.indices(y, len(x))
    rows: list[Tensor] = []
    for start in range(0, len(x), 500):
        if sum(map(len, rows)) >= n:
            break
        part = slice(start, start + 500)
        rows.append(start + (predict(model, x[part]) == y[part]).nonzero()[:, 0])
    right = torch.cat(rows)[:n] if rows else torch.empty(0, dtype=torch.int64)
    if len(right) < n:
        raise ValueError(f"the model gets {len(right)} of these {len(x)} images right; {n} were asked for")
    return x[right], y[right]


def distances(x_adv: Tensor, x: Tensor, norm: str = "linf") -> Tensor:
    """How far each example was moved.

    Parameters
    ----------
    x_adv, x : (n, ...)
    norm : "linf", "l2" or "l0", the number of pixels that changed: positions (h, w) of (n, c, h, w), single values of (n, d)

    Returns
    -------
    distances : (n,)

    Raises
    ------
    TypeError, ValueError
        for what is no tensor of float32 or float64, for another norm, or shapes that differ

    Examples
    --------
    >>> x, x_adv = torch.zeros(1, 3), torch.tensor([[0.3, 0.4, 0.0]])
    >>> [round(distances(x_adv, x, norm).item(), 4) for norm in ("linf", "l2", "l0")]
    [0.4, 0.5, 2]
    """
    checks.tensors(x_adv=x_adv, x=x)
    if x_adv.shape != x.shape:
        raise ValueError(f"x_adv has the shape {tuple(x_adv.shape)}, x {tuple(x.shape)}; they must be equal")
    if x_adv.dtype not in checks.PRECISIONS or x.dtype not in checks.PRECISIONS:
        raise TypeError(f"x_adv is {x_adv.dtype}, x {x.dtype}; both must be float32 or float64, for bytes x.float() / 255")
    if norm == "l0":
        changed = x_adv != x
        return (changed.any(1) if x.ndim > 2 else changed).flatten(1).sum(1)
    delta = (x_adv - x).flatten(1)
    if norm == "linf":
        return delta.abs().amax(1)
    if norm == "l2":
        return delta.norm(dim=1)
    raise ValueError(f"norm is {norm!r}; it must be 'linf', 'l2' or 'l0'")


def clopper_pearson(successes: int, n: int, confidence: float = 0.95) -> tuple[float, float]:
    """The exact two-sided confidence interval of a proportion.

    Parameters
    ----------
    successes, n : whole numbers, 0 <= successes <= n
    confidence : in (0, 1)

    Returns
    -------
    low, high : in [0, 1]; (0, 1) if there was no trial

    Raises
    ------
    ValueError
        outside of these ranges

    Guarantee
    ---------
    It covers the true proportion with probability at least ``confidence``, whatever that is, if the trials are independent.

    References
    ----------
    Clopper and Pearson (1934).

    Examples
    --------
    >>> [round(bound, 4) for bound in clopper_pearson(0, 100)]
    [0.0, 0.0362]
    """
    if not 0 <= successes <= n or successes % 1 or n % 1 or not 0 < confidence < 1:  # inf % 1 is nan
        need = "need 0 <= successes <= n, whole numbers, and 0 < confidence < 1"
        raise ValueError(f"{successes} of {n} at confidence {confidence}: {need}")
    tail = (1 - confidence) / 2
    low = float(betaincinv(successes, n - successes + 1, tail)) if successes else 0.0
    high = float(betaincinv(successes + 1, n - successes, 1 - tail)) if successes < n else 1.0
    return low, high


def median_interval(values: Tensor, confidence: float = 0.95) -> tuple[float, float, float]:
    """The median of ``values`` (n,) and a confidence interval from order statistics, as (median, low, high).

    Guarantee: the interval covers the true median with probability at least ``confidence`` for independent values of
    any distribution, if n is at least 6 (at 95 %); it is (-inf, inf) where n is too small for that. Values may be infinite, as
    the distance of an attack that failed; of an even number the median is the mean of the middle two.
    Raises ValueError for no values, or nan among them, and a confidence outside (0, 1).
    """
    checks.setting("confidence", confidence, checks.SHARE)
    ranked = _values(values).sort().values
    n = len(ranked)
    k = int(binom.ppf((1 - confidence) / 2, n, 0.5))  # P(fewer than k below the median) <= tail
    low, high = (float(ranked[k - 1]), float(ranked[n - k])) if k >= 1 else (float("-inf"), float("inf"))
    middle = ranked[(n - 1) // 2], ranked[n // 2]
    return float(ranked.quantile(0.5) if torch.stack(middle).isfinite().all() else sum(middle)), low, high


def _values(values: Tensor) -> Tensor:
    """``values`` (n,) in double precision. Raises ValueError for none, or nan among them."""
    values = torch.as_tensor(values).double()
    if values.ndim != 1 or not len(values):
        raise ValueError(f"values has the shape {tuple(values.shape)}; it must be (n,) with n at least 1")
    if values.isnan().any():
        raise ValueError(f"{checks.first(values.isnan(), values, 'values')}; a value is a number")
    return values


def mean_interval(values: Tensor, confidence: float = 0.95, draws: int = 2000) -> tuple[float, float, float]:
    """The mean of ``values`` (n,) and an interval by the bootstrap (percentiles of ``draws`` resamples), as (mean, low, high).

    No guarantee: it covers the true mean about as often as it says only for many values, and less often if a few of them make
    up most of the mean. It is (-inf, inf) for a single value. Raises ValueError for no values, or any that is not finite, a
    confidence outside (0, 1), and fewer than one draw.
    """
    checks.setting("confidence", confidence, checks.SHARE)
    checks.setting("draws", draws, checks.COUNT)
    exact = checks.finite(_values(values), "values").numpy()
    if len(exact) == 1:
        return float(exact[0]), float("-inf"), float("inf")
    options = {"n_resamples": draws, "confidence_level": confidence, "method": "percentile", "batch": 100}
    found = bootstrap((exact,), np.mean, rng=0, **options).confidence_interval
    return float(exact.mean()), float(found.low), float(found.high)
