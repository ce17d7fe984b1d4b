"""Exact verification of one input: robust, a counterexample, or honestly unknown."""

from __future__ import annotations

import copy
import functools
import hashlib
import math
import time
from collections import OrderedDict
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor, nn

from ..attacks import pgd
from .affine import Rounds, normal_form
from .reduced import crown, optimised, reduce
from .search import branch_and_bound, mixed_integer

STAGES = ("prediction", "crown", "pgd", "alpha-crown", "branch and bound", "mixed-integer")


MANY_UNITS = 800  #: from here on branch and bound has half of the time, below a second for each margin


@dataclass(frozen=True)
class Verdict:
    """What :func:`verify` found about one input."""

    status: str  #: "robust", "counterexample" or "unknown"
    stage: str  #: the stage that decided, or the last one that ran
    bound: float  #: a lower bound of the margin on the ball; of a counterexample, the margin there
    seconds: float  #: CPU seconds
    unstable: tuple[int, ...] = ()  #: units of each ReLU layer that CROWN bounds leave unstable
    witness: Tensor | None = field(default=None, repr=False)  #: a counterexample in the shape and dtype of the input


@dataclass(frozen=True)
class _Prepared:
    rounds: Rounds
    double: nn.Module


_prepared: OrderedDict[str, _Prepared] = OrderedDict()


