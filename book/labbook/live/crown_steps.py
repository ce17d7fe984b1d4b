"""The live figure of chapter 3 on CROWN: a linear bound that goes backward through a small network, a step at a click."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import torch
import traitlets
from matplotlib.figure import Figure as Picture
from torch import nn

from .figure import module
from .gallery import BLUE, GREEN, GREY
from .stability import Array, state_of
from .two_inputs import TwoInputs, _bounds, _outputs

MOST_UNITS, MOST_LAYERS = 8, 3
BY_HAND = (  #: weights and biases that one can follow with a pencil; around (0.5, 0.5) CROWN proves what intervals do not
    ([[2, -2], [-1, 2], [1, -1]], [0.5, 0, 0.5]),
    ([[-1, 2, 1], [-2, -1, -1], [-1, 1, 1]], [0.5, 0, 0.5]),
    ([[2, 1, -1], [1, -2, 1]], [0.5, -0.5]),
)


@dataclass(frozen=True)
class BackwardStep:
    """One step of CROWN: the margin is at least ``row @ v + constant``, where v ranges over a box, and so at least ``bound``.

    >>> BackwardStep("inputs", -1, np.array([1.0, -2.0]), 0.5, -1.5).bound
    -1.5
    """

    kind: str  #: what v is: "outputs" or "entries" of a ReLU layer, or the network's "inputs"
    layer: int  #: the ReLU layer, from 0; -1 for the inputs
    row: Array
    constant: float
    bound: float


class CrownSteps(TwoInputs):
    """CROWN going backward through a small ReLU network, a step at a click, until it stands on the inputs.

    Takes what :class:`TwoInputs` takes, with at most 3 ReLU layers of at most 8 units. ``step`` (from 0) counts the steps
    taken: the margin as a linear function of the last ReLUs' outputs; then, layer by layer, each ReLU gives way to the line
    below or above it, and what enters the layer is written out by the layer before. After each the page shows the factors,
    each unit's line, and the bound that one would get by taking each variable at its worst for itself. The margin is the one
    over the class for which CROWN's bound is the lowest; units are bounded by CROWN where intervals leave them open.
    ``found`` comes back from the page: the class, and the least margin by intervals, by CROWN and exactly. (Zhang et al. 2018.)

    Guarantee: every bound is sound; no step need be better than the one before, since a line loses and adding up gains.
    Raises ValueError as TwoInputs, and for larger networks.

    >>> net = nn.Sequential(nn.Linear(2, 2, bias=False), nn.ReLU(), nn.Linear(2, 2, bias=False)).double()
    >>> _ = [nn.init.eye_(p) for p in net.parameters()]  # its logits are the two inputs
    >>> [round(float(s.bound), 2) for s in CrownSteps(net, [0.8, 0.3], 0, eps=0.1).steps()]
    [0.3, 0.3, 0.3]
    >>> [round(float(s.bound), 2) for s in CrownSteps.by_hand().steps()]
    [-3.0, -3.1, -0.4, -0.7, 0.1]
    """

    _esm = module("plot.js", "stability_parts.js", "stability_math.js", "crown_steps.js")
    step = traitlets.Int(0, min=0).tag(sync=True)

    def __init__(self, nets: Any, x: Any, y: Any, **values: Any) -> None:
        super().__init__(nets, x, y, **values)
        for name, layers in self._layers.items():
            sizes = [len(bias) for _, bias in layers[:-1]]
            if len(sizes) > MOST_LAYERS or max(sizes) > MOST_UNITS:
                raise ValueError(f"{name} has ReLU layers of {sizes}; the figure draws at most 3 layers of at most 8 units")

    @classmethod
    def by_hand(cls, *, eps: float = 0.2, eps_max: float = 0.3, **values: Any) -> Self:
        """The figure on a network of two ReLU layers with three units each, whose weights are round numbers."""
        layers: list[nn.Module] = []
        for weight, bias in BY_HAND:
            layer = nn.Linear(len(weight[0]), len(weight)).double()
            with torch.no_grad():
                layer.weight.copy_(torch.tensor(weight))
                layer.bias.copy_(torch.tensor(bias))
            layers += [layer, nn.ReLU()]
        return cls(nn.Sequential(*layers[:-1]), [0.5, 0.5], 0, eps=eps, eps_max=eps_max, **values)

    @traitlets.validate("step")
    def _taken(self, proposal: Any) -> int:
        most = 2 * max(len(layers) for layers in self._layers.values()) - 2
        if proposal["value"] > most:
            raise traitlets.TraitError(f"step is {proposal['value']}; the last one is {most}")
        return proposal["value"]

    def steps(self) -> list[BackwardStep]:
        """All steps for the present network, point and eps, as the page finds them."""
        layers, box = self._layers[self.network], self._box()
        label = int(_outputs(layers, np.array(self.point)).argmax())
        weight, bias = layers[-1]
        weight, bias = np.delete(weight[label] - weight, label, 0), np.delete(bias[label] - bias, label)
        found = _bounds([*layers[:-1], (weight, bias)], box, crown=True)[:-1]
        walks = [self._walk(found, box, row, const) for row, const in zip(weight, bias, strict=True)]
        return min(walks, key=lambda steps: steps[-1].bound)

    def _walk(self, found: list[Array], box: Array, row: Array, const: Any) -> list[BackwardStep]:
        def taken(kind: str, layer: int, ends: Array) -> BackwardStep:
            return BackwardStep(kind, layer, row, float(const), float((np.minimum(*(row[:, None] * ends).T)).sum() + const))

        steps = [taken("outputs", len(found) - 1, np.maximum(found[-1], 0))]
        for k in reversed(range(len(found))):
            low, high = found[k].T
            open_ = state_of(low, high) == 0
            chord = np.divide(high, high - low, out=(low >= 0).astype(float), where=open_)
            below = open_ & (row > 0)
            slope = np.where(below, high > -low, chord)
            const = const - (row * chord * low)[open_ & ~below].sum()
            row = row * slope
            steps.append(taken("entries", k, found[k]))
            weight, bias = self._layers[self.network][k]
            row, const = row @ weight, const + row @ bias
            steps.append(taken("outputs" if k else "inputs", k - 1, np.maximum(found[k - 1], 0) if k else box))
        return steps

    def describe(self) -> str:
        answer, steps = self.computed(), self.steps()
        bounds = ", ".join(f"{s.bound:.3g}" for s in steps[:-1])
        return (
            f"CROWN goes backward through a network of two inputs with {(len(steps) - 1) // 2} ReLU layers: within "
            f"{self.eps:.3g} of ({self.point[0]:.2f}, {self.point[1]:.2f}) the margin of class {answer.label} is at least "
            f"{bounds} on the way, and {steps[-1].bound:.3g} on the inputs; at least {answer.margins[0]:.3g} by intervals, and "
            f"{answer.margins[2]:.3g} in truth."
        )

    def still(self) -> Picture:
        steps, (naive, _, exact) = self.steps(), self.computed().margins
        picture = Picture(figsize=(6.4, 2.8), layout="constrained")
        ax = picture.subplots()
        names = ["inputs" if s.kind == "inputs" else f"{s.kind} of layer {s.layer + 1}" for s in steps]
        ax.plot([s.bound for s in steps], range(len(steps)), "o-", color=BLUE, label="CROWN, step by step")
        for k, s in enumerate(steps):
            ax.annotate(f" {s.bound:.3g}", (s.bound, k), xytext=(4, 4), textcoords="offset points", fontsize=8)
        ax.axvline(naive, color=GREY, linestyle="--", label=f"intervals, {naive:.3g}")
        ax.axvline(exact, color=GREEN, linestyle="--", label=f"exact, {exact:.3g}")
        ax.axvline(0, color="black", linewidth=0.8)
        ax.set_yticks(range(len(steps)), names)
        ax.set(ylim=(len(steps) - 0.5, -0.5), xlabel="lower bound of the margin; above 0: proved")
        ax.legend(fontsize=8)
        return picture
