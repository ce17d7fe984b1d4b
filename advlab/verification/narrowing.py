"""What is left of a margin's problem where only inputs count that could be counterexamples (Kotha et al. 2023)."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from .reduced import Problem, Stage, optimised, relaxed

MOST_BOUNDED = 64  #: units that are bounded again, those whose relaxations may lower the margin's bound most
STEPS = 8  #: of the optimisation
LEAST = 1e-12  #: by which bounds differ from 0, at least


def narrowed(problem: Problem, index: int, enough: float, deadline: float) -> Problem | None:
    """The problem on those inputs of its box where margin ``index`` is at most ``enough``; None where there are none.

    For any weight w >= 0 a lower bound of z + w (margin - enough) on the box is one of a unit's input z on those inputs.
    Layers are bounded again from the last to the first, since what is known of later units tells of earlier ones; units that
    are then stable are eliminated. ``deadline`` is in :func:`time.thread_time`. Guarantee: bounds are right up to
    ``unit_slack``, so that margin ``index``, :meth:`Problem.lowered`, exceeds ``enough`` on the box if it does on what is left.
    """
    row, const, stages = problem.rows[index][None], problem.const[index][None], list(problem.stages)
    made = relaxed(stages, (problem.low, problem.high), row, const)
    reach = made.inputs[0].abs() @ (problem.high - problem.low)  # of the margin, about
    if not problem.units or not reach > 0:
        return problem
    # a unit without an output, whose input is assumed to be <= 0: its multiplier is the weight
    end = Stage(row, const - enough, -torch.ones(1).double(), torch.ones(1).double(), np.arange(1))
    costs = torch.cat([_costs(stage, use[0]) for stage, use in zip(stages, made.uses, strict=True)])
    costly = (costs > 0) & (costs >= costs.topk(min(MOST_BOUNDED, problem.units)).values[-1])
    sizes, found = [stage.units for stage in stages], list(stages)
    rooms = problem.unit_slack.clamp_min(LEAST).split(sizes)
    for j, marked in reversed([*enumerate(costly.split(sizes))]):
        if marked.any():
            found[j] = _bounded_again(replace(problem, stages=(*stages, end)), j, marked, reach, deadline)
            stages[j] = _unstable(found[j], rooms[j])
    return _without_stable(replace(problem, stages=tuple(found)))


def _unstable(stage: Stage, room: Tensor) -> Stage:
    """With 0 inside all bounds, as relaxations and programs need them."""
    return replace(stage, low=torch.minimum(stage.low, -room), high=torch.maximum(stage.high, room))


def _costs(stage: Stage, use: Tensor) -> Tensor:
    """By how much the relaxation of each unit may lower the margin's bound, (units,)."""
    chord = -stage.low * stage.high / (stage.high - stage.low)
    return torch.where(use < 0, -use * chord, use * torch.minimum(-stage.low, stage.high))


def _bounded_again(problem: Problem, j: int, marked: Tensor, reach: Tensor, deadline: float) -> Stage:
    """Stage ``j`` with tighter bounds of its ``marked`` units; the last stage holds what is assumed."""
    stage, assumed = problem.stages[j], problem.stages[-1]
    factor = (reach / (stage.high - stage.low))[marked].repeat(2)  # with which weights are about 1
    n = len(factor)
    rows = torch.zeros(n, assumed.start + 1).double()
    rows[:, : stage.start] = torch.cat([stage.rows[marked], -stage.rows[marked]]) * factor[:, None]
    const = torch.cat([stage.const[marked], -stage.const[marked]]) * factor
    slopes = [(s.high > -s.low).double().expand(n, -1) for s in problem.stages]
    splits = [torch.full((n, 1), -1 if s is assumed else 0) for s in problem.stages]
    weights = [split.double().abs() for split in splits]
    found, _, _ = optimised(
        problem.stages,
        (problem.low, problem.high),
        rows,
        const,
        slopes,
        splits,
        weights,
        steps=STEPS,
        enough=float("inf"),
        deadline=deadline,
    )
    low, high = (found.bound / factor).split(n // 2)
    ends = stage.low.clone(), stage.high.clone()
    ends[0][marked], ends[1][marked] = torch.fmax(ends[0][marked], low), torch.fmin(ends[1][marked], -high)
    return replace(stage, low=ends[0], high=ends[1])


def _without_stable(problem: Problem) -> Problem | None:
    """Without units that are on or off by more than ``unit_slack``; None where the bounds of one exclude each other."""
    stages, slacks, n = list[Stage](), list[Tensor](), len(problem.low)
    onto, shift = torch.eye(n).double(), torch.zeros(n).double()  # all variables, by those that stay
    for stage, slack in zip(problem.stages, problem.unit_slack.split([s.units for s in problem.stages]), strict=True):
        if bool((stage.low - slack > stage.high + slack).any()):
            return None
        room = slack.clamp_min(LEAST)
        on, kept = stage.low > room, (stage.low <= room) & (stage.high >= -room)
        rows, const = stage.rows @ onto, stage.const + stage.rows @ shift
        open_ = _unstable(stage, room)
        stages.append(Stage(rows[kept], const[kept], open_.low[kept], open_.high[kept], stage.places[kept.numpy()]))
        slacks.append(slack[kept])
        own = torch.eye(stage.units).double()[:, kept]
        before = torch.cat([onto, on[:, None] * rows])
        onto = torch.cat([before, torch.cat([torch.zeros(len(onto), own.shape[1]).double(), own])], 1)
        shift = torch.cat([shift, on * const])
    const = problem.const + problem.rows @ shift
    return replace(problem, stages=tuple(stages), rows=problem.rows @ onto, const=const, unit_slack=torch.cat(slacks))
