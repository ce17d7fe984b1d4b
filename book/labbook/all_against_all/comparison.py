"""Chapter 5's tables: every row under every attack, and whether two defences together are better than either."""

from __future__ import annotations

from typing import NamedTuple

import torch
from scipy.stats import binomtest
from torch import Tensor

from advlab.evaluate import clopper_pearson

from .. import results
from ..tables import Cell, Grid
from .defences import ROWS, SETTINGS
from .ladder import ATTACKS, BOUNDED, PROVED, REFUTED

#: A pair of defences, and the two that it joins.
PAIRS = {
    "mask_adversarial": ("mask", "adversarial"),
    "adversarial_detector": ("adversarial", "detector"),
    "rs_detector": ("rs", "detector"),
    "mask_detector": ("mask", "detector"),
}


def outcomes(dataset: str, key: str) -> tuple[dict[str, Tensor], Tensor]:
    """Of each image: attack -> (n,) bool, whether it stands, and (n,) int64, what is proved of it. KeyError if not measured."""
    series = results.get(f"all_against_all.{dataset}_{key}").series
    known = results.get(f"all_against_all.{dataset}_{key}_proved").series["known"]
    return {name: torch.tensor(series[name]) > 0 for name in ATTACKS}, torch.tensor(known).long()


def _worst(stands: dict[str, Tensor]) -> Tensor:
    """Whether each image stands after every attack, (n,) bool."""
    return torch.stack(list(stands.values())).all(0)


def bracket(dataset: str, key: str) -> tuple[Tensor, Tensor]:
    """Of each image, (n,) bool each: proved to stand, and not known to fall, by any attack or by the verifier."""
    stands, known = outcomes(dataset, key)
    return known >= PROVED, _worst(stands) & (known != REFUTED)


def _share(stands: Tensor, interval: bool = False) -> Cell:
    k, n = int(stands.sum()), len(stands)
    shown = " to ".join(f"{100 * end:.1f}" for end in clopper_pearson(k, n)) if interval else ""
    return (f"{100 * k / n:.1f}\u00a0%", shown, "")


def outcome_table(dataset: str) -> Grid:
    """A row for each defence: accuracy after each attack, in the worst case, proved, and by bounds alone.

    There is a column of what the verifier did not refute, and one of flags, only where they say more than the others.
    """
    measured = {key: outcomes(dataset, key) for key in ROWS[dataset]}
    flags = {key: results.get(f"all_against_all.{dataset}_{key}").flags for key in ROWS[dataset]}
    refuted = any((_worst(stands) & (known == REFUTED)).any() for stands, known in measured.values())
    rows = []
    for key, (stands, known) in measured.items():
        low, high = bracket(dataset, key)
        cells = [*map(_share, stands.values()), _share(_worst(stands), True), *([_share(high)] if refuted else [])]
        cells += [_share(low, True), _share(known == BOUNDED)]
        cells += [(", ".join(flags[key]), "", "")] if any(flags.values()) else []
        rows.append((ROWS[dataset][key].label, tuple(cells)))
    setting = SETTINGS[dataset]
    columns = [*ATTACKS, "worst case", *(["not refuted"] if refuted else []), "proved", "by bounds"]
    return Grid(f"{setting.label}, {setting.budget}", (*columns, *(["flags"] if any(flags.values()) else [])), tuple(rows))


class Together(NamedTuple):
    """Two defences on the same images: how many each alone keeps, whether that is chance, and what is not excluded."""

    gained: int  #: images that stand behind the first only
    lost: int  #: images that stand behind the second only
    p: float  #: of McNemar's exact test, two-sided
    limits: tuple[float, float] = (-1.0, 1.0)  #: of the first one's lead, as a share of all images, at 95 %


def paired(first: Tensor, second: Tensor) -> Together:
    """Compare two (n,) bool outcomes of the same images by McNemar's exact test.

    Guarantee, for independent images: if both stand equally often, ``p`` is below any level at most that often; and ``limits``
    hold the true lead with probability 0.95 at least, since each of its two shares is in its exact interval with 0.975.
    Raises ValueError for outcomes of different length.
    """
    if first.shape != second.shape:
        raise ValueError(
            f"the outcomes are of {tuple(first.shape)} and {tuple(second.shape)} images; they must be the same ones"
        )
    gained, lost = int((first & ~second).sum()), int((second & ~first).sum())
    p = binomtest(gained, gained + lost).pvalue if gained + lost else 1.0
    (low, high), (least, most) = (clopper_pearson(k, len(first), 0.975) for k in (gained, lost))
    return Together(gained, lost, float(p), (low - most, high - least))


