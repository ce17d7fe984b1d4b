"""The claims of chapter 3 that look inside the networks, and at their arithmetic."""

from __future__ import annotations

import functools
import math
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor, nn

from advlab import data, evaluate, zoo
from advlab.attacks import pgd
from advlab.stability.bounds import count_units
from advlab.stability.pruning import prune_small_weights
from advlab.verification.rounding import WAYS, bracket_distance, float32_counterexample, float32_margins, into_ball

from ..results import Measurement, claim
from ..stats import share_of
from . import structure

EPS = 0.1
#: Networks whose units are looked at, by the label of their row; small weights pruned, ReLUs not.
NETWORKS = {
    "adversarial": ("adversarial training", "mnist_01_adversarial"),
    "l1": ("+ L1", "mnist_01_l1"),
    "rs": ("+ L1 + RS loss", "mnist_01_rs"),
    "narrow": ("built narrow, adversarial training", "mnist_01_narrow"),
}
#: ReLUs, weights and filters of the first layer.
_SIZES = {"narrow": (1_797, 75, 3)}
SHAPE, RS = (1, 28, 28), "mnist_01_rs"


@functools.cache
def network(name: str) -> nn.Module:
    """A network of the zoo with its small weights pruned."""
    return prune_small_weights(zoo.load(name)).requires_grad_(False)


def _attacked(name: str, x: Tensor, y: Tensor) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return pgd(network(name), x, y, eps=EPS, steps=40, step_size=EPS / 10, generator=generator)


def _columns(**columns: tuple[float, ...] | list[float] | list[int] | tuple[int, ...]) -> dict[str, list[float]]:
    return {name: [float(v) for v in column] for name, column in columns.items()}


_PRUNED = "Weights below 0.001 are pruned first, ReLUs are not. "


def _left(start: str, title: str, name: str, sizes: tuple[int, int, int]) -> None:
    """What pruning leaves of ``sizes`` ReLUs, and weights in filters of the first layer."""
    units, taps, filters = sizes

    @claim(
        f"{start}_live",
        f"{title}: ReLUs that depend on the input",
        unit="",
        digits=0,
        networks=[name],
        note=_PRUNED + f"The others are constants: no path of weights leads to them. Of {units:,}.",
    )
    def live(n: int | None = None) -> Measurement:
        counts = count_units(network(name), data.mnist(n=1)[0], 0.0)
        channels = structure.live_channels(network(name), SHAPE)
        series = _columns(units=counts.units, constant=counts.constant, channels=channels)
        return Measurement(sum(counts.units) - sum(counts.constant), series=series)

    @claim(
        f"{start}_weights",
        f"{title}: weights of the first layer that are not zero",
        unit="",
        digits=0,
        networks=[name],
        note=_PRUNED + f"Of {taps} in {filters} filters; the series counts them filter by filter.",
    )
    def weights(n: int | None = None) -> Measurement:
        first = next(iter(network(name).parameters()))
        return Measurement(int((first != 0).sum()), series=_columns(weights=(first != 0).flatten(1).sum(1).tolist()))


