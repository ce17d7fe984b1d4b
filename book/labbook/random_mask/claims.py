"""The claims of chapter 4: the paper's tables on our networks. Our own experiments are in other modules, imported below.

``python -m labbook reproduce random_mask --tier laptop`` measures them. Adversarial images are made once for each source
and attack, as the paper makes them: of images that the source classifies right, in 8 bits, and those alone are
kept that fool the source.
"""

from __future__ import annotations

import functools
import math
import time
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from advlab import data, evaluate
from advlab.attacks import cw_l2
from advlab.data import eight_bits
from advlab.evaluate import Attack
from advlab.masking.networks import masked_resnet, redraw_masks
from advlab.models import resnet

from ..results import Measurement, claim
from ..stats import share_of
from . import paper
from .measuring import columns, fgsm_in_8_bits, images, network, over_trainings, pgd_in_8_bits


@dataclass(frozen=True)
class Row:
    """A network of the zoo that is defended by masks, or is compared with one."""

    network: str
    label: str


#: The rows of the transfer tables. ``_b`` are independent trainings: other masks, another seed.
ROWS = {
    "plain": Row("cifar_resnet18", "no masks"),
    "50": Row("cifar_mask_50", "drop 0.5, shallow"),
    "70": Row("cifar_mask_70", "drop 0.7, shallow"),
    "90": Row("cifar_mask_90", "drop 0.9, shallow"),
    "50_deep": Row("cifar_mask_50_deep", "drop 0.5, deep"),
    "50_shared": Row("cifar_mask_50_shared", "drop 0.5, one mask for all channels"),
    "50_channel": Row("cifar_mask_50_channel", "drop 0.5, whole channels"),
    "50_narrow": Row("cifar_mask_50_narrow", "half of the channels, no masks"),
}

#: Sources of the transferred attacks, which are no target.
SOURCES = {
    "resnet": Row("cifar_resnet18_b", "ResNet-18"),
    "densenet": Row("cifar_densenet", "DenseNet"),
    "cnn": Row("cifar_cnn", "six convolutions"),
}

#: Sources of the gray box; ``50`` has a twin with other masks.
GRAY = {
    "plain": Row("cifar_resnet18_b", "no masks"),
    "50": Row("cifar_mask_50_b", "drop 0.5, other masks"),
    "70": Row("cifar_mask_70", "drop 0.7"),
}

IMAGES = 500  #: the first test images; each source attacks those that it classifies right
CW_IMAGES = 100


