"""Chapter 3's networks: the rows of its tables, trained and pruned."""

from __future__ import annotations

import functools
from dataclasses import replace

import torch
from torch import Tensor, nn

from .. import data, models
from ..attacks import pgd
from ..stability.losses import pgd_pairs, stability_loss
from ..stability.pruning import prune_relus, prune_small_weights
from .common import Recipe, cifar10_without_validation, mnist_without_validation


def stability_recipe(
    dataset: str, eps: float, step_size: float, epochs: int, says: str, *, l1: float = 0.0, rs: float = 0.0
) -> Recipe:
    """A row of Xiao et al. (2019): adversarial training, with or without L1 and the RS loss."""
    mnist = dataset == "MNIST"
    return Recipe(
        build=models.stability_cnn if mnist else functools.partial(models.stability_cnn, 3, 32),
        train=mnist_without_validation if mnist else cifar10_without_validation,
        test=data.mnist if mnist else functools.partial(data.cifar10, "test", full=True),
        epochs=epochs,
        batch_size=64 if mnist else 128,
        optimizer=lambda weights: torch.optim.Adam(weights, lr=1e-4, fused=True),
        says={
            "paper": f"Xiao et al. (2019), {says}",
            "data": f"{dataset}: training images from 5,000 on, attacked by PGD-8; tested on 10,000",
            "optimizer": f"Adam, learning rate 0.0001, cross entropy of the attacked images, L1 weight {l1:g}, "
            f"RS weight {rs:g} (mean over positions, naive bounds)",
        },
        options={
            "transform": functools.partial(pgd_pairs, eps=eps, step_size=step_size),
            "loss": functools.partial(stability_loss, eps=eps, l1=l1, rs=rs),
        },
    )


def _small_weights(model: nn.Module, x: Tensor, y: Tensor) -> nn.Module:
    return prune_small_weights(model)


def _prune(model: nn.Module, x: Tensor, y: Tensor, *, eps: float, step_size: float) -> nn.Module:
    """Both prunings of Xiao et al. (2019): small weights, then ReLUs counted on the attacked training images."""
    small = prune_small_weights(model)
    generator = torch.Generator().manual_seed(0)
    attack = functools.partial(pgd, small, eps=eps, steps=8, step_size=step_size, active_set=False, generator=generator)
    return prune_relus(small, torch.cat([attack(a, b) for a, b in zip(x.split(500), y.split(500), strict=True)]))


def _pruned_recipe(dataset: str, start: str, eps: float, step_size: float, says: str) -> Recipe:
    """Both prunings of a network that is trained already."""
    base = stability_recipe(dataset, eps, step_size, 0, says)
    mnist = dataset == "MNIST"
    return replace(
        base,
        build=models.pruned_stability_cnn if mnist else functools.partial(models.pruned_stability_cnn, 3, 32),
        says=base.says
        | {"optimizer": "no training: weights below 0.001 removed, then ReLUs that switch on less than 10 % of the images"},
        start=start,
        finish=functools.partial(_prune, eps=eps, step_size=step_size),
    )


def _small_weights_recipe(start: str, eps: float, step_size: float, says: str) -> Recipe:
    base = stability_recipe("MNIST", eps, step_size, 0, says)
    return replace(
        base, says=base.says | {"optimizer": "no training: weights below 0.001 removed"}, start=start, finish=_small_weights
    )


RECIPES: dict[str, Recipe] = {
    "mnist_01_adversarial": stability_recipe("MNIST", 0.1, 0.03, 77, "linf 0.1, adversarial training only"),
    "mnist_01_l1": stability_recipe("MNIST", 0.1, 0.03, 77, "linf 0.1, + L1", l1=2e-5),
    "mnist_01_rs": stability_recipe("MNIST", 0.1, 0.03, 77, "linf 0.1, + L1 + RS loss", l1=2e-5, rs=8e-4),
    "mnist_01_narrow": replace(
        stability_recipe("MNIST", 0.1, 0.03, 77, "linf 0.1, adversarial training only; our control: as narrow as + RS ends up"),
        build=models.narrow_stability_cnn,
    ),
    "mnist_01_narrow_pruned": replace(
        _pruned_recipe("MNIST", "mnist_01_narrow", 0.1, 0.03, "linf 0.1, our control with both prunings"),
        build=models.pruned_narrow_stability_cnn,
    ),
    "mnist_01_l1_small": _small_weights_recipe("mnist_01_l1", 0.1, 0.03, "linf 0.1, + L1 + small weights pruned"),
    "mnist_01_l1_pruned": _pruned_recipe("MNIST", "mnist_01_l1", 0.1, 0.03, "linf 0.1, + L1 + small weights and ReLUs pruned"),
    "mnist_01_rs_pruned": _pruned_recipe(
        "MNIST", "mnist_01_rs", 0.1, 0.03, "linf 0.1, + L1 + RS loss, small weights and ReLUs pruned"
    ),
    "mnist_02_rs": stability_recipe("MNIST", 0.2, 0.03, 10, "linf 0.2, + L1 + RS loss; 10 epochs, not 70", l1=2e-5, rs=8e-4),
    "mnist_02_rs_pruned": _pruned_recipe("MNIST", "mnist_02_rs", 0.2, 0.03, "linf 0.2, + L1 + RS loss, pruned"),
    "mnist_03_rs": stability_recipe("MNIST", 0.3, 0.03, 20, "linf 0.3, + L1 + RS loss; 20 epochs, not 70", l1=2e-5, rs=8e-4),
    "mnist_03_rs_pruned": _pruned_recipe("MNIST", "mnist_03_rs", 0.3, 0.03, "linf 0.3, + L1 + RS loss, pruned"),
    "cifar_2_rs": stability_recipe(
        "CIFAR-10", 2 / 255, 0.6 / 255, 20, "linf 2/255, + L1 + RS loss; 20 epochs, not 250", l1=1e-5, rs=1e-3
    ),
    "cifar_2_rs_pruned": _pruned_recipe("CIFAR-10", "cifar_2_rs", 2 / 255, 0.6 / 255, "linf 2/255, + L1 + RS loss, pruned"),
    "cifar_8_rs": stability_recipe(
        "CIFAR-10", 8 / 255, 2 / 255, 10, "linf 8/255, + L1 + RS loss; 10 epochs, not 250", l1=1e-5, rs=2e-3
    ),
    "cifar_8_rs_pruned": _pruned_recipe("CIFAR-10", "cifar_8_rs", 8 / 255, 2 / 255, "linf 8/255, + L1 + RS loss, pruned"),
}
