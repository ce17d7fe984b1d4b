"""The live figures of chapter 2, Feature Squeezing. The page squeezes in squeezing_math.js, as :mod:`advlab.squeezing` does."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
import traitlets
from ipywidgets import widget_serialization
from matplotlib.figure import Figure as Picture
from torch import Tensor, nn

from advlab.data import CIFAR10_CLASSES

from .figure import Figure, existing, module
from .gallery import BLUE, GREEN, GREY, ORANGE
from .network import Network, encoded, pixels_of, rounded

BITS, WINDOWS = range(1, 9), range(1, 6)


def _squeezed(x: Tensor, bits: int, window: int) -> Tensor:
    """Images (n, c, h, w) with fewer bits, after a median. 8 bits and a window of 1 leave multiples of 1/255 as they are."""
    from advlab.squeezing import median_filter, reduce_bit_depth

    return median_filter(reduce_bit_depth(x, bits), window)


def shown_score(v: float) -> str:
    return f"{v:.3g}"


class _Twins(Figure):
    """Clean and attacked images side by side, in bytes, with the controls that squeeze them."""

    shape = traitlets.List().tag(sync=True)
    clean = traitlets.Unicode().tag(sync=True)
    attacked = traitlets.Unicode().tag(sync=True)
    labels = traitlets.List().tag(sync=True)
    attacks = traitlets.List().tag(sync=True)
    example = traitlets.Int(0, min=0).tag(sync=True)
    adversarial = traitlets.Bool(False).tag(sync=True)
    bits = traitlets.Int(1, min=1, max=8).tag(sync=True)
    window = traitlets.Int(2, min=1, max=5).tag(sync=True)
    scores = traitlets.List().tag(sync=True)

    def _keep(self, x: Tensor, y: Tensor, x_adv: Tensor, attack: str | Sequence[str]) -> dict[str, Any]:
        """Check the images and keep them as doubles; the traits that hold them."""
        names = [attack] * len(x) if isinstance(attack, str) else list(attack)
        if x.shape != x_adv.shape or x.ndim != 4 or not len(x) == len(y) == len(names) > 0:
            raise ValueError(
                f"x is {tuple(x.shape)} and x_adv {tuple(x_adv.shape)} with {len(y)} labels and {len(names)} names of attacks: "
                "all need the same number of images, at least one, (n, c, h, w)"
            )
        clean, attacked = pixels_of(x, "x"), pixels_of(x_adv, "x_adv")
        self._pixels = torch.stack([clean, attacked], 1).double() / 255  # (n, 2, c, h, w)
        return {
            "shape": list(x.shape[1:]),
            "clean": encoded(clean.numpy()),
            "attacked": encoded(attacked.numpy()),
            "labels": [int(v) for v in y],
            "attacks": names,
        }

    @traitlets.validate("example")
    def _exists(self, proposal: Any) -> int:
        return existing(proposal, len(self.labels))

    def _input(self) -> Tensor:
        """The image that is squeezed, (1, c, h, w)."""
        return self._pixels[self.example, int(self.adversarial)][None]

    def _titles(self) -> list[str]:
        median = "no median" if self.window == 1 else f"median {self.window} × {self.window}"
        return ["the input", f"{self.bits} bit{'s' * (self.bits > 1)}", median, "both"]

    def _source(self, kind: str, label: str) -> str:
        return f"A {kind} {label} changed by {self.attacks[self.example]}" if self.adversarial else f"A clean {kind} {label}"

    def _draw(self, views: np.ndarray, probabilities: np.ndarray, classes: Sequence[str], threshold: float | None) -> Picture:
        """The views (v, c, h, w) above their probabilities (v, classes) and their scores."""
        titles, hues = self._titles(), (GREY, BLUE, ORANGE, GREEN)
        picture = Picture(figsize=(7.4, 4.6), layout="constrained")
        parts: Any = picture.subfigures(2, 1, height_ratios=[1, 1.45])
        upper, lower = parts
        axes = np.atleast_1d(upper.subplots(1, len(views)))
        for ax, view, p, title in zip(axes, views, probabilities, titles, strict=False):
            ax.imshow(view.transpose(1, 2, 0), cmap="gray", vmin=0, vmax=1)
            ax.set_title(f"{title}: {classes[int(p.argmax())]} ({100 * p.max():.1f} %)", fontsize=8)
            ax.set_axis_off()
        left, right = lower.subplots(1, 2)
        thick, rows = 0.84 / len(views), np.arange(len(classes))
        left.axhspan(self.labels[self.example] - 0.5, self.labels[self.example] + 0.5, color=GREY, alpha=0.2, linewidth=0)
        for s, (p, hue, title) in enumerate(zip(probabilities, hues, titles, strict=False)):
            left.barh(rows + (s - (len(views) - 1) / 2) * thick, p, 0.9 * thick, color=hue, label=title)
        left.set(yticks=rows, xlim=(0, 1), ylim=(len(classes) - 0.5, -0.5), xlabel="the network's probability")
        left.set_yticks(rows, classes)
        left.tick_params(labelsize=7)
        left.legend(fontsize=7)
        scores = np.abs(probabilities[1:] - probabilities[0]).sum(1)
        log = threshold is not None and threshold < 0.1
        right.barh(range(len(scores)), np.maximum(scores, 1e-6) if log else scores, 0.5, color=hues[1 : len(views)])
        right.set_yticks(range(len(scores)), titles[1 : len(views)])
        right.set(ylim=(len(scores) - 0.5, -0.5), xlabel="L1 score of each squeezer", xlim=(1e-6, 2) if log else (0, 2))
        if log:
            right.set_xscale("log")
        if threshold is not None:
            right.axvline(threshold, color="black", linestyle="--", linewidth=1)
            right.set_title(f"flagged above {shown_score(threshold)}", fontsize=8)
        return picture


class SqueezeDigit(_Twins):
    """Real digits and their adversarial twins before the joint detector of bit depth and median, with a real network.

    ``net`` is a sequential network on images (n, 1, h, h), as :func:`pack_network` takes it; ``x`` and ``x_adv``
    (n, 1, h, h) in multiples of 1/255, ``y`` (n,); ``attack`` names what made ``x_adv``, once or for each image. The page
    computes in double precision with rounded weights. ``example`` (an index), ``adversarial``,
    ``bits`` (1 to 8) and ``window`` (1 to 5; 1 is off) can be set from the kernel too; ``scores`` (of the bits, of the
    median) and ``flagged`` (the larger one exceeds ``threshold``) come back from the page.
    Raises ValueError for images that do not fit together, and TraitError for an example that is not there.

    >>> from advlab import data, zoo
    >>> x, y = data.mnist("test", 1)
    >>> figure = SqueezeDigit(zoo.load("mnist_cnn7"), x, y, x, threshold=0.003, bits=1)
    >>> print(figure.describe().partition(":")[2].strip())
    it passes.
    """

    _esm = module("plot.js", "network.js", "squeezing_math.js", "squeezing_parts.js", "squeeze_digit.js")
    network = traitlets.Instance(Network).tag(sync=True, **widget_serialization)
    threshold = traitlets.Float().tag(sync=True)
    flagged = traitlets.Bool(False).tag(sync=True)

    def __init__(
        self,
        net: nn.Sequential,
        x: Tensor,
        y: Tensor,
        x_adv: Tensor,
        *,
        threshold: float,
        attack: str | Sequence[str] = "an attack",
        **values: Any,
    ) -> None:
        self._net, packed = rounded(net), Network.pack(net, tuple(x.shape[1:]))
        super().__init__(network=packed, threshold=threshold, **self._keep(x, y, x_adv, attack), **values)

    def computed(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Input, reduced and median images (3, 1, h, w), probabilities (3, 10), and the two scores, as the page finds them."""
        x = self._input()
        views = torch.cat([x, _squeezed(x, self.bits, 1), _squeezed(x, 8, self.window)])
        with torch.no_grad():
            probabilities = self._net(views).softmax(1).numpy()
        return views.numpy(), probabilities, np.abs(probabilities[1:] - probabilities[0]).sum(1)

    def describe(self) -> str:
        _, probabilities, scores = self.computed()
        guess, (_, bits, median, _) = probabilities.argmax(1), self._titles()
        end = "above" if scores.max() > self.threshold else "not above"
        return (
            f"{self._source('handwritten', str(self.labels[self.example]))}, which the network reads as {guess[0]} with "
            f"probability {probabilities[0].max():.2f}, as {guess[1]} with {bits}, as {guess[2]} with {median}; the joint "
            f"score {shown_score(scores.max())} is {end} the threshold {shown_score(self.threshold)}: it "
            f"{'is flagged' if scores.max() > self.threshold else 'passes'}."
        )

    def still(self) -> Picture:
        views, probabilities, _ = self.computed()
        return self._draw(views, probabilities, [str(k) for k in range(probabilities.shape[1])], self.threshold)


