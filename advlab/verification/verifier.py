"""Exact verification of one input: robust, a counterexample, or honestly unknown."""

from __future__ import annotations

import functools
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from .. import checks
from .attack import attack_ball
from .layers import Array
from .prepared import Prepared, prepare
from .programs import Solver, check_solver
from .proofs import Evidence, Leaf, Question, describe, storable
from .reduced import Problem, class_margins, crown, optimised, reduce, relaxed
from .replay import ball, first_counterexample, least_margin, sure_margin
from .search import Check, Clock, branch_and_bound, mixed_integer

STAGES = ("prediction", "crown", "pgd", "alpha-crown", "branch and bound", "mixed-integer")
MOST_UNITS = 1500  #: with more, a solver does not even begin in time, and does not hear that it is to stop
#: The parts of the search in turn, with seconds for each margin, by the number of unstable units: from so many on. Where there
#: are more, the solver is slower, and branch and bound has half of the time for the hardest margin.
ROUNDS = {
    0: (("branch and bound", 0.5), ("mixed-integer", math.inf)),
    150: (("branch and bound", 2.0), ("mixed-integer", 2.0), ("branch and bound", math.inf), ("mixed-integer", math.inf)),
    400: (("branch and bound", math.inf), ("mixed-integer", math.inf)),
}
#: Without a solver: first what is easy of several margins, then the hardest last, which has all that is left.
UNSOLVED = (("branch and bound", 2.0), ("branch and bound", math.inf))
NARROWINGS = 2  #: rounds of them before the solver is asked


@dataclass(frozen=True)
class Verdict:
    """What :func:`verify` found about one input.

    >>> net = nn.Sequential(nn.Linear(2, 2, bias=False), nn.ReLU(), nn.Linear(2, 2, bias=False)).eval()
    >>> _ = [nn.init.eye_(p) for p in net.parameters()]  # its logits are the two inputs
    >>> found = verify(net, torch.tensor([0.8, 0.3]), 0, 0.3)
    >>> found.status, bool(found.witness[1] >= found.witness[0])
    ('counterexample', True)
    """

    status: str  #: "robust", "counterexample" or "unknown"
    stage: str  #: the stage that decided, or the last one that ran
    bound: float  #: a lower bound of the margin on the ball; of a counterexample, the margin there
    seconds: float  #: CPU seconds
    unstable: tuple[int, ...] = ()  #: units of each ReLU layer that CROWN bounds leave unstable
    witness: Tensor | None = field(default=None, repr=False)  #: a counterexample in the shape and dtype of the input
    proof: bytes | None = field(default=None, repr=False)  #: a file for the checker, where one was asked for and found
    asked: bool = field(default=False, repr=False)  #: for a proof

    @property
    def grade(self) -> str:
        """What supports it: "proved" with a proof, "solved" where none was found; "" if none was asked for, or of "unknown"."""
        return "" if not self.asked or self.status == "unknown" else "solved" if self.proof is None else "proved"


