"""Complete search: branch and bound over the signs of unstable ReLUs, and a mixed-integer program with HiGHS or Gurobi."""

from __future__ import annotations

import heapq
import importlib
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

import highspy
import numpy as np
import torch
from scipy import sparse
from scipy.optimize import linprog
from torch import Tensor

from .layers import Array
from .reduced import Problem, Relaxed, Stage, optimised

#: A check of candidates: inputs (n, inputs) -> the first that is a counterexample, or None.
Check = Callable[[Tensor], Tensor | None]

#: The solver of mixed-integer programs: HiGHS comes with the library, Gurobi is the reader's own.
Solver = Literal["highs", "gurobi"]
SOLVERS: tuple[str, ...] = get_args(Solver)


@dataclass(frozen=True)
class Found:
    """The end of a search for one margin: "robust" with a bound, "counterexample" with a witness, or "unknown"."""

    status: str
    bound: float
    witness: Tensor | None = field(default=None, repr=False)
    nodes: int = 0
    refused: bool = False  #: the solver could not begin


@dataclass(order=True)
class _Node:
    bound: float
    order: int
    splits: Tensor = field(compare=False)  #: (units,) int8
    slopes: Tensor = field(compare=False)
    multipliers: Tensor = field(compare=False)
    unit: int = field(compare=False, default=-1)  #: the unit to split next, -1 if none is left


def branch_and_bound(
    problem: Problem, index: int, check: Check, *, enough: float, deadline: float, slopes: Tensor | None = None, batch: int = 32
) -> Found:
    """Prove that margin ``index`` exceeds ``enough`` on the box, or find a counterexample, or give up at ``deadline``.

    ``deadline`` is in :func:`time.process_time`. Each node assumes signs of some units; its bound is optimised over slopes
    and multipliers (Wang et al. 2021). The unit to split is the one whose relaxation costs most (Bunel et al. 2020). A node
    with all signs assumed is a linear program, solved exactly. ``slopes`` (units,) is where the optimisation starts.
    Guarantee: "robust" means that every leaf's bound exceeds ``enough``, in float64.
    """
    if slopes is None:
        slopes = torch.cat([(s.high > -s.low).double() for s in problem.stages] or [torch.zeros(0).double()])
    # z >= 0 and z <= 0 cover a node's inputs, so that the least bound of all leaves bounds the margin on the box. The heap
    # gives the node with the least bound first: without that one there is no proof.
    blank = torch.zeros(problem.units, dtype=torch.int8)
    heap: list[_Node] = []
    count, closed = 0, float("inf")  # closed: the least bound of the leaves that are done
    fresh = [(blank, slopes, torch.zeros(problem.units).double())]
    while fresh:
        splits, starts, weights = (torch.stack(parts) for parts in zip(*fresh, strict=True))
        made, found, kept = _node_bounds(problem, index, splits, starts, weights, enough, first=count == 0)
        count += len(fresh)
        corners = torch.where(made.inputs > 0, problem.low, problem.high)  # where the linear bounds are least, (n, inputs)
        if (witness := check(corners)) is not None:
            return Found("counterexample", float(made.bound.min()), witness, count)
        units = _costliest(problem, made, splits, found)
        for i, bound in enumerate(made.bound.tolist()):
            if bound > enough:
                closed = min(closed, bound)
            elif units[i] < 0:
                bound, point = solve_leaf(problem, index, splits[i])
                if point is not None and (witness := check(point[None])) is not None:
                    return Found("counterexample", bound, witness, count)
                if bound <= enough:
                    return Found("unknown", bound, None, count)  # the minimum is a near tie
                closed = min(closed, bound)
            else:
                heapq.heappush(heap, _Node(bound, count + i, splits[i], found[i], kept[i], int(units[i])))
        fresh = []
        if heap and time.process_time() > deadline:
            return Found("unknown", min(closed, heap[0].bound), None, count)
        for _ in range(min(batch, len(heap))):
            node = heapq.heappop(heap)
            for side in (1, -1):
                child = node.splits.clone()
                child[node.unit] = side
                fresh.append((child, node.slopes, node.multipliers))
    return Found("robust", closed, None, count)


