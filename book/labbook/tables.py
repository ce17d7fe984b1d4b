"""Tables that notebooks show as HTML, and a terminal as text."""

from __future__ import annotations

import html
import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from . import dots
from .entries import UNCONFIRMED, Entry


@dataclass(frozen=True)
class Table:
    """Entries as a table that notebooks and pages show: paper, ours, interval, sample size, flags, why they differ.

    There is a column for the flags only where one of the entries has any.

    >>> from labbook.results import table
    >>> found = table("start_here", ["start_here.clean"])
    >>> found.head, len(found.rows())
    (('claim', 'paper', 'ours', '95 % interval', 'n', 'note'), 1)
    """

    entries: tuple[Entry, ...] = field(repr=False)

    @property
    def head(self) -> tuple[str, ...]:
        return ("claim", "paper", "ours", "95 % interval", "n", *(["flags"] if self._flagged else []), "note")

    @property
    def _flagged(self) -> bool:
        return any(e.flags for e in self.entries)

    def rows(self) -> list[tuple[str, ...]]:
        def row(e: Entry) -> tuple[str, ...]:
            flags = [", ".join(e.flags)] if self._flagged else []
            return (e.title, e.show("paper"), e.show(), e.show("interval"), e.show("n"), *flags, e.note)

        return [row(e) for e in self.entries]

    def __repr__(self) -> str:
        return _aligned([cells[:-1] for cells in [self.head, *self.rows()]])  # notes are too long for a line

    def _repr_html_(self) -> str:
        def row(cells: tuple[str, ...], tag: str) -> str:
            return "<tr>" + "".join(f"<{tag}>{_marked_up(cell)}</{tag}>" for cell in cells) + "</tr>"

        widths = [26, 10, 11, 15, 10, *([10] if self._flagged else [])]
        columns = "".join(f'<col style="width: {w}%">' for w in [*widths, 100 - sum(widths)])
        sources = [f"Paper: {e.where}." if e.where else "" for e in self.entries]
        rows = [(*cells[:-1], f"{cells[-1]} {source}".strip()) for cells, source in zip(self.rows(), sources, strict=True)]
        return (
            f'<table class="advlab-results fixed" style="table-layout: fixed; width: 100%"><colgroup>{columns}</colgroup>'
            f"<thead>{row(self.head, 'th')}</thead><tbody>{''.join(row(cells, 'td') for cells in rows)}</tbody></table>"
        )


def _aligned(lines: Sequence[Sequence[str]]) -> str:
    """Lines of cells as text, each column as wide as its widest cell."""
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join("  ".join(text.ljust(w) for text, w in zip(line, widths, strict=True)).rstrip() for line in lines)


def _marked_up(text: str) -> str:
    """The text in HTML, its powers of ten raised."""
    return re.sub(r"10\^(−?[\d.]+)", r"10<sup>\1</sup>", html.escape(text))


@dataclass(frozen=True)
class Plain:
    """A table of words, as HTML in a notebook and as text in a terminal.

    >>> Plain(("who", "value"), (("Ada", "1 %"), ("Bo", "20 %")))
    who  value
    Ada  1 %
    Bo   20 %
    """

    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...] = field(repr=False)

    def __repr__(self) -> str:
        return _aligned([self.head, *self.rows])

    def _repr_html_(self) -> str:
        def row(cells: tuple[str, ...], tag: str) -> str:
            return "<tr>" + "".join(f"<{tag}>{_marked_up(cell)}</{tag}>" for cell in cells) + "</tr>"

        body = "".join(row(cells, "td") for cells in self.rows)
        return f'<table class="advlab-results"><thead>{row(self.head, "th")}</thead><tbody>{body}</tbody></table>'


Cell = tuple[str, str, str]  #: ours, the interval, the paper's


def cell(entry: Entry) -> Cell:
    """An entry as a cell; empty where there is no interval, or no number of a paper.

    >>> from labbook.results import get
    >>> cell(get("start_here.noise"))[2]  # no paper has this number
    ''
    """
    return (
        entry.show(),
        "" if entry.interval is None else entry.show("interval"),
        "" if entry.paper is None else entry.show("paper"),
    )


