"""The chapter's tables: a row for each network, our numbers, their intervals and the paper's, all from the manifest."""

from __future__ import annotations

import math
from collections.abc import Iterable

from advlab import zoo
from advlab.evaluate import clopper_pearson

from .. import results
from ..entries import UNCONFIRMED
from ..tables import Cell, Grid, cell
from .claims import QUANTILES, ROWS
from .inside_claims import NETWORKS
from .paper import ABLATION, OTHERS, STEPS
from .sweep_claims import STRUCTURES


def _cell(id: str) -> Cell:
    return cell(results.get(f"relu_stability.{id}"))


def _count(value: float) -> Cell:
    return (f"{value:,.0f}", "", "")


def _printed(value: float | None, unit: str = "%") -> str:
    """A number of the paper's in the form of a table, or nothing."""
    if value is None:
        return ""
    return f"{100 * value:.2f}\u00a0%" if unit == "%" else f"{value:,.2f}\u00a0{unit}"


def _not_run(value: float | None, unit: str = "%", sign: str = "") -> Cell:
    return ("not run", "", _printed(value, unit) + sign * (value is not None))


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


def _steps(network: str) -> str:
    card = zoo.card(zoo.recipe(network).start or network)
    return f"{card['epochs'] * math.ceil(card['training_examples'] / card['batch_size']):,}"


def others_table() -> Grid:
    """The network with all levers for other budgets and for CIFAR-10: training steps, accuracies, times, unstable units.

    Beside our steps stand those of the independent reproduction, which has the paper's epochs.
    """
    rows = []
    for key, (place, printed, where) in OTHERS.items():
        steps = f"{STEPS[place.partition(',')[0]]:,}"
        if key in ROWS:
            times = _times(key)
            first = ((_steps(ROWS[key].network), "", steps), (f"{ROWS[key].limit:g}\u00a0s", "", ""))
            rows.append((place, (*first, *_accuracy(key)[:5], times[0], times[3], times[6])))
            continue
        sign = UNCONFIRMED if where.endswith(UNCONFIRMED) else ""
        cells = [_not_run(share, sign=sign) for share in (printed.test, printed.pgd, printed.upper, printed.provable)]
        cells = [
            ("not run", "", steps),
            ("", "", ""),
            *cells[:2],
            ("", "", ""),
            *cells[2:],
            _not_run(printed.seconds, "s", sign),
        ]
        rows.append((place, (*cells, ("", "", ""), ("", "", ""))))
    columns = ("training steps", "time-out", *_ACCURACY[:5], "mean time", "not decided", "unstable, CROWN")
    return Grid("all levers", columns, tuple(rows))


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
