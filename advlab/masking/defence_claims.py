"""Question (c) of chapter 4: attacks against defences, the worst case of each image. Registered by :mod:`.claims`.

Settled before the trainings: the measure is the accuracy that is left when an image counts as right only if no attack of the
ladder within linf 8/255 breaks it. An attack that knows nothing comes first, AutoAttack last, on what is still right.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn

from .. import evaluate
from ..attacks import autoattack, hop_skip_jump, pgd, square
from ..results import Measurement, claim
from .claims import columns, images, network
from .defences import Jpeg, pruned_at_random

EPS = 8 / 255
IMAGES = 200
DECISIONS = 50  #: so many of them are attacked by decisions alone, the slowest
QUERIES = 500


class Defence(NamedTuple):
    label: str
    network: str
    around: Callable[[nn.Module], nn.Module] | None = None  #: what is put around the network
    random: bool = False  #: its answers change from pass to pass


DEFENCES = {
    "none": Defence("none", "cifar_resnet18"),
    "jpeg": Defence("JPEG, quality 75", "cifar_resnet18", lambda net: nn.Sequential(Jpeg(75), net).eval()),
    "sap": Defence("stochastic pruning", "cifar_resnet18", lambda net: pruned_at_random(net).eval(), random=True),
    "dropout": Defence("dropout 0.5", "cifar_dropout"),
    "dropblock": Defence("DropBlock 0.3", "cifar_dropblock"),
    "50": Defence("masks, drop 0.5", "cifar_mask_50"),
    "90": Defence("masks, drop 0.9", "cifar_mask_90"),
    "adversarial": Defence("adversarial training", "cifar_adversarial"),
    "trades": Defence("TRADES", "cifar_trades"),
    "50_adversarial": Defence("masks, drop 0.5, and adversarial training", "cifar_mask_50_adversarial"),
}

#: None of these is attacked: a plain network of another seed, one of another family, and one with masks of its own.
SURROGATES = ("cifar_resnet18_b", "cifar_cnn", "cifar_mask_50_b")
LADDER = ("clean", "transfer", "HopSkipJump", "Square", "PGD", "AutoAttack")


class Averaged(nn.Module):
    """The mean of the logits (n, k) of several networks, or of several passes of one that is random."""

    def __init__(self, *members: nn.Module) -> None:
        super().__init__()
        self.members = nn.ModuleList(members)

    def forward(self, x: Tensor) -> Tensor:
        return torch.stack([member(x) for member in self.members]).mean(0)


def _defended(defence: Defence) -> nn.Module:
    net = network(defence.network)
    return net if defence.around is None else defence.around(net)


@functools.cache
def _transferred(n: int) -> Tensor:
    """Adversarial images of the surrogates together, (n, 3, 32, 32): PGD of 20 steps of 1/255, with momentum."""
    surrogate = Averaged(*(network(name) for name in SURROGATES)).eval()
    run = functools.partial(pgd, eps=EPS, steps=20, step_size=1 / 255, random_start=False, active_set=False, momentum=1.0)
    return torch.cat([run(surrogate, a, b) for a, b in zip(*(t.split(100) for t in images(n)), strict=True)])


def _ladder(defence: Defence, n: int, decisions: int, queries: int, steps: int) -> dict[str, Tensor]:
    """Attack -> (n,) bool, whether the image is still right; for HopSkipJump only of the first ``decisions`` images."""
    x, y = images(n)
    model = _defended(defence)
    seen = Averaged(*[model] * 10).eval() if defence.random else model  # the attacker averages over passes
    generator = torch.Generator().manual_seed(0)

    def right(x_adv: Tensor) -> Tensor:
        return evaluate.predict(model, x_adv, 100) == y[: len(x_adv)]

    def broken(attack: Callable[[Tensor, Tensor], Tensor], alive: Tensor) -> Tensor:
        """Whether images are right after an attack, which sees those alone that are ``alive``."""
        left = alive.nonzero()[:, 0]
        if len(left):
            x_adv = torch.cat([attack(a, b) for a, b in zip(x[left].split(100), y[left].split(100), strict=True)])
            alive = alive.clone()
            alive[left] = evaluate.predict(model, x_adv, 100) == y[left]
        return alive

    ends = {"clean": right(x), "transfer": right(_transferred(n))}
    first = ends["clean"] & (torch.arange(n) < decisions)
    attack = functools.partial(hop_skip_jump, seen, eps=EPS, queries=queries, generator=generator)
    ends["HopSkipJump"] = broken(attack, first)[:decisions]
    attack = functools.partial(square, seen, eps=EPS, queries=queries, generator=generator)
    ends["Square"] = broken(attack, ends["clean"])
    attack = functools.partial(pgd, seen, eps=EPS, steps=steps, restarts=2, generator=generator)
    ends["PGD"] = broken(attack, ends["clean"])
    alive = ends["clean"] & ends["transfer"] & ends["Square"] & ends["PGD"]
    alive[:decisions] &= ends["HopSkipJump"]
    if steps < 50:  # a trial
        return ends | {"AutoAttack": alive}
    return ends | {"AutoAttack": alive if defence.random else broken(functools.partial(autoattack, seen, eps=EPS), alive)}


def _defence(key: str, defence: Defence) -> None:
    last = "not asked: its gradients are averaged over passes instead" if defence.random else "on what all others left"

    @claim(
        f"random_mask.defence_{key}",
        f"CIFAR-10, linf 8/255, {defence.label}: accuracy in the worst case of all attacks",
        digits=1,
        note=f"The first {IMAGES} test images. Transfer: three other networks together. HopSkipJump and Square: {QUERIES} "
        f"queries an image, the former on {DECISIONS} images. PGD: 50 steps, 2 random starts. AutoAttack: {last}.",
        tier="laptop",
        networks=[defence.network, *SURROGATES],
    )
    def worst(n: int | None = None) -> Measurement:
        ends = _ladder(defence, IMAGES, DECISIONS, QUERIES, 50) if n is None else _ladder(defence, n, 2, 30, 2)
        found = columns([(int(v.sum()), len(v)) for v in ends.values()], [math.nan] * len(ends))
        low, high = found["low"][-1], found["high"][-1]
        return Measurement(found["ours"][-1], n or IMAGES, (low, high), series=found)


for _key, _each in DEFENCES.items():
    _defence(_key, _each)
