"""Candidates for a counterexample, replayed in float64: what counts is misclassified by more than float64 may be wrong."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn

from .affine import NormalForm
from .layers import UNIT, Array


def ball(centre: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    """The greatest box in float64 within ``eps`` of ``centre`` and in [0, 1], so that no witness is outside by a rounding."""
    ends = []
    for sign, inward in ((-1, math.inf), (1, -math.inf)):
        end = centre + sign * eps
        moved = end - centre
        lost = (centre - (end - moved)) + (sign * eps - moved)  # what rounding took from the sum, exactly (Knuth's TwoSum)
        ends.append(torch.where(sign * lost < 0, end.nextafter(torch.full_like(end, inward)), end).clamp(0, 1))
    return ends[0], ends[1]


def least_margin(net: nn.Module, rows: Tensor, const: Tensor, x: Tensor) -> Tensor:
    """The least of the margins at each of ``x`` (n, ...), (n,), in float64."""
    with torch.no_grad():
        return (net(x).flatten(1).cpu() @ rows.T + const).amin(1)


def sure_margin(net: nn.Module, form: NormalForm, margins: tuple[Array, Array], x: Tensor) -> Tensor:
    """:func:`least_margin`, with 0 for one below 0 that rounding may have put there."""
    rows, const = margins
    least = least_margin(net, torch.from_numpy(rows), torch.from_numpy(const), x)
    for i in (least < 0).nonzero()[:, 0].tolist():
        logits, doubt = form.rounding(x[i].flatten().cpu().numpy())
        doubt = abs(rows) @ (doubt + 2 * len(logits) * UNIT * abs(logits)) + 2 * UNIT * abs(const)
        least[i] = least[i] if least[i] < -2 * doubt.max() else least[i].clamp(min=0)
    return least


def first_counterexample(
    values: Callable[[Tensor], Tensor], x: Tensor, low: Tensor, high: Tensor, points: Tensor
) -> Tensor | None:
    """The first of ``points`` (n, inputs) that is a counterexample once it is rounded to the dtype of ``x`` inside the box."""
    rounded = points.clamp(low, high).to(x.dtype)
    if x.dtype != torch.float64:
        up, down = (torch.tensor(v, dtype=x.dtype) for v in (np.inf, -np.inf))
        rounded = torch.where(rounded.double() < low, rounded.nextafter(up), rounded)
        rounded = torch.where(rounded.double() > high, rounded.nextafter(down), rounded)
    shaped = rounded.view(-1, *x.shape).to(x.device)
    broken = (values(shaped.double()) < 0).nonzero()[:, 0]
    return shaped[broken[0]] if len(broken) else None
