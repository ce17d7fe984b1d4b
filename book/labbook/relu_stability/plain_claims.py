"""The claims of chapter 3 on the plain way to verify: interval bounds, and one mixed-integer program a class."""

from __future__ import annotations

import time
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor, nn

from advlab import evaluate
from advlab.stability.bounds import box
from advlab.verification.affine import normal_form
from advlab.verification.dataset import verify_dataset
from advlab.verification.reduced import class_margins, reduce
from advlab.verification.search import mixed_integer

from ..results import Measurement, claim
from ..stats import mean_over_images
from .claims import ROWS, Row, network

PLAIN_LIMIT = 120.0


def plain(net: nn.Module, x: Tensor, y: int, eps: float, time_limit: float = PLAIN_LIMIT) -> tuple[str, float]:
    """One image the plain way: interval bounds (the paper's), then a mixed-integer program with all ReLUs that they leave open.

    HiGHS gets one program for each wrong class. Returns the status and the CPU seconds, which the time limit cuts off.
    """
    start = time.process_time()
    form = normal_form(net, tuple(x.shape))
    low, high = (t.double().flatten().numpy() for t in box(x, eps))
    problem = reduce(form, low, high, *class_margins(y, form.logits.units), method="improved")

    def check(points: Tensor) -> Tensor | None:
        wrong = form(points.numpy()).argmax(1) != y
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
    found = [plain(model, a, int(b), row.eps, time_limit) for a, b in zip(x, y, strict=True)]
    ours = verify_dataset(model, x, y, row.eps, progress=False, time_limit=time_limit)
    spent = np.array([seconds for _, seconds in found])
    series = {
        "plain": spent.tolist(),
        "decided": [float(status != "unknown") for status, _ in found],
        "cascade": [v.seconds for v in ours.verdicts],
    }
    for (status, _), verdict in zip(found, ours.verdicts, strict=True):
        assert {status, verdict.status} != {"robust", "counterexample"}, "the two ways contradict each other"
    return replace(mean_over_images(spent), series=series)


def _claim(key: str) -> None:
    row = ROWS[key]

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


_claim("rs")
