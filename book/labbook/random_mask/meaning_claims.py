"""Question (b) of chapter 4: do adversarial images of masked networks look like another class?

Luo et al. show images with budgets of 16 and 32 of 255 that people misread. No people here, but a panel: three networks of
other trainings and one trained against attacks, none of which any image was made against. An image has *turned* when the
robust judge and the majority of the others name one class that is not the true one.

Pre-registered: the measure is the share turned at 8/255, masks against no masks at the same budget; the second,
the share turned at each image's least budget that fools the network, so that all makers succeed alike. Controls: random signs,
the nearest image of another class mixed in as far as the budget allows, and a network trained against attacks. The first
measure is taken again with three trainings of ResNet-8, with masks and without.
"""

from __future__ import annotations

import functools
from dataclasses import replace

import torch
from torch import Tensor

from advlab import data, evaluate
from advlab.data import eight_bits
from advlab.recipes.masking import ARMS

from ..results import Measurement, claim
from ..stats import curve, share
from .measuring import SEEDS, images, network, over_trainings, pgd_in_8_bits

BUDGETS = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32)  #: of 255
IMAGES = 300
MAKERS = {
    "plain": ("a network without masks", "cifar_resnet18"),
    "50": ("masks, drop 0.5", "cifar_mask_50"),
    "90": ("masks, drop 0.9", "cifar_mask_90"),
    "adversarial": ("adversarial training", "cifar_adversarial"),
}
CONTROLS = {"signs": "random signs", "mixed": "the nearest image of another class, mixed in"}
PANEL = ("cifar_resnet18_b", "cifar_cnn", "cifar_densenet")
ROBUST_JUDGE = "cifar_trades"


def named(x: Tensor) -> tuple[Tensor, Tensor]:
    """The class that the panel agrees on, -1 where it does not, and the robust judge's; (n,) each, of (n, 3, 32, 32)."""
    robust = evaluate.predict(network(ROBUST_JUDGE), x)
    votes = torch.stack([evaluate.predict(network(name), x) == robust for name in PANEL]).sum(0)
    return torch.where(votes >= 2, robust, -1), robust


