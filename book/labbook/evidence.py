"""Evidence that is stored: verdicts of a verifier and adversarial images, which took hours and are measured from again.

A number that was measured from them names them among its inputs, with their SHA-256, the version of advlab that made them
and the day; its CPU seconds are what they cost.
"""

from __future__ import annotations

import functools
import hashlib
import json
import lzma
from dataclasses import dataclass
from pathlib import Path

from .entries import folder


@dataclass(frozen=True)
class Evidence:
    """What is known of a piece of evidence: SHA-256, version of advlab, last day that added to it, CPU seconds.

    >>> found = about("verdicts/mnist_01_rs_pruned-0.1")
    >>> found.version, found.cpu_seconds > 50
    ('0.2.0', True)
    """

    sha256: str
    version: str
    date: str
    cpu_seconds: float

    def __str__(self) -> str:
        return f"{self.sha256} (advlab {self.version}, {self.date})"


def about(name: str) -> Evidence:
    """The evidence "adversarial-DATASET", "verdicts/NETWORK-EPS", "trainings/ROW", "imagenet/NETWORK" or "full_scale".

    Raises FileNotFoundError for none.

    >>> str(about("adversarial-mnist")).partition(" ")[2]
    '(advlab 0.1.0, 2026-11-22)'
    """
    if name.startswith("verdicts/"):
        path = folder() / f"{name}.jsonl.xz"
        return _verdicts(path, path.stat().st_mtime_ns)
    if name.startswith("imagenet/"):
        raw = (folder() / f"{name}.json").read_bytes()
        made = json.loads(raw)
        return Evidence(hashlib.sha256(raw).hexdigest(), made["version"], made["date"], made["cpu_seconds"])
    if name.startswith("trainings/"):
        return _trainings((folder() / f"{name}.jsonl").read_bytes())
    if name == "full_scale":
        raw = (folder() / "full_scale.json").read_bytes()
        made = json.loads(raw)
        spent = round(sum(card["cpu_seconds"] for card in made["networks"].values()), 1)
        return Evidence(hashlib.sha256(raw).hexdigest(), made["version"], made["date"], spent)
    from .feature_squeezing import examples

    card = examples.card(name.removeprefix("adversarial-"))
    spent = sum(card["attacks"].values()) * card["seeds"]
    return Evidence(card["sha256"], card["version"], card["date"], round(spent, 1))


@functools.cache
def _verdicts(path: Path, changed: int) -> Evidence:
    raw = path.read_bytes()
    lines = [json.loads(line) for line in lzma.decompress(raw).splitlines()]
    versions = sorted({line["version"] for line in lines})
    spent = round(sum(line["seconds"] for line in lines), 1)
    return Evidence(hashlib.sha256(raw).hexdigest(), ", ".join(versions), max(line["date"] for line in lines), spent)


def _trainings(raw: bytes) -> Evidence:
    lines = [json.loads(line) for line in raw.splitlines()]
    versions = sorted({line["version"] for line in lines})
    spent = round(sum(line["cpu_seconds"] + line["start_seconds"] + line["seconds"] for line in lines), 1)
    return Evidence(hashlib.sha256(raw).hexdigest(), ", ".join(versions), max(line["date"] for line in lines), spent)
