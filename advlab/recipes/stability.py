"""Chapter 3's networks: the rows of its tables, trained and pruned."""

from __future__ import annotations

import functools
from dataclasses import replace

import torch
from torch import Tensor, nn

from .. import data, models
from ..attacks import pgd
from ..stability.losses import ibp_loss, pgd_pairs, stability_loss
from ..stability.pruning import prune_relus, prune_small_weights
from ..training import flip_and_shift
from .common import Recipe, cifar10_without_validation, mnist_without_validation, one_cycle


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


def _fast_mnist(eps: float, epochs: int, seed: int) -> Recipe:
    """The + RS row at a budget in minutes: a higher rate, a heavier RS loss, and a start that was trained against PGD."""
    start = "mnist_adversarial" + (f"_{seed}" if seed else "")
    base = stability_recipe("MNIST", eps, 2 * eps / 3, epochs, f"linf {eps:g}, + L1 + RS loss + small weights; seed {seed}")
    return replace(
        base,
        batch_size=256,
        optimizer=lambda weights: torch.optim.Adam(weights, lr=3e-3, fused=True),
        schedule=one_cycle,
        seed=seed,
        start=start,
        finish=_small_weights,
        says=base.says
        | {
            "data": "MNIST: training images from 5,000 on, attacked by PGD-3; tested on 10,000",
            "optimizer": "Adam, one cycle to 0.003, cross entropy of the attacked images, L1 weight 1e-05, RS weight 0.002 "
            "(mean over positions, naive bounds, half of each batch), both rising over the first tenth; weights below 0.001 "
            "removed",
        },
        options={
            "transform": functools.partial(pgd_pairs, eps=eps, step_size=2 * eps / 3, steps=3, rise=0.0),
            "loss": functools.partial(stability_loss, eps=eps, l1=1e-5, rs=2e-3, images=128, rise=(0.0, 0.1)),
        },
    )


def _fast_without_rs(seed: int, l1: float) -> Recipe:
    """A row of the ablation at linf 0.1, trained as the + RS row is but without that loss, and not pruned."""
    fast, what = _fast_mnist(0.1, 8, seed), "+ L1" if l1 else "adversarial training only"
    rising = f"L1 weight {l1:g}, rising over the first tenth" if l1 else "nothing added"
    return replace(
        fast,
        finish=None,
        says=fast.says
        | {
            "paper": f"Xiao et al. (2019), linf 0.1, {what}; seed {seed}",
            "optimizer": f"Adam, one cycle to 0.003, cross entropy of the attacked images, {rising}",
        },
        options=fast.options | {"loss": functools.partial(stability_loss, eps=0.1, l1=l1, rise=(0.0, 0.1))},
    )


def _fast_narrow(seed: int) -> Recipe:
    """Our control: as narrow as + RS ends up, trained with L1 as its rows are, from its own random start."""
    base = _fast_without_rs(seed, 1e-5)
    about = {"paper": f"Xiao et al. (2019), linf 0.1, + L1; our control: as narrow as + RS ends up; seed {seed}"}
    return replace(base, build=models.narrow_stability_cnn, start=None, says=base.says | about)


def _fast_ablation(seed: int) -> dict[str, Recipe]:
    """The rows of the ablation at linf 0.1 by name, each trained or pruned in minutes."""
    l1, said = f"mnist_01_fast_l1_{seed}", "linf 0.1, + L1"
    pruned = _pruned_recipe("MNIST", l1, 0.1, 0.03, f"{said} + small weights and ReLUs pruned; seed {seed}")
    narrow = _pruned_recipe("MNIST", f"mnist_01_fast_slim_{seed}", 0.1, 0.03, f"{said}, our narrow control pruned; seed {seed}")
    rs = _pruned_recipe("MNIST", f"mnist_01_fast_{seed}", 0.1, 0.03, f"{said} + RS loss, both prunings; seed {seed}")
    return {
        f"mnist_01_fast_adversarial_{seed}": _fast_without_rs(seed, 0.0),
        l1: _fast_without_rs(seed, 1e-5),
        f"mnist_01_fast_small_{seed}": _small_weights_recipe(l1, 0.1, 0.03, f"{said} + small weights pruned; seed {seed}"),
        f"mnist_01_fast_control_{seed}": pruned,
        f"mnist_01_fast_rs_{seed}": rs,
        f"mnist_01_fast_slim_{seed}": _fast_narrow(seed),
        f"mnist_01_fast_narrow_{seed}": replace(narrow, build=models.pruned_narrow_stability_cnn),
    }


