"""Bounds on all pre-activations over a box of inputs, for networks of linear layers, convolutions and ReLUs.

Interval arithmetic is Xiao et al. (2019), appendix B.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from .. import checks
from ..models import HalvingConv2d, Mask, MaskedReLU, Normalize
from ..verification.affine import NormalForm, normal_form
from ..verification.layers import Array
from ..verification.reduced import bounded, interval

Bounds = list[tuple[Tensor, Tensor]]
METHODS = ("naive", "improved", "crown")


def layers(net: nn.Module) -> Iterator[nn.Module]:
    """The layers of nested ``nn.Sequential`` in order, without those that are idle, such as dropout in eval mode.

    Raises TypeError for a network that is not sequential.
    """
    if not isinstance(net, nn.Sequential):
        raise TypeError(f"bounds need an nn.Sequential of known layers; this is a {type(net).__name__}")
    for layer in net:
        if isinstance(layer, nn.Sequential):
            yield from layers(layer)
        elif not isinstance(layer, nn.Identity) and (layer.training or not isinstance(layer, nn.Dropout)):
            yield layer


def box(x: Tensor, eps: float, lower: float = 0.0, upper: float = 1.0) -> tuple[Tensor, Tensor]:
    """The corners of the linf ball around ``x``, any shape, clipped to [lower, upper]. Raises ValueError for eps below 0."""
    checks.budget(eps)
    return (x - eps).clamp(lower, upper), (x + eps).clamp(lower, upper)


def _images(x: Tensor) -> Tensor:
    """``x`` (n, ...), checked: outside of [0, 1] its ball would be a point."""
    checks.tensors(x=x)
    checks.inputs(x)
    return x


def _ends(x: Tensor, eps: float) -> tuple[Array, Array]:
    """The ball around images in float64, (n, inputs) each."""
    low, high = (end.flatten(1).numpy() for end in box(_images(x).detach().cpu().double(), eps))
    return low, high


def interval_bounds(net: nn.Module, x: Tensor, eps: float, method: str = "naive") -> Bounds:
    """Bounds on the inputs of every ReLU layer and on the logits, for all inputs within ``eps`` of ``x`` and in [0, 1].

    "naive" is interval arithmetic on an ``nn.Sequential`` of linear layers, convolutions, ReLU, flatten and
    :class:`advlab.models.Normalize`, differentiable by the weights. "improved" passes units that are always on through
    linearly, as the paper does; "crown" bounds units by linear functions; both without gradients.

    Parameters
    ----------
    net : ``nn.Sequential`` for "naive", otherwise what :func:`normal_form` takes
    x : Tensor (n, ...), in [0, 1]
    eps : float, linf, from 0 up
    method : "naive", in the dtype of ``x``; "improved" or "crown", in float64
    Returns
    -------
    Pairs (lower, upper), one for each ReLU layer and one for the logits, (n, ...) each; flattened but for "naive"
    Raises
    ------
    TypeError, ValueError
        an unknown layer, dropout in training mode; another method, inputs outside [0, 1], a negative eps
    Guarantee
    ---------
    No input of the ball leaves the bounds, up to rounding; take float64 for proofs. "improved" and "crown" are never looser
    than "naive".
    References
    ----------
    Xiao et al. (2019), appendix B; Zhang et al. (2018) for "crown"
    Examples
    --------
    >>> net = nn.Sequential(nn.Linear(2, 2, bias=False), nn.ReLU(), nn.Linear(2, 1, bias=False)).eval()
    >>> for p, weight in zip(net.parameters(), ([[1.0, 1.0], [1.0, -1.0]], [[1.0, -1.0]]), strict=True):
    ...     _ = p.data.copy_(torch.tensor(weight))
    >>> bounds = {m: interval_bounds(net, torch.tensor([[0.5, 0.5]]), 0.25, m)[-1] for m in ("naive", "crown")}
    >>> {m: (round(low.item(), 4), round(high.item(), 4)) for m, (low, high) in bounds.items()}
    {'naive': (0.0, 1.5), 'crown': (0.25, 1.5)}
    """
    if method not in METHODS:
        raise ValueError(f"method is {method!r}; it must be one of {', '.join(map(repr, METHODS))}")
    if method != "naive":
        ends, form = _ends(x, eps), normal_form(net, tuple(x.shape[1:]))
        each = [bounded(form, a, b, method).bounds for a, b in zip(*ends, strict=True)]
        return [  # pyrefly: ignore[bad-return]
            tuple(torch.from_numpy(np.reshape([b[k][side] for b in each], (len(x), layer.units))) for side in (0, 1))  # type: ignore[misc]
            for k, layer in enumerate((*form.hidden, form.logits))
        ]
    low, high = box(_images(x), eps)
    found: Bounds = []
    for layer in layers(net):
        if isinstance(layer, nn.ReLU | MaskedReLU):
            found.append((low, high))
            low, high = layer(low), layer(high)  # monotone in every coordinate
        elif isinstance(layer, nn.Flatten | Mask):
            low, high = layer(low), layer(high)
        elif isinstance(layer, Normalize):
            ends = layer(low), layer(high)
            low, high = torch.where(layer.std < 0, *ends[::-1]), torch.where(layer.std < 0, *ends)
        else:
            weight, bias = _weights(layer)
            half = weight * 0.5  # halves are exact, so that sum and difference need not be: large batches wait for memory
            centre, radius = _through(layer, low + high, half, bias), _through(layer, high - low, half.abs(), None)
            low, high = centre - radius, centre.add_(radius)
    return [*found, (low, high)]


def interval_margins(net: nn.Module, x: Tensor, y: Tensor, eps: float) -> Tensor:
    """Lower bounds of the label's margin over each class, for all inputs of the ball, by interval arithmetic.

    The differences of the logits are bounded as one linear layer with the last one, which is tighter than the difference of
    two bounds.

    Parameters
    ----------
    net : ``nn.Sequential`` of the layers of :func:`interval_bounds`, the last of them linear
    x, y : (n, ...) in [0, 1] and (n,)
    eps : float, linf, from 0 up
    Returns
    -------
    margins : (n, classes), logit of the label minus each logit, at least so much in the ball; 0 for the label
    Raises
    ------
    TypeError, ValueError
        as :func:`interval_bounds`, and for labels that are none of the classes, and where the last layer is not linear
    Guarantee
    ---------
    Lower bounds, up to rounding; differentiable by the weights. All other margins above 0: the label is proved.
    References
    ----------
    Gowal et al. (2018), section 3 ("elision of the last layer")
    Examples
    --------
    >>> net = nn.Sequential(nn.Linear(1, 2, bias=False))
    >>> _ = net[0].weight.data.copy_(torch.tensor([[2.0], [1.0]]))
    >>> interval_margins(net, torch.tensor([[0.5]]), torch.tensor([0]), 0.25)[0, 1].item()  # x, in [0.25, 0.75]
    0.25
    """
    *before, last = layers(net)
    if not isinstance(last, nn.Linear):
        raise TypeError(f"the last layer is a {type(last).__name__}; it must be nn.Linear")
    low, high = interval_bounds(nn.Sequential(*before), x, eps)[-1] if before else box(_images(x), eps)
    checks.tensors(y=y)
    checks.indices(y, len(x))
    checks.below(y, len(last.weight))
    rows = last.weight[y][:, None] - last.weight  # (n, classes, inputs)
    centre, radius = (low + high).flatten(1) / 2, (high - low).flatten(1) / 2
    least = (rows @ centre[:, :, None] - rows.abs() @ radius[:, :, None])[:, :, 0]
    return least if last.bias is None else least + last.bias[y][:, None] - last.bias


def _weights(layer: nn.Module) -> tuple[Tensor, Tensor | None]:
    if isinstance(layer, nn.Dropout):
        raise ValueError("there are no bounds for dropout in training mode: call net.eval()")
    if not isinstance(layer, nn.Linear | nn.Conv2d):
        raise TypeError(
            f"there are no bounds for a layer {layer}; known are linear layers, convolutions, masks, ReLU and flatten"
        )
    return layer.weight, layer.bias


def _through(layer: nn.Module, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """The layer with other weights. HalvingConv2d has the faster gradients, but where none is asked for it is the slower."""
    if isinstance(layer, nn.Linear):
        return nn.functional.linear(x, weight, bias)
    assert isinstance(layer, nn.Conv2d)
    gradients = torch.is_grad_enabled() and (x.requires_grad or weight.requires_grad)
    if isinstance(layer, HalvingConv2d) and not gradients:
        return super(HalvingConv2d, layer)._conv_forward(x, weight, bias)
    return layer._conv_forward(x, weight, bias)


def unstable(bounds: Bounds) -> list[Tensor]:
    """Which units of each ReLU layer may be on or off in the box: lower < 0 < upper, one bool tensor (n, ...) a layer.

    >>> hidden = torch.tensor([[-1.0, 0.5]]), torch.tensor([[2.0, 0.7]])
    >>> logits = torch.zeros(1, 2), torch.ones(1, 2)
    >>> unstable([hidden, logits])
    [tensor([[ True, False]])]
    """
    return [(low < 0) & (high > 0) for low, high in bounds[:-1]]


@dataclass(frozen=True)
class UnitCounts:
    """How many ReLU units of each layer are what, in the mean over inputs; pruned ReLUs are no units any more.

    A constant unit has no path of weights to the input. "% stable" counts it as stable, though nothing was learned there.

    >>> units = {"units": (10, 10), "constant": (6, 0)}
    >>> counts = UnitCounts("naive", **units, unstable=(2.0, 1.0), active=(8.0, 4.0), inactive=(0.0, 5.0))
    >>> counts.share_unstable, round(counts.share_unstable_of_live, 4)  # 3 of 20, and of the 14 that are not constant
    (0.15, 0.2143)
    """

    method: str  #: the bounds that decide
    units: tuple[int, ...]  #: ReLUs of each layer
    constant: tuple[int, ...]
    unstable: tuple[float, ...]
    active: tuple[float, ...]  #: on in the whole ball, and not constant
    inactive: tuple[float, ...]  #: off in the whole ball, and not constant

    @property
    def share_unstable(self) -> float:
        """Unstable units as a share of all units, the paper's number."""
        return sum(self.unstable) / max(sum(self.units), 1)

    @property
    def share_unstable_of_live(self) -> float:
        """Unstable units as a share of those that are not constant."""
        return sum(self.unstable) / max(sum(self.units) - sum(self.constant), 1)


