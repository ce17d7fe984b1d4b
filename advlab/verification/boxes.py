"""Splitting of inputs: where there are few, the box is halved until linear bounds decide each part of it."""

from __future__ import annotations

import time

import torch
from torch import Tensor

from .reduced import Problem, Stage
from .search import Check, Found

FEW_INPUTS = 16  #: with more free inputs than that, signs of units are split instead
THINNEST = 2.0**-20  #: of the box, in all directions: with less, what is left is a tie that no split resolves
WORK = 2**22  #: entries of the largest tensor, about


def split_inputs(problem: Problem, places: list[list[int]], check: Check, *, enough: float, deadline: float) -> Found:
    """Prove that of each of ``places``, margins of ``problem``, one exceeds ``enough`` everywhere in the box; or refute it.

    A part whose least bound is no proof is halved along the input that moves this bound most, many parts at a time, those
    with the least bounds first. In each part the units are bounded anew, by intervals and by CROWN.

    Parameters
    ----------
    problem : Problem
    places : lists of numbers of margins; a margin alone is to exceed ``enough`` everywhere, of several any one at each point
    check : see :data:`advlab.verification.search.Check`
    enough : float
    deadline : float, in :func:`time.thread_time`
    Returns
    -------
    Found, for all places together
    Guarantee
    ---------
    "robust": the parts cover the box, and each bound exceeds ``enough``. The rounding that the problem's slack allows for on
    the whole box is as much as any part has.
    References
    ----------
    Wang et al. (2018), ReluVal, for the splits; Zhang et al. (2018) for the bounds
    """
    most = max(map(len, places))
    ways = torch.tensor([[each[min(k, len(each) - 1)] for k in range(most)] for each in places])
    widest = max([stage.units for stage in problem.stages] + [len(problem.rows)])
    batch = max(1, min(512, WORK // (widest * problem.rows.shape[1])))
    low, high = problem.low[None], problem.high[None]
    open_ = (low[:0], high[:0], torch.zeros(0).double(), torch.zeros(0).long())
    count, closed = 0, float("inf")
    while True:
        bounds, slopes = _bounds(problem.stages, low, high, problem.rows, problem.const)
        count += len(low)
        best = bounds[:, ways].max(2)  # (n, places), in each part the margin that is proved most easily
        worst = best.values.min(1)
        at = torch.arange(len(low))
        slope = slopes[at, ways[worst.indices, best.indices[at, worst.indices]]]  # (n, inputs)
        towards = torch.where(slope > 0, low, high)
        if (witness := check(torch.cat([towards, (low + high) / 2]))) is not None:
            return Found("counterexample", float(worst.values.min()), witness, count)
        gain = (slope.abs() + 1e-3 * slope.abs().amax(1, keepdim=True) + 1e-30) * (high - low)
        left = (worst.values > enough).logical_not()  # a bound that is no number proves nothing
        closed = min(closed, float(worst.values[~left].min())) if not left.all() else closed
        new = (low[left], high[left], worst.values[left], gain.argmax(1)[left])
        open_ = tuple(torch.cat(pair) for pair in zip(open_, new, strict=True))
        least = float(open_[2].min()) if len(open_[2]) else float("inf")
        if not len(open_[2]):
            return Found("robust", closed, None, count)
        if time.thread_time() > deadline:
            return Found("unknown", min(closed, least), None, count)
        order = open_[2].argsort()
        now, later = order[: (batch + 1) // 2], order[(batch + 1) // 2 :]
        low, high, along = (open_[k][now] for k in (0, 1, 3))
        if bool((high - low <= THINNEST * (problem.high - problem.low)).all(1).any()):
            return Found("unknown", min(closed, least), None, count)
        low, high = _halves(low, high, along)
        open_ = tuple(part[later] for part in open_)


def _halves(low: Tensor, high: Tensor, along: Tensor) -> tuple[Tensor, Tensor]:
    """Each box (n, inputs) as two that share a face."""
    at = torch.arange(len(low))
    middle = (low[at, along] + high[at, along]) / 2
    ends, starts = high.clone(), low.clone()
    ends[at, along], starts[at, along] = middle, middle
    return torch.cat([low, starts]), torch.cat([ends, high])


def _bounds(stages: tuple[Stage, ...], low: Tensor, high: Tensor, rows: Tensor, const: Tensor) -> tuple[Tensor, Tensor]:
    """Lower bounds (n, m) on each of n boxes, and the linear functions of the inputs that give them (n, m, inputs)."""
    known: list[tuple[Tensor, Tensor]] = []
    for j, stage in enumerate(stages):
        below, above = _interval(known, low, high, stage)
        at = ((below < 0) & (above > 0)).any(0).nonzero()[:, 0]
        if j and len(at):
            both = torch.cat([stage.rows[at], -stage.rows[at]]), torch.cat([stage.const[at], -stage.const[at]])
            found = _backward(stages[:j], known, low, high, *both)[0]
            below[:, at] = torch.maximum(below[:, at], found[:, : len(at)])
            above[:, at] = torch.minimum(above[:, at], -found[:, len(at) :])
        known.append((torch.maximum(below, stage.low), torch.minimum(above, stage.high)))
    return _backward(stages, known, low, high, rows, const)


def _interval(known: list[tuple[Tensor, Tensor]], low: Tensor, high: Tensor, stage: Stage) -> tuple[Tensor, Tensor]:
    least = torch.cat([low, *(ends[0].clamp_min(0) for ends in known)], 1)
    most = torch.cat([high, *(ends[1].clamp_min(0) for ends in known)], 1)
    middle, spread = (least + most) / 2 @ stage.rows.T + stage.const, (most - least) / 2 @ stage.rows.abs().T
    return middle - spread, middle + spread


def _backward(
    stages: tuple[Stage, ...], known: list[tuple[Tensor, Tensor]], low: Tensor, high: Tensor, rows: Tensor, const: Tensor
) -> tuple[Tensor, Tensor]:
    """CROWN (:func:`advlab.verification.reduced.relaxed`) with bounds of the units for each box."""
    rows, const = rows.expand(len(low), -1, -1), const.expand(len(low), -1)
    for stage, (below, above) in zip(reversed(stages), reversed(known), strict=True):
        use, rows = rows[..., stage.start :], rows[..., : stage.start]
        open_ = (below < 0) & (above > 0)
        chord = torch.where(open_, above / (above - below), (below >= 0).double())[:, None]
        lift = torch.where(open_, -below, 0.0)[:, None] * chord
        slope = torch.where(open_, (above > -below).double(), (below >= 0).double())[:, None]
        negative = use.clamp_max(0)
        onto = (use - negative) * slope + negative * chord
        const = const + (negative * lift).sum(-1) + onto @ stage.const
        rows = rows + onto @ stage.rows
    centre, radius = (low + high)[:, :, None] / 2, (high - low)[:, :, None] / 2
    return const + (rows @ centre - rows.abs() @ radius)[..., 0], rows
