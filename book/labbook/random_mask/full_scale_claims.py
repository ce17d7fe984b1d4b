"""Claims of chapter 4 at the paper's width: networks of 64 channels, trained and attacked on a GPU, from stored evidence."""

from __future__ import annotations

import functools
import json
import math
from typing import Any

from ..results import Measurement, claim
from . import paper
from .claims import ROWS
from .full_scale import ATTACKS, WHITE, evidence

#: Sources whose cells are stored: what they are, and the paper's table of PGD 16 from them.
FULL_SOURCES = {"resnet18": ("ResNet-18", "resnet"), "vgg": ("six convolutions", "cnn")}
#: Targets by the names of the rows.
FULL_TARGETS = {"plain": "target", "50": "mask_50", "70": "mask_70", "90": "mask_90"}


@functools.cache
def _stored() -> dict[str, Any]:
    return json.loads(evidence().read_text())


def _cells(start: str, target: str, attacks: tuple[str, ...], printed: tuple[float, ...], at: str) -> Measurement:
    """The cells of a row, as columns, and the one at ``at`` as the value."""
    cells = [_stored()["cells"][f"{start} {attack} {target}"] for attack in attacks]
    low, high = zip(*(cell["interval"] for cell in cells), strict=True)
    ours, counts = [cell["accuracy"] for cell in cells], [float(cell["n"]) for cell in cells]
    series = {"ours": ours, "low": list(low), "high": list(high), "n": counts, "paper": list(printed)}
    k = attacks.index(at)
    return Measurement(ours[k], int(counts[k]), (low[k], high[k]), series=series)


def _width(key: str) -> str:
    return f"CIFAR-10, ResNet-18 at the paper's width, {ROWS[key].label}"


def _row(key: str, target: str) -> None:
    common: dict[str, Any] = {"digits": 1, "evidence": ["full_scale"], "tier": "gpu"}

    @claim(
        f"random_mask.full_{key}_test",
        f"{_width(key)}: accuracy on the test set",
        paper=paper.TABLE_8[key].test,
        where=f"{paper.PAPER}, Table 8",
        note="All 10,000 test images. One training of 15 epochs; the paper: 350, and the best of them on the test set.",
        **common,
    )
    def test(n: int | None = None) -> Measurement:
        card = _stored()["networks"][target]
        return Measurement(card["accuracy"], 10_000, tuple(card["accuracy_interval"]))

    for source, (label, table) in FULL_SOURCES.items():
        _transferred(key, target, source, label, table, common)

    printed = paper.TABLE_6.get(key)

    @claim(
        f"random_mask.full_{key}_white",
        f"{_width(key)}: accuracy under PGD of 8/255 that knows the network",
        paper=None if printed is None else printed[-1],
        where=f"{paper.PAPER}, Table 6",
        note="10 steps of 1/255 without a random start, on those of the first 5,000 test images that it gets right. The "
        "series has FGSM of 1, 2, 4 and PGD of 2, 4, 8 of 255.",
        **common,
    )
    def white(n: int | None = None) -> Measurement:
        return _cells("white", target, tuple(WHITE), printed or (math.nan,) * len(WHITE), "PGD 8")


# 6 parameters: a cell's row, column, and what all have in common.
def _transferred(key: str, target: str, source: str, label: str, table: str, common: dict[str, Any]) -> None:
    number, theirs, column = paper.SOURCES[table]

    @claim(
        f"random_mask.full_{key}_from_{source}",
        f"{_width(key)}: accuracy under PGD of 16/255 from {label}",
        paper=column[key],
        where=f"{paper.PAPER}, {number}, source {theirs}",
        note="20 steps of 1/255, in 8 bits, on those of the first 5,000 test images that the source gets right and then "
        "misses. The series has FGSM of 8 and 16, PGD of 16 and 32 of 255.",
        **common,
    )
    def transferred(n: int | None = None) -> Measurement:
        at = "PGD 16"
        printed = tuple(column[key] if attack == at else math.nan for attack in ATTACKS)
        return _cells(source, target, tuple(ATTACKS), printed, at)


if evidence().exists():
    for _key, _target in FULL_TARGETS.items():
        _row(_key, _target)
