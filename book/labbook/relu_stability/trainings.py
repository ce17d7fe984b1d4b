"""Rows of chapter 3 with several trainings: each network is trained by its recipe, attacked, and verified.

One network a row ships. Of the others a line stays: SHA-256 of the weights, how often they are right, and a letter for the
verdict of each image. ``python -m labbook trainings ROW`` makes the lines again, and goes on where it was broken off.
"""

from __future__ import annotations

import copy
import dataclasses
import datetime
import functools
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from advlab import __version__, data, evaluate, zoo
from advlab.attacks import pgd
from advlab.stability.bounds import count_units, interval_margins
from advlab.store import write
from advlab.verification.dataset import Verdicts, verify_dataset

from ..entries import Measurement, folder
from ..networks import network
from ..results import claim, machine
from ..stats import mean_over_seeds
from . import paper
from .claims import Row, evidence_of, packed, provable

LIMIT = 20.0  #: CPU seconds an image
TRIAL_LIMIT = 2.0  #: of a trial on a few images
LETTERS = {"robust": "R", "counterexample": "C", "unknown": "U"}  #: and "w" for an image that is classified wrongly


@dataclasses.dataclass(frozen=True)
class Trainings:
    """Networks of one recipe that differ in their seed; ``stem`` and the seed are the name of each."""

    stem: str
    place: str  #: data set and budget
    eps: float
    wanted: int  #: trainings
    paper: paper.Row
    where: str
    every: int = 10  #: of the 10,000 test images, the verifier is asked for each such one: the first ones are easier
    beside: bool = False  #: the network that ships stands beside the lines, and not in the library

    @property
    def label(self) -> str:
        """Data set, budget, and what it was trained with."""
        return f"{self.place}, {self.paper.label}"

    @property
    def shipped(self) -> str:
        return f"{self.stem}_0"

    @property
    def folder(self) -> Path | None:
        """Where the network that ships is; None: in the library."""
        return path_of(self.stem).parent if self.beside else None

    def data(self, trial: bool = False) -> tuple[Tensor, Tensor]:
        """All 10,000 test images and labels; for a trial those that ship."""
        return data.mnist() if self.stem.startswith("mnist") else data.cifar10("test", full=not trial)

    def records(self) -> list[dict[str, Any]]:
        """What is kept of each training, by seed; [] where none was made."""
        path = path_of(self.stem)
        lines = path.read_text().splitlines() if path.exists() else []
        return sorted(map(json.loads, lines), key=lambda line: line["seed"])


_IBP = paper.Row("interval bound propagation", None, None, None, None, None)
_RS_01 = ("MNIST, linf 0.1", paper.ABLATION["rs"], paper.QUOTED)
ROWS = {
    "mnist_01_fast": Trainings("mnist_01_fast", _RS_01[0], 0.1, 10, *_RS_01[1:]),
    "mnist_01_ibp": Trainings("mnist_01_ibp", "MNIST, linf 0.1", 0.1, 10, _IBP, ""),
    "mnist_02_fast": Trainings("mnist_02_fast", paper.OTHERS["rs_02"][0], 0.2, 10, *paper.OTHERS["rs_02"][1:]),
    "mnist_02_ibp": Trainings("mnist_02_ibp", "MNIST, linf 0.2", 0.2, 10, _IBP, ""),
    "mnist_03_fast": Trainings("mnist_03_fast", paper.OTHERS["rs_03"][0], 0.3, 10, *paper.OTHERS["rs_03"][1:]),
    "mnist_03_ibp": Trainings("mnist_03_ibp", "MNIST, linf 0.3", 0.3, 10, _IBP, ""),
    "cifar_2_fast": Trainings("cifar_2_fast", paper.OTHERS["cifar_2"][0], 2 / 255, 5, *paper.OTHERS["cifar_2"][1:]),
    "cifar_8_fast": Trainings("cifar_8_fast", paper.OTHERS["cifar_8"][0], 8 / 255, 5, *paper.OTHERS["cifar_8"][1:]),
}
#: What each lever adds at the smallest budget, under the short recipe; without the RS loss an image takes many times as long.
ABLATION = {
    f"mnist_01_fast_{key}": Trainings(
        f"mnist_01_fast_{key}", f"{_RS_01[0]}, short recipe", 0.1, 5, row, paper.TABLES, every=every, beside=True
    )
    for key, row, every in (
        ("adversarial", paper.ABLATION["adversarial"], 100),
        ("l1", paper.ABLATION["l1"], 20),
        ("small", paper.ABLATION["small"], 20),
        ("control", paper.ABLATION["control"], 20),
        ("rs", paper.ABLATION["rs"], 20),
        ("narrow", paper.NARROW_L1, 20),
    )
}


