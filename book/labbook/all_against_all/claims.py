"""Chapter 5's claims: every row of :mod:`.defences` under every attack of :mod:`.ladder`, and what can be proved of it.

Pre-registered, after trials on some twenty images and before any row was measured: the images are the first of the test set;
an image stands if it is answered rightly while clean, and after an attack is answered rightly or raises an alarm; the worst
case is over all attacks, image by image.
"""

from __future__ import annotations

import functools
from dataclasses import replace

import torch
from torch import Tensor

from advlab.squeezing.squeezers import SQUEEZERS
from advlab.verification.certificates import verify_one_bit
from advlab.verification.smoothing import certified_radius
from advlab.verification.verifier import verify

from ..networks import network
from ..results import Measurement, claim
from ..stats import curve, share, share_of
from .defences import CURVES, ROWS, SETTINGS, Row, defended, images
from .ladder import FULL, PROVED, TRIAL, adaptive_attack, attacked, known, proved

IMAGES = 200


def _row(dataset: str, key: str, row: Row) -> None:
    setting = SETTINGS[dataset]
    networks = dict.fromkeys((row.network, setting.surrogate))
    said = {
        "detector": "Adaptive: PGD on the input and all squeezed inputs at once, begun at the image and at PGD's.",
        "network": "Adaptive: AutoAttack on what PGD left.",
        "one bit": "The backward pass of the bit is that of the identity. Adaptive: AutoAttack on what PGD left.",
    }[row.kind]

    @claim(
        f"all_against_all.{dataset}_{key}",
        f"{setting.label}, {setting.budget}, {row.label}: accuracy in the worst case of all attacks",
        digits=1,
        note=f"An image stands if it is right while clean, and right or flagged after each attack. {said} The series has "
        "each image and attack.",
        tier="laptop",
        networks=networks,
    )
    def worst(n: int | None = None) -> Measurement:
        stands, flags = attacked(row, n or IMAGES, FULL if n is None else TRIAL)
        series = {name: column.double().tolist() for name, column in stands.items()}
        return replace(share(torch.stack(list(stands.values())).all(0)), flags=flags, series=series)

    proof = {
        "detector": "Proved: no image of the ball is wrong and accepted, by a proof for the network, or for what squeezers "
        "make of the ball, with the lead that the threshold asks for.",
        "network": "The verifier of chapter 3.",
        "one bit": "A search over the pixels that the ball leaves free.",
    }[row.kind]

    @claim(
        f"all_against_all.{dataset}_{key}_proved",
        f"{setting.label}, {setting.budget}, {row.label}: share of images that are proved to stand",
        digits=1,
        note=f"{proof} At most {FULL.seconds:g} CPU seconds an image. The series says of each image: 0 refuted, 1 unknown, "
        "2 proved by search, 3 proved by bounds alone.",
        tier="laptop",
        networks=[row.network],
    )
    def certified(n: int | None = None) -> Measurement:
        known = proved(row, n or IMAGES, FULL if n is None else TRIAL)
        return replace(share(known >= PROVED), series={"known": known.double().tolist()})


for _dataset, _rows in ROWS.items():
    for _key, _each in _rows.items():
        _row(_dataset, _key, _each)


def _bounds(key: str, label: str, name: str) -> None:
    """The control of "proofs add up": one training, with masks and without, by bounds alone."""

    @claim(
        f"all_against_all.bounds_{key}",
        f"MNIST, linf 0.1, {label}, five epochs: share of images that bounds alone prove",
        digits=1,
        note="Optimised bounds of chapter 3's verifier on the images of the table, right ones only; no search.",
        tier="laptop",
        networks=[name],
    )
    def bounds(n: int | None = None) -> Measurement:
        x, y = images("mnist", n or IMAGES)
        net = network(name)
        return share(
            torch.tensor(
                [verify(net, a, int(b), 0.1, last_stage="alpha-crown").status == "robust" for a, b in zip(x, y, strict=True)]
            )
        )


_bounds("short", "adversarial training", "mnist_01_short")
_bounds("mask", "adversarial training with masks", "mnist_01_mask_50")

BUDGETS = (0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.35, 0.4)


def _curve(key: str, row: Row) -> None:
    @claim(
        f"all_against_all.budgets_{key}",
        f"MNIST, {row.label}: accuracy under the adaptive attack at linf 0.3",
        digits=1,
        note="The first 100 test images; PGD of 50 steps, and where there is a detector the attack on all views. The series "
        "has budgets from 0.05 to 0.4.",
        tier="laptop",
        networks=[row.network],
    )
    def budgets(n: int | None = None) -> Measurement:
        x, y = images("mnist", n or 100)
        effort = FULL._replace(auto=False) if n is None else TRIAL
        stands = []
        for eps in BUDGETS:
            blind, adaptive, _ = adaptive_attack(row, x, y, eps, effort, torch.Generator().manual_seed(0))
            stands.append(blind & adaptive)
        series = curve({"eps": list(BUDGETS)}, "ours", stands)
        return replace(share(stands[BUDGETS.index(0.3)]), series=series)


