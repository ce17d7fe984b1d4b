"""Chapter 3's verifier on masks: does training for stability do more than take units away at random?

A mask makes units constant, as pruning does, and the verifier drops both. The small training of
:mod:`..relu_stability.sweep_claims`, without the RS loss, but with masks behind both convolutions; beside them the network
without masks after as many of its ReLUs have been pruned, those that switch least. Pre-registered: the measure is
the share of unstable ReLUs (CROWN) among those that are live, beside that with the RS loss and without masks.
"""

from __future__ import annotations

import functools
from dataclasses import replace

import torch
from torch import Tensor, nn

from advlab import data
from advlab.attacks import pgd
from advlab.masking import insert_masks
from advlab.models import Mask, MaskedReLU
from advlab.stability.pruning import prune_relus

from ..relu_stability.sweep_claims import EPS, STRUCTURES, TIME_LIMIT, trained, verified
from ..results import Measurement, claim

DROPS = {"50": 0.5, "70": 0.7, "90": 0.9}


def masked_cnn(drop: float) -> nn.Module:
    """Chapter 3's network with a mask behind both of its convolutions."""
    return insert_masks(STRUCTURES["plain"][1](), drop, layers=("0", "2"), shape=(1, 28, 28))


def masked_units(net: nn.Module) -> int:
    """How many values the masks of ``net`` set to 0."""
    return sum(int((~layer.kept).sum()) for layer in net.modules() if isinstance(layer, Mask))


def pruned_units(net: nn.Module) -> int:
    """How many ReLUs of ``net`` are pruned."""
    return sum(int((layer.mask != 0).sum()) for layer in net.modules() if isinstance(layer, MaskedReLU))


def prune_as_many(net: nn.Module, x: Tensor, count: int) -> nn.Module:
    """:func:`advlab.stability.prune_relus` with the largest fraction that prunes at most ``count`` ReLUs, to one in 4,096."""
    low, high = 0.0, 0.5
    for _ in range(11):
        middle = (low + high) / 2
        if pruned_units(prune_relus(net, x, middle)) <= count:
            low = middle
        else:
            high = middle
    return prune_relus(net, x, low)


@functools.cache
def _plain(n: int | None) -> tuple[nn.Module, Tensor]:
    """The network without masks, and attacked training images on which its ReLUs are counted."""
    net = trained(STRUCTURES["plain"][1], 0.0, n)
    x, y = data.mnist("train")
    x, y = x[5000 : 5000 + (n or 2000)], y[5000 : 5000 + (n or 2000)]
    generator = torch.Generator().manual_seed(0)
    return net, pgd(net, x, y, eps=EPS, steps=8, step_size=0.03, active_set=False, generator=generator)


def _counted(net: nn.Module, removed: int, n: int | None) -> Measurement:
    found = verified(net, n)
    return replace(found, series=found.series | {"removed": [float(removed)]})


_NOTE = (
    "12,000 images, 5 epochs, PGD-8, L1, small weights pruned; one seed. CPU seconds over the first 100 test images, cut off "
    f"at {TIME_LIMIT:g}, of those that are classified right. The series has accuracy, verdicts and units."
)


def _bridge(key: str, drop: float) -> None:
    @claim(
        f"random_mask.verified_{key}",
        f"MNIST, linf 0.1, a small training, masks with drop {drop:g}: mean time to verify an image",
        unit="s",
        digits=2,
        note=_NOTE,
        tier="laptop",
    )
    def masked(n: int | None = None) -> Measurement:
        net = trained(functools.partial(masked_cnn, drop), 0.0, n)
        return _counted(net, masked_units(net), n)

    @claim(
        f"random_mask.verified_{key}_pruned",
        f"MNIST, linf 0.1, a small training, as many ReLUs pruned as masks with drop {drop:g} remove: mean time",
        unit="s",
        digits=2,
        note=f"{_NOTE} Pruned: those ReLUs that switch least over 2,000 attacked training images; no training after that.",
        tier="laptop",
    )
    def pruned(n: int | None = None) -> Measurement:
        net, x_adv = _plain(n)
        smaller = prune_as_many(net, x_adv, masked_units(masked_cnn(drop)))
        return _counted(smaller, pruned_units(smaller), n)


for _key, _drop in DROPS.items():
    _bridge(_key, _drop)
