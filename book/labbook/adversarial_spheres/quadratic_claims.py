"""Claims of chapter 1 on quadratic networks: those that ship, untrained ones, and ones along their training.

Claims that train networks train them here, from seeds; ``n`` counts points, and these networks see 1,000 fresh samples for each
point that is measured.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Iterator
from dataclasses import replace

import torch
from torch import Tensor

from advlab import models, zoo
from advlab.spheres.geometry import optimal_distance
from advlab.spheres.quadratic import SPHERES, alphas, nearest_error_quadratic, quadratic_log_error
from advlab.spheres.sampling import concentric_spheres, sample_sphere
from advlab.training import binary_cross_entropy, fit_online

from ..entries import UNCONFIRMED
from ..results import Measurement, claim
from ..stats import mean_over_seeds
from .measuring import (
    OUTER,
    RADIUS,
    V1,
    V3,
    D,
    Rows,
    fresh,
    generator_of,
    log10_error,
    ratio_over_seeds,
    series_of,
    train,
)


def bad_alphas(spectrum: Tensor) -> int:
    return int(((spectrum > 1) | (spectrum < OUTER**-2)).sum())


def _shipped(name: str) -> Tensor:
    return alphas(zoo.load(name))  # pyrefly: ignore[bad-argument-type]


def _bad_claim(short: str, name: str, title: str, paper: float | None, where: str | None, note: str) -> None:
    def bad(n: int = D) -> Measurement:
        spectrum = _shipped(name)
        return Measurement(bad_alphas(spectrum), n=len(spectrum), series={"alpha": spectrum.tolist()})

    claim(
        f"adversarial_spheres.{short}_bad",
        f"Bad alphas, {title}",
        paper=paper,
        where=where,
        unit="",
        digits=0,
        note=note,
        networks=[name],
    )(bad)


def _error_claim(short: str, name: str, title: str, sphere: str, method: str, paper: float | None, note: str) -> None:
    def error(n: int = D) -> Measurement:
        return Measurement(log10_error(_shipped(name), sphere=sphere, method=method))

    claim(
        f"adversarial_spheres.{short}_{method}_{sphere}",
        f"Error rate, {sphere} sphere, {title}, {'exact' if method == 'exact' else 'normal law'}",
        paper=paper,
        where=f"{V1}, Figure 3",
        unit="log10",
        digits=2,
        note=note,
        networks=[name],
    )(error)


#: Version 1, Figure 3: the heights of its 50 bars over [0, 1.96], measured in the picture; they sum to its 500 alphas.
BARS = (
    *(51, 23, 16, 14, 13, 12, 10, 13, 11, 11, 11, 10, 10, 11, 11, 10, 10, 10, 12, 9, 11, 10, 10, 10, 9),
    *(9, 10, 7, 9, 10, 8, 9, 8, 8, 8, 8, 8, 8, 7, 6, 7, 6, 6, 7, 4, 5, 5, 3, 4, 2),
)


def printed_alphas() -> Tensor:
    """The 500 alphas of the paper's network, each at the middle of its bar; (500,) float64."""
    middles = (torch.arange(len(BARS), dtype=torch.float64) + 0.5) * 1.96 / len(BARS)
    return middles.repeat_interleave(torch.tensor(BARS))


def _printed_claim(sphere: str, method: str, paper: float | None) -> None:
    claim(
        f"adversarial_spheres.printed_{method}_{sphere}",
        f"Error rate, {sphere} sphere, the network of the paper's own histogram, "
        f"{'exact' if method == 'exact' else 'normal law'}",
        paper=paper,
        where=f"{V1}, Figure 3",
        unit="log10",
        digits=2,
        note="Fifty bars, measured in the picture; each alpha stands in the middle of its bar.",
    )(lambda n=D: Measurement(log10_error(printed_alphas(), sphere=sphere, method=method)))


for _sphere, _method, _paper in (("inner", "clt", -10.99), ("inner", "exact", None), ("outer", "exact", None)):
    _printed_claim(_sphere, _method, _paper)


