"""Chapter 4's networks: masks at a laptop's size and at the paper's, other defences, the arms of its experiment."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import nn

from .. import data, models
from ..masking import coordinate_resnet, dropout_resnet, masked_resnet, narrow_resnet, single_step, trades_loss, trades_pairs
from ..training import cross_entropy, flip_and_shift, in_bfloat16
from .common import Recipe, cifar10_without_validation, rise_and_fall

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
        train=cifar10_without_validation,
        test=functools.partial(data.cifar10, "test", full=True),
        epochs=epochs,
        batch_size=128,
        optimizer=lambda weights: torch.optim.SGD(weights, lr=0.1, momentum=0.9, nesterov=True, weight_decay=5e-4),
        schedule=rise_and_fall,
        seed=seed,
        says={
            "paper": f"Luo et al. (2018), {says}; {size}{epochs} epochs, not 350",
            "data": "CIFAR-10: training images from 5,000 on, mirrored and shifted by up to 4 pixels; tested on all 10,000",
            "optimizer": f"SGD, learning rate 0 to 0.1 to 0, momentum 0.9 (Nesterov), weight decay 0.0005, {loss_says}; matrix "
            "products in bfloat16; the last epoch is kept; stored in half precision",
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


_RESNET18 = functools.partial(models.resnet, 18, 16)


def _masked(drop: float, stages: str = "shallow", **options: Any) -> Callable[[], nn.Module]:
    return functools.partial(masked_resnet, 18, 16, drop, stages, **options)


#: Of chapter 4's networks at the paper's width: what fits in a quarter of an hour of one GPU.
EPOCHS = 15


def _full_scale() -> dict[str, Recipe]:
    """Chapter 4's networks at the paper's width, for a GPU."""
    made = {
        "resnet18": (functools.partial(models.resnet, 18, 64), "no masks"),
        "resnet50": (functools.partial(models.resnet, 50, 64), "ResNet-50, no masks"),
        "densenet": (functools.partial(models.densenet, 100, 12), "DenseNet (L = 100, k = 12; the paper: 121), no masks"),
        "vgg": (functools.partial(models.cifar_cnn, (128, 256, 512)), "six convolutions in a row (the paper: VGG-19)"),
        "target": (functools.partial(models.resnet, 18, 64), "no masks; another seed, the target"),
        **{f"mask_{p}": (functools.partial(masked_resnet, 18, 64, p / 100), f"0.{p // 10}-Shallow") for p in (50, 70, 90)},
        **{
            f"mask_{p}_b": (functools.partial(masked_resnet, 18, 64, p / 100), f"0.{p // 10}-Shallow; other masks and seed")
            for p in (50, 70)
        },
    }
    recipes = {
        f"full_{name}": _mask_recipe(build, says, int(name == "target" or name.endswith("_b")), epochs=EPOCHS, width=64)
        for name, (build, says) in made.items()
    }
    recipes["full_vgg"] = replace(recipes["full_vgg"], prepare=models.whiten_first_layer)
    return recipes


RECIPES: dict[str, Recipe] = {
    "cifar_resnet18": _mask_recipe(_RESNET18, "no masks"),
    "cifar_resnet18_b": _mask_recipe(_RESNET18, "no masks; another seed", 1),
    "cifar_densenet": _mask_recipe(
        functools.partial(models.densenet, 22, 12), "DenseNet with L = 22 and k = 12, not 121; no masks", epochs=4, width=None
    ),
    "cifar_mask_50": _mask_recipe(_masked(0.5), "0.5-Shallow"),
    "cifar_mask_50_b": _mask_recipe(_masked(0.5), "0.5-Shallow; other masks and another seed", 1),
    "cifar_mask_70": _mask_recipe(_masked(0.7), "0.7-Shallow"),
    "cifar_mask_90": _mask_recipe(_masked(0.9), "0.9-Shallow"),
    "cifar_mask_50_deep": _mask_recipe(_masked(0.5, "deep"), "0.5-Deep"),
    "cifar_mask_50_shared": _mask_recipe(_masked(0.5, kind="shared"), "0.5-Shallow, the same mask for all channels"),
    "cifar_mask_50_channel": _mask_recipe(_masked(0.5, kind="channel"), "0.5-Shallow, whole channels; our control"),
    "cifar_mask_50_narrow": _mask_recipe(functools.partial(narrow_resnet, 18, 16, 0.5), "0.5-Shallow DC: narrow, no masks"),
    "cifar_adversarial": _mask_recipe(_RESNET18, "beside it: adversarial training, Wong et al. (2020)", **_ADVERSARIAL),
    "cifar_mask_50_adversarial": _mask_recipe(_masked(0.5), "0.5-Shallow, with adversarial training; ours", **_ADVERSARIAL),
    "cifar_trades": _mask_recipe(
        _RESNET18,
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
}