@dataclass(frozen=True)
class Grid:
    """A table of cells that a notebook shows as HTML, and a terminal as text: ours (paper's).

    A picture of it leaves out the columns ``undrawn``, whose numbers say nothing as dots.

    >>> Grid("attack", ("plain", "masked"), (("PGD", (("3 %", "1 to 8 %", "0 %"), ("40 %", "30 to 50 %", ""))),))
    attack  plain      masked
    PGD     3 % (0 %)  40 %
    """

    corner: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, tuple[Cell, ...]], ...] = field(repr=False)
    undrawn: tuple[str, ...] = ()

    def __repr__(self) -> str:
        lines = [(self.corner, *self.columns)]
        lines += [(name, *(f"{ours} ({theirs})" if theirs else ours for ours, _, theirs in cells)) for name, cells in self.rows]
        return _aligned(lines)

    def _repr_html_(self) -> str:
        def shown(cell: Cell) -> str:
            ours, interval, theirs = map(_marked_up, cell)
            small = [interval] * bool(interval) + [f"<i>{theirs}</i>"] * bool(theirs)
            return f"<td><b>{ours}</b>{''.join(f'<br><small>{text}</small>' for text in small)}</td>"

        cells = [cell for _, row in self.rows for cell in row]
        said = ["Bold: ours."] + ["Small: 95 % interval."] * any(interval for _, interval, _ in cells)
        said += ["Italic: the paper's."] * any(theirs for _, _, theirs in cells)
        said += [f"{UNCONFIRMED}: unconfirmed."] * any(UNCONFIRMED in theirs for _, _, theirs in cells)
        head = "".join(f"<th>{html.escape(c)}</th>" for c in (self.corner, *self.columns))
        body = "".join(f"<tr><th>{html.escape(name)}</th>{''.join(map(shown, cells))}</tr>" for name, cells in self.rows)
        return (
            '<div style="overflow-x: auto"><table class="advlab-results cells">'
            f"<caption>{' '.join(said)}</caption>"
            f"<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"
        )


def _panels(found: Table | Grid) -> tuple[list[str], list[dots.Panel]]:
    """The labels of a table's rows, and a panel for each column that has numbers; of claims, one for all of a kind."""
    if isinstance(found, Grid):
        columns = zip(*(cells for _, cells in found.rows), strict=True)
        panels = []
        for name, column in zip(found.columns, columns, strict=True):
            if name in found.undrawn:
                continue
            ours = [text for text, _, _ in column if dots.number(text) is not None]
            share = "%" in found.corner + name or all("%" in text for text in ours)
            panels.append(dots.Panel(name, tuple(map(dots.dot, column)), share))
        return [name for name, _ in found.rows], [p for p in panels if any(d.ours is not None for d in p.dots)]
    units = list(dict.fromkeys(e.unit for e in found.entries))
    names = {"%": "%", "log10": "power of ten", "": "number"}
    shown = [dots.dot(cell(e)) for e in found.entries]
    panels = [
        dots.Panel(
            names.get(unit, unit),
            tuple(d if e.unit == unit else dots.Dot(None) for e, d in zip(found.entries, shown, strict=True)),
            unit == "%",
        )
        for unit in units
    ]
    return [e.title for e in found.entries], panels


@dataclass(frozen=True)
class Folded:
    """A table that opens on a click, and stands open on paper and in a terminal."""

    table: Table | Grid

    def __repr__(self) -> str:
        return repr(self.table)

    def _repr_html_(self) -> str:
        return f'<details class="advlab-table"><summary>The numbers</summary>{self.table._repr_html_()}</details>'


@dataclass(frozen=True)
class Compared:
    """What :func:`compared` returns; a notebook shows the picture, and the table folded under it."""

    table: Table | Grid
    alt: str

    def __repr__(self) -> str:
        return repr(self.table)

    def _ipython_display_(self) -> None:
        from IPython.display import display

        from .live.figure import Still

        display(Still(dots.picture(*_panels(self.table)), self.alt), Folded(self.table))


def compared(found: Table | Grid, alt: str = "") -> Compared:
    """A dot plot of ours, its interval and the paper's for each number of a table, with the table folded under it.

    ``alt`` describes the picture; without it the counts do. Raises ValueError where the table has no number.

    >>> from labbook.results import table
    >>> compared(table("start_here", ["start_here.clean", "start_here.noise"])).alt[:48]
    'Numbers of ours with their 95 % intervals, 2, 1 '
    """
    _, panels = _panels(found)
    if not dots.counted(panels)[0]:
        raise ValueError("this table has no number to draw: show the table itself")
    return Compared(found, alt or dots.said(panels))
