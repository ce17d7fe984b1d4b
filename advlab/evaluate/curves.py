"""Robust accuracy over budgets: the curve that an attack gives, from above, for the curves of bounds and proofs from below."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from .measures import clopper_pearson
from .robustness import RobustAccuracy, robust_accuracy


def security_curve(
    model: nn.Module, x: Tensor, y: Tensor, attack: Callable[..., Tensor], budgets: Iterable[float], **options: Any
) -> list[RobustAccuracy]:
    """:func:`advlab.evaluate.robust_accuracy` under ``attack(model, x, y, eps=...)`` at each of rising budgets.

    An image that is broken at one budget is broken at the greater ones, whatever the attack finds there, so that the curve
    falls; its image in ``x_adv`` is then the one that broke it.

    Parameters
    ----------
    model, x, y : as :func:`advlab.evaluate.robust_accuracy`
    attack : such as :func:`advlab.attacks.pgd`, which takes ``eps`` by name
    budgets : numbers from 0 up, each greater than the one before; an array of them will do
    options : of :func:`advlab.evaluate.robust_accuracy`, such as ``norm`` and ``batch_size``
    Returns
    -------
    list of RobustAccuracy, one a budget, each with interval and honesty flags
    Raises
    ------
    TypeError, ValueError
        budgets that are no numbers, or do not rise, and as :func:`advlab.evaluate.robust_accuracy`
    Guarantee
    ---------
    None on the network: each accuracy is an upper bound of that under the strongest attack.
    References
    ----------
    Biggio and Roli (2018), section 4, who ask for it
    Examples
    --------
    >>> from advlab import attacks
    >>> net = nn.Sequential(nn.Flatten(), nn.Linear(4, 2)).eval()
    >>> x, y = torch.rand(8, 1, 2, 2), torch.zeros(8, dtype=torch.int64)
    >>> [low, high] = security_curve(net, x, y, attacks.fgsm, [0.0, 1.0], queries=0)
    >>> low.accuracy == low.clean, high.accuracy <= low.accuracy
    (True, True)
    """
    try:
        budgets = [float(eps) for eps in budgets]
    except (TypeError, ValueError) as e:
        raise TypeError(f"budgets are {budgets!r}; give several numbers, such as [0.0, 0.1, 0.2]") from e
    if not budgets or any(not a < b for a, b in itertools.pairwise(budgets)):
        raise ValueError(f"budgets are {budgets}; give one or more, each greater than the one before")
    curve: list[RobustAccuracy] = []
    for eps in budgets:
        found = robust_accuracy(model, x, y, functools.partial(attack, eps=eps), eps=eps, **options)
        if curve:
            before = curve[-1]
            robust, stood = found.robust & before.robust, before.robust.view(-1, *[1] * (x.ndim - 1))
            k = int(robust.sum())
            found = replace(
                found,
                accuracy=k / len(x) if len(x) else float("nan"),
                interval=clopper_pearson(k, len(x)),
                x_adv=torch.where(stood, found.x_adv, before.x_adv),
                robust=robust,
            )
        curve.append(found)
    return curve