_100K, _1M, _ONLINE = "quadratic, 100,000 fixed points", "quadratic, 1 million fixed points", "quadratic, fresh points"
_bad_claim(
    "q100k",
    "sphere_quadratic_100k",
    _100K,
    394,
    f"{V1}, Figure 3",
    "Two passes. Passes, batch and start are our own choice; the paper does not give them.",
)
_error_claim("q100k", "sphere_quadratic_100k", _100K, "inner", "clt", -10.99, "The paper gives the inner sphere alone.")
_error_claim("q100k", "sphere_quadratic_100k", _100K, "inner", "exact", None, "")
_error_claim("q100k", "sphere_quadratic_100k", _100K, "outer", "exact", None, "The sphere the paper does not report.")
_bad_claim("q1m", "sphere_quadratic_1m", _1M, 325, f"{V3}, section 4 {UNCONFIRMED}", "")
_error_claim("q1m", "sphere_quadratic_1m", _1M, "inner", "exact", None, "")
_error_claim("q1m", "sphere_quadratic_1m", _1M, "outer", "exact", None, "")
_bad_claim("online", "sphere_quadratic", _ONLINE, 0, f"{V1}, section 4 {UNCONFIRMED}", "0 would be a proof of no error.")
_error_claim("online", "sphere_quadratic", _ONLINE, "inner", "exact", None, "")
_error_claim("online", "sphere_quadratic", _ONLINE, "outer", "exact", None, "")


def _row(spectrum: Tensor, **others: float) -> Iterator[dict[str, float]]:
    """For both spheres: exact error, mean of the exact nearest distance at 1,000 points, and its ratio to the optimum."""
    for index, sphere in enumerate(SPHERES):
        log = quadratic_log_error(spectrum, OUTER, sphere)
        if math.log(0.5) > log > -math.inf:
            x = sample_sphere(1000, len(spectrum), RADIUS[sphere], generator=generator_of(1000))
            distance = float(nearest_error_quadratic(x, spectrum, OUTER)[0].mean()) / RADIUS[sphere]
            ratio = distance / optimal_distance(log, len(spectrum))
            yield {**others, "outer": index, "log10_error": log / math.log(10), "distance": distance, "ratio": ratio}


def _tuned(weight: Tensor) -> Tensor:
    """The alphas of a random weight whose threshold alone is tuned: both spheres equally often wrong."""
    squares = torch.linalg.eigvalsh(weight.T @ weight).clamp(min=0)
    low, high = 0.2 / float(squares.mean()), 1.5 / float(squares.mean())
    for _ in range(40):
        middle = math.sqrt(low * high)
        inner, outer = (quadratic_log_error(squares * middle, OUTER, sphere, "saddlepoint") for sphere in SPHERES)
        low, high = (low, middle) if inner > outer else (middle, high)
    return squares * low


@functools.cache
def _untrained(n: int) -> Rows:
    rows = []
    for seed in range(3):
        for width in [w for w in (100, 175, 250, 350, 500, 700, 1000, 1400, 2000, 4000) if w <= n]:
            weight = torch.randn(width, D, generator=generator_of(seed), dtype=torch.float64)
            spectrum = _tuned(weight)
            rows += list(_row(spectrum, width=width, seed=seed, bad=bad_alphas(spectrum)))
    return series_of(rows)


@claim(
    "adversarial_spheres.untrained",
    "Error rate of 1,000 random hidden units, only the threshold tuned",
    unit="log10",
    digits=2,
    over="3 seeds",
    note="Quadratic, d = 500; the worse sphere, mean of the logs over three seeds. Nothing was trained.",
)
def untrained(n: int = 4000) -> Measurement:
    rows = _untrained(max(n, 1000))
    wanted = [rows["log10_error"][i] for i, width in enumerate(rows["width"]) if width == 1000]
    worse = torch.tensor(wanted).view(-1, 2).amax(1)
    return replace(mean_over_seeds(worse), series=rows)


@functools.cache
def _online(n: int) -> Rows:
    """Quadratic networks along their training, three seeds: a row for each sphere after 0, 1, 2, 4, ... steps of n / 4."""
    rows = []
    for seed in range(3):
        net = fresh(models.sphere_quadratic, seed)
        seen = 0
        for part in (0, 1, 1, 2, 4, 8):
            if part:
                train(net, part * n * 250, 1e-4, seed=1 + seed * 1000 + seen)  # 0 would draw the rows of the first weight
                seen += part * n * 250
            spectrum = alphas(net)  # pyrefly: ignore[bad-argument-type]
            rows += list(_row(spectrum, samples=seen, seed=seed, bad=bad_alphas(spectrum)))
    return series_of(rows)