def network_hash(net: nn.Module, shape: tuple[int, ...]) -> str:
    """The SHA-256 of a network's layers, weights and input shape: the key under which verdicts are stored."""
    digest = hashlib.sha256(repr((str(net), tuple(shape))).encode())
    for name, value in net.state_dict().items():
        digest.update(name.encode() + value.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def _prepare(net: nn.Module, shape: tuple[int, ...]) -> _Prepared:
    """The normal form, kept for the last networks seen."""
    key = network_hash(net, shape)
    if key not in _prepared:
        _prepared[key] = _Prepared(normal_form(net, shape), copy.deepcopy(net).double().eval())
        while len(_prepared) > 4:
            _prepared.popitem(last=False)
    return _prepared[key]


def verify(
    net: nn.Module,
    x: Tensor,
    y: int,
    eps: float,
    *,
    time_limit: float = 120.0,
    margin: float = 1e-6,
    last_stage: str = STAGES[-1],
) -> Verdict:
    """Is every input within ``eps`` (linf) of ``x`` and in [0, 1] classified as ``y``? ``x`` is one input, no batch dimension.

    ``net`` is in eval mode, of the layers that :func:`normal_form` takes. The stages, each only if those before did not
    decide: the prediction; CROWN bounds on the problem that is left when stable units are eliminated; PGD; optimised slopes;
    branch and bound; a mixed-integer program with HiGHS. ``last_stage`` stops earlier.
    ``time_limit`` is in CPU seconds.

    Guarantee: "robust" means that a lower bound of all margins, computed in float64, exceeds ``margin`` (logits), which is
    far above its rounding; "counterexample" comes with a ``witness`` in the ball, in the dtype of ``x``, that the network
    misclassifies when it is run in float64; all else is "unknown". A misclassified ``x`` is its own witness.
    The proof is of the network in real arithmetic. Run in float32 its logits may differ in the sixth digit, so that an input
    whose margin is smaller than that can go either way (Jia and Rinard 2021); raise ``margin`` to rule that out.
    Raises ValueError for a bad input, label, eps or stage, TypeError for a network without a normal form.
    """
    start = time.process_time()
    x = torch.as_tensor(x)
    _check(x, eps, time_limit, margin, last_stage)
    prepared = _prepare(net, tuple(x.shape))
    classes = prepared.rounds.logits.units
    if not 0 <= int(y) < classes:
        raise ValueError(f"y is {y}; the network has {classes} classes, so it must be from 0 to {classes - 1}")
    y = int(y)
    centre = x.detach().double().flatten().cpu()
    low, high = (centre - eps).clamp(0, 1), (centre + eps).clamp(0, 1)
    replay = functools.partial(_replayed, prepared.double, x, y, low, high)
    unstable: tuple[int, ...] = ()

    def verdict(status: str, stage: str, bound: float, witness: Tensor | None = None) -> Verdict:
        if witness is not None:
            bound = _margins(prepared.double, witness[None].double(), y).item()
        return Verdict(status, stage, bound, time.process_time() - start, unstable, witness)

    if _margins(prepared.double, x[None].double(), y).item() < 0:
        return verdict("counterexample", "prediction", 0.0, x.detach().clone())
    stop = STAGES.index(last_stage)
    if stop < STAGES.index("crown"):
        return verdict("unknown", "prediction", -math.inf)
    problem = reduce(prepared.rounds, low.numpy(), high.numpy(), y)
    unstable = tuple(stage.units for stage in problem.stages)
    box = problem.low, problem.high
    bounds = crown(problem.stages, box, problem.rows, problem.const)
    if bounds.min() > margin:
        return verdict("robust", "crown", float(bounds.min()))
    if stop >= STAGES.index("pgd") and eps > 0:
        label = torch.tensor([y], device=x.device)
        generator = torch.Generator(x.device).manual_seed(0)
        attacked = pgd(net, x[None].detach(), label, eps=eps, steps=40, loss="margin", generator=generator)
        if (witness := replay(attacked.double().flatten(1).cpu())) is not None:
            return verdict("counterexample", "pgd", 0.0, witness)
    open_ = (bounds <= margin).nonzero()[:, 0]
    if stop < STAGES.index("alpha-crown"):
        return verdict("unknown", last_stage, float(bounds.min()))
    slopes = [(stage.high > -stage.low).double().expand(len(open_), -1) for stage in problem.stages]
    best, slopes, _ = optimised(problem.stages, box, problem.rows[open_], problem.const[open_], slopes, steps=30, enough=margin)
    bounds[open_] = torch.maximum(bounds[open_], best.bound)
    if bounds.min() > margin:
        return verdict("robust", "alpha-crown", float(bounds.min()))
    if stop < STAGES.index("branch and bound"):
        return verdict("unknown", "alpha-crown", float(bounds.min()))
    starts = torch.cat(slopes, 1) if slopes else torch.zeros(len(open_), 0).double()
    return _search(problem, bounds, open_, starts, replay, verdict, start + time_limit, margin, stop)


def _search(problem, bounds, open_, starts, replay, verdict, deadline, margin, stop) -> Verdict:
    """Branch and bound for each margin that is open, the least first; then HiGHS for those that ran out of time."""
    order = bounds[open_].argsort()
    complete = stop >= STAGES.index("mixed-integer")
    left: list[int] = []
    for k, place in enumerate(order.tolist()):
        index = int(open_[place])
        if bounds[index] > margin:
            continue
        now = time.process_time()
        share = (deadline - now) / (len(order) - k)
        if complete:  # HiGHS is the faster of the two once a problem is hard, unless it has very many units
            share = min(share, 1.0) if problem.units < MANY_UNITS else share / 2
        found = branch_and_bound(problem, index, replay, enough=margin, deadline=now + share, slopes=starts[place])
        if found.status == "counterexample":
            return verdict("counterexample", "branch and bound", found.bound, found.witness)
        bounds[index] = max(float(bounds[index]), found.bound)
        if found.status == "unknown":
            left.append(index)
    if not left:
        return verdict("robust", "branch and bound", float(bounds.min()))
    if not complete:
        return verdict("unknown", "branch and bound", float(bounds.min()))
    for k, index in enumerate(left):
        share = (deadline - time.process_time()) / (len(left) - k)
        if share <= 0:
            return verdict("unknown", "mixed-integer", float(bounds.min()))
        found = mixed_integer(problem, index, replay, enough=margin, seconds=share)
        if found.status == "counterexample":
            return verdict("counterexample", "mixed-integer", found.bound, found.witness)
        if found.status == "unknown":
            return verdict("unknown", "mixed-integer", float(bounds.min()))
        bounds[index] = max(float(bounds[index]), found.bound)
    return verdict("robust", "mixed-integer", float(bounds.min()))


def _check(x: Tensor, eps: float, time_limit: float, margin: float, last_stage: str) -> None:
    if not x.is_floating_point() or not x.numel() or not (x.min() >= 0 and x.max() <= 1):
        raise ValueError("x must be one input with float values in [0, 1], without a batch dimension")
    if not 0 <= eps < math.inf:
        raise ValueError(f"eps is {eps}; it must be a number from 0 on")
    if not time_limit > 0 or not margin > 0:
        raise ValueError(f"time_limit is {time_limit} and margin {margin}; both must be above 0")
    if last_stage not in STAGES:
        raise ValueError(f"last_stage is {last_stage!r}; it must be one of {', '.join(map(repr, STAGES))}")


def _margins(net: nn.Module, x: Tensor, y: int) -> Tensor:
    """The logit of ``y`` minus the greatest other, (n,), in the dtype of ``x``."""
    with torch.no_grad():
        logits = net(x)
    others = logits.clone()
    others[:, y] = -math.inf
    return logits[:, y] - others.amax(1)


def _replayed(net: nn.Module, x: Tensor, y: int, low: Tensor, high: Tensor, points: Tensor) -> Tensor | None:
    """The first of ``points`` (n, inputs) that is a counterexample once it is rounded to the dtype of ``x`` inside the ball."""
    rounded = points.clamp(low, high).to(x.dtype)
    if x.dtype != torch.float64:
        up, down = (torch.tensor(v, dtype=x.dtype) for v in (np.inf, -np.inf))
        rounded = torch.where(rounded.double() < low, rounded.nextafter(up), rounded)
        rounded = torch.where(rounded.double() > high, rounded.nextafter(down), rounded)
    shaped = rounded.view(-1, *x.shape)
    broken = (_margins(net, shaped.double(), y) < 0).nonzero()[:, 0]
    return shaped[broken[0]].to(x.device) if len(broken) else None
