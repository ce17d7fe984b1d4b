"""The rows of chapter 5: networks of one architecture, what stands before or beside them, and when such a defence holds."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from advlab import data, evaluate
from advlab.squeezing import JOINT, SqueezingDetector
from advlab.squeezing.squeezers import SQUEEZERS, Squeezer, reduce_bit_depth

from ..networks import network

CLEAN = 1000  #: images that a detector's threshold is fitted on: the first training images, which no network was trained on


@dataclass(frozen=True)
class Setting:
    """What all rows of a data set share."""

    label: str
    eps: float
    budget: str  #: eps in words
    surrogate: str  #: the network whose adversarial images are transferred


SETTINGS = {
    "mnist": Setting("MNIST", 0.1, "linf 0.1", "mnist_cnn7"),
    "cifar10": Setting("CIFAR-10", 2 / 255, "linf 2/255", "cifar_cnn"),
}


@dataclass(frozen=True)
class Row:
    """A defence: a network of the zoo, and what is done with its input or its answer."""

    label: str
    dataset: str
    network: str
    kind: str = "network"  #: "network", "one bit" before the network, or "detector" beside it
    papers: tuple[str, ...] = ()  #: ids of the chapters it comes from


_TRAINED = {
    "none": ("none", ("mnist_small", "cifar_small"), ()),
    "adversarial": ("adversarial training", ("mnist_01_adversarial", "cifar_2_adversarial"), ()),
    "rs": ("RS loss", ("mnist_01_rs_pruned", "cifar_2_rs_pruned"), ("relu_stability",)),
    "mask": ("random mask", ("mnist_small_mask_50", "cifar_small_mask_50"), ("random_mask",)),
    "mask_adversarial": ("random mask, adversarial training", ("mnist_01_mask_50", "cifar_2_mask_50"), ("random_mask",)),
}


def _rows(place: int, dataset: str) -> dict[str, Row]:
    made = {key: Row(label, dataset, names[place], papers=papers) for key, (label, names, papers) in _TRAINED.items()}
    for key in ("none", "adversarial", "rs", "mask"):
        label, names, papers = _TRAINED[key]
        joined = "squeezing detector" if key == "none" else f"{label}, squeezing detector"
        name = "detector" if key == "none" else f"{key}_detector"
        made[name] = Row(joined, dataset, names[place], "detector", (*papers, "feature_squeezing"))
    if place == 0:
        made["one_bit"] = Row("one bit before the network", dataset, "mnist_small", "one bit", ("feature_squeezing",))
    return made


ROWS: dict[str, dict[str, Row]] = {"mnist": _rows(0, "mnist"), "cifar10": _rows(1, "cifar10")}

#: What is also asked at other budgets, on MNIST.
CURVES: dict[str, Row] = {
    **{key: ROWS["mnist"][key] for key in ("none", "adversarial", "rs", "mask", "detector", "one_bit")},
    "adversarial_03": Row("adversarial training at linf 0.3", "mnist", "mnist_adversarial"),
    "rs_03": Row("RS loss at linf 0.3", "mnist", "mnist_03_fast_0", papers=("relu_stability",)),
}


def images(dataset: str, n: int) -> tuple[Tensor, Tensor]:
    """The first test images, of those that ship."""
    return data.mnist(n=n) if dataset == "mnist" else data.cifar10(n=n, full=False)


class OneBit(nn.Module):
    """One bit a pixel (n, ...), as a layer; its backward pass is that of the identity."""

    def forward(self, x: Tensor) -> Tensor:
        return reduce_bit_depth(x, 1, gradient="straight-through")


@dataclass(frozen=True)
class Defended:
    """A network with what stands around it. ``answers`` gives its class, or -1 where it raises an alarm."""

    model: nn.Module
    squeezers: Mapping[str, Squeezer]
    alarm: Callable[[Tensor], Tensor] | None = None  #: (n, ...) -> (n,) bool
    threshold: float = float("inf")

    def answers(self, x: Tensor) -> Tensor:
        found = evaluate.predict(self.model, x, 100)
        return found if self.alarm is None else torch.where(self.alarm(x), -1, found)

    def right(self, x: Tensor, y: Tensor) -> Tensor:
        """Whether clean images are answered rightly: an alarm is an error. (n,) bool."""
        return self.answers(x) == y

    def holds(self, x_adv: Tensor, y: Tensor) -> Tensor:
        """Whether attacked images do no harm: they are answered rightly, or there is an alarm. (n,) bool."""
        found = self.answers(x_adv)
        return (found == y) | (found == -1)


@functools.cache
def defended(row: Row) -> Defended:
    """The defence of a row, its threshold fitted on clean images."""
    net = network(row.network)
    if row.kind == "one bit":
        return Defended(nn.Sequential(OneBit(), net).eval(), {})
    if row.kind == "network":
        return Defended(net, {})
    squeezers = {name: SQUEEZERS[name] for name in JOINT[row.dataset]}
    clean = data.mnist("train", CLEAN)[0] if row.dataset == "mnist" else data.cifar10("train", CLEAN, full=False)[0]
    detector = SqueezingDetector(net, squeezers, batch_size=100).fit(clean)
    return Defended(net, squeezers, detector.predict, detector.threshold_)
