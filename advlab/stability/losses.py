"""What the network is trained with: the RS loss, and L1 counted by use (Xiao et al. 2019, sections 3.2 and 3.3)."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ..attacks import pgd
from .bounds import Bounds, interval_bounds, interval_margins, layers

REDUCTIONS = ("sum", "mean")


def rs_loss(bounds: Bounds, reduction: str = "sum") -> Tensor:
    """The ReLU stability loss: the sum of -tanh(1 + l u) over the hidden units, mean over the batch.

    A unit gives -1 when it is far from unstable, about -0.76 when a bound is 0, and up to 1.

    Parameters
    ----------
    bounds : pairs (lower, upper) of :func:`interval_bounds`; the last, of the logits, does not count
    reduction : "sum", the paper's formula, or "mean", over the positions of a convolution, as in the authors' code
    Returns
    -------
    Scalar tensor, differentiable; weights do not carry over from one reduction to the other
    Raises
    ------
    ValueError
        another reduction, no bounds, or none of any input
    Guarantee
    ---------
    No guarantee: it makes units stable more often, and proves nothing.
    References
    ----------
    Xiao et al. (2019), section 3.3.1
    Examples
    --------
    >>> bounds = [(-2.0, 2.0), (0.0, 2.0), (2.0, 3.0)]  # unstable, on the edge, stable
    >>> units = [(torch.tensor([[low]]), torch.tensor([[high]])) for low, high in bounds]
    >>> [round(rs_loss([unit, unit]).item(), 3) for unit in units]  # the second stands for the logits
    [0.995, -0.762, -1.0]
    """
    if reduction not in REDUCTIONS:
        raise ValueError(f"reduction is {reduction!r}; it must be 'sum' or 'mean'")
    if not bounds or not len(bounds[0][0]):
        raise ValueError("there are no bounds to take a loss of: give those of interval_bounds, of one input or more")
    total = bounds[0][0].new_zeros(())
    for low, high in bounds[:-1]:
        each = -torch.tanh(1 + low * high)
        positions = math.prod(each.shape[2:]) if reduction == "mean" else 1
        total = total + each.sum() / (len(each) * positions)
    return total


def sparsity_loss(net: nn.Module, shape: Sequence[int] | None = None) -> Tensor:
    """The L1 norm of all weights but the output layer's, each kernel as often as it is applied; biases do not count.

    Parameters
    ----------
    net : ``nn.Sequential`` of the layers of :func:`interval_bounds`
    shape : of one input; by default (c, s, s), with the s for which the first linear layer fits
    Returns
    -------
    Scalar tensor, differentiable
    Raises
    ------
    TypeError, ValueError
        a network that is not sequential, or has no linear layer; no such s fits
    Guarantee
    ---------
    The L1 norm of the network written out as dense matrices. No guarantee about stability.
    References
    ----------
    Xiao et al. (2019), section 3.2
    Examples
    --------
    >>> net = nn.Sequential(nn.Conv2d(1, 1, 2, stride=2), nn.ReLU(), nn.Flatten(), nn.Linear(4, 2))
    >>> _ = [p.data.fill_(1) for p in net.parameters()]
    >>> sparsity_loss(net).item()  # a kernel of four ones, at four places; the output layer does not count
    16.0
    """
    stages = [layer for layer in layers(net) if isinstance(layer, nn.Linear | nn.Conv2d)]
    if not stages:
        raise ValueError("the network has no linear layer and no convolution: there are no weights to make sparse")
    size = _input_size(stages) if shape is None else tuple(shape[-2:])
    total = stages[0].weight.new_zeros(())
    for layer in stages[:-1]:
        if isinstance(layer, nn.Conv2d):
            size = _after(layer, size)
            total = total + math.prod(size) * layer.weight.abs().sum()
        else:
            total = total + layer.weight.abs().sum()
    return total


def _after(layer: nn.Conv2d, size: tuple[int, ...]) -> tuple[int, ...]:
    padding = layer.padding
    if isinstance(padding, str):
        raise TypeError(f"padding is {padding!r}; give it as numbers")
    return tuple(
        (s + 2 * p - d * (k - 1) - 1) // t + 1
        for s, p, d, k, t in zip(size, padding, layer.dilation, layer.kernel_size, layer.stride, strict=True)
    )


def _input_size(stages: list[nn.Linear | nn.Conv2d]) -> tuple[int, ...]:
    convolutions = [layer for layer in stages if isinstance(layer, nn.Conv2d)]
    linear = next((layer for layer in stages if isinstance(layer, nn.Linear)), None)
    if not convolutions:
        return ()
    if linear is not None:
        positions = linear.in_features / convolutions[-1].out_channels
        fitting = []
        for side in range(1, 513):
            size: tuple[int, ...] = (side, side)
            for layer in convolutions:
                size = _after(layer, size)
            if math.prod(size) == positions and min(size) > 0:
                fitting.append((side, side))
        if fitting:
            return fitting[-1]
    raise ValueError("the input's size cannot be read off the layers: give shape=(c, h, w)")


def _risen(done: float, rise: tuple[float, float]) -> float:
    """0 up to the first share of training, 1 from the second on, a straight line between."""
    start, end = rise
    return 1.0 if done >= end else max(0.0, (done - start) / (end - start))


# 9 parameters: the transform of every row of Xiao et al. (2019), as their code has it and as ours is.
def pgd_pairs(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    done: float,
    *,
    eps: float,
    step_size: float,
    steps: int = 8,
    first: float | None = None,
    rise: float = 0.5,
) -> Tensor:
    """A transform for :func:`advlab.training.fit`: (n, 2, ...), each input after PGD, and as it was.

    The budget rises from ``first`` to ``eps`` over the share ``rise`` of the training. By default from 0.01 (or a tenth of
    ``eps``, if that is less) over the first half, as in the authors' code, which keeps the ``step_size``.
    """
    first = min(0.01, eps / 10) if first is None else first
    budget = first + (eps - first) * _risen(done, (0.0, rise))
    return torch.stack([pgd(model, x, y, eps=budget, steps=steps, step_size=step_size, active_set=False), x], 1)


# 10 parameters: the loss of every row of Xiao et al. (2019), as their code has it and as ours is.
def stability_loss(
    model: nn.Module,
    pairs: Tensor,
    y: Tensor,
    done: float = 1.0,
    *,
    eps: float,
    l1: float = 0.0,
    rs: float = 0.0,
    reduction: str = "mean",
    images: int | None = None,
    rise: tuple[float, float] = (0.0, 0.0),
    budget_rise: float = 0.0,
) -> Tensor:
    """Cross entropy of the attacked inputs, plus ``l1`` times the sparsity loss, plus ``rs`` times the RS loss.

    A loss for :func:`advlab.training.fit`. The bounds of the RS loss are naive, around the inputs as they were; by default of
    all inputs of the batch, for the full ``eps`` and with the full weights from the first step.

    Parameters
    ----------
    pairs : (n, 2, ...), those of :func:`pgd_pairs`
    done : the share of training done, in [0, 1]
    images : so many of the batch give the RS loss
    rise : both weights are 0 up to the first of these shares of the training, and rise to their full value at the second
    budget_rise : the RS loss's budget rises from a quarter of ``eps`` to ``eps`` over this share of the training
    """
    attacked, clean = pairs.unbind(1)
    loss = nn.functional.cross_entropy(model(attacked), y)
    weight = _risen(done, rise)
    if l1 * weight:
        loss = loss + weight * l1 * sparsity_loss(model, clean.shape[1:])
    if rs * weight:
        budget = eps * (0.25 + 0.75 * _risen(done, (0.0, budget_rise)))
        loss = loss + weight * rs * rs_loss(interval_bounds(model, clean[:images], budget), reduction)
    return loss


def ibp_loss(
    model: nn.Module, x: Tensor, y: Tensor, done: float = 1.0, *, eps: float, kappa: float = 0.5, rise: float = 0.5
) -> Tensor:
    """Interval bound propagation: cross entropy of the worst logits that the intervals allow, beside that of the inputs.

    A loss for :func:`advlab.training.fit`, without an attack. The budget rises from 0 to ``eps``, and the weight of the
    worst logits from 0 to 1 - ``kappa``, over the share ``rise`` of the training.

    Parameters
    ----------
    model : ``nn.Sequential`` of the layers of :func:`interval_bounds`, the last of them linear
    x, y : (n, ...) in [0, 1] and (n,)
    done : the share of training done, in [0, 1]
    Returns
    -------
    Scalar tensor, differentiable
    Guarantee
    ---------
    Up to rounding, the worst logits bound what any input of the ball gives: :func:`interval_margins`.
    References
    ----------
    Gowal et al. (2018), equations 6 to 11
    Examples
    --------
    >>> _ = torch.manual_seed(0)
    >>> net = nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 2))
    >>> x, y = torch.full((1, 2), 0.5), torch.tensor([0])
    >>> plain, worst = (ibp_loss(net, x, y, eps=eps, kappa=0.0) for eps in (0.0, 0.1))
    >>> bool(worst > plain), torch.allclose(plain, nn.functional.cross_entropy(net(x), y))
    (True, True)
    """
    share = _risen(done, (0.0, rise))
    weight = (1 - kappa) * share
    clean = nn.functional.cross_entropy(model(x), y)
    if not weight:
        return clean
    worst = nn.functional.cross_entropy(-interval_margins(model, x, y, share * eps), y)
    return (1 - weight) * clean + weight * worst
