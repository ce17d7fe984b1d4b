"""The live figure of chapter 1 that plays back a run of splitting."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import traitlets
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Picture

from .caps import power
from .figure import Figure, existing, module
from .gallery import BLUE, GREY, ORANGE


class SplittingAnimation(Figure):
    """Adaptive multilevel splitting, played back: particles march from the bulk of the sphere to the error set, score > 0.

    ``scores[k]`` (any number) are the particles that choose ``levels[k]``; those above it live on. Levels ascend to 0, which
    may be left out, so that a run of :func:`advlab.spheres.rare_events.splitting` fits as it is. ``log10[k]`` is the log10
    probability of a score above ``levels[k]``; left out, it follows from the shares that live on. At most 200 particles a
    level are kept, evenly by rank. ``level`` (from 0) is the one shown; ``reached``, its log10, comes back from the page.
    Raises ValueError for lists that do not fit together, and for a last level without an error.

    >>> figure = SplittingAnimation([-1.0, 0.0], [[-2.0, -1.5, -0.5, -0.2], [-0.5, -0.2, 0.1, 0.3]], level=1)
    >>> print(figure.describe().partition(";")[0])  # half lived on, and half of those
    Level 2 of 2 of a splitting run: particles live on above the score 0, which has the probability 0.25
    """

    _esm = module("plot.js", "player.js", "splitting.js")
    KEPT = 200
    levels = traitlets.List().tag(sync=True)
    scores = traitlets.List().tag(sync=True)
    log10 = traitlets.List().tag(sync=True)
    level = traitlets.Int(0, min=0).tag(sync=True)
    reached = traitlets.Float(0.0).tag(sync=True)

    def __init__(
        self, levels: Sequence[float], scores: Sequence[Any], log10: Sequence[float] | None = None, **values: Any
    ) -> None:
        thresholds = [float(v) for v in levels]
        if len(thresholds) + 1 == len(scores):
            thresholds.append(0.0)
        if not thresholds or len(thresholds) != len(scores):
            raise ValueError(f"there are {len(thresholds)} levels for {len(scores)} lists of scores; each needs its own")
        if thresholds[-1] != 0 or any(a >= b for a, b in itertools.pairwise(thresholds)):
            raise ValueError(f"levels are {thresholds}; they must ascend to 0, where errors begin")
        particles = [np.sort(np.asarray(s, dtype=float).ravel()) for s in scores]
        if not all(len(s) and np.isfinite(s).all() for s in particles):
            raise ValueError("every level needs scores, all of them finite")
        shares = [float((s > t).mean()) for s, t in zip(particles, thresholds, strict=True)]
        if not all(shares):
            raise ValueError(f"no particle scores above level {shares.index(0) + 1}: the run did not reach the error set")
        running = np.cumsum(np.log10(shares)).tolist() if log10 is None else [float(v) for v in log10]
        if len(running) != len(thresholds) or any(b > a for a, b in itertools.pairwise([0.0, *running])):
            raise ValueError(f"log10 is {running}; it needs one value a level, from 0 downwards")
        grain = 10.0 ** math.floor(math.log10(max(np.ptp(np.concatenate([*particles, [0.0]])), 1e-300)) - 6)
        kept = [s[np.linspace(0, len(s) - 1, min(len(s), self.KEPT)).round().astype(int)] for s in particles]
        super().__init__(
            levels=thresholds,
            scores=[[float(f"{v:.12g}") for v in np.round(s / grain) * grain] for s in kept],
            log10=running,
            **values,
        )

    @traitlets.validate("level")
    def _exists(self, proposal: Any) -> int:
        return existing(proposal, len(self.levels))

    def describe(self) -> str:
        return (
            f"Level {self.level + 1} of {len(self.levels)} of a splitting run: particles live on above the score "
            f"{self.levels[self.level]:.3g}, which has the probability {power(self.log10[self.level])}; at the last level "
            f"the error set, score above 0, has {power(self.log10[-1])}."
        )

    def still(self) -> Picture:
        n = len(self.levels)
        picture = Picture(figsize=(6.4, min(6.0, 1.2 + 0.25 * n)), layout="constrained")
        ax: Axes = picture.subplots()
        for k, (scores, level) in enumerate(zip(self.scores, self.levels, strict=True)):
            s = np.array(scores)
            y = k + 0.66 + 0.68 * (np.arange(len(s)) * (math.sqrt(5) - 1) / 2 % 1)
            ax.scatter(
                s,
                y,
                4,
                np.where(s > 0, ORANGE, np.where(s > level, BLUE, GREY)).tolist(),
                alpha=0.9 if k == self.level else 0.35,
            )
            ax.plot([level, level], [k + 0.54, k + 1.46], color="black", linewidth=1)
            ax.annotate(f" {self.log10[k]:.2f}", (1, k + 1), xycoords=("axes fraction", "data"), va="center", fontsize=7)
        low, high = ax.get_xlim()
        ax.axvspan(0, high, color=ORANGE, alpha=0.12, linewidth=0)
        ax.set(xlim=(low, high), ylim=(n + 0.5, 0.5), xlabel="score, an error above 0", ylabel="level")
        ax.set_title("log10 p", loc="right", fontsize=8)
        return picture
