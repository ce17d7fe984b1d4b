"""The manifest: the paper's number beside our number, with all that is needed to believe or repeat it.

A *claim* is a function that measures something; :func:`claim` registers it with what the paper says. Running it
(``python -m labbook reproduce``) writes an entry of ``book/results/CHAPTER.json``: claim id, paper value and where it
stands, our value, n, interval, tier, command, code version, inputs, date, seconds, honesty flags, a series where the
evidence is a curve, and a note on why they differ. Tables and numbers in the book come from those entries alone.

The code version of an entry is a digest of what every definition that its claim reaches computes, and of what builds its
networks (:mod:`labbook.digest`). An entry whose digest no longer matches is *stale*, and a test fails until it is measured
again.
"""

from __future__ import annotations

import datetime
import hashlib
import json
import math
import os
import platform
import re
import time
from collections.abc import Iterable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from .digest import build_version, code_version
from .entries import Entry, folder
from .entries import Measurement as Measurement
from .evidence import about
from .registry import CHAPTERS as CHAPTERS
from .registry import CLAIMS as CLAIMS
from .registry import TIERS as TIERS
from .registry import Claim, claims
from .registry import claim as claim
from .tables import Table

# ---------------------------------------------------------------------------------------------- measuring


def machine(executor: str = "one process") -> dict[str, str | int]:
    """Where a number is made, as far as it may matter for it: no names of hosts or users.

    >>> machine("2 processes")["executor"]
    '2 processes'
    """
    import torch

    return {
        "processor": f"{platform.machine()} {torch.backends.cpu.get_cpu_capability()}",
        "cores": os.cpu_count() or 1,
        "python": platform.python_version(),
        "torch": str(torch.__version__),
        "threads": torch.get_num_threads(),
        "device": str(torch.get_default_device()),
        "executor": executor,
    }


def measure(c: Claim, n: int | None = None, *, executor: str = "one process") -> Entry:
    """Run a claim and return its entry; ``n`` shortens it for a trial, and ``executor`` says what it runs in.

    The CPU seconds are those spent here and those that the stored evidence cost, of which a trial uses none.

    Raises ValueError where the columns of its series differ in length.

    >>> measure(claims("start_here")[0], n=100).show("n")  # a slice
    '100'
    """
    from advlab import __version__

    start = time.process_time()
    found = c.measure() if n is None else c.measure(n=n)
    spent = time.process_time() - start + sum(about(name).cpu_seconds for name in c.evidence if n is None)
    return Entry(
        id=c.id,
        title=c.title,
        value=found.value,
        n=found.n,
        interval=found.interval,
        paper=c.paper,
        where=c.where,
        unit=c.unit,
        digits=c.digits,
        note=c.note,
        tier=c.tier,
        command=f"python -m labbook reproduce {c.chapter} --claim {c.id}",
        code=claim_version(c),
        inputs=inputs(c),
        version=__version__,
        date=datetime.date.today().isoformat(),
        cpu_seconds=round(spent, 1),
        flags=found.flags,
        series=_columns(found.series, c.id),
        machine=machine(executor),
        over=c.over,
    )


def _columns(series: dict[str, list[float]], id: str) -> dict[str, list[float]]:
    """A claim's series with the 10 significant digits that the manifest keeps."""
    lengths = {name: len(column) for name, column in series.items()}
    if len(set(lengths.values())) > 1:
        raise ValueError(f"claim {id!r}: the columns of its series must have one length; they have {lengths}")
    return {name: [float(f"{float(v):.10g}") for v in column] for name, column in series.items()}


def inputs(c: Claim) -> dict[str, str]:
    """The SHA-256 of each network that the claim uses, and of stored evidence, with its version and its day.

    >>> list(inputs(claims("start_here")[0]))
    ['mnist_cnn7']
    """
    from advlab import zoo

    def stored(name: str) -> str:
        try:
            return str(about(name))
        except FileNotFoundError:
            return "not there"

    return {name: zoo.card(name)["sha256"] for name in c.networks} | {name: stored(name) for name in c.evidence}


def stale(entry: Entry) -> str | None:
    """Why an entry must be measured again, or None if it need not be.

    >>> stale(replace(get("start_here.clean"), code="of another version"))
    'the code it depends on has changed since'
    """
    known = {c.id: c for c in claims()}
    if entry.id not in known:
        return "no function measures it any more"
    c = known[entry.id]
    if entry.code != claim_version(c):
        return "the code it depends on has changed since"
    if entry.inputs != inputs(c):
        return "a network, or stored evidence, that it depends on has changed since"
    return None


