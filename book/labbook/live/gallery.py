"""The live figures of the book."""

from __future__ import annotations

import base64
import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
import traitlets
from ipywidgets import widget_serialization
from matplotlib.figure import Figure as Picture
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from advlab import attacks

from .figure import Figure, module
from .network import Network, rounded

BLUE, ORANGE, GREEN, GREY = "#1f78c4", "#d9620a", "#00623b", "#57606a"


def mulberry32(seed: int) -> Iterator[float]:
    """The endless numbers in [0, 1) that ``uniforms(seed)`` of kit.js draws, to the bit."""
    mask, state = 0xFFFFFFFF, seed & 0xFFFFFFFF
    while True:
        state = (state + 0x6D2B79F5) & mask
        t = ((state ^ (state >> 15)) * (state | 1)) & mask
        t ^= (t + (((t ^ (t >> 7)) * (t | 61)) & mask)) & mask
        yield (t ^ (t >> 14)) / 2**32


def uniforms(n: int, seed: int) -> np.ndarray:
    """The first n numbers of :func:`mulberry32`, (n,)."""
    return np.fromiter(mulberry32(seed), float, n)


class DigitAttack(Figure):
    """Real digits and a real network in the page: random signs, gradients or the reader's own brush, with a budget ``eps``.

    ``net`` is a sequential network on images (n, 1, h, h), as :func:`pack_network` takes it; ``x`` (n, 1, h, h) in
    multiples of 1/255, ``y`` (n,). The page computes in double precision with rounded weights (``network.short``), in a worker.
    ``digit`` (an index), ``method`` and ``eps`` can be set from the kernel too; ``hand`` are the pixels that the reader
    painted, counted from 1, negative where they become darker; ``probabilities`` (10,) come back from the page.
    Methods: "noise"; "fgsm"; "pgd", ten steps; "hand"; and "few", the gradient on as many pixels as ``hand`` has, those
    where it raises the loss the most.

    >>> from advlab import data, zoo
    >>> figure = DigitAttack(zoo.load("mnist_cnn7"), *data.mnist("test", 2), digit=1, method="noise", eps=0.1)
    >>> print(figure.describe().partition(";")[2].strip())
    the network reads it as a 2 with probability 1.00.
    """

    _esm = module("network.js", "digit_attack_math.js", "worker.js", "digit_attack.js")
    network = traitlets.Instance(Network).tag(sync=True, **widget_serialization)
    images = traitlets.Unicode().tag(sync=True)
    labels = traitlets.List().tag(sync=True)
    digit = traitlets.Int(0).tag(sync=True)
    method = traitlets.Enum(("noise", "fgsm", "pgd", "hand", "few"), "noise").tag(sync=True)
    hand = traitlets.List(traitlets.Int()).tag(sync=True)
    eps = traitlets.Float(0.0, min=0.0).tag(sync=True)
    eps_max = traitlets.Float(0.4).tag(sync=True)
    probabilities = traitlets.List().tag(sync=True)

    def __init__(self, net: nn.Sequential, x: Tensor, y: Tensor, **values: Any) -> None:
        pixels = (x * 255).round().to(torch.uint8)
        if not torch.equal(pixels.to(x) / 255, x):
            raise ValueError("x must hold multiples of 1/255, as images from advlab.data do")
        self._net, self._x, self._y = rounded(net), pixels.double() / 255, y
        super().__init__(
            network=Network.pack(net, tuple(x.shape[1:])),
            images=base64.b64encode(pixels.numpy().tobytes()).decode(),
            labels=y.tolist(),
            **values,
        )

    def attacked(self) -> tuple[Tensor, Tensor]:
        """The attacked image (h, w) and the logits (10,) for the present digit, method and eps, in double precision."""
        return self._attacked(self.method, self.eps)

    def _attacked(self, method: str, eps: float) -> tuple[Tensor, Tensor]:
        x, y = self._x[self.digit, None], self._y[self.digit, None]
        if method == "fgsm":
            x_adv = attacks.fgsm(self._net, x, y, eps=eps)
        elif method == "pgd":
            x_adv = attacks.pgd(self._net, x, y, eps=eps, steps=10, random_start=False, active_set=False)
        else:
            x_adv = (x + eps * self._signs(x, y, method, eps)).clamp(0, 1)
        with torch.no_grad():
            return x_adv[0, 0], self._net(x_adv)[0]

    def _signs(self, x: Tensor, y: Tensor, method: str, eps: float) -> Tensor:
        """Which pixels of x (1, 1, h, h) go up (1), down (-1) or stay (0)."""
        if method == "noise":
            return torch.tensor(np.where(uniforms(x.numel(), 1) < 0.5, -1.0, 1.0)).view_as(x)
        signs = torch.zeros(x.numel(), dtype=x.dtype)
        if method == "hand":
            for at in self.hand:
                signs[abs(at) - 1] = math.copysign(1, at)
        elif self.hand:
            at = x.clone().requires_grad_()
            (g,) = torch.autograd.grad(cross_entropy(self._net(at), y), at)
            gain = g * ((x + eps * g.sign()).clamp(0, 1) - x)  # to first order
            first = gain.flatten().argsort(descending=True, stable=True)[: len(self.hand)]
            signs[first] = g.flatten()[first].sign()
        return signs.view_as(x)

    def breaks_at(self, method: str) -> float | None:
        """The least budget in steps of 0.01 at which ``method`` changes the answer for the present digit; None if none does.

        Budgets go up to ``eps_max``. Guarantee: of these budgets only, not of those between them.
        """
        for k in range(1, round(100 * self.eps_max) + 1):
            if int(self._attacked(method, k / 100)[1].argmax()) != self.labels[self.digit]:
                return k / 100
        return None

    def describe(self) -> str:
        names = {"noise": "random signs", "fgsm": "one gradient step (FGSM)", "pgd": "ten gradient steps (PGD)"}
        names |= {"hand": f"a brush on {len(self.hand)} pixels", "few": f"the gradient on {len(self.hand)} pixels"}
        _, logits = self.attacked()
        return (
            f"A handwritten {self.labels[self.digit]}, changed by {names[self.method]} within {self.eps:.2f} per pixel; "
            f"the network reads it as a {int(logits.argmax())} with probability {float(logits.softmax(0).max()):.2f}."
        )

    def still(self) -> Picture:
        x_adv, logits = self.attacked()
        x = self._x[self.digit, 0]
        picture = Picture(figsize=(7.2, 2.3), layout="constrained")
        axes = picture.subplots(1, 4, width_ratios=[1, 1, 1, 1.25])
        axes[0].imshow(x.numpy(), cmap="gray", vmin=0, vmax=1)
        axes[1].imshow(((x_adv - x) / (self.eps or 1)).numpy(), cmap="RdBu_r", vmin=-1, vmax=1)
        axes[2].imshow(x_adv.numpy(), cmap="gray", vmin=0, vmax=1)
        for ax, title in zip(axes, ("the digit", f"the change, ε = {self.eps:.2f}", "what the network sees"), strict=False):
            ax.set_title(title, fontsize=9)
            ax.set_axis_off()
        guess, label = int(logits.argmax()), self.labels[self.digit]
        colours = [BLUE if k == label else ORANGE if k == guess else GREY for k in range(10)]
        axes[3].barh(range(10), logits.softmax(0).numpy(), color=colours)
        axes[3].set(yticks=range(10), xlim=(0, 1), ylim=(9.6, -0.6))
        axes[3].set_title("what it believes", fontsize=9)
        axes[3].tick_params(labelsize=7)
        return picture


