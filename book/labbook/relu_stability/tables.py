"""The chapter's tables: a row for each network, our numbers, their intervals and the paper's, all from the manifest."""

from __future__ import annotations

import math
from collections.abc import Iterable

from advlab.evaluate import clopper_pearson

from .. import results
from ..tables import Cell, Grid, cell
from .claims import QUANTILES, ROWS
from .inside_claims import NETWORKS
from .paper import ABLATION
from .sweep_claims import STRUCTURES
from .trainings import ABLATION as LEVERS
from .trainings import ROWS as TRAININGS


def _cell(id: str) -> Cell:
    return cell(results.get(f"relu_stability.{id}"))


def _count(value: float) -> Cell:
    return (f"{value:,.0f}", "", "")


def _printed(value: float | None, unit: str = "%") -> str:
    """A number of the paper's in the form of a table, or nothing."""
    if value is None:
        return ""
    return f"{100 * value:.2f}\u00a0%" if unit == "%" else f"{value:,.2f}\u00a0{unit}"


def _not_run(value: float | None, unit: str = "%") -> Cell:
    return ("not run", "", _printed(value, unit))


def _accuracy(key: str) -> tuple[Cell, ...]:
    proof = results.get(f"relu_stability.{key}_provable")
    assert proof.n is not None
    left = int(proof.n - sum(proof.series["counterexample"]))
    ends = " to ".join(f"{100 * end:.2f}" for end in clopper_pearson(left, proof.n))
    cells = [_cell(f"{key}_{name}") for name in ("test", "pgd", "provable", "interval")]
    cells.insert(2, (f"{100 * left / proof.n:.2f}\u00a0%", ends, _printed(ROWS[key].paper.upper)))
    cells.insert(2, (f"{proof.n:,}", "", ""))
    return tuple(cells)


def _times(key: str) -> tuple[Cell, ...]:
    entry = results.get(f"relu_stability.{key}_seconds")
    at = dict(zip(QUANTILES, entry.series["seconds"], strict=True))
    proof = results.get(f"relu_stability.{key}_provable")
    naive, tight = (results.get(f"relu_stability.{key}_unstable{end}") for end in ("", "_crown"))
    seconds = [("never" if math.isinf(at[q]) else f"{at[q]:.3f}\u00a0s", "", "") for q in (0.5, 0.99)]
    counts = (sum(proof.series["unknown"]), sum(naive.series["units"]), naive.value, tight.value)
    return (_cell(f"{key}_seconds"), *seconds, *map(_count, counts))


_ACCURACY = ("clean", "attacked (PGD)", "images verified", "not broken", "proved robust", "proved by intervals alone")
_TIMES = ("mean time", "median", "99 of 100", "not decided", "ReLUs left", "unstable, intervals", "unstable, CROWN")


def accuracy_table(keys: tuple[str, ...] = tuple(ABLATION)) -> Grid:
    """Accuracy: on clean images, attacked, not broken, proved, proved by intervals alone. Raises KeyError if not measured."""
    rows = []
    for key in keys:
        if key in ROWS:
            rows.append((ROWS[key].label, _accuracy(key)))
            continue
        printed = ABLATION[key]
        cells = [*map(_not_run, (printed.test, printed.pgd, printed.upper, printed.provable, None))]
        rows.append((printed.label, (*cells[:2], ("", "", ""), *cells[2:])))
    return Grid("MNIST, linf 0.1", _ACCURACY, tuple(rows))


def times_table(keys: tuple[str, ...] = tuple(ABLATION)) -> Grid:
    """CPU seconds an image, time-outs, ReLUs that are not pruned, and how many of them are unstable by two kinds of bounds."""
    rows = []
    for key in keys:
        if key in ROWS:
            rows.append((ROWS[key].label, _times(key)))
        else:
            rows.append((ABLATION[key].label, (_not_run(ABLATION[key].seconds, "s"), *[("", "", "")] * 6)))
    return Grid("MNIST, linf 0.1", _TIMES, tuple(rows))


_TRAINED = ("trainings", "images verified", "CPU time of one", "clean", "attacked (PGD)", "proved robust", "least to greatest")
_TRAINED += ("not decided", "proved by intervals", "mean time", "unstable, CROWN")


