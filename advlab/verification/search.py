"""Complete search: branch and bound over the signs of unstable ReLUs, and a mixed-integer program."""

from __future__ import annotations

import heapq
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from scipy.optimize import linprog
from torch import Tensor

from .layers import Array
from .narrowing import narrowed
from .programs import Solver, check_solver, gurobi, highs, program
from .proofs import Leaf, storable
from .reduced import Problem, Relaxed, Stage, optimised, relaxed

#: A check of candidates: inputs (n, inputs) -> the first that is a counterexample, or None.
Check = Callable[[Tensor], Tensor | None]

MEMORY = 64 * 2**20  #: bytes of the nodes that branch and bound keeps, about
CANDIDATES = 24  #: units that a search tries to split, for each node
STARTS, STEPS = 8, 16  #: of the search for counterexamples: the nodes with the least bounds, and points from each one's corner


class Clock:
    """CPU seconds of the thread that made it, and of the solver's threads that it waited for; other threads do not count."""

    def __init__(self, limit: float) -> None:
        self.limit, self.wall, self.cpu, self.elsewhere = limit, time.perf_counter(), time.thread_time(), 0.0

    @property
    def spent(self) -> float:
        return time.thread_time() - self.cpu + self.elsewhere

    @property
    def left(self) -> float:
        return self.limit - self.spent

    @property
    def slowness(self) -> float:
        """Seconds that pass for a CPU second, at least 1: Gurobi counts the former."""
        return max(1.0, (time.perf_counter() - self.wall) / max(self.spent, 1e-3))


@dataclass(frozen=True)
class Found:
    """The end of a search for one margin: "robust" with a bound, "counterexample" with a witness, or "unknown"."""

    status: str
    bound: float
    witness: Tensor | None = field(default=None, repr=False)
    nodes: int = 0
    refused: bool = False  #: the solver could not begin
    leaves: list[Leaf] = field(default_factory=list, repr=False)  #: what proves "robust", where it was asked for
    seconds: float = 0.0  #: CPU seconds that a solver took in a thread of its own


@dataclass(order=True)
class _Node:
    bound: float
    order: int
    splits: Tensor = field(compare=False)  #: (units,) int8
    slopes: Tensor = field(compare=False)
    multipliers: Tensor = field(compare=False)
    path: tuple[tuple[int, int], ...] = field(compare=False, default=())  #: the splits in their order, as of a ``Leaf``
    unit: int = field(compare=False, default=-1)  #: the unit to split next, -1 if none is left