def linear_shift(d: float, eps: float, margin: float = 1.0) -> dict[str, float]:
    """How far a change of at most ``eps`` in each of ``d`` inputs moves a unit w x with ``|w_i| = 1 / sqrt(d)``.

    ``worst``: ``eps |w|_1 = eps sqrt(d)``, by an attack. ``random``: ``eps |w|_2 = eps``, the standard deviation under random
    signs. ``needed``: the smallest eps whose worst case reaches ``margin``. ``chance``: Hoeffding's bound on the
    probability that random signs reach it. (Goodfellow et al. 2015, section 3.) Guarantee: exact, but for the bound.

    >>> linear_shift(784, 0.1)["worst"]
    2.8000000000000003
    """
    return {
        "worst": eps * math.sqrt(d),
        "random": eps,
        "needed": margin / math.sqrt(d),
        "chance": min(1.0, math.exp(-(margin**2) / (2 * eps**2))),
    }


class LinearShift(Figure):
    """How far a budget ``eps`` per input moves a linear unit with d = 10 ** ``log10_d`` inputs; see :func:`linear_shift`.

    The page lets the inputs vote one after another: with signs that an attacker chose, and with random ones, drawn from
    ``seed``, whose sum, ``drawn``, comes back from the page beside ``shift``, the closed form.

    >>> print(LinearShift(log10_d=4.0, eps=0.01).describe().partition(";")[0])
    With 10,000 inputs and a budget of 0.01 each, an attack moves a linear unit by 1 and random signs by 0.01
    """

    _esm = module("plot.js", "linear_shift.js")
    log10_d = traitlets.Float(0.0, min=0.0, max=5.2).tag(sync=True)
    eps = traitlets.Float(0.1, min=0.005, max=0.5).tag(sync=True)
    margin = traitlets.Float(1.0).tag(sync=True)
    seed = traitlets.Int(0, min=0).tag(sync=True)
    drawn = traitlets.Float(0.0).tag(sync=True)
    shift = traitlets.List().tag(sync=True)

    def describe(self) -> str:
        found = linear_shift(10**self.log10_d, self.eps, self.margin)
        return (
            f"With {10**self.log10_d:,.0f} inputs and a budget of {self.eps:g} each, an attack moves a linear unit by "
            f"{found['worst']:.2g} and random signs by {found['random']:.2g}; the margin is {self.margin:g}."
        )

    def still(self) -> Picture:
        n, here = round(10**self.log10_d), linear_shift(round(10**self.log10_d), self.eps, self.margin)
        picture = Picture(figsize=(7.2, 2.9), layout="constrained")
        left, ax = picture.subplots(1, 2, width_ratios=[1, 1.8])
        weights, random = self.votes()
        side = math.ceil(math.sqrt(n))
        shown = np.full(side * side, np.nan)
        shown[:n] = weights
        left.imshow(shown.reshape(side, side), cmap="PuOr", vmin=-1.6, vmax=1.6)
        left.set_axis_off()
        left.set_title("the weights' signs", fontsize=9)
        counted = np.unique(np.linspace(0, n, 257).round().astype(int))
        ax.plot([0, n], [0, here["worst"]], color=ORANGE, label="chosen signs")
        ax.plot(counted, np.append(0, random.cumsum())[counted] * self.eps / math.sqrt(n), color=BLUE, label="random signs")
        ax.axhline(self.margin, color="black", linestyle="--", linewidth=1)
        ax.annotate("the margin", (0, self.margin), xytext=(4, 4), textcoords="offset points", fontsize=8)
        ax.set(xlabel="votes counted", ylabel="sum of the votes")
        ax.legend(fontsize=8)
        return picture

    def votes(self) -> tuple[np.ndarray, np.ndarray]:
        """Signs of the weights, and whether random signs agree with them (1) or not (-1), both (d,), as the page draws them."""
        n = round(10**self.log10_d)
        weights, signs = np.where(uniforms(2 * n, self.seed) < 0.5, -1, 1).reshape(2, n)
        return weights, weights * signs
