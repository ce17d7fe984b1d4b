"""The calls of a network, one by one, in normal form: what is affine becomes a map, what is piecewise linear a ReLU layer."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import sparse
from torch import Tensor, fx, nn
from torch.fx.node import map_aggregate

from ..models import MaskedReLU
from .layers import UNIT, AffineLayer, AffineMap, diagonal, linear, pair, spread, through_layer

BATCH = 2  #: calls are followed with so many inputs, so that what mixes the images of a batch is seen


def constant(net: nn.Module, node: fx.Node) -> Any:
    """What "layer.weight" stands for in a trace, or a value that the forward made."""
    if "value" in node.meta:
        return node.meta["value"]
    return functools.reduce(getattr, str(node.target).split("."), cast(Any, net))


def called(node: fx.Node) -> str:
    """The name of the function or method that a node calls."""
    return node.target if isinstance(node.target, str) else node.target.__name__


class Reader:
    """Follows the calls of a network; ``hidden`` are the ReLU layers met so far."""

    def __init__(self, net: nn.Module) -> None:
        self.net, self.hidden = net, list[AffineLayer]()

    def result(self, node: fx.Node, arguments: tuple[Any, ...], options: dict[str, Any]) -> Any:
        """What a call gives: an affine map, several, or where no image is in it, its value. TypeError for other calls."""
        if node.op == "get_attr":
            value = constant(self.net, node)
            return value.detach().cpu().double() if isinstance(value, Tensor) and value.is_floating_point() else value
        if node.op == "call_module":
            return self.layer(self.net.get_submodule(str(node.target)), *arguments, **options)
        seen: list[AffineMap] = []
        map_aggregate((arguments, options), lambda v: seen.append(v) if isinstance(v, AffineMap) else None)
        name = called(node)
        call = getattr(arguments[0], name) if node.op == "call_method" and not seen else node.target
        with torch.no_grad():
            if not seen:
                rest = arguments[node.op == "call_method" :]
                return cast(Callable[..., Any], call)(*rest, **options)
            name = name.rstrip("_") or name
            if name not in (*MOVES, *_CALLS):
                known = ", ".join((*_CALLS, *MOVES))
                raise TypeError(f"the network calls {node.target}, which has no normal form; known are {known}")
            try:
                if name in MOVES:
                    function = functools.partial(_method, name) if node.op == "call_method" else node.target
                    return moved(cast(Callable[..., Any], function), arguments, options)
                return _CALLS[name](self, *arguments, **options)
            except TypeError as e:
                raise TypeError(f"the network calls {node.format_node()}, which has no normal form: {e}") from e

    def layer(self, layer: nn.Module, value: AffineMap) -> AffineMap:
        for kind, function in PIECEWISE.items():
            if isinstance(layer, kind):
                return function(self, layer, value)
        if isinstance(layer, MOVERS):
            return moved(layer, (value,), {})
        return through_layer(layer, value)

    def relu(self, value: AffineMap, mask: NDArray[np.int8] | None = None) -> AffineMap:
        """A new source: the units that are ReLUs. Those that a mask makes linear (1) go on as they are, zeros (-1) end here."""
        size = len(value.bias)
        kept = np.flatnonzero(mask == 0) if mask is not None else np.arange(size)
        parts = {s: cast(Any, part)[kept] for s, part in value.parts.items()}
        self.hidden.append(AffineLayer(parts, value.bias[kept], value.doubt[kept], kept))
        place = sparse.coo_array((np.ones(len(kept)), (kept, np.arange(len(kept)))), shape=(size, len(kept)))
        out = AffineMap({len(self.hidden): sparse.csr_array(place)}, np.zeros(size), value.shape, np.zeros((size, 2)))
        if mask is None:
            return out
        return out.plus(value.through(diagonal((mask > 0).astype(np.float64)), np.zeros(size), value.shape))

    def plus(self, a: Any, b: Any, *, alpha: float = 1) -> AffineMap:
        if alpha != 1:
            raise TypeError("add two branches, plainly")
        if isinstance(a, AffineMap) and isinstance(b, AffineMap):
            if len(a.shape) != len(b.shape):
                raise TypeError(f"shapes {a.shape} and {b.shape} are added; only equal shapes have a normal form")
            whole = tuple(torch.broadcast_shapes(a.shape, b.shape))
            return _expanded(a, whole).plus(_expanded(b, whole))
        value, constant = _broadcast(*((a, b) if isinstance(a, AffineMap) else (b, a)))
        more = 4 * UNIT * (abs(value.bias) + abs(constant))
        return replace(value, bias=value.bias + constant, doubt=value.doubt + np.stack([0 * more, more], 1))

    def minus(self, a: Any, b: Any, *, alpha: float = 1) -> AffineMap:
        return self.plus(a, self.times(b, -1) if isinstance(b, AffineMap) else -b, alpha=alpha)

    def times(self, a: Any, b: Any) -> AffineMap:
        if isinstance(a, AffineMap) and isinstance(b, AffineMap):
            raise TypeError("a product of two computed values")
        value, constant = _broadcast(*((a, b) if isinstance(a, AffineMap) else (b, a)))
        return value.through(diagonal(constant), np.zeros(len(constant)), value.shape)

    def over(self, a: Any, b: Any) -> AffineMap:
        if isinstance(b, AffineMap):
            raise TypeError("division by a computed value")
        return self.times(a, 1 / torch.as_tensor(b, dtype=torch.float64))

    def maximum(self, a: Any, b: Any) -> AffineMap:
        """max(a, b) = b + relu(a - b)."""
        a, b = (a, b) if isinstance(a, AffineMap) else (b, a)
        return self.plus(self.relu(self.minus(a, b)), b)

    def minimum(self, a: Any, b: Any) -> AffineMap:
        a, b = (a, b) if isinstance(a, AffineMap) else (b, a)
        return self.minus(a, self.relu(self.minus(a, b)))

    def clamp(self, value: AffineMap, min: Any = None, max: Any = None) -> AffineMap:
        low, high = (None if v is None else torch.as_tensor(v, dtype=torch.float64) for v in (min, max))
        if low is None or high is None:
            return self.maximum(value, low) if low is not None else self.minimum(value, high) if high is not None else value
        low = torch.minimum(low, high)
        above, beyond = self.relu(self.minus(value, low)), self.relu(self.minus(value, high))
        return self.plus(self.minus(above, beyond), low)

    def leaky(self, value: AffineMap, slope: Any) -> AffineMap:
        """A slope below 0 and 1 above, as slope z + (1 - slope) relu(z); by channel where there are several."""
        slope = torch.as_tensor(slope, dtype=torch.float64)
        slope = slope.view(-1, *[1] * (len(value.shape) - 1)) if slope.numel() > 1 else slope.squeeze()
        return self.plus(self.times(value, slope), self.times(self.relu(value), 1 - slope))

    def max_pool(
        self,
        value: AffineMap,
        kernel_size: Any,
        stride: Any = None,
        padding: Any = 0,
        dilation: Any = 1,
        ceil_mode: bool = False,
        return_indices: bool = False,
    ) -> AffineMap:
        """The maximum of each window, by halves; a place outside of the image is taken for another of its window."""
        if len(value.shape) != 3 or return_indices:
            raise TypeError(f"a maximum with indices, or of the shape {value.shape}")
        stride = kernel_size if stride is None else stride
        kernel, stride, padding, dilation = map(pair, (kernel_size, stride, padding, dilation))
        places = torch.arange(1.0, len(value.bias) + 1).double().view(1, *value.shape)
        out = nn.functional.max_pool2d(places, kernel, stride, padding, dilation, ceil_mode).shape[1:]
        windows = nn.functional.unfold(places, kernel, dilation, padding, stride)  # (1, c k k, positions)
        if windows.shape[2] != math.prod(out[1:]):
            raise TypeError("ceil_mode that adds windows at the edge")
        windows = windows.view(out[0], math.prod(kernel), -1).transpose(0, 1).flatten(1).long() - 1  # (k k, c positions)
        windows = torch.where(windows < 0, windows.amax(0), windows)
        value = moved(lambda t: t.flatten(1)[:, windows], (value,), {})
        while (n := value.shape[0]) > 1:
            first, second, rest = moved(lambda t, n=n: t.split([n // 2, n // 2, n % 2], 1), (value,), {})
            value = moved(lambda a, b: torch.cat([a, b], 1), (self.maximum(first, second), rest), {})
        return replace(value, shape=tuple(out))


def moved(function: Callable[..., Any], arguments: tuple[Any, ...], options: dict[str, Any]) -> Any:
    """What a function gives that only moves values, repeats them or fills in zeros, in eval mode: seen by moving their places.

    Raises TypeError where it mixes the images of a batch, or brings in constants.
    """
    values: list[AffineMap] = []
    map_aggregate((arguments, options), lambda v: values.append(v) if isinstance(v, AffineMap) else None)
    if "out" in options:
        raise TypeError("it writes into a value, out=")
    total = sum(len(v.bias) for v in values)
    starts = iter(np.cumsum([1, *(len(v.bias) for v in values)]).tolist())

    def places(v: Any) -> Any:
        if isinstance(v, Tensor) and v.is_floating_point():
            raise TypeError("constants beside computed values")
        if not isinstance(v, AffineMap):
            return v
        one = torch.arange(len(v.bias), dtype=torch.float64) + next(starts)
        return torch.stack([one, one + total]).view(BATCH, *v.shape)

    try:
        placed, settings = cast(Any, map_aggregate((arguments, options), places))
        found = function(*placed, **settings)
    except (RuntimeError, IndexError, ValueError) as e:
        raise TypeError(f"shapes {[v.shape for v in values]} do not allow for it ({e})") from e
    several = isinstance(found, tuple | list)
    stack = _stacked(values)
    maps = tuple(_selected(stack, t, total) for t in (found if several else [found]))
    return maps if several else maps[0]


def _selected(stack: AffineMap, t: Tensor, total: int) -> AffineMap:
    filled = (t[:1] > 0) * float(total) if t.ndim else t
    if not t.ndim or len(t) != BATCH or not bool((t[1:] == t[:1] + filled).all()):
        raise TypeError("it mixes the images of a batch, or fills in other numbers than 0")
    at, shape = t[0].flatten().long().numpy() - 1, tuple(t.shape[1:])
    if np.array_equal(at, np.arange(total)):
        return replace(stack, shape=shape)
    rows = np.flatnonzero(at >= 0)
    chosen = sparse.csr_array((np.ones(len(rows)), (rows, at[rows])), shape=(len(at), total))
    parts = {s: cast(Any, chosen @ part).tocsr() for s, part in stack.parts.items()}
    return AffineMap(parts, chosen @ stack.bias, shape, chosen @ stack.doubt)


def _stacked(values: list[AffineMap]) -> AffineMap:
    if len(values) == 1:
        return values[0]
    widths = {s: cast(Any, part).shape[1] for v in values for s, part in v.parts.items()}
    parts = {
        s: sparse.csr_array(sparse.vstack([v.parts.get(s, sparse.csr_array((len(v.bias), width))) for v in values]))
        for s, width in widths.items()
    }
    bias, doubt = (np.concatenate([getattr(v, name) for v in values]) for name in ("bias", "doubt"))
    return AffineMap(parts, bias, (len(bias),), doubt)


def _expanded(value: AffineMap, shape: tuple[int, ...]) -> AffineMap:
    if value.shape == shape:
        return value
    more = (1,) * (len(shape) - len(value.shape))
    return moved(lambda t: t.reshape(len(t), *more, *t.shape[1:]).expand(-1, *shape), (value,), {})


def _broadcast(value: AffineMap, constant: Any) -> tuple[AffineMap, NDArray[np.float64]]:
    """A value and a constant (units,) of the shape that both have together."""
    constant = torch.as_tensor(constant, dtype=torch.float64)
    if constant.ndim > len(value.shape):
        if constant.shape[: constant.ndim - len(value.shape)].numel() != 1:
            raise TypeError(f"a constant of the shape {tuple(constant.shape)} meets the shape {value.shape}")
        constant = constant.view(constant.shape[constant.ndim - len(value.shape) :])
    try:
        shape = tuple(torch.broadcast_shapes(value.shape, constant.shape))
    except RuntimeError as e:
        raise TypeError(f"a constant of the shape {tuple(constant.shape)} meets the shape {value.shape}") from e
    return _expanded(value, shape), constant.expand(shape).flatten().numpy()


def _summed(value: AffineMap, dim: Any, keepdim: bool, mean: bool) -> AffineMap:
    """The sum or mean over some dimensions."""
    dims = sorted(d % (len(value.shape) + 1) for d in ((dim,) if isinstance(dim, int) else dim))
    if 0 in dims:
        raise TypeError("it mixes the images of a batch")
    places = torch.arange(len(value.bias)).view(value.shape)
    rows = places.movedim([d - 1 for d in dims], list(range(-len(dims), 0)))
    kept = rows.shape[: len(value.shape) - len(dims)]
    rows = rows.reshape(kept.numel(), -1).numpy()
    entries = np.full(rows.size, 1 / rows.shape[1] if mean else 1.0)
    matrix = sparse.csr_array(
        (entries, (np.repeat(np.arange(len(rows)), rows.shape[1]), rows.ravel())), (len(rows), places.numel())
    )
    shape = tuple(1 if k + 1 in dims else n for k, n in enumerate(value.shape)) if keepdim else tuple(kept)
    return value.through(matrix, np.zeros(len(rows)), shape)


def _size(_: Reader, value: AffineMap, name: Any = None) -> Any:
    whole = torch.Size((BATCH, *value.shape))
    if name in (None, "shape"):
        return whole
    if not isinstance(name, int):
        raise TypeError(f"its {name} is asked for")
    return whole[name]


def _pad(_: Reader, image: AffineMap, pad: Any, mode: str = "constant", value: float | None = None) -> AffineMap:
    if mode != "constant" or value:
        raise TypeError("padding with anything but zeros")
    return moved(nn.functional.pad, (image, pad), {})


def _dropout(_: Reader, value: AffineMap, p: float = 0.5, training: bool = True, inplace: bool = False) -> AffineMap:
    if training:
        raise TypeError("dropout that is at work")
    return value


def _module(kind: Any) -> Callable[..., AffineMap]:
    """A function as the layer with its name, which has the same settings."""
    return lambda reader, value, *settings, **options: reader.layer(kind(*settings, **options), value)


def _method(name: str, t: Tensor, *arguments: Any, **options: Any) -> Any:
    return getattr(t, name)(*arguments, **options)


def _linear(_: Reader, value: AffineMap, weight: Tensor, bias: Tensor | None = None) -> AffineMap:
    if not isinstance(weight, Tensor) or weight.ndim != 2:
        raise TypeError("a product of two computed values")
    return linear(value, weight.numpy(), np.zeros(len(weight)) if bias is None else bias.numpy())


#: Layers that become ReLU layers.
PIECEWISE: dict[type[nn.Module], Callable[[Reader, Any, AffineMap], AffineMap]] = {
    nn.ReLU: lambda reader, _, value: reader.relu(value),
    MaskedReLU: lambda reader, layer, value: reader.relu(value, spread(layer, layer.mask.cpu().numpy(), value.shape)),
    nn.LeakyReLU: lambda reader, layer, value: reader.leaky(value, layer.negative_slope),
    nn.PReLU: lambda reader, layer, value: reader.leaky(value, layer.weight.detach().cpu()),
    nn.Hardtanh: lambda reader, layer, value: reader.clamp(value, layer.min_val, layer.max_val),  # ReLU6 is one
    nn.MaxPool2d: lambda reader, layer, value: reader.max_pool(
        value, layer.kernel_size, layer.stride, layer.padding, layer.dilation, layer.ceil_mode, layer.return_indices
    ),
}

#: Layers that only move values.
MOVERS = (nn.Flatten, nn.Unflatten, nn.ZeroPad2d, nn.PixelShuffle, nn.PixelUnshuffle)

_CALLS: dict[str, Callable[..., Any]] = {
    **dict.fromkeys(("add", "iadd"), Reader.plus),
    **dict.fromkeys(("sub", "isub"), Reader.minus),
    **dict.fromkeys(("mul", "imul"), Reader.times),
    **dict.fromkeys(("truediv", "itruediv", "div"), Reader.over),
    **dict.fromkeys(("maximum", "max"), Reader.maximum),
    **dict.fromkeys(("minimum", "min"), Reader.minimum),
    **dict.fromkeys(("clamp", "clip"), Reader.clamp),
    "clamp_min": Reader.maximum,
    "clamp_max": Reader.minimum,
    "neg": lambda reader, value: reader.times(value, -1),
    "abs": lambda reader, value: reader.minus(reader.times(reader.relu(value), 2), value),
    "relu": lambda reader, value, inplace=False: reader.relu(value),
    "leaky_relu": lambda reader, value, negative_slope=0.01, inplace=False: reader.leaky(value, negative_slope),
    "prelu": lambda reader, value, weight: reader.leaky(value, weight),
    "relu6": lambda reader, value, inplace=False: reader.clamp(value, 0, 6),
    "hardtanh": lambda reader, value, min_val=-1.0, max_val=1.0, inplace=False: reader.clamp(value, min_val, max_val),
    **dict.fromkeys(("max_pool2d", "boolean_dispatch"), Reader.max_pool),
    "avg_pool2d": _module(nn.AvgPool2d),
    "adaptive_avg_pool2d": _module(nn.AdaptiveAvgPool2d),
    "linear": _linear,
    "matmul": lambda reader, value, weight: _linear(reader, value, weight.T),
    "mean": lambda _, value, dim, keepdim=False: _summed(value, dim, keepdim, mean=True),
    "sum": lambda _, value, dim, keepdim=False: _summed(value, dim, keepdim, mean=False),
    "dropout": _dropout,
    "pad": _pad,
    **dict.fromkeys(("size", "getattr"), _size),
    **dict.fromkeys(("contiguous", "clone", "detach"), lambda _, value: value),
}
MOVES = (
    *("flatten", "view", "reshape", "unflatten", "permute", "transpose", "movedim", "squeeze", "unsqueeze", "getitem"),
    *("cat", "concat", "stack", "chunk", "split", "unbind", "narrow", "select", "expand", "repeat", "flip", "roll"),
)
