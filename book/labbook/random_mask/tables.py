"""Chapter 4's tables: our numbers, their intervals and the paper's, all from the manifest."""

from __future__ import annotations

import math

from advlab.recipes.masking import ARMS

from .. import results
from ..tables import Cell, Grid, cell
from . import paper
from .claims import COLUMNS, GRAY, MADRY, ROWS, SOURCES, SURROGATES
from .defence_claims import DEFENCES, LADDER
from .full_scale_claims import FULL_SOURCES, FULL_TARGETS
from .meaning_claims import BUDGETS, CONTROLS, MAKERS


def _percent(v: float) -> str:
    return "" if math.isnan(v) else f"{100 * v:.1f}"


def _range(low: float, high: float) -> str:
    return f"{_percent(low)} to {_percent(high)}"


def _cell(id: str) -> Cell:
    return cell(results.get(f"random_mask.{id}"))


def _series(id: str) -> list[Cell]:
    """The cells of a claim whose series has the columns ours, low, high and paper, in per cent."""
    series = results.get(f"random_mask.{id}").series
    columns = zip(*(series[name] for name in ("ours", "low", "high", "paper")), strict=True)
    return [
        (_percent(ours), "" if math.isnan(ours) else _range(low, high), _percent(theirs)) for ours, low, high, theirs in columns
    ]


def drop_table() -> Grid:
    """The drop ratio: clean accuracy, PGD of 16/255 from each source, and PGD of 8/255 that knows the network."""
    names = ["test", *(f"from_{kind}" for kind in SOURCES), "white"]
    rows = [(ROWS[key].label, tuple(_cell(f"{key}_{name}") for name in names)) for key in ("plain", "50", "70", "90")]
    columns = ("clean", *(f"PGD 16 from {source.label}" for source in SOURCES.values()), "PGD 8, white box")
    return Grid("accuracy", columns, tuple(rows))


def width_table() -> Grid:
    """The drop ratio at the paper's width: clean accuracy, PGD of 16/255 from two sources, PGD of 8/255 in the white box."""
    names = ["test", *(f"from_{source}" for source in FULL_SOURCES), "white"]
    rows = [(ROWS[key].label, tuple(_cell(f"full_{key}_{name}") for name in names)) for key in FULL_TARGETS]
    columns = ("clean", *(f"PGD 16 from {label}" for label, _ in FULL_SOURCES.values()), "PGD 8, white box")
    return Grid("accuracy", columns, tuple(rows))


def kinds_table(kind: str = "densenet") -> Grid:
    """All attacks of one source on all kinds of masks."""
    rows = [(row.label, (_cell(f"{key}_test"), *_series(f"{key}_from_{kind}"))) for key, row in ROWS.items()]
    return Grid(f"accuracy %, source {SOURCES[kind].label}", ("clean", *COLUMNS), tuple(rows))


def madry_table() -> Grid:
    """The black-box setting of Madry et al.: a source without masks, budgets of 8/255."""
    rows = [(row.label, tuple(_series(f"{key}_madry"))) for key, row in MADRY.items()]
    return Grid(f"accuracy %, source {SOURCES['resnet'].label}", ("FGSM 8", "PGD 8, 7 steps", "clean"), tuple(rows))


def surrogates_table() -> Grid:
    """What an attacker has instead of the masked network, from little to much: PGD of 8/255."""
    rows = [(ROWS[key].label, tuple(_series(f"surrogates_{key}"))) for key in SURROGATES]
    return Grid("accuracy %, PGD 8 from", tuple(SURROGATES["50"]), tuple(rows))


def gray_table() -> Grid:
    """Sources of the same kinds, with other masks and seeds: FGSM and PGD of 16/255."""
    rows = [(f"source: {source.label}", tuple(_series(f"gray_{kind}"))) for kind, source in GRAY.items()]
    columns = [f"{attack}, {ROWS[key].label}" for attack in ("FGSM 16", "PGD 16") for key in ("plain", "50", "70")]
    return Grid("accuracy %", tuple(columns), tuple(rows))


def white_table() -> Grid:
    """Attacks that know the network, on the images that it gets right."""
    rows = [(row.label, tuple(_series(f"{key}_white"))) for key, row in ROWS.items()]
    return Grid("accuracy %", paper.WHITE_BOX, tuple(rows))


def symmetry_table() -> Grid:
    """The arms of the experiment on symmetry: clean accuracy, error of shifts, gray box, transfer from plain networks."""
    rows = []
    for arm, (label, _) in ARMS.items():
        gray = results.get(f"random_mask.arm_{arm}")
        clean, error = (sum(gray.series[name]) / len(gray.series[name]) for name in ("clean", "asymmetry"))
        transfer = _cell("arm_plain" if arm == "plain" else f"arm_{arm}_from_plain")
        rows.append((label, ((_percent(clean), "", ""), (f"{error:.2f}", "", ""), _cell(f"arm_{arm}"), transfer)))
    return Grid(
        "ResNet-8, three trainings", ("clean, %", "error of shifts", "from the same arm", "from plain networks"), tuple(rows)
    )


def defences_table() -> Grid:
    """Attacks, the weakest knowledge first, against defences; the last column is what is left after all of them."""
    rows = [(defence.label, tuple(_series(f"defence_{key}"))) for key, defence in DEFENCES.items()]
    return Grid("accuracy %, ℓ∞ 8/255", (*LADDER[:-1], "after all, and AutoAttack"), tuple(rows))


def turned_table() -> Grid:
    """The share of images that the panel takes for another class, by budget, and at the least budget that fools the maker."""
    rows = []
    for key, label in ({key: label for key, (label, _) in MAKERS.items()} | CONTROLS).items():
        series = results.get(f"random_mask.turned_{key}").series
        columns = zip(*(series[name] for name in ("turned", "low", "high")), strict=True)
        cells: list[Cell] = [(_percent(v), _range(low, high), "") for v, low, high in columns]
        rows.append((label, (*cells, _cell(f"turned_{key}_least") if key in MAKERS else ("", "", ""))))
    return Grid("turned, %", (*(f"{b}/255" for b in BUDGETS), "least that fools"), tuple(rows))
