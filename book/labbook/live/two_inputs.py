"""The live figure of chapter 3 on a network of two inputs: bounds on its margin in a box, and what it does there exactly.

The page computes in stability_math.js what is computed here in NumPy: bounds as :mod:`advlab.stability` has them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import traitlets
from matplotlib.collections import PolyCollection
from matplotlib.figure import Figure as Picture
from torch import nn

from .figure import Figure, module
from .gallery import BLUE, GREY
from .stability import HUES, Array, state_of

Layers = list[tuple[Array, Array]]  #: weight (out, in) and bias (out,) of each linear layer


@dataclass(frozen=True)
class BoxAnswer:
    """What a network of two inputs does in a box: bounds on its least margin, and the exact one.

    >>> net = nn.Sequential(nn.Linear(2, 4), nn.ReLU(), nn.Linear(4, 2)).double()
    >>> interval, crown, exact = TwoInputs(net, [0.5, 0.5], 0).computed().margins
    >>> interval <= exact + 1e-9 and crown <= exact + 1e-9
    True
    """

    label: int  #: the class predicted at the centre
    margins: tuple[float, float, float]  #: the least margin of that class by intervals, by CROWN, exactly
    unstable: tuple[int, int, int]  #: ReLUs unstable by intervals, by CROWN, and those that do switch in the box
    regions: int  #: pieces of the box on which no ReLU switches
    worst: tuple[float, float]  #: where the margin is least


class TwoInputs(Figure):
    """A network of two inputs: its linear regions, and the least margin over a box by intervals, by CROWN, and exactly.

    ``nets`` is an ``nn.Sequential`` of Linear, ReLU, ..., Linear with 2 inputs, at most 64 ReLUs and 2 to 8 classes, or a
    dict of some of the same classes, name -> network, to choose from. ``x`` (2,) or (n, 2), n at most 500, in [0, 1], with
    labels ``y``, are drawn as dots; the box starts around the first. It is all points within ``eps`` (0 to ``eps_max``, which
    is at most 1) of ``point`` (linf) and in [0, 1]; ``network`` is the name of the network shown. The margin is that of the
    class predicted at ``point`` over each other class, in float64. ``found`` comes back from the page: that class, the three
    least margins, the numbers of unstable ReLUs by the three, the number of linear regions; see :class:`BoxAnswer`.

    Guarantee: both bounds are sound and the exact answer is exact, up to rounding in float64; a ReLU that exceeds 0 by less
    than 1e-12 does not switch.
    Raises ValueError for other networks, inputs or budgets.

    >>> import torch
    >>> net = nn.Sequential(nn.Linear(2, 2, bias=False), nn.ReLU(), nn.Linear(2, 2, bias=False)).double()
    >>> _ = [nn.init.eye_(p) for p in net.parameters()]  # its logits are the two inputs
    >>> [round(float(v), 2) for v in TwoInputs(net, [0.8, 0.3], 0, eps=0.1).computed().margins]  # 0.5 - 2 eps, by all three
    [0.3, 0.3, 0.3]
    """

    _esm = module("plot.js", "stability_parts.js", "stability_math.js", "two_inputs.js")
    networks = traitlets.List().tag(sync=True)
    network = traitlets.Unicode().tag(sync=True)
    data = traitlets.List().tag(sync=True)
    labels = traitlets.List().tag(sync=True)
    point = traitlets.List(traitlets.Float(min=0.0, max=1.0), minlen=2, maxlen=2).tag(sync=True)
    eps = traitlets.Float(0.1, min=0.0).tag(sync=True)
    eps_max = traitlets.Float(0.3).tag(sync=True)
    found = traitlets.List().tag(sync=True)

    def __init__(
        self,
        nets: nn.Module | Mapping[str, nn.Module],
        x: Any,
        y: Any,
        *,
        eps: float = 0.1,
        eps_max: float = 0.3,
        **values: Any,
    ) -> None:
        named = {"the network": nets} if isinstance(nets, nn.Module) else dict(nets)
        self._layers = {name: _dense(name, net) for name, net in named.items()}
        classes = {len(layers[-1][1]) for layers in self._layers.values()}
        if len(classes) != 1:
            raise ValueError(
                f"there are {len(named)} networks of {sorted(classes)} classes; one is needed, all of the same classes"
            )
        data, labels = np.atleast_2d(np.asarray(x, float)), np.atleast_1d(np.asarray(y))
        if data.shape != (len(labels), 2) or not 1 <= len(data) <= 500 or not ((data >= 0) & (data <= 1)).all():
            raise ValueError(
                f"x is {np.shape(x)} with {labels.size} labels; it must be (2,) or (n, 2), n at most 500, in [0, 1]"
            )
        if labels.ndim != 1 or not np.isin(labels, range(*classes)).all():
            raise ValueError(f"y must hold classes from 0 to {max(classes) - 1}, one for each input")
        if not 0 <= eps <= eps_max <= 1 or not eps_max > 0:
            raise ValueError(f"eps is {eps} and eps_max {eps_max}; they need 0 <= eps <= eps_max <= 1, and eps_max above 0")
        values.setdefault("network", next(iter(named)))
        values.setdefault("point", data[0].tolist())
        super().__init__(
            networks=[
                {"name": name, "layers": [{"weight": w.tolist(), "bias": b.tolist()} for w, b in layers]}
                for name, layers in self._layers.items()
            ],
            data=data.tolist(),
            labels=labels.astype(int).tolist(),
            eps=eps,
            eps_max=eps_max,
            **values,
        )

    @traitlets.validate("network")
    def _known(self, proposal: Any) -> str:
        if proposal["value"] not in self._layers:
            raise traitlets.TraitError(f"network is {proposal['value']!r}; it must be one of {list(self._layers)}")
        return proposal["value"]

    @traitlets.validate("eps")
    def _within(self, proposal: Any) -> float:
        if proposal["value"] > self.eps_max:
            raise traitlets.TraitError(f"eps is {proposal['value']}; it must be at most {self.eps_max}")
        return proposal["value"]

    def computed(self) -> BoxAnswer:
        """What the page finds, too, for the present network, point and eps."""
        layers, box = self._layers[self.network], self._box()
        label = int(_outputs(layers, np.array(self.point)).argmax())
        weight, bias = layers[-1]
        net = [*layers[:-1], (np.delete(weight[label] - weight, label, 0), np.delete(bias[label] - bias, label))]
        naive, crown, (parts, ranges) = _bounds(net, box), _bounds(net, box, crown=True), _pieces(net, _corners(box))
        switching = [r + np.array([1e-12, -1e-12]) for r in ranges]
        counts = [sum(int((state_of(*ends.T) == 0).sum()) for ends in found[:-1]) for found in (naive, crown, switching)]
        margins = [(polygon @ rows[:, :2].T + rows[:, 2]).min(1) for polygon, rows in parts]
        lowest = min(range(len(parts)), key=lambda k: margins[k].min())
        worst = parts[lowest][0][margins[lowest].argmin()]
        return BoxAnswer(
            label=label,
            margins=(float(naive[-1][:, 0].min()), float(crown[-1][:, 0].min()), float(margins[lowest].min())),
            unstable=(counts[0], counts[1], counts[2]),
            regions=len(parts),
            worst=(float(worst[0]), float(worst[1])),
        )

    def _box(self) -> Array:
        """The ends of both inputs in the box, (2, 2)."""
        point = np.array(self.point)
        return np.stack([(point - self.eps).clip(0, 1), (point + self.eps).clip(0, 1)], 1)

    def describe(self) -> str:
        found = self.computed()
        naive, crown, exact = found.margins
        units = sum(len(bias) for _, bias in self._layers[self.network][:-1])
        which = f" {self.network!r}" if len(self._layers) > 1 else ""
        return (
            f"A network{which} of two inputs says class {found.label} at ({self.point[0]:.2f}, {self.point[1]:.2f}); within "
            f"{self.eps:.3g} of it the least margin is {exact:.3g}, and at least {crown:.3g} by CROWN, {naive:.3g} by "
            f"intervals; of {units} ReLUs {found.unstable[0]} are unstable by intervals, {found.unstable[1]} by CROWN, and "
            f"{found.unstable[2]} switch, in {found.regions} linear regions."
        )

    def still(self) -> Picture:
        layers, found, box = self._layers[self.network], self.computed(), self._box()
        picture = Picture(figsize=(7.2, 3.3), layout="constrained")
        left, right = picture.subplots(1, 2)
        whole, _ = _pieces(layers, _corners(np.array([[0.0, 1.0], [0.0, 1.0]])))
        at = (np.arange(240) + 0.5) / 240
        grid = np.stack(np.meshgrid(at, at), -1)
        classes = len(layers[-1][1])
        colours = [HUES[k % 4] for k in range(classes)]
        kinds = _outputs(layers, grid).argmax(-1)
        levels = np.arange(classes + 1) - 0.5
        left.contourf(at, at, kinds, levels, colors=colours, alpha=0.35)
        left.add_collection(PolyCollection([p for p, _ in whole], facecolor="none", edgecolor=GREY, linewidth=0.3))
        inside, _ = _pieces(layers, _corners(box))
        left.add_collection(PolyCollection([p for p, _ in inside], facecolor="none", edgecolor="black", linewidth=0.8))
        left.scatter(*np.array(self.data).T, 6, [colours[k] for k in self.labels])
        left.plot(*self.point, "o", color="black", markersize=4)
        left.plot(*found.worst, "o", markerfacecolor="none", color="black", label="worst")
        left.set(xlim=(0, 1), ylim=(0, 1), xlabel="input x₁", ylabel="input x₂", title=self.network, aspect="equal")
        left.legend(fontsize=8, loc="upper right")
        right.barh(range(3), found.margins, 0.5, color=[GREY, GREY, BLUE])
        right.axvline(0, color="black", linestyle="--", linewidth=1)
        right.set_yticks(
            range(3), [f"{name}: {v:.3g}" for name, v in zip(("intervals", "CROWN", "exact"), found.margins, strict=True)]
        )
        right.set(ylim=(2.5, -0.5), xlabel="least margin in the box; above 0: proved")
        right.set_title(f"unstable ReLUs: {', '.join(map(str, found.unstable))}", fontsize=9)
        return picture


class BranchAndBound(TwoInputs):
    """A proof that splits: CROWN on a box, and where it does not reach, on the halves where an unstable ReLU is on, and off.

    Takes what :class:`TwoInputs` takes. A click splits a leaf by the unit whose triangle is the largest; a half that is known
    to lie beside a line is cut there. ``found`` comes back from the page: how many leaves there are, how many of them are open,
    and the least of their bounds. (Bunel et al. 2018; bounds by Zhang et al. 2018.)

    Guarantee: each bound is sound, and where no unit is open in a leaf it is exact, up to rounding in float64.

    >>> net = nn.Sequential(nn.Linear(2, 4), nn.ReLU(), nn.Linear(4, 2)).double()
    >>> BranchAndBound(net, [0.5, 0.5], 0).describe().startswith("Branch and bound: ")
    True
    """

    _esm = module("plot.js", "stability_parts.js", "stability_math.js", "branching.js")

    def describe(self) -> str:
        return f"Branch and bound: {super().describe()}"


def _dense(name: str, net: nn.Module) -> Layers:
    """The layers of a network that :class:`TwoInputs` takes, in float64."""
    parts = list(net) if isinstance(net, nn.Sequential) else []
    linear, between = parts[::2], parts[1::2]
    if not between or len(parts) % 2 == 0 or not all(isinstance(p, nn.ReLU) for p in between):
        raise ValueError(f"{name} must be nn.Sequential(Linear, ReLU, ..., Linear) with a ReLU at least")
    layers: Layers = []
    for layer in linear:
        if not isinstance(layer, nn.Linear):
            raise ValueError(f"{name} has {layer} where a linear layer is needed")
        weight = layer.weight.detach().cpu().double().numpy()
        layers.append((weight, np.zeros(len(weight)) if layer.bias is None else layer.bias.detach().cpu().double().numpy()))
    sizes = [layers[0][0].shape[1], *(len(bias) for _, bias in layers)]
    if sizes[0] != 2 or sum(sizes[1:-1]) > 64 or not 2 <= sizes[-1] <= 8:
        raise ValueError(f"{name} has layers of {sizes}; it needs 2 inputs, at most 64 ReLUs in all, and 2 to 8 classes")
    if any(weight.shape[1] != size for (weight, _), size in zip(layers, sizes, strict=False)):
        raise ValueError(f"{name} has layers that do not fit on each other")
    if not all(np.isfinite(part).all() for layer in layers for part in layer):
        raise ValueError(f"{name} has weights that are not finite")
    return layers


def _outputs(layers: Layers, x: Array) -> Array:
    """Logits (..., classes) of inputs (..., 2)."""
    for k, (weight, bias) in enumerate(layers):
        x = (np.maximum(x, 0) if k else x) @ weight.T + bias
    return x


def _corners(box: Array) -> Array:
    (a, b), (c, d) = box
    return np.array([[a, c], [b, c], [b, d], [a, d]])


def _bounds(layers: Layers, box: Array, *, crown: bool = False) -> list[Array]:
    """Ends (units, 2) of every ReLU layer's inputs and of the outputs; with CROWN where intervals leave a unit unstable."""
    found: list[Array] = []
    before = box
    for weight, bias in layers:
        centre, radius = weight @ before.mean(1) + bias, np.abs(weight) @ (before[:, 1] - before[:, 0]) / 2
        ends = np.stack([centre - radius, centre + radius], 1)
        if crown:
            rows = np.flatnonzero((state_of(*ends.T) == 0) | (len(found) + 1 == len(layers)))
            low, high = (
                _below(layers, found, box, weight[rows], bias[rows]),
                -_below(layers, found, box, -weight[rows], -bias[rows]),
            )
            ends[rows] = np.stack([np.maximum(ends[rows, 0], low), np.minimum(ends[rows, 1], high)], 1)
        found.append(ends)
        before = np.maximum(ends, 0)
    return found