def verify(
    net: nn.Module,
    x: Tensor,
    y: int,
    eps: float,
    *,
    time_limit: float = 120.0,
    margin: float = 1e-6,
    last_stage: str = STAGES[-1],
    solver: Solver = "highs",
    proof: bool = False,
) -> Verdict:
    """Is every input within ``eps`` (linf) of ``x`` and in [0, 1] classified as ``y``?

    The stages, each only if those before did not decide: the prediction; CROWN bounds on the problem that is left when stable
    units are eliminated; PGD; optimised slopes; branch and bound; a mixed-integer program.

    Parameters
    ----------
    net : nn.Module in eval mode, of the layers that :func:`normal_form` takes
    x : Tensor, one input without a batch dimension, in [0, 1]
    y, eps : label, a whole number, and float from 0 up
    time_limit : float above 0, in CPU seconds
    margin : float above 0, in logits; raise it to rule out float32's rounding
    last_stage : one of ``STAGES``, to stop earlier
    solver : "highs" or, where gurobipy is installed, "gurobi"
    proof : bool, with a proof in the verdict, for :mod:`advlab.verification.check`; TypeError for layers that it does not know
    Returns
    -------
    Verdict
    Raises
    ------
    ValueError, TypeError, ImportError
        a bad argument, a network without a normal form, a solver that is not installed
    Guarantee
    ---------
    "robust": all margins exceed ``margin``, in real arithmetic: bounds are computed in float64 and lowered by all that its
    rounding may have added. By the last stage it rests on the solver's word about a scaled problem that leaves room for its
    tolerances. "counterexample": ``witness`` lies in the ball, in the dtype of ``x``, and is misclassified by more than
    float64 may be wrong; a misclassified ``x`` is its own. All else is "unknown", such as what rounding hides, with a
    RuntimeWarning where Gurobi's licence does not allow for the problem.
    References
    ----------
    Tjeng et al. (2019); Zhang et al. (2018); Wang et al. (2021); Jia and Rinard (2021) for what float32 does
    Examples
    --------
    >>> net = nn.Sequential(nn.Linear(2, 2, bias=False), nn.ReLU(), nn.Linear(2, 2, bias=False)).eval()
    >>> _ = [nn.init.eye_(p) for p in net.parameters()]  # its logits are the two inputs, which meet at eps = 0.25
    >>> [verify(net, torch.tensor([0.75, 0.25]), 0, eps).status for eps in (0.24, 0.26)]
    ['robust', 'counterexample']
    """
    clock = Clock(time_limit)
    x = given("x", x)
    check_inputs(x, eps, time_limit, margin, last_stage, solver)
    eps, prepared = float(eps), prepare(net, tuple(x.shape))
    if proof and not prepared.described:
        prepared.described.update(describe(net, tuple(x.shape)))
    classes = prepared.form.logits.units
    (label,) = labels(y, 1, classes).tolist()
    box = ball(x.double().flatten().cpu(), eps)
    attack = functools.partial(attack_ball, net, x, label, eps)
    question = Question(prepared.described, x, label, eps, margin) if proof else None
    budget = Budget(clock, margin, STAGES.index(last_stage), solver, question)
    return decide(prepared, x, box, class_margins(label, classes), attack, budget)


@dataclass(frozen=True)
class Budget:
    clock: Clock
    margin: float
    stop: int  #: the place of the last stage
    solver: Solver
    question: Question | None = None  #: of the proof that is asked for
    evidence: Evidence = field(default_factory=dict)

    def enough(self, problem: Problem) -> float:
        """The bound that a margin needs, with room for what the checker rounds."""
        return self.margin if self.question is None else self.margin + max(self.margin, 100 * float(problem.slack.max()))


_Outcome = tuple[str, str, float, Tensor | None]


def decide(
    prepared: Prepared,
    x: Tensor,
    box: tuple[Tensor, Tensor],
    margins: tuple[Array, Array],
    attack: Callable[[], Tensor] | None,
    budget: Budget,
) -> Verdict:
    """The stages, one after the other, for any margins on any box around ``x``."""
    values = functools.partial(sure_margin, prepared.double, prepared.form, margins)
    unstable: tuple[int, ...] = ()
    problem, proof, question = None, None, budget.question
    if values(x[None].double()).item() < 0:
        outcome: _Outcome = ("counterexample", "prediction", 0.0, x.detach().clone())
    elif budget.stop < STAGES.index("crown"):
        outcome = ("unknown", "prediction", -math.inf, None)
    else:
        problem = reduce(prepared.form, box[0].numpy(), box[1].numpy(), *margins).lowered()
        unstable = tuple(stage.units for stage in problem.stages)
        with torch.enable_grad():  # slopes are optimised, whatever the caller's mode
            outcome = try_bounds(problem, functools.partial(first_counterexample, values, x, *box), attack, budget)
    status, stage, bound, witness = outcome
    if witness is not None:
        rows, const = (torch.from_numpy(part) for part in margins)
        bound = least_margin(prepared.double, rows, const, witness[None].double()).item()
    if question is not None and witness is not None:
        proof = question.counterexample(witness)
    elif question is not None and problem is not None and status == "robust" and bound > budget.enough(problem):
        proof = question.robust(problem, budget.evidence)
    return Verdict(status, stage, bound, budget.clock.spent, unstable, witness, proof, question is not None)