def _seen(start: str, title: str, name: str) -> None:
    """What units do over images, and what may be read off them."""

    @claim(
        f"{start}_behaviour",
        f"{title}: ReLUs that switch over the test images",
        unit="",
        digits=0,
        networks=[name],
        note=_PRUNED + "Over 1,000 clean test images. The series has constant, always on, always off and switching units.",
    )
    def behaviour(n: int | None = None) -> Measurement:
        found = structure.behaviour(network(name), data.mnist(n=n or 1000)[0])
        columns = _columns(constant=found.constant, on=found.on, off=found.off, switching=found.switching)
        return Measurement(sum(found.switching), n or 1000, series=columns)

    @claim(
        f"{start}_switched",
        f"{title}: ReLUs that switch when an image is attacked",
        unit="",
        digits=1,
        networks=[name],
        note=_PRUNED + "Mean over 1,000 test images, PGD of 40 steps.",
    )
    def switched(n: int | None = None) -> Measurement:
        x, y = data.mnist(n=n or 1000)
        found = structure.switched(network(name), x, _attacked(name, x, y))
        return Measurement(sum(found), len(x), series=_columns(switched=found))

    @claim(
        f"{start}_probe",
        f"{title}: digits read off the last ReLU layer by a linear probe",
        digits=2,
        networks=[name],
        note=_PRUNED + "Ridge regression on 5,000 test images, measured on the other 5,000. The series has, layer by layer "
        "from the input on, the digit and the share of variance explained of ink, slant and pixels.",
    )
    def probe(n: int | None = None) -> Measurement:
        x, y = data.mnist(n=None if n is None else 40 * n)
        found = structure.probe(network(name), x, y, fit=len(x) // 2)
        held_out = len(x) - len(x) // 2
        columns = _columns(digit=found.digit, ink=found.ink, slant=found.slant, image=found.image)
        return replace(share_of(round(found.digit[-1] * held_out), held_out), series=columns)

    @claim(
        f"{start}_energy",
        f"{title}: energy of the first filters at low frequencies",
        networks=[name],
        note=_PRUNED + "Below half of the highest frequency in both directions; mean over the filters that are left. A "
        "filter of a single tap has a quarter.",
    )
    def energy(n: int | None = None) -> Measurement:
        found = structure.kernel_energy_below(next(iter(network(name).parameters())))
        return Measurement(float(np.nanmean(found)), int(np.isfinite(found).sum()), series=_columns(energy=found.tolist()))


for _key, (_label, _name) in NETWORKS.items():
    _head = f"relu_stability.{_key}", f"MNIST, linf {EPS:g}, {_label}", _name
    _left(*_head, _SIZES.get(_key, (4_804, 400, 16)))
    _seen(*_head)


# ---------------------------------------------------------------------------------------------- floating point


@claim(
    "relu_stability.rounding_error",
    "Largest error of a margin in float32",
    unit="log10",
    digits=1,
    note="RS network, all test images, four orders of addition, against float64. A proof with a greater margin than this holds "
    "for float32 on these images too; that it does on all others is no theorem.",
    networks=[RS],
)
def rounding_error(n: int | None = None) -> Measurement:
    x, y = data.mnist(n=n)
    worst = dict.fromkeys(WAYS, 0.0)
    for a, b in zip(x.split(500), y.split(500), strict=True):
        margins = float32_margins(network(RS), a, b)
        for way in WAYS:
            worst[way] = max(worst[way], float((margins[way].double() - margins["exact"]).abs().max()))
    return Measurement(math.log10(max(worst.values())), len(x), series=_columns(error=list(worst.values())))


@claim(
    "relu_stability.fooled",
    "Images with a budget at which they are proved robust and a float32 computation misclassifies",
    digits=0,
    note="RS network, the first images that are right and attacked within 0.1. The proof asks for a margin of 1e-9. The series "
    "has, for each, the proved budget, the margin of the image found in float64, and its least in float32.",
    tier="laptop",
    networks=[RS],
)
def fooled_images(n: int | None = None) -> Measurement:
    model, found = network(RS), []
    wanted, tolerance = (100, 2e-8) if n is None else (1, 1e-3)
    x, y = data.mnist()
    generator = torch.Generator().manual_seed(0)
    for part, labels in zip(x.split(500), y.split(500), strict=True):
        broken = (evaluate.predict(model, part) == labels) & (evaluate.predict(model, _attacked(RS, part, labels)) != labels)
        for i in broken.nonzero()[:, 0].tolist():
            if len(found) < wanted:
                at = bracket_distance(model, part[i], int(labels[i]), EPS, tolerance=tolerance, margin=1e-9, time_limit=20)
                hit = float32_counterexample(model, part[i], int(labels[i]), at, generator=generator)
                shown = hit
                if hit is None and at.witness is not None:
                    shown = into_ball(at.witness, part[i], at.proved)
                margins = float32_margins(model, (part[i] if shown is None else shown)[None], labels[i : i + 1])
                least = min(float(margins[way]) for way in WAYS[:-1])
                found.append((float(hit is not None), at.proved, float(margins["exact"]), least))
        if len(found) == wanted:
            break
    hits, proved, exact, least = zip(*found, strict=True)
    columns = _columns(fooled=hits, proved=proved, exact=exact, float32=least)
    return replace(share_of(int(sum(hits)), len(hits)), series=columns)
