"""What all of chapter 4's claims share: the networks, the images, intervals over trainings."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from advlab import data
from advlab.attacks import fgsm, pgd
from advlab.data import eight_bits
from advlab.evaluate import Attack

from .. import networks
from ..results import Measurement
from ..stats import mean_over_seeds, share_columns, share_of

SEEDS = (0, 1, 2)  #: of the networks that are trained three times


def fgsm_in_8_bits(budget: int) -> Attack:
    """The paper's FGSM: one step of ``budget`` / 255, in 8 bits, which leaves no ball of k / 255."""

    def run(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        return eight_bits(fgsm(model, x, y, eps=budget / 255))

    return run


def pgd_in_8_bits(budget: int, steps: int, step: int = 1, momentum: float | None = None) -> Attack:
    """The paper's PGD, in 8 bits: no random start, and all of its steps, however early the network is fooled.

    Steps of ``step`` / 255 inside ``budget`` / 255; ``momentum`` is that of :func:`advlab.attacks.pgd`.
    """

    def run(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        options: dict[str, Any] = {"random_start": False, "active_set": False, "momentum": momentum}
        return eight_bits(pgd(model, x, y, eps=budget / 255, steps=steps, step_size=step / 255, **options))

    return run


class Averaged(nn.Module):
    """The mean of the logits (n, k) of several networks, or of several passes of one that is random."""

    def __init__(self, *members: nn.Module) -> None:
        super().__init__()
        self.members = nn.ModuleList(members)

    def forward(self, x: Tensor) -> Tensor:
        return torch.stack([member(x) for member in self.members]).mean(0)


@functools.cache
def network(name: str) -> nn.Module:
    """A network of the zoo, or the average of several whose names are joined by "+", without gradients of its weights."""
    members = [networks.network(part) for part in name.split("+")]
    return members[0] if len(members) == 1 else Averaged(*members).eval()


def images(n: int) -> tuple[Tensor, Tensor]:
    """The first test images, of those that ship."""
    return data.cifar10(n=n, full=False)


def columns(cells: Sequence[tuple[int, int]], printed: Sequence[float]) -> dict[str, list[float]]:
    """Columns of a series from (right, n) of each attack and the paper's numbers."""
    return share_columns([share_of(k, n) for k, n in cells]) | {"paper": list(printed)}


def over_trainings(shares: Sequence[float], n: int, series: Mapping[str, list[float]]) -> Measurement:
    """The mean of the shares of several trainings, an interval over them, inside [0, 1]; of ``n`` images each."""
    return replace(mean_over_seeds(np.array(shares), 0.0, 1.0), n=n, series=dict(series))
