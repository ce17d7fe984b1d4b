"""A picture of a table: ours as dots with their intervals, the paper's as open diamonds, a panel for each column."""

from __future__ import annotations

import math
import re
import textwrap
from collections.abc import Sequence
from typing import NamedTuple

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

BLUE, ORANGE = "#1f78c4", "#d9620a"  #: of the page's figures
NUMBER = re.compile(r"(?:10\^)?([-+]?[\d,]*\.?\d+)(?:\s?(?:%|×|s|times|percentage points|log10|errors?))?†?")
ABREAST, LABEL = 5, 34  #: panels beside each other; characters on a line of a row's label


class Dot(NamedTuple):
    """A number of ours, its interval, and the paper's; each may be missing."""

    ours: float | None
    interval: tuple[float, float] | None = None
    paper: float | None = None


class Panel(NamedTuple):
    """A column: its title, and a dot for each row. ``share`` says that it runs from 0 to 100."""

    title: str
    dots: tuple[Dot, ...]
    share: bool = False


def number(text: str) -> float | None:
    """The number that a cell shows, with the exponent standing for a power of ten; None where it shows none.

    >>> number("86.70 %"), number("10^−8.6"), number("1,572 ×"), number("two of three")
    (86.7, -8.6, 1572.0, None)
    """
    found = NUMBER.fullmatch(text.replace("−", "-").replace("\u00a0", " ").strip())
    return float(found[1].replace(",", "")) if found else None


def interval(text: str) -> tuple[float, float] | None:
    """The two ends of an interval as a cell shows it, "35–55" or "86.0 to 87.4"; None where it shows none."""
    ends = [number(end) for end in re.split(r" to |(?<=\d)–(?=\d)", text)]
    return (ends[0], ends[1]) if len(ends) == 2 and ends[0] is not None and ends[1] is not None else None


def dot(cell: Sequence[str]) -> Dot:
    """A cell of a table (ours, interval, paper's) as numbers."""
    return Dot(number(cell[0]), interval(cell[1]), number(cell[2]))


def counted(panels: Sequence[Panel]) -> tuple[int, int, int]:
    """How many numbers of ours, how many of these beside one of the paper, and how many of those have it in their interval."""
    dots = [d for panel in panels for d in panel.dots if d.ours is not None]
    both = [d for d in dots if d.paper is not None]
    within = [d for d in both if d.interval and d.paper is not None and d.interval[0] <= d.paper <= d.interval[1]]
    return len(dots), len(both), len(within)


def said(panels: Sequence[Panel]) -> str:
    """One sentence on the picture, for readers who do not see it."""
    ours, both, within = counted(panels)
    beside = f", {both} of them beside the paper's, which lies in our interval {within} times" if both else ""
    return f"Numbers of ours with their 95 % intervals, {ours}{beside}. The table under the picture lists them."


def _values(panel: Panel) -> list[float]:
    found = [v for d in panel.dots for v in (d.ours, d.paper, *(d.interval or ())) if v is not None]
    return [v for v in found if math.isfinite(v)]


def _draw(ax: Axes, panel: Panel, width: int) -> None:
    found = _values(panel)
    if panel.share:
        ax.set_xlim(-4, 104)
    elif min(found) > 0 and max(found) > 30 * min(found):
        ax.set_xscale("log")
    for row, d in enumerate(panel.dots):
        if d.interval:
            ax.plot(d.interval, (row, row), color=BLUE, lw=2.5, alpha=0.45, solid_capstyle="butt")
        if d.paper is not None:
            ax.plot(d.paper, row, "D", ms=6, mfc="none", mec=ORANGE, mew=1.6)
        if d.ours is not None:
            ax.plot(d.ours, row, "o", ms=5, color=BLUE)
    ax.set_ylim(len(panel.dots) - 0.5, -0.5)
    ax.set_title(textwrap.fill(panel.title, width), fontsize=9)
    ax.grid(axis="both", color="#dddddd", lw=0.6)
    ax.tick_params(labelsize=8, length=0)
    ax.spines[["top", "right", "left"]].set_visible(False)


def picture(labels: Sequence[str], panels: Sequence[Panel]) -> Figure:
    """The panels, at most five abreast, with the rows' labels at the left of each line. Raises ValueError without a number."""
    panels = [panel for panel in panels if _values(panel)]
    if not panels:
        raise ValueError("there is no number to draw: show the table itself")
    lines = math.ceil(len(panels) / ABREAST)
    abreast = math.ceil(len(panels) / lines)
    wrapped = [textwrap.fill(label, LABEL if abreast > 2 else 56) for label in labels]
    tall = sum(0.13 + 0.16 * (1 + text.count("\n")) for text in wrapped)
    figure = Figure((8.6, 0.45 + lines * (tall + 0.75)), layout="constrained")
    axes = figure.subplots(lines, abreast, sharey=True, squeeze=False)
    for ax in axes.flat[len(panels) :]:
        ax.set_visible(False)
    for ax, panel in zip(axes.flat, panels, strict=False):
        _draw(ax, panel, 90 // abreast)
    for line in axes:
        line[0].set_yticks(range(len(labels)), wrapped)
    marks = [Line2D([], [], color=BLUE, marker="o", lw=2.5, alpha=0.8, label="ours, 95 % interval")]
    if counted(panels)[1]:
        marks.append(Line2D([], [], color=ORANGE, marker="D", mfc="none", lw=0, label="the paper's"))
    figure.legend(handles=marks, loc="outside upper right", ncols=2, fontsize=8, frameon=False)
    return figure