@claim(
    "adversarial_spheres.ratio_quadratic",
    "Distance over the optimum, quadratic networks along their training",
    unit="",
    digits=3,
    over="3 seeds",
    note="Exact error rates and distances, 1,000 points each; three seeds, both spheres. 1 is the bound, 0.707 degree 2.",
    tier="laptop",
)
def ratio_quadratic(n: int = 200) -> Measurement:
    return ratio_over_seeds(_online(n))


@claim(
    "adversarial_spheres.ratio_untrained",
    "Distance over the optimum, untrained quadratic networks",
    unit="",
    digits=3,
    over="3 seeds",
    note="Widths of 100 to 4,000; three seeds, both spheres.",
)
def ratio_untrained(n: int = 4000) -> Measurement:
    return ratio_over_seeds(_untrained(max(n, 1000)))


SIZES = (300, 1000, 3000, 10_000, 30_000)  # points of the fixed training sets


@functools.cache
def _sized(n: int) -> Rows:
    """Quadratic networks that see a small set again and again: a row for each sphere after n / 64, n / 32, ..., n steps."""
    rows = []
    for seed in range(3):
        for size in SIZES:
            x, y = concentric_spheres(size, D, OUTER, generator=generator_of(2000 + 10 * seed + SIZES.index(size)))
            net, seen = fresh(models.sphere_quadratic, seed), 0

            def draw(k: int, x: Tensor = x, y: Tensor = y) -> tuple[Tensor, Tensor]:
                chosen = torch.randint(len(x), (k,))
                return x[chosen], y[chosen]

            for steps in (n >> k for k in range(6, -1, -1)):
                adam = functools.partial(torch.optim.Adam, lr=1e-4, fused=True)
                options = {"loss": binary_cross_entropy, "optimizer": adam, "seed": 1000 * seed + seen, "progress": False}
                fit_online(net, draw, samples=50 * max(steps - seen, 1), batch_size=50, **options)
                seen = steps
                spectrum = alphas(net)  # pyrefly: ignore[bad-argument-type]
                rows += list(_row(spectrum, size=size, steps=steps, seed=seed, bad=bad_alphas(spectrum)))
    return series_of(rows)


@claim(
    "adversarial_spheres.ratio_sized",
    "Distance over the optimum, quadratic networks on small training sets",
    unit="",
    digits=3,
    over="3 seeds",
    note="Five sets of 300 to 30,000 points, seven times along each training; both spheres, exact. 1 is the bound.",
    tier="laptop",
)
def ratio_sized(n: int = 25_600) -> Measurement:
    return ratio_over_seeds(_sized(n))


def _crossings(rows: Rows, exponent: int) -> Iterator[tuple[float, float]]:
    """Seed and distance at each place where the inner sphere's error rate passes 10^-exponent in the course of a training."""
    keys = ("seed", "size", "steps", "log10_error", "distance", "outer")
    runs = sorted(run[:5] for run in zip(*(rows[key] for key in keys), strict=True) if not run[5])
    for (*run, _, before, near), (*same, _, after, far) in itertools.pairwise(runs):
        if run == same and (before + exponent) * (after + exponent) < 0:
            yield run[0], near + (exponent + before) / (before - after) * (far - near)


def _band(exponent: int, low: float, high: float) -> None:
    def band(n: int = 25_600) -> Measurement:
        by_seed: dict[float, list[float]] = {}
        for seed, distance in _crossings(_sized(n), exponent):
            by_seed.setdefault(seed, []).append(distance)
        means = [sum(each) / len(each) for each in by_seed.values()]
        found = mean_over_seeds(torch.tensor(means)) if means else Measurement(math.nan)
        return replace(found, n=sum(map(len, by_seed.values())), series={"band": [low, high]})

    claim(
        f"adversarial_spheres.distance_at_1e{exponent}",
        f"Mean nearest error at an error rate of 1e-{exponent}, inner sphere",
        paper=(low + high) / 2,
        where=f"{V3}, Figure 4, middle of the band from {low:g} to {high:g}, read off",
        unit="",
        digits=3,
        over="3 seeds",
        note=f"Where trainings on small sets pass this rate. The paper's trained networks lie from {low:g} to {high:g}.",
        tier="laptop",
    )(band)


for _exponent, _low, _high in ((1, 0.04, 0.06), (2, 0.07, 0.10), (3, 0.09, 0.13), (4, 0.11, 0.15), (5, 0.13, 0.175)):
    _band(_exponent, _low, _high)
