"""The claims of chapter 3. ``python -m labbook reproduce relu_stability --tier laptop`` measures them.

Verdicts of whole test sets take minutes to hours. They are kept, one file a network, in the manifest's folder ``verdicts``,
keyed by what they are about: a claim takes those that are there, and asks the verifier for the others. A verdict is a
proof or a witness, so that it outlives the code that found it; its seconds are those of the day it was found.
"""

from __future__ import annotations

import copy
import functools
import math
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from advlab import data, evaluate
from advlab.attacks import pgd
from advlab.stability.bounds import count_units, interval_bounds
from advlab.store import StoreError
from advlab.verification.dataset import Store, Verdicts, verify_dataset
from advlab.verification.verifier import STAGES

from .. import results
from ..networks import network
from ..results import Measurement, claim
from ..stats import mean_over_images, ratio, share
from . import paper

TIME_LIMIT = 120.0  #: CPU seconds an image, the paper's


@dataclass(frozen=True)
class Row:
    """A network that is verified, and the paper's numbers for it."""

    network: str
    paper: paper.Row
    where: str
    eps: float = 0.1
    images: int = 10_000  #: so many of the first test images are verified
    dataset: str = "MNIST"
    limit: float = TIME_LIMIT  #: CPU seconds an image

    @property
    def label(self) -> str:
        return self.paper.label

    @property
    def place(self) -> str:
        """Data set and budget."""
        return f"{self.dataset}, linf {f'{self.eps:g}' if self.dataset == 'MNIST' else f'{255 * self.eps:g}/255'}"

    def data(self, n: int | None = None) -> tuple[Tensor, Tensor]:
        """The first ``n`` test images and labels; None: all 10,000 of MNIST, the 2,000 of CIFAR-10 that ship."""
        return data.mnist(n=n) if self.dataset == "MNIST" else data.cifar10(n=n, full=False)


#: The rows that are measured here; of the others, the tables have the paper's numbers.
ROWS = {
    "adversarial": Row("mnist_01_adversarial", paper.ABLATION["adversarial"], paper.TABLES, images=100),
    "l1": Row("mnist_01_l1", paper.ABLATION["l1"], paper.TABLES, images=300),
    "small": Row("mnist_01_l1_small", paper.ABLATION["small"], paper.TABLES, images=200),
    "control": Row("mnist_01_l1_pruned", paper.ABLATION["control"], paper.TABLES, images=500),
    "rs": Row("mnist_01_rs_pruned", paper.ABLATION["rs"], paper.QUOTED),
    "narrow": Row("mnist_01_narrow_pruned", paper.NARROW, "", images=200),
    "cifar_2": Row("cifar_2_rs_pruned", *paper.OTHERS["cifar_2"][1:], eps=2 / 255, images=2000, dataset="CIFAR-10"),
}


# ---------------------------------------------------------------------------------------------- verdicts


def evidence_of(row: Row) -> str:
    """The name of a row's verdicts as evidence."""
    return f"verdicts/{row.network}-{row.eps:g}"


def packed(name: str, eps: float) -> Path:
    """Where the verdicts of a network are kept."""
    return results.folder() / "verdicts" / f"{name}-{eps:g}.jsonl.xz"


@functools.cache
def verdicts(row: Row, n: int | None = None) -> Verdicts:
    """The verdicts of a row: all that it asks for, from the store and the verifier; of ``n`` images from the verifier alone."""
    x, y = row.data(n or row.images)
    limit = row.limit if n is None else 2.0  # a trial is to be short
    call = functools.partial(verify_dataset, network(row.network), x, y, row.eps, time_limit=limit)
    if n is not None:
        return call(progress=False)
    kept = packed(row.network, row.eps)
    if kept.exists():
        try:
            return call(store=kept, progress=False)
        except StoreError:  # some are not there, and this file is to be read only
            pass
    working = data.data_directory() / "verdicts" / f"{row.network}-{row.eps:g}.sqlite"
    if kept.exists() and not working.exists():
        Store(working).records.take(kept)
    found = call(store=working)
    kept.parent.mkdir(exist_ok=True)
    Store(working).pack(kept)
    return found


QUANTILES = tuple(np.round(np.linspace(0, 1, 201), 4).tolist())


def provable(row: Row, n: int | None) -> Measurement:
    """The share proved robust; the series counts the verdicts of each stage, in the order of :data:`STAGES`."""
    found = verdicts(row, n)
    series = {
        status: [float(sum(v.status == status and v.stage == stage for v in found.verdicts)) for stage in STAGES]
        for status in ("robust", "counterexample", "unknown")
    }
    return Measurement(found.provable, len(found), found.interval, series=series)


def _seconds(row: Row, n: int | None) -> Measurement:
    """Mean CPU seconds of correctly classified images; the series has quantiles, undecided images counted as infinite."""
    right = [v for v in verdicts(row, n).verdicts if v.stage != "prediction"]
    spent = np.array([v.seconds for v in right])
    decided = np.sort([v.seconds if v.status != "unknown" else math.inf for v in right])
    at = [decided[min(len(decided) - 1, math.ceil(q * len(decided)) - 1 if q else 0)] for q in QUANTILES]
    return replace(mean_over_images(spent), series={"quantile": list(QUANTILES), "seconds": at})


def _units(row: Row, method: str, n: int) -> Measurement:
    counts = count_units(network(row.network), row.data(n)[0], row.eps, method)
    columns = ("units", "constant", "unstable", "active", "inactive")
    return Measurement(sum(counts.unstable), n, series={c: [float(v) for v in getattr(counts, c)] for c in columns})


