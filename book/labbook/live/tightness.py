"""The live figure of chapter 3 on where bounds lose: their mean width, layer by layer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
import traitlets
from matplotlib.figure import Figure as Picture
from torch import Tensor, nn

from advlab import stability

from .figure import Figure, existing, module
from .gallery import BLUE, GREEN, GREY
from .stability import Array

WAYS = ("intervals", "CROWN", "what samples reach")


def mean_widths(
    net: nn.Module, x: Tensor, eps: float, *, samples: int = 200, generator: torch.Generator | None = None
) -> Array:
    """Mean widths (3, layers) of what enters each ReLU layer, and of the logits, over all units and all images ``x``.

    By interval arithmetic, by CROWN, and of what ``samples`` points of each ball reach, half of them corners. ``net`` is an
    ``nn.Sequential`` with plain ReLUs, ``x`` (n, ...) in [0, 1].
    Guarantee: the true mean width lies between the third row and each of the others, up to rounding.
    Raises ValueError where CROWN leaves out units, as it does for those that a network has pruned.

    >>> net = nn.Sequential(nn.Linear(2, 2, bias=False), nn.ReLU(), nn.Linear(2, 1, bias=False)).eval()
    >>> for p, weight in zip(net.parameters(), ([[1.0, 1.0], [1.0, -1.0]], [[1.0, -1.0]]), strict=True):
    ...     _ = p.data.copy_(torch.tensor(weight))
    >>> [[round(float(v), 2) for v in row] for row in mean_widths(net, torch.tensor([[0.5, 0.5]]), 0.25)[:2]]
    [[1.0, 1.5], [1.0, 1.25]]
    """
    found = []
    with torch.no_grad():
        for method in ("naive", "crown"):
            bounds = stability.interval_bounds(net, x, eps, method)
            found.append([(high - low).flatten(1) for low, high in bounds])
        if [w.shape for w in found[0]] != [w.shape for w in found[1]]:
            raise ValueError("CROWN leaves out units of this network, such as pruned ones: the means would be of others")
        uniform = torch.rand(len(x), samples, *x.shape[1:], generator=generator).to(x) * 2 - 1
        uniform[:, ::2] = uniform[:, ::2].sign()
        at = (x[:, None] + eps * uniform).clamp(0, 1).flatten(0, 1)
        seen = []
        for layer in stability.bounds.layers(net):
            if isinstance(layer, nn.ReLU):
                seen.append(at)
            at = layer(at)
        reached = [v.view(len(x), samples, -1) for v in (*seen, at)]
        found.append([v.amax(1) - v.amin(1) for v in reached])
    return np.array([[float(w.double().mean()) for w in row] for row in found])


class Tightness(Figure):
    """Where bounds lose: mean widths of what enters each layer by intervals, by CROWN, and as samples reach them.

    ``nets`` maps names to networks that :func:`mean_widths` takes, ``x`` (n, ...) are a few images; all is computed here,
    for each of the ``budgets``. ``network`` (a name) and ``budget`` (an index) are the ones shown; ``found`` comes back from
    the page: how many times as wide as the samples the intervals' and CROWN's logits are.
    Raises ValueError without networks or budgets, and as :func:`mean_widths`.

    >>> net = nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 2)).eval()
    >>> np.array(Tightness({"one": net}, torch.tensor([[0.5, 0.5]]), [0.1, 0.2]).networks[0]["widths"]).shape
    (2, 3, 2)
    """

    _esm = module("plot.js", "stability_parts.js", "tightness.js")
    networks = traitlets.List().tag(sync=True)
    budgets = traitlets.List().tag(sync=True)
    network = traitlets.Unicode().tag(sync=True)
    budget = traitlets.Int(0, min=0).tag(sync=True)
    found = traitlets.List().tag(sync=True)

    def __init__(
        self,
        nets: Mapping[str, nn.Module],
        x: Tensor,
        budgets: Sequence[float],
        *,
        samples: int = 200,
        seed: int = 0,
        **values: Any,
    ) -> None:
        if not nets or not len(budgets) or not min(budgets) > 0:
            raise ValueError(f"there are {len(nets)} networks and the budgets {list(budgets)}; one of each is needed, above 0")

        def widths(net: nn.Module, eps: float) -> list[list[float]]:
            found = mean_widths(net, x, eps, samples=samples, generator=torch.Generator().manual_seed(seed))
            return [[float(f"{v:.6g}") for v in row] for row in found]

        held = [{"name": name, "widths": [widths(net, eps) for eps in budgets]} for name, net in nets.items()]
        start = {"network": next(iter(nets)), "budget": len(budgets) - 1}
        super().__init__(networks=held, budgets=[float(eps) for eps in budgets], **(start | values))

    @traitlets.validate("network")
    def _known(self, proposal: Any) -> str:
        names = [n["name"] for n in self.networks]
        if names and proposal["value"] not in names:
            raise traitlets.TraitError(f"network is {proposal['value']!r}; it must be one of {names}")
        return proposal["value"]

    @traitlets.validate("budget")
    def _measured(self, proposal: Any) -> int:
        return existing(proposal, len(self.budgets) or 1 << 30)

    def widths(self) -> Array:
        """The mean widths shown, (3, layers)."""
        return np.array(next(n for n in self.networks if n["name"] == self.network)["widths"][self.budget])

    def describe(self) -> str:
        intervals, crown, reached = self.widths()
        told = "; ".join(
            f"{a:.3g} by intervals, {b:.3g} by CROWN, {c:.3g} in samples"
            for a, b, c in zip(intervals, crown, reached, strict=True)
        )
        return (
            f"Mean widths of what enters each layer of the network {self.network} within {self.budgets[self.budget]:.3g} of an "
            f"image, from the first ReLU layer to the logits: {told}."
        )

    def still(self) -> Picture:
        picture = Picture(figsize=(6.0, 3.0), layout="constrained")
        ax = picture.subplots()
        widths = self.widths()
        at = range(1, widths.shape[1] + 1)
        for row, name, hue, dash in zip(widths, WAYS, (GREY, BLUE, GREEN), ("-", "-", "--"), strict=True):
            ax.plot(at, row, marker="o", linestyle=dash, color=hue, label=name)
        ax.set_yscale("log")
        ax.set_xticks(list(at), [*(f"layer {k}" for k in at[:-1]), "the logits"])
        ax.set(ylabel="mean width", title=f"{self.network}, ε = {self.budgets[self.budget]:.3g}")
        ax.legend(fontsize=8)
        return picture