# Eight parameters, as many again as bound the search: where it starts and ends, how wide it goes, whether it keeps a proof.
def branch_and_bound(
    problem: Problem,
    index: int,
    check: Check,
    *,
    enough: float,
    deadline: float,
    slopes: Tensor | None = None,
    batch: int = 32,
    proof: bool = False,
) -> Found:
    """Prove that margin ``index`` exceeds ``enough`` on the box, or find a counterexample, or give up at ``deadline``.

    ``deadline`` is in :func:`time.thread_time`. Each node assumes signs of some units; its bound is optimised over slopes
    and multipliers (Wang et al. 2021). Of the units whose relaxations cost most (Bunel et al. 2020) the one is split whose
    two cases gain most. Signed steps from corners of the nodes with the least bounds look for a counterexample. A node with
    all signs assumed is a linear program, solved exactly. ``slopes`` (units,) is where the optimisation starts. Beyond
    :data:`MEMORY` the search goes deep instead of broad. With ``proof`` its leaves are kept.
    Guarantee: "robust" means that every leaf's bound exceeds ``enough``, whatever float64 rounds where multipliers weigh
    assumptions; margins themselves are :meth:`Problem.lowered`.
    """
    if slopes is None:
        slopes = torch.cat([(s.high > -s.low).double() for s in problem.stages] or [torch.zeros(0).double()])
    # z >= 0 and z <= 0 cover a node's inputs, so that the least bound of all leaves bounds the margin on the box. The heap
    # gives the node with the least bound first: without that one there is no proof.
    blank = torch.zeros(problem.units, dtype=torch.int8)
    heap: list[_Node] = []
    count, closed, leaves = 0, float("inf"), list[Leaf]()  # closed: the least bound of the leaves that are done
    fresh: list[tuple[Any, ...]] = [((), blank, slopes, torch.zeros(problem.units).double())]
    while fresh:
        paths, *parts = zip(*fresh, strict=True)
        splits, starts, weights = map(torch.stack, parts)
        more = {"first": count == 0, "proof": proof}
        made, found, kept = _node_bounds(problem, index, splits, starts, weights, enough, deadline, **more)
        count += len(fresh)
        corners = torch.where(made.inputs > 0, problem.low, problem.high)  # where the linear bounds are least, (n, inputs)
        if (witness := check(_descended(problem, index, corners[made.bound.argsort()[:STARTS]]))) is not None:
            return Found("counterexample", float(made.bound.min()), witness, count)
        units, open_ = torch.full((len(splits),), -1), ~(made.bound > enough)  # what is no number is open
        units[open_] = _strongest(problem, index, _some(made, open_), splits[open_], found[open_], kept[open_], enough)
        for i, bound in enumerate(made.bound.tolist()):
            if bound > enough:
                closed = min(closed, bound)
                leaves += [Leaf(paths[i], found[i].clone(), kept[i].clone())] * proof
            elif units[i] < 0:
                bound, point, weights = solve_leaf(problem, index, splits[i], enough)
                if proof and bound > enough:
                    bound = min(bound, _leaf_bound(problem, index, splits[i], weights))
                    leaves.append(Leaf(paths[i], found[i].clone(), weights))
                if point is not None and (witness := check(point[None])) is not None:
                    return Found("counterexample", bound, witness, count)
                if bound <= enough:
                    return Found("unknown", bound, None, count)  # the minimum is a near tie
                closed = min(closed, bound)
            else:
                # clones, since a view would keep the whole batch
                held = splits[i].clone(), found[i].clone(), kept[i].clone()
                node = _Node(bound, count + i, *held, paths[i], int(units[i]))
                heapq.heappush(heap, node)
        fresh = []
        if heap and time.thread_time() > deadline:
            return Found("unknown", min(closed, heap[0].bound), None, count)
        for _ in range(min(batch, len(heap))):
            # the last is one of the deepest, and a heap without its last is a heap
            node = heap.pop() if len(heap) * (17 * problem.units + 1000) > MEMORY else heapq.heappop(heap)
            for side in (1, -1):
                child = node.splits.clone()
                child[node.unit] = side
                fresh.append(((*node.path, (node.unit, side)), child, node.slopes, node.multipliers))
    return Found("robust", closed, None, count, leaves=leaves)


def _descended(problem: Problem, index: int, starts: Tensor) -> Tensor:
    """Where signed steps from each start lowered margin ``index`` most, the start itself included; (n, inputs)."""
    radius, x = (problem.high - problem.low) / 2, starts
    best, least = starts, torch.full((len(starts),), torch.inf).double()
    for step in range(STEPS):
        x = x.detach().requires_grad_()
        variables = x
        for stage in problem.stages:
            variables = torch.cat([variables, (variables @ stage.rows.T + stage.const).relu()], 1)
        margin = variables @ problem.rows[index] + problem.const[index]
        best = torch.where((margin < least)[:, None], x.detach(), best)
        least = torch.minimum(margin.detach(), least)
        if bool((least < 0).any()):
            break
        (slope,) = torch.autograd.grad(margin.sum(), x)
        x = torch.minimum(torch.maximum(x.detach() - radius * 0.5 * 0.8**step * slope.sign(), problem.low), problem.high)
    return best[least.argsort()]


def _node_bounds(
    problem: Problem,
    index: int,
    splits: Tensor,
    slopes: Tensor,
    multipliers: Tensor,
    enough: float,
    deadline: float,
    *,
    first: bool,
    proof: bool,
) -> tuple[Relaxed, Tensor, Tensor]:
    """Bounds of n nodes, all tensors (n, units), with the slopes and multipliers that gave them; with ``proof``, storable."""
    rows, const = problem.rows[index].expand(len(splits), -1), problem.const[index].expand(len(splits))
    parts = [_by_stage(problem.stages, t) for t in (slopes, splits, multipliers)]
    made, found, kept = optimised(
        problem.stages,
        (problem.low, problem.high),
        rows,
        const,
        *parts,
        steps=20 if first else 10,
        enough=enough,
        deadline=deadline,
    )
    if not problem.units:
        return made, slopes, multipliers
    if proof:
        found, kept = zip(*(storable(*pair) for pair in zip(found, kept, strict=True)), strict=True)
        made = relaxed(problem.stages, (problem.low, problem.high), rows, const, list(found), parts[1], list(kept))
    weights = torch.cat(kept, 1)
    return replace(made, bound=made.bound - (weights * splits.abs()) @ problem.unit_slack), torch.cat(found, 1), weights


