"""Mixed-integer programs for the sign of a margin (Tjeng et al. 2019): scaled, and given to HiGHS or Gurobi."""

from __future__ import annotations

import importlib
import threading
import time
from dataclasses import dataclass
from typing import Any, Literal, get_args

import highspy
import numpy as np
import torch
from scipy import sparse

from .layers import Array
from .reduced import Problem

#: The solver of mixed-integer programs: HiGHS comes with the library, Gurobi is the reader's own.
Solver = Literal["highs", "gurobi"]
SOLVERS: tuple[str, ...] = get_args(Solver)

TOLERANCE = 1e-9  #: by how much solvers may violate what they are told, where all variables have a range of about 1
SMALLEST = 1e-12  #: below this HiGHS takes a coefficient for 0
PATIENCE = 1.0  #: seconds that a solver has to stop when it is told to


def check_solver(solver: str) -> None:
    """Raises ValueError for a solver that is not known, ImportError for one that is not installed."""
    if solver not in SOLVERS:
        raise ValueError(f"solver is {solver!r}; it must be one of {', '.join(map(repr, SOLVERS))}")
    if solver == "gurobi":
        _gurobipy()


@dataclass(frozen=True)
class Program:
    """Minimise cost @ v + offset where least <= matrix @ v <= most and 0 <= v <= 1, the last ``binary`` of v 0 or 1."""

    cost: Array
    offset: float
    matrix: Array
    least: Array
    most: Array
    binary: int
    range: float  #: the margin is so many times the objective


def program(problem: Problem, index: int, enough: float) -> Program:
    """Margin ``index`` at most ``enough``, over the inputs, the outputs of the units and their signs, all from 0 to 1.

    A solver's tolerances are absolute, so inputs are parts of their width, outputs parts of the largest that a unit has, and
    the objective is a part of the margin's range. The last row leaves room for what tolerances, and the rounding of the
    scaled numbers, can add up to: one row that is violated moves the units after it, and the margin last.
    """
    inputs, units = len(problem.low), problem.units
    ends = [torch.cat([getattr(s, end) for s in problem.stages]).numpy() if units else np.zeros(0) for end in ("low", "high")]
    low, high = ends[0] - problem.unit_slack.numpy(), ends[1] + problem.unit_slack.numpy()
    unit = np.maximum(-low, high)
    scale = np.concatenate([(problem.high - problem.low).numpy(), unit])
    rows, const = np.zeros((units, inputs + units)), np.zeros(units)
    stages = list(zip(np.cumsum([0, *(stage.units for stage in problem.stages)]), problem.stages, strict=False))
    for done, stage in stages:
        here = slice(done, done + stage.units)
        rows[here, : stage.start] = stage.rows.numpy() * scale[: stage.start] / unit[here, None]
        const[here] = (stage.const + stage.rows[:, :inputs] @ problem.low).numpy() / unit[here]
    cost = problem.rows[index].numpy() * scale
    offset = float(problem.const[index] + problem.rows[index, :inputs] @ problem.low)
    whole = float(abs(cost).sum()) or 1.0
    moves = abs(cost[inputs:]) / whole  # by how much a violation of 1 in a unit's rows moves the objective
    for done, stage in reversed(stages):
        moves[:done] += abs(rows[done : done + stage.units, inputs : inputs + done]).T @ moves[done : done + stage.units]
    each = 4 * TOLERANCE + SMALLEST * len(scale)
    room = each + float(moves @ (each + problem.unit_slack.numpy() / unit))
    matrix, least, most = _big_m(rows, const, low / unit, high / unit, inputs)
    cost = np.append(cost / whole, np.zeros(units))
    cut = (enough - offset) / whole + room
    return Program(
        cost, offset / whole, np.vstack([matrix, cost]), np.append(least, -np.inf), np.append(most, cut), units, whole
    )


def _big_m(rows: Array, const: Array, low: Array, high: Array, inputs: int) -> tuple[Array, Array, Array]:
    """The rows of all unstable units: a >= z, a <= z - l (1 - s), a <= u s; as least <= matrix @ variables <= most.

    With the sign s = 1 and a >= 0 they say z <= a <= z, and a <= u is no limit; with s = 0 they say a = 0 and z <= 0.
    """
    n = len(rows)
    unit = np.hstack([np.zeros((n, inputs)), np.eye(n), np.zeros((n, n))])
    sign = np.hstack([np.zeros((n, inputs + n)), np.eye(n)])
    before = np.hstack([rows, np.zeros((n, n))])
    matrix = np.vstack([unit - before, unit - before - low[:, None] * sign, unit - high[:, None] * sign])
    least = np.concatenate([const, np.full(2 * n, -np.inf)])
    return matrix, least, np.concatenate([np.full(n, np.inf), const - low, np.zeros(n)])


@dataclass(frozen=True)
class Answer:
    """What a solver says of a program."""

    infeasible: bool = False  #: for certain
    values: Array | None = None  #: a point, if there is one
    refused: str = ""  #: why it could not begin
    seconds: float = 0.0  #: CPU seconds that it took in a thread of its own


