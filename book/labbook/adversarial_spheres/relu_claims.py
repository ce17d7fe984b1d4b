"""Claims of chapter 1 on ReLU networks: rare errors, upper bounds of distances, and degrees."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor, nn

from advlab import evaluate, models, zoo
from advlab.spheres.attacks import manifold_pgd, nearest_error
from advlab.spheres.degrees import DegreeShares, degree_shares
from advlab.spheres.geometry import optimal_distance
from advlab.spheres.quadratic import SPHERES
from advlab.spheres.rare_events import RareEvent, rare_event_log10
from advlab.spheres.sampling import sample_sphere

from ..entries import UNCONFIRMED
from ..results import Measurement, claim
from ..stats import mean_over_seeds
from .measuring import (
    RADIUS,
    V1,
    D,
    Rows,
    fresh,
    generator_of,
    ratio_over_seeds,
    series_of,
    train,
)


def _wrong(net: nn.Module, sphere: str) -> Callable[[Tensor], Tensor]:
    sign = 1 if sphere == "inner" else -1
    return lambda x: sign * net(x)


@functools.cache
def _rare(sphere: str, particles: int) -> RareEvent:
    net = zoo.load("sphere_relu")
    return rare_event_log10(
        _wrong(net, sphere), D, RADIUS[sphere], generator=generator_of(0), particles=particles, runs=8, floor=-60.0
    )


def _rare_claim(sphere: str) -> None:
    def rare(n: int = 500) -> Measurement:
        found = _rare(sphere, max(n, 10))
        half = 2 * found.standard_error
        return Measurement(found.log10, n, (found.log10 - half, found.log10 + half))

    claim(
        f"adversarial_spheres.relu_rate_{sphere}",
        f"Error rate of the ReLU network, {sphere} sphere, by splitting",
        unit="log10",
        digits=2,
        over="8 runs",
        note="500 particles in each of eight runs; the interval is two standard errors.",
        tier="laptop",
        networks=["sphere_relu"],
    )(rare)


_rare_claim("inner")
_rare_claim("outer")


def _sampled(sphere: str) -> None:
    def sampled(n: int = 10_000_000) -> Measurement:
        net, generator, errors = zoo.load("sphere_relu"), generator_of(0), 0
        with torch.no_grad():
            for start in range(0, n, 2000):
                x = sample_sphere(min(2000, n - start), D, RADIUS[sphere], generator=generator)
                errors += int((_wrong(net, sphere)(x) > 0).sum())
        low, high = evaluate.clopper_pearson(errors, n)
        return Measurement(errors, n, (low * n, high * n))

    claim(
        f"adversarial_spheres.relu_sampled_{sphere}",
        f"Errors of the ReLU network among random points, {sphere} sphere",
        paper=0,
        where=f"{V1}, Figure 1: fewer than 1 in 10 million",
        unit="errors",
        digits=0,
        note="The interval is that of the expected count.",
        tier="laptop",
        networks=["sphere_relu"],
    )(sampled)


_sampled("inner")
_sampled("outer")


@functools.cache
def _relu_nearest(sphere: str, n: int) -> tuple[Tensor, Tensor]:
    """First-hit and refined distances over the radius, (n,) each; splitting's survivors start what PGD does not find."""
    net = zoo.load("sphere_relu")
    x = sample_sphere(n, D, RADIUS[sphere], generator=generator_of(1))
    y = torch.full((n,), SPHERES.index(sphere))
    first = manifold_pgd(net, x, y)
    hit = evaluate.predict(net, first) != y
    first_distance = torch.where(hit, (first - x).norm(dim=1), torch.nan) / RADIUS[sphere]
    refined, _ = nearest_error(net, x, y, starts=_rare(sphere, 500).survivors)
    return first_distance, refined / RADIUS[sphere]


@claim(
    "adversarial_spheres.relu_first_hit",
    "Mean distance to the first error of PGD, ReLU network, inner sphere",
    paper=0.18,
    where=f"{V1}, section 3 {UNCONFIRMED}",
    unit="",
    digits=3,
    note="An upper bound. Points where PGD finds none are left out.",
    tier="laptop",
    networks=["sphere_relu"],
)
def relu_first_hit(n: int = 200) -> Measurement:
    first, _ = _relu_nearest("inner", n)
    return mean_over_seeds(first[first.isfinite()])


def _refined_claim(sphere: str) -> None:
    def refined(n: int = 200) -> Measurement:
        return mean_over_seeds(_relu_nearest(sphere, n)[1])

    claim(
        f"adversarial_spheres.relu_refined_{sphere}",
        f"Mean distance to the refined nearest error, ReLU network, {sphere} sphere",
        unit="",
        digits=3,
        note="Still an upper bound; all points counted.",
        tier="laptop",
        networks=["sphere_relu"],
    )(refined)


_refined_claim("inner")
_refined_claim("outer")


@claim(
    "adversarial_spheres.relu_degree",
    "Mean degree of the ReLU network's logit, inner sphere",
    unit="",
    digits=2,
    note="1 only for a half-space; the heuristic ratio to the optimum is one over its square root.",
    tier="laptop",
    networks=["sphere_relu"],
)
def relu_degree(n: int = 40_000) -> Measurement:
    found = _shares(zoo.load("sphere_relu"), "inner", max(n, 200))
    half = 2 * found.errors["mean_degree"]
    shares = {key: [getattr(found, key)] for key in ("degree_1", "degree_2", "odd_from_3", "even_from_4")}
    return Measurement(found.mean_degree, n, (found.mean_degree - half, found.mean_degree + half), series=shares)