def _cw(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    """The paper's confidence of 40; fewer steps of the search than its 30."""
    return eight_bits(cw_l2(model, x, y, confidence=40, search_steps=5, steps=100, learning_rate=0.03, initial_c=0.1))


TRANSFERS: dict[str, Attack] = {
    "FGSM 8": fgsm_in_8_bits(8),
    "FGSM 16": fgsm_in_8_bits(16),
    "PGD 16": pgd_in_8_bits(16, 20),
    "PGD 32": pgd_in_8_bits(32, 40),
    "CW 40": _cw,
    "MI-FGSM 8": pgd_in_8_bits(8, 10, momentum=1.0),
    "PGD 8": pgd_in_8_bits(8, 20),
    "PGD 8, 7 steps": pgd_in_8_bits(8, 7, step=2),
}
#: The columns of the transfer tables: the paper's, and one that it only mentions to its reviewers, without a budget.
COLUMNS = (*paper.ATTACKS, "MI-FGSM 8")
WHITE_BOX: dict[str, Attack] = {
    **{f"FGSM {budget}": fgsm_in_8_bits(budget) for budget in (1, 2, 4)},
    **{f"PGD {budget}": pgd_in_8_bits(budget, steps) for budget, steps in ((2, 4), (4, 6), (8, 10))},
}


@functools.cache
def adversarial_images(source: str, attack: str, n: int | None) -> tuple[Tensor, Tensor]:
    """Adversarial images of a source in the zoo, that fool it, and their labels."""
    x, y = images(n or (CW_IMAGES if attack == "CW 40" else IMAGES))
    x_adv, labels, _ = evaluate.transferable(network(source), x, y, TRANSFERS[attack], fooled=True)
    return x_adv, labels


def _chosen(series: Mapping[str, list[float]], at: int) -> Measurement:
    """The measurement whose value is one of the columns' cells."""
    interval = (series["low"][at], series["high"][at])
    return Measurement(series["ours"][at], int(series["n"][at]), interval, series=dict(series))


def count_right(target: str, x_adv: Tensor, labels: Tensor) -> tuple[int, int]:
    return int((evaluate.predict(network(target), x_adv) == labels).sum()), len(labels)


# ---------------------------------------------------------------------------------------------- clean accuracy


def _test(key: str, row: Row) -> None:
    @claim(
        f"random_mask.{key}_test",
        f"CIFAR-10, {row.label}: accuracy on the test set",
        paper=paper.TABLE_8[key].test if key in paper.TABLE_8 else None,
        where=f"{paper.PAPER}, Table 8",
        digits=2,
        note="All 10,000 test images: python -m advlab data cifar10. ResNet-18 of width 16, the last of 10 epochs.",
        tier="laptop",
        networks=[row.network],
    )
    def test(n: int | None = None) -> Measurement:
        x, y = data.cifar10(full=True) if n is None else images(n)
        return share_of(*count_right(row.network, x, y))


for _key, _each in ROWS.items():
    _test(_key, _each)


# ---------------------------------------------------------------------------------------------- transfer, Tables 8, 9, 12


def _transfer(key: str, row: Row, kind: str, source: Row) -> None:
    table, theirs, values = paper.SOURCES[kind]
    printed = values.get(key)

    @claim(
        f"random_mask.{key}_from_{kind}",
        f"CIFAR-10, {row.label}: accuracy under PGD of 16/255 from {source.label}",
        paper=printed,
        where=f"{paper.PAPER}, {table}, source {theirs}",
        digits=1,
        note="20 steps of 1/255 without a random start, in 8 bits, on those of the first 500 test images that the "
        "source gets right and the attack makes it miss. The series has the attacks of Table 8, CW of the first "
        f"{CW_IMAGES} images, and MI-FGSM.",
        tier="laptop",
        networks=[row.network, source.network],
    )
    def transfer(n: int | None = None) -> Measurement:
        cells = [count_right(row.network, *adversarial_images(source.network, attack, n)) for attack in COLUMNS]
        known = paper.TABLE_8[key].attacked if kind == "densenet" and key in paper.TABLE_8 else ()
        here = COLUMNS.index("PGD 16")
        theirs = [known[at] if at < len(known) else math.nan for at in range(len(COLUMNS))]
        theirs[here] = math.nan if printed is None else printed
        return _chosen(columns(cells, theirs), here)


for _key, _each in ROWS.items():
    for _kind, _source in SOURCES.items():
        _transfer(_key, _each, _kind, _source)


# ---------------------------------------------------------------------------------------------- gray box, Table 7


def _gray(kind: str, source: Row) -> None:
    @claim(
        f"random_mask.gray_{kind}",
        f"CIFAR-10, gray box: accuracy of drop 0.5 under FGSM of 16/255 from {source.label}",
        paper=paper.TABLE_7[kind]["50"],
        where=f"{paper.PAPER}, Table 7",
        digits=1,
        note="The source is another training: other masks, another seed; of drop 0.7 there is one, which is not asked about "
        "its own images. The series has the targets without masks, with drop 0.5 and 0.7, first FGSM of 16/255, then PGD of "
        "16/255, which the paper does not show.",
        tier="laptop",
        networks=[ROWS[key].network for key in ("plain", "50", "70")] + [source.network],
    )
    def gray(n: int | None = None) -> Measurement:
        cells = []
        for attack in ("FGSM 16", "PGD 16"):
            for target in (ROWS[key].network for key in ("plain", "50", "70")):
                itself = target == source.network  # its images fool it by choice
                cells.append((0, 0) if itself else count_right(target, *adversarial_images(source.network, attack, n)))
        printed = [*paper.TABLE_7[kind].values(), *[math.nan] * 3]
        return _chosen(columns(cells, printed), 1)


for _kind, _source in GRAY.items():
    _gray(_kind, _source)


#: What an attacker of a masked network may have instead of it, from little knowledge to much.
SURROGATES = {
    "50": {
        "another kind": "cifar_densenet",
        "no masks": "cifar_resnet18_b",
        "other masks": "cifar_mask_50_b",
        "three with other masks": "cifar_mask_50_b+cifar_mask_70+cifar_mask_90",
    },
    "90": {
        "another kind": "cifar_densenet",
        "no masks": "cifar_resnet18_b",
        "other masks": "cifar_mask_50",
        "three with other masks": "cifar_mask_50+cifar_mask_50_b+cifar_mask_70",
    },
}


def _surrogates(key: str, known: Mapping[str, str]) -> None:
    @claim(
        f"random_mask.surrogates_{key}",
        f"CIFAR-10, {ROWS[key].label}: accuracy under PGD of 8/255 from three masked networks together",
        digits=1,
        note="20 steps of 1/255 on the mean of the logits of three networks with masks of their own. The series begins "
        "with less: one network of another kind, one without masks, one with other masks.",
        tier="laptop",
        networks=[ROWS[key].network, *dict.fromkeys(name for names in known.values() for name in names.split("+"))],
    )
    def surrogates(n: int | None = None) -> Measurement:
        cells = [count_right(ROWS[key].network, *adversarial_images(source, "PGD 8", n)) for source in known.values()]
        return _chosen(columns(cells, [math.nan] * len(cells)), list(known).index("three with other masks"))


for _key, _known in SURROGATES.items():
    _surrogates(_key, _known)


# ---------------------------------------------------------------------------------------------- the mask as a key

REDRAWN = ("50", "70", "90", "50_shared", "50_channel")
DRAWS = 5


def _redrawn(key: str, row: Row) -> None:
    @claim(
        f"random_mask.{key}_redrawn",
        f"CIFAR-10, {row.label}: accuracy with its weights and other masks",
        digits=1,
        over=f"{DRAWS} draws",
        note=f"The first 500 test images, the mean of {DRAWS} draws of all masks; interval over the draws, by Student's "
        "distribution. The series has, for each draw, the accuracy, and that of the network itself under PGD of 8/255 made "
        "with the copy that has other masks, on 200 images.",
        tier="laptop",
        networks=[row.network],
    )
    def redrawn(n: int | None = None) -> Measurement:
        x, y = images(n or IMAGES)
        own = network(row.network)
        right, left = [], []
        for seed in range(DRAWS):
            copy = redraw_masks(own, generator=torch.Generator().manual_seed(seed))
            right.append(float((evaluate.predict(copy, x) == y).double().mean()))
            x_adv, labels, _ = evaluate.transferable(copy, x[:200], y[:200], TRANSFERS["PGD 8"], fooled=True)
            left.append(share_of(*count_right(row.network, x_adv, labels)).value)
        return over_trainings(right, len(x), {"accuracy": right, "attacked": left})


for _key in REDRAWN:
    _redrawn(_key, ROWS[_key])


# ---------------------------------------------------------------------------------------------- Madry's setting, Table 1

MADRY = {
    "plain": ROWS["plain"],
    "adversarial": Row("cifar_adversarial", "adversarial training"),
    "90": ROWS["90"],
}


def _madry(key: str, row: Row) -> None:
    @claim(
        f"random_mask.{key}_madry",
        f"CIFAR-10, {row.label}: accuracy under PGD of 8/255 from a network without masks",
        paper=paper.TABLE_1[key][1],
        where=f"{paper.PAPER}, Table 1",
        digits=1,
        note="7 steps of 2/255, the black-box setting of Madry et al.; the paper's masks drop 0.85, its adversarial training "
        "takes seven steps where ours takes one. The series has FGSM of 8/255, PGD, and the clean images.",
        tier="laptop",
        networks=[row.network, SOURCES["resnet"].network],
    )
    def madry(n: int | None = None) -> Measurement:
        made = [adversarial_images(SOURCES["resnet"].network, attack, n) for attack in ("FGSM 8", "PGD 8, 7 steps")]
        cells = [count_right(row.network, *pair) for pair in (*made, images(n or IMAGES))]
        return _chosen(columns(cells, paper.TABLE_1[key]), 1)


for _key, _each in MADRY.items():
    _madry(_key, _each)


# ---------------------------------------------------------------------------------------------- white box, Table 6


def _white(key: str, row: Row) -> None:
    printed = paper.TABLE_6.get(key)

    @claim(
        f"random_mask.{key}_white",
        f"CIFAR-10, {row.label}: accuracy under PGD of 8/255 that knows the network",
        paper=None if printed is None else printed[-1],
        where=f"{paper.PAPER}, Table 6",
        digits=1,
        note="10 steps of 1/255 without a random start, on those of the first 500 test images that it gets right. The masks "
        "are fixed, so that the gradient is exact. The series has FGSM of 1, 2, 4 and PGD of 2, 4, 8 of 255.",
        tier="laptop",
        networks=[row.network],
    )
    def white(n: int | None = None) -> Measurement:
        model = network(row.network)
        x, y = images(n or IMAGES)
        cells = []
        for attack in paper.WHITE_BOX:
            x_adv, labels, _ = evaluate.transferable(model, x, y, WHITE_BOX[attack])
            cells.append(count_right(row.network, x_adv, labels))
        return _chosen(columns(cells, printed or (math.nan,) * len(cells)), len(cells) - 1)


for _key, _each in ROWS.items():
    _white(_key, _each)


@claim(
    "random_mask.overhead",
    "ResNet-18 of width 16: time of forward and backward with masks, over the time without",
    unit="times",
    digits=2,
    note="A step of training on 64 images, in turn with and without masks; the median ratio of the pairs, CPU time.",
    tier="laptop",
)
def overhead(n: int | None = None) -> Measurement:
    x, y = images(64 if n is None else n)
    nets = masked_resnet(18, 16, 0.5).train(), resnet(18, 16).train()
    ratios = []
    for round_ in range(22 if n is None else 3):
        spent = []
        for net in nets:
            start = time.process_time()
            nn.functional.cross_entropy(net(x), y).backward()
            spent.append(time.process_time() - start)
        if round_ > 0:  # the first makes the kernels
            ratios.append(spent[0] / spent[1])
    median, low, high = evaluate.median_interval(torch.tensor(ratios))
    return Measurement(median, len(ratios), (low, high))