def _below(layers: Layers, found: list[Array], box: Array, rows: Array, const: Array) -> Array:
    """CROWN's lower bounds (m,) of rows @ (the last ReLUs that ``found`` bounds) + const."""
    for (weight, bias), ends in reversed(list(zip(layers, found, strict=False))):
        low, high = ends.T
        open_, on = state_of(low, high) == 0, (low >= 0).astype(float)
        chord = np.divide(high, high - low, out=on.copy(), where=open_)
        onto = np.where(rows > 0, rows * np.where(open_, high > -low, on), rows * chord)
        const = const + onto @ bias - np.where(open_ & (rows < 0), onto * low, 0).sum(1)
        rows = onto @ weight
    return const + np.where(rows > 0, rows * box[:, 0], rows * box[:, 1]).sum(1)


def _pieces(layers: Layers, polygon: Array) -> tuple[list[tuple[Array, Array]], list[Array]]:
    """The pieces of a convex polygon (corners, 2) on which every ReLU keeps its side, and the exact ends of each layer.

    A piece comes with the outputs as rows (a, b, c) of a x + b y + c. The ends (units, 2) are those of each ReLU layer's
    inputs and of the outputs: affine functions are least and greatest at corners.
    """
    parts, ranges = [(polygon, np.eye(2, 3))], []
    for k, (weight, bias) in enumerate(layers):
        low, high, split = [], [], []
        for polygon, inputs in parts:
            rows = weight @ inputs
            rows[:, 2] += bias
            values = polygon @ rows[:, :2].T + rows[:, 2]
            low.append(values.min(0))
            high.append(values.max(0))
            split += [(polygon, rows)] if k + 1 == len(layers) else _split(polygon, rows)
        parts = split
        ranges.append(np.stack([np.min(low, 0), np.max(high, 0)], 1))
    return parts, ranges


