"""Claims of chapter 1 on images: half-spaces as error sets of MNIST."""

from __future__ import annotations

import functools

import torch
from torch import Tensor

from advlab import data

from ..entries import UNCONFIRMED
from ..results import Measurement, claim
from ..stats import mean_over_seeds, share_of
from .measuring import V1


@functools.cache
def _digits(n: int) -> tuple[Tensor, Tensor]:
    x, _ = data.mnist("train", n)
    x = x.flatten(1).double()
    _, _, axes = torch.linalg.svd((x - x.mean(0)).T @ (x - x.mean(0)))
    return x, axes[0] * axes[0].sum().sign()


def _half_space(sign: int, name: str, title: str, paper: float | None) -> None:
    def half_space(n: int = 60_000) -> Measurement:
        x, axis = _digits(max(n, 1000))
        along = sign * (x @ axis)
        return mean_over_seeds((along.quantile(0.99) - along).clamp(min=0))

    def expanded(n: int = 60_000) -> Measurement:
        x, axis = _digits(max(n, 1000))
        along = sign * (x @ axis)
        k = int((along > along.quantile(0.99) - 1.58).sum())
        return share_of(k, len(x))

    claim(
        f"adversarial_spheres.mnist_{name}",
        f"MNIST: mean distance to the 1 % of digits with {title} on the first principal axis",
        paper=paper,
        where=f"{V1}, section 6 {UNCONFIRMED}",
        unit="",
        digits=2,
        note="A half-space as error set. Training digits, pixels in [0, 1].",
    )(half_space)
    claim(
        f"adversarial_spheres.mnist_{name}_expanded",
        f"MNIST: digits within 1.58 of the half-space with {title}",
        note="1.58 is the budget of Mahloujifar et al. (2019); 1 % lie inside to begin with.",
    )(expanded)


_half_space(1, "more", "most ink", 6.59)
_half_space(-1, "less", "least ink", None)
