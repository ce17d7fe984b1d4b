"""The claims of chapter 0: what the first network of the zoo is worth, clean and attacked.

``python -m labbook reproduce start_here`` measures them and writes the manifest.
"""

from __future__ import annotations

import functools

import torch
from torch import Tensor, nn

from advlab import attacks, data, evaluate, zoo

from ..results import Measurement, claim
from ..stats import share

NETWORK = "mnist_cnn7"
TABLE_1 = "Xu et al. (2018), Table 1"
TABLE_2 = "Xu et al. (2018), Table 2"


@claim(
    "start_here.clean",
    "Clean accuracy, MNIST, 7 layers",
    paper=0.9943,
    where=TABLE_1,
    digits=2,
    note="Same architecture and recipe, our own run, no selection on the test set.",
    networks=[NETWORK],
)
def clean(n: int = 10_000) -> Measurement:
    x, y = data.mnist("test", n)
    return share(evaluate.predict(zoo.load(NETWORK), x) == y)


def _success(attack: evaluate.Attack, n: int) -> Measurement:
    """Share of the paper's seeds that are misclassified after the attack, rounded to 8 bits."""
    model = zoo.load(NETWORK)
    x, y = evaluate.first_correct(model, *data.mnist(), n)
    return share(evaluate.predict(model, data.eight_bits(attack(model, x, y))) != y)


@claim(
    "start_here.fgsm_success",
    "FGSM, eps 0.3: success rate on 100 seeds",
    paper=0.46,
    where=TABLE_2,
    digits=0,
    note="A different training run of the same recipe.",
    networks=[NETWORK],
)
def fgsm_success(n: int = 100) -> Measurement:
    return _success(functools.partial(attacks.fgsm, eps=0.3), n)


@claim(
    "start_here.bim_success",
    "BIM, eps 0.3, 10 steps of 0.06: success rate on 100 seeds",
    paper=0.91,
    where=TABLE_2,
    digits=0,
    note="A different training run of the same recipe. Ours keeps the first adversarial iterate; the paper does not say "
    "which it keeps.",
    networks=[NETWORK],
)
def bim_success(n: int = 100) -> Measurement:
    return _success(functools.partial(attacks.bim, eps=0.3, steps=10, step_size=0.06), n)


def _robust(attack: evaluate.Attack, n: int, eps: float | None = None) -> Measurement:
    """Accuracy under the attack; with its budget ``eps`` the flags compare it with a black-box attack."""
    x, y = data.mnist("test", n)
    found = evaluate.robust_accuracy(zoo.load(NETWORK), x, y, attack, eps=eps)
    return Measurement(found.accuracy, found.n, found.interval, tuple(flag.id for flag in found.flags))


def random_signs(model: nn.Module, x: Tensor, y: Tensor, *, eps: float, generator: torch.Generator | None = None) -> Tensor:
    """No attack at all: each pixel moved by eps up or down, at random; (n, ...) -> (n, ...)."""
    device = x.device if generator is None else generator.device
    noise = torch.rand(x.shape, generator=generator, device=device).sub(0.5).sign()
    return (x + eps * noise.to(x)).clamp(0, 1)


@claim("start_here.noise", "Accuracy under random signs, eps 0.2", networks=[NETWORK])
def noise(n: int = 1000) -> Measurement:
    generator = torch.Generator().manual_seed(0)
    return _robust(functools.partial(random_signs, eps=0.2, generator=generator), n)


@claim("start_here.fgsm", "Accuracy under FGSM, eps 0.2", networks=[NETWORK])
def fgsm(n: int = 1000) -> Measurement:
    return _robust(functools.partial(attacks.fgsm, eps=0.2), n, eps=0.2)


def _pgd(eps: float, n: int, restarts: int = 1, loss: str = "ce") -> Measurement:
    generator = torch.Generator().manual_seed(0)
    attack = functools.partial(attacks.pgd, eps=eps, steps=40, restarts=restarts, loss=loss, generator=generator)
    return _robust(attack, n, eps)


@claim("start_here.pgd", "Accuracy under PGD-40, eps 0.2", networks=[NETWORK])
def pgd(n: int = 1000) -> Measurement:
    return _pgd(0.2, n)


@claim("start_here.pgd_restarts", "Accuracy under PGD-40, eps 0.2, 10 restarts", networks=[NETWORK])
def pgd_restarts(n: int = 1000) -> Measurement:
    return _pgd(0.2, n, restarts=10)


@claim("start_here.pgd_margin", "Accuracy under PGD-40 on the margin, eps 0.2, 10 restarts", networks=[NETWORK])
def pgd_margin(n: int = 1000) -> Measurement:
    return _pgd(0.2, n, restarts=10, loss="margin")


@claim("start_here.autoattack", "Accuracy under AutoAttack, eps 0.2", tier="laptop", networks=[NETWORK])
def autoattack(n: int = 1000) -> Measurement:
    return _robust(functools.partial(attacks.autoattack, eps=0.2), n)


@claim(
    "start_here.ddn",
    "Median distance to an adversarial example, L2, DDN-100",
    unit="",
    digits=2,
    note="An upper bound of the smallest distance; the interval is that of the median.",
    networks=[NETWORK],
)
def ddn(n: int = 1000) -> Measurement:
    model = zoo.load(NETWORK)
    x, y = evaluate.first_correct(model, *data.mnist(), n)
    found = attacks.ddn(model, x, y)
    broken = evaluate.predict(model, found) != y
    lengths = torch.where(broken, evaluate.distances(found, x, "l2"), torch.inf)
    median, low, high = evaluate.median_interval(lengths)
    return Measurement(median, n, (low, high))
