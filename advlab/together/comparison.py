"""Chapter 5's tables: every row under every attack, and whether two defences together are better than either."""

from __future__ import annotations

from typing import NamedTuple

import torch
from scipy.stats import binomtest
from torch import Tensor

from .. import results
from ..evaluate import clopper_pearson
from ..tables import Cell, Grid
from .defences import ROWS, SETTINGS
from .ladder import BOUNDED, LADDER, PROVED, REFUTED

#: A pair of defences, and the two that it joins.
PAIRS = {
    "mask_adversarial": ("mask", "adversarial"),
    "adversarial_detector": ("adversarial", "detector"),
    "rs_detector": ("rs", "detector"),
    "mask_detector": ("mask", "detector"),
}


def outcomes(dataset: str, key: str) -> tuple[dict[str, Tensor], Tensor]:
    """Of each image: attack -> (n,) bool, whether it stands, and (n,) int64, what is proved of it. KeyError if not measured."""
    ends = results.get(f"all_against_all.{dataset}_{key}").series
    known = results.get(f"all_against_all.{dataset}_{key}_proved").series["known"]
    return {name: torch.tensor(ends[name]) > 0 for name in LADDER}, torch.tensor(known).long()


def bracket(dataset: str, key: str) -> tuple[Tensor, Tensor]:
    """Of each image, (n,) bool each: proved to stand, and not known to fall, by any attack or by the verifier."""
    ends, known = outcomes(dataset, key)
    return known >= PROVED, torch.stack(list(ends.values())).all(0) & (known != REFUTED)


def _share(stands: Tensor, interval: bool = False) -> Cell:
    k, n = int(stands.sum()), len(stands)
    ends = " to ".join(f"{100 * end:.1f}" for end in clopper_pearson(k, n)) if interval else ""
    return (f"{100 * k / n:.1f}\u00a0%", ends, "")


def outcome_table(dataset: str) -> Grid:
    """A row for each defence: accuracy after each attack, in the worst case, not refuted, proved, and by bounds alone."""
    rows = []
    for key, row in ROWS[dataset].items():
        ends, known = outcomes(dataset, key)
        worst = torch.stack(list(ends.values())).all(0)
        low, high = bracket(dataset, key)
        cells = [_share(stands) for stands in ends.values()]
        cells += [_share(worst, True), _share(high), _share(low, True), _share(known == BOUNDED)]
        flags = results.get(f"all_against_all.{dataset}_{key}").flags
        rows.append((row.label, (*cells, (", ".join(flags) or "none", "", ""))))
    setting = SETTINGS[dataset]
    columns = (*LADDER, "worst case", "not refuted", "proved", "by bounds alone", "flags")
    return Grid(f"{setting.label}, {setting.budget}", columns, tuple(rows))


class Together(NamedTuple):
    """Two defences on the same images: how many each alone keeps, and whether that is chance."""

    gained: int  #: images that stand behind the first only
    lost: int  #: images that stand behind the second only
    p: float  #: of McNemar's exact test, two-sided


def paired(first: Tensor, second: Tensor) -> Together:
    """Compare two (n,) bool outcomes of the same images by McNemar's exact test.

    Guarantee: if both stand equally often and images are independent, ``p`` is below any level at most that often.
    Raises ValueError for outcomes of different length.
    """
    if first.shape != second.shape:
        raise ValueError(
            f"the outcomes are of {tuple(first.shape)} and {tuple(second.shape)} images; they must be the same ones"
        )
    gained, lost = int((first & ~second).sum()), int((second & ~first).sum())
    p = binomtest(gained, gained + lost).pvalue if gained + lost else 1.0
    return Together(gained, lost, float(p))


def pair_table(dataset: str) -> Grid:
    """Each pair beside the better of the two defences that it joins, image by image, in the worst case of all attacks."""
    rows = []
    worst = {key: torch.stack(list(outcomes(dataset, key)[0].values())).all(0) for key in ROWS[dataset]}
    for key, parts in PAIRS.items():
        better = max(parts, key=lambda part: int(worst[part].sum()))
        found = paired(worst[key], worst[better])
        cells = (_share(worst[key], True), (ROWS[dataset][better].label, "", ""), _share(worst[better], True))
        counts = ((str(found.gained), "", ""), (str(found.lost), "", ""), (f"{found.p:.2g}", "", ""))
        rows.append((ROWS[dataset][key].label, (*cells, *counts)))
    columns = ("pair", "better single", "alone", "images gained", "images lost", "p (McNemar)")
    return Grid(SETTINGS[dataset].label, columns, tuple(rows))


class Told(NamedTuple):
    """A paper's claim: the entry in its own setting, the entry that asks harder and how, and our rows for it."""

    label: str
    there: str
    harder: str
    how: str
    here: tuple[str, str] | None = None  #: data set and row


CLAIMS_OF_PAPERS = (
    Told(
        "Adversarial Spheres: a quadratic network's error rate",
        "adversarial_spheres.q100k_clt_inner",
        "adversarial_spheres.q100k_exact_inner",
        "exact, not by the normal law",
    ),
    Told(
        "Adversarial Spheres: largest mean distance to errors of measure 0.01",
        "adversarial_spheres.cap_500",
        "adversarial_spheres.ratio_quadratic",
        "of it reached by trained networks",
    ),
    Told(
        "Feature Squeezing: digits, attacks detected",
        "feature_squeezing.detected_mnist_joint",
        "feature_squeezing.evades_mnist_soft_any",
        "evade, at any distance, by an attack that knows it",
        ("mnist", "detector"),
    ),
    Told(
        "Feature Squeezing: photographs, attacks detected",
        "feature_squeezing.detected_cifar10_joint",
        "feature_squeezing.evades_cifar10_straight_through_any",
        "evade, at any distance, by an attack that knows it",
        ("cifar10", "detector"),
    ),
    Told(
        "ReLU stability: digits, proved robust at linf 0.1",
        "relu_stability.rs_provable",
        "relu_stability.rs_pgd",
        "stand under PGD: the gap is closed",
        ("mnist", "rs"),
    ),
    Told(
        "ReLU stability: photographs, proved robust at linf 2/255",
        "relu_stability.cifar_2_provable",
        "relu_stability.cifar_2_pgd",
        "stand under PGD: the gap is small",
        ("cifar10", "rs"),
    ),
    Told(
        "Random Mask: photographs, right under transferred PGD",
        "random_mask.50_from_resnet",
        "random_mask.50_white",
        "right under PGD that knows the network",
        ("cifar10", "mask"),
    ),
)


def claims_table() -> Grid:
    """What each paper claimed, in its own setting and asked harder, and what this chapter's rows for it keep."""
    rows = []
    for told in CLAIMS_OF_PAPERS:
        there, harder = results.get(told.there), results.get(told.harder)
        cells = [(there.show(), there.show("interval").strip("–"), there.show("paper").strip("–"))]
        cells.append((harder.show(), told.how, ""))
        if told.here is None:
            cells += [("", "", "")] * 2
        else:
            name = "all_against_all.{}_{}".format(*told.here)
            cells += [(e.show(), e.show("interval"), "") for e in (results.get(name), results.get(f"{name}_proved"))]
        rows.append((told.label, tuple(cells)))
    columns = ("in the paper's setting", "asked harder", "here: worst case", "here: proved")
    return Grid("the claim", columns, tuple(rows))