def count_units(net: nn.Module, x: Tensor, eps: float, method: str = "naive") -> UnitCounts:
    """Stable, unstable and constant units of each ReLU layer, mean over inputs.

    Parameters
    ----------
    net, x, eps, method : as in :func:`interval_bounds`; of any ``net`` that :func:`normal_form` takes, one input at least
    Returns
    -------
    UnitCounts
    Raises
    ------
    TypeError, ValueError
        as :func:`interval_bounds` and :func:`normal_form`, and for no inputs
    Guarantee
    ---------
    A unit counted as stable is stable in the whole ball, up to rounding in float64; one counted as unstable may be stable.
    References
    ----------
    Xiao et al. (2019), section 3.3
    Examples
    --------
    >>> net = nn.Sequential(nn.Linear(1, 3), nn.ReLU(), nn.Linear(3, 2)).eval()
    >>> _ = net[0].weight.data.copy_(torch.tensor([[1.0], [1.0], [0.0]]))
    >>> _ = net[0].bias.data.copy_(torch.tensor([-0.5, 1.0, 1.0]))
    >>> counts = count_units(net, torch.tensor([[0.5]]), 0.1)  # one on both sides of 0, one above it, one that reads nothing
    >>> counts.unstable, counts.active, counts.constant
    ((1.0,), (1.0,), (1,))
    """
    if method not in METHODS:
        raise ValueError(f"method is {method!r}; it must be one of {', '.join(map(repr, METHODS))}")
    ends = _ends(x, eps)
    if not len(x):
        raise ValueError("there are no inputs to count units on")
    form = normal_form(net, tuple(x.shape[1:]))
    dead = constant_units(form)
    totals = np.zeros((3, len(form.hidden)))
    if method == "naive":
        sources = {0: (ends[0].T, ends[1].T)}
        for k, layer in enumerate(form.hidden, 1):
            low, high = interval(layer, sources)
            totals[:, k - 1] = _states(low.T, high.T, dead[k - 1])
            sources[k] = (np.maximum(low, 0), np.maximum(high, 0))
    else:
        for a, b in zip(*ends, strict=True):
            for k, (low, high) in enumerate(bounded(form, a, b, method).bounds[:-1]):
                totals[:, k] += np.array(_states(low[None], high[None], dead[k])) / len(x)
    means = [tuple(row.tolist()) for row in totals]
    return UnitCounts(method, tuple(r.units for r in form.hidden), tuple(int(d.sum()) for d in dead), *means)


def _states(low: Array, high: Array, dead: NDArray[np.bool_]) -> tuple[float, float, float]:
    """Unstable, active and inactive units among those that are not constant, mean over rows."""
    live = ~dead
    both = (low < 0) & (high > 0) & live
    on, off = (low >= 0) & live, (high <= 0) & live & (low < 0)
    return tuple(float(part.sum(1).mean()) for part in (both, on, off))  # type: ignore[return-value]


def constant_units(form: NormalForm) -> list[NDArray[np.bool_]]:
    """The units of each layer that no input reaches through weights that are not zero."""
    live = {0: np.ones(form.inputs, bool)}
    for k, layer in enumerate(form.hidden, 1):
        reached = np.zeros(layer.units)
        for source, matrix in layer.magnitudes.items():
            reached += matrix @ live[source].astype(float)
        live[k] = reached > 0
    return [~live[k] for k in range(1, len(form.hidden) + 1)]