def _leaf_bound(problem: Problem, index: int, splits: Tensor, multipliers: Tensor) -> float:
    """What these multipliers prove where all signs are assumed."""
    rows, const = problem.rows[index][None], problem.const[index][None]
    parts = [_by_stage(problem.stages, t[None]) for t in (splits.double(), splits, multipliers)]  # slopes are of no use there
    made = relaxed(problem.stages, (problem.low, problem.high), rows, const, *parts)
    return float(made.bound[0] - multipliers @ problem.unit_slack)


def _by_stage(stages: tuple[Stage, ...], t: Tensor) -> list[Tensor]:
    return list(t.split([stage.units for stage in stages], 1))


def _costs(problem: Problem, made: Relaxed, splits: Tensor, slopes: Tensor) -> Tensor:
    """By how much each unit's relaxation may lower each node's bound, (n, units); -1 where the sign is assumed."""
    costs = []
    for stage, use, slope in zip(problem.stages, made.uses, _by_stage(problem.stages, slopes), strict=True):
        # how far the lines lie from the ReLU: the chord at most -l u / (u - l), at z = 0; slope z at most at l or at u
        over = (-use).clamp_min(0) * (-stage.low * stage.high / (stage.high - stage.low))
        under = use.clamp_min(0) * torch.maximum(-slope * stage.low, (1 - slope) * stage.high)
        costs.append(over + under)
    return torch.where(splits == 0, torch.cat(costs, 1), -1.0)


def _some(made: Relaxed, which: Tensor) -> Relaxed:
    return Relaxed(made.bound[which], made.inputs[which], [use[which] for use in made.uses])


def _strongest(
    problem: Problem, index: int, made: Relaxed, splits: Tensor, slopes: Tensor, multipliers: Tensor, enough: float
) -> Tensor:
    """For each node the unit whose split raises the bounds most, or -1 where every sign is assumed, (n,).

    Of the :data:`CANDIDATES` units whose relaxations may lower the bound most, both cases are bounded with the node's own
    slopes and multipliers. What counts is the product of what they gain, up to ``enough`` (Achterberg 2007).
    """
    if not problem.units or not len(splits):
        return torch.full((len(splits),), -1)
    most = _costs(problem, made, splits, slopes).topk(min(CANDIDATES, problem.units), 1)
    cases = splits[:, None, None].repeat(1, most.indices.shape[1], 2, 1)  # (n, candidates, 2, units)
    at = most.indices[:, :, None, None].expand(*cases.shape[:3], 1)
    cases.scatter_(3, at, torch.tensor([[1], [-1]], dtype=torch.int8).expand_as(at))

    def repeated(t: Tensor) -> list[Tensor]:
        return _by_stage(problem.stages, t[:, None, None].expand_as(cases).flatten(0, 2))

    rows, const = problem.rows[index].expand(at.numel(), -1), problem.const[index].expand(at.numel())
    parts = repeated(slopes), _by_stage(problem.stages, cases.flatten(0, 2)), repeated(multipliers)
    bounds = relaxed(problem.stages, (problem.low, problem.high), rows, const, *parts).bound.view(cases.shape[:3])
    missing = (enough - made.bound)[:, None, None].clamp_min(0)
    gains = torch.minimum(bounds - made.bound[:, None, None], missing).clamp_min(1e-4 * missing).prod(2)
    best = torch.where(most.values < 0, -1.0, gains).argmax(1, keepdim=True)
    return torch.where(most.values[:, 0] < 0, -1, most.indices.gather(1, best)[:, 0])


