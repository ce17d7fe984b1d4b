"""The paper's Tables 2, 3 and 4 as grids: our number, its interval, and the paper's below, all from the manifest."""

from __future__ import annotations

import math

from .. import results
from ..tables import Cell, Grid
from . import paper
from .claims import MEASURES, slug
from .imagenet_examples import NAMES as IMAGENET
from .measuring import NAMES

#: Tables of the paper: the rows of each data set, and those of ImageNet, beside which two networks of ours stand.
PRINTED = {
    2: (paper.TABLE_2, paper.IMAGENET_2),
    3: (paper.TABLE_3, paper.IMAGENET_3),
    4: (paper.TABLE_4, paper.IMAGENET_4),
}


def _printed(table: int, dataset: str) -> dict[str, tuple[float, ...]]:
    rows, imagenet = PRINTED[table]
    return imagenet if dataset in IMAGENET else rows[dataset]  # pyrefly: ignore[bad-return]


def _name(dataset: str) -> str:
    return f"ImageNet, {IMAGENET[dataset]}" if dataset in IMAGENET else NAMES[dataset]


def _attacks(dataset: str) -> list[str]:
    """The attacks that were run: on ImageNet these need not be all. Raises KeyError for none."""
    known, ids = results.load("feature_squeezing"), {a: _attack(dataset, a) for a in _printed(2, dataset)}
    return [attack for attack, id in ids.items() if id in known] or [results.get(id).id for id in ids.values()]


def _attack(dataset: str, attack: str) -> str:
    return f"feature_squeezing.attack_{dataset}_{slug(attack)}"


def _percent(v: float) -> str:
    return "–" if math.isnan(v) else f"{100 * v:.0f}"


def _plain(v: float) -> str:
    return "–" if math.isnan(v) else f"{v:.3f}" if v < 10 else f"{v:.0f}"


def _range(low: float, high: float) -> str:
    return "" if math.isnan(low) else f"{_percent(low)}–{_percent(high)}"


def attacks_table(dataset: str) -> Grid:
    """Table 2: how good each attack is on ``dataset``. Raises KeyError if it was not measured.

    ``dataset`` is "mnist", "cifar10", or the network on ImageNet: "lite0", "mobilenet".
    """
    rows = []
    for attack in _attacks(dataset):
        entry = results.get(_attack(dataset, attack))
        ours, theirs = entry.series["ours"], entry.series["paper"]
        interval = _range(*entry.interval) if entry.interval else ""
        first = (_percent(ours[0]), interval, _percent(theirs[0]))
        rows.append((attack, (first, *((_plain(a), "", _plain(b)) for a, b in zip(ours[1:], theirs[1:], strict=True)))))
    return Grid(f"{_name(dataset)}, 100 seeds", ("success, %", *MEASURES[1:]), tuple(rows))


def _cells(entry: results.Entry) -> list[Cell]:
    columns = (entry.series[name] for name in ("ours", "low", "high", "paper"))
    return [(_percent(ours), _range(low, high), _percent(theirs)) for ours, low, high, theirs in zip(*columns, strict=True)]


def _overall(entry: results.Entry) -> Cell:
    interval = _range(*entry.interval) if entry.interval else ""
    return (_percent(entry.value), interval, "" if entry.paper is None else _percent(entry.paper))


def accuracy_table(dataset: str) -> Grid:
    """Table 3: accuracy behind each squeezer, in per cent. Raises KeyError if it was not measured."""
    rows = []
    for name in _printed(3, dataset):
        entry = results.get(f"feature_squeezing.squeezed_{dataset}_{slug(name)}")
        *cells, legitimate = _cells(entry)
        rows.append((name, (_overall(entry), legitimate, *cells)))
    return Grid(f"{_name(dataset)}, accuracy %", ("all", "clean", *_attacks(dataset)), tuple(rows))


def detection_table(dataset: str) -> Grid:
    """Table 4: detection of successful adversarial images by each detector, in per cent. Raises KeyError as the others."""
    rows = []
    for name in _printed(4, dataset):
        entry = results.get(f"feature_squeezing.detected_{dataset}_{slug(name)}")
        level = (f"{entry.series['threshold'][0]:.4f}", "", f"{entry.series['paper_threshold'][0]:.4f}")
        rows.append((name, (_overall(entry), level, *_cells(entry))))
    columns = ("all", "threshold", *_attacks(dataset))
    return Grid(f"{_name(dataset)}, detected %", columns, tuple(rows), undrawn=("threshold",))
