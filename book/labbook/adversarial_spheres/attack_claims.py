"""Claims of chapter 1 on attacks beside the exact nearest error."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from advlab import zoo
from advlab.spheres.attacks import manifold_pgd, nearest_error
from advlab.spheres.quadratic import eigenbasis, nearest_error_quadratic
from advlab.spheres.sampling import sample_sphere

from ..results import Measurement, claim
from ..stats import mean_over_seeds
from .measuring import OUTER, D, generator_of


def _attacked(attack: Callable[[nn.Module, Tensor, Tensor], Tensor], n: int) -> Measurement:
    """The mean distance that an attack finds over the mean exact distance, inner sphere, 100k network."""
    net = zoo.load("sphere_quadratic_100k")
    x = sample_sphere(n, D, generator=generator_of(1))
    spectrum, axes = eigenbasis(net)  # pyrefly: ignore[bad-argument-type]
    exact, _ = nearest_error_quadratic(x.double() @ axes, spectrum, OUTER)
    found = attack(net, x, torch.zeros(n, dtype=torch.int64)).double()
    each = found / exact
    mean = mean_over_seeds(each)
    return Measurement(
        float(found.mean() / exact.mean()), n, mean.interval, series={"exact": exact.tolist(), "found": found.tolist()}
    )


@claim(
    "adversarial_spheres.pgd_overstates",
    "First error of PGD, step 0.01, over the exact nearest error",
    unit="",
    digits=3,
    note="Quadratic network, 100,000 fixed points, inner sphere; the interval is that of the mean ratio.",
    networks=["sphere_quadratic_100k"],
)
def pgd_overstates(n: int = 200) -> Measurement:
    return _attacked(lambda net, x, y: (manifold_pgd(net, x, y) - x).norm(dim=1), n)


@claim(
    "adversarial_spheres.refined_overstates",
    "Refined error over the exact nearest error",
    unit="",
    digits=4,
    note="The same points; never below 1.",
    networks=["sphere_quadratic_100k"],
)
def refined_overstates(n: int = 200) -> Measurement:
    return _attacked(lambda net, x, y: nearest_error(net, x, y)[0], n)