def judged(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Whether the panel agrees on a class other than ``y`` (n,), and whether the robust judge errs; of (n, 3, 32, 32)."""
    agreed, robust = named(x)
    return (agreed >= 0) & (agreed != y), robust != y


def mixed(x: Tensor, y: Tensor, others: Tensor, labels: Tensor, eps: float) -> Tensor:
    """Each image moved towards the nearest (L2) of ``others`` with another label, as far as linf ``eps`` lets each pixel."""
    far = torch.cdist(x.flatten(1), others.flatten(1))
    far[y[:, None] == labels[None]] = torch.inf
    return x + (others[far.argmin(1)] - x).clamp(-eps, eps)


def attacked(name: str, x: Tensor, y: Tensor, budget: int) -> Tensor:
    """PGD against a network of the zoo, in steps of 1/255, at least 20 and enough to cross the ball of ``budget`` / 255."""
    attack = pgd_in_8_bits(budget, max(20, round(1.25 * budget)))
    return torch.cat([attack(network(name), a, b) for a, b in zip(x.split(100), y.split(100), strict=True)])


@functools.cache
def _judged(key: str, n: int) -> tuple[Tensor, Tensor, Tensor]:
    """(budgets, n) bool each: fooled the maker (a control counts as if it did), turned, and misread by the robust judge."""
    x, y = seeds(n)
    fooled, flipped, misread = [], [], []
    for budget in BUDGETS:
        if key in MAKERS:
            name = MAKERS[key][1]
            made = attacked(name, x, y, budget)
            fooled.append(evaluate.predict(network(name), made) != y)
        else:
            fooled.append(torch.ones(len(x), dtype=torch.bool))
            if key == "signs":
                signs = torch.randint(2, x.shape, generator=torch.Generator().manual_seed(0)).to(x) * 2 - 1
                made = eight_bits((x + signs * budget / 255).clamp(0, 1))
            else:
                made = eight_bits(mixed(x, y, *_others(), budget / 255))
        for column, seen in zip((flipped, misread), judged(made, y), strict=True):
            column.append(seen)
    return torch.stack(fooled), torch.stack(flipped), torch.stack(misread)


@functools.cache
def _others() -> tuple[Tensor, Tensor]:
    """Test images that no seed is among."""
    x, y = images(2000)
    return x[1000:], y[1000:]


@functools.cache
def seeds(n: int) -> tuple[Tensor, Tensor]:
    """The first of the first 1,000 test images that all makers and judges get right."""
    x, y = images(1000)
    right = torch.ones(len(x), dtype=torch.bool)
    for name in (*(name for _, name in MAKERS.values()), *PANEL, ROBUST_JUDGE):
        right &= evaluate.predict(network(name), x) == y
    return x[right][:n], y[right][:n]


JUDGES = [*PANEL, ROBUST_JUDGE]


def _meaning(key: str, label: str) -> None:
    networks = [*(name for _, name in MAKERS.values()), *JUDGES]

    @claim(
        f"random_mask.turned_{key}",
        f"CIFAR-10, linf 8/255, {label}: images that a panel of other networks takes for another class",
        digits=1,
        note=f"The first {IMAGES} test images that all networks get right; PGD, steps of 1/255. Turned: a network trained "
        "against attacks and two of three others name the same wrong class. The series has budgets of 1 to 32 of 255, "
        "the share that fools the maker, and the share that the judge trained against attacks misreads.",
        tier="laptop",
        networks=networks,
    )
    def turned(n: int | None = None) -> Measurement:
        fooled, flipped, misread = _judged(key, n or IMAGES)
        series = curve({"budget": [float(b) for b in BUDGETS]}, "turned", flipped, 0.0)
        series |= {name: [share(row, 0.0).value for row in each] for name, each in (("fooled", fooled), ("misread", misread))}
        return replace(share(flipped[BUDGETS.index(8)], 0.0), series=series)

    if key not in MAKERS:
        return

    @claim(
        f"random_mask.turned_{key}_least",
        f"CIFAR-10, {label}: images that a panel takes for another class, at the least budget that fools the network",
        digits=1,
        note=f"Of each image, the least of the budgets {', '.join(map(str, BUDGETS))} of 255; images that none of them fools "
        "are left out. The series counts the images of each budget, and those turned.",
        tier="laptop",
        networks=networks,
    )
    def least(n: int | None = None) -> Measurement:
        fooled, flipped, _ = _judged(key, n or IMAGES)
        seen = fooled.any(0)
        first = fooled.long().argmax(0)[seen]
        hits = flipped[:, seen].gather(0, first[None])[0]
        counts = [int((first == k).sum()) for k in range(len(BUDGETS))]
        turns = [int(hits[first == k].sum()) for k in range(len(BUDGETS))]
        series = {"budget": [float(b) for b in BUDGETS], "images": [*map(float, counts)], "turned": [*map(float, turns)]}
        return replace(share(hits, 0.0), series=series)


for _key, (_label, _) in MAKERS.items():
    _meaning(_key, _label)
for _key, _label in CONTROLS.items():
    _meaning(_key, _label)


def _small(arm: str, label: str) -> None:
    names = [f"cifar_arm_{arm}_{seed}" for seed in SEEDS]

    @claim(
        f"random_mask.turned_arm_{arm}",
        f"CIFAR-10, linf 8/255, ResNet-8, {label}: images that a panel of other networks takes for another class",
        digits=1,
        over=f"{len(SEEDS)} trainings",
        note="As with ResNet-18, the mean of three trainings; interval over the trainings, by Student's distribution.",
        tier="laptop",
        networks=[*names, *(name for _, name in MAKERS.values()), *JUDGES],
    )
    def turned(n: int | None = None) -> Measurement:
        x, y = seeds(n or IMAGES)
        shares = [share(judged(attacked(name, x, y, 8), y)[0], 0.0).value for name in names]
        return over_trainings(shares, len(x), {"seed": [float(s) for s in SEEDS], "turned": shares})


for _key in ("plain", "element"):
    _small(_key, ARMS[_key][0])


@claim(
    "random_mask.class_distance",
    "CIFAR-10: smallest linf distance between two images of different classes, of 255",
    paper=54.0,
    where="Luo et al. (2018), their answer to a reviewer",
    unit="",
    digits=0,
    note="Ours is that of the first 5,000 training images; theirs, of all, cannot be larger.",
    tier="laptop",
)
def class_distance(n: int | None = None) -> Measurement:
    x, y = data.cifar10("train", 5000 if n is None else 10 * n, full=n is None)
    flat = (x * 255).round().flatten(1)
    least = torch.inf
    for a, b in zip(flat.split(50), y.split(50), strict=True):
        far = torch.cdist(a, flat, p=torch.inf)
        least = min(least, float(far[b[:, None] != y[None]].min()))
    return Measurement(least, len(y))