def try_bounds(problem: Problem, check: Check, attack: Callable[[], Tensor] | None, budget: Budget) -> _Outcome:
    """CROWN, the attack, optimised slopes, and then the search."""
    box, margin, stop = (problem.low, problem.high), budget.margin, budget.stop
    bounds, enough = crown(problem.stages, box, problem.rows, problem.const), budget.enough(problem)
    if bounds.min() > margin:
        return "robust", "crown", float(bounds.min()), None
    attacks = attack is not None and stop >= STAGES.index("pgd") and bool((problem.high > problem.low).any())
    if attack is not None and attacks and (witness := check(attack())) is not None:
        return "counterexample", "pgd", 0.0, witness
    if stop < STAGES.index("alpha-crown"):
        return "unknown", STAGES[stop], float(bounds.min()), None
    open_ = (bounds <= enough).nonzero()[:, 0]
    slopes = [(stage.high > -stage.low).double().expand(len(open_), -1) for stage in problem.stages]
    limits: dict[str, Any] = {"steps": 30, "enough": enough, "deadline": time.thread_time() + budget.clock.left / 2}
    best, slopes, _ = optimised(problem.stages, box, problem.rows[open_], problem.const[open_], slopes, **limits)
    if budget.question is not None:
        slopes = [storable(s, s)[0] for s in slopes]
        best = relaxed(problem.stages, box, problem.rows[open_], problem.const[open_], slopes)
    each = dict(zip(open_.tolist(), torch.cat(slopes, 1) if slopes else torch.zeros(len(open_), 0), strict=True))
    if budget.question is not None:
        budget.evidence.update({k: [Leaf((), s, torch.zeros_like(s))] for k, s in each.items()})
    bounds[open_] = torch.maximum(bounds[open_], best.bound)
    if bounds.min() > margin:
        return "robust", "alpha-crown", float(bounds.min()), None
    if stop < STAGES.index("branch and bound"):
        return "unknown", "alpha-crown", float(bounds.min()), None
    return search_margins(problem, bounds, each, check, budget)


def search_margins(problem: Problem, bounds: Tensor, slopes: dict[int, Tensor], check: Check, budget: Budget) -> _Outcome:
    """Each margin that is open, the least first: branch and bound, then the solver."""
    clock, margin, complete = budget.clock, budget.margin, budget.stop >= STAGES.index("mixed-integer")
    complete &= problem.units <= MOST_UNITS
    enough = margin if budget.question is None else budget.enough(problem)
    todo = sorted((k for k in slopes if bounds[k] <= enough), key=lambda k: float(bounds[k]))
    fitting = ROUNDS[max(units for units in ROUNDS if units <= problem.units)]
    rounds = fitting if complete else UNSOLVED[len(todo) == 1 :]
    for turn, (stage, limit) in enumerate(rounds):
        final, left = complete and turn == len(rounds) - 1, []
        todo = todo if complete or turn == 0 else todo[::-1]
        for done, k in enumerate(todo):
            if (rest := clock.left) <= 0 and final:
                return "unknown", stage, float(bounds.min()), None
            if stage == "mixed-integer":  # in the end all that is left for each: without the hardest there is no proof
                seconds = rest if final else min(rest / (2 * len(todo)), limit)
                seconds *= clock.slowness if budget.solver == "gurobi" else 1
                limits: dict[str, Any] = {"enough": margin, "seconds": seconds, "rounds": NARROWINGS}
                found = mixed_integer(problem, k, check, **limits, solver=budget.solver)
                clock.elsewhere += found.seconds
            else:
                most = rest if done == len(todo) - 1 and not complete else rest / 2
                part = rest / (len(todo) - done) / (1 if complete else 2)
                share = most if math.isinf(limit) else min(part, limit)
                deadline, proof = time.thread_time() + share, budget.question is not None
                options = {"proof": True} if proof else {}
                found = branch_and_bound(problem, k, check, enough=enough, deadline=deadline, slopes=slopes[k], **options)
                budget.evidence[k] = found.leaves
            if found.status == "counterexample" or (final and found.status == "unknown"):
                stage = "branch and bound" if found.refused else stage
                return found.status, stage, found.bound if found.witness is not None else float(bounds.min()), found.witness
            bounds[k] = max(float(bounds[k]), found.bound)
            left += [k] * (found.status == "unknown")
        todo = left
        if not todo:
            break
    return "unknown" if todo else "robust", stage, float(bounds.min()), None


