"""Question (a) of chapter 4: is it the broken symmetry that stops transferred attacks?

Masks of period q have the symmetry of shifts by q: all of it for q = 1, which masks whole channels, and none for masks without
a period. All arms drop half, at the same places of the same ResNet-8; two controls drop nothing.

Pre-registered: the measure is the accuracy in the gray box, under PGD of 8/255 (10 steps of 1/255) from the
same arm trained with another seed and other masks, the mean of the six ordered pairs of three seeds. The second: the same from
the plain arm. If breaking the symmetry protects, the first rises with q, and above that of the plain arm; if masks only make
a different function, the second rises and the first does not.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable

import numpy as np
from torch import Tensor, nn

from advlab import evaluate
from advlab.masking.masks import translation_error, wrapped_around
from advlab.recipes.masking import ARMS

from ..results import Measurement, claim
from .measuring import SEEDS, images, network, over_trainings, pgd_in_8_bits

IMAGES = 500
PAIRS = tuple(itertools.permutations(SEEDS, 2))


@functools.cache
def _made(arm: str, seed: int, n: int | None) -> tuple[Tensor, Tensor]:
    x, y = images(n or IMAGES)
    return evaluate.transferable(network(f"cifar_arm_{arm}_{seed}"), x, y, pgd_in_8_bits(8, 10), fooled=True)[:2]


def asymmetry(net: nn.Module, x: Tensor) -> float:
    """The :func:`translation_error` of a residual network's stem, its first map, over all shifts; mean of (n, 3, h, w)."""
    return float(translation_error(wrapped_around(net).get_submodule("stem"), x).mean())


def _accuracy(target: str, made: tuple[Tensor, Tensor]) -> float:
    x_adv, labels = made
    return float((evaluate.predict(network(target), x_adv) == labels).double().mean()) if len(labels) else 0.0


def over_targets(pairs: list[float]) -> list[float]:
    """Each target's mean over :data:`PAIRS`."""
    return [float(np.mean([v for v, (_, target) in zip(pairs, PAIRS, strict=True) if target == seed])) for seed in SEEDS]


def _measured(arm: str, source: Callable[[int], tuple[Tensor, Tensor]], series: dict[str, list[float]]) -> Measurement:
    ours = [_accuracy(f"cifar_arm_{arm}_{b}", source(a)) for a, b in PAIRS]
    columns = {"source": [float(a) for a, _ in PAIRS], "target": [float(b) for _, b in PAIRS], "accuracy": ours}
    return over_trainings(over_targets(ours), len(source(PAIRS[0][0])[1]), columns | series)


def _arm(arm: str, label: str) -> None:
    networks = [f"cifar_arm_{arm}_{seed}" for seed in SEEDS]

    @claim(
        f"random_mask.arm_{arm}",
        f"ResNet-8, {label}: accuracy under PGD of 8/255 from its like",
        digits=1,
        over=f"{len(SEEDS)} trainings",
        note="10 steps of 1/255 on those of the first 500 test images that the source gets right and is made to miss; mean of "
        "six ordered pairs of three trainings with seeds and masks of their own. Interval over the three targets. The series "
        "has the pairs, each target's clean accuracy, and the error of its first feature map under cyclic shifts.",
        tier="laptop",
        networks=networks,
    )
    def gray(n: int | None = None) -> Measurement:
        x, y = images(n or 1000)
        clean = [_accuracy(name, (x, y)) for name in networks]
        errors = [asymmetry(network(name), x[:20]) for name in networks]
        seen = {"clean": [clean[b] for _, b in PAIRS], "asymmetry": [errors[b] for _, b in PAIRS]}
        return _measured(arm, lambda seed: _made(arm, seed, n), seen)

    if arm == "plain":  # its like are the plain networks
        return

    @claim(
        f"random_mask.arm_{arm}_from_plain",
        f"ResNet-8, {label}: accuracy under PGD of 8/255 from networks without masks",
        digits=1,
        over=f"{len(SEEDS)} trainings",
        note="As in the gray box, but the sources are the plain networks of the other two seeds.",
        tier="laptop",
        networks=[*networks, *(f"cifar_arm_plain_{seed}" for seed in SEEDS)],
    )
    def transfer(n: int | None = None) -> Measurement:
        return _measured(arm, lambda seed: _made("plain", seed, n), {})


for _key, (_label, _) in ARMS.items():
    _arm(_key, _label)
