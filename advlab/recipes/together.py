"""Chapter 5's networks: chapter 3's architecture under other defences."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import nn

from .. import models
from ..masking import masked_stability_cnn
from ..training import flip_and_shift
from .common import Recipe, rise_and_fall
from .stability import stability_recipe


def _small_recipe(dataset: str, build: Callable[[], nn.Module], says: str, eps: float = 0.0, step_size: float = 0.0) -> Recipe:
    """Chapter 5: the network of Xiao et al. (2019) in a short training, adversarial where ``eps`` is above 0."""
    base = stability_recipe(dataset, eps, step_size, 5 if dataset == "MNIST" else 10, says)
    moved = "" if dataset == "MNIST" or eps else ", mirrored and shifted by up to 2 pixels"
    plain: dict[str, Any] = {
        "says": base.says | {"data": f"{dataset}: training images from 5,000 on{moved}; tested on 10,000"},
        "options": {"transform": flip_and_shift} if moved else {},
    }
    made = replace(
        base,
        build=build,
        optimizer=lambda weights: torch.optim.Adam(weights, lr=2e-3, fused=True),
        schedule=rise_and_fall,
        **({} if eps else plain),
    )
    attacked = " of the attacked images" if eps else ""
    told = {"paper": f"chapter 5, {says}", "optimizer": f"Adam, learning rate 0 to 0.002 to 0, cross entropy{attacked}"}
    return replace(made, says=made.says | told)


_PLAIN_CIFAR = functools.partial(models.stability_cnn, 3, 32)
_MASKED_CIFAR = functools.partial(masked_stability_cnn, 0.5, 3, 32)
_MASKS, _ATTACKED = "masks of drop 0.5", "adversarial training, linf"

RECIPES: dict[str, Recipe] = {
    "mnist_small": _small_recipe("MNIST", models.stability_cnn, "no defence"),
    "mnist_small_mask_50": _small_recipe("MNIST", masked_stability_cnn, _MASKS),
    "mnist_01_short": _small_recipe("MNIST", models.stability_cnn, f"a short {_ATTACKED} 0.1", 0.1, 0.03),
    "mnist_01_mask_50": _small_recipe("MNIST", masked_stability_cnn, f"{_MASKS}, with {_ATTACKED} 0.1", 0.1, 0.03),
    "cifar_small": _small_recipe("CIFAR-10", _PLAIN_CIFAR, "no defence"),
    "cifar_small_mask_50": _small_recipe("CIFAR-10", _MASKED_CIFAR, _MASKS),
    "cifar_2_adversarial": _small_recipe("CIFAR-10", _PLAIN_CIFAR, f"{_ATTACKED} 2/255", 2 / 255, 0.6 / 255),
    "cifar_2_mask_50": _small_recipe("CIFAR-10", _MASKED_CIFAR, f"{_MASKS}, with {_ATTACKED} 2/255", 2 / 255, 0.6 / 255),
}
