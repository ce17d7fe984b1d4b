"""The live figure of chapter 3 on one ReLU: the stability loss of Xiao et al. (2019) and the triangle that relaxes the unit."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import traitlets
from matplotlib.figure import Figure as Picture
from numpy.typing import NDArray

from .figure import Figure, module
from .gallery import BLUE, GREEN, GREY, ORANGE

Array = NDArray[np.float64]
STATES = ("unstable", "always active", "always zero")
HUES = (BLUE, ORANGE, GREEN, GREY)


def state_of(lower: Any, upper: Any) -> Any:
    """0 for unstable, 1 for always active, 2 for always zero, of the shape of the bounds."""
    return np.where(np.asarray(lower) >= 0, 1, np.where(np.asarray(upper) <= 0, 2, 0))


class StabilityLoss(Figure):
    """One ReLU with input from l to u, its stability loss -tanh(1 + l u), and the triangle that relaxes it.

    ``lower`` and ``upper`` (-4 to 4, lower <= upper) are the bounds l and u; ``steps`` (0 to 200) of gradient descent with
    rate 0.1 are followed from there. ``found`` comes back from the page: the loss, its gradient's length, the triangle's
    area (0 for a stable unit), and l and u after the steps.
    Raises ValueError for bounds that are no interval in that range.

    >>> [round(StabilityLoss(lower, 1.0).computed()[0], 3) for lower in (-2.0, 0.0, 0.5)]  # -tanh(1 + l u)
    [0.762, -0.762, -0.905]
    """

    _esm = module("plot.js", "stability_parts.js", "stability_loss.js")
    REACH, RATE = 4.0, 0.1
    lower = traitlets.Float(-1.0, min=-REACH, max=REACH).tag(sync=True)
    upper = traitlets.Float(1.5, min=-REACH, max=REACH).tag(sync=True)
    steps = traitlets.Int(0, min=0, max=200).tag(sync=True)
    found = traitlets.List().tag(sync=True)

    def __init__(self, lower: float = -1.0, upper: float = 1.5, **values: Any) -> None:
        if not -self.REACH <= lower <= upper <= self.REACH:
            raise ValueError(f"the bounds are {lower} and {upper}; they need -4 <= lower <= upper <= 4")
        super().__init__(lower=lower, upper=upper, **values)

    @traitlets.validate("lower", "upper")
    def _ordered(self, proposal: Any) -> float:
        ends = {"lower": self.lower, "upper": self.upper, proposal["trait"].name: proposal["value"]}
        if ends["lower"] > ends["upper"]:
            raise traitlets.TraitError(f"{ends} is no interval; to move both ends, set them in hold_trait_notifications()")
        return proposal["value"]

    def path(self) -> Array:
        """The bounds before descent and after each step, (steps + 1, 2)."""
        path = [np.array([self.lower, self.upper])]
        for _ in range(self.steps):
            path.append(path[-1] + self.RATE * path[-1][::-1] / np.cosh(1 + path[-1].prod()) ** 2)
        return np.stack(path)

    def computed(self) -> tuple[float, float, float, float, float]:
        """The loss, its gradient's length, the triangle's area, l and u after the steps, as the page finds them too."""
        lower, upper = self.lower, self.upper
        size = math.hypot(lower, upper) / math.cosh(1 + lower * upper) ** 2
        area = -lower * upper / 2 if state_of(lower, upper) == 0 else 0.0
        end = self.path()[-1]
        return -math.tanh(1 + lower * upper), size, area, float(end[0]), float(end[1])

    def describe(self) -> str:
        loss, size, area, *end = self.computed()
        after = f"; {self.steps} steps of descent lead to l = {end[0]:.3g}, u = {end[1]:.3g}, {STATES[state_of(*end)]}"
        return (
            f"A ReLU with input from {self.lower:.3g} to {self.upper:.3g} is {STATES[state_of(self.lower, self.upper)]}: its "
            f"stability loss is {loss:.3g}, the gradient's length {size:.2g}, the area of its triangle {area:.3g}"
            f"{after if self.steps else ''}."
        )

    def still(self) -> Picture:
        picture = Picture(figsize=(7.2, 3.3), layout="constrained")
        left, right = picture.subplots(1, 2)
        at = np.linspace(-self.REACH, self.REACH, 161)
        low, high = np.meshgrid(at, at)
        loss = np.where(low <= high, -np.tanh(1 + low * high), np.nan)
        picture.colorbar(
            left.contourf(low, high, loss, np.linspace(-1, 1, 21), cmap="PuOr_r"), ax=left, ticks=[-1, 0, 1], shrink=0.8
        )
        low, high = np.meshgrid(at[10::20], at[10::20])
        factor = np.where(low <= high, 1 / np.cosh(1 + low * high) ** 2, np.nan)
        left.quiver(low, high, high * factor, low * factor, angles="xy", scale_units="xy", scale=4, width=0.006)
        left.plot(*self.path().T, color="black", linewidth=1)
        left.plot(self.lower, self.upper, "o", color="black")
        left.set(xlabel="lower bound l", ylabel="upper bound u", title="the loss, and downhill", aspect="equal")
        right.plot([-4, 0, 4], [0, 0, 4], color=GREY, linewidth=1)
        if state_of(self.lower, self.upper) == 0:
            right.fill([self.lower, 0, self.upper], [0, 0, self.upper], color=ORANGE, alpha=0.35, label="its relaxation")
        ends = np.array([self.lower, np.clip(0, self.lower, self.upper), self.upper])
        right.plot(ends, np.maximum(ends, 0), color=BLUE, linewidth=2.5, label="the ReLU from l to u")
        right.set(xlabel="input z", ylabel="output", title=f"area {self.computed()[2]:.3g}")
        right.legend(fontsize=8)
        return picture
