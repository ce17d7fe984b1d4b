"""An entry of the manifest: a number with all that is needed to believe or repeat it; and where the manifest is."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass, field
from pathlib import Path


def folder() -> Path:
    """The manifest's folder: ``$ADVLAB_RESULTS``, or ``book/results`` of the nearest folder above that has one.

    >>> folder().relative_to(folder().parents[1]).as_posix()
    'book/results'
    """
    if told := os.environ.get("ADVLAB_RESULTS"):
        return Path(told)
    for start in (Path.cwd(), Path(__file__).resolve().parent):
        for place in (start, *start.parents):
            if (place / "book" / "results").is_dir():
                return place / "book" / "results"
    raise FileNotFoundError("there is no book/results here or above: run this inside a checkout of the book")


@dataclass(frozen=True)
class Measurement:
    """What a claim's function returns: our value, the sample size, and an interval if there is one.

    ``flags`` are the ids of the honesty flags that were raised (:data:`advlab.evaluate.FLAGS`). ``series`` is for a
    claim whose evidence is a curve or a scatter: columns of one length, by name.

    >>> Measurement(0.75, n=4, interval=(0.19, 0.99), series={"eps": [0.1, 0.2], "accuracy": [0.75, 0.5]}).series["eps"]
    [0.1, 0.2]
    """

    value: float
    n: int | None = None
    interval: tuple[float, float] | None = None
    flags: tuple[str, ...] = ()
    series: dict[str, list[float]] = field(default_factory=dict)


UNCONFIRMED = "†"  #: at a number of a paper that others quote, and that we did not find in a text that we could read


@dataclass(frozen=True)
class Entry:
    """One line of the manifest. ``paper`` is None where no paper gives a number; ``where`` says where the paper's stands, and
    ends with :data:`UNCONFIRMED` if we could not see it there.

    ``unit`` is a unit's name, or "%" for a share in [0, 1], or "log10" for the log10 of a probability or a rate, shown
    as a power of ten; its -inf says that the rate is 0, which only a proof can give.

    >>> from labbook.results import get
    >>> entry = get("start_here.clean")
    >>> entry.unit, entry.paper, entry.show("n")
    ('%', 0.9943, '10,000')
    """

    id: str
    title: str
    value: float
    n: int | None
    interval: tuple[float, float] | None
    paper: float | None
    where: str | None
    unit: str
    digits: int
    note: str
    tier: str
    command: str
    code: str
    inputs: dict[str, str]
    version: str
    date: str
    cpu_seconds: float
    flags: tuple[str, ...] = ()
    series: dict[str, list[float]] = field(default_factory=dict, repr=False)
    machine: dict[str, str | int] = field(default_factory=dict)  #: :func:`machine`; nothing in entries from before it
    over: str = ""  #: what the interval is over, such as "3 trainings"; "" for the n examples

    def show(self, what: str = "value") -> str:
        """The number for a reader: ``what`` is "value", "interval", "paper", "n" or "full".

        Raises ValueError for another ``what``.
        """
        if what == "value":
            return _number(self.value, self.unit, self.digits)
        if what == "interval":
            if self.interval is None or self.interval == (-math.inf, math.inf):  # nothing is known of one value
                return "–"
            low, high = (_number(v, self.unit, self.digits, bare=True) for v in self.interval)
            return f"{low} to {high}"
        if what == "paper":
            sign = UNCONFIRMED if self.where and self.where.endswith(UNCONFIRMED) else ""
            return "–" if self.paper is None else _number(self.paper, self.unit, self.digits) + sign
        if what == "n":
            return self.over or ("–" if self.n is None else f"{self.n:,}")
        if what == "full":
            over, interval = self.show("n"), self.show("interval")
            details = [self.over or f"n = {over}"] if over != "–" else []
            details += [f"95 % interval {interval}"] if interval != "–" else []
            return self.show() + (f" ({', '.join(details)})" if details else "")
        raise ValueError(f"{what!r} is not a part of an entry; there are value, interval, paper, n, full")


def _number(value: float, unit: str, digits: int, bare: bool = False) -> str:
    if unit == "%":
        return f"{100 * value:.{digits}f}" + ("" if bare else "\u00a0%")
    if unit == "log10":
        zero = "0" if bare else "0 (proved)"
        return zero if value == -math.inf else f"10^{value:.{digits}f}".replace("-", "−")
    return f"{value:.{digits}f}" + (f"\u00a0{unit}" if unit and not bare else "")
