"""Chapter 1's networks: quadratic and ReLU networks on two spheres."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from .. import models
from ..spheres import concentric_spheres
from ..training import binary_cross_entropy
from .common import Recipe, Split, Stream


def _spheres(n: int, seed: int) -> tuple[Tensor, Tensor]:
    return concentric_spheres(n, 500, generator=torch.Generator().manual_seed(seed))


def _sphere_recipe(
    build: Callable[[], nn.Module], train: Split | Stream, says: str, *, epochs: int, batch_size: int, **others: Any
) -> Recipe:
    return Recipe(
        build=build,
        train=train,
        test=functools.partial(_spheres, 200_000, seed=2),
        epochs=epochs,
        batch_size=batch_size,
        optimizer=lambda weights: torch.optim.Adam(weights, lr=1e-4, fused=True),
        says={
            "paper": "Gilmer et al. (2018), sections 3 and 4",
            "data": f"{says}; tested on 200,000 other points, both spheres",
            "optimizer": "Adam, learning rate 0.0001, single precision, sigmoid cross entropy; stored in half precision",
            "licence": "MIT",
        },
        options={"loss": binary_cross_entropy},
        half=True,
        **others,
    )


_FRESH = functools.partial(concentric_spheres, d=500)


def _fall_at_the_end(step: int, steps: int) -> float:
    """1 for five sixths of the steps, then a straight line to 0."""
    return min(1.0, 6 * (1 - step / steps))


RECIPES: dict[str, Recipe] = {
    "sphere_relu": _sphere_recipe(
        models.sphere_relu,
        Stream(_FRESH, 30_000_000),
        "30 million fresh points of two spheres, d = 500; the rate falls to 0 over the last 5 million",
        epochs=30,
        batch_size=1000,
        schedule=_fall_at_the_end,
    ),
    **{
        f"sphere_relu_million_{seed}": _sphere_recipe(
            models.sphere_relu,
            Stream(_FRESH, 50_000_000),
            f"50 million fresh points of two spheres, d = 500, in a million updates, as in the paper; seed {seed}",
            epochs=100,
            batch_size=50,
            seed=seed,
        )
        for seed in range(3)
    },
    "sphere_quadratic": _sphere_recipe(
        models.sphere_quadratic,
        Stream(_FRESH, 50_000_000),
        "50 million fresh points of two spheres, d = 500",
        epochs=50,
        batch_size=250,
    ),
    "sphere_quadratic_1m": _sphere_recipe(
        models.sphere_quadratic,
        functools.partial(_spheres, 1_000_000, seed=1),
        "a fixed set of 1 million points of two spheres, d = 500",
        epochs=2,
        batch_size=250,
    ),
    "sphere_quadratic_100k": _sphere_recipe(
        models.sphere_quadratic,
        functools.partial(_spheres, 100_000, seed=1),
        "a fixed set of 100 thousand points of two spheres, d = 500",
        epochs=2,
        batch_size=250,
    ),
}
