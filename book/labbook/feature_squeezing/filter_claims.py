"""Claims of chapter 2 on squeezing as a filter before the network, beside adversarial training."""

from __future__ import annotations

import functools
from dataclasses import replace

import torch
from torch import Tensor, nn

from advlab import attacks, data, evaluate, zoo
from advlab.squeezing.squeezers import SQUEEZERS, Squeezer, reduce_bit_depth

from ..results import Measurement, claim
from ..stats import curve, share
from .measuring import network

EPSILONS = [0.1, 0.2, 0.3, 0.4]


class Behind(nn.Module):
    """A network that sees the image through a squeezer."""

    def __init__(self, squeezer: Squeezer, net: nn.Module) -> None:
        super().__init__()
        self.squeezer, self.net = squeezer, net

    def forward(self, x: Tensor) -> Tensor:
        return self.net(self.squeezer(x))


def _pgd(model: nn.Module, x: Tensor, y: Tensor, *, eps: float) -> Tensor:
    return attacks.pgd(model, x, y, eps=eps, steps=40, generator=torch.Generator().manual_seed(0))


def _protected(defence: str, attack: str, n: int) -> Measurement:
    """Accuracy on the first n test images against the budget: of the series, the entry at eps 0.3."""
    x, y = data.mnist(n=n)
    plain = network("mnist")
    target = zoo.load("mnist_adversarial") if defence == "trained" else Behind(SQUEEZERS["1-bit"], plain).eval()
    known = Behind(functools.partial(reduce_bit_depth, bits=1, gradient="straight-through"), plain).eval()
    attacked = {"trained": target, "filter": plain, "filter that is known": known}[defence]
    right = []
    for eps in EPSILONS:
        make = functools.partial(attacks.fgsm if attack == "FGSM" else _pgd, eps=eps)
        parts = zip(x.split(250), y.split(250), strict=True)
        right.append(
            torch.cat([evaluate.predict(target, make(attacked, images, labels)) == labels for images, labels in parts])
        )
    series = curve({"budget": EPSILONS}, "accuracy", right)
    return replace(share(right[2]), series=series)


_DEFENCES = {
    "filter": ("binary filter, attack that does not know it", "The attack is made on the bare network, as in the paper."),
    "filter that is known": ("binary filter, attack through it", "Straight-through gradient; the paper has no such row."),
    "trained": ("adversarial training", "White box; trained with PGD-5 at 0.3, a smaller network. The series has 0.1 to 0.4."),
}
_FIGURE_4 = {("filter", "FGSM"): 0.9303, ("filter", "PGD"): 0.9050, ("trained", "FGSM"): 0.9238}


def _figure_4(defence: str, attack: str) -> None:
    title, note = _DEFENCES[defence]

    @claim(
        f"feature_squeezing.figure4_{defence.replace(' ', '_')}_{attack.lower()}",
        f"MNIST, {title}: accuracy under {attack}, linf 0.3",
        paper=_FIGURE_4.get((defence, attack)),
        where="Xu et al. (2018), Figure 4",
        note=note,
        tier="laptop",
        networks=["mnist_adversarial" if defence == "trained" else "mnist_cnn7"],
    )
    def measure(n: int = 500) -> Measurement:
        return _protected(defence, attack, n)


for _defence in _DEFENCES:
    for _attack in ("FGSM", "PGD"):
        _figure_4(_defence, _attack)