def given(name: str, value: Any) -> Tensor:
    """What is given as a tensor, an array or numbers (in float64), without a graph. Raises TypeError for anything else."""
    try:
        return value.detach() if isinstance(value, Tensor) else torch.from_numpy(np.asarray(value))
    except (TypeError, ValueError, RuntimeError) as e:
        raise TypeError(f"{name} is {value!r:.50}; it must be a tensor, or an array or numbers that make one") from e


def labels(y: Any, n: int, classes: int) -> Tensor:
    """``y`` as ``n`` labels (n,) in int64. Raises ValueError for others than whole numbers from 0 to ``classes`` - 1."""
    if classes < 2:
        raise ValueError(f"the network has {classes} logit and no classes to tell apart: ask verify_property about its value")
    found = given("y", y).flatten()
    if len(found) != n:
        raise ValueError(f"x has {n} inputs and y {len(found)} labels; they must be equally many")
    whole = found.long()
    if (bad := (whole != found) | (whole < 0) | (whole >= classes)).any():
        said = f"the network has {classes} classes, so that labels are whole numbers from 0 to {classes - 1}"
        raise ValueError(f"{checks.first(bad, found, 'y')}; {said}")
    return whole


def check_floats(name: str, value: Tensor) -> None:
    """Raises TypeError for what is no float, ValueError for half precision."""
    if value.dtype in (torch.float16, torch.bfloat16):
        raise ValueError(f"{name} is {value.dtype}; give it in float32 or float64, which hold the same numbers")
    if not value.is_floating_point():
        raise TypeError(f"{name} is {value.dtype}; it must be in float32 or float64: {name}.float(), / 255 for bytes")


def check_inputs(
    x: Tensor, eps: float, time_limit: float, margin: float, last_stage: str, solver: str, *, batch: bool = False
) -> None:
    """Raises ValueError for inputs, a budget or limits that :func:`verify` cannot take, ImportError for a missing solver.

    ``x`` is one input, or several, (n, ...), where it is a ``batch``. TypeError is raised for what is no number.
    """
    check_floats("x", x)
    if x.ndim < 1 + batch or not x.numel():
        needed = "a batch of inputs, (n, ...)" if batch else "one input, without a batch dimension"
        raise ValueError(f"x has the shape {tuple(x.shape)}; it must be {needed}")
    if (bad := ~((x >= 0) & (x <= 1))).any():
        raise ValueError(f"{checks.first(bad, x, 'x')}; inputs must lie in [0, 1] (other boxes: verify_property)")
    if isinstance(eps, Tensor) and eps.numel() != 1:
        raise ValueError(f"eps has the shape {tuple(eps.shape)}; it must be one number")
    checks.budget(eps, limited=True)
    check_limits(time_limit, margin, last_stage, solver)


def check_limits(time_limit: float, margin: float, last_stage: str, solver: str) -> None:
    for name, value in (("time_limit", time_limit), ("margin", margin)):
        checks.setting(name, value, (lambda v: v > 0, "a number above 0"))
    if last_stage not in STAGES:
        raise ValueError(f"last_stage is {last_stage!r}; it must be one of {', '.join(map(repr, STAGES))}")
    check_solver(solver)