class ColourSqueeze(_Twins):
    """Bits and a median on colour images, clean and attacked, squeezed in the page; the network's outputs are stored.

    ``net`` is any network on images (n, 3, h, w), run here once on every setting (8 bit depths, 5 windows) of every
    image; ``x``, ``x_adv``, ``y`` and ``attack`` are as in :class:`SqueezeDigit`. The page shows each squeezer alone and
    both together: their order does not matter, since a median of some values moves with any ascending map of them.
    ``threshold`` is the joint detector's; None draws none. ``scores`` (bits, median, both) come back from the page.
    Raises ValueError for images or names of classes that do not fit together.

    >>> x, net = torch.full((1, 3, 8, 8), 102 / 255), nn.Sequential(nn.Flatten(), nn.Linear(192, 10)).eval()
    >>> print(ColourSqueeze(net, x, torch.tensor([3]), x).describe().partition(",")[0])
    A clean picture of class cat
    """

    _esm = module("plot.js", "squeezing_math.js", "squeezing_parts.js", "colour_squeeze.js")
    outputs = traitlets.Unicode().tag(sync=True)
    classes = traitlets.List().tag(sync=True)
    threshold = traitlets.Float(None, allow_none=True).tag(sync=True)

    def __init__(
        self,
        net: nn.Module,
        x: Tensor,
        y: Tensor,
        x_adv: Tensor,
        *,
        threshold: float | None = None,
        attack: str | Sequence[str] = "an attack",
        classes: Sequence[str] = CIFAR10_CLASSES,
        **values: Any,
    ) -> None:
        images = self._keep(x, y, x_adv, attack)
        both = self._pixels.flatten(0, 1).to(x)
        views = torch.stack([_squeezed(both, b, w) for b in BITS for w in WINDOWS], 1)  # (2 n, 40, c, h, w)
        mode = net.training
        try:
            with torch.no_grad():
                logits = [net.eval()(part) for part in views]
        finally:
            net.train(mode)
        outputs = torch.stack(logits).softmax(-1).float().cpu().numpy()
        if outputs.shape[-1] != len(classes):
            raise ValueError(f"the network has {outputs.shape[-1]} outputs for {len(classes)} names of classes")
        self._outputs = outputs.reshape(len(x), 2, len(BITS), len(WINDOWS), -1).astype(float)
        super().__init__(outputs=encoded(outputs.astype("<f4")), classes=list(classes), threshold=threshold, **images, **values)

    def computed(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Input, reduced, median, both (4, c, h, w), probabilities (4, classes), the three scores, as the page finds them."""
        x, settings = self._input(), [(8, 1), (self.bits, 1), (8, self.window), (self.bits, self.window)]
        views = torch.cat([_squeezed(x, *setting) for setting in settings]).numpy()
        stored = self._outputs[self.example, int(self.adversarial)]
        probabilities = np.stack([stored[b - 1, w - 1] for b, w in settings])
        return views, probabilities, np.abs(probabilities[1:] - probabilities[0]).sum(1)

    def describe(self) -> str:
        _, probabilities, scores = self.computed()
        seen = [self.classes[k] for k in probabilities.argmax(1)]
        _, bits, median, _ = self._titles()
        joint, end = scores[:2].max(), ""
        if self.threshold is not None:
            end = f", {'above' if joint > self.threshold else 'not above'} the threshold {shown_score(self.threshold)}"
        return (
            f"{self._source('picture of class', self.classes[self.labels[self.example]])}, which the network sees as "
            f"{seen[0]} with probability {probabilities[0].max():.2f}, as {seen[1]} with {bits}, as {seen[2]} with {median}, "
            f"as {seen[3]} with both; the larger score of the two squeezers is {shown_score(joint)}{end}."
        )

    def still(self) -> Picture:
        views, probabilities, _ = self.computed()
        return self._draw(views, probabilities, self.classes, self.threshold)