def _node_bounds(
    problem: Problem, index: int, splits: Tensor, slopes: Tensor, multipliers: Tensor, enough: float, *, first: bool
) -> tuple[Relaxed, Tensor, Tensor]:
    """Bounds of n nodes, all tensors (n, units), with the slopes and multipliers that gave them."""
    rows, const = problem.rows[index].expand(len(splits), -1), problem.const[index].expand(len(splits))
    parts = [_by_stage(problem.stages, t) for t in (slopes, splits, multipliers)]
    made, found, kept = optimised(
        problem.stages, (problem.low, problem.high), rows, const, *parts, steps=20 if first else 10, enough=enough
    )
    if not problem.units:
        return made, slopes, multipliers
    return made, torch.cat(found, 1), torch.cat(kept, 1)


def _by_stage(stages: tuple[Stage, ...], t: Tensor) -> list[Tensor]:
    return list(t.split([stage.units for stage in stages], 1))


def _costliest(problem: Problem, made: Relaxed, splits: Tensor, slopes: Tensor) -> Tensor:
    """For each node the unit whose relaxation lowers the bound most, or -1 where every sign is assumed, (n,)."""
    if not problem.units:
        return torch.full((len(splits),), -1)
    costs = []
    for stage, use, slope in zip(problem.stages, made.uses, _by_stage(problem.stages, slopes), strict=True):
        # how far the lines lie from the ReLU: the chord at most -l u / (u - l), at z = 0; slope z at most at l or at u
        over = (-use).clamp_min(0) * (-stage.low * stage.high / (stage.high - stage.low))
        under = use.clamp_min(0) * torch.maximum(-slope * stage.low, (1 - slope) * stage.high)
        costs.append(over + under)
    cost = torch.where(splits == 0, torch.cat(costs, 1), -1.0)
    most = cost.max(1)
    return torch.where(most.values < 0, -1, most.indices)


def solve_leaf(problem: Problem, index: int, splits: Tensor) -> tuple[float, Tensor | None]:
    """A lower bound of the margin where all signs are assumed, tight but for rounding, and where it is reached.

    Infinity where no input has these signs. Both are checked in float64 by the linear program's own multipliers: any
    multipliers >= 0 of the inequalities give a bound, so that a solver's tolerance cannot make a wrong proof.
    """
    (objective, shift), (matrix, limit) = _substituted(problem, index, splits)
    box = torch.stack([problem.low, problem.high], 1).numpy()

    def least(cost: Array, marginals: Array) -> float:
        # where matrix @ x <= limit, cost @ x >= cost @ x + weights @ (matrix @ x - limit), least at a corner of the box
        weights = np.maximum(-marginals, 0)
        slope = cost + weights @ matrix
        return float(np.where(slope > 0, slope * box[:, 0], slope * box[:, 1]).sum() - weights @ limit)

    solved = linprog(objective, matrix, limit, bounds=box, method="highs")
    if solved.status == 0:
        point = torch.from_numpy(np.clip(solved.x, box[:, 0], box[:, 1]))
        return least(objective, solved.ineqlin.marginals) + shift, point
    # by how much must the inequalities be loosened? More than 0 proves that there is no such input
    loosened = linprog(
        np.append(np.zeros(len(box)), 1.0),
        np.column_stack([matrix, -np.ones(len(matrix))]),
        limit,
        bounds=[*map(tuple, box), (0, None)],
        method="highs",
    )
    if loosened.status == 0 and least(np.zeros(len(box)), loosened.ineqlin.marginals) > 1e-9:
        return float("inf"), None
    return -float("inf"), None


def _substituted(problem: Problem, index: int, splits: Tensor) -> tuple[tuple[Array, float], tuple[Array, Array]]:
    """The margin as an affine function of the inputs, and the signs as inequalities matrix @ x <= limit."""
    inputs = len(problem.low)
    units, shifts = torch.zeros(problem.units, inputs).double(), torch.zeros(problem.units).double()
    matrix, limit = [], []
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


