"""How far rounding in float64 may move what the verifier computes: a bound before the fact, from sums of absolute values.

A sum of n terms has a relative error of at most n UNIT / (1 - n UNIT) of the sum of their absolute values, in any order
(Higham 2002, sections 3.1 and 4.2). The counts here are generous by a factor of 2 or more, which pays for the denominator.
"""

from __future__ import annotations

import numpy as np

from .layers import UNIT, AffineLayer, Array, Index


class Rounding:
    """Layer by layer, how large what a unit adds up may be (``reach``), and how far rounding may move it (``slack``).

    The slack bounds the distance of a unit's input to what the reduced problem says of it, since coefficients are rounded and
    a unit may be called stable that is not quite, and the error of its bounds, whatever slopes in [0, 1] give them.
    """

    def __init__(self, low: Array, high: Array) -> None:
        self.sizes = {0: np.maximum(abs(low), abs(high))}
        self.faults = {0: 4 * UNIT * self.sizes[0]}  # the box was computed too
        self.work, self.layers = len(low), 0
        self.reach = self.slack = np.zeros(0)
        self.unstable: list[tuple[Array, Array]] = []  # reach and slack of each layer's unstable units

    @property
    def ulps(self) -> float:
        """The relative error of one pass over all layers so far."""
        return (4 * self.layers + 6) * self.work * UNIT

    def enter(self, layer: AffineLayer) -> None:
        """On to the inputs of the next layer."""
        self.layers, self.work = self.layers + 1, self.work + layer.terms + 16
        self.reach, fault = layer.reach(self.sizes, self.faults)
        self.slack = fault + self.ulps * self.reach

    def leave(self, lower: Array, upper: Array, chosen: Index) -> None:
        """On through its ReLUs, given the bounds that say which of them are off; the ``chosen`` are unstable."""
        goes_on = (upper > 0) | (lower >= 0)
        self.sizes[self.layers] = np.where(goes_on, self.reach, 0.0)
        self.faults[self.layers] = np.where(goes_on | (upper + self.slack > 0), self.slack, 0.0)
        self.work += int(goes_on.sum())
        self.unstable.append((self.reach[chosen], self.slack[chosen]))

    def of_margins(self, rows: Array, const: Array) -> Array:
        """The slack of rows @ logits + const, (m,)."""
        return abs(rows) @ self.slack + self.ulps * (abs(rows) @ self.reach + abs(const))

    def of_units(self) -> Array:
        """The slack of the unstable units' inputs, where a pass over all layers goes on from them."""
        return np.concatenate([slack + self.ulps * reach for reach, slack in self.unstable] or [np.zeros(0)])