def _interval(row: Row, n: int | None) -> Measurement:
    """The share whose interval bounds alone prove it: the label's lower bound above the upper bounds of the others."""
    x, y, proved = *row.data(n), []
    net = copy.deepcopy(network(row.network)).double()
    with torch.no_grad():
        for a, b in zip(x.double().split(500), y.split(500), strict=True):
            low, high = interval_bounds(net, a, row.eps)[-1]
            proved.append(low.gather(1, b[:, None])[:, 0] > high.scatter(1, b[:, None], -math.inf).amax(1))
    return share(torch.cat(proved))


def _attacked(row: Row, n: int | None) -> Measurement:
    """PGD of 40 steps of a tenth of the budget from one random start, the paper's evaluation."""
    model = network(row.network)
    x, y = row.data(n)
    generator = torch.Generator().manual_seed(0)
    attack = functools.partial(pgd, model, eps=row.eps, steps=40, step_size=row.eps / 10, generator=generator)
    attacked = torch.cat([attack(a, b) for a, b in zip(x.split(500), y.split(500), strict=True)])
    return share(evaluate.predict(model, attacked) == y)


def _accuracy(start: str, title: str, row: Row) -> None:
    @claim(
        f"{start}_test",
        f"{title}: accuracy on the test set",
        paper=row.paper.test,
        where=row.where,
        digits=2,
        networks=[row.network],
    )
    def test(n: int | None = None) -> Measurement:
        x, y = row.data(n)
        return share(evaluate.predict(network(row.network), x) == y)

    @claim(
        f"{start}_pgd",
        f"{title}: accuracy under PGD",
        paper=row.paper.pgd,
        where=row.where,
        networks=[row.network],
        digits=2,
        tier="laptop",
        note="40 steps of a tenth of the budget, one random start. An upper bound of the robust accuracy.",
    )
    def attacked(n: int | None = None) -> Measurement:
        return _attacked(row, n)


def _verdicts(start: str, title: str, row: Row) -> None:
    evidence = [evidence_of(row)]

    @claim(
        f"{start}_provable",
        f"{title}: provable accuracy",
        paper=row.paper.provable,
        where=row.where,
        networks=[row.network],
        digits=2,
        tier="laptop",
        evidence=evidence,
        note="Right, and proved right in the whole ball, of the first images of the test set. Time-out "
        f"{row.limit:g} CPU seconds, one thread.",
    )
    def proved(n: int | None = None) -> Measurement:
        return provable(row, n)

    @claim(
        f"{start}_seconds",
        f"{title}: mean time to verify an image",
        paper=row.paper.seconds,
        where=row.where,
        networks=[row.network],
        unit="s",
        digits=3,
        note=f"Ours: CPU seconds of one thread, everything counted, cut off at {row.limit:g}. The paper: seconds of "
        "Gurobi on many threads, without building its model. Images that are classified right.",
        tier="laptop",
        evidence=evidence,
    )
    def seconds(n: int | None = None) -> Measurement:
        return _seconds(row, n)


def _bounds(start: str, title: str, row: Row) -> None:
    networks = [row.network]

    @claim(
        f"{start}_interval",
        f"{title}: accuracy provable by naive interval bounds",
        digits=2,
        networks=networks,
        note="Without looking further: what training for stability alone gives to the simplest proof.",
    )
    def interval(n: int | None = None) -> Measurement:
        return _interval(row, n)

    @claim(
        f"{start}_unstable",
        f"{title}: unstable ReLUs of an image by naive interval bounds",
        unit="",
        digits=0,
        note="Mean over 1,000 images. Constant units, which do not depend on the input, are listed in the series.",
        networks=networks,
    )
    def naive(n: int | None = None) -> Measurement:
        return _units(row, "naive", n or 1000)

    @claim(
        f"{start}_unstable_crown",
        f"{title}: unstable ReLUs of an image by CROWN bounds",
        unit="",
        digits=0,
        note="Mean over 200 images: the number that the search has to deal with.",
        tier="laptop",
        networks=networks,
    )
    def tight(n: int | None = None) -> Measurement:
        return _units(row, "crown", n or 200)


for _key, _each in ROWS.items():
    for _group in (_accuracy, _verdicts, _bounds):
        _group(f"relu_stability.{_key}", f"{_each.place}, {_each.label}", _each)


# ---------------------------------------------------------------------------------------------- the ratio of times


def _ratio(slow: Row, fast: Row, n: int | None) -> Measurement:
    """The ratio of mean times over the images that both networks classify right."""
    pairs = [
        (a.seconds, b.seconds)
        for a, b in zip(verdicts(slow, n).verdicts, verdicts(fast, n).verdicts, strict=False)  # the first images of both
        if "prediction" not in (a.stage, b.stage)
    ]
    return ratio(*np.array(pairs).T, rng=np.random.default_rng(0))


def _ratio_claim(key: str, slow: Row, fast: Row) -> None:
    printed = None if slow.paper.seconds is None or fast.paper.seconds is None else slow.paper.seconds / fast.paper.seconds

    @claim(
        f"relu_stability.ratio_{key}",
        f"{slow.place}: mean time of the row {slow.label} over that of the row {fast.label}",
        paper=printed,
        where=paper.TABLES,
        unit="×",
        digits=0,
        note="The same images, the first that both networks classify right. An image that was not decided counts with the "
        "seconds spent on it.",
        tier="laptop",
        networks=[slow.network, fast.network],
        evidence=[evidence_of(slow), evidence_of(fast)],
    )
    def times(n: int | None = None) -> Measurement:
        return _ratio(slow, fast, n)


_ratio_claim("adversarial", ROWS["adversarial"], ROWS["rs"])
_ratio_claim("l1", ROWS["adversarial"], ROWS["l1"])
_ratio_claim("control", ROWS["control"], ROWS["rs"])
_ratio_claim("narrow", ROWS["narrow"], ROWS["rs"])