def path_of(stem: str) -> Path:
    """Where the lines of a row are kept."""
    return folder() / "trainings" / f"{stem}.jsonl"


# ---------------------------------------------------------------------------------------------- one network


def _proved_by_intervals(net: nn.Module, x: Tensor, y: Tensor, eps: float) -> int:
    """How many images the intervals alone prove, the last layer taken with the differences of the logits; in float64."""
    net, total = copy.deepcopy(net).double(), 0
    with torch.no_grad():
        for a, b in zip(x.double().split(500), y.split(500), strict=True):
            margins = interval_margins(net, a, b, eps).scatter(1, b[:, None], math.inf)
            total += int((margins.amin(1) > 0).sum())
    return total


def _letters(found: Verdicts) -> str:
    return "".join("w" if v.stage == "prediction" else LETTERS[v.status] for v in found.verdicts)


def measure(
    row: Trainings, net: nn.Module, x: Tensor, y: Tensor, *, limit: float = LIMIT, store: Path | None = None
) -> dict[str, Any]:
    """What is kept of a network: counts on ``x`` (n, c, h, w), and verdicts of a spread sample, or of all if n < 1,000."""
    net = net.requires_grad_(False).eval()
    step = row.every if len(x) >= 1000 else 1
    some, labels = x[::step], y[::step]
    generator = torch.Generator().manual_seed(0)
    attack = functools.partial(pgd, net, eps=row.eps, steps=40, step_size=row.eps / 10, generator=generator)
    attacked = torch.cat([attack(a, b) for a, b in zip(some.split(500), labels.split(500), strict=True)])
    found = verify_dataset(net, some, labels, row.eps, time_limit=limit, store=store, progress=False)
    return {
        "n": len(x),
        "right": int((evaluate.predict(net, x) == y).sum()),
        "intervals": _proved_by_intervals(net, x, y, row.eps),
        "every": step,
        "withstands": int((evaluate.predict(net, attacked) == labels).sum()),
        "verdicts": _letters(found),
        "limit": limit,
        "seconds": round(float(found.seconds(correct=False).sum()), 2),
        "unstable": sum(count_units(net, some[::5], row.eps, "crown").unstable),
    }


def record(row: Trainings, seed: int, to: Path) -> dict[str, Any]:
    """One training of the row, from the networks in ``to`` or by training it there."""
    name = f"{row.stem}_{seed}"
    before: list[str] = []  # what it starts from, the first last
    while (start := zoo.recipe([name, *before][-1]).start) is not None:
        before.append(start)
    for each in (*reversed(before), name):
        if not (to / f"{each}.json").exists() and not (each in before and _ships(each)):
            zoo.train(each, to)
    card = zoo.card(name, to)
    begun = [zoo.card(each, to if (to / f"{each}.json").exists() else None) for each in before]
    x, y = row.data()
    kept = measure(row, zoo.load(name, to), x, y, store=to / f"{name}.verdicts.sqlite")
    about = {key: card[key] for key in ("sha256", "epochs", "cpu_seconds", "commit", "torch")}
    about |= {"start_seconds": sum((each["cpu_seconds"] for each in begun), 0.0)}
    about |= {"resumed": card["resumed"] or any(each["resumed"] for each in begun)}
    about |= {"version": __version__, "date": datetime.date.today().isoformat()}
    return {"name": name, "seed": seed, **about, **kept, "machine": machine()}


