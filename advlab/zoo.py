"""Named networks: the recipe that trains each, and the checkpoint that ships with its model card.

A checkpoint is ``checkpoints/NAME.safetensors`` in the package and its card ``NAME.json``, which holds the SHA-256 of
the weights, the recipe, the data, the measured accuracy and seconds, and the commit that trained it.
"""

from __future__ import annotations

import datetime
import functools
import hashlib
import json
import os
import subprocess
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from importlib import resources
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors
from torch import Tensor, nn
from torch.optim import Optimizer

from . import data, models
from .attacks import pgd
from .evaluate import clopper_pearson, predict
from .masking import (
    coordinate_resnet,
    dropout_resnet,
    masked_resnet,
    masked_stability_cnn,
    narrow_resnet,
    single_step,
    trades_loss,
    trades_pairs,
)
from .spheres import concentric_spheres
from .stability.levers import pgd_pairs, prune_relus, prune_small_weights, stability_loss
from .training import binary_cross_entropy, cross_entropy, fit, fit_online, flip_and_shift, in_bfloat16, smoothed_cross_entropy

Split = Callable[[], tuple[Tensor, Tensor]]


class CheckpointError(RuntimeError):
    """A checkpoint is missing or is not the one its card describes. The message says what to do.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as empty:
    ...     try:
    ...         load("mnist_cnn7", empty)
    ...     except CheckpointError as e:
    ...         print("python -m advlab train" in str(e))
    True
    """


@dataclass(frozen=True)
class Stream:
    """Training data without end: ``draw(n)`` gives n fresh examples, with torch's global generator; ``samples`` in all.

    >>> stream = Stream(functools.partial(concentric_spheres, d=500), samples=1_000_000)
    >>> x, y = stream.draw(3)
    >>> x.shape, y.shape
    (torch.Size([3, 500]), torch.Size([3]))
    """

    draw: Callable[[int], tuple[Tensor, Tensor]]
    samples: int


@dataclass(frozen=True)
class Recipe:
    """All that makes a checkpoint: the network, its data, and how it is trained. ``says`` is for the model card.

    ``build`` is a plain function or a functools.partial of one. With ``half`` the weights are stored in half precision,
    and the accuracy on the card is that of the stored weights. ``prepare`` may set weights from the training inputs.
    With ``start`` the training begins with the weights of that network of the zoo, and ``finish`` makes the network that is
    stored of the trained one; with both and no epochs, a recipe is only what is done to a trained network.

    >>> recipe("mnist_cnn7").epochs, recipe("mnist_cnn7").says["paper"]
    (50, 'Xu, Evans and Qi (2018), Table 1; network and training of Carlini and Wagner (2017)')
    """

    build: Callable[[], nn.Module]
    train: Split | Stream
    test: Split
    epochs: int
    batch_size: int
    optimizer: Callable[[Iterable[nn.Parameter]], Optimizer]
    says: dict[str, str]
    schedule: Callable[[int, int], float] | None = None
    seed: int = 0
    options: dict[str, Any] = field(default_factory=dict)  #: further arguments of training.fit or fit_online
    half: bool = False
    prepare: Callable[[nn.Module, Tensor], None] | None = None  #: called with the network and the training inputs first
    start: str | None = None
    finish: Callable[[nn.Module, Tensor, Tensor], nn.Module] | None = None  #: network, training inputs, labels -> network


def _mnist_without_validation() -> tuple[Tensor, Tensor]:
    x, y = data.mnist("train")
    return x[5000:], y[5000:]


def _cifar10_without_validation() -> tuple[Tensor, Tensor]:
    x, y = data.cifar10("train", full=True)
    return x[5000:], y[5000:]


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


def _rise_and_fall(step: int, steps: int) -> float:
    """A straight line from 0 to 1 over the first fifth of the steps, and one back to 0."""
    return min(step / (0.2 * steps), (1 - step / steps) / 0.8)


def _pgd_examples(model: nn.Module, x: Tensor, y: Tensor, done: float) -> Tensor:
    """Adversarial training (Madry et al. 2018): the batch after PGD of 5 steps; the budget rises to 0.3 over a third of it."""
    return pgd(model, x, y, eps=0.3 * min(1.0, 0.1 + 3 * done), steps=5, active_set=False)


