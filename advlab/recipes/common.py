"""What recipes are made of: the record, the training sets, schedules."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn
from torch.optim import Optimizer

from .. import data

Split = Callable[[], tuple[Tensor, Tensor]]


@dataclass(frozen=True)
class Stream:
    """Training data without end: ``draw(n)`` gives n fresh examples, with torch's global generator; ``samples`` in all.

    >>> import functools
    >>> from advlab.spheres import concentric_spheres
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

    >>> from advlab.zoo import recipe
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


def mnist_without_validation() -> tuple[Tensor, Tensor]:
    """Training images 5,000 to 59,999, (n, 1, 28, 28), and their labels, (n,)."""
    x, y = data.mnist("train")
    return x[5000:], y[5000:]


def cifar10_without_validation() -> tuple[Tensor, Tensor]:
    """Training images 5,000 to 49,999, (n, 3, 32, 32), and their labels, (n,)."""
    x, y = data.cifar10("train", full=True)
    return x[5000:], y[5000:]


def rise_and_fall(step: int, steps: int) -> float:
    """A straight line from 0 to 1 over the first fifth of the steps, and one back to 0."""
    return min(step / (0.2 * steps), (1 - step / steps) / 0.8)


def one_cycle(step: int, steps: int) -> float:
    """A straight line from 0 to 1 over the first tenth of the steps, and a half cosine back to 0."""
    done = step / steps
    return done / 0.1 if done < 0.1 else (1 + math.cos(math.pi * (done - 0.1) / 0.9)) / 2
