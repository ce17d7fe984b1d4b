"""Bounds on all pre-activations over a box of inputs, for networks of linear layers, convolutions and ReLUs.

Interval arithmetic is Xiao et al. (2019), appendix B.
"""

from __future__ import annotations

from collections.abc import Iterator

from torch import Tensor, nn

from ..models import Normalize

Bounds = list[tuple[Tensor, Tensor]]
METHODS = ("naive",)


def layers(net: nn.Module) -> Iterator[nn.Module]:
    """The layers of nested ``nn.Sequential`` in order. Raises TypeError for a network that is not sequential."""
    if not isinstance(net, nn.Sequential):
        raise TypeError(f"bounds need an nn.Sequential of known layers; this is a {type(net).__name__}")
    for layer in net:
        if isinstance(layer, nn.Sequential):
            yield from layers(layer)
        elif not isinstance(layer, nn.Identity | nn.Dropout):
            yield layer


def box(x: Tensor, eps: float, lower: float = 0.0, upper: float = 1.0) -> tuple[Tensor, Tensor]:
    """The corners of the linf ball around ``x``, any shape, clipped to [lower, upper]. Raises ValueError for eps below 0."""
    if not eps >= 0:
        raise ValueError(f"eps is {eps}; it must be at least 0")
    return (x - eps).clamp(lower, upper), (x + eps).clamp(lower, upper)


def interval_bounds(net: nn.Module, x: Tensor, eps: float, method: str = "naive") -> Bounds:
    """Bounds on the inputs of every ReLU layer and on the logits, for all inputs within ``eps`` of ``x`` and in [0, 1].

    ``net`` is an ``nn.Sequential`` of linear layers, convolutions, ReLU, flatten and :class:`advlab.models.Normalize`;
    ``x`` is (n, ...). Returns one pair (lower, upper) for each ReLU layer and one for the logits, each of the layer's shape.
    Differentiable in the weights. "naive" is interval arithmetic: each linear map is applied to centre and radius.

    Guarantee: no input of the ball leaves the bounds, up to rounding in the dtype of ``x``; take float64 for proofs.
    Raises TypeError for a layer that is not listed, ValueError for another method or a negative eps.
    """
    if method not in METHODS:
        raise ValueError(f"method is {method!r}; it must be one of {', '.join(map(repr, METHODS))}")
    low, high = box(x, eps)
    found: Bounds = []
    for layer in layers(net):
        if isinstance(layer, nn.ReLU):
            found.append((low, high))
            low, high = low.clamp_min(0), high.clamp_min(0)
        elif isinstance(layer, nn.Flatten | Normalize):
            low, high = layer(low), layer(high)  # monotone in every coordinate
        else:
            centre, radius = (low + high) / 2, (high - low) / 2
            centre, radius = _apply(layer, centre), _apply_magnitude(layer, radius)
            low, high = centre - radius, centre + radius
    return [*found, (low, high)]


def _apply(layer: nn.Module, x: Tensor) -> Tensor:
    if not isinstance(layer, nn.Linear | nn.Conv2d):
        raise TypeError(f"there are no bounds for a layer {layer}; known are linear layers, convolutions, ReLU and flatten")
    return layer(x)


def _apply_magnitude(layer: nn.Module, radius: Tensor) -> Tensor:
    """The layer with the absolute values of its weights and no bias."""
    if isinstance(layer, nn.Linear):
        return nn.functional.linear(radius, layer.weight.abs())
    assert isinstance(layer, nn.Conv2d)
    return layer._conv_forward(radius, layer.weight.abs(), None)


def unstable(bounds: Bounds) -> list[Tensor]:
    """Which units of each ReLU layer may be on or off in the box: lower < 0 < upper, one bool tensor (n, ...) a layer."""
    return [(low < 0) & (high > 0) for low, high in bounds[:-1]]
