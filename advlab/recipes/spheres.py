"""Chapter 1's networks: quadratic and ReLU networks on two spheres."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import replace
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
    build: Callable[[], nn.Module],
    train: Split | Stream,
    says: str,
    epochs: int,
    batch_size: int,
    more: str = "",
    **others: Any,
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
            "data": f"{says} points of two spheres, d = 500{more}; tested on 200,000 other points, both spheres",
            "optimizer": "Adam, learning rate 0.0001, single precision, sigmoid cross entropy; stored in half precision",
        },
        options={"loss": binary_cross_entropy},
        half=True,
        **others,
    )


_FRESH = Stream(functools.partial(concentric_spheres, d=500), 50_000_000)


def _fall_at_the_end(step: int, steps: int) -> float:
    """1 for five sixths of the steps, then a straight line to 0."""
    return min(1.0, 6 * (1 - step / steps))


def _falling(step: int, steps: int) -> float:
    """A straight line from 1 to 0."""
    return 1 - step / steps


RECIPES: dict[str, Recipe] = {
    "sphere_relu": _sphere_recipe(
        models.sphere_relu,
        replace(_FRESH, samples=30_000_000),
        "30 million fresh",
        epochs=30,
        batch_size=1000,
        more="; the rate falls to 0 over the last 5 million",
        schedule=_fall_at_the_end,
    ),
    **{
        f"sphere_relu_million_{seed}": _sphere_recipe(
            models.sphere_relu,
            _FRESH,
            "50 million fresh",
            100,
            50,
            f", in a million updates, as in the paper; seed {seed}",
            seed=seed,
        )
        for seed in range(3)
    },
    **{
        f"sphere_relu_fallen_{seed}": _sphere_recipe(
            models.sphere_relu,
            replace(_FRESH, samples=2_500_000),
            "50 and another 2.5 million fresh",
            5,
            50,
            f", in a million updates, as in the paper, and 50,000 more, whose rate falls to 0; seed {seed}",
            schedule=_falling,
            seed=100 + seed,  # other points than before
            start=f"sphere_relu_million_{seed}",
        )
        for seed in range(3)
    },
    "sphere_quadratic": _sphere_recipe(models.sphere_quadratic, _FRESH, "50 million fresh", 50, 250),
    "sphere_quadratic_1m": _sphere_recipe(
        models.sphere_quadratic, functools.partial(_spheres, 1_000_000, seed=1), "a fixed set of 1 million", 2, 250
    ),
    "sphere_quadratic_100k": _sphere_recipe(
        models.sphere_quadratic, functools.partial(_spheres, 100_000, seed=1), "a fixed set of 100 thousand", 2, 250
    ),
}
