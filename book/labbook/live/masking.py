"""The live figures of chapter 4, Random Mask."""

from __future__ import annotations

import base64
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
import traitlets
from matplotlib.figure import Figure as Picture
from torch import Tensor

from .figure import Figure, module
from .gallery import BLUE, ORANGE, uniforms
from .network import encoded, pixels_of

PERIODS = (1, 2, 4, 8, 16, 32)
EDGE = (-1.0, 0.0, 1.0) * 3  #: a filter that answers where a map grows to the right


class MaskedMaps(Figure):
    """One filter on a masked feature map, at two places that see the same pattern; and what a move does to all maps.

    ``x`` (n, c, h, h) in multiples of 1/255, with a power of 2 as side; ``weight`` (k, c, 3, 3) and ``bias`` (k,) of a
    convolution, whose pictures wrap around here, so that nothing but the mask can break the symmetry of moves; ``names`` (n)
    of the pictures. ``drop`` (0 to 0.95) is the share masked, drawn in tiles of side ``period``, exactly
    round(drop period^2) in each, or in whole channels with period 1; ``shift`` the move to the right in pixels; ``example``
    and ``channel`` say what is shown. A filter of nine ``taps`` (row by row) reads the channel's map around ``place`` (row,
    column), by default where its answer without masks is the largest, and around the same pattern after the move.
    ``answers`` come back from the page: without a mask, with it at the first place, and at the second; and ``error``:
    ``|f(Sx) - S f(x)| / |f(x)|`` over all channels.
    Raises ValueError for arrays that do not fit together.

    >>> x, weight = (torch.arange(256.0) / 255).view(1, 1, 16, 16), torch.ones(1, 1, 3, 3) / 9
    >>> errors = MaskedMaps(x, weight, torch.zeros(1), ["a ramp"], period=4).computed()[2]  # of a move by 0, 1, ... pixels
    >>> [shift for shift in range(16) if errors[shift] < 1e-9]  # moves by multiples of the period change nothing else
    [0, 4, 8, 12]
    """

    _esm = module("plot.js", "squeezing_math.js", "squeezing_parts.js", "masked_maps.js")
    images = traitlets.Unicode().tag(sync=True)
    shape = traitlets.List().tag(sync=True)
    weight = traitlets.List().tag(sync=True)
    bias = traitlets.List().tag(sync=True)
    names = traitlets.List().tag(sync=True)
    seed = traitlets.Int(0).tag(sync=True)
    example = traitlets.Int(0, min=0).tag(sync=True)
    channel = traitlets.Int(0, min=0).tag(sync=True)
    drop = traitlets.Float(0.5, min=0.0, max=0.95).tag(sync=True)
    period = traitlets.Int(1).tag(sync=True)
    shift = traitlets.Int(1, min=0).tag(sync=True)
    place = traitlets.List(traitlets.Int(min=0), minlen=2, maxlen=2).tag(sync=True)
    taps = traitlets.List(traitlets.Float(), list(EDGE), minlen=9, maxlen=9).tag(sync=True)
    answers = traitlets.List().tag(sync=True)
    error = traitlets.Float(0.0).tag(sync=True)

    def __init__(self, x: Tensor, weight: Tensor, bias: Tensor, names: Sequence[str], **values: Any) -> None:
        side = x.shape[-1]
        if x.ndim != 4 or x.shape[2] != side or side & (side - 1) or not len(x) == len(names) > 0:
            raise ValueError(f"x is {tuple(x.shape)} with {len(names)} names; it must be (n, c, h, h), h a power of 2, n names")
        if weight.shape != (needed := (len(bias), x.shape[1], 3, 3)):
            raise ValueError(f"weight is {tuple(weight.shape)}; with {len(bias)} biases it must be {needed}")
        pixels = pixels_of(x, "x").numpy()
        self._x = pixels / 255
        own = "place" not in values
        super().__init__(
            images=base64.b64encode(pixels.tobytes()).decode(),
            shape=list(x.shape[1:]),
            weight=weight.detach().double().flatten().tolist(),
            bias=bias.detach().double().tolist(),
            names=list(names),
            **({"place": [0, 0]} | values),
        )
        if own:
            free = self._read(self._maps()[self.channel].clip(0))
            self.place = [int(v) for v in np.unravel_index(np.abs(free).argmax(), free.shape)]
            self.alt = self.describe()

    @traitlets.validate("place")
    def _inside(self, proposal: Any) -> list[int]:
        if self.shape and max(proposal["value"]) >= self.shape[1]:
            raise traitlets.TraitError(f"place is {proposal['value']}; it must be below {self.shape[1]} in both")
        return proposal["value"]

    @traitlets.validate("example", "channel", "shift", "period")
    def _possible(self, proposal: Any) -> int:
        name, value, side = proposal["trait"].name, proposal["value"], self.shape[1] if self.shape else 1 << 30
        most = {"example": len(self.names) or 1 << 30, "channel": len(self.bias) or 1 << 30, "shift": side}
        if name == "period" and (value not in PERIODS or value > side):
            raise traitlets.TraitError(f"period is {value}; it must be one of {PERIODS}, at most the side of the picture")
        if name != "period" and value >= most[name]:
            raise traitlets.TraitError(f"{name} is {value}; it must be below {most[name]}")
        return value

    def kept(self) -> np.ndarray:
        """Which values the masks keep, (channels, h, h) bool."""
        channels, side, q = len(self.bias), self.shape[1], self.period
        numbers = uniforms(channels * q * q, self.seed).reshape(channels, q * q)
        if q == 1:
            numbers = numbers.T
        zeros = math.floor(self.drop * numbers.shape[1] + 0.5)
        tiles = np.ones(numbers.shape, bool)
        np.put_along_axis(tiles, numbers.argsort(1, kind="stable")[:, :zeros], False, 1)
        tiles = tiles.T[:, :, None] if q == 1 else tiles.reshape(channels, q, q)
        return np.tile(tiles.reshape(channels, q, q), (1, side // q, side // q))

    def _maps(self) -> np.ndarray:
        """The convolution of the present picture, (k, h, h)."""
        x = self._x[self.example]
        weight = np.array(self.weight).reshape(len(self.bias), len(x), 3, 3)
        return np.array(self.bias)[:, None, None] + sum(
            np.einsum("kc,chw->khw", weight[:, :, r, s], np.roll(x, (1 - r, 1 - s), (1, 2))) for r in range(3) for s in range(3)
        )

    def _read(self, values: np.ndarray) -> np.ndarray:
        """What the filter answers at each place of a map (h, h)."""
        taps = np.array(self.taps).reshape(3, 3)
        return sum((taps[r, s] * np.roll(values, (1 - r, 1 - s), (0, 1)) for r in range(3) for s in range(3)), 0 * values)

    def computed(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Maps of the moved picture, moved maps of the picture, both (k, h, h), and the error of each move (h,)."""
        maps, kept = self._maps(), self.kept()

        def layer(by: int) -> np.ndarray:
            return np.roll(maps, by, 2).clip(0) * kept

        still = layer(0)
        size = np.linalg.norm(still)
        errors = [np.linalg.norm(layer(by) - np.roll(still, by, 2)) / size if size else 0.0 for by in range(self.shape[1])]
        return layer(self.shift), np.roll(still, self.shift, 2), np.array(errors)

    def looked(self) -> tuple[float, float, float]:
        """What the filter answers: without a mask, with it at the first place, and at the second, as the page finds it."""
        free, kept = self._maps()[self.channel].clip(0), self.kept()[self.channel]
        (row, column), shift = self.place, self.shift
        moved = self._read(np.roll(free, shift, 1) * kept)[row, (column + shift) % self.shape[1]]
        return float(self._read(free)[row, column]), float(self._read(free * kept)[row, column]), float(moved)

    def describe(self) -> str:
        error, (free, first, second) = self.computed()[2][self.shift], self.looked()
        changes = f"changes them by {100 * error:.0f} % of their size"
        effect = changes if error > 1e-9 else "moves them along and changes nothing else"
        return (
            f"A filter reads a feature map of the picture {self.names[self.example]} around one pattern, before the picture "
            f"moves by {self.shift} and after: without masks it answers {free:.2g} at both places, and {first:.2g} and "
            f"{second:.2g} behind masks that drop {self.drop:.2f} of the values with period {self.period}. For all maps, the "
            f"move {effect}."
        )

    def still(self) -> Picture:
        (row, column), h, shift = self.place, self.shape[1], self.shift
        free, kept = self._maps()[self.channel].clip(0), self.kept()[self.channel]
        picture = Picture(figsize=(7.2, 3.9), layout="constrained")
        axes = picture.subplot_mosaic([["x", "one", "other", "taps"], ["errors"] * 4], height_ratios=[3, 2])
        shown = self._x[self.example].transpose(1, 2, 0)
        axes["x"].imshow(shown if shown.shape[2] == 3 else shown[..., 0], cmap="gray")
        for at, hue in ((column, ORANGE), (column + shift, BLUE)):
            axes["x"].plot([at % h], [row], "s", markersize=9, markerfacecolor="none", color=hue)
        rows = (row + np.arange(-1, 2)) % h
        pattern, (_, *answers) = free[np.ix_(rows, (column + np.arange(-1, 2)) % h)], self.looked()
        for name, by, answer in zip(("one", "other"), (0, shift), answers, strict=True):
            seen = kept[np.ix_(rows, (column + by + np.arange(-1, 2)) % h)]
            axes[name].imshow(np.where(seen, pattern, np.nan), cmap="Greys", vmin=0, vmax=1.5 * pattern.max() + 1e-12)
            for (r, s), v in np.ndenumerate(pattern):
                axes[name].text(s, r, f"{v:.2g}" if seen[r, s] else "blind", ha="center", va="center", fontsize=8)
            axes[name].set_title(f"{'moved by ' + str(by) if name == 'other' else 'first place'}: {answer:.2g}", fontsize=8)
        taps = np.array(self.taps).reshape(3, 3)
        axes["taps"].imshow(taps, cmap="PuOr_r", vmin=-2 * np.abs(taps).max() - 1e-12, vmax=2 * np.abs(taps).max() + 1e-12)
        for (r, s), v in np.ndenumerate(taps):
            axes["taps"].text(s, r, f"{v:.2g}", ha="center", va="center", fontsize=8)
        axes["x"].set_title("the two places", fontsize=8)
        axes["taps"].set_title("the filter", fontsize=8)
        for name in ("x", "one", "other", "taps"):
            axes[name].set(xticks=[], yticks=[])
        errors = self.computed()[2]
        axes["errors"].plot(errors, color=BLUE)
        axes["errors"].plot(shift, errors[shift], "o", color="black")
        axes["errors"].set(xlabel="move, in pixels", ylabel="change of all maps", ylim=(0, 1.5))
        return picture


class BlindTest(Figure):
    """The reader names the class of adversarial images without knowing who made them; then the makers are shown.

    ``made[maker]`` (budgets, n, 3, h, h) are images in multiples of 1/255, one a budget (of 255) and test image, in the
    order of ``budgets``; ``y`` (n,) their true labels, out of ``classes``; ``panel[maker]`` (budgets, n) the class that a
    panel of other networks names, -1 where it does not agree. Each image of each maker is a trial. ``budget`` is an index,
    ``seed`` draws the order of the trials, ``answers`` (a class each, in that order) and ``revealed`` come back from the
    page, which starts again whenever ``budget`` or ``seed`` changes.
    Raises ValueError for arrays that do not fit together.

    >>> x, panel = torch.zeros(1, 1, 3, 8, 8), torch.tensor([[-1]])
    >>> figure = BlindTest({"A": x, "B": x}, torch.tensor([1]), ["cat", "dog"], [4], {"A": panel, "B": panel})
    >>> print(figure.describe().partition(":")[0])
    A blind test with 1 images of each maker, all within 4/255 of a test image
    """

    _esm = module("squeezing_parts.js", "blind_test.js")
    images = traitlets.Unicode().tag(sync=True)
    shape = traitlets.List().tag(sync=True)
    makers = traitlets.List().tag(sync=True)
    classes = traitlets.List().tag(sync=True)
    labels = traitlets.List().tag(sync=True)
    budgets = traitlets.List().tag(sync=True)
    panel = traitlets.List().tag(sync=True)
    seed = traitlets.Int(0).tag(sync=True)
    budget = traitlets.Int(0, min=0).tag(sync=True)
    answers = traitlets.List(traitlets.Int(min=0)).tag(sync=True)
    revealed = traitlets.Bool(False).tag(sync=True)

    def __init__(
        self,
        made: Mapping[str, Tensor],
        y: Tensor,
        classes: Sequence[str],
        budgets: Sequence[int],
        panel: Mapping[str, Tensor],
        **values: Any,
    ) -> None:
        if not made or set(made) != set(panel):
            raise ValueError(f"made has {list(made)} and panel {list(panel)}; both need the same makers, at least one")
        n, first = len(y), next(iter(made.values()))
        side = first.shape[-1] if first.ndim else 0
        shape = (len(budgets), n, 3, side, side)
        for maker, x in made.items():
            if x.shape != shape or 0 in shape:
                raise ValueError(
                    f"made[{maker!r}] is {tuple(x.shape)}; with {len(budgets)} budgets and {n} labels it must be "
                    f"{shape[:3]} and two equal sides, the same for all makers, and not empty"
                )
            if panel[maker].shape != shape[:2]:
                raise ValueError(f"panel[{maker!r}] is {tuple(panel[maker].shape)}; it must be (budgets, n), here {shape[:2]}")
        for name, named, least in (("y", y, 0), *((f"panel[{maker!r}]", v, -1) for maker, v in panel.items())):
            if named.is_floating_point() or named.min() < least or named.max() >= len(classes):
                raise ValueError(
                    f"{name} must hold whole numbers from {least} to {len(classes) - 1}, a class each of {classes}"
                )
        pixels = torch.stack([pixels_of(x, f"made[{maker!r}]") for maker, x in made.items()]).numpy()
        self._made = pixels  # (makers, budgets, n, 3, h, h)
        super().__init__(
            images=encoded(pixels),
            shape=list(pixels.shape),
            makers=list(made),
            classes=list(classes),
            labels=y.tolist(),
            budgets=[int(b) for b in budgets],
            panel=[panel[maker].tolist() for maker in made],
            **values,
        )

    @traitlets.validate("budget")
    def _offered(self, proposal: Any) -> int:
        if proposal["value"] >= len(self.budgets):
            raise traitlets.TraitError(f"budget is {proposal['value']}; it is an index, below {len(self.budgets)}")
        return proposal["value"]

    @traitlets.validate("answers")
    def _given(self, proposal: Any) -> list[int]:
        answers, most, trials = proposal["value"], len(self.classes), len(self.makers) * len(self.labels)
        if len(answers) > trials or any(k >= most for k in answers):
            raise traitlets.TraitError(f"answers is {answers}; it must be at most {trials} classes, each below {most}")
        return answers

    def describe(self) -> str:
        n, labels = len(self.labels), np.array(self.labels)
        named = np.array(self.panel)[:, self.budget]  # (makers, n)
        turned = ((named >= 0) & (named != labels)).sum(1)
        told = ", ".join(f"{k} ({maker})" for maker, k in zip(self.makers, turned, strict=True))
        return (
            f"A blind test with {n} images of each maker, all within {self.budgets[self.budget]}/255 of a test image: "
            f"a panel of other networks takes for another class {told}."
        )

    def still(self) -> Picture:
        made = self._made[:, self.budget, :6]  # (makers, up to 6, 3, h, h)
        rows, columns = made.shape[:2]
        picture = Picture(figsize=(1.2 * max(columns, 4), 1.42 * rows), layout="constrained")
        axes = picture.subplots(rows, columns, squeeze=False)
        for row, maker, images in zip(axes, self.makers, made, strict=True):
            for ax, image in zip(row, images, strict=True):
                ax.imshow(image.transpose(1, 2, 0))
                ax.set_axis_off()
            row[0].set_title(maker, fontsize=9, loc="left")
        return picture
