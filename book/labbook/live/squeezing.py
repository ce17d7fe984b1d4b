"""The live figures of chapter 2, Feature Squeezing. The page squeezes in squeezing_math.js, as :mod:`advlab.squeezing` does."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
import traitlets
from ipywidgets import widget_serialization
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Picture
from torch import Tensor, nn

from advlab.data import CIFAR10_CLASSES
from advlab.evaluate import clopper_pearson

from .figure import Figure, module
from .gallery import BLUE, GREEN, GREY, ORANGE
from .network import Network, _base64, _bytes, rounded

BITS, WINDOWS = range(1, 9), range(1, 6)


def _squeezed(x: Tensor, bits: int, window: int) -> Tensor:
    """Images (n, c, h, w) with fewer bits, after a median. 8 bits and a window of 1 leave multiples of 1/255 as they are."""
    from advlab.squeezing import median_filter, reduce_bit_depth

    return median_filter(reduce_bit_depth(x, bits), window)


def _score(v: float) -> str:
    return f"{v:.3g}"


def _share(k: int, n: int) -> str:
    return f"{k:,} of {n:,} ({100 * k / n:.3g} %)"


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
        clean, attacked = _bytes(x, "x"), _bytes(x_adv, "x_adv")
        self._pixels = torch.stack([clean, attacked], 1).double() / 255  # (n, 2, c, h, w)
        return {
            "shape": list(x.shape[1:]),
            "clean": _base64(clean.numpy()),
            "attacked": _base64(attacked.numpy()),
            "labels": [int(v) for v in y],
            "attacks": names,
        }

    @traitlets.validate("example")
    def _exists(self, proposal: Any) -> int:
        if proposal["value"] >= len(self.labels):
            raise traitlets.TraitError(f"example is {proposal['value']}; there are {len(self.labels)}, from 0")
        return proposal["value"]

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
            right.set_title(f"flagged above {_score(threshold)}", fontsize=8)
        return picture


class SqueezeDigit(_Twins):
    """Real digits and their adversarial twins before the joint detector of bit depth and median, with a real network.

    ``net`` is a sequential network on images (n, 1, h, h), as :func:`pack_network` takes it; ``x`` and ``x_adv``
    (n, 1, h, h) in multiples of 1/255, ``y`` (n,); ``attack`` names what made ``x_adv``, once or for each image. The page
    computes in double precision with weights rounded to half precision. ``example`` (an index), ``adversarial``,
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
            f"score {_score(scores.max())} is {end} the threshold {_score(self.threshold)}: it "
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
        super().__init__(outputs=_base64(outputs.astype("<f4")), classes=list(classes), threshold=threshold, **images, **values)

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
            end = f", {'above' if joint > self.threshold else 'not above'} the threshold {_score(self.threshold)}"
        return (
            f"{self._source('picture of class', self.classes[self.labels[self.example]])}, which the network sees as "
            f"{seen[0]} with probability {probabilities[0].max():.2f}, as {seen[1]} with {bits}, as {seen[2]} with {median}, "
            f"as {seen[3]} with both; the larger score of the two squeezers is {_score(joint)}{end}."
        )

    def still(self) -> Picture:
        views, probabilities, _ = self.computed()
        return self._draw(views, probabilities, self.classes, self.threshold)