def trained_table(keys: Iterable[str] | None = None) -> Grid:
    """Means over trainings that differ in their seed, with intervals over trainings; by default those of other budgets."""
    rows, keys = [], list(TRAININGS if keys is None else keys)
    places = {(TRAININGS | LEVERS)[key].place for key in keys}
    for key in keys:
        row = (TRAININGS | LEVERS)[key]
        label = row.label if len(places) > 1 else row.paper.label
        if f"relu_stability.{key}_provable" not in results.load("relu_stability"):
            printed = map(_not_run, (row.paper.test, row.paper.pgd, row.paper.provable))
            rows.append((label, (_count(0), *[("", "", "")] * 2, *printed, *[("", "", "")] * 5)))
            continue
        each = results.get(f"relu_stability.{key}_provable").series["each"]
        ends = f"{100 * min(each):.1f} to {100 * max(each):.1f}\u00a0%"
        in_one_go = f"relu_stability.{key}_training" in results.load("relu_stability")
        cells = [_cell(f"{key}_training") if in_one_go else ("in two parts", "", "")]
        cells += [_cell(f"{key}_{name}") for name in ("test", "pgd", "provable")]
        cells += [(ends, "", ""), *(_cell(f"{key}_{name}") for name in ("undecided", "intervals", "verifying", "open"))]
        counts = (_count(len(each)), _count(10_000 / row.every))
        rows.append((label, (*counts, *cells)))  # pyrefly: ignore[bad-argument-type]
    return Grid("recipe" if len(places) > 1 else places.pop(), _TRAINED, tuple(rows), undrawn=_TRAINED[:2])


def units_table() -> Grid:
    """What the units of each network do, of 4,804 in the full width; the channels that are alive; the first filters."""
    rows = []
    for key, (label, _) in NETWORKS.items():
        live, seen = (results.get(f"relu_stability.{key}_{name}") for name in ("live", "behaviour"))
        channels = " + ".join(f"{v:.0f}" for v in live.series["channels"])
        counts = [sum(seen.series[name]) for name in ("constant", "on", "off", "switching")]
        switched = results.get(f"relu_stability.{key}_switched")
        ends = [(f"{switched.value:.0f}", "", ""), _cell(f"{key}_weights"), _cell(f"{key}_energy")]
        rows.append((label, ((channels, "", ""), *map(_count, counts), *ends)))
    columns = ("live channels", "constant", "always on", "always off", "switching", "switched by an attack")
    columns += ("weights of the first layer", "their energy at low frequencies")
    return Grid("ReLUs over 1,000 images", columns, tuple(rows))


def probes_table() -> Grid:
    """What a linear map reads off the last ReLU layer: the digit, and the share explained of ink, slant and pixels."""
    rows = []
    for key, (label, _) in NETWORKS.items():
        entry = results.get(f"relu_stability.{key}_probe")
        shares = [(f"{100 * entry.series[name][-1]:.1f}\u00a0%", "", "") for name in ("ink", "slant", "image")]
        rows.append((label, (_cell(f"{key}_probe"), *shares)))
    return Grid("last ReLU layer", ("digit", "ink", "slant", "all pixels"), tuple(rows))


_SWEEP = ("clean", "proved", "not decided", "live ReLUs", "unstable, intervals", "unstable, CROWN", "mean time")


def sweep_row(id: str, label: str, chapter: str = "relu_stability") -> tuple[str, tuple[Cell, ...]]:
    """A row for a network after the small training: accuracy, verdicts, units, and the mean time."""
    entry = results.get(f"{chapter}.{id}")
    seen = {name: column[0] for name, column in entry.series.items()}
    shares = [(f"{100 * seen[name]:.1f}\u00a0%", "", "") for name in ("test", "proved")]
    counts = map(_count, (seen["unknown"], seen["live"], seen["naive"], seen["crown"]))
    return (label, (*shares, *counts, (entry.show(), entry.show("interval"), "")))


def sweep_table(rows: Iterable[tuple[str, tuple[Cell, ...]]] | None = None) -> Grid:
    """Networks of other shapes after a small training, without and with the RS loss; or other ``rows`` like them."""
    if rows is None:
        ends = (("", ""), ("_rs", ", RS loss"))
        rows = [sweep_row(f"sweep_{key}{end}", label + more) for key, (label, _) in STRUCTURES.items() for end, more in ends]
    return Grid("100 images, linf 0.1", _SWEEP, tuple(rows))