def _split(polygon: Array, rows: Array) -> list[tuple[Array, Array]]:
    """A polygon cut by the zero lines of rows (units, 3), and the ReLUs' outputs on each piece."""
    cells: list[tuple[Array, list[Array]]] = [(polygon, [])]
    for row in rows:
        halves = [(side, [*kept, out]) for p, kept in cells for side, out in zip(_cut(p, row), (row, 0 * row), strict=True)]
        cells = [(side, kept) for side, kept in halves if side is not None]
    return [(p, np.array(kept)) for p, kept in cells]


def _cut(polygon: Array, row: Array) -> tuple[Array | None, Array | None]:
    """The part of a convex polygon where row (a, b, c) is above 0, and the part where it is below; 0 goes with the rest."""
    values = polygon @ row[:2] + row[2]
    values[np.abs(values) <= 1e-12 * np.abs(row).sum()] = 0
    if (values >= 0).all():
        return polygon, None
    if (values <= 0).all():
        return None, polygon
    sides: tuple[list[Array], list[Array]] = ([], [])
    for p, q, v, w in zip(polygon, np.roll(polygon, -1, 0), values, np.roll(values, -1), strict=True):
        for side, sign in zip(sides, (1, -1), strict=True):
            if sign * v >= 0:
                side.append(p)
            if v * w < 0:
                side.append(p + v / (v - w) * (q - p))
    return np.array(sides[0]), np.array(sides[1])