class DetectorScores(Figure):
    """Scores of clean and adversarial images under chosen squeezers, and what a threshold from the clean ones flags.

    ``clean`` (n, k) and ``adversarial``, attack name -> (m, k), hold the L1 scores, 0 to 2, one column for each of the k
    ``squeezers`` (their names), as ``SqueezingDetector.squeezer_scores`` gives them; they are kept in single precision.
    The joint score is the largest of those ``chosen`` (k booleans). The threshold is
    ``sorted(clean joint)[ceil(n (1 - false_positive_rate)) - 1]`` and an image is flagged above it, so that at most
    ``false_positive_rate`` (0 to 0.5) of these clean images are; on other clean images the rate can be higher. ``attack``
    is a name or "all", ``scale`` "log" or "linear". The argument ``threshold`` is a detector's own, to be marked beside it
    (the trait ``marked``); the trait ``threshold``, the present one, and ``rates`` (clean flagged, adversarial flagged) and
    ``auc`` come back from the page.
    Raises ValueError for scores that do not fit.

    >>> clean, attacked = [[0.0], [0.1], [0.2], [0.3]], {"PGD": [[0.25], [1.5]]}
    >>> figure = DetectorScores(clean, attacked, squeezers=["1-bit"], false_positive_rate=0.25)
    >>> threshold, clean_flagged, caught, auc = figure.computed()
    >>> round(threshold, 4), clean_flagged, caught, auc
    (0.2, 1, 2, 0.875)
    """

    _esm = module("plot.js", "squeezing_math.js", "squeezing_parts.js", "detector_scores.js")
    packed = traitlets.Unicode().tag(sync=True)
    sizes = traitlets.List().tag(sync=True)
    squeezers = traitlets.List().tag(sync=True)
    attacks = traitlets.List().tag(sync=True)
    attack = traitlets.Unicode("all").tag(sync=True)
    chosen = traitlets.List().tag(sync=True)
    false_positive_rate = traitlets.Float(0.05, min=0.0, max=0.5).tag(sync=True)
    scale = traitlets.Enum(("log", "linear"), "log").tag(sync=True)
    marked = traitlets.Float(None, allow_none=True).tag(sync=True)
    threshold = traitlets.Float(0.0).tag(sync=True)
    rates = traitlets.List().tag(sync=True)
    auc = traitlets.Float(0.0).tag(sync=True)

    def __init__(
        self,
        clean: Any,
        adversarial: Mapping[str, Any],
        *,
        squeezers: Sequence[str],
        threshold: float | None = None,
        **values: Any,
    ) -> None:
        names = list(adversarial)
        groups = [np.asarray(scores, dtype="<f4") for scores in (clean, *adversarial.values())]
        if not names or "all" in names:
            raise ValueError(f"attacks are {names}; at least one is needed, and 'all' means all of them")
        for name, scores in zip(["clean", *names], groups, strict=True):
            if scores.ndim != 2 or scores.shape[1] != len(squeezers) or not scores.size:
                raise ValueError(f"scores of {name} are {scores.shape}; they must be (images, {len(squeezers)} squeezers)")
            if not (np.isfinite(scores).all() and (scores >= 0).all() and (scores <= 2 + 1e-5).all()):
                raise ValueError(f"scores of {name} must be L1 distances of probabilities, from 0 to 2")
        self._scores = [scores.astype(float) for scores in groups]
        values.setdefault("chosen", [True] * len(squeezers))
        super().__init__(
            packed=_base64(np.concatenate([scores.ravel() for scores in groups])),
            sizes=[len(scores) for scores in groups],
            squeezers=list(squeezers),
            attacks=names,
            marked=None if threshold is None else float(np.float32(threshold)),  # rounded as the scores are
            **values,
        )

    @traitlets.validate("chosen")
    def _some(self, proposal: Any) -> list[bool]:
        if len(proposal["value"]) != len(self.squeezers) or not any(proposal["value"]):
            raise traitlets.TraitError(f"chosen is {proposal['value']}; it needs a boolean for each squeezer, one of them true")
        return [bool(v) for v in proposal["value"]]

    @traitlets.validate("attack")
    def _known(self, proposal: Any) -> str:
        if proposal["value"] not in ("all", *self.attacks):
            raise traitlets.TraitError(f"attack is {proposal['value']!r}; it must be 'all' or one of {self.attacks}")
        return proposal["value"]

    def joint(self) -> tuple[np.ndarray, np.ndarray]:
        """The joint scores of the clean images and of the adversarial ones shown."""
        clean, *each = [scores[:, self.chosen].max(1) for scores in self._scores]
        return clean, np.concatenate(each) if self.attack == "all" else each[self.attacks.index(self.attack)]

    def computed(self) -> tuple[float, int, int, float]:
        """The threshold, how many clean and how many adversarial images it flags, and the AUC, as the page finds them too."""
        clean, shown = self.joint()
        ordered = np.sort(clean)
        threshold = float(ordered[max(0, math.ceil(len(clean) * (1 - self.false_positive_rate)) - 1)])
        under = np.searchsorted(ordered, shown, "left") + np.searchsorted(ordered, shown, "right")
        auc = float(under.sum() / (2 * len(clean) * len(shown)))
        return threshold, int((clean > threshold).sum()), int((shown > threshold).sum()), auc

    def describe(self) -> str:
        (clean, shown), (threshold, false, found, auc) = self.joint(), self.computed()
        using = [name for name, on in zip(self.squeezers, self.chosen, strict=True) if on]
        who = f"the largest of {len(using)} scores ({', '.join(using)})" if len(using) > 1 else f"the score of {using[0]}"
        what = "all attacks" if self.attack == "all" else self.attack
        return (
            f"{who[0].upper()}{who[1:]} above {_score(threshold)} flags {_share(false, len(clean))} clean images and "
            f"{_share(found, len(shown))} adversarial images of {what}; the area under the ROC curve is {auc:.4f}."
        )

    def still(self) -> Picture:
        (clean, shown), (threshold, *_) = self.joint(), self.computed()
        picture = Picture(figsize=(7.4, 3.1), layout="constrained")
        left, right = picture.subplots(1, 2, width_ratios=[1.3, 1])
        if self.scale == "log":
            positive = np.concatenate([s[s > 0] for s in self._scores])
            low = max(-7, min(-2, math.floor(math.log10(positive.min())))) if len(positive) else -2
            bins = np.logspace(low, math.log10(2), 49)
            left.set_xscale("log")
        else:
            bins = np.linspace(0, 2, 49)
        what = "all attacks" if self.attack == "all" else self.attack
        for scores, sign, hue, label in (
            (clean, 1, BLUE, f"{len(clean):,} clean"),
            (shown, -1, ORANGE, f"{len(shown):,}, {what}"),
        ):
            counts, _ = np.histogram(np.clip(scores, bins[0], bins[-1]), bins)
            left.bar(bins[:-1], sign * counts / counts.max(), np.diff(bins), align="edge", color=hue, label=label)
        left.axvline(threshold, color="black", linestyle="--", linewidth=1)
        if self.marked is not None:
            left.axvline(self.marked, color="black", linestyle=":", linewidth=1)
        left.set(yticks=[], xlabel="joint score", xlim=(bins[0], bins[-1]))
        left.set_title("each histogram to its own height", fontsize=8)
        left.legend(fontsize=7)
        shares = [float((s[:, self.chosen].max(1) > threshold).mean()) for s in self._scores]
        lit = [self.attack in ("all", name) for name in self.attacks]
        right.barh(range(len(shares)), shares, 0.65, color=[BLUE, *(ORANGE if on else GREY for on in lit)])
        for row, share in enumerate(shares):
            right.annotate(f" {100 * share:.1f} %", (share, row), va="center", fontsize=7)
        right.set_yticks(range(len(shares)), ["clean", *self.attacks])
        right.set(xlim=(0, 1.2), xticks=[0, 0.5, 1], ylim=(len(shares) - 0.5, -0.5))
        right.set_title(f"share flagged above {_score(threshold)}", fontsize=8)
        right.tick_params(labelsize=7)
        return picture