def _stability_recipe(
    dataset: str, eps: float, step_size: float, epochs: int, says: str, *, l1: float = 0.0, rs: float = 0.0
) -> Recipe:
    """A row of Xiao et al. (2019): adversarial training, with or without L1 and the RS loss."""
    mnist = dataset == "MNIST"
    return Recipe(
        build=models.stability_cnn if mnist else functools.partial(models.stability_cnn, 3, 32),
        train=_mnist_without_validation if mnist else _cifar10_without_validation,
        test=data.mnist if mnist else functools.partial(data.cifar10, "test", full=True),
        epochs=epochs,
        batch_size=64 if mnist else 128,
        optimizer=lambda weights: torch.optim.Adam(weights, lr=1e-4, fused=True),
        says={
            "paper": f"Xiao et al. (2019), {says}",
            "data": f"{dataset}: training images from 5,000 on, attacked by PGD-8; tested on 10,000",
            "optimizer": f"Adam, learning rate 0.0001, cross entropy of the attacked images, L1 weight {l1:g}, "
            f"RS weight {rs:g} (mean over positions, naive bounds)",
            "licence": "MIT",
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
    base = _stability_recipe(dataset, eps, step_size, 0, says)
    mnist = dataset == "MNIST"
    return replace(
        base,
        build=models.pruned_stability_cnn if mnist else functools.partial(models.pruned_stability_cnn, 3, 32),
        says=base.says
        | {"optimizer": "no training: weights below 0.001 removed, then ReLUs that switch on less than 10 % of the images"},
        start=start,
        finish=functools.partial(_prune, eps=eps, step_size=step_size),
    )


_FLIP_AND_SHIFT = functools.partial(flip_and_shift, pixels=4)


def _mask_recipe(
    build: Callable[[], nn.Module],
    says: str,
    seed: int = 0,
    *,
    epochs: int = 10,
    width: int | None = 16,
    transform: Callable = _FLIP_AND_SHIFT,
    loss: Callable = cross_entropy,
    loss_says: str = "cross entropy",
) -> Recipe:
    """A network of chapter 4 at a laptop's size. Luo et al. choose the best epoch on the test set; here the last is kept."""
    size = "" if width in (None, 64) else f"width {width}, not 64; "
    return Recipe(
        build=build,
        train=_cifar10_without_validation,
        test=functools.partial(data.cifar10, "test", full=True),
        epochs=epochs,
        batch_size=128,
        optimizer=lambda weights: torch.optim.SGD(weights, lr=0.1, momentum=0.9, nesterov=True, weight_decay=5e-4),
        schedule=_rise_and_fall,
        seed=seed,
        says={
            "paper": f"Luo et al. (2018), {says}; {size}{epochs} epochs, not 350",
            "data": "CIFAR-10: training images from 5,000 on, mirrored and shifted by up to 4 pixels; tested on all 10,000",
            "optimizer": f"SGD, learning rate 0 to 0.1 to 0, momentum 0.9 (Nesterov), weight decay 0.0005, {loss_says}; matrix "
            "products in bfloat16; the last epoch is kept; stored in half precision",
            "licence": "MIT",
        },
        options={"transform": functools.partial(in_bfloat16, transform), "loss": functools.partial(in_bfloat16, loss)},
        half=True,
    )


#: The budget of adversarial training in chapter 4.
_EIGHT = 8 / 255
_ADVERSARIAL: dict[str, Any] = {
    "transform": functools.partial(single_step, eps=_EIGHT),
    "loss_says": "cross entropy of images attacked in one step within linf 8/255",
}

#: The arms of chapter 4's experiment on symmetry, ResNet-8: what each is, and the function that builds it.
ARMS: dict[str, tuple[str, Callable[[], nn.Module]]] = {
    "plain": ("no masks", functools.partial(models.resnet, 8, 16)),
    **{
        f"tile{q}": (f"masks of period {q}", functools.partial(masked_resnet, 8, 16, 0.5, kind="periodic", period=q))
        for q in (1, 2, 4, 8)
    },
    "element": ("masks without a period", functools.partial(masked_resnet, 8, 16, 0.5)),
    "shared": ("one mask for all channels", functools.partial(masked_resnet, 8, 16, 0.5, kind="shared")),
    "coordinates": ("no masks, positions as input", functools.partial(coordinate_resnet, 8, 16)),
    "narrow": ("half of the channels, no masks", functools.partial(narrow_resnet, 8, 16, 0.5)),
}


def _arms() -> dict[str, Recipe]:
    made = {
        f"cifar_arm_{arm}_{seed}": _mask_recipe(build, f"our experiment on symmetry, ResNet-8: {what}", seed, epochs=4)
        for arm, (what, build) in ARMS.items()
        for seed in range(3)
    }
    for arm in ("plain", "element"):
        what, build = ARMS[arm]
        says = f"our control, ResNet-8: adversarial training, Wong et al. (2020), {what}"
        for seed in range(3):
            made[f"cifar_arm_{arm}_adversarial_{seed}"] = _mask_recipe(build, says, seed, epochs=4, **_ADVERSARIAL)
    return made


def _masked(drop: float, stages: str = "shallow", **options: Any) -> Callable[[], nn.Module]:
    return functools.partial(masked_resnet, 18, 16, drop, stages, **options)


def _full_scale() -> dict[str, Recipe]:
    """Chapter 4's networks at the paper's width, for a GPU."""
    made = {
        "resnet18": (functools.partial(models.resnet, 18, 64), "no masks"),
        "resnet50": (functools.partial(models.resnet, 50, 64), "ResNet-50, no masks"),
        "densenet": (functools.partial(models.densenet, 100, 12), "DenseNet (L = 100, k = 12; the paper: 121), no masks"),
        "vgg": (functools.partial(models.cifar_cnn, (128, 256, 512)), "six convolutions in a row (the paper: VGG-19)"),
        "target": (functools.partial(models.resnet, 18, 64), "no masks; another seed, the target"),
        **{f"mask_{p}": (functools.partial(masked_resnet, 18, 64, p / 100), f"0.{p // 10}-Shallow") for p in (50, 70, 90)},
    }
    recipes = {
        f"full_{name}": _mask_recipe(build, says, int(name == "target"), epochs=100, width=64)
        for name, (build, says) in made.items()
    }
    recipes["full_vgg"] = replace(recipes["full_vgg"], prepare=models.whiten_first_layer)
    return recipes


def _small_recipe(dataset: str, build: Callable[[], nn.Module], says: str, eps: float = 0.0, step_size: float = 0.0) -> Recipe:
    """Chapter 5: the network of Xiao et al. (2019) in a short training, adversarial where ``eps`` is above 0."""
    base = _stability_recipe(dataset, eps, step_size, 5 if dataset == "MNIST" else 10, says)
    moved = "" if dataset == "MNIST" or eps else ", mirrored and shifted by up to 2 pixels"
    plain = {
        "says": base.says | {"data": f"{dataset}: training images from 5,000 on{moved}; tested on 10,000"},
        "options": {"transform": flip_and_shift} if moved else {},
    }
    made = replace(
        base,
        build=build,
        optimizer=lambda weights: torch.optim.Adam(weights, lr=2e-3, fused=True),
        schedule=_rise_and_fall,
        **({} if eps else plain),
    )
    attacked = " of the attacked images" if eps else ""
    told = {"paper": f"chapter 5, {says}", "optimizer": f"Adam, learning rate 0 to 0.002 to 0, cross entropy{attacked}"}
    return replace(made, says=made.says | told)


_MASKED_SMALL: dict[str, Callable[[], nn.Module]] = {
    "MNIST": masked_stability_cnn,
    "CIFAR-10": functools.partial(masked_stability_cnn, 0.5, 3, 32),
}


def _small_weights_recipe(start: str, eps: float, step_size: float, says: str) -> Recipe:
    base = _stability_recipe("MNIST", eps, step_size, 0, says)
    return replace(
        base, says=base.says | {"optimizer": "no training: weights below 0.001 removed"}, start=start, finish=_small_weights
    )


RECIPES: dict[str, Recipe] = {
    "mnist_cnn7": Recipe(
        build=models.mnist_cnn7,
        train=_mnist_without_validation,
        test=data.mnist,
        epochs=50,
        batch_size=128,
        optimizer=lambda weights: torch.optim.SGD(weights, lr=0.01, momentum=0.9, nesterov=True),
        schedule=lambda step, steps: 1 / (1 + 1e-6 * step),
        says={
            "paper": "Xu, Evans and Qi (2018), Table 1; network and training of Carlini and Wagner (2017)",
            "data": "MNIST: training images 5,000 to 59,999; tested on all 10,000 test images",
            "optimizer": "SGD, learning rate 0.01 / (1 + 1e-6 step), momentum 0.9 (Nesterov), dropout 0.5, cross entropy",
            "licence": "MIT",
        },
    ),
    "mnist_adversarial": Recipe(
        build=models.stability_cnn,
        train=_mnist_without_validation,
        test=data.mnist,
        epochs=3,
        batch_size=250,
        optimizer=lambda weights: torch.optim.Adam(weights, lr=3e-3, fused=True),
        schedule=_rise_and_fall,
        says={
            "paper": "adversarial training as in Xu, Evans and Qi (2018), Figure 4, after Madry et al. (2018); smaller network",
            "data": "MNIST: training images 5,000 to 59,999, attacked by PGD-5 within linf 0.3; tested on 10,000 clean images",
            "optimizer": "Adam, learning rate 0 to 0.003 to 0, cross entropy of the attacked images",
            "licence": "MIT",
        },
        options={"transform": _pgd_examples},
    ),
    "cifar_cnn": Recipe(
        build=models.cifar_cnn,
        train=functools.partial(data.cifar10, "train", full=True),
        test=functools.partial(data.cifar10, "test", full=True),
        epochs=14,
        batch_size=250,
        optimizer=lambda weights: torch.optim.SGD(weights, lr=0.4, momentum=0.9, nesterov=True, weight_decay=5e-4),
        schedule=_rise_and_fall,
        says={
            "paper": "in the place of the DenseNet of Xu, Evans and Qi (2018), Table 1; the network follows Jordan (2024)",
            "data": "CIFAR-10: all 50,000 training images, mirrored and shifted by up to 2 pixels; tested on all 10,000",
            "optimizer": "SGD, learning rate 0 to 0.4 to 0, momentum 0.9 (Nesterov), weight decay 0.0005, "
            "cross entropy with labels smoothed by 0.1; stored in half precision",
            "licence": "MIT",
        },
        options={"loss": smoothed_cross_entropy, "transform": flip_and_shift},
        half=True,
        prepare=models.whiten_first_layer,
    ),
    "mnist_01_adversarial": _stability_recipe("MNIST", 0.1, 0.03, 77, "linf 0.1, adversarial training only"),
    "mnist_01_l1": _stability_recipe("MNIST", 0.1, 0.03, 77, "linf 0.1, + L1", l1=2e-5),
    "mnist_01_rs": _stability_recipe("MNIST", 0.1, 0.03, 77, "linf 0.1, + L1 + RS loss", l1=2e-5, rs=8e-4),
    "mnist_01_narrow": replace(
        _stability_recipe(
            "MNIST", 0.1, 0.03, 77, "linf 0.1, adversarial training only; our control: as narrow as + RS ends up"
        ),
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
    "mnist_02_rs": _stability_recipe("MNIST", 0.2, 0.03, 10, "linf 0.2, + L1 + RS loss; 10 epochs, not 70", l1=2e-5, rs=8e-4),
    "mnist_02_rs_pruned": _pruned_recipe("MNIST", "mnist_02_rs", 0.2, 0.03, "linf 0.2, + L1 + RS loss, pruned"),
    "mnist_03_rs": _stability_recipe("MNIST", 0.3, 0.03, 20, "linf 0.3, + L1 + RS loss; 20 epochs, not 70", l1=2e-5, rs=8e-4),
    "mnist_03_rs_pruned": _pruned_recipe("MNIST", "mnist_03_rs", 0.3, 0.03, "linf 0.3, + L1 + RS loss, pruned"),
    "cifar_2_rs": _stability_recipe(
        "CIFAR-10", 2 / 255, 0.6 / 255, 20, "linf 2/255, + L1 + RS loss; 20 epochs, not 250", l1=1e-5, rs=1e-3
    ),
    "cifar_2_rs_pruned": _pruned_recipe("CIFAR-10", "cifar_2_rs", 2 / 255, 0.6 / 255, "linf 2/255, + L1 + RS loss, pruned"),
    "cifar_8_rs": _stability_recipe(
        "CIFAR-10", 8 / 255, 2 / 255, 10, "linf 8/255, + L1 + RS loss; 10 epochs, not 250", l1=1e-5, rs=2e-3
    ),
    "cifar_8_rs_pruned": _pruned_recipe("CIFAR-10", "cifar_8_rs", 8 / 255, 2 / 255, "linf 8/255, + L1 + RS loss, pruned"),
    "mnist_small": _small_recipe("MNIST", models.stability_cnn, "no defence"),
    "mnist_small_mask_50": _small_recipe("MNIST", _MASKED_SMALL["MNIST"], "masks of drop 0.5"),
    "mnist_01_mask_50": _small_recipe(
        "MNIST", _MASKED_SMALL["MNIST"], "masks of drop 0.5, with adversarial training, linf 0.1", 0.1, 0.03
    ),
    "cifar_small": _small_recipe("CIFAR-10", functools.partial(models.stability_cnn, 3, 32), "no defence"),
    "cifar_small_mask_50": _small_recipe("CIFAR-10", _MASKED_SMALL["CIFAR-10"], "masks of drop 0.5"),
    "cifar_2_adversarial": _small_recipe(
        "CIFAR-10",
        functools.partial(models.stability_cnn, 3, 32),
        "adversarial training, linf 2/255",
        2 / 255,
        0.6 / 255,
    ),
    "cifar_2_mask_50": _small_recipe(
        "CIFAR-10",
        _MASKED_SMALL["CIFAR-10"],
        "masks of drop 0.5, with adversarial training, linf 2/255",
        2 / 255,
        0.6 / 255,
    ),
    "cifar_resnet18": _mask_recipe(functools.partial(models.resnet, 18, 16), "no masks"),
    "cifar_resnet18_b": _mask_recipe(functools.partial(models.resnet, 18, 16), "no masks; another seed", 1),
    "cifar_densenet": _mask_recipe(
        functools.partial(models.densenet, 22, 12),
        "DenseNet with L = 22 and k = 12, not 121; no masks",
        epochs=4,
        width=None,
    ),
    "cifar_mask_50": _mask_recipe(_masked(0.5), "0.5-Shallow"),
    "cifar_mask_50_b": _mask_recipe(_masked(0.5), "0.5-Shallow; other masks and another seed", 1),
    "cifar_mask_70": _mask_recipe(_masked(0.7), "0.7-Shallow"),
    "cifar_mask_90": _mask_recipe(_masked(0.9), "0.9-Shallow"),
    "cifar_mask_50_deep": _mask_recipe(_masked(0.5, "deep"), "0.5-Deep"),
    "cifar_mask_50_shared": _mask_recipe(_masked(0.5, kind="shared"), "0.5-Shallow, the same mask for all channels"),
    "cifar_mask_50_channel": _mask_recipe(_masked(0.5, kind="channel"), "0.5-Shallow, whole channels; our control"),
    "cifar_mask_50_narrow": _mask_recipe(functools.partial(narrow_resnet, 18, 16, 0.5), "0.5-Shallow DC: narrow, no masks"),
    "cifar_adversarial": _mask_recipe(
        functools.partial(models.resnet, 18, 16), "beside it: adversarial training, Wong et al. (2020)", **_ADVERSARIAL
    ),
    "cifar_mask_50_adversarial": _mask_recipe(_masked(0.5), "0.5-Shallow, with adversarial training; ours", **_ADVERSARIAL),
    "cifar_trades": _mask_recipe(
        functools.partial(models.resnet, 18, 16),
        "beside it: TRADES, Zhang et al. (2019)",
        epochs=6,
        transform=functools.partial(trades_pairs, eps=_EIGHT),
        loss=trades_loss,
        loss_says="cross entropy plus 6 KL(clean, attacked in one step within linf 8/255)",
    ),
    "cifar_dropout": _mask_recipe(functools.partial(dropout_resnet, 18, 16, 0.5), "beside it: dropout of 0.5"),
    "cifar_dropout_channels": _mask_recipe(
        functools.partial(dropout_resnet, 18, 16, 0.3, kind="channel"), "beside it: dropout of whole channels, 0.3"
    ),
    "cifar_dropblock": _mask_recipe(
        functools.partial(dropout_resnet, 18, 16, 0.3, kind="block"), "beside it: DropBlock of 0.3"
    ),
    **_arms(),
    **_full_scale(),
    "sphere_relu": _sphere_recipe(
        models.sphere_relu,
        Stream(_FRESH, 30_000_000),
        "30 million fresh points of two spheres, d = 500; the rate falls to 0 over the last 5 million",
        epochs=30,
        batch_size=1000,
        schedule=_fall_at_the_end,
    ),
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


def names() -> list[str]:
    """The networks that have a recipe, in alphabetical order.

    >>> "mnist_cnn7" in names()
    True
    """
    return sorted(RECIPES)


def recipe(name: str) -> Recipe:
    """The recipe of ``name``. Raises ValueError for a name that is not in the zoo.

    >>> made = recipe("mnist_cnn7")
    >>> type(made.build()).__name__, made.epochs, made.batch_size
    ('Sequential', 50, 128)
    """
    if name not in RECIPES:
        raise ValueError(f"there is no network {name!r} in the zoo; there are: {', '.join(names())}")
    return RECIPES[name]


def shipped() -> Path:
    """The folder of the checkpoints that ship with the package.

    >>> (shipped() / "mnist_cnn7.safetensors").exists()
    True
    """
    return Path(str(resources.files("advlab") / "checkpoints"))


def card(name: str, directory: str | Path | None = None) -> dict[str, Any]:
    """The model card of ``name``: SHA-256, recipe, data, accuracy with its interval, seconds, commit.

    Raises ValueError for an unknown name and CheckpointError where there is no card.

    >>> made = card("mnist_cnn7")
    >>> made["parameters"], made["training_examples"], made["test_examples"]
    (312202, 55000, 10000)
    """
    recipe(name)
    path = (Path(directory) if directory is not None else shipped()) / f"{name}.json"
    if not path.exists():
        raise CheckpointError(f"there is no checkpoint of {name} in {path.parent}: make it with  python -m advlab train {name}")
    return json.loads(path.read_text())


def load(name: str, directory: str | Path | None = None) -> nn.Module:
    """The trained network ``name`` in eval mode, from the package, or from the ``directory`` of a training of yours.

    Guarantee: the weights are those of the model card (SHA-256); nothing is unpickled.
    Raises ValueError for an unknown name, CheckpointError for a missing or altered file.

    >>> net, (x, y) = load("mnist_cnn7"), data.mnist("test", 100)
    >>> net.training, int((net(x).argmax(1) == y).sum())
    (False, 100)
    """
    expected = card(name, directory)["sha256"]
    path = (Path(directory) if directory is not None else shipped()) / f"{name}.safetensors"
    try:
        raw = path.read_bytes()
    except OSError as e:
        raise CheckpointError(f"{path} cannot be read ({e.strerror}): install advlab again, or train it") from e
    if hashlib.sha256(raw).hexdigest() != expected:
        raise CheckpointError(f"{path} is not the checkpoint of its card (SHA-256 differs): install advlab again, or train it")
    model = recipe(name).build()
    model.load_state_dict(load_tensors(raw))
    return model.eval()


def train(
    name: str,
    to: str | Path = "runs",
    *,
    epochs: int | None = None,
    n: int | None = None,
    progress: bool = True,
    device: str = "cpu",
) -> Path:
    """Train ``name`` by its recipe into ``to``; return the checkpoint. A run that broke off is resumed by the same call.

    ``epochs`` and ``n`` (training examples) shorten the recipe for a trial, and the card then says so. ``device`` is where
    a fixed training set, the network and its test are held, such as "cuda".
    Raises ValueError for an unknown name, and for epochs or n below 1.

    >>> train("mnist_cnn7", epochs=0)
    Traceback (most recent call last):
        ...
    ValueError: epochs is 0 and n None; a trial needs at least 1 of each
    """
    r = recipe(name)
    if min(epochs if epochs is not None else 1, n if n is not None else 1) < 1:
        raise ValueError(f"epochs is {epochs} and n {n}; a trial needs at least 1 of each")
    folder = Path(to)
    folder.mkdir(parents=True, exist_ok=True)
    origin = folder if (folder / f"{r.start}.json").exists() else None  # else the one that ships
    with torch.random.fork_rng():
        torch.manual_seed(r.seed)
        model = r.build() if r.start is None else load(r.start, origin)
    unfinished = folder / f"{name}.unfinished.safetensors"
    resumed = unfinished.exists()
    commit = _commit()  # of the code that trains, whatever is committed meanwhile
    settings: dict[str, Any] = {
        "epochs": epochs or r.epochs,
        "batch_size": r.batch_size,
        "optimizer": r.optimizer,
        "schedule": r.schedule,
        "seed": r.seed,
        "checkpoint": unfinished,
        "progress": progress,
        **r.options,
    }
    wall, cpu = time.perf_counter(), time.process_time()
    if isinstance(r.train, Stream):
        samples = n or r.train.samples
        fit_online(model, r.train.draw, samples=samples, **settings)
    else:
        x, y = (t[:n].to(device) for t in r.train())
        samples = len(x)
        model.to(device)
        if r.prepare is not None:
            r.prepare(model, x)
        if settings["epochs"]:
            fit(model, x, y, **settings)
        if r.finish is not None:
            model = r.finish(model.eval(), x, y)
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    weights = {key: t.cpu().contiguous() for key, t in model.state_dict().items()}
    if r.half:
        weights = {key: t.half() if t.is_floating_point() else t for key, t in weights.items()}
    model.load_state_dict(weights)
    x_test, y_test = r.test()
    place = next(model.parameters()).device
    correct = sum(int((predict(model, part.to(place)).cpu() == y).sum()) for part, y in _parts(x_test, y_test))
    raw = save_tensors(weights)
    about = {
        "name": name,
        "sha256": hashlib.sha256(raw).hexdigest(),
        **r.says,
        **({"start": {"name": r.start, "sha256": card(r.start, origin)["sha256"]}} if r.start is not None else {}),
        "parameters": sum(p.numel() for p in model.parameters()),
        "epochs": epochs or r.epochs,
        "batch_size": r.batch_size,
        "seed": r.seed,
        "training_examples": samples,
        "accuracy": correct / len(y_test),
        "accuracy_interval": clopper_pearson(correct, len(y_test)),
        "test_examples": len(y_test),
        "seconds": round(wall, 1),
        "cpu_seconds": round(cpu, 1),
        "resumed": resumed,  # then the seconds are those since
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "commit": commit,
        "date": datetime.date.today().isoformat(),
        "command": " ".join(
            ["python -m advlab train", name, *([f"--epochs {epochs}"] if epochs else []), *([f"--n {n}"] if n else [])]
        ),
    }
    path = folder / f"{name}.safetensors"
    _write(path, raw)
    _write(path.with_suffix(".json"), (json.dumps(about, indent=1) + "\n").encode())
    unfinished.unlink(missing_ok=True)
    return path


def _parts(x: Tensor, y: Tensor) -> Iterable[tuple[Tensor, Tensor]]:
    return zip(x.split(2000), y.split(2000), strict=True)


def _write(path: Path, raw: bytes) -> None:
    part = path.with_name(path.name + ".writing")
    part.write_bytes(raw)
    os.replace(part, path)


def _commit() -> str:
    """The commit of the source tree that this package is run from, with "+changes" if it was edited; else the version."""
    from . import __version__

    git = ["git", "-C", str(Path(__file__).parent)]
    try:
        commit = subprocess.run([*git, "rev-parse", "HEAD"], capture_output=True, text=True, check=True).stdout.strip()
        dirty = subprocess.run([*git, "status", "--porcelain", "."], capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        return f"advlab {__version__}"
    return commit + ("+changes" if dirty.strip() else "")
