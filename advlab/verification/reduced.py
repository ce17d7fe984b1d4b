"""The verifier's problem for one input box: stable ReLUs are eliminated exactly, what is left is bounded by CROWN.

A stable unit is affine or zero on the whole box, so that composing the maps leaves a small dense problem in the inputs and
the unstable units (Tjeng et al. 2019 drop stable units from their mixed-integer programs in the same way). CROWN is Zhang
et al. (2018), its optimised slopes Xu et al. (2021), multipliers of split units Wang et al. (2021).
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, field, replace
from typing import Any, cast

import numpy as np
import torch
from scipy import sparse
from torch import Tensor

from ..attacks.steps import Adam
from .affine import NormalForm
from .layers import AffineLayer, Array, Index
from .slack import Rounding


@dataclass(frozen=True)
class Stage:
    """The unstable units of one ReLU layer: their inputs as affine functions of all variables before them."""

    rows: Tensor = field(repr=False)  #: (units, start)
    const: Tensor = field(repr=False)  #: (units,)
    low: Tensor = field(repr=False)  #: (units,), below 0
    high: Tensor = field(repr=False)  #: (units,), above 0
    places: Index = field(repr=False)  #: (units,), which of the layer's values they are

    @property
    def start(self) -> int:
        """Where the layer's units begin among the variables."""
        return self.rows.shape[1]

    @property
    def units(self) -> int:
        return self.rows.shape[0]


@dataclass(frozen=True)
class Problem:
    """Margins as affine functions of the variables: the inputs, then the unstable units of each layer. All in float64."""

    low: Tensor = field(repr=False)  #: (inputs,)
    high: Tensor = field(repr=False)
    stages: tuple[Stage, ...]
    rows: Tensor = field(repr=False)  #: (margins, variables)
    const: Tensor = field(repr=False)  #: (margins,)
    slack: Tensor = field(repr=False)  #: (margins,), how far rounding may have moved them, or a bound of them
    unit_slack: Tensor = field(repr=False)  #: (units,), the same for the inputs of the unstable units
    interval_unstable: tuple[int, ...]  #: units of each layer that interval arithmetic could not fix

    @property
    def units(self) -> int:
        return sum(stage.units for stage in self.stages)

    def lowered(self) -> Problem:
        """Each margin less its slack: a bound of these from below, computed in float64, is one of the network's margins."""
        return replace(self, const=self.const - self.slack)


def interval(layer: AffineLayer, sources: dict[int, tuple[Array, Array]]) -> tuple[Array, Array]:
    """Interval bounds of a layer's inputs from bounds (lower, upper) of its sources, each (units,) or (units, n)."""
    some = next(iter(sources.values()))[0]
    centre = layer.bias if some.ndim == 1 else layer.bias[:, None]
    radius: Any = 0.0
    for source, matrix in layer.matrices.items():
        low, high = sources[source]
        centre = centre + matrix @ ((low + high) / 2)
        radius = radius + layer.magnitudes[source] @ ((high - low) / 2)
    return centre - radius, centre + radius


@dataclass(frozen=True)
class Bounded:
    """Bounds on every unit of a network over one box, and the unstable units as functions of what comes before them."""

    box: tuple[Tensor, Tensor]  #: (inputs,) each
    bounds: list[tuple[Array, Array]]  #: of each ReLU layer's inputs, and of the logits
    stages: tuple[Stage, ...]
    loose: tuple[int, ...]  #: units of each layer that interval arithmetic leaves unstable
    logits: Tensor = field(repr=False)  #: (classes, variables)
    const: Tensor = field(repr=False)  #: (classes,)
    rounding: Rounding = field(repr=False)


def bounded(net: NormalForm, low: Array, high: Array, method: str = "crown") -> Bounded:
    """Bounds layer by layer: stable units are substituted exactly, the rest is relaxed by ``method``.

    "improved" takes an unstable unit's output for any value from 0 to its upper bound (Xiao et al. 2019, appendix B, where
    units that are always on are passed through). "crown" takes linear bounds of it; it is applied to the units that interval
    arithmetic leaves unstable, the others keep their interval. Guarantee: sound, up to rounding in float64.
    """
    sources = {0: (low, high)}
    on: dict[int, Index] = {}
    chosen: dict[int, Index] = {}
    stages: list[Stage] = []
    bounds: list[tuple[Array, Array]] = []
    loose: list[int] = []
    rounding = Rounding(low, high)
    box = torch.from_numpy(low), torch.from_numpy(high)
    for k, layer in enumerate((*net.hidden, net.logits), 1):
        rounding.enter(layer)
        lower, upper = interval(layer, sources)
        last = layer is net.logits
        open_ = (lower < 0) & (upper > 0)
        rows = np.arange(layer.units) if last or method == "improved" else np.flatnonzero(open_)
        matrix, const = _expressed(net, layer, rows, on, chosen)
        ends = _affine_bounds(stages, box, matrix, const, method)
        lower[rows], upper[rows] = np.maximum(lower[rows], ends[0].numpy()), np.minimum(upper[rows], ends[1].numpy())
        bounds.append((lower, upper))
        if last:
            return Bounded(box, bounds, tuple(stages), tuple(loose), matrix, const, rounding)
        loose.append(int(open_.sum()))
        kept = np.flatnonzero((lower[rows] < 0) & (upper[rows] > 0))
        cut = torch.from_numpy(lower[rows[kept]]), torch.from_numpy(upper[rows[kept]])
        on[k], chosen[k] = np.flatnonzero(lower >= 0), rows[kept]
        stages.append(Stage(matrix[kept], const[kept], *cut, chosen[k] if layer.places is None else layer.places[chosen[k]]))
        sources[k] = (np.maximum(lower, 0), np.maximum(upper, 0))
        rounding.leave(lower, upper, chosen[k])
    raise AssertionError("the logits come last")


