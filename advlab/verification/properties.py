"""Properties: linear conditions on the outputs of a network, on any box of inputs, each alone or in conjunctions."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from .attack import attack_box
from .boxes import FEW_INPUTS, split_inputs
from .prepared import compare, prepare
from .programs import Solver
from .reduced import Problem, reduce
from .replay import first_counterexample, least_margin, sure_margin
from .search import Check, Clock, Found
from .verifier import STAGES, Budget, Verdict, check_floats, check_limits, decide, given


class WorstWays(nn.Module):
    """A network and then, for each way of a property to be unsafe, the greatest of its rows: safe while that is above 0."""

    def __init__(self, net: nn.Module, rows: Tensor, const: Tensor, places: list[list[int]]) -> None:
        super().__init__()
        self.net, self.most = net, max(map(len, places))
        for k in range(self.most):
            chosen = [each[min(k, len(each) - 1)] for each in places]
            layer = nn.Linear(rows.shape[1], len(chosen), dtype=torch.float64)
            with torch.no_grad():
                layer.weight.copy_(rows[chosen])
                layer.bias.copy_(const[chosen])
            self.add_module(f"condition{k}", layer)

    def forward(self, x: Tensor) -> Tensor:
        outputs = self.net(x).flatten(1)
        conditions = [self.get_submodule(f"condition{k}")(outputs) for k in range(self.most)]
        return functools.reduce(torch.maximum, conditions)


# Ten parameters: the network, the question in its five parts, and the limits of verify.
def verify_property(
    net: nn.Module,
    low: Tensor,
    high: Tensor,
    rows: Tensor,
    const: Tensor,
    *,
    ways: Sequence[int] | None = None,
    time_limit: float = 120.0,
    margin: float = 1e-6,
    last_stage: str = STAGES[-1],
    solver: Solver = "highs",
) -> Verdict:
    """Is rows @ logits + const above 0, in every row, for all inputs from ``low`` to ``high``?

    Parameters
    ----------
    net, time_limit, margin, last_stage, solver : as in :func:`verify`
    low, high : Tensors of one input's shape, low <= high; the box may lie anywhere
    rows, const : Tensors (m, classes) and (m,)
    ways : m numbers; of rows with the same number it is enough that one is above 0. None: each row is to be
    Returns
    -------
    Verdict, "robust" where the property holds
    Raises
    ------
    ValueError, TypeError, ImportError
        as :func:`verify`, and for a box or rows that do not fit
    Guarantee
    ---------
    That of :func:`verify`. The middle of the box stands for the prediction, and where few inputs are free, these are split.
    Examples
    --------
    >>> net = nn.Sequential(nn.Linear(1, 2, bias=False), nn.ReLU(), nn.Linear(2, 1, bias=False)).eval()
    >>> for p, weight in zip(net.parameters(), ([[1.0], [-1.0]], [[1.0, 1.0]]), strict=True):  # it computes |x|
    ...     _ = p.data.copy_(torch.tensor(weight))
    >>> low, high, rows = torch.tensor([-1.0]), torch.tensor([2.0]), torch.tensor([[-1.0]])
    >>> [verify_property(net, low, high, rows, torch.tensor([c])).status for c in (2.1, 1.9)]  # is |x| < c on [-1, 2]?
    ['robust', 'counterexample']
    """
    clock = Clock(time_limit)
    low, high, rows, const = map(given, ("low", "high", "rows", "const"), (low, high, rows, const))
    check_floats("low", low)
    check_floats("high", high)
    if low.shape != high.shape or not bool((low <= high).all()) or not bool((low.isfinite() & high.isfinite()).all()):
        raise ValueError("low and high must be finite, of one shape, with low <= high everywhere")
    check_limits(time_limit, margin, last_stage, solver)
    prepared = prepare(net, tuple(low.shape))
    if bool((low < 0).any() | (high > 1).any()):  # inside [0, 1] that is done once
        compare(prepared, torch.stack([low.double(), high.double(), (low.double() + high.double()) / 2]))
    outputs = prepared.form.logits.units
    if const.ndim != 1 or rows.shape != (len(const), outputs):
        raise ValueError(f"rows is {tuple(rows.shape)} and const {tuple(const.shape)}; they must be (m, {outputs}) and (m,)")
    if not (len(const) and rows.isfinite().all() and const.isfinite().all()):
        raise ValueError("rows and const must have one row or more, all of finite numbers")
    if ways is not None and len(ways) != len(const):
        raise ValueError(f"ways has {len(ways)} numbers; it must have one for each of the {len(const)} rows")
    numbers = range(len(const)) if ways is None else ways
    places = [[k for k, way in enumerate(numbers) if way == one] for one in dict.fromkeys(numbers)]
    budget = Budget(clock, margin, STAGES.index(last_stage), solver)
    return _decided(net, (low, high), (rows.double(), const.double()), places, budget)


def _decided(
    net: nn.Module, box: tuple[Tensor, Tensor], margins: tuple[Tensor, Tensor], places: list[list[int]], budget: Budget
) -> Verdict:
    """By splitting inputs, and what is then open as any other margins; ``places`` has the rows of each way to be unsafe."""
    shape, (low, high), limit = tuple(box[0].shape), (end.double().flatten() for end in box), budget.clock.limit
    plain = prepare(net, shape)
    rows, const = (part.numpy() for part in margins)
    worst, asked = plain, (rows, const)
    if len(places) < len(margins[1]):
        worst = prepare(WorstWays(net, *margins, places).eval(), shape)
        asked = np.eye(len(places)), np.zeros(len(places))
    # pyrefly: ignore[bad-argument-count, bad-argument-type]
    attack = functools.partial(attack_box, worst.double, box, *map(torch.from_numpy, asked), limit / 10)
    middle = ((box[0].double() + box[1].double()) / 2).to(box[0].dtype)
    if int((high > low).sum()) <= FEW_INPUTS and budget.stop >= STAGES.index("branch and bound"):
        problem = reduce(plain.form, low.numpy(), high.numpy(), rows, const).lowered()
        check = functools.partial(first_counterexample, functools.partial(sure_margin, worst.double, worst.form, asked), middle)
        found, stage = _by_inputs(problem, places, functools.partial(check, low, high), attack, budget)
        if found.status != "unknown":
            unstable, bound = tuple(each.units for each in problem.stages), found.bound
            if found.witness is not None:
                bound = least_margin(
                    worst.double,
                    *map(torch.from_numpy, asked),
                    found.witness[None].double(),  # pyrefly: ignore[bad-argument-count]
                ).item()
            return Verdict(found.status, stage, bound, budget.clock.spent, unstable, found.witness)
    return decide(worst, middle, (low, high), asked, attack, budget)


def _by_inputs(
    problem: Problem, places: list[list[int]], check: Check, attack: Callable[[], Tensor], budget: Budget
) -> tuple[Found, str]:
    """CROWN on the whole box, the attack, and then its parts, in four fifths of the time; what is found, and by which stage."""
    split = functools.partial(split_inputs, problem, places, check, enough=budget.margin)
    if (found := split(deadline=0.0)).status != "unknown":
        return found, "crown" if found.witness is None else "prediction"
    if (witness := check(attack())) is not None:
        return Found("counterexample", found.bound, witness), "pgd"
    return split(deadline=time.thread_time() + 0.8 * budget.clock.left), "branch and bound"