def check_solver(solver: str) -> None:
    """Raises ValueError for a solver that is not known, ImportError for one that is not installed."""
    if solver not in SOLVERS:
        raise ValueError(f"solver is {solver!r}; it must be one of {', '.join(map(repr, SOLVERS))}")
    if solver == "gurobi":
        _gurobipy()


def mixed_integer(
    problem: Problem, index: int, check: Check, *, enough: float, seconds: float, solver: Solver = "highs"
) -> Found:
    """Decide the sign of margin ``index`` by a mixed-integer program (Tjeng et al. 2019), in ``seconds`` (wall).

    One binary variable for each unstable unit. Rows ask for margin <= ``enough``, and the margin is also the objective, so
    that the search stops at the first input below 0. Only the solver's own word "infeasible" counts as a proof; it works with
    tolerances of 1e-9 here, so that a proof rests on its floating point too. Where it cannot even begin, as Gurobi with a
    model too large for its licence, a RuntimeWarning says why and the end is "unknown", ``refused``.
    Raises what :func:`check_solver` raises.
    """
    check_solver(solver)
    program = _program(problem, index, enough)
    infeasible, values, why = (_gurobi if solver == "gurobi" else _highs)(program, float(seconds))
    if why:
        warnings.warn(f'{why}. The verdict is "unknown".', RuntimeWarning, stacklevel=2)
        return Found("unknown", -float("inf"), refused=True)
    if infeasible:
        return Found("robust", enough)
    if values is not None:
        point = torch.from_numpy(values[: len(problem.low)]).clamp(problem.low, problem.high)
        if (witness := check(point[None])) is not None:
            return Found("counterexample", float(program.cost @ values) + program.offset, witness)
    return Found("unknown", -float("inf"))


@dataclass(frozen=True)
class _Program:
    """Minimise cost @ v + offset where least <= matrix @ v <= most and low <= v <= high, the last ``binary`` of v 0 or 1."""

    cost: Array
    offset: float
    low: Array
    high: Array
    matrix: Array
    least: Array
    most: Array
    binary: int


def _program(problem: Problem, index: int, enough: float) -> _Program:
    """The inputs, the outputs of the units and their signs, for margin ``index`` at most ``enough``."""
    units = problem.units
    highs = torch.cat([stage.high for stage in problem.stages]).numpy() if units else np.zeros(0)
    cost, offset = torch.cat([problem.rows[index], torch.zeros(units).double()]).numpy(), float(problem.const[index])
    matrix, least, most = _big_m(problem)
    return _Program(
        cost,
        offset,
        np.concatenate([problem.low.numpy(), np.zeros(2 * units)]),
        np.concatenate([problem.high.numpy(), highs, np.ones(units)]),
        np.concatenate([matrix, cost[None]]),
        np.append(least, -np.inf),
        np.append(most, enough - offset),
        units,
    )


#: Is the program infeasible for certain? A point, if there is one; and why the solver could not begin, "" if it could.
_Answer = tuple[bool, Array | None, str]


def _highs(program: _Program, seconds: float) -> _Answer:
    solver = highspy.Highs()
    options: dict[str, Any] = {"output_flag": False, "threads": 1, "time_limit": seconds, "presolve": "off"}
    options |= {"primal_feasibility_tolerance": 1e-9, "mip_feasibility_tolerance": 1e-9, "objective_target": -1e-9}
    if any(solver.setOptionValue(name, value) == highspy.HighsStatus.kError for name, value in options.items()):
        return False, None, ""
    model = highspy.HighsLp()
    model.num_row_, model.num_col_ = program.matrix.shape
    model.col_cost_, model.offset_ = program.cost, program.offset
    model.col_lower_, model.col_upper_ = program.low, program.high
    kinds = highspy.HighsVarType
    model.integrality_ = [kinds.kContinuous] * (model.num_col_ - program.binary) + [kinds.kInteger] * program.binary
    model.row_lower_, model.row_upper_ = program.least, program.most
    rows, columns = np.nonzero(program.matrix)
    model.a_matrix_.format_ = highspy.MatrixFormat.kRowwise
    model.a_matrix_.start_ = np.concatenate([[0], np.cumsum(np.bincount(rows, minlength=model.num_row_))])
    model.a_matrix_.index_, model.a_matrix_.value_ = columns, program.matrix[rows, columns]
    if solver.passModel(model) == highspy.HighsStatus.kError or solver.run() == highspy.HighsStatus.kError:
        return False, None, ""
    values = np.asarray(solver.getSolution().col_value)
    infeasible = solver.getModelStatus() == highspy.HighsModelStatus.kInfeasible
    return infeasible, values if len(values) == model.num_col_ else None, ""


