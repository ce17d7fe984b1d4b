"""The live figures of chapter 1 on the sphere itself: caps, and where random points lie (in the page: spheres_math.js)."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import traitlets
from matplotlib.figure import Figure as Picture
from scipy.stats import beta

from advlab import spheres

from .figure import Figure, module
from .gallery import BLUE, GREEN, GREY, ORANGE, mulberry32

LN10 = math.log(10)


def power(log10: float) -> str:
    """10 to that power, for a sentence."""
    if log10 == -math.inf:
        return "0 (proved)"
    return f"{10**log10:.2g}" if log10 > -1.5 else f"10^{round(log10, 1):g}"


class CapTradeoff(Figure):
    """How far errors can be: the exact bound of Theorem 5.1 beside the paper's asymptotic form, and the cap itself.

    ``d`` (2 to 150,528) dimensions, ``log10_measure`` (-300 to -0.3) the error rate, ``degree`` (1 to 4): above 1 the curve
    "cap over root degree" is drawn too, a rule of thumb and no theorem. ``reach`` (0 to 1.5) grows the set of errors: the
    points within that chord of it, of which random ones are drawn at their true heights.
    ``distances`` come back from the page: the exact one, the asymptotic one, the one of that degree, on the unit sphere.

    >>> exact, asymptotic, _ = CapTradeoff(d=500, log10_measure=-6.0).computed()
    >>> round(exact, 4), round(asymptotic, 4)
    (0.2116, 0.2126)
    """

    _esm = module("plot.js", "spheres_math.js", "cap_tradeoff.js")
    d = traitlets.Int(500, min=2, max=150528).tag(sync=True)
    log10_measure = traitlets.Float(-6.0, min=-300.0, max=-0.3).tag(sync=True)
    degree = traitlets.Int(1, min=1, max=4).tag(sync=True)
    reach = traitlets.Float(0.0, min=0.0, max=1.5).tag(sync=True)
    distances = traitlets.List().tag(sync=True)

    def computed(self) -> tuple[float, float, float]:
        """The exact distance, the asymptotic one, and that of the degree, as the page finds them too."""
        log_measure = self.log10_measure * LN10
        exact = spheres.optimal_distance(log_measure, self.d)
        return exact, spheres.gaussian_distance(log_measure, self.d), exact / math.sqrt(self.degree)

    def near(self) -> float:
        """The share of the sphere within ``reach`` of the cap."""
        angle = spheres.cap_angle(self.log10_measure * LN10, self.d) + 2 * math.asin(self.reach / 2)
        return math.exp(spheres.log_cap_measure(angle, self.d)) if angle < math.pi else 1.0

    def describe(self) -> str:
        exact, gaussian, lower = self.computed()
        angle = math.degrees(spheres.cap_angle(self.log10_measure * LN10, self.d))
        grown = f"; {self.near():.3g} of the sphere is within {self.reach:.3g} of it" if self.reach else ""
        thumb = f", a margin of degree {self.degree} is expected near {lower:.3g}" if self.degree > 1 else ""
        return (
            f"In {self.d:,} dimensions, errors of measure {power(self.log10_measure)} lie at most {exact:.3g} from a random "
            f"point on average, as those of a cap do that starts {angle:.1f} degrees from its pole; the paper's form says "
            f"{gaussian:.3g}{grown}{thumb}."
        )

    def still(self) -> Picture:
        rates = -np.logspace(math.log10(0.3), math.log10(300), 60)
        exact = np.array([spheres.optimal_distance(v * LN10, self.d) for v in rates])
        gaussian = np.array([spheres.gaussian_distance(v * LN10, self.d) for v in rates])
        picture = Picture(figsize=(5.8, 3.1), layout="constrained")
        ax = picture.subplots()
        ax.loglog(-rates, exact, color=BLUE, label="the cap, exact")
        ax.loglog(-rates, np.where(gaussian > 0, gaussian, np.nan), "--", color=ORANGE, label=r"$-\Phi^{-1}(\mu)/\sqrt{d}$")
        if self.degree > 1:
            ax.loglog(-rates, exact / math.sqrt(self.degree), color=GREEN, label=f"degree {self.degree}: cap / √{self.degree}")
        ax.plot(-self.log10_measure, self.computed()[0], "o", color=BLUE)
        ticks = [-math.log10(0.5), 1, 2, 4, 10, 30, 100, 300]
        ax.set_xticks(ticks, ["0.5", "0.1", *(f"$10^{{-{v}}}$" for v in ticks[2:])])
        ax.minorticks_off()
        ax.set(xlabel="error rate μ", ylabel="mean distance to the errors", ylim=(1e-3, 3), title=f"d = {self.d:,}")
        ax.legend(fontsize=8)
        return picture


class Concentration(Figure):
    """What random points of the unit sphere in ``d`` (2 to 2000) dimensions look like: samples and their exact density.

    ``quantity`` is "coordinate", "distance" (of two points) or "angle" (between them, degrees). ``n`` samples (1 to 20,000)
    come from ``seed``, the same in the page and here. ``interval`` comes back from the page: the two ends of the middle 99 %.

    >>> [round(v) for v in Concentration(d=500, quantity="angle").middle()]  # degrees: two random points are nearly orthogonal
    [83, 97]
    """

    _esm = module("plot.js", "spheres_math.js", "concentration.js")
    d = traitlets.Int(3, min=2, max=2000).tag(sync=True)
    quantity = traitlets.Enum(("coordinate", "distance", "angle"), "coordinate").tag(sync=True)
    seed = traitlets.Int(1, min=0).tag(sync=True)
    n = traitlets.Int(3000, min=1, max=20000).tag(sync=True)
    interval = traitlets.List().tag(sync=True)

    def _of(self, t: Any) -> Any:
        """The quantity at the coordinate t of the second point along the first."""
        return {"coordinate": t, "distance": np.sqrt(2 - 2 * t), "angle": np.degrees(np.arccos(t))}[self.quantity]

    def samples(self) -> np.ndarray:
        """The n samples (n,) that the page draws, within 1e-9: z / sqrt(z^2 + chi^2), its chi^2 by Marsaglia and Tsang."""
        uniform = mulberry32(self.seed)

        def normal() -> float:
            length = math.sqrt(-2 * math.log(1 - next(uniform)))
            return length * math.cos(2 * math.pi * next(uniform))

        def chi_squared() -> float:
            while True:
                x = normal()
                v = (1 + c * x) ** 3
                if v > 0 and math.log(1 - next(uniform)) < 0.5 * x * x + m - m * v + m * math.log(v):
                    return 2 * m * v * ((1 - next(uniform)) ** (1 / shape) if shape < 1 else 1)

        shape = (self.d - 1) / 2
        m = shape + (shape < 1) - 1 / 3
        c = 1 / math.sqrt(9 * m)
        t = np.empty(self.n)
        for i in range(self.n):
            z = normal()
            t[i] = z / math.sqrt(z * z + chi_squared())
        return self._of(t)

    def density(self, v: np.ndarray) -> np.ndarray:
        """The exact density at the values v, (n,)."""
        t = {"coordinate": v, "distance": 1 - v * v / 2, "angle": np.cos(np.radians(v))}[self.quantity]
        stretch = {"coordinate": 1.0, "distance": v, "angle": np.radians(1) * np.sin(np.radians(v))}[self.quantity]
        return beta.pdf((1 + t) / 2, (self.d - 1) / 2, (self.d - 1) / 2) / 2 * stretch

    def middle(self) -> tuple[float, float]:
        """The ends of the interval that holds 99 % of all points, exact."""
        height = math.cos(spheres.cap_angle(math.log(0.005), self.d))
        low, high = sorted((float(self._of(-height)), float(self._of(height))))
        return low, high

    def describe(self) -> str:
        names = {
            "coordinate": "one coordinate of a random point",
            "distance": "the distance of two random points",
            "angle": "the angle between two random points, in degrees,",
        }
        low, high = self.middle()
        what = names[self.quantity]
        return f"On the sphere in {self.d:,} dimensions, {what} lies between {low:.3g} and {high:.3g} with probability 0.99."

    def still(self) -> Picture:
        low, high = {"coordinate": (-1, 1), "distance": (0, 2), "angle": (0, 180)}[self.quantity]
        picture = Picture(figsize=(5.4, 2.7), layout="constrained")
        ax = picture.subplots()
        ax.axvspan(*self.middle(), color=GREY, alpha=0.2, label="99 % in here")
        heights, *_ = ax.hist(
            self.samples(), np.linspace(low, high, 121).tolist(), density=True, color=BLUE, label=f"{self.n:,} samples"
        )
        at = np.linspace(low, high, 402)[1:-1]
        ax.plot(at, self.density(at), color=ORANGE, label="exact density")
        ax.set(xlim=(low, high), ylim=(0, 1.2 * float(np.max(heights))), xlabel=self.quantity, title=f"d = {self.d:,}")
        ax.set_yticks([])
        ax.legend(fontsize=8)
        return picture