def reduce(net: NormalForm, low: Array, high: Array, rows: Array, const: Array, method: str = "crown") -> Problem:
    """The problem of margins rows @ logits + const, (m, classes) and (m,), on a box (inputs,).

    The plain version is ``net(x) @ rows.T + const``; ``test_a_reduced_problem_is_the_network_on_its_box`` compares the two.
    Units are tightened by ``method``, one of :func:`bounded`. Guarantee: on the box the margins are those of the network, up
    to ``slack``.
    """
    found = bounded(net, low, high, method)
    onto = torch.from_numpy(rows)
    moved = onto @ found.logits, onto @ found.const + torch.from_numpy(const)
    slack = torch.from_numpy(found.rounding.of_margins(rows, const))
    return Problem(*found.box, found.stages, *moved, slack, torch.from_numpy(found.rounding.of_units()), found.loose)


def class_margins(label: int, classes: int) -> tuple[Array, Array]:
    """The margins of a label over every other class, as ``rows`` and ``const`` of :func:`reduce`."""
    rows = np.delete(np.eye(classes)[label] - np.eye(classes), label, 0)
    return rows, np.zeros(classes - 1)


def _affine_bounds(
    stages: list[Stage], box: tuple[Tensor, Tensor], rows: Tensor, const: Tensor, method: str
) -> tuple[Tensor, Tensor]:
    """Lower and upper bounds (n,) of affine functions (n, variables)."""
    if method == "crown" and stages:
        return crown(stages, box, rows, const), -crown(stages, box, -rows, -const)
    low = torch.cat([box[0], *(torch.zeros_like(stage.high) for stage in stages)])
    high = torch.cat([box[1], *(stage.high for stage in stages)])
    middle, spread = rows @ ((low + high) / 2) + const, rows.abs() @ ((high - low) / 2)
    return middle - spread, middle + spread


def _expressed(
    net: NormalForm, layer: AffineLayer, rows: Index, on: dict[int, Index], chosen: dict[int, Index]
) -> tuple[Tensor, Tensor]:
    """Some rows of a layer, dense, over the inputs and the unstable units: stable units that are on are substituted."""
    pending: dict[int, Any] = {source: matrix[rows] for source, matrix in layer.matrices.items()}
    const = layer.bias[rows].copy()
    blocks: list[Array] = []
    for source in sorted(on, reverse=True):
        block = pending.pop(source, None)
        if block is None:
            blocks.append(np.zeros((len(rows), len(chosen[source]))))
            continue
        blocks.append(_dense(block[:, chosen[source]]))
        through, before = block[:, on[source]], net.hidden[source - 1]
        const += through @ before.bias[on[source]]
        for s, matrix in before.matrices.items():
            product = _product(through, matrix[on[source]])
            pending[s] = product if s not in pending else _sum(pending[s], product)
    inputs = _dense(pending[0]) if 0 in pending else np.zeros((len(rows), net.inputs))
    return torch.from_numpy(np.concatenate([inputs, *reversed(blocks)], 1)), torch.from_numpy(const)


def _dense(matrix: Any) -> Array:
    return matrix.toarray() if sparse.issparse(matrix) else np.asarray(matrix)


def _product(left: Any, right: Any) -> Any:
    """Sparse times sparse while the left side is; a dense left side goes through the transposed product, which is faster."""
    if sparse.issparse(left) and left.nnz < 0.1 * left.shape[0] * left.shape[1]:
        return left @ right
    return cast(Any, right.T @ _dense(left).T).T


def _sum(left: Any, right: Any) -> Any:
    both_sparse = sparse.issparse(left) and sparse.issparse(right)
    return left + right if both_sparse else _dense(left) + _dense(right)


def crown(stages: list[Stage] | tuple[Stage, ...], box: tuple[Tensor, Tensor], rows: Tensor, const: Tensor) -> Tensor:
    """Lower bounds (n,) of affine functions (n, variables) of the variables of ``stages``, with CROWN's adaptive slopes."""
    return relaxed(stages, box, rows, const).bound


