"""Does training for stability work alike for networks of other shapes? Twelve small trainings.

Pre-registered, but for a trial of the first shape: the measure is the ratio of the mean times without and with the
RS loss, shape by shape; the second, the rank correlation of the mean time with the unstable ReLUs that CROWN counts.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from dataclasses import replace

import torch
from torch import nn

from advlab import data, evaluate, training
from advlab.models import HalvingConv2d
from advlab.stability.bounds import count_units
from advlab.stability.losses import pgd_pairs, stability_loss
from advlab.stability.pruning import prune_small_weights
from advlab.verification.dataset import verify_dataset

from ..results import Measurement, claim
from ..stats import mean_over_images

EPS, L1, RS = 0.1, 2e-5, 8e-4
TIME_LIMIT = 20.0  #: CPU seconds an image


def _convolutions(widths: tuple[int, ...], units: int, kernel: int = 5, stem: int = 0) -> nn.Sequential:
    """Convolutions of stride 2, before them one of stride 1 if ``stem`` is above 0, after them one hidden linear layer."""
    layers: list[nn.Module] = []
    channels, side = 1, 28
    if stem:
        layers += [nn.Conv2d(1, stem, 3, padding=1), nn.ReLU()]
        channels = stem
    for width in widths:
        layer = HalvingConv2d(channels, width, 5, padding=2) if kernel == 5 else nn.Conv2d(channels, width, kernel, 2, 1)
        layers += [layer, nn.ReLU()]
        channels, side = width, math.ceil(side / 2)
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(channels * side**2, units), nn.ReLU(), nn.Linear(units, 10))


def _linear() -> nn.Sequential:
    hidden = [nn.Linear(784, 100), nn.ReLU(), nn.Linear(100, 100), nn.ReLU()]
    return nn.Sequential(nn.Flatten(), *hidden, nn.Linear(100, 10))


STRUCTURES = {
    "plain": ("the paper's", functools.partial(_convolutions, (16, 32), 100)),
    "half": ("half as wide", functools.partial(_convolutions, (8, 16), 50)),
    "double": ("twice as wide", functools.partial(_convolutions, (32, 64), 200)),
    "deep": ("a convolution more", functools.partial(_convolutions, (16, 32), 100, stem=4)),
    "small_kernels": ("3 by 3 kernels", functools.partial(_convolutions, (16, 32), 100, kernel=3)),
    "linear": ("no convolution", _linear),
}


def trained(build: Callable[[], nn.Module], rs: float, n: int | None = None) -> nn.Module:
    """A network after the small training, weights below 0.001 removed, in eval mode. ``n`` images once make a trial."""
    torch.manual_seed(0)
    net = build()
    x, y = data.mnist("train")
    x, y = x[5000 : 5000 + (n or 12_000)], y[5000 : 5000 + (n or 12_000)]
    training.fit(
        net,
        x,
        y,
        epochs=5 if n is None else 1,
        batch_size=64,
        optimizer=lambda weights: torch.optim.Adam(weights, lr=1e-3),
        transform=functools.partial(pgd_pairs, eps=EPS, step_size=0.03),
        loss=functools.partial(stability_loss, eps=EPS, l1=L1, rs=rs),
        progress=False,
    )
    return prune_small_weights(net).eval().requires_grad_(False)


def verified(net: nn.Module, n: int | None = None) -> Measurement:
    """The mean CPU seconds over the first 100 test images that it gets right; the series has accuracy, verdicts and units."""
    x, y = data.mnist(n=n)
    right = (evaluate.predict(net, x) == y).float().mean()
    images, labels = data.mnist(n=100 if n is None else 2)
    ended = verify_dataset(net, images, labels, EPS, time_limit=TIME_LIMIT if n is None else 0.5, progress=False)
    naive, crown = (count_units(net, images, EPS, method) for method in ("naive", "crown"))
    columns = {
        "test": float(right),
        "proved": ended.provable,
        "unknown": ended.count("unknown"),
        "units": sum(naive.units),
        "live": sum(naive.units) - sum(naive.constant),
        "naive": sum(naive.unstable),
        "crown": sum(crown.unstable),
    }
    spent = ended.seconds()
    found = mean_over_images(spent) if len(spent) else Measurement(0.0, 0, (0.0, 0.0))
    return replace(found, series={name: [float(v)] for name, v in columns.items()})


def _sweep(key: str, rs: float) -> None:
    label = STRUCTURES[key][0] + (", with the RS loss" if rs else ", without the RS loss")

    @claim(
        f"relu_stability.sweep_{key}{'_rs' if rs else ''}",
        f"MNIST, linf {EPS:g}, a small training, {label}: mean time to verify an image",
        unit="s",
        digits=2,
        note="12,000 images, 5 epochs, PGD-8, L1, small weights pruned in all; one seed. CPU seconds over the first 100 test "
        f"images, cut off at {TIME_LIMIT:g}, of those that are classified right. The series has accuracy, verdicts and units.",
        tier="laptop",
    )
    def seconds(n: int | None = None) -> Measurement:
        return verified(trained(STRUCTURES[key][1], rs, n), n)


for _key in STRUCTURES:
    for _rs in (0.0, RS):
        _sweep(_key, _rs)
