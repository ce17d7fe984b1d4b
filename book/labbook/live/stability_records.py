"""Live figures of chapter 3 that play what was recorded: units that settle in a training, and a race of two verifications."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import traitlets
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Picture
from numpy.typing import NDArray

from .figure import Figure, existing, module
from .gallery import BLUE, GREY, ORANGE
from .network import encoded
from .stability import HUES, Array, state_of


class SettlingUnits(Figure):
    """Units settling during training: the bounds (l, u) of every unit at recorded steps, a panel for each training.

    ``history`` maps 1 to 3 names to (records, units, 2) bounds with l <= u, at most 2,000 units in all; ``steps`` are the
    training steps of the records, ascending, by default 0, 1, ...; ``labels`` are titles in place of the names. The planes
    reach from -``reach`` to ``reach``, by default the 98th percentile of all bounds; units beyond sit on the frame.
    ``record`` (an index, by default the last) is the one shown; ``counts``, for each name (unstable, always active, always
    zero), come back from the page. Bounds are kept in half precision, which changes no sign and takes 5.4 bytes a pair.
    Raises ValueError for histories that do not fit together.

    >>> before, after = [[-1.0, 1.0], [-0.5, 2.0]], [[0.1, 1.0], [-0.5, 2.0]]
    >>> SettlingUnits({"with RS loss": [before, after]}).computed()  # unstable, always active, always zero
    [[1, 1, 0]]
    """

    _esm = module("plot.js", "player.js", "stability_parts.js", "settling_units.js")
    packed = traitlets.Unicode().tag(sync=True)
    sizes = traitlets.List().tag(sync=True)
    steps = traitlets.List().tag(sync=True)
    labels = traitlets.List().tag(sync=True)
    reach = traitlets.Float().tag(sync=True)
    record = traitlets.Int(0, min=0).tag(sync=True)
    counts = traitlets.List().tag(sync=True)

    def __init__(
        self,
        history: Mapping[str, Any],
        *,
        steps: Sequence[int] | None = None,
        labels: Sequence[str] | None = None,
        reach: float | None = None,
        **values: Any,
    ) -> None:
        names = list(history if labels is None else labels)
        if not 1 <= len(history) <= 3 or len(names) != len(history):
            raise ValueError(
                f"there are {len(history)} trainings and {len(names)} labels; the figure shows 1 to 3, each with one"
            )
        bounds = [np.asarray(b, float) for b in history.values()]
        records = len(bounds[0]) if steps is None else len(steps)
        for name, b in zip(history, bounds, strict=True):
            if b.ndim != 3 or b.shape[2] != 2 or b.shape[0] != records or not b.size:
                raise ValueError(f"the bounds of {name} are {b.shape}; they must be ({records} records, units, 2)")
            if not np.isfinite(b).all() or (b[..., 0] > b[..., 1]).any():
                raise ValueError(f"the bounds of {name} must be finite, with lower <= upper")
        if sum(b.shape[1] for b in bounds) > 2000:
            raise ValueError(f"there are {sum(b.shape[1] for b in bounds):,} units; the figure shows at most 2,000")
        at = [int(s) for s in (range(records) if steps is None else steps)]
        if any(a >= b for a, b in itertools.pairwise(at)):
            raise ValueError(f"steps are {at}; they must ascend")
        kept = [_halves(b) for b in bounds]
        self._bounds = [b.astype(float) for b in kept]
        if reach is None:
            reach = float(f"{np.quantile(np.abs(np.concatenate([b.ravel() for b in bounds])), 0.98):.2g}") or 1.0
        if not 0 < reach < math.inf:
            raise ValueError(f"reach is {reach}; it must be above 0")
        values.setdefault("record", records - 1)
        super().__init__(
            packed=encoded(np.concatenate([b.ravel() for b in kept])),
            sizes=[b.shape[1] for b in kept],
            steps=at,
            labels=names,
            reach=reach,
            **values,
        )

    @traitlets.validate("record")
    def _exists(self, proposal: Any) -> int:
        return existing(proposal, len(self.steps))

    def computed(self) -> list[list[int]]:
        """Units unstable, always active and always zero of each training at the present record, as the page counts them."""
        return [np.bincount(state_of(*b[self.record].T), minlength=3).tolist() for b in self._bounds]

    def describe(self) -> str:
        told = [
            f"{label} has {counts[0]} of {n} units unstable, {counts[1]} always active, {counts[2]} always zero"
            for label, n, counts in zip(self.labels, self.sizes, self.computed(), strict=True)
        ]
        return f"At training step {self.steps[self.record]:,}, {'; '.join(told)}."

    def still(self) -> Picture:
        picture = Picture(figsize=(7.2, 3.0 if len(self.labels) > 1 else 3.4), layout="constrained")
        axes: Any = picture.subplots(1, len(self.labels), squeeze=False)[0]
        for ax, label, b, counts in zip(axes, self.labels, self._bounds, self.computed(), strict=True):
            shown = b[self.record]
            ax.fill([-self.reach, 0, 0, -self.reach], [0, 0, self.reach, self.reach], color=ORANGE, alpha=0.14, linewidth=0)
            kinds = state_of(*shown.T)
            ax.scatter(*shown.clip(-self.reach, self.reach).T, 5, np.array([ORANGE, BLUE, GREY])[kinds].tolist(), alpha=0.7)
            ax.set(xlim=(-self.reach, self.reach), ylim=(-self.reach, self.reach), xlabel="lower bound l", aspect="equal")
            ax.set_title(f"{label}: {counts[0]} unstable", fontsize=9)
        axes[0].set_ylabel("upper bound u")
        picture.suptitle(f"step {self.steps[self.record]:,}", fontsize=9)
        return picture


def _halves(bounds: Array) -> NDArray[np.float16]:
    """In half precision, with every sign kept: what would become 0 or infinite becomes the number next to it."""
    kept = bounds.clip(-65504, 65504).astype("<f2")
    return np.where((kept == 0) & (bounds != 0), np.copysign(np.float16(2**-24), bounds), kept).astype("<f2")


class Race(Figure):
    """Inputs decided within so many CPU seconds, one after another, with a step curve for each verifier or network.

    ``times`` maps 1 to 8 names to ``{"seconds": [...], "decided": [...]}``, one number and one boolean for each of at most
    10,000 inputs; an input that is not decided never counts, but its time enters the mean. ``limit`` (seconds) ends the
    axis, by default the longest time; inputs faster than the axis' start count there. ``seconds`` is the time read at, by
    default the limit; ``shares`` decided by then come back from the page, which plays the race: each input is a cell that
    turns green at the first stop of the slider after its recorded time. The median is the time by which half of *all*
    inputs are decided, None if they never are.

    Thinned: of a curve's steps at most about 200 are sent, each exact: the last before every stop of the slider, so that
    what is read there is exact, and others evenly by rank. Between them the curve shows up to a hundredth too little.
    Mean and median are of all times.
    Raises ValueError for times that do not fit together.

    >>> Race({"A": {"seconds": [1, 2, 9], "decided": [True, True, False]}, "B": {"seconds": [4, 4, 4], "decided": [True] * 3}})
    Race: Inputs decided within 9 CPU seconds: A 66.7 % (2 of 3, mean 4 s); B 100.0 % (3 of 3, mean 4 s).
    """

    _esm = module("plot.js", "player.js", "stability_parts.js", "race.js")
    KEPT = 100  #: steps by rank; and there are at most as many stops
    curves = traitlets.List().tag(sync=True)
    stops = traitlets.List().tag(sync=True)
    seconds = traitlets.Float().tag(sync=True)
    shares = traitlets.List().tag(sync=True)

    def __init__(self, times: Mapping[str, Mapping[str, Any]], *, limit: float | None = None, **values: Any) -> None:
        if not 1 <= len(times) <= 8:
            raise ValueError(f"there are {len(times)} curves; the figure tells 1 to 8 apart")
        timed = {name: _timed(name, **each) for name, each in times.items()}
        seconds = np.concatenate([s for s, _ in timed.values()])
        end = float(seconds.max() or 1.0) if limit is None else float(limit)
        if not 0 < end < math.inf:
            raise ValueError(f"limit is {limit}; it must be a number of seconds above 0")
        least = min(float(np.quantile(seconds[seconds > 0], 0.01)) if seconds.any() else end, end / 10)
        start = 10.0 ** math.floor(math.log10(max(least, 1e-7 * end)))
        between = np.geomspace(start, end, min(self.KEPT, 1 + math.ceil(12 * math.log10(end / start)))).tolist()
        stops = sorted({start, *(v for s in between if start < (v := float(f"{s:.2g}")) < end), end})
        super().__init__(
            curves=[{"name": name} | self._curve(*each, np.array(stops)) for name, each in timed.items()],
            stops=stops,
            **{"seconds": end, **values},
        )

    @traitlets.validate("seconds")
    def _positive(self, proposal: Any) -> float:
        if not self.stops[0] <= proposal["value"] <= self.stops[-1]:
            raise traitlets.TraitError(f"seconds is {proposal['value']}; it must be from {self.stops[0]} to {self.stops[-1]}")
        return proposal["value"]

    def _curve(self, seconds: Array, decided: NDArray[np.bool_], stops: Array) -> dict[str, Any]:
        """What the page needs of one curve: its steps that are kept, n, median and mean."""
        done, n = np.sort(seconds[decided]), len(seconds)
        steps, last = np.unique(done.clip(min=stops[0])[done <= stops[-1]], return_index=True)
        count = np.append(last[1:], (done <= stops[-1]).sum())[: len(steps)]
        ranks = np.searchsorted(count, np.linspace(0, count[-1] if len(count) else 0, self.KEPT))
        kept = np.unique(np.append(np.searchsorted(steps, stops, "right") - 1, ranks))
        kept = kept[(kept >= 0) & (kept < len(steps))]
        half = math.ceil(n / 2) - 1
        first = np.searchsorted(stops * (1 + 1e-12), seconds).astype(np.uint8)
        return {
            "when": encoded(np.where(decided & (seconds <= stops[-1] * (1 + 1e-12)), first, 255).astype(np.uint8)),
            "at": steps[kept].tolist(),
            "count": count[kept].tolist(),
            "n": n,
            "median": float(done[half]) if half < len(done) else None,
            "mean": float(seconds.mean()),
        }

    def computed(self) -> list[int]:
        """How many inputs each has decided by the present time, as the page finds them."""
        found = [np.searchsorted(curve["at"], self.seconds * (1 + 1e-12), "right") for curve in self.curves]
        return [curve["count"][k - 1] if k else 0 for curve, k in zip(self.curves, found, strict=True)]

    def describe(self) -> str:
        told = [
            f"{c['name']} {100 * k / c['n']:.1f} % ({k:,} of {c['n']:,}, mean {c['mean']:.2g} s)"
            for c, k in zip(self.curves, self.computed(), strict=True)
        ]
        return f"Inputs decided within {self.seconds:.3g} CPU seconds: {'; '.join(told)}."

    def still(self) -> Picture:
        picture = Picture(figsize=(6.0, 3.2), layout="constrained")
        ax: Axes = picture.subplots()
        for k, c in enumerate(self.curves):
            at, share = [self.stops[0], *c["at"], self.stops[-1]], np.array([0, *c["count"], (c["count"] or [0])[-1]]) / c["n"]
            ax.step(at, share, where="post", color=HUES[k % 4], linestyle="-" if k < 4 else "--", label=c["name"])
        ax.axvline(self.seconds, color="black", linestyle="--", linewidth=1)
        ax.set_xscale("log")
        ax.set(xlabel="CPU seconds", ylabel="share of inputs decided", ylim=(-0.02, 1.02), xlim=(self.stops[0], self.stops[-1]))
        ax.legend(fontsize=8)
        return picture


def _timed(name: str, seconds: Any = (), decided: Any = (), **other: Any) -> tuple[Array, NDArray[np.bool_]]:
    """Seconds and verdicts of one curve as arrays (n,), checked."""
    at, done = np.asarray(seconds, float), np.asarray(decided)
    if other or at.ndim != 1 or at.shape != done.shape or not 1 <= len(at) <= 10_000:
        raise ValueError(f"{name} needs lists 'seconds' and 'decided' of one length, 1 to 10,000, and nothing else")
    if not (np.isfinite(at) & (at >= 0)).all() or not np.isin(done, (0, 1)).all():
        raise ValueError(f"{name}: seconds must be finite and at least 0, decided true or false")
    return at, done.astype(bool)
