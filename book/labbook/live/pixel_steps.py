"""The live figure of chapter 2 on the steps of a squeezer: which pixels a budget can push across one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import traitlets
from matplotlib.figure import Figure as Picture
from torch import Tensor

from .figure import Figure, module
from .gallery import BLUE, GREEN, GREY, ORANGE
from .network import encoded, pixels_of


class PixelSteps(Figure):
    """Histograms of the pixel values of one or two pictures, the steps of a bit depth, and the values a budget pushes across.

    ``pictures`` maps names, such as "the digit", to images (c, h, w) in multiples of 1/255, of one channel or three;
    ``bits`` (1 to 8) is the depth, ``budget`` (0 to 128) the attacker's budget for each value, times 255. A value is pushed
    across a step if some change within the budget and [0, 1] gives it another level. ``pushed`` comes back from the page:
    how many values of each picture can be.

    Guarantee: exact counts, since levels only rise with the value and no step lies on a multiple of 1/255.
    Raises ValueError for other pictures.

    >>> import torch
    >>> figure = PixelSteps({"the strip": torch.tensor([[[0, 120, 127, 200, 255]]]) / 255}, bits=1, budget=8)
    >>> figure.computed()  # 120 + 8 and 127 + 8 lie above 127.5
    [2]
    """

    _esm = module("plot.js", "squeezing_math.js", "squeezing_parts.js", "pixel_steps.js")
    pictures = traitlets.List().tag(sync=True)
    bits = traitlets.Int(1, min=1, max=8).tag(sync=True)
    budget = traitlets.Int(8, min=0, max=128).tag(sync=True)
    pushed = traitlets.List().tag(sync=True)

    def __init__(self, pictures: Mapping[str, Tensor], **values: Any) -> None:
        if not 1 <= len(pictures) <= 2:
            raise ValueError(f"there are {len(pictures)} pictures; the figure shows one or two")
        for name, x in pictures.items():
            if x.ndim != 3 or x.shape[0] not in (1, 3):
                raise ValueError(f"{name} is {tuple(x.shape)}; it must be (c, h, w), of one channel or three")
        self._pixels = {name: pixels_of(x, name).numpy() for name, x in pictures.items()}
        super().__init__(
            pictures=[{"name": name, "shape": list(p.shape), "pixels": encoded(p)} for name, p in self._pixels.items()],
            **values,
        )

    def _can(self, pixels: np.ndarray) -> np.ndarray:
        """Which of the bytes ``pixels`` the budget pushes across a step."""
        levels, at = 2**self.bits - 1, pixels.astype(int)
        return np.rint((at - self.budget).clip(0) / 255 * levels) != np.rint((at + self.budget).clip(max=255) / 255 * levels)

    def computed(self) -> list[int]:
        """How many values of each picture can be pushed, as the page finds them."""
        return [int(self._can(p).sum()) for p in self._pixels.values()]

    def describe(self) -> str:
        told = [
            f"{k:,} of the {p.size:,} values of {name} ({100 * k / p.size:.1f} %)"
            for k, (name, p) in zip(self.computed(), self._pixels.items(), strict=True)
        ]
        depth = f"{self.bits} bit{'s' * (self.bits > 1)}"
        return f"With {depth} and a budget of {self.budget}/255 an attacker can push across a step {' and '.join(told)}."

    def still(self) -> Picture:
        picture = Picture(figsize=(7.2, 2.1 * len(self._pixels)), layout="constrained")
        axes = picture.subplots(len(self._pixels), 2, width_ratios=[1, 3], squeeze=False)
        for (left, right), (name, pixels), hue in zip(axes, self._pixels.items(), (BLUE, GREEN), strict=False):
            shown = np.repeat(pixels, 3 // len(pixels), 0).transpose(1, 2, 0) / 255
            marked = self._can(pixels).any(0)
            shown[marked] = 0.25 * shown[marked] + 0.75 * np.array([0.94, 0.5, 0.1])
            left.imshow(shown)
            left.set_axis_off()
            left.set_title(name, fontsize=9)
            counts, can = np.bincount(pixels.ravel(), minlength=256), self._can(np.arange(256))
            for step in 255 * (np.arange(2**self.bits - 1) + 0.5) / (2**self.bits - 1):
                right.axvspan(step - self.budget, step + self.budget, color=GREY, alpha=0.15, linewidth=0)
                right.axvline(step, color="black", linestyle="--", linewidth=0.6)
            right.bar(range(256), counts, 1, color=[ORANGE if c else hue for c in can])
            right.set_yscale("symlog")
            right.set(xlim=(-1, 256), ylabel="how many")
        axes[-1, 1].set_xlabel("pixel value, of 255; orange: can be pushed across a step")
        return picture
