"""Chapter 1's ReLU network with the paper's million updates, and with a falling rate after them: three trainings of each.

``python -m labbook trainings sphere_relu_million`` makes the lines again, and goes on where it was broken off; a GPU trains
the three in ten minutes (``python -m labbook gpu``), a processor takes hours for each. Then ``sphere_relu_fallen``. Of each
kind one network stands beside the lines; of the others these alone: SHA-256 of the weights, and how often they err.
"""

from __future__ import annotations

import datetime
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from advlab import __version__, evaluate, zoo
from advlab.spheres.quadratic import SPHERES
from advlab.spheres.rare_events import rare_event_log10
from advlab.spheres.sampling import sample_sphere
from advlab.store import write

from ..entries import folder
from ..results import Measurement, claim, machine
from ..stats import mean_over_seeds
from .measuring import RADIUS, V1, D, generator_of

#: Rows of trainings: what they are.
STEMS = {
    "sphere_relu_million": "after a million updates",
    "sphere_relu_fallen": "after a million updates and 50,000 at a falling rate",
}
SEEDS = range(3)
POINTS = 1_000_000  #: sampled on each sphere


def path(stem: str) -> Path:
    """Where the lines of the trainings are kept."""
    return folder() / "trainings" / f"{stem}.jsonl"


def records(stem: str) -> list[dict[str, Any]]:
    """What is kept of each training, by seed; [] where none was made."""
    lines = path(stem).read_text().splitlines() if path(stem).exists() else []
    return sorted(map(json.loads, lines), key=lambda line: line["seed"])


def _logit_of_errors(net: nn.Module, sphere: str, x: Tensor) -> Tensor:
    return net(x) if sphere == "inner" else -net(x)


def measure(net: nn.Module, points: int = POINTS, particles: int = 500, runs: int = 8) -> dict[str, Any]:
    """For each sphere the log10 of the error rate by splitting, its standard error, and errors among ``points``."""
    found: dict[str, Any] = {"points": points}
    for sphere in SPHERES:
        rare = rare_event_log10(
            lambda x, sphere=sphere: _logit_of_errors(net, sphere, x),
            D,
            RADIUS[sphere],
            generator=generator_of(0),
            particles=particles,
            runs=runs,
            floor=-60.0,
        )
        generator, errors = generator_of(1), 0
        with torch.no_grad():
            for start in range(0, points, 2000):
                x = sample_sphere(min(2000, points - start), D, RADIUS[sphere], generator=generator)
                errors += int((_logit_of_errors(net, sphere, x) > 0).sum())
        found[sphere] = {"log10": rare.log10, "standard_error": rare.standard_error, "errors": errors}
    return found


def make(stem: str, to: str | Path, seeds: range = SEEDS) -> Path:
    """Add the trainings of ``seeds`` that are not there yet, from the networks in ``to`` or by training them there."""
    for seed in seeds:
        kept = records(stem)
        if seed not in [line["seed"] for line in kept]:
            name = f"{stem}_{seed}"
            if not (Path(to) / f"{name}.json").exists():
                zoo.train(name, to)
            card, measured = zoo.card(name, to), measure(zoo.load(name, to).requires_grad_(False))
            about = {key: card[key] for key in ("sha256", "cpu_seconds", "device", "commit", "torch", "training_examples")}
            about |= {"start_seconds": 0.0, "seconds": 0.0, "version": __version__, "date": datetime.date.today().isoformat()}
            lines = sorted([*kept, {"name": name, "seed": seed, **about, **measured, "machine": machine()}], key=_seed)
            path(stem).parent.mkdir(exist_ok=True)
            write(path(stem), "".join(json.dumps(line) + "\n" for line in lines).encode())
    return path(stem)


def _seed(line: dict[str, Any]) -> int:
    return line["seed"]


def _lines(stem: str, n: int | None) -> list[dict[str, Any]]:
    """The lines of all trainings; of a trial that of the network beside them, measured on ``n`` points."""
    return records(stem) if n is None else [measure(zoo.load(f"{stem}_0", path(stem).parent), max(n, 10), max(n, 10), 2)]


def _claims(stem: str, sphere: str) -> None:
    common: dict[str, Any] = {"evidence": [f"trainings/{stem}"], "tier": "laptop"}
    common["over"] = f"{len(records(stem))} trainings"
    key = stem.removeprefix("sphere_")

    @claim(
        f"adversarial_spheres.{key}_rate_{sphere}",
        f"Error rate of ReLU networks {STEMS[stem]}, {sphere} sphere, by splitting",
        unit="log10",
        digits=2,
        note="50 fresh points an update. 500 particles in each of eight runs; the interval is over the trainings.",
        **common,
    )
    def rate(n: int | None = None) -> Measurement:
        each = [line[sphere]["log10"] for line in _lines(stem, n)]
        found = mean_over_seeds(np.array(each))
        return replace(found, interval=found.interval if len(each) > 1 else None, series={"each": each})

    del common["over"]  # a count's interval is over points

    @claim(
        f"adversarial_spheres.{key}_sampled_{sphere}",
        f"Errors of ReLU networks {STEMS[stem]} among a million random points, {sphere} sphere",
        paper=0,
        where=f"{V1}, Figure 1: fewer than 1 in 10 million",
        unit="errors",
        digits=1,
        note="The mean of the trainings, of which the series has each; the interval is that of the expected count.",
        **common,
    )
    def sampled(n: int | None = None) -> Measurement:
        lines = _lines(stem, n)
        each, points = [line[sphere]["errors"] for line in lines], sum(line["points"] for line in lines)
        low, high = evaluate.clopper_pearson(sum(each), points)
        per = points / len(lines)
        return Measurement(sum(each) / len(each), points, (low * per, high * per), series={"each": [float(v) for v in each]})


for _stem in STEMS:
    if records(_stem):
        for _sphere in SPHERES:
            _claims(_stem, _sphere)