def _gurobipy() -> Any:
    try:
        return importlib.import_module("gurobipy")
    except ImportError as e:
        raise ImportError(
            "solver='gurobi' needs gurobipy: pip install gurobipy, whose licence comes with it, for at most 2,000 variables"
        ) from e


def _gurobi(program: _Program, seconds: float) -> _Answer:
    """An environment of its own for each program: models of one may not be solved in two threads."""
    gp = _gurobipy()
    try:
        with gp.Env(empty=True) as environment:
            environment.setParam("OutputFlag", 0)  # before it starts, or it announces its licence
            environment.start()
            with gp.Model(env=environment) as model:
                for name, value in (
                    ("Threads", 1),
                    ("TimeLimit", seconds),
                    ("DualReductions", 0),  # "infeasible or unbounded" is no proof: make it say which
                    ("FeasibilityTol", 1e-9),
                    ("IntFeasTol", 1e-9),
                    ("OptimalityTol", 1e-9),
                    ("BestObjStop", -1e-9),
                ):
                    model.setParam(name, value)
                kinds = np.repeat(["C", "B"], [len(program.cost) - program.binary, program.binary])
                v = model.addMVar(len(program.cost), lb=program.low, ub=program.high, obj=program.cost, vtype=kinds)
                model.ObjCon = program.offset
                for sense, limit in ((">", program.least), ("<", program.most)):
                    rows = np.isfinite(limit)
                    model.addMConstr(sparse.csr_array(program.matrix[rows]), v, sense, limit[rows])
                model.optimize()
                if model.Status == gp.GRB.INTERRUPTED:  # it swallows Ctrl-C
                    raise KeyboardInterrupt
                return model.Status == gp.GRB.INFEASIBLE, v.X if model.SolCount else None, ""
    except gp.GurobiError as e:
        return False, None, f"Gurobi cannot take the problem ({e}); take solver='highs', or another licence of Gurobi's"


def _big_m(problem: Problem) -> tuple[Array, Array, Array]:
    """The rows of all unstable units: a >= z, a <= z - l (1 - s), a <= u s; as least <= matrix @ variables <= most.

    With the sign s = 1 and a >= 0 they say z <= a <= z, and a <= u is no limit; with s = 0 they say a = 0 and z <= 0.
    """
    inputs, units = len(problem.low), problem.units
    blocks, least, most = [], [], []
    done = 0
    for stage in problem.stages:
        n = stage.units
        unit = np.zeros((n, inputs + 2 * units))
        unit[np.arange(n), inputs + done + np.arange(n)] = 1
        sign = np.zeros_like(unit)
        sign[np.arange(n), inputs + units + done + np.arange(n)] = 1
        before = np.zeros_like(unit)
        before[:, : stage.start] = stage.rows.numpy()
        low, high, const = stage.low.numpy(), stage.high.numpy(), stage.const.numpy()
        blocks += [unit - before, unit - before - low[:, None] * sign, unit - high[:, None] * sign]
        least += [const, np.full(n, -np.inf), np.full(n, -np.inf)]
        most += [np.full(n, np.inf), const - low, np.zeros(n)]
        done += n
    if not blocks:
        return np.zeros((0, inputs)), np.zeros(0), np.zeros(0)
    return np.concatenate(blocks), np.concatenate(least), np.concatenate(most)
