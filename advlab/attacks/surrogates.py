"""Gradients through what has none, BPDA and the straight-through estimate, and through what is random, its expectation."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from .. import checks


class _Surrogate(torch.autograd.Function):
    @staticmethod
    def forward(ctx, exact: Tensor, smooth: Tensor) -> Tensor:
        return exact.clone()

    @staticmethod
    def backward(ctx, *gradients: Tensor) -> tuple[None, Tensor]:
        return None, gradients[0]


def bpda(exact: Callable[[Tensor], Tensor], surrogate: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    """A function with the values of ``exact`` and the gradient of ``surrogate`` (Athalye et al. 2018, section 4.1).

    Both map a tensor to tensors of one shape. ``exact`` need not be differentiable.
    Raises ValueError, when called, if the two shapes differ.

    >>> steep = bpda(torch.round, lambda x: x**2)
    >>> x = torch.tensor([0.2, 0.7], requires_grad=True)
    >>> steep(x).tolist(), torch.autograd.grad(steep(x).sum(), x)[0].tolist()
    ([0.0, 1.0], [0.4000000059604645, 1.399999976158142])
    """

    def both(x: Tensor) -> Tensor:
        with torch.no_grad():
            value = exact(x)
        smooth = surrogate(x)
        if value.shape != smooth.shape:
            raise ValueError(f"exact gives {tuple(value.shape)} and surrogate {tuple(smooth.shape)}; they must be equal")
        return _Surrogate.apply(value, smooth)

    return both


def straight_through(exact: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    """:func:`bpda` with the identity: the backward pass takes ``exact``, which keeps the shape, for no change at all.

    >>> x = torch.tensor([0.2, 0.7], requires_grad=True)
    >>> rounded = straight_through(torch.round)(x)
    >>> rounded.tolist(), torch.autograd.grad(rounded.sum(), x)[0].tolist()
    ([0.0, 1.0], [1.0, 1.0])
    """
    return bpda(exact, lambda x: x)


def expectation(model: Callable[[Tensor], Tensor], draws: int = 30) -> Callable[[Tensor], Tensor]:
    """The mean of ``draws`` passes of a randomised ``model``, for attacks on it: expectation over transformation.

    Gradients are averaged with it (Athalye, Engstrom et al. 2018, equation 1): each step follows the mean over fresh draws.
    For an input that is transformed at random, ``expectation(lambda x: model(transform(x)))``. A pass costs ``draws`` passes.
    Raises ValueError for fewer draws than 1. No guarantee: the mean over few draws is random too.

    >>> noisy = expectation(lambda x: x + torch.randn_like(x), draws=10_000)
    >>> bool((noisy(torch.zeros(1, 2)).abs() < 0.1).all())
    True
    """
    checks.setting("draws", draws, checks.COUNT)
    return lambda x: torch.stack([model(x) for _ in range(draws)]).mean(0)