class EvasionCurve(Figure):
    """Shares of evasion against a budget for several attackers, read off with their intervals.

    ``curves`` maps each attacker (at most 8) to (budgets, shares, low ends, high ends), or to (budgets, counts, n), whose
    95 % Clopper-Pearson intervals are computed here. Budgets ascend and may differ between attackers; nothing is read off
    where an attacker was not measured. ``label_x`` and ``label_y`` name the axes. ``budget`` is the one read at, by
    default the largest; ``shares`` there (None where not measured) come back from the page.
    Raises ValueError for curves whose numbers do not fit together.

    >>> (found,) = EvasionCurve({"adaptive": ([0.1, 0.3], [5, 60], 100)}, budget=0.1).computed()
    >>> [round(v, 3) for v in found]  # the share, and its interval
    [0.05, 0.016, 0.113]
    """

    _esm = module("plot.js", "evasion.js")
    curves = traitlets.List().tag(sync=True)
    label_x = traitlets.Unicode("budget ε").tag(sync=True)
    label_y = traitlets.Unicode("share that evades").tag(sync=True)
    budget = traitlets.Float(0.0).tag(sync=True)
    shares = traitlets.List().tag(sync=True)

    def __init__(self, curves: Mapping[str, Sequence[Any]], *, label_x: str = "budget ε", **values: Any) -> None:
        kept = [{"name": name} | _measured(name, curve) for name, curve in curves.items()]
        if not 1 <= len(kept) <= 8:
            raise ValueError(f"there are {len(kept)} curves; the figure tells 1 to 8 apart")
        values.setdefault("budget", max(curve["budget"][-1] for curve in kept))
        super().__init__(curves=kept, label_x=label_x, **values)

    def computed(self) -> list[tuple[float, float, float] | None]:
        """Share, low and high end of each attacker at the present budget, None where not measured, as the page finds them."""
        found: list[tuple[float, float, float] | None] = []
        for curve in self.curves:
            near = [i for i, v in enumerate(curve["budget"]) if abs(v - self.budget) <= 1e-9 * max(1, abs(self.budget))]
            found.append((curve["share"][near[0]], curve["low"][near[0]], curve["high"][near[0]]) if near else None)
        return found

    def describe(self) -> str:
        told = [
            f"{curve['name']} {100 * at[0]:.1f} % ({100 * at[1]:.1f} to {100 * at[2]:.1f} %)"
            for curve, at in zip(self.curves, self.computed(), strict=True)
            if at is not None
        ]
        named = [label[:1].upper() + label[1:] for label in (self.label_x, self.label_y)]
        return f"{named[0]}: {self.budget:.4g}. {named[1]}: {'; '.join(told) or 'nothing measured'}."

    def still(self) -> Picture:
        picture = Picture(figsize=(6.0, 3.2), layout="constrained")
        ax: Axes = picture.subplots()
        for k, curve in enumerate(self.curves):
            share, low, high = (np.array(curve[key]) for key in ("share", "low", "high"))
            hue, dash = (BLUE, ORANGE, GREEN, GREY)[k % 4], "-" if k < 4 else "--"
            ax.errorbar(
                curve["budget"],
                share,
                np.stack([share - low, high - share]),
                color=hue,
                linestyle=dash,
                marker="o",
                markersize=3,
                label=curve["name"],
                capsize=2,
            )
        ax.axvline(self.budget, color="black", linestyle="--", linewidth=1)
        ax.set(xlabel=self.label_x, ylabel=self.label_y, ylim=(-0.02, 1.02))
        ax.legend(fontsize=8)
        return picture


def _measured(name: str, curve: Sequence[Any]) -> dict[str, list[float]]:
    """Budget, share, low and high of one curve as lists of numbers, checked."""
    if len(curve) == 3:
        budget, counts, n = curve
        trials = np.broadcast_to(np.asarray(n), np.shape(counts))
        ends = [clopper_pearson(int(k), int(m)) for k, m in zip(counts, trials, strict=True)]
        curve = (budget, np.asarray(counts) / trials, [low for low, _ in ends], [high for _, high in ends])
    if len(curve) != 4:
        raise ValueError(f"{name} has {len(curve)} lists; give (budgets, shares, low, high) or (budgets, counts, n)")
    budget, share, low, high = ([float(v) for v in values] for values in curve)
    if not len(budget) == len(share) == len(low) == len(high) > 0 or any(a >= b for a, b in itertools.pairwise(budget)):
        raise ValueError(f"{name} needs lists of one length, with budgets that ascend")
    if not all(0 <= a <= s <= b <= 1 for a, s, b in zip(low, share, high, strict=True)):
        raise ValueError(f"{name}: each share must lie in its interval, within 0 and 1")
    return {"budget": budget, "share": share, "low": low, "high": high}
