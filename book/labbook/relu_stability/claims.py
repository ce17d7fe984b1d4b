"""The claims of chapter 3. ``python -m labbook reproduce relu_stability --tier laptop`` measures them.

Verdicts of whole test sets take minutes to hours. They are kept, one file a network, in the manifest's folder ``verdicts``,
keyed by what they are about: a claim takes those that are there, and asks the verifier for the others. A verdict is a
proof or a witness, so that it outlives the code that found it; its seconds are those of the day it was found.
"""

from __future__ import annotations

import copy
import functools
import math
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from advlab import data, evaluate
from advlab.attacks import pgd
from advlab.stability.bounds import box, count_units, interval_bounds
from advlab.store import StoreError
from advlab.verification.affine import normal_form
from advlab.verification.dataset import Store, Verdicts, verify_dataset
from advlab.verification.reduced import class_margins, reduce
from advlab.verification.search import mixed_integer
from advlab.verification.verifier import STAGES

from .. import results
from ..networks import network
from ..results import Measurement, claim
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
    remark: str = ""  #: on its verdicts

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
    "adversarial": Row(
        "mnist_01_adversarial",
        paper.ABLATION["adversarial"],
        paper.RECALLED,
        images=80,
        remark=" Found by an earlier version, which gave equal parts of the time to several open margins.",
    ),
    "l1": Row("mnist_01_l1", paper.ABLATION["l1"], paper.RECALLED, images=300),
    "small": Row("mnist_01_l1_small", paper.ABLATION["small"], paper.RECALLED, images=200),
    "control": Row("mnist_01_l1_pruned", paper.ABLATION["control"], paper.RECALLED, images=500),
    "rs": Row("mnist_01_rs_pruned", paper.ABLATION["rs"], paper.QUOTED),
    "narrow": Row("mnist_01_narrow_pruned", paper.NARROW, "", images=200),
    "rs_03": Row("mnist_03_rs_pruned", *paper.OTHERS["rs_03"][1:], eps=0.3, images=1000, limit=2.0),
    "cifar_2": Row("cifar_2_rs_pruned", *paper.OTHERS["cifar_2"][1:], eps=2 / 255, images=2000, dataset="CIFAR-10"),
}


def share(hits: Tensor) -> Measurement:
    k, n = int(hits.sum()), len(hits)
    return Measurement(k / n if n else math.nan, n, evaluate.clopper_pearson(k, n))


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


def _mean(values: np.ndarray) -> Measurement:
    """A mean with a 95 % interval by the bootstrap."""
    mean, low, high = evaluate.mean_interval(torch.from_numpy(values))
    return Measurement(mean, len(values), (low, high))


QUANTILES = tuple(np.round(np.linspace(0, 1, 201), 4).tolist())


def _provable(row: Row, n: int | None) -> Measurement:
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
    found = _mean(spent)
    return Measurement(found.value, found.n, found.interval, series={"quantile": list(QUANTILES), "seconds": at})


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


def _row(key: str, row: Row) -> None:
    start, title = f"relu_stability.{key}", f"{row.place}, {row.label}"
    networks, evidence = [row.network], [evidence_of(row)]

    def printed(value: float | None) -> dict[str, Any]:
        return {"paper": value, "where": None if value is None else row.where, "networks": networks}

    @claim(f"{start}_test", f"{title}: accuracy on the test set", **printed(row.paper.test), digits=2)
    def test(n: int | None = None) -> Measurement:
        x, y = row.data(n)
        return share(evaluate.predict(network(row.network), x) == y)

    @claim(
        f"{start}_pgd",
        f"{title}: accuracy under PGD",
        **printed(row.paper.pgd),
        digits=2,
        tier="laptop",
        note="40 steps of a tenth of the budget, one random start. An upper bound of the robust accuracy.",
    )
    def attacked(n: int | None = None) -> Measurement:
        return _attacked(row, n)

    @claim(
        f"{start}_provable",
        f"{title}: provable accuracy",
        **printed(row.paper.provable),
        digits=2,
        tier="laptop",
        evidence=evidence,
        note="Right, and proved right in the whole ball, of the first images of the test set. Time-out "
        f"{row.limit:g} CPU seconds, one thread." + row.remark,
    )
    def provable(n: int | None = None) -> Measurement:
        return _provable(row, n)

    @claim(
        f"{start}_seconds",
        f"{title}: mean time to verify an image",
        **printed(row.paper.seconds),
        unit="s",
        digits=3,
        note=f"Ours: CPU seconds of one thread, everything counted, cut off at {row.limit:g}. The paper: seconds of "
        "Gurobi on many threads, without building its model. Images that are classified right.",
        tier="laptop",
        evidence=evidence,
    )
    def seconds(n: int | None = None) -> Measurement:
        return _seconds(row, n)

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
    _row(_key, _each)