for _key, _each in CURVES.items():
    _curve(_key, _each)

PROVABLE = (0.05, 0.1, 0.15, 0.2)


def _spread(n: int) -> tuple[Tensor, Tensor]:
    """``n`` test images spread evenly over all 10,000, and their labels."""
    x, y = images("mnist", 10_000)
    every = torch.arange(n) * len(x) // n
    return x[every], y[every]


def _bound(n: int, eps: float, seconds: float) -> Tensor:
    """Of ``n`` spread digits (n,) bool: right, without an alarm, and no image of the ball both wrong and accepted, proved."""
    row = ROWS["mnist"]["detector"]
    x, y = _spread(n)
    right = defended(row).right(x, y)
    effort = FULL._replace(seconds=seconds)
    each = zip(x, y.tolist(), right, strict=True)
    return torch.tensor([bool(ok) and known(row, a, b, effort, eps) >= PROVED for a, b, ok in each])


@claim(
    "all_against_all.detector_spread",
    "MNIST, linf 0.1, squeezing detector: share of images that are proved to stand, spread over the test set",
    digits=1,
    note="Every tenth test image; as the row of the table, with at most 2 CPU seconds for each proof.",
    tier="laptop",
    networks=["mnist_small"],
)
def detector_spread(n: int | None = None) -> Measurement:
    return share(_bound(n or 1000, 0.1, 2.0 if n is None else 0.3))


@claim(
    "all_against_all.detector_budgets",
    "MNIST, squeezing detector: share proved to stand at linf 0.2",
    digits=1,
    note="A hundred images spread over the test set, at most 2 CPU seconds for each proof. The series has all budgets.",
    tier="laptop",
    networks=["mnist_small"],
)
def detector_budgets(n: int | None = None) -> Measurement:
    found = [_bound(n or 100, eps, 2.0 if n is None else 0.3) for eps in PROVABLE]
    return replace(share(found[-1]), series=curve({"eps": list(PROVABLE)}, "proved", found))


@claim(
    "all_against_all.one_bit_budgets",
    "MNIST, one bit before a network without defence: share proved to stand at linf 0.2",
    digits=1,
    note="The first 100 test images, at most 5 CPU seconds an image and budget. The series has all budgets: shares that are "
    "proved, and refuted by a witness.",
    tier="laptop",
    networks=["mnist_small"],
)
def one_bit_budgets(n: int | None = None) -> Measurement:
    x, y = images("mnist", n or 100)
    net = network("mnist_small")
    right = torch.tensor([int(net(SQUEEZERS["1-bit"](a[None])).argmax()) == int(b) for a, b in zip(x, y, strict=True)])
    series: dict[str, list[float]] = {"eps": [], "proved": [], "refuted": []}
    for eps in PROVABLE:
        run = functools.partial(verify_one_bit, net, eps=eps, time_limit=5.0 if n is None else 0.3)
        found = [run(a, int(b)).status if r else "counterexample" for a, b, r in zip(x, y, right, strict=True)]
        series["eps"].append(eps)
        series["proved"].append(found.count("robust") / len(x))
        series["refuted"].append(found.count("counterexample") / len(x))
    return replace(share_of(round(series["proved"][-1] * len(x)), len(x)), series=series)


RADII = (0.1, 0.25, 0.5, 0.75, 1.0)


@claim(
    "all_against_all.smoothed",
    "MNIST, l2, randomised smoothing of a network without defence: share certified within 0.5",
    digits=1,
    note="The first 200 test images, noise of standard deviation 0.25, 1,000 samples an image; each certificate is wrong with "
    "a probability of at most 0.001. The series has other radii, and noise of 0.5. No radius certified here reaches the 2.8 "
    "that the linf ball of 0.1 would need.",
    tier="laptop",
    networks=["mnist_small"],
)
def smoothed(n: int | None = None) -> Measurement:
    x, y = images("mnist", n or IMAGES)
    series: dict[str, list[float]] = {"radius": list(RADII)}
    held = []
    for sigma in (0.25, 0.5):
        generator = torch.Generator().manual_seed(0)
        found = certified_radius(network("mnist_small"), x, sigma=sigma, n=1000 if n is None else 200, generator=generator)
        held.append((found.classes == y)[:, None] & (found.radii[:, None] >= torch.tensor(RADII)))
        series[f"sigma_{sigma}"] = held[-1].double().mean(0).tolist()
    return replace(share(held[0][:, RADII.index(0.5)]), series=series)
