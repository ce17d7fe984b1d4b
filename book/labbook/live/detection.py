"""The live figures of chapter 2 on what a detector flags, and on attacks that know it."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import traitlets
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Picture
from torch import Tensor

from advlab.evaluate import clopper_pearson

from .figure import Figure, module
from .gallery import BLUE, GREEN, GREY, ORANGE
from .network import encoded, pixels_of
from .squeezing import shown_score


def _share(k: int, n: int) -> str:
    return f"{k:,} of {n:,} ({100 * k / n:.3g} %)"


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
            packed=encoded(np.concatenate([scores.ravel() for scores in groups])),
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
            f"{who[0].upper()}{who[1:]} above {shown_score(threshold)} flags {_share(false, len(clean))} clean images and "
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
        right.set_title(f"share flagged above {shown_score(threshold)}", fontsize=8)
        right.tick_params(labelsize=7)
        return picture


class EvasionCurve(Figure):
    """Shares of evasion against a budget for several attackers, read off with their intervals.

    ``curves`` maps each attacker (at most 8) to (budgets, shares, low ends, high ends), or to (budgets, counts, n), whose
    95 % Clopper-Pearson intervals are computed here. Budgets ascend and may differ between attackers; nothing is read off
    where an attacker was not measured. ``label_x`` and ``label_y`` name the axes. ``budget`` is the one read at, by
    default the largest; ``shares`` there (None where not measured) come back from the page. Beside the curves the page may
    show what a change of this size looks like: ``changed`` holds an image and an attacked one, both (c, h, w) in multiples of
    1/255, and the change is the difference of the two, brought to the ``norm`` ("l2" or "linf") budget / ``unit``; no attack
    is run for it.
    Raises ValueError for curves whose numbers do not fit together.

    >>> (found,) = EvasionCurve({"adaptive": ([0.1, 0.3], [5, 60], 100)}, budget=0.1).computed()
    >>> [round(v, 3) for v in found]  # the share, and its interval
    [0.05, 0.016, 0.113]
    """

    _esm = module("plot.js", "squeezing_parts.js", "evasion.js")
    beside = traitlets.Dict(default_value=None, allow_none=True).tag(sync=True)
    curves = traitlets.List().tag(sync=True)
    label_x = traitlets.Unicode("budget ε").tag(sync=True)
    label_y = traitlets.Unicode("share that evades").tag(sync=True)
    budget = traitlets.Float(0.0).tag(sync=True)
    shares = traitlets.List().tag(sync=True)

    def __init__(
        self,
        curves: Mapping[str, Sequence[Any]],
        *,
        label_x: str = "budget ε",
        changed: tuple[Tensor, Tensor] | None = None,
        norm: str = "l2",
        unit: float = 1.0,
        **values: Any,
    ) -> None:
        kept = [{"name": name} | _measured(name, curve) for name, curve in curves.items()]
        if not 1 <= len(kept) <= 8:
            raise ValueError(f"there are {len(kept)} curves; the figure tells 1 to 8 apart")
        values.setdefault("budget", max(curve["budget"][-1] for curve in kept))
        self._pair = None
        if changed is not None:
            if norm not in ("l2", "linf") or not unit > 0:
                raise ValueError(f"norm is {norm!r} and unit {unit}; they need 'l2' or 'linf', and a unit above 0")
            if changed[0].shape != changed[1].shape or changed[0].ndim != 3:
                raise ValueError(f"changed holds {[tuple(x.shape) for x in changed]}; it needs two images (c, h, w)")
            self._pair = [pixels_of(x, "changed").numpy() for x in changed]
            clean, attacked = (encoded(p) for p in self._pair)
            values["beside"] = {
                "shape": list(changed[0].shape),
                "clean": clean,
                "attacked": attacked,
                "norm": norm,
                "unit": unit,
            }
        super().__init__(curves=kept, label_x=label_x, **values)

    def moved(self) -> np.ndarray | None:
        """The image changed by the present budget, (c, h, w), as the page shows it; None without one."""
        if self._pair is None or self.beside is None:
            return None
        x, towards = (p / 255 for p in self._pair)
        change = towards - x
        size = np.linalg.norm(change.ravel(), 2 if self.beside["norm"] == "l2" else np.inf)
        return (x + (change * self.budget / (self.beside["unit"] * size) if size else 0)).clip(0, 1)

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
        shown = self.moved()
        picture = Picture(figsize=(6.0 if shown is None else 7.4, 3.2), layout="constrained")
        ax: Axes
        if shown is None:
            ax = picture.subplots()
        else:
            ax, right = picture.subplots(1, 2, width_ratios=[3, 1])
            right.imshow(shown.transpose(1, 2, 0), cmap="gray", vmin=0, vmax=1)
            right.set_axis_off()
            right.set_title("a change of this size", fontsize=8)
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