# ---------------------------------------------------------------------------------------------- the ratio of times


def _ratio(slow: Row, fast: Row, n: int | None) -> Measurement:
    """The ratio of mean times over the images that both networks classify right, with an interval by the bootstrap."""
    pairs = [
        (a.seconds, b.seconds)
        for a, b in zip(verdicts(slow, n).verdicts, verdicts(fast, n).verdicts, strict=False)  # the first images of both
        if "prediction" not in (a.stage, b.stage)
    ]
    times, rng = np.array(pairs), np.random.default_rng(0)
    ratios = []
    for _ in range(2000):
        drawn = times[rng.integers(len(times), size=len(times))].mean(0)
        ratios.append(drawn[0] / drawn[1])
    mean = times.mean(0)
    interval = (float(np.quantile(ratios, 0.025)), float(np.quantile(ratios, 0.975)))
    return Measurement(float(mean[0] / mean[1]), len(times), interval)


def _ratio_claim(key: str, slow: Row, fast: Row) -> None:
    printed = None if slow.paper.seconds is None or fast.paper.seconds is None else slow.paper.seconds / fast.paper.seconds

    @claim(
        f"relu_stability.ratio_{key}",
        f"{slow.place}: mean time of the row {slow.label} over that of the row {fast.label}",
        paper=printed,
        where=None if printed is None else paper.RECALLED,
        unit="×",
        digits=0,
        note="The same images, the first that both networks classify right. An image that was not decided counts with the "
        "seconds spent on it.",
        tier="laptop",
        networks=[slow.network, fast.network],
        evidence=[evidence_of(slow), evidence_of(fast)],
    )
    def ratio(n: int | None = None) -> Measurement:
        return _ratio(slow, fast, n)


_ratio_claim("adversarial", ROWS["adversarial"], ROWS["rs"])
_ratio_claim("l1", ROWS["adversarial"], ROWS["l1"])
_ratio_claim("control", ROWS["control"], ROWS["rs"])
_ratio_claim("narrow", ROWS["narrow"], ROWS["rs"])


# ---------------------------------------------------------------------------------------------- the plain way

PLAIN_LIMIT = 120.0


def plain(net: nn.Module, x: Tensor, y: int, eps: float, time_limit: float = PLAIN_LIMIT) -> tuple[str, float]:
    """One image the plain way: interval bounds (the paper's), then a mixed-integer program with all ReLUs that they leave open.

    HiGHS gets one program for each wrong class. Returns the status and the CPU seconds, which the time limit cuts off.
    """
    start = time.process_time()
    rounds = normal_form(net, tuple(x.shape))
    low, high = (t.double().flatten().numpy() for t in box(x, eps))
    problem = reduce(rounds, low, high, *class_margins(y, rounds.logits.units), method="improved")

    def check(points: Tensor) -> Tensor | None:
        wrong = rounds(points.numpy()).argmax(1) != y
        return points[torch.from_numpy(wrong)][0] if wrong.any() else None

    for k in range(len(problem.rows)):
        left = time_limit - (time.process_time() - start)
        if left <= 0:
            return "unknown", time_limit
        found = mixed_integer(problem, k, check, enough=1e-6, seconds=left)
        if found.status != "robust":
            return found.status, min(time.process_time() - start, time_limit)
    return "robust", time.process_time() - start


def _plain(row: Row, n: int, time_limit: float) -> Measurement:
    """The first images that the network classifies right; the series has both ways' seconds and whether they decided."""
    model = network(row.network)
    x, y = evaluate.first_correct(model, *row.data(10 * n), n)
    ends = [plain(model, a, int(b), row.eps, time_limit) for a, b in zip(x, y, strict=True)]
    ours = verify_dataset(model, x, y, row.eps, progress=False, time_limit=time_limit)
    spent = np.array([seconds for _, seconds in ends])
    series = {
        "plain": spent.tolist(),
        "decided": [float(status != "unknown") for status, _ in ends],
        "cascade": [v.seconds for v in ours.verdicts],
    }
    for (status, _), verdict in zip(ends, ours.verdicts, strict=True):
        assert {status, verdict.status} != {"robust", "counterexample"}, "the two ways contradict each other"
    found = _mean(spent)
    return Measurement(found.value, found.n, found.interval, series=series)


def _plain_claim(key: str, row: Row) -> None:
    @claim(
        f"relu_stability.{key}_plain",
        f"{row.place}, {row.label}: mean time of interval bounds and HiGHS",
        unit="s",
        digits=1,
        note="The first images that are classified right, cut off at 120 s each. The series has the seconds of our verifier "
        "on the same images beside.",
        tier="laptop",
        networks=[row.network],
    )
    def seconds(n: int | None = None) -> Measurement:
        return _plain(row, 10, PLAIN_LIMIT) if n is None else _plain(row, 1, 5.0)


_plain_claim("rs", ROWS["rs"])
