"""How often a network is right, under attack or not, and how sure that number is."""

from __future__ import annotations

import torch
from scipy.special import betaincinv
from torch import Tensor, nn


def clopper_pearson(successes: int, n: int, confidence: float = 0.95) -> tuple[float, float]:
    """The exact two-sided confidence interval of a proportion (Clopper and Pearson 1934), as (low, high) in [0, 1].

    Guarantee: it covers the true proportion with probability at least ``confidence``, whatever that proportion is,
    if the n trials are independent. (0, 1) if there was no trial.
    Raises ValueError unless 0 <= successes <= n and 0 < confidence < 1.

    >>> [round(bound, 4) for bound in clopper_pearson(0, 100)]
    [0.0, 0.0362]
    """
    if not 0 <= successes <= n or not 0 < confidence < 1:
        raise ValueError(f"successes {successes} of {n} at confidence {confidence}: need 0 <= successes <= n, 0 < confidence < 1")
    tail = (1 - confidence) / 2
    low = float(betaincinv(successes, n - successes + 1, tail)) if successes else 0.0
    high = float(betaincinv(successes + 1, n - successes, 1 - tail)) if successes < n else 1.0
    return low, high


@torch.no_grad()
def predict(model: nn.Module, x: Tensor, batch_size: int = 500) -> Tensor:
    """The predicted class of each input, (n,) int64, in bounded memory."""
    if not len(x):
        return torch.empty(0, dtype=torch.int64, device=x.device)
    return torch.cat([model(part).argmax(1) for part in x.split(batch_size)])
