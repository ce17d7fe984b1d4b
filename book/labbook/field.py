"""The field as of one day: the records of ``book/field.toml``, a table for each chapter.

Nothing here is measured: these are numbers of others, each with who, when, and how we know.
"""

from __future__ import annotations

import datetime
import functools
import tomllib
from pathlib import Path
from typing import Any

from .registry import CHAPTERS
from .tables import Plain

FILE = Path(__file__).resolve().parents[1] / "field.toml"
KEYS = ("chapter", "what", "value", "who", "when", "how", "source")
HOW = {"read": "read", "abstract": "abstract only"}  #: how we know -> in words
DAYS = 274  #: after nine months it is time to look again


def read(text: str) -> dict[str, Any]:
    """The file's ``date`` and ``record``, a list. Raises ValueError for what is not as its head says, with the record."""
    found = tomllib.loads(text)
    if type(found.get("date")) is not datetime.date:
        raise ValueError(f"the date is {found.get('date')!r}; it must be a day, such as 2026-11-27, without quotes")
    for record in found.get("record", []):
        if tuple(record) != KEYS or record["chapter"] not in CHAPTERS or record["how"] not in HOW:
            raise ValueError(f"{record}: it must have {', '.join(KEYS)}, a chapter, and how one of {', '.join(HOW)}")
        if type(record["when"]) is not int or not 2000 < record["when"] <= found["date"].year:
            raise ValueError(f"{record}: when must be a year, not after the file's date")
    return found


@functools.cache
def field() -> dict[str, Any]:
    """What the file holds, read once."""
    return read(FILE.read_text())


def old(date: datetime.date, today: datetime.date) -> bool:
    """Whether records of ``date`` are older than nine months.

    >>> old(datetime.date(2026, 1, 1), datetime.date(2026, 9, 1)), old(datetime.date(2026, 1, 1), datetime.date(2026, 12, 1))
    (False, True)
    """
    return (today - date).days > DAYS


def table(chapter: str) -> Plain:
    """The records of a chapter, newest first. Raises ValueError for a chapter without any.

    >>> table("relu_stability").head
    ('what', 'value', 'who', 'when', 'how we know')
    """
    rows = [
        (r["what"], r["value"], r["who"], str(r["when"]), f"{r['source']} ({HOW[r['how']]})")
        for r in sorted(field().get("record", []), key=lambda r: -r["when"])
        if r["chapter"] == chapter
    ]
    if not rows:
        raise ValueError(f"there is no record of {chapter!r} in {FILE.name}; the chapters are {', '.join(CHAPTERS)}")
    return Plain(("what", "value", "who", "when", "how we know"), tuple(rows))