def _ibp(eps: float, trained_for: float, epochs: int, seed: int) -> Recipe:
    """Interval bound propagation on the same network, without an attack and without a start."""
    return replace(
        stability_recipe("MNIST", eps, 0.0, epochs, ""),
        batch_size=128,
        optimizer=lambda weights: torch.optim.Adam(weights, lr=2e-3, fused=True),
        schedule=one_cycle,
        seed=seed,
        says={
            "paper": f"Gowal et al. (2018), interval bound propagation, on the network of Xiao et al. (2019); linf {eps:g}, "
            f"seed {seed}",
            "data": "MNIST: training images from 5,000 on; tested on 10,000",
            "optimizer": f"Adam, one cycle to 0.002; the budget rises to {trained_for:g} and the weight of the worst logits to "
            "0.5 over the first half",
        },
        options={"loss": functools.partial(ibp_loss, eps=trained_for)},
    )


def _flipped_pairs(model: nn.Module, x: Tensor, y: Tensor, done: float, **settings: float) -> Tensor:
    return pgd_pairs(model, flip_and_shift(model, x, y, done, 0), y, done, steps=1, **settings)


# 8 parameters: a row of recipes.
def _fast_cifar(
    eps: float, epochs: int, seed: int, *, l1: float, rs: float, rise: tuple[float, float], budget_rise: float = 0.0
) -> Recipe:
    """The + RS row at a budget in minutes, from scratch."""
    name = f"linf {255 * eps:g}/255, + L1 + RS loss + small weights; seed {seed}"
    base = stability_recipe("CIFAR-10", eps, 1.25 * eps, epochs, name)
    return replace(
        base,
        batch_size=256,
        optimizer=lambda weights: torch.optim.Adam(weights, lr=2e-3, fused=True),
        schedule=one_cycle,
        seed=seed,
        finish=_small_weights,
        says=base.says
        | {
            "data": "CIFAR-10: training images from 5,000 on, mirrored, attacked by FGSM with a random start; tested on 10,000",
            "optimizer": f"Adam, one cycle to 0.002, cross entropy of the attacked images, L1 weight {l1:g}, RS weight {rs:g} "
            f"(mean over positions, naive bounds, half of each batch), both rising from {rise[0]:g} to {rise[1]:g} of the "
            "training; weights below 0.001 removed",
        },
        options={
            "transform": functools.partial(_flipped_pairs, eps=eps, step_size=1.25 * eps, first=eps / 4, rise=budget_rise),
            "loss": functools.partial(stability_loss, eps=eps, l1=l1, rs=rs, images=128, rise=rise, budget_rise=budget_rise),
        },
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
    "cifar_2_rs": stability_recipe(
        "CIFAR-10", 2 / 255, 0.6 / 255, 20, "linf 2/255, + L1 + RS loss; 20 epochs, not 250", l1=1e-5, rs=1e-3
    ),
    "cifar_2_rs_pruned": _pruned_recipe("CIFAR-10", "cifar_2_rs", 2 / 255, 0.6 / 255, "linf 2/255, + L1 + RS loss, pruned"),
    # the rows with several trainings: one of each ships
    **{
        f"mnist_0{round(10 * eps)}_fast_{seed}": _fast_mnist(eps, epochs, seed)
        for eps, epochs in ((0.1, 8), (0.2, 12), (0.3, 12))
        for seed in range(10)
    },
    **{name: recipe for seed in range(5) for name, recipe in _fast_ablation(seed).items()},
    **{
        f"mnist_0{round(10 * eps)}_ibp_{seed}": _ibp(eps, most, epochs, seed)
        for eps, most, epochs in ((0.1, 0.12, 10), (0.2, 0.22, 12), (0.3, 0.33, 20))
        for seed in range(10)
    },
    **{f"cifar_2_fast_{seed}": _fast_cifar(2 / 255, 25, seed, l1=5e-6, rs=1e-3, rise=(0.2, 0.5)) for seed in range(5)},
    **{
        f"cifar_8_fast_{seed}": _fast_cifar(8 / 255, 20, seed, l1=1e-5, rs=5e-3, rise=(0.1, 0.4), budget_rise=0.4)
        for seed in range(5)
    },
    # for a GPU: about half the paper's epochs
    "cifar_2_long": _fast_cifar(2 / 255, 120, 0, l1=5e-6, rs=1e-3, rise=(0.2, 0.5)),
    "cifar_8_long": _fast_cifar(8 / 255, 120, 0, l1=1e-5, rs=5e-3, rise=(0.1, 0.4), budget_rise=0.4),
}
