"""Question (c) of chapter 4: attacks against defences, the worst case of each image.

Pre-registered: the measure is the accuracy that is left when an image counts as right only if no attack of the
ladder within linf 8/255 breaks it. An attack that knows nothing comes first, AutoAttack last, on what is still right. Whether
masks add to adversarial training is asked a second time of three small networks each.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn

from advlab import evaluate
from advlab.attacks import autoattack, hop_skip_jump, pgd, square
from advlab.masking.defences import Jpeg, pruned_at_random
from advlab.recipes.masking import ARMS

from ..results import Measurement, claim
from .measuring import SEEDS, Averaged, columns, images, network, over_trainings

EPS = 8 / 255
IMAGES = 200
DECISIONS = 50  #: so many of them are attacked by decisions alone, the slowest
QUERIES = 500
PASSES = 10  #: PGD on a random defence takes the mean over so many passes


class Defence(NamedTuple):
    label: str
    network: str
    around: Callable[[nn.Module], nn.Module] | None = None  #: what is put around the network
    random: bool = False  #: its answers change from pass to pass


def _behind_jpeg(net: nn.Module) -> nn.Module:
    return nn.Sequential(Jpeg(75), net).eval()


def _pruned(net: nn.Module) -> nn.Module:
    return pruned_at_random(net).eval()


DEFENCES = {
    "none": Defence("none", "cifar_resnet18"),
    "jpeg": Defence("JPEG, quality 75", "cifar_resnet18", _behind_jpeg),
    "sap": Defence("stochastic pruning", "cifar_resnet18", _pruned, random=True),
    "dropout": Defence("dropout of channels, 0.3", "cifar_dropout_channels"),
    "50": Defence("masks, drop 0.5", "cifar_mask_50"),
    "90": Defence("masks, drop 0.9", "cifar_mask_90"),
    "adversarial": Defence("adversarial training", "cifar_adversarial"),
    "trades": Defence("TRADES", "cifar_trades"),
    "50_adversarial": Defence("masks, drop 0.5, and adversarial training", "cifar_mask_50_adversarial"),
}

#: None of these is attacked: a plain network of another seed, one of another family, and one with masks of its own.
SURROGATES = ("cifar_resnet18_b", "cifar_cnn", "cifar_mask_50_b")
LADDER = ("clean", "transfer", "HopSkipJump", "Square", "PGD", "AutoAttack")


def _defended(defence: Defence) -> nn.Module:
    net = network(defence.network)
    return net if defence.around is None else defence.around(net)


@functools.cache
def _transferred(n: int) -> Tensor:
    """Adversarial images of the surrogates together, (n, 3, 32, 32): PGD of 20 steps of 1/255, with momentum."""
    surrogate = network("+".join(SURROGATES))
    run = functools.partial(pgd, eps=EPS, steps=20, step_size=1 / 255, random_start=False, active_set=False, momentum=1.0)
    return torch.cat([run(surrogate, a, b) for a, b in zip(*(t.split(100) for t in images(n)), strict=True)])


def _ladder(
    defence: Defence, n: int, decisions: int, queries: int, steps: int
) -> tuple[dict[str, Tensor], tuple[evaluate.Flag, ...]]:
    """Attack -> (n,) bool, whether the image is still right, for HopSkipJump of the first ``decisions``; and PGD's flags."""
    x, y = images(n)
    model = _defended(defence)
    seen = Averaged(*[model] * PASSES).eval() if defence.random else model
    generator = torch.Generator().manual_seed(0)

    def broken(attack: Callable[[nn.Module, Tensor, Tensor], Tensor], alive: Tensor) -> Tensor:
        """Whether images are right after an attack, which sees those alone that are ``alive``."""
        left = alive.nonzero()[:, 0]
        if len(left):
            x_adv = torch.cat([attack(model, a, b) for a, b in zip(x[left].split(100), y[left].split(100), strict=True)])
            alive = alive.clone()
            alive[left] = evaluate.predict(model, x_adv, 100) == y[left]
        return alive

    with torch.random.fork_rng():
        torch.manual_seed(0)  # of a random defence
        clean = evaluate.predict(model, x, 100) == y
        right = {"clean": clean, "transfer": clean & (evaluate.predict(model, _transferred(n), 100) == y)}
        first = clean & (torch.arange(n) < decisions)
        attack = functools.partial(hop_skip_jump, eps=EPS, queries=queries, generator=generator)
        right["HopSkipJump"] = broken(attack, first)[:decisions]
        right["Square"] = broken(functools.partial(square, eps=EPS, queries=queries, generator=generator), clean)
        attack = functools.partial(pgd, eps=EPS, steps=steps, restarts=2, generator=generator)
        found = evaluate.robust_accuracy(
            model, x, y, lambda _, a, b: attack(seen, a, b), eps=EPS, batch_size=100, queries=min(queries, 200)
        )
        right["PGD"] = clean & found.robust
        alive = right["transfer"] & right["Square"] & right["PGD"]
        alive[:decisions] &= right["HopSkipJump"]
        if steps >= 50 and not defence.random:  # else a trial, or no protocol for it
            alive = broken(functools.partial(autoattack, eps=EPS), alive)
    return right | {"AutoAttack": alive}, found.flags


def _defence(key: str, defence: Defence) -> None:
    last = f"not asked; PGD takes the mean over {PASSES} passes instead" if defence.random else "on what all others left"

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
        right, flags = _ladder(defence, IMAGES, DECISIONS, QUERIES, 50) if n is None else _ladder(defence, n, 2, 30, 2)
        found = columns([(int(v.sum()), len(v)) for v in right.values()], [math.nan] * len(right))
        interval = found["low"][-1], found["high"][-1]
        return Measurement(found["ours"][-1], len(right["clean"]), interval, tuple(f.id for f in flags), found)


for _key, _each in DEFENCES.items():
    _defence(_key, _each)


def _small(arm: str, label: str) -> None:
    names = [f"cifar_arm_{arm}_adversarial_{seed}" for seed in SEEDS]

    @claim(
        f"random_mask.defence_arm_{arm}",
        f"CIFAR-10, linf 8/255, ResNet-8, adversarial training, {label}: accuracy under PGD",
        digits=1,
        note="The first 500 test images, 50 steps, 2 random starts; the mean of three trainings, interval over them by "
        "Student's distribution. The series has each, and its clean accuracy.",
        over=f"{len(SEEDS)} trainings",
        tier="laptop",
        networks=names,
    )
    def attacked(n: int | None = None) -> Measurement:
        x, y = images(n or 500)
        attack = functools.partial(pgd, eps=EPS, steps=50 if n is None else 2, restarts=2)
        runs = []
        for name in names:
            generator = torch.Generator().manual_seed(0)
            run = functools.partial(attack, generator=generator)
            runs.append(evaluate.robust_accuracy(network(name), x, y, run, eps=EPS, queries=0))
        series = {"attacked": [run.accuracy for run in runs], "clean": [run.clean for run in runs]}
        return over_trainings(series["attacked"], len(x), series)


for _key in ("plain", "element"):
    _small(_key, ARMS[_key][0])