def _ships(name: str) -> bool:
    return (zoo.shipped() / f"{name}.json").exists()


def make(row: Trainings, seeds: range, to: str | Path) -> Path:
    """Add the trainings of ``seeds`` that are not there yet to the row's lines. Returns their file."""
    path = path_of(row.stem)
    path.parent.mkdir(exist_ok=True)
    for seed in seeds:
        kept = row.records()
        if seed not in [line["seed"] for line in kept]:
            lines = sorted([*kept, record(row, seed, Path(to))], key=lambda line: line["seed"])
            write(path, "".join(json.dumps(line) + "\n" for line in lines).encode())
    return path


# ---------------------------------------------------------------------------------------------- claims

COUNTS = {
    "test": ("accuracy on the test set", lambda line: line["right"] / line["n"]),
    "pgd": ("accuracy under PGD", lambda line: line["withstands"] / len(line["verdicts"])),
    "provable": ("provable accuracy", lambda line: line["verdicts"].count("R") / len(line["verdicts"])),
    "undecided": ("share of images that are not decided", lambda line: line["verdicts"].count("U") / len(line["verdicts"])),
    "intervals": ("accuracy provable by intervals alone", lambda line: line["intervals"] / line["n"]),
}
NOTES = {
    "test": "All 10,000 test images.",
    "pgd": "Every {} test image. 40 steps of a tenth of the budget, one random start. An upper bound on robustness.",
    "provable": f"Every {{}} test image; right, and proved right in the whole ball within {LIMIT:g} CPU seconds.",
    "undecided": f"Every {{}} test image; neither proved nor broken within {LIMIT:g} CPU seconds.",
    "intervals": "All 10,000 test images; the differences of the logits bounded as one layer with the last.",
}