@dataclass(frozen=True)
class Relaxed:
    """What one backward pass gives: lower bounds (n,), and what branching needs."""

    bound: Tensor
    inputs: Tensor  #: (n, inputs), the linear function whose minimum over the box is the bound
    uses: list[Tensor]  #: per stage (n, units), the coefficient of each unit's output


def relaxed(
    stages: list[Stage] | tuple[Stage, ...],
    box: tuple[Tensor, Tensor],
    rows: Tensor,
    const: Tensor,
    slopes: list[Tensor] | None = None,
    splits: list[Tensor] | None = None,
    multipliers: list[Tensor] | None = None,
) -> Relaxed:
    """A lower bound of each affine function (n, variables) by linear relaxation of the ReLUs, last layer first.

    An unstable unit with input z in [l, u] and output a has a >= slope z for any slope in [0, 1], and
    a <= u (z - l) / (u - l). ``slopes`` (n, units) a stage; by default 1 where u > -l, else 0 (Zhang et al. 2018).
    ``splits`` holds 1 where z >= 0 is assumed, -1 where z <= 0 is, 0 elsewhere; there ``multipliers`` >= 0 weigh the
    assumption (Wang et al. 2021). Any slopes and multipliers give a sound bound. Differentiable in both.
    """
    uses: list[Tensor] = []
    for j in reversed(range(len(stages))):
        stage = stages[j]
        use, rows = rows[:, stage.start :], rows[:, : stage.start]
        uses.append(use)
        chord = stage.high / (stage.high - stage.low)
        below = (stage.high > -stage.low).to(use) if slopes is None else slopes[j]
        # use a is least on the lower line a = slope z where use >= 0, and on the chord a = u (z - l) / (u - l) where use < 0:
        # use a >= onto z + shift. With z = stage.rows v + stage.const the layer is gone; v has the variables before it.
        negative = use.clamp_max(0)
        onto = use.clamp_min(0) * below + negative * chord
        shift = negative * (-stage.low * chord)
        if splits is not None and multipliers is not None:
            side = splits[j]  # a is z or 0 exactly; side z >= 0 lets -side multiplier z be added to a lower bound
            onto = torch.where(side == 0, onto, torch.where(side > 0, use, 0.0)) - side * multipliers[j]
            shift = torch.where(side == 0, shift, 0.0)
        const = const + shift.sum(1) + onto @ stage.const
        rows = rows + onto @ stage.rows
    centre, radius = (box[0] + box[1]) / 2, (box[1] - box[0]) / 2
    return Relaxed(const + rows @ centre - rows.abs() @ radius, rows, uses[::-1])


def _chosen(better: Tensor, new: list[Tensor], old: list[Tensor]) -> list[Tensor]:
    return [torch.where(better[:, None], a, b) for a, b in zip(new, old, strict=True)]


# Ten parameters: those of relaxed, which it calls, and when to stop.
def optimised(
    stages: tuple[Stage, ...],
    box: tuple[Tensor, Tensor],
    rows: Tensor,
    const: Tensor,
    slopes: list[Tensor],
    splits: list[Tensor] | None = None,
    multipliers: list[Tensor] | None = None,
    *,
    steps: int = 20,
    enough: float = 0.0,
    deadline: float = math.inf,
) -> tuple[Relaxed, list[Tensor], list[Tensor]]:
    """:func:`relaxed` with slopes and multipliers raised by Adam until all bounds exceed ``enough``, or ``deadline`` is over.

    Returns the best pass of each function, with its slopes and multipliers.
    """
    free = [s.clone() for s in (*slopes, *(multipliers or []))]
    count = len(slopes)
    movers = [Adam(t, 0.2 if k < count else 0.1) for k, t in enumerate(free)]
    best: Relaxed | None = None
    kept: tuple[list[Tensor], list[Tensor]] = ([], [])
    for step in range(steps):
        for t in free:
            t.requires_grad_()
        found = relaxed(stages, box, rows, const, free[:count], splits, free[count:] if splits is not None else None)
        now = Relaxed(found.bound.detach(), found.inputs.detach(), [u.detach() for u in found.uses])
        state = ([s.detach() for s in free[:count]], [m.detach() for m in free[count:]])
        if best is None:
            best, kept = now, state
        else:
            better = now.bound > best.bound
            bound = torch.where(better, now.bound, best.bound)
            (inputs,), uses = _chosen(better, [now.inputs], [best.inputs]), _chosen(better, now.uses, best.uses)
            best, kept = Relaxed(bound, inputs, uses), (_chosen(better, state[0], kept[0]), _chosen(better, state[1], kept[1]))
        open_ = best.bound <= enough
        if not free or not open_.any() or step == steps - 1 or time.thread_time() > deadline:
            break
        gradients = torch.autograd.grad(-found.bound[open_].sum(), free, allow_unused=True, materialize_grads=True)
        for k, (mover, gradient) in enumerate(zip(movers, gradients, strict=True)):
            moved = mover.move(free[k].detach(), gradient)
            free[k] = moved.clamp(0, 1) if k < count else moved.clamp_min(0)
            mover.rate *= 0.97
    assert best is not None
    return best, *kept