def solve_leaf(problem: Problem, index: int, splits: Tensor, enough: float = 0.0) -> tuple[float, Tensor | None, Tensor]:
    """A lower bound of the margin where all signs are assumed, tight but for rounding, where it is reached, and multipliers.

    Infinity where no input has these signs. Both are checked by the linear program's own multipliers: any multipliers >= 0
    of the inequalities give a bound, less what rounding makes of these, so that no solver's tolerance makes a wrong proof.
    Those returned, (units,), give the bound, or where it is infinity one above ``enough`` if float64 can.
    """
    (objective, shift), (matrix, limit) = _substituted(problem, index, splits)
    box = torch.stack([problem.low, problem.high], 1).numpy()
    room = limit + problem.unit_slack.numpy()

    def least(cost: Array, weights: Array) -> float:
        # where matrix @ x <= limit, cost @ x >= cost @ x + weights @ (matrix @ x - limit), least at a corner of the box
        slope = cost + weights @ matrix
        return float(np.where(slope > 0, slope * box[:, 0], slope * box[:, 1]).sum() - weights @ room)

    solved = linprog(objective, matrix, limit, bounds=box, method="highs")
    if solved.status == 0:
        point = torch.from_numpy(np.clip(solved.x, box[:, 0], box[:, 1]))
        weights = np.maximum(-solved.ineqlin.marginals, 0)
        return least(objective, weights) + shift, point, torch.from_numpy(weights)
    # by how much must the inequalities be loosened? More than 0 proves that there is no such input
    loosened = linprog(
        np.append(np.zeros(len(box)), 1.0),
        np.column_stack([matrix, -np.ones(len(matrix))]),
        limit,
        bounds=[*map(tuple, box), (0, None)],
        method="highs",
    )
    weights = np.maximum(-loosened.ineqlin.marginals, 0) if loosened.status == 0 else np.zeros(len(limit))
    if (gain := least(np.zeros(len(box)), weights)) <= 0:
        return -float("inf"), None, torch.from_numpy(weights)
    times = 1 + 2 * max(enough - shift - least(objective, 0 * weights), 0) / gain
    weights = times * weights
    return float("inf"), None, torch.from_numpy(weights)


def _substituted(problem: Problem, index: int, splits: Tensor) -> tuple[tuple[Array, float], tuple[Array, Array]]:
    """The margin as an affine function of the inputs, and the signs as inequalities matrix @ x <= limit."""
    inputs = len(problem.low)
    units, shifts = torch.zeros(problem.units, inputs).double(), torch.zeros(problem.units).double()
    matrix, limit = [torch.zeros(0, inputs).double()], [torch.zeros(0).double()]
    done = 0
    for stage in problem.stages:
        rows = stage.rows[:, :inputs] + stage.rows[:, inputs:] @ units[:done]
        const = stage.const + stage.rows[:, inputs:] @ shifts[:done]
        side = splits[done : done + stage.units].double()
        matrix.append(-side[:, None] * rows)
        limit.append(side * const)
        units[done : done + stage.units] = (side > 0)[:, None] * rows
        shifts[done : done + stage.units] = (side > 0) * const
        done += stage.units
    row = problem.rows[index]
    objective = row[:inputs] + row[inputs:] @ units
    shift = float(problem.const[index] + row[inputs:] @ shifts)
    return (objective.numpy(), shift), (torch.cat(matrix).numpy(), torch.cat(limit).numpy())


def mixed_integer(
    problem: Problem, index: int, check: Check, *, enough: float, seconds: float, solver: Solver = "highs", rounds: int = 0
) -> Found:
    """Decide the sign of margin ``index`` by a mixed-integer program (Tjeng et al. 2019), in ``seconds`` (CPU; Gurobi: wall).

    One binary variable for each unstable unit. Rows ask for margin <= ``enough``, and the margin is also the objective, so
    that the search stops at the first input below 0. Only the solver's own word "infeasible" counts as a proof, of a program
    that is scaled and leaves room for tolerances and rounding (:func:`advlab.verification.programs.program`). Where it cannot
    even begin, as Gurobi with a model too large for its licence, a RuntimeWarning says why and the end is "unknown",
    ``refused``. Before, the problem is :func:`narrowed` so many ``rounds``, which may prove it too.
    Raises what :func:`check_solver` raises.
    """
    check_solver(solver)
    began = time.thread_time()
    for _ in range(rounds):
        if (left := narrowed(problem, index, enough, began + seconds)) is None:
            return Found("robust", enough)
        problem = left
    seconds = max(seconds - (time.thread_time() - began), 0.0)
    asked = program(problem, index, enough)
    answer = (gurobi if solver == "gurobi" else highs)(asked, float(seconds))
    if answer.refused:
        warnings.warn(f'{answer.refused}. The verdict is "unknown".', RuntimeWarning, stacklevel=2)
        return Found("unknown", -float("inf"), refused=True)
    if answer.infeasible:
        return Found("robust", enough, seconds=answer.seconds)
    if answer.values is not None:
        width = problem.high - problem.low
        point = (problem.low + width * torch.from_numpy(answer.values[: len(width)])).clamp(problem.low, problem.high)
        if (witness := check(point[None])) is not None:
            bound = asked.range * float(asked.cost @ answer.values + asked.offset)
            return Found("counterexample", bound, witness, seconds=answer.seconds)
    return Found("unknown", -float("inf"), seconds=answer.seconds)
