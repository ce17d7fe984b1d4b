"""Claims of chapter 1 on the dimension: the same training in 20 to 2,000 dimensions, how often it errs and how near."""

from __future__ import annotations

import functools
import math
from dataclasses import replace

import torch
from torch import Tensor

from advlab import models
from advlab.spheres.geometry import optimal_distance
from advlab.spheres.quadratic import alphas, nearest_error_quadratic, quadratic_log_error
from advlab.spheres.sampling import concentric_spheres, sample_sphere
from advlab.training import binary_cross_entropy, fit_online

from ..results import Measurement, claim
from ..stats import mean_over_seeds
from .measuring import OUTER, Rows, fresh, generator_of, series_of

DIMENSIONS = (20, 50, 100, 200, 500, 1000, 2000)
RATES = {"high": 1e-3, "low": 3e-4}  # Adam's, at the beginning
SEEDS = (1, 2, 3)  # not 0, of which the points that fit_online draws first are the rows of the weight


def _spectrum(d: int, rate: float, seed: int, samples: int) -> Tensor:
    """The alphas (d,) of a quadratic network with 2 d hidden units, trained while the rate falls to 0."""
    net = fresh(functools.partial(models.sphere_quadratic, d, 2 * d), seed)
    fit_online(
        net,
        functools.partial(concentric_spheres, d=d, outer_radius=OUTER),
        samples=max(samples, 250),
        batch_size=250,
        optimizer=functools.partial(torch.optim.Adam, lr=rate, fused=True),
        schedule=lambda step, steps: 1 - step / steps,
        loss=binary_cross_entropy,
        seed=seed,
        progress=False,
    )
    return alphas(net)  # pyrefly: ignore[bad-argument-type]


@functools.cache
def _sweep(n: int) -> Rows:
    """A row for each dimension, rate and seed, of the outer sphere; a network without an error has no distance, NaN."""
    rows = []
    for d in DIMENSIONS[: 3 + n // 25]:  # a slice has the first alone
        x = sample_sphere(10 * n, d, OUTER, generator=generator_of(d))
        for rate in RATES.values():
            for seed in SEEDS:
                spectrum = _spectrum(d, rate, seed, 1000 * n)
                log = quadratic_log_error(spectrum, OUTER, "outer")
                row = {"d": d, "rate": rate, "seed": seed, "log10_error": math.nan, "distance": math.nan, "best": math.nan}
                if log > -math.inf:
                    distance = float(nearest_error_quadratic(x, spectrum, OUTER)[0].mean()) / OUTER
                    row |= {"log10_error": log / math.log(10), "distance": distance, "best": optimal_distance(log, d)}
                rows.append(row)
    return series_of(rows)


def _last(rows: Rows, key: str, rate: str) -> list[float]:
    """Of the seeds in the most dimensions."""
    columns = zip(rows["d"], rows["rate"], rows[key], strict=True)
    return [v for d, r, v in columns if d == rows["d"][-1] and r == RATES[rate]]


for _name, _words in (("high", "0.001"), ("low", "0.0003")):

    @claim(
        f"adversarial_spheres.dimension_error_{_name}",
        f"Error rate in {DIMENSIONS[-1]:,} dimensions, first learning rate {_words}",
        unit="log10",
        digits=2,
        note="Quadratic, 100,000 fresh points, the outer sphere, exact; mean of three seeds. The series has all dimensions.",
        tier="laptop",
    )
    def measure_error(n: int = 100, _name: str = _name) -> Measurement:
        return mean_over_seeds(torch.tensor(_last(_sweep(n), "log10_error", _name)), high=0.0)

    @claim(
        f"adversarial_spheres.dimension_distance_{_name}",
        f"Mean distance to the nearest error in {DIMENSIONS[-1]:,} dimensions, first learning rate {_words}",
        unit="",
        digits=3,
        note="In radii of the outer sphere, from 1,000 points of it, exact; mean of three seeds.",
        tier="laptop",
    )
    def measure_distance(n: int = 100, _name: str = _name) -> Measurement:
        rows = _sweep(n)
        return replace(mean_over_seeds(torch.tensor(_last(rows, "distance", _name)), low=0.0), series=rows)
