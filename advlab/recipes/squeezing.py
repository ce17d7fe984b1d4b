"""Chapter 2's networks, and chapter 0's."""

from __future__ import annotations

import functools

import torch
from torch import Tensor, nn

from .. import data, models
from ..attacks import pgd
from ..training import cross_entropy, flip_and_shift, in_bfloat16, smoothed_cross_entropy
from .common import Recipe, mnist_without_validation, rise_and_fall


def _pgd_examples(model: nn.Module, x: Tensor, y: Tensor, done: float) -> Tensor:
    """Adversarial training (Madry et al. 2018): the batch after PGD of 5 steps; the budget rises to 0.3 over a third of it."""
    return pgd(model, x, y, eps=0.3 * min(1.0, 0.1 + 3 * done), steps=5, active_set=False)


def _adversarial(seed: int) -> Recipe:
    return Recipe(
        build=models.stability_cnn,
        train=mnist_without_validation,
        test=data.mnist,
        epochs=3,
        batch_size=250,
        optimizer=lambda weights: torch.optim.Adam(weights, lr=3e-3, fused=True),
        schedule=rise_and_fall,
        seed=seed,
        says={
            "paper": "adversarial training as in Xu, Evans and Qi (2018), Figure 4, after Madry et al. (2018); smaller network",
            "data": "MNIST: training images 5,000 to 59,999, attacked by PGD-5 within linf 0.3; tested on 10,000 clean images",
            "optimizer": "Adam, learning rate 0 to 0.003 to 0, cross entropy of the attacked images",
        },
        options={"transform": _pgd_examples},
    )


# Each is the record of one training, written out.
RECIPES: dict[str, Recipe] = {
    "mnist_cnn7": Recipe(
        build=models.mnist_cnn7,
        train=mnist_without_validation,
        test=data.mnist,
        epochs=50,
        batch_size=128,
        optimizer=lambda weights: torch.optim.SGD(weights, lr=0.01, momentum=0.9, nesterov=True),
        schedule=lambda step, steps: 1 / (1 + 1e-6 * step),
        says={
            "paper": "Xu, Evans and Qi (2018), Table 1; network and training of Carlini and Wagner (2017)",
            "data": "MNIST: training images 5,000 to 59,999; tested on all 10,000 test images",
            "optimizer": "SGD, learning rate 0.01 / (1 + 1e-6 step), momentum 0.9 (Nesterov), dropout 0.5, cross entropy",
        },
    ),
    "mnist_adversarial": _adversarial(0),
    **{f"mnist_adversarial_{seed}": _adversarial(seed) for seed in range(1, 10)},  # where chapter 3's trainings start
    "cifar_cnn": Recipe(
        build=models.cifar_cnn,
        train=functools.partial(data.cifar10, "train", full=True),
        test=functools.partial(data.cifar10, "test", full=True),
        epochs=14,
        batch_size=250,
        optimizer=lambda weights: torch.optim.SGD(weights, lr=0.4, momentum=0.9, nesterov=True, weight_decay=5e-4),
        schedule=rise_and_fall,
        says={
            "paper": "in the place of the DenseNet of Xu, Evans and Qi (2018), Table 1; the network follows Jordan (2024)",
            "data": "CIFAR-10: all 50,000 training images, mirrored and shifted by up to 2 pixels; tested on all 10,000",
            "optimizer": "SGD, learning rate 0 to 0.4 to 0, momentum 0.9 (Nesterov), weight decay 0.0005, "
            "cross entropy with labels smoothed by 0.1; stored in half precision",
        },
        options={"loss": smoothed_cross_entropy, "transform": flip_and_shift},
        half=True,
        prepare=models.whiten_first_layer,
    ),
    "cifar_cnn_sharp": Recipe(
        build=models.cifar_cnn,
        train=functools.partial(data.cifar10, "train", full=True),
        test=functools.partial(data.cifar10, "test", full=True),
        epochs=60,
        batch_size=250,
        optimizer=lambda weights: torch.optim.SGD(weights, lr=0.3, momentum=0.9, nesterov=True, weight_decay=5e-4),
        schedule=rise_and_fall,
        says={
            "paper": "in the place of the DenseNet of Xu, Evans and Qi (2018), Table 1; the network follows Jordan (2024)",
            "data": "CIFAR-10: all 50,000 training images, mirrored and shifted by up to 4 pixels; tested on all 10,000",
            "optimizer": "SGD, learning rate 0 to 0.3 to 0, momentum 0.9 (Nesterov), weight decay 0.0005, cross entropy; "
            "matrix products in bfloat16; stored in half precision",
        },
        options={
            "transform": functools.partial(flip_and_shift, pixels=4),
            "loss": functools.partial(in_bfloat16, cross_entropy),
        },
        half=True,
        prepare=models.whiten_first_layer,
    ),
    "cifar_cnn_long": Recipe(
        build=functools.partial(models.cifar_cnn, (128, 256, 512)),
        train=functools.partial(data.cifar10, "train", full=True),
        test=functools.partial(data.cifar10, "test", full=True),
        epochs=60,
        batch_size=250,
        optimizer=lambda weights: torch.optim.SGD(weights, lr=0.2, momentum=0.9, nesterov=True, weight_decay=5e-4),
        schedule=rise_and_fall,
        says={
            "paper": "in the place of the DenseNet of Xu, Evans and Qi (2018), Table 1; for a GPU",
            "data": "CIFAR-10: all 50,000 training images, mirrored and shifted by up to 4 pixels; tested on all 10,000",
            "optimizer": "SGD, learning rate 0 to 0.2 to 0, momentum 0.9 (Nesterov), weight decay 0.0005, cross entropy; "
            "stored in half precision",
        },
        options={"transform": functools.partial(flip_and_shift, pixels=4)},
        half=True,
        prepare=models.whiten_first_layer,
    ),
}
