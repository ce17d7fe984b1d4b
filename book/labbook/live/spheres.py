"""The live figures of chapter 1, Adversarial Spheres. What they say comes from :mod:`advlab.spheres`; the page computes the
same in spheres_math.js.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import traitlets
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Picture
from scipy.optimize import brentq
from scipy.special import ndtri
from scipy.stats import beta

from advlab import spheres
from advlab.spheres.geometry import log_betainc

from .figure import Figure, module
from .gallery import BLUE, GREEN, GREY, ORANGE, mulberry32

LN10 = math.log(10)
SPHERES, METHODS = ("inner", "outer"), ("exact", "saddlepoint", "clt")


def _power(log10: float) -> str:
    """10 to that power, for a sentence."""
    if log10 == -math.inf:
        return "0 (proved)"
    return f"{10**log10:.2g}" if log10 > -1.5 else f"10^{round(log10, 1):g}"


class CapTradeoff(Figure):
    """How far errors can be: the exact bound of Theorem 5.1 beside the paper's asymptotic form, and the cap itself.

    ``d`` (2 to 150,528) dimensions, ``log10_measure`` (-300 to -0.3) the error rate, ``degree`` (1 to 4): above 1 the curve
    "cap over root degree" is drawn too, a rule of thumb and no theorem. ``distances`` come back from the page: the exact
    one, the asymptotic one, the one of that degree, on the unit sphere.

    >>> exact, asymptotic, _ = CapTradeoff(d=500, log10_measure=-6.0).computed()
    >>> round(exact, 4), round(asymptotic, 4)
    (0.2116, 0.2126)
    """

    _esm = module("plot.js", "spheres_math.js", "cap_tradeoff.js")
    d = traitlets.Int(500, min=2, max=150528).tag(sync=True)
    log10_measure = traitlets.Float(-6.0, min=-300.0, max=-0.3).tag(sync=True)
    degree = traitlets.Int(1, min=1, max=4).tag(sync=True)
    distances = traitlets.List().tag(sync=True)

    def computed(self) -> tuple[float, float, float]:
        """The exact distance, the asymptotic one, and that of the degree, as the page finds them too."""
        log_measure = self.log10_measure * LN10
        exact = spheres.optimal_distance(log_measure, self.d)
        return exact, spheres.gaussian_distance(log_measure, self.d), exact / math.sqrt(self.degree)

    def describe(self) -> str:
        exact, gaussian, lower = self.computed()
        angle = math.degrees(spheres.cap_angle(self.log10_measure * LN10, self.d))
        thumb = f", a margin of degree {self.degree} is expected near {lower:.3g}" if self.degree > 1 else ""
        return (
            f"In {self.d:,} dimensions, errors of measure {_power(self.log10_measure)} lie at most {exact:.3g} from a random "
            f"point on average, as those of a cap do that starts {angle:.1f} degrees from its pole; the paper's form says "
            f"{gaussian:.3g}{thumb}."
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


class AlphaSpectrum(Figure):
    """What the spectrum of a quadratic network says: error rates of both spheres, exact and estimated, and the nearest error.

    ``outliers`` of the ``d`` alphas have the ``size`` (0 to 3.5); the rest are the quantiles of a normal or uniform
    ``shape`` with that ``centre`` and standard deviation ``spread``, cut at 0. ``outer_radius`` is R. From the page come
    back, for the inner and the outer sphere: ``log10_errors``, each exact, by Lugannani and Rice, by the CLT, None for a
    proved 0; ``distances``, each of the nearest error of a typical point and of the cap of that error rate, over the
    radius, None where there is no error.

    >>> errors, distances = AlphaSpectrum(outliers=1, size=3.0, centre=0.77, spread=0.0).computed()
    >>> [round(v, 1) for v in errors[0]]  # log10 of the inner sphere's error rate: exact, Lugannani and Rice, CLT
    [-12.8, -12.7, -47.0]
    """

    _esm = module("plot.js", "spheres_math.js", "alpha_spectrum.js")
    d = traitlets.Int(500, min=2, max=2000).tag(sync=True)
    outliers = traitlets.Int(1, min=0).tag(sync=True)
    size = traitlets.Float(3.0, min=0.0, max=3.5).tag(sync=True)
    centre = traitlets.Float(0.77, min=0.0, max=3.5).tag(sync=True)
    spread = traitlets.Float(0.0, min=0.0, max=1.0).tag(sync=True)
    shape = traitlets.Enum(("normal", "uniform"), "normal").tag(sync=True)
    outer_radius = traitlets.Float(1.3).tag(sync=True)
    log10_errors = traitlets.List().tag(sync=True)
    distances = traitlets.List().tag(sync=True)

    @traitlets.validate("outliers")
    def _fits(self, proposal: Any) -> int:
        if proposal["value"] > self.d:
            raise traitlets.TraitError(
                f"outliers is {proposal['value']}; of {self.d} alphas, at most {self.d} can be set apart"
            )
        return proposal["value"]

    @traitlets.validate("outer_radius")
    def _outside(self, proposal: Any) -> float:
        return _above_one(proposal["value"])

    def alphas(self) -> np.ndarray:
        """The spectrum, (d,), outliers first."""
        rest = self.d - self.outliers
        at = (np.arange(rest) + 0.5) / max(rest, 1)
        quantiles = ndtri(at) if self.shape == "normal" else math.sqrt(3) * (2 * at - 1)
        return np.concatenate([np.full(self.outliers, self.size), np.maximum(0, self.centre + self.spread * quantiles)])

    def computed(self) -> tuple[list[list[float]], list[list[float]]]:
        """``log10_errors`` (-inf for a proved 0) and ``distances`` (NaN for no error), as the page finds them too."""
        alphas, radius = self.alphas(), self.outer_radius
        errors = [[spheres.quadratic_log_error(alphas, radius, s, m) for m in METHODS] for s in SPHERES]
        caps = [math.nan if e[0] == -math.inf else spheres.optimal_distance(e[0], self.d) for e in errors]
        nearest = [spheres.mean_field_distance(alphas, radius, s) for s in SPHERES]
        return [[e / LN10 for e in side] for side in errors], [list(pair) for pair in zip(nearest, caps, strict=True)]

    def describe(self) -> str:
        alphas, (errors, distances) = self.alphas(), self.computed()
        bad = int(((alphas > 1) | (alphas < 1 / self.outer_radius**2)).sum())
        told = [
            f"{_power(e[0])} on the {s} sphere, where the CLT says {_power(e[2])}" for s, e in zip(SPHERES, errors, strict=True)
        ]
        worst = 0 if errors[0][0] >= errors[1][0] else 1
        nearest, cap = distances[worst]
        near = f"; the nearest error on the {SPHERES[worst]} sphere lies {nearest:.3f} radii away, under the cap's {cap:.3f}"
        return f"{bad} of {self.d} alphas are bad; the exact error is {told[0]}, and {told[1]}{near if bad else ''}."

    def still(self) -> Picture:
        errors, _ = self.computed()
        alphas, low = self.alphas(), 1 / self.outer_radius**2
        picture = Picture(figsize=(7.2, 2.9), layout="constrained")
        left, right = picture.subplots(1, 2, width_ratios=[1.2, 1])
        left.axvspan(low, 1, color=GREY, alpha=0.2)
        bins = np.unique(np.concatenate([np.linspace(0, low, 10), np.linspace(low, 1, 7), np.linspace(1, 3.5, 39)]))
        good = (alphas >= low) & (alphas <= 1)
        left.hist([alphas[good], alphas[~good]], bins=bins.tolist(), color=[BLUE, ORANGE], stacked=True)
        left.set_yscale("symlog")
        left.set(xlabel="alpha", ylabel="how many", title="no error from the grey band", xlim=(0, 3.5))
        most = 1.1 * max(-v for side in errors for v in side if math.isfinite(v)) + 1
        for row, (side, colour) in enumerate(zip(zip(*errors, strict=True), (BLUE, GREEN, ORANGE), strict=True)):
            height = np.arange(2) + 0.25 * (row - 1)
            right.barh(
                height,
                [-v if math.isfinite(v) else most for v in side],
                0.22,
                color=colour,
                label=("exact", "Lugannani–Rice", "CLT")[row],
            )
            for y, v in zip(height, side, strict=True):
                ink = "black" if colour == ORANGE else "white"
                right.annotate(f" {_power(v)}", (0, y), va="center", fontsize=7, color=ink, fontweight="bold")
        right.set_yticks(range(2), SPHERES)
        right.set(xlabel=r"$-\log_{10}$ of the error rate", xlim=(0, most), ylim=(1.6, -0.5))
        right.legend(fontsize=7, ncols=3, loc="lower center")
        return picture


class IgnoredInputs(Figure):
    """A quadratic network that sees a ``share`` (0.02 to 1) of its ``d`` (200 to 10,000) inputs: how often it errs, how near.

    Its alphas are equal on the inputs it sees, of the size that makes both spheres' errors equal, and 0 on the others.
    ``found`` comes back from the page: the number of inputs seen, log10 of the error rate, exact (None for a proved 0) and
    by the CLT, the mean-field distance to the nearest inner error (None without one), and how many inputs the error
    1e-14 takes, exactly and by the CLT.

    >>> IgnoredInputs(d=3000).needed()  # inputs for an error rate of 1e-14: exactly, and by the CLT
    (1091, 1145)
    """

    _esm = module("plot.js", "spheres_math.js", "ignored_inputs.js")
    d = traitlets.Int(500, min=200, max=10000).tag(sync=True)
    share = traitlets.Float(0.8, min=0.02, max=1.0).tag(sync=True)
    outer_radius = traitlets.Float(1.3).tag(sync=True)
    found = traitlets.List().tag(sync=True)

    @traitlets.validate("outer_radius")
    def _outside(self, proposal: Any) -> float:
        return _above_one(proposal["value"])

    def used(self) -> int:
        """How many inputs the network sees."""
        return max(1, math.floor(self.share * self.d + 0.5))

    def log10_error(self, used: int, method: str = "exact") -> float:
        """log10 of the error rate of either sphere with that many inputs."""
        return spheres.ignored_log_error(used, self.d, self.outer_radius, method) / LN10

    def nearest(self, used: int) -> float:
        """Mean-field distance of the nearest inner error with that many inputs; NaN if it sees all and makes none."""
        ignored, log_error = self.d - used, self.log10_error(used) * LN10
        if not ignored:
            return math.nan

        def gap(logit: float) -> float:  # the share of these inputs in the squared length exceeds 1 / alpha, as a logit
            return log_betainc(ignored / 2, used / 2, -np.logaddexp(0, logit), -np.logaddexp(0, -logit)) - log_error

        middle = math.log(used / ignored)
        logit: Any = brentq(gap, middle - 40, middle + 40 - 4 * log_error / ignored, xtol=1e-13)
        alpha = 1 + max(math.exp(-logit), np.finfo(float).eps)
        return spheres.mean_field_distance(np.repeat([alpha, 0.0], [used, ignored]), self.outer_radius)

    def needed(self) -> tuple[int, int]:
        """How many inputs the error 1e-14 takes, exactly and by the CLT."""
        exact, clt = (spheres.inputs_needed(math.log(1e-14), self.d, self.outer_radius, m) for m in ("exact", "clt"))
        return exact, clt

    def describe(self) -> str:
        k, (exact, clt) = self.used(), self.needed()
        near = f", and its nearest error lies {self.nearest(k):.3f} from a typical inner point" if k < self.d else ""
        return (
            f"A network that sees {k:,} of {self.d:,} inputs errs at the rate {_power(self.log10_error(k))} on each sphere "
            f"(the CLT says {_power(self.log10_error(k, 'clt'))}){near}; an error of 10^-14 takes {exact:,} inputs, by the "
            f"CLT {clt:,}."
        )

    def still(self) -> Picture:
        shares = np.linspace(0.02, 0.99, 25)
        counts = [max(1, round(s * self.d)) for s in shares]
        picture = Picture(figsize=(7.2, 2.9), layout="constrained")
        left, right = picture.subplots(1, 2)
        for method, colour in (("clt", ORANGE), ("exact", BLUE)):
            label = "CLT" if method == "clt" else method
            left.plot(shares, [self.log10_error(k, method) for k in counts], color=colour, label=label)
        for k, colour in zip(self.needed(), (BLUE, ORANGE), strict=True):
            left.plot(k / self.d, -14, "o", markerfacecolor="none", color=colour)
        left.axhline(-14, color="black", linestyle="--", linewidth=1)
        left.axvline(self.share, color=GREY, linewidth=1)
        left.set(xlabel="share of the inputs used", ylabel=r"$\log_{10}$ error rate", ylim=(-40, 0), title=f"d = {self.d:,}")
        left.legend(fontsize=8)
        caps = [spheres.optimal_distance(self.log10_error(k) * LN10, self.d) for k in counts]
        right.plot(shares, caps, color=GREY, label="the cap's bound")
        right.plot(shares, [self.nearest(k) for k in counts], color=BLUE, label="this network")
        right.axvline(self.share, color=GREY, linewidth=1)
        right.set(xlabel="share of the inputs used", ylabel="distance to the nearest error")
        right.legend(fontsize=8)
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


class SplittingAnimation(Figure):
    """Adaptive multilevel splitting, played back: particles march from the bulk of the sphere to the error set, score > 0.

    ``scores[k]`` (any number) are the particles that choose ``levels[k]``; those above it live on. Levels ascend to 0, which
    may be left out, so that a run of :func:`advlab.spheres.rare_events.splitting` fits as it is. ``log10[k]`` is the log10
    probability of a score above ``levels[k]``; left out, it follows from the shares that live on. At most 200 particles a
    level are kept, evenly by rank. ``level`` (from 0) is the one shown; ``reached``, its log10, comes back from the page.
    Raises ValueError for lists that do not fit together, and for a last level without an error.

    >>> figure = SplittingAnimation([-1.0, 0.0], [[-2.0, -1.5, -0.5, -0.2], [-0.5, -0.2, 0.1, 0.3]], level=1)
    >>> print(figure.describe().partition(";")[0])  # half lived on, and half of those
    Level 2 of 2 of a splitting run: particles live on above the score 0, which has the probability 0.25
    """

    _esm = module("plot.js", "player.js", "splitting.js")
    KEPT = 200
    levels = traitlets.List().tag(sync=True)
    scores = traitlets.List().tag(sync=True)
    log10 = traitlets.List().tag(sync=True)
    level = traitlets.Int(0, min=0).tag(sync=True)
    reached = traitlets.Float(0.0).tag(sync=True)

    def __init__(
        self, levels: Sequence[float], scores: Sequence[Any], log10: Sequence[float] | None = None, **values: Any
    ) -> None:
        thresholds = [float(v) for v in levels]
        if len(thresholds) + 1 == len(scores):
            thresholds.append(0.0)
        if not thresholds or len(thresholds) != len(scores):
            raise ValueError(f"there are {len(thresholds)} levels for {len(scores)} lists of scores; each needs its own")
        if thresholds[-1] != 0 or any(a >= b for a, b in itertools.pairwise(thresholds)):
            raise ValueError(f"levels are {thresholds}; they must ascend to 0, where errors begin")
        particles = [np.sort(np.asarray(s, dtype=float).ravel()) for s in scores]
        if not all(len(s) and np.isfinite(s).all() for s in particles):
            raise ValueError("every level needs scores, all of them finite")
        shares = [float((s > t).mean()) for s, t in zip(particles, thresholds, strict=True)]
        if not all(shares):
            raise ValueError(f"no particle scores above level {shares.index(0) + 1}: the run did not reach the error set")
        running = np.cumsum(np.log10(shares)).tolist() if log10 is None else [float(v) for v in log10]
        if len(running) != len(thresholds) or any(b > a for a, b in itertools.pairwise([0.0, *running])):
            raise ValueError(f"log10 is {running}; it needs one value a level, from 0 downwards")
        grain = 10.0 ** math.floor(math.log10(max(np.ptp(np.concatenate([*particles, [0.0]])), 1e-300)) - 6)
        kept = [s[np.linspace(0, len(s) - 1, min(len(s), self.KEPT)).round().astype(int)] for s in particles]
        super().__init__(
            levels=thresholds,
            scores=[[float(f"{v:.12g}") for v in np.round(s / grain) * grain] for s in kept],
            log10=running,
            **values,
        )

    @traitlets.validate("level")
    def _exists(self, proposal: Any) -> int:
        if proposal["value"] >= len(self.levels):
            raise traitlets.TraitError(f"level is {proposal['value']}; there are {len(self.levels)}, from 0")
        return proposal["value"]

    def describe(self) -> str:
        return (
            f"Level {self.level + 1} of {len(self.levels)} of a splitting run: particles live on above the score "
            f"{self.levels[self.level]:.3g}, which has the probability {_power(self.log10[self.level])}; at the last level "
            f"the error set, score above 0, has {_power(self.log10[-1])}."
        )

    def still(self) -> Picture:
        n = len(self.levels)
        picture = Picture(figsize=(6.4, min(6.0, 1.2 + 0.25 * n)), layout="constrained")
        ax: Axes = picture.subplots()
        for k, (scores, level) in enumerate(zip(self.scores, self.levels, strict=True)):
            s = np.array(scores)
            y = k + 0.66 + 0.68 * (np.arange(len(s)) * (math.sqrt(5) - 1) / 2 % 1)
            ax.scatter(
                s,
                y,
                4,
                np.where(s > 0, ORANGE, np.where(s > level, BLUE, GREY)).tolist(),
                alpha=0.9 if k == self.level else 0.35,
            )
            ax.plot([level, level], [k + 0.54, k + 1.46], color="black", linewidth=1)
            ax.annotate(f" {self.log10[k]:.2f}", (1, k + 1), xycoords=("axes fraction", "data"), va="center", fontsize=7)
        low, high = ax.get_xlim()
        ax.axvspan(0, high, color=ORANGE, alpha=0.12, linewidth=0)
        ax.set(xlim=(low, high), ylim=(n + 0.5, 0.5), xlabel="score, an error above 0", ylabel="level")
        ax.set_title("log10 p", loc="right", fontsize=8)
        return picture


def _above_one(radius: float) -> float:
    if not 1 < radius < math.inf:
        raise traitlets.TraitError(f"outer_radius is {radius}; it must be above 1, the radius of the inner sphere")
    return radius
