"""The live figures of chapter 1 on quadratic networks; the page computes in spheres_math.js what :mod:`advlab.spheres` does."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import traitlets
from matplotlib.figure import Figure as Picture
from scipy.optimize import brentq
from scipy.special import ndtri

from advlab import spheres
from advlab.spheres.geometry import log_betainc

from .caps import LN10, power
from .figure import Figure, module
from .gallery import BLUE, GREEN, GREY, ORANGE

SPHERES, METHODS = ("inner", "outer"), ("exact", "saddlepoint", "clt")


def _above_one(radius: float) -> float:
    if not 1 < radius < math.inf:
        raise traitlets.TraitError(f"outer_radius is {radius}; it must be above 1, the radius of the inner sphere")
    return radius


class AlphaSpectrum(Figure):
    """What the spectrum of a quadratic network says: error rates of both spheres, exact and estimated, and the nearest error.

    ``outliers`` of the ``d`` alphas have the ``size`` (0 to 3.5); the rest are the quantiles of a normal or uniform
    ``shape`` with that ``centre`` and standard deviation ``spread``, cut at 0. ``outer_radius`` is R. From the page come
    back, for the inner and the outer sphere: ``log10_errors``, each exact, by Lugannani and Rice, by the CLT, None for a
    proved 0; ``distances``, each of the nearest error of a typical point and of the cap of that error rate, over the
    radius, None where there is no error. Beside the spectrum stands the section through one axis set apart (without one, the
    axis farthest out of the band) and a median one: an ellipse, which should lie between two circles.

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

    def section(self) -> tuple[float, float]:
        """The two alphas of the section, across and up, as the page finds them."""
        alphas = np.sort(self.alphas())
        out = np.maximum(1 / self.outer_radius**2 - alphas, alphas - 1)
        across = self.size if self.outliers else alphas[len(out) - 1 - int(out[::-1].argmax())]
        return float(across), float(alphas[self.d // 2])

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
            f"{power(e[0])} on the {s} sphere, where the CLT says {power(e[2])}" for s, e in zip(SPHERES, errors, strict=True)
        ]
        worst = 0 if errors[0][0] >= errors[1][0] else 1
        nearest, cap = distances[worst]
        near = f"; the nearest error on the {SPHERES[worst]} sphere lies {nearest:.3f} radii away, under the cap's {cap:.3f}"
        return f"{bad} of {self.d} alphas are bad; the exact error is {told[0]}, and {told[1]}{near if bad else ''}."

    def still(self) -> Picture:
        errors, _ = self.computed()
        alphas, low = self.alphas(), 1 / self.outer_radius**2
        picture = Picture(figsize=(8.4, 2.9), layout="constrained")
        left, middle, right = picture.subplots(1, 3, width_ratios=[1.2, 1, 1])
        (across, up), angle = self.section(), np.linspace(0, 2 * np.pi, 361)
        around = np.stack([np.cos(angle), np.sin(angle)])
        for radius in (1, self.outer_radius):
            middle.plot(*(radius * around), color=BLUE)
        middle.plot(*(around / np.sqrt(np.maximum(1e-4, across * around[0] ** 2 + up * around[1] ** 2))), color="black")
        reach = max(1.62, 1.15 * self.outer_radius)
        middle.set(xlim=(-reach, reach), ylim=(-reach, reach), aspect="equal", xticks=[], yticks=[])
        middle.set_title(f"section: alpha {across:.2f} across, {up:.2f} up", fontsize=8)
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
                right.annotate(f" {power(v)}", (0, y), va="center", fontsize=7, color=ink, fontweight="bold")
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
            f"A network that sees {k:,} of {self.d:,} inputs errs at the rate {power(self.log10_error(k))} on each sphere "
            f"(the CLT says {power(self.log10_error(k, 'clt'))}){near}; an error of 10^-14 takes {exact:,} inputs, by the "
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