def pair_table(dataset: str) -> Grid:
    """Each pair beside the better of the two defences that it joins, image by image, in the worst case of all attacks."""
    rows = []
    worst = {key: _worst(outcomes(dataset, key)[0]) for key in ROWS[dataset]}
    for key, parts in PAIRS.items():
        better = max(parts, key=lambda part: int(worst[part].sum()))
        found = paired(worst[key], worst[better])
        cells = (_share(worst[key], True), (ROWS[dataset][better].label, "", ""), _share(worst[better], True))
        counts = ((str(found.gained), "", ""), (str(found.lost), "", ""), (f"{found.p:.2g}", "", ""))
        low, high = (f"{100 * end:+.1f}" for end in found.limits)
        counts += ((f"{100 * (found.gained - found.lost) / len(worst[key]):+.1f}", f"{low} to {high}", ""),)
        rows.append((ROWS[dataset][key].label, (*cells, *counts)))
    columns = ("pair", "better single", "alone", "images gained", "images lost", "p (McNemar)", "lead, points")
    return Grid(SETTINGS[dataset].label, columns, tuple(rows))


class PaperClaim(NamedTuple):
    """A paper's claim: the entry in its own setting, the entry that asks harder and how, and our rows for it."""

    label: str
    there: str
    harder: str
    how: str
    here: tuple[str, str] | None = None  #: data set and row


CLAIMS_OF_PAPERS = (
    PaperClaim(
        "Spheres: a network's error rate",
        "adversarial_spheres.q100k_clt_inner",
        "adversarial_spheres.q100k_exact_inner",
        "by the exact law",
    ),
    PaperClaim(
        "Spheres: largest distance to errors",
        "adversarial_spheres.cap_500",
        "adversarial_spheres.ratio_quadratic",
        "of it reached",
    ),
    PaperClaim(
        "Squeezing: digits, detected",
        "feature_squeezing.detected_mnist_joint",
        "feature_squeezing.evades_mnist_soft_any",
        "evade, at any distance",
        ("mnist", "detector"),
    ),
    PaperClaim(
        "Squeezing: photographs, detected",
        "feature_squeezing.detected_cifar10_joint",
        "feature_squeezing.evades_cifar10_straight_through_any",
        "evade, at any distance",
        ("cifar10", "detector"),
    ),
    PaperClaim(
        "Stability: digits, proved",
        "relu_stability.rs_provable",
        "relu_stability.rs_pgd",
        "stand under PGD",
        ("mnist", "rs"),
    ),
    PaperClaim(
        "Stability: photographs, proved",
        "relu_stability.cifar_2_provable",
        "relu_stability.cifar_2_pgd",
        "stand under PGD",
        ("cifar10", "rs"),
    ),
    PaperClaim(
        "Masks: photographs, after transfer",
        "random_mask.50_from_resnet",
        "random_mask.50_white",
        "in the white box",
        ("cifar10", "mask"),
    ),
)


def claims_table() -> Grid:
    """What each paper claimed, in its own setting and asked harder, and what this chapter's rows for it keep."""
    rows = []
    for paper in CLAIMS_OF_PAPERS:
        there, harder = results.get(paper.there), results.get(paper.harder)
        cells = [(there.show(), there.show("interval").strip("–"), there.show("paper").strip("–"))]
        cells.append((harder.show(), paper.how, ""))
        if paper.here is None:
            cells += [("", "", "")] * 2
        else:
            name = "all_against_all.{}_{}".format(*paper.here)
            cells += [(e.show(), e.show("interval"), "") for e in (results.get(name), results.get(f"{name}_proved"))]
        rows.append((paper.label, tuple(cells)))
    columns = ("their setting", "asked harder", "here, worst case", "here, proved")
    return Grid("the claim", columns, tuple(rows))
