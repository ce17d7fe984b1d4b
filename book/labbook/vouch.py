"""Code that was rewritten and computes the same: measured on slices before and after, and vouched for.

A refactoring changes code versions, and hours would be needed to measure every number again that cannot have changed. This
measures each stale claim on a slice with the code of a commit at which its entry was current, and with the code as it is
now, on this machine; where all that the two give is equal, float by float, the entry takes the new code version and keeps
its value. What differs stays stale. Entries that are measured from stored evidence are compared whole.

No guarantee for what a slice does not reach. Seconds cannot be equal: of claims that time something, the rest is compared.
"""

from __future__ import annotations

import contextlib
import functools
import json
import os
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest import mock

import torch

from . import results
from .entries import Entry
from .results import Claim

ROOT = Path(__file__).resolve().parents[2]
SLICE = 8
TIMES = ("s", "×", "times")  #: units of claims that time something
TIMED = ("seconds", "plain", "cascade")  #: columns of series that hold times


def facts(entry: Entry) -> dict[str, Any]:
    """What must be equal of two measurements of a claim: everything but times.

    >>> sorted(facts(results.get("start_here.clean")))
    ['flags', 'interval', 'n', 'series', 'value']
    """
    whole = results.to_json(entry)
    kept = {name: whole[name] for name in ("value", "interval", "n", "flags")}
    if entry.unit in TIMES:
        kept["value"] = kept["interval"] = None
    return kept | {"series": {name: column for name, column in whole["series"].items() if name not in TIMED}}


def measured(ids: Iterable[str]) -> Iterator[tuple[str, dict[str, Any]]]:
    """The facts of claims on a slice, with the code that is imported; an exception is a fact too."""
    torch.set_num_threads(1)
    known = {c.id: c for c in results.claims()}
    for id in ids:
        if id in known:
            n = None if getattr(known[id], "evidence", ()) else SLICE
            try:
                with brief_splitting():
                    yield id, facts(results.measure(known[id], n))
            except Exception as e:
                yield id, {"error": type(e).__name__}


@contextlib.contextmanager
def brief_splitting() -> Iterator[None]:
    """A network trained on a slice may have no errors on one sphere; splitting must not look for them to the end."""
    from .adversarial_spheres import relu_claims

    brief = functools.partial(_with, relu_claims.rare_event_log10, {"particles": 20, "runs": 2, "floor": -12.0})
    with mock.patch.object(relu_claims, "rare_event_log10", brief):
        yield


def _with(function: Any, options: dict[str, Any], *arguments: Any, **others: Any) -> Any:
    return function(*arguments, **{**others, **options})


def before(commit: str, wanted: Sequence[Claim]) -> dict[str, dict[str, Any]]:
    """The facts of claims with the code of ``commit``, measured in a process of its own.

    Raises RuntimeError where the commit is not there or its code does not run.
    """
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        archive = subprocess.run(["git", "archive", commit, "advlab", "book"], cwd=ROOT, capture_output=True)
        if archive.returncode:
            raise RuntimeError(f"git has no commit {commit!r} here: {archive.stderr.decode().strip()}")
        (place / "code.tar").write_bytes(archive.stdout)
        with tarfile.open(place / "code.tar") as tar:
            tar.extractall(place, filter="data")
        (place / "book" / "labbook" / "vouch.py").write_text(Path(__file__).read_text())
        code = "import json, sys; from labbook import vouch; print(json.dumps(dict(vouch.measured(sys.argv[1:]))))"
        paths = {"PYTHONPATH": f"{place}{os.pathsep}{place / 'book'}", "ADVLAB_RESULTS": str(place / "book" / "results")}
        command = [sys.executable, "-c", code, *(c.id for c in wanted)]
        done = subprocess.run(command, cwd=place, env=os.environ | paths, stdout=subprocess.PIPE, text=True)
        if done.returncode:
            raise RuntimeError(f"the code of {commit} does not run here")
        return json.loads(done.stdout.splitlines()[-1])


def vouch(commit: str, wanted: Iterable[Claim]) -> Iterator[tuple[Claim, bool]]:
    """Compare stale claims with ``commit``; write the new code version of those that are equal. (claim, equal) as they come."""
    stored = {e.id: e for chapter in results.CHAPTERS for e in results.load(chapter).values()}
    stale = [c for c in wanted if c.id in stored and stored[c.id].code != results.claim_version(c)]
    old = before(commit, stale)
    for id, now in measured(c.id for c in stale):
        (c,) = (c for c in stale if c.id == id)
        same = old.get(id) == json.loads(json.dumps(now))
        if same:
            results.save([replace(stored[id], code=results.claim_version(c))])
        yield c, same