def reworded(entry: Entry) -> Entry:
    """The entry with the words of its claim as they are now (title, note, paper's number, ...): no new measurement.

    >>> entry = get("start_here.clean")
    >>> reworded(replace(entry, title="Other words")).title == entry.title
    True
    """
    (c,) = (c for c in claims() if c.id == entry.id)
    words = ("title", "paper", "where", "unit", "digits", "note", "tier", "over")
    return replace(entry, **{word: getattr(c, word) for word in words})


# ---------------------------------------------------------------------------------------------- files


def load(chapter: str, where: Path | None = None) -> dict[str, Entry]:
    """The entries of a chapter by id; none if it has no file yet.

    >>> load("start_here")["start_here.clean"].paper
    0.9943
    """
    path = (where or folder()) / f"{chapter}.json"
    if not path.exists():
        return {}
    return {e["id"]: from_json(e) for e in json.loads(path.read_text())}


def to_json(e: Entry) -> dict[str, Any]:
    """An entry as a file of the manifest holds it.

    >>> to_json(replace(get("start_here.clean"), value=-math.inf))["value"]  # strict JSON has no infinity
    '-inf'
    """
    return _strict(asdict(e))


def from_json(e: dict[str, Any]) -> Entry:
    """The entry that :func:`to_json` made ``e`` of; entries from before there were flags, series and machine are read too.

    >>> entry = get("start_here.clean")
    >>> from_json(json.loads(json.dumps(to_json(entry)))) == entry
    True
    """
    return Entry(
        **e
        | {
            "value": float(e["value"]),
            "interval": tuple(float(bound) for bound in e["interval"]) if e["interval"] else None,
            "flags": tuple(e.get("flags", ())),
            "series": {name: [float(v) for v in column] for name, column in e.get("series", {}).items()},
        }
    )


def _strict(o: Any) -> Any:
    """``o`` in strict JSON, which has no numbers that are not finite: they become "nan", "inf" and "-inf"."""
    if isinstance(o, dict):
        return {key: _strict(v) for key, v in o.items()}
    if isinstance(o, list | tuple):
        return [_strict(v) for v in o]
    return str(o) if isinstance(o, float) and not math.isfinite(o) else o


def save(entries: Iterable[Entry], where: Path | None = None) -> None:
    """Put entries into their chapters' files, in the order of the claims, leaving the other entries as they are.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as elsewhere:
    ...     save([get("start_here.clean")], Path(elsewhere))
    ...     print(list(load("start_here", Path(elsewhere))))
    ['start_here.clean']
    """
    by_chapter: dict[str, dict[str, Entry]] = {}
    for e in entries:
        by_chapter.setdefault(e.id.partition(".")[0], {})[e.id] = e
    for chapter, new in by_chapter.items():
        merged = load(chapter, where) | new
        ordered = [to_json(merged[c.id]) for c in claims(chapter) if c.id in merged]
        text = json.dumps(ordered, indent=1, ensure_ascii=False, allow_nan=False)
        text = re.sub(r"\[\n[^][{}]*\]", lambda numbers: re.sub(r"\n *", " ", numbers[0]), text)  # a list, a line
        path = (where or folder()) / f"{chapter}.json"
        part = path.with_name(path.name + ".writing")
        part.write_text(text + "\n")
        os.replace(part, path)


def get(id: str) -> Entry:
    """The manifest's entry ``id``. Raises KeyError with the ids there are.

    >>> get("start_here.clean").show("paper").split()
    ['99.43', '%']
    """
    chapter = id.partition(".")[0]
    entries = load(chapter)
    if id not in entries:
        raise KeyError(f"the manifest has no {id!r}; {chapter} has: {', '.join(entries) or 'nothing yet'}")
    return entries[id]


def table(chapter: str, ids: Iterable[str] | None = None) -> Table:
    """The table of a chapter, or of some ids of it. Raises KeyError for an id that is not there.

    >>> table("start_here", ["start_here.clean"]).rows()[0][0]
    'Clean accuracy, MNIST, 7 layers'
    """
    entries = load(chapter)
    return Table(tuple(entries.values()) if ids is None else tuple(get(id) for id in ids))


def claim_version(c: Claim) -> str:
    """The code version of a claim: a digest of its function and of what builds each network that it names.

    Guarantee: as of :func:`code_version`. How the networks were trained does not count; their weights are inputs.
    Raises ValueError for a network that is not built by a function of a module, or a functools.partial of one.

    >>> a, b = claims("start_here")[:2]
    >>> len(claim_version(a)), claim_version(a) == claim_version(b)
    (16, False)
    """
    from advlab import zoo

    built = [f"{name}={build_version(name, zoo.recipe(name).build)}" for name in c.networks]
    return hashlib.sha256("\n".join([code_version(c.measure), *built]).encode()).hexdigest()[:16]
