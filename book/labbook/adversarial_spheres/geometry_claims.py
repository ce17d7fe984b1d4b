"""Claims of chapter 1 on spheres and caps, and on what a model may ignore."""

from __future__ import annotations

import math
from dataclasses import replace

import torch
from scipy import integrate, stats

from advlab.spheres.geometry import optimal_distance
from advlab.spheres.quadratic import ignored_log_error, inputs_needed
from advlab.spheres.sampling import sample_sphere

from ..entries import UNCONFIRMED
from ..results import Measurement, claim
from ..stats import mean_over_seeds
from .measuring import OUTER, V1, V3, D, generator_of, log10_error


def long_axes_distance(k: int, rate: float, d: int = D) -> float:
    """The mean chord to an even error set of measure ``rate``: the points of the unit sphere farthest along k equal axes.

    E is where the k coordinates have |x_1..k| >= sin(edge), two opposite caps for k = 1. From |x_1..k| = sin(t) it is edge - t
    of arc away, and |x_1..k|^2 is a beta variable with k/2 and (d - k)/2.
    """
    law = stats.beta(k / 2, (d - k) / 2)
    edge, usual = math.asin(law.isf(rate) ** 0.5), math.asin((k / d) ** 0.5)

    def part(t: float) -> float:
        # pyrefly: ignore[missing-attribute]
        return 2 * math.sin((edge - t) / 2) * float(law.pdf(math.sin(t) ** 2)) * math.sin(2 * t)

    return integrate.quad(part, 0, edge, limit=500, points=[min(usual, edge)])[0]


AXES = (1, 2, 5, 20, 100, 250)
RATES = (-1, -2, -3, -4, -6, -10, -20, -30)


@claim(
    "adversarial_spheres.two_caps",
    "Two opposite caps of rate 1e-6, d = 500: mean distance over that of one cap",
    unit="",
    digits=3,
    note="Exact. The series has other rates, and other numbers of equal long axes.",
)
def two_caps(n: int = 1) -> Measurement:
    cells = [
        (k, rate, long_axes_distance(k, 10.0**rate) / optimal_distance(rate * math.log(10), D)) for k in AXES for rate in RATES
    ]
    axes, rates, ratios = (list(map(float, column)) for column in zip(*cells, strict=True))
    value = ratios[RATES.index(-6)]
    return Measurement(value, series={"axes": axes, "log10_error": rates, "ratio": ratios})


@claim(
    "adversarial_spheres.nearest_pair",
    "Nearest pair among 10,000 points of the inner sphere, d = 500",
    paper=1.25,
    where="Gilmer et al. (2018), quoted by Galloway et al. (2019)",
    unit="",
    digits=3,
    over="5 draws",
    note="Mean over five draws; two points are typically the square root of 2 apart.",
)
def nearest_pair(n: int = 10_000) -> Measurement:
    def nearest(seed: int) -> float:
        x = sample_sphere(n, D, generator=generator_of(seed))
        cosines = torch.stack([(part @ x.T).topk(2).values[:, 1].max() for part in x.split(1000)])
        return math.sqrt(2 - 2 * float(cosines.max()))

    return replace(mean_over_seeds(torch.tensor([nearest(seed) for seed in range(5)])), n=n)


def _cap(d: int, paper: float, digits: int, note: str) -> None:
    def cap(n: int = 1) -> Measurement:
        return Measurement(optimal_distance(math.log(0.01), d + 1, "geodesic"))

    claim(
        f"adversarial_spheres.cap_{d}",
        f"Largest mean distance to errors of measure 0.01, along a sphere of dimension {d}",
        paper=paper,
        where=f"{V3}, Figure 3",
        unit="",
        digits=digits,
        note=note,
    )(cap)


_cap(2, 1.4, 2, "Exact. The paper's four labels fit if its n is the dimension of the sphere, in n + 1 dimensions of space.")
_cap(100, 0.23, 3, "Exact.")
_cap(500, 0.104, 4, "Exact.")
_cap(2000, 0.052, 4, "Exact.")


@claim(
    "adversarial_spheres.ignored_clt",
    "Share of 3,000 inputs that a model below error 1e-14 can ignore, normal law",
    paper=0.62,
    where=f"{V1}, section 5 {UNCONFIRMED}",
    note="The paper's formula with its errata corrected.",
)
def ignored_clt(n: int = 3000) -> Measurement:
    return Measurement(1 - inputs_needed(math.log(1e-14), max(n, 300), OUTER, "clt") / max(n, 300), n)


@claim(
    "adversarial_spheres.ignored_exact",
    "Share of 3,000 inputs that a model below error 1e-14 can ignore, exact law",
    note="The error is a tail of a beta law, thinner than the normal one here.",
)
def ignored_exact(n: int = 3000) -> Measurement:
    d = max(n, 300)
    ks = [d // 20 * i for i in range(1, 20)]
    logs = [ignored_log_error(k, d, OUTER) / math.log(10) for k in ks]
    series = {"used": [k / d for k in ks], "log10_error": logs}
    return Measurement(1 - inputs_needed(math.log(1e-14), d, OUTER) / d, n, series=series)


@claim(
    "adversarial_spheres.one_bad_alpha",
    "Error rate with one alpha of 3 among 499 of 0.77, exact",
    unit="log10",
    note="The normal law sees the mean and the spread of the spectrum, the tail hangs on its largest value.",
)
def one_bad_alpha(n: int = D) -> Measurement:
    return Measurement(log10_error([3.0] + [0.77] * (n - 1)))


@claim(
    "adversarial_spheres.one_bad_alpha_clt",
    "Error rate with one alpha of 3 among 499 of 0.77, normal law",
    unit="log10",
)
def one_bad_alpha_clt(n: int = D) -> Measurement:
    return Measurement(log10_error([3.0] + [0.77] * (n - 1), method="clt"))