def _lines(row: Trainings, n: int | None) -> list[dict[str, Any]]:
    """The lines of all trainings; of a trial that of the network that ships, measured on ``n`` images spread over the set."""
    if n is None:
        return row.records()
    x, y = (t[:: max(1, len(t) // n)][:n] for t in row.data(trial=True))
    net = zoo.load(row.shipped, row.folder) if row.beside else network(row.shipped)
    return [measure(row, net, x, y, limit=TRIAL_LIMIT)]


def _seconds(line: dict[str, Any]) -> float:
    """CPU seconds to verify an image that is classified right."""
    return line["seconds"] / max(1, len(line["verdicts"]) - line["verdicts"].count("w"))


def _mean(values: list[float], high: float = math.inf, low: float = 0.0) -> Measurement:
    """The mean over trainings, from 0 up; without an interval where there is one."""
    found = mean_over_seeds(np.array(values), low, high)
    return dataclasses.replace(found, interval=found.interval if len(values) > 1 else None, series={"each": values})


def _claims(key: str, row: Trainings) -> None:
    made, title = len(row.records()), row.label
    if not made:
        return
    common: dict[str, Any] = {"evidence": [f"trainings/{row.stem}"], "tier": "laptop"}
    common["networks"] = [] if row.beside else [row.shipped]
    common["over"] = f"{made} trainings" if made > 1 else "1 training"
    printed = {"test": row.paper.test, "pgd": row.paper.pgd, "provable": row.paper.provable}

    def count(name: str) -> None:
        what, share_of = COUNTS[name]

        @claim(
            f"relu_stability.{key}_{name}",
            f"{title}: {what}, mean over trainings",
            paper=printed.get(name),
            where=row.where,
            digits=1,
            note=NOTES[name].format({10: "tenth", 20: "twentieth", 100: "hundredth"}[row.every]),
            **common,
        )
        def measured(n: int | None = None) -> Measurement:
            return _mean([share_of(line) for line in _lines(row, n)], 1.0)

    for name in COUNTS:
        count(name)

    @claim(
        f"relu_stability.{key}_verifying",
        f"{title}: mean time to verify an image, mean over trainings",
        paper=row.paper.seconds,
        where=row.where,
        unit="s",
        digits=3,
        note=f"CPU seconds of one thread, cut off at {LIMIT:g}; images classified right. The paper: seconds of Gurobi.",
        **common,
    )
    def verifying(n: int | None = None) -> Measurement:
        return _mean([_seconds(line) for line in _lines(row, n)])

    if any(not line["resumed"] for line in row.records()):
        _training(key, row, common)

    @claim(
        f"relu_stability.{key}_open",
        f"{title}: unstable ReLUs of an image by CROWN bounds, mean over trainings",
        unit="",
        digits=0,
        note="Mean over 200 images spread over the test set.",
        **common,
    )
    def unstable(n: int | None = None) -> Measurement:
        return _mean([line["unstable"] for line in _lines(row, n)])


def _training(key: str, row: Trainings, common: dict[str, Any]) -> None:
    title = row.label

    @claim(
        f"relu_stability.{key}_training",
        f"{title}: time to train, mean over trainings",
        unit="s",
        digits=0,
        note="CPU seconds of one thread, of trainings that ran in one go. The series has those of their start.",
        **common,
    )
    def training(n: int | None = None) -> Measurement:
        lines = [line for line in row.records() if not line["resumed"]]  # else the seconds are those since
        found = _mean([line["cpu_seconds"] for line in lines])
        return dataclasses.replace(found, series=found.series | {"start": [line["start_seconds"] for line in lines]})


def whole(row: Trainings) -> Row:
    """All 10,000 test images of the network that ships."""
    return Row(row.shipped, row.paper, row.where, eps=row.eps, limit=LIMIT)


def _all(key: str, row: Trainings) -> None:
    if not packed(row.shipped, row.eps).exists():
        return

    @claim(
        f"relu_stability.{key}_all",
        f"{row.label}: provable accuracy of the network that ships",
        paper=row.paper.provable,
        where=row.where,
        digits=2,
        note=f"One training, all 10,000 test images, {LIMIT:g} CPU seconds an image.",
        networks=[row.shipped],
        evidence=[evidence_of(whole(row))],
        tier="laptop",
    )
    def measured(n: int | None = None) -> Measurement:
        return provable(whole(row), n)


def _gain(key: str, slow: Trainings, fast: Trainings, note: str) -> None:
    printed = None if slow.paper.seconds is None or fast.paper.seconds is None else slow.paper.seconds / fast.paper.seconds
    both = sorted({line["seed"] for line in slow.records()} & {line["seed"] for line in fast.records()})
    if not both:
        return

    @claim(
        f"relu_stability.gain_{key}",
        f"{slow.place}: mean time of the row {slow.paper.label} over that of the row {fast.paper.label}",
        paper=printed,
        where=paper.TABLES if printed else "",
        unit="×",
        digits=1,
        note=f"The geometric mean over pairs of trainings with one seed, of images spread over the test set. {note}",
        evidence=[f"trainings/{slow.stem}", f"trainings/{fast.stem}"],
        over=f"{len(both)} pairs of trainings",
        tier="laptop",
    )
    def times(n: int | None = None) -> Measurement:
        seconds = [[_seconds(line) for line in _lines(row, n) if line.get("seed", both[0]) in both] for row in (slow, fast)]
        each = [a / b for a, b in zip(*seconds, strict=True)]
        found = _mean(np.log(each).tolist(), low=-math.inf)  # a ratio and its inverse are to count alike
        ends = found.interval and (math.exp(found.interval[0]), math.exp(found.interval[1]))
        return dataclasses.replace(found, value=math.exp(found.value), interval=ends, series={"each": each})


for _key, _row in (ROWS | ABLATION).items():
    _claims(_key, _row)
    _all(_key, _row)
for _key, _slow, _fast, _note in (
    ("rs", "control", "rs", "Both from the same start, with L1 and both prunings."),
    ("narrow", "narrow", "control", "Both with L1 and both prunings."),
):
    _gain(_key, ABLATION[f"mnist_01_fast_{_slow}"], ABLATION[f"mnist_01_fast_{_fast}"], _note)
