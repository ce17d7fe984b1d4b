"""A linear classifier by least squares, and the exact distance to its nearest error."""

from __future__ import annotations

import torch
from torch import Tensor


def least_squares(x: Tensor, y: Tensor, ridge: float = 1.0) -> tuple[Tensor, Tensor]:
    """The weight (k, d) and bias (k,) that fit one-hot labels best, in float64, for inputs x (n, d) and labels y (n,).

    ``ridge`` is the weight of the squared norm of the weights. Guarantee: the unique minimum, to rounding.
    Raises ValueError for a ridge that is not above 0.

    >>> weight, bias = least_squares(torch.tensor([[0.0], [1.0]]), torch.tensor([0, 1]), ridge=1e-9)
    >>> weight.round(decimals=3).flatten().tolist(), bias.round(decimals=3).tolist()
    ([-1.0, 1.0], [1.0, 0.0])
    """
    if not ridge > 0:
        raise ValueError(f"ridge is {ridge}; it must be above 0")
    x, targets = x.double(), torch.nn.functional.one_hot(y).double()
    centred = x - x.mean(0)
    weight = torch.linalg.solve(centred.T @ centred + ridge * torch.eye(x.shape[1]), centred.T @ (targets - targets.mean(0))).T
    return weight, targets.mean(0) - weight @ x.mean(0)


def nearest_error(weight: Tensor, bias: Tensor, x: Tensor, y: Tensor, norm: str = "l2") -> Tensor:
    """How far each x (n, d) is from the nearest point that ``x @ weight.T + bias`` does not read as ``y`` (n,): (n,).

    ``norm`` is "l2" or "linf"; the point may lie outside [0, 1]. 0 where x is misread already.
    Guarantee: exact, to rounding; the border to each other class is a hyperplane. Raises ValueError for another norm.

    >>> eye, x = torch.eye(2), torch.tensor([[3.0, 1.0]])
    >>> [round(float(nearest_error(eye, torch.zeros(2), x, torch.tensor([0]), norm)), 4) for norm in ("l2", "linf")]
    [1.4142, 1.0]
    """
    dual = {"l2": 2, "linf": 1}
    if norm not in dual:
        raise ValueError(f"norm is {norm!r}; it must be 'l2' or 'linf'")
    logits = x @ weight.T + bias  # (n, k)
    gaps = logits.gather(1, y[:, None]) - logits  # (n, k)
    steepness = (weight[y][:, None] - weight).norm(dim=2, p=dual[norm])  # (n, k)
    own = torch.nn.functional.one_hot(y, len(weight)).bool()
    return (gaps / steepness).masked_fill(own, torch.inf).amin(1).clamp_min(0)