def highs(program: Program, seconds: float) -> Answer:
    """By HiGHS, in a thread of its own, whose CPU ``seconds`` are the limit; so that Ctrl-C is heard meanwhile."""
    solver = highspy.Highs()
    options: dict[str, Any] = {"output_flag": False, "threads": 1, "presolve": "off", "small_matrix_value": SMALLEST}
    tolerances = ("primal_feasibility_tolerance", "dual_feasibility_tolerance", "mip_feasibility_tolerance", "mip_abs_gap")
    options |= dict.fromkeys(tolerances, TOLERANCE) | {"objective_target": -TOLERANCE}
    if any(solver.setOptionValue(name, value) == highspy.HighsStatus.kError for name, value in options.items()):
        return Answer()
    model = highspy.HighsLp()
    model.num_row_, model.num_col_ = program.matrix.shape
    model.col_cost_, model.offset_ = program.cost, program.offset
    model.col_lower_, model.col_upper_ = np.zeros(model.num_col_), np.ones(model.num_col_)
    kinds = highspy.HighsVarType
    model.integrality_ = [kinds.kContinuous] * (model.num_col_ - program.binary) + [kinds.kInteger] * program.binary
    model.row_lower_, model.row_upper_ = program.least, program.most
    rows, columns = np.nonzero(program.matrix)
    model.a_matrix_.format_ = highspy.MatrixFormat.kRowwise
    model.a_matrix_.start_ = np.concatenate([[0], np.cumsum(np.bincount(rows, minlength=model.num_row_))])
    model.a_matrix_.index_, model.a_matrix_.value_ = columns, program.matrix[rows, columns]
    if solver.passModel(model) == highspy.HighsStatus.kError:
        return Answer()
    spent = _run(solver, seconds)
    values = np.asarray(solver.getSolution().col_value)
    infeasible = solver.getModelStatus() == highspy.HighsModelStatus.kInfeasible
    return Answer(infeasible, values if len(values) == model.num_col_ else None, seconds=spent)


def _run(solver: highspy.Highs, seconds: float) -> float:
    """Run HiGHS until it ends, its thread has had ``seconds``, or an exception comes here. Returns its CPU seconds."""
    halt, done, spent = threading.Event(), threading.Event(), [0.0]

    def ask(event: Any) -> None:
        if halt.is_set() or time.thread_time() > seconds:
            event.interrupt()

    def run() -> None:
        try:
            solver.run()
        finally:
            spent[0] = time.thread_time()
            done.set()

    for place in (solver.cbMipInterrupt, solver.cbSimplexInterrupt):
        place.subscribe(ask)
    threading.Thread(target=run, daemon=True).start()
    try:
        done.wait()  # Thread.join, once interrupted, takes a thread for ended (Python 3.11)
    except BaseException:
        halt.set()
        done.wait(PATIENCE)
        raise
    return spent[0]


def _gurobipy() -> Any:
    try:
        return importlib.import_module("gurobipy")
    except ImportError as e:
        raise ImportError(
            "solver='gurobi' needs gurobipy: pip install gurobipy, whose licence comes with it, for at most 2,000 variables"
        ) from e


def gurobi(program: Program, seconds: float) -> Answer:
    """By Gurobi, in ``seconds`` of the wall. Each program has an environment of its own: threads may not share one."""
    gp = _gurobipy()
    try:
        with gp.Env(empty=True) as environment:
            environment.setParam("OutputFlag", 0)  # before it starts, or it announces its licence
            environment.start()
            with gp.Model(env=environment) as model:
                for name, value in (
                    ("Threads", 1),
                    ("TimeLimit", seconds),
                    ("MIPGapAbs", TOLERANCE),
                    ("DualReductions", 0),  # "infeasible or unbounded" is no proof: make it say which
                    ("FeasibilityTol", TOLERANCE),
                    ("IntFeasTol", TOLERANCE),
                    ("OptimalityTol", TOLERANCE),
                    ("BestObjStop", -TOLERANCE),
                ):
                    model.setParam(name, value)
                kinds = np.repeat(["C", "B"], [len(program.cost) - program.binary, program.binary])
                v = model.addMVar(len(program.cost), lb=0, ub=1, obj=program.cost, vtype=kinds)
                model.ObjCon = program.offset
                for sense, limit in ((">", program.least), ("<", program.most)):
                    rows = np.isfinite(limit)
                    model.addMConstr(sparse.csr_array(program.matrix[rows]), v, sense, limit[rows])
                model.optimize()
                if model.Status == gp.GRB.INTERRUPTED:  # it swallows Ctrl-C
                    raise KeyboardInterrupt
                return Answer(model.Status == gp.GRB.INFEASIBLE, v.X if model.SolCount else None)
    except gp.GurobiError as e:
        return Answer(refused=f"Gurobi cannot take the problem ({e}); take solver='highs', or another licence of Gurobi's")
