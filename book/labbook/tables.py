"""Tables that notebooks show as HTML, and a terminal as text."""

from __future__ import annotations

import html
import re
from collections.abc import Sequence
from dataclasses import dataclass, field

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

    >>> Grid("attack", ("plain", "masked"), (("PGD", (("3 %", "1 to 8 %", "0 %"), ("40 %", "30 to 50 %", ""))),))
    attack  plain      masked
    PGD     3 % (0 %)  40 %
    """

    corner: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, tuple[Cell, ...]], ...] = field(repr=False)

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