def _shares(net: nn.Module, sphere: str, n: int) -> DegreeShares:
    return degree_shares(net, D, RADIUS[sphere], n=n, generator=generator_of(2))


def _relu_rows(build: Callable[[], nn.Module], rate: float, n: int, seeds: int = 3) -> Rows:
    """ReLU networks after 1,000 n fresh samples: error by splitting, refined distance, ratio and degree, both spheres."""
    rows = []
    for seed in range(seeds):
        net = fresh(build, seed)
        train(net, 1000 * n, rate, seed)
        for index, sphere in enumerate(SPHERES):
            rare = rare_event_log10(
                _wrong(net, sphere), D, RADIUS[sphere], generator=generator_of(seed), particles=300, floor=-60.0
            )
            x = sample_sphere(n // 2, D, RADIUS[sphere], generator=generator_of(seed))
            y = torch.full((len(x),), index)
            first = (manifold_pgd(net, x, y, steps=5 * n) - x).norm(dim=1).mean() / RADIUS[sphere]
            refined, _ = nearest_error(net, x, y, starts=rare.survivors, steps=5 * n)
            distance = float(refined.nanmean()) / RADIUS[sphere]
            if not -math.inf < rare.log10 < math.log10(0.5):
                continue
            rows.append(
                {
                    "seed": seed,
                    "outer": index,
                    "log10_error": rare.log10,
                    "standard_error": rare.standard_error,
                    "first_hit": float(first),
                    "distance": distance,
                    "ratio": distance / optimal_distance(rare.log10 * math.log(10), D),
                    "predicted": _shares(net, sphere, max(200, 100 * n)).ratio,
                }
            )
    return series_of(rows)


def _without_batch_norm() -> nn.Module:
    return nn.Sequential(*(layer for layer in models.sphere_relu() if not isinstance(layer, nn.BatchNorm1d)))


@functools.cache
def _relu_1000(n: int) -> Rows:
    return _relu_rows(models.sphere_relu, 1e-4, n)


@functools.cache
def _relu_plain(n: int) -> Rows:
    return _relu_rows(_without_batch_norm, 1e-4, n)


@claim(
    "adversarial_spheres.ratio_relu",
    "Distance over the optimum, ReLU networks of 2 x 1,000 units, rate 1e-4",
    unit="",
    digits=3,
    over="3 trainings",
    note="200,000 fresh points; three seeds, both spheres; distances are upper bounds, so the ratio is one too.",
    tier="laptop",
)
def ratio_relu(n: int = 200) -> Measurement:
    return ratio_over_seeds(_relu_1000(n))


@claim(
    "adversarial_spheres.ratio_relu_fast",
    "Distance over the optimum, ReLU networks of 2 x 1,000 units, rate 1e-3",
    unit="",
    digits=3,
    over="3 trainings",
    note="A rate ten times as high ends at an error rate thousands of times as high.",
    tier="laptop",
)
def ratio_relu_fast(n: int = 200) -> Measurement:
    return ratio_over_seeds(_relu_rows(models.sphere_relu, 1e-3, n))


@claim(
    "adversarial_spheres.ratio_relu_narrow",
    "Distance over the optimum, ReLU networks of 2 x 300 units, rate 3e-4",
    unit="",
    digits=3,
    over="3 trainings",
    tier="laptop",
)
def ratio_relu_narrow(n: int = 200) -> Measurement:
    return ratio_over_seeds(_relu_rows(functools.partial(models.sphere_relu, D, 300), 3e-4, n))


@claim(
    "adversarial_spheres.ratio_relu_wide",
    "Distance over the optimum, ReLU network of 2 x 2,000 units, rate 5e-5, one seed",
    unit="",
    digits=3,
    over="1 training",
    note="100,000 fresh points. One seed: no interval worth the name.",
    tier="laptop",
)
def ratio_relu_wide(n: int = 100) -> Measurement:
    return ratio_over_seeds(_relu_rows(functools.partial(models.sphere_relu, D, 2000), 5e-5, n, seeds=1))


@claim(
    "adversarial_spheres.batch_norm",
    "Nearest error without batch norm over that with it, the same training",
    unit="",
    digits=3,
    over="3 pairs of trainings",
    note="Three pairs of networks, 200,000 fresh points, both spheres. Above 1: batch norm brings errors nearer.",
    tier="laptop",
)
def batch_norm(n: int = 200) -> Measurement:
    with_it, without = _relu_1000(n), _relu_plain(n)
    pairs = []
    for seed in range(3):
        sides = [[rows["distance"][i] for i, s in enumerate(rows.get("seed", [])) if s == seed] for rows in (without, with_it)]
        if all(len(side) == 2 for side in sides):
            pairs.append(sum(sides[0]) / sum(sides[1]))
    found = mean_over_seeds(torch.tensor(pairs)) if pairs else Measurement(math.nan)
    return replace(found, n=len(pairs), series=without)
