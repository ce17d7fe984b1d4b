"""A network as rounds: each ReLU layer, and last the logits, as one affine map of the input and of earlier ReLU layers.

That is all the verifier knows of a network. Residual connections, batch norm, average pools and pruned ReLUs disappear in it.
"""

from __future__ import annotations

import functools
import hashlib
import itertools
import operator
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import sparse
from torch import Tensor, fx, nn
from torch.fx.proxy import TraceError

from ..models import HalvingConv2d, Mask, MaskedReLU, Normalize

Array = NDArray[np.float64]
Index = NDArray[np.intp]


class Elementwise(nn.Module):
    """scale * x + shift, for each value of an input on its own; both have a shape that broadcasts to one input's.

    Kept in float64, and taken in the dtype of the input.
    """

    scale: Tensor
    shift: Tensor

    def __init__(self, scale: Tensor, shift: Tensor) -> None:
        super().__init__()
        self.register_buffer("scale", scale.double())
        self.register_buffer("shift", shift.double())

    def forward(self, x: Tensor) -> Tensor:
        return self.scale.to(x) * x + self.shift.to(x)


@dataclass(frozen=True)
class Round:
    """The inputs of one ReLU layer, or the logits: sum over sources of matrix @ source, plus bias.

    Source 0 is the flattened input, source k the outputs of ReLU layer k, from 1 on.
    """

    matrices: dict[int, sparse.csr_array] = field(repr=False)  #: source -> (units, size of the source)
    bias: Array = field(repr=False)  #: (units,)

    @property
    def units(self) -> int:
        return len(self.bias)

    @functools.cached_property
    def magnitudes(self) -> dict[int, sparse.csr_array]:
        """The matrices with the absolute values of their entries, for interval arithmetic."""
        return {source: abs(matrix) for source, matrix in self.matrices.items()}


@dataclass(frozen=True)
class Rounds:
    """A ReLU network in normal form, in float64."""

    inputs: int
    hidden: tuple[Round, ...]
    logits: Round

    def __call__(self, x: Array) -> Array:
        """Logits (n, classes) of flattened inputs (n, inputs)."""
        sources = {0: np.asarray(x, np.float64).T}
        for k, layer in enumerate(self.hidden, 1):
            sources[k] = np.maximum(_affine(layer, sources), 0)
        return _affine(self.logits, sources).T

    @property
    def sha256(self) -> str:
        """The SHA-256 of all maps: two networks with the same one are the same function."""
        digest = hashlib.sha256(str(self.inputs).encode())
        for layer in (*self.hidden, self.logits):
            digest.update(repr((layer.units, sorted(layer.matrices))).encode() + layer.bias.tobytes())
            for source in sorted(layer.matrices):
                matrix = layer.matrices[source].copy()
                matrix.sum_duplicates()
                matrix.eliminate_zeros()
                digest.update(matrix.indptr.astype(np.int64).tobytes() + matrix.indices.astype(np.int64).tobytes())
                digest.update(matrix.data.tobytes())
        return digest.hexdigest()


def _affine(layer: Round, sources: dict[int, Array]) -> Array:
    total = layer.bias[:, None]
    for source, matrix in layer.matrices.items():
        total = total + matrix @ sources[source]
    return total


@dataclass(frozen=True)
class _Value:
    """What a module of the network computes, flattened: an affine map of the sources, and its shape without the batch."""

    parts: dict[int, sparse.csr_array]
    bias: Array
    shape: tuple[int, ...]

    def through(self, matrix: sparse.csr_array, bias: Array, shape: tuple[int, ...]) -> _Value:
        return _Value({s: cast(Any, matrix @ part).tocsr() for s, part in self.parts.items()}, matrix @ self.bias + bias, shape)

    def scaled(self, scale: Array, shift: Array) -> _Value:
        """Channel by channel: ``scale`` and ``shift`` (c,)."""
        repeat = int(np.prod(self.shape[1:]))
        return self.through(_diagonal(np.repeat(scale, repeat)), np.repeat(shift, repeat), self.shape)

    def plus(self, other: _Value) -> _Value:
        if self.shape != other.shape:
            raise TypeError(f"shapes {self.shape} and {other.shape} are added; only equal shapes have a normal form")
        parts = dict(self.parts)
        for source, part in other.parts.items():
            parts[source] = cast(sparse.csr_array, parts[source] + part) if source in parts else part
        return _Value(parts, self.bias + other.bias, self.shape)


def _diagonal(values: Array) -> sparse.csr_array:
    return sparse.csr_array(sparse.diags_array(values))


class _Tracer(fx.Tracer):
    """Follows a network down to the layers that :func:`normal_form` knows."""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return isinstance(m, _known()) or (type(m).__module__.startswith("torch.nn") and not isinstance(m, nn.Sequential))


def _known() -> tuple[type[nn.Module], ...]:
    """The layers that :func:`normal_form` reads."""
    return (nn.ReLU, MaskedReLU, HalvingConv2d, *_LAYERS)


def _overridden(kind: type[nn.Module]) -> bool:
    """Does a class derived from a known layer compute in a way of its own?"""
    own = itertools.takewhile(lambda c: c not in _known(), kind.__mro__)
    return any(name in vars(c) for c in own for name in ("forward", "_conv_forward", "__call__", "_call_impl"))


def _chain(net: nn.Module) -> fx.Graph | None:
    """The calls of nested ``nn.Sequential`` of layers, without torch.fx's tracer; None for any other network."""
    graph = fx.Graph()
    value = graph.placeholder("input")
    todo = [("", net)]
    while todo:
        name, layer = todo.pop()
        if type(layer) is nn.Sequential:
            inner = [(f"{name}.{child}" if name else child, m) for child, m in layer._modules.items() if m is not None]
            todo += reversed(inner)  # named_children would leave out a layer's second use
        elif name and _Tracer().is_leaf_module(layer, name):
            value = graph.call_module(name, (value,))
        else:
            return None
    graph.output(value)
    return graph


def traced(net: nn.Module) -> fx.Graph:
    """The calls of a network, down to the layers that :func:`normal_form` knows.

    torch.fx, which is asked where a network is no ``nn.Sequential``, changes how *all* modules are called for the moment of
    the trace: no other thread may run one then.

    Raises TypeError where torch.fx cannot follow: calls that depend on the input, hooks, a forward set on one object.
    """
    for name, m in net.named_modules():
        if "forward" in vars(m) or m._forward_hooks or m._forward_pre_hooks:
            raise TypeError(
                f"layer {name or 'network'} has a hook or a forward of its own object: it cannot be read; remove it"
            )
        if isinstance(m, _known()) and _overridden(type(m)):
            raise TypeError(
                f"layer {name or 'network'}, a {type(m).__name__}, has a forward of its own: its weights do not tell all"
            )
    if (plain := _chain(net)) is not None:
        return plain
    try:
        return _Tracer().trace(net)
    except (TraceError, RuntimeError) as e:
        raise TypeError(f"the network has no normal form, because its calls depend on its input: {e}") from e


def normal_form(net: nn.Module, shape: tuple[int, ...]) -> Rounds:
    """The network in eval mode as :class:`Rounds`, for inputs of ``shape`` (without the batch), in float64.

    Takes linear layers, convolutions, batch norm, average pools, ReLU, :class:`MaskedReLU`, flatten,
    :class:`advlab.models.Normalize`, dropout (which does nothing in eval mode) and sums of two branches; ``nn.Sequential`` or
    any module that torch.fx can trace. Units that a mask has made linear or zero are no ReLUs any more.
    Guarantee: the same function, with weights widened from float32 to float64 exactly; batch norm is folded in float64.
    Raises TypeError for anything else, naming it, and ValueError for a network in training mode or with NaN weights.

    >>> net = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Dropout(), nn.Linear(4, 2)).eval()
    >>> normal_form(net, (3,))(np.zeros((1, 3))).shape, net(torch.zeros(1, 3)).shape
    ((1, 2), torch.Size([1, 2]))
    """
    if net.training:
        raise ValueError("the network is in training mode: call net.eval() first")
    if not all(bool(p.isfinite().all()) for p in net.parameters()):
        raise ValueError("the network has weights that are not finite")
    graph = traced(net)
    hidden: list[Round] = []
    values: dict[fx.Node, Any] = {}

    def relu(value: _Value, mask: NDArray[np.int8] | None = None) -> _Value:
        size = len(value.bias)
        kept = np.flatnonzero(mask == 0) if mask is not None else np.arange(size)
        hidden.append(Round({s: cast(Any, part)[kept] for s, part in value.parts.items()}, value.bias[kept]))
        place = sparse.coo_array((np.ones(len(kept)), (kept, np.arange(len(kept)))), shape=(size, len(kept)))
        out = _Value({len(hidden): sparse.csr_array(place)}, np.zeros(size), value.shape)
        if mask is None:
            return out
        return out.plus(value.through(_diagonal((mask > 0).astype(np.float64)), np.zeros(size), value.shape))

    for node in graph.nodes:
        arguments = [values.get(a, a) if isinstance(a, fx.Node) else a for a in node.args]
        if node.op == "placeholder":
            size = int(np.prod(shape))
            values[node] = _Value({0: _diagonal(np.ones(size))}, np.zeros(size), tuple(shape))
        elif node.op == "output":
            logits = values[cast(fx.Node, node.args[0])]
            return Rounds(int(np.prod(shape)), tuple(hidden), Round(logits.parts, logits.bias))
        elif node.op == "call_module":
            layer = net.get_submodule(cast(str, node.target))
            if isinstance(layer, nn.ReLU):
                values[node] = relu(arguments[0])
            elif isinstance(layer, MaskedReLU):
                values[node] = relu(arguments[0], layer.mask.cpu().numpy().ravel())
            else:
                values[node] = _layer(layer, arguments[0])
        elif node.target in _SUMS:
            if node.kwargs or not all(isinstance(a, _Value) for a in arguments):
                raise TypeError(f"the network calls {node.format_node()}, which has no normal form; add two branches, plainly")
            values[node] = arguments[0].plus(arguments[1])
        elif node.target in _RELUS:
            values[node] = relu(arguments[0])
        elif node.target in (torch.flatten, "flatten"):
            values[node] = _flat(arguments[0])
        else:
            raise TypeError(f"the network calls {node.target}, which has no normal form; known are ReLU, flatten and sums")
    raise TypeError("the network has no output")


_SUMS = (operator.add, operator.iadd, torch.add, "add", "add_")
_RELUS = (torch.relu, nn.functional.relu, "relu", "relu_")


def _flat(value: _Value) -> _Value:
    return _Value(value.parts, value.bias, (len(value.bias),))


def _linear(layer: nn.Linear, value: _Value) -> _Value:
    if value.shape != (layer.in_features,):
        raise TypeError(f"a linear layer of {layer.in_features} inputs meets the shape {value.shape}: flatten first")
    return value.through(sparse.csr_array(_array(layer.weight)), _bias(layer), (layer.out_features,))


def _array(t: Tensor) -> Array:
    return t.detach().cpu().double().numpy()


def _bias(layer: nn.Linear | nn.Conv2d) -> Array:
    return _array(layer.bias) if layer.bias is not None else np.zeros(len(layer.weight))


def _convolution(layer: nn.Conv2d, value: _Value) -> _Value:
    if isinstance(layer.padding, str) or layer.padding_mode != "zeros":
        raise TypeError(f"{layer} has no normal form: give its padding in numbers, with zeros")
    weight = _array(layer.weight)
    if layer.groups > 1:
        each, outputs = weight.shape[1], len(weight) // layer.groups
        whole = np.zeros((len(weight), layer.in_channels, *weight.shape[2:]))
        for g in range(layer.groups):
            rows = slice(g * outputs, (g + 1) * outputs)
            whole[rows, g * each : (g + 1) * each] = weight[rows]
        weight = whole
    matrix, size = _convolution_matrix(weight, value.shape, layer.stride, layer.padding, layer.dilation)
    return value.through(matrix, np.repeat(_bias(layer), size[0] * size[1]), (len(weight), *size))


def _convolution_matrix(
    weight: Array, shape: tuple[int, ...], stride: Any, padding: Any, dilation: Any = 1
) -> tuple[sparse.csr_array, tuple[int, int]]:
    """The matrix (outputs, inputs) of a convolution of ``weight`` (o, c, h, w), and its output's height and width."""
    if len(shape) != 3 or shape[0] != weight.shape[1]:
        raise TypeError(f"a convolution of {weight.shape[1]} channels meets the shape {shape}")
    places = torch.arange(1, int(np.prod(shape)) + 1, dtype=torch.float64).view(1, *shape)
    kernel = cast(tuple[int, int], weight.shape[2:])
    at = nn.functional.unfold(places, kernel, dilation, padding, stride)[0].long().numpy() - 1  # (c h w, positions), -1 outside
    outputs, positions = len(weight), at.shape[1]
    values = np.broadcast_to(weight.reshape(outputs, -1, 1), (outputs, *at.shape))
    rows = np.broadcast_to(np.arange(outputs * positions).reshape(outputs, 1, positions), values.shape)
    columns = np.broadcast_to(at, values.shape)
    kept = (columns >= 0) & (values != 0)
    matrix = sparse.coo_array((values[kept], (rows[kept], columns[kept])), shape=(outputs * positions, places.numel()))
    blank = nn.functional.conv2d(torch.zeros(1, *shape), torch.zeros(1, shape[0], *kernel), None, stride, padding, dilation)
    return sparse.csr_array(matrix), cast(tuple[int, int], tuple(blank.shape[2:]))


def _batch_norm(layer: nn.BatchNorm1d | nn.BatchNorm2d, value: _Value) -> _Value:
    if layer.running_mean is None or layer.running_var is None:
        raise TypeError(f"{layer} keeps no running statistics, so it has no normal form")
    scale = 1 / np.sqrt(_array(layer.running_var) + layer.eps)
    scale = scale if layer.weight is None else scale * _array(layer.weight)
    shift = -_array(layer.running_mean) * scale
    return value.scaled(scale, shift if layer.bias is None else shift + _array(layer.bias))


def _normalize(layer: Normalize, value: _Value) -> _Value:
    mean, std = _array(cast(Tensor, layer.mean)).ravel(), _array(cast(Tensor, layer.std)).ravel()
    return value.scaled(1 / std, -mean / std)


def _elementwise(layer: Elementwise, value: _Value) -> _Value:
    scale, shift = (np.broadcast_to(_array(t), value.shape).ravel() for t in (layer.scale, layer.shift))
    return value.through(_diagonal(scale), shift, value.shape)


def _average(layer: nn.AvgPool2d | nn.AdaptiveAvgPool2d, value: _Value) -> _Value:
    channels, height, width = value.shape
    kernel: Any
    if isinstance(layer, nn.AdaptiveAvgPool2d):
        if layer.output_size not in (1, (1, 1)):
            raise TypeError(f"{layer} has no normal form here; only a mean over all positions has")
        kernel, stride, padding = (height, width), 1, 0
    else:
        size: Any = layer.kernel_size
        kernel = size if isinstance(size, tuple) else (size, size)
        stride, padding = layer.stride, layer.padding
        if layer.ceil_mode or layer.divisor_override or (padding and not layer.count_include_pad):
            raise TypeError(f"{layer} has no normal form here; use the plain average pool")
    weight = np.zeros((channels, channels, *kernel))
    weight[np.arange(channels), np.arange(channels)] = 1 / np.prod(kernel)
    matrix, out = _convolution_matrix(weight, value.shape, stride, padding)
    return value.through(matrix, np.zeros(channels * out[0] * out[1]), (channels, *out))


_LAYERS: dict[type[nn.Module], Callable[[Any, _Value], _Value]] = {
    nn.Linear: _linear,
    nn.Conv2d: _convolution,
    nn.BatchNorm1d: _batch_norm,
    nn.BatchNorm2d: _batch_norm,
    Normalize: _normalize,
    Elementwise: _elementwise,
    Mask: lambda layer, value: value.through(_diagonal(_array(layer.kept).ravel()), np.zeros(layer.kept.numel()), value.shape),
    nn.AvgPool2d: _average,
    nn.AdaptiveAvgPool2d: _average,
    nn.Flatten: lambda _, value: _flat(value),
    nn.Identity: lambda _, value: value,
    nn.Dropout: lambda _, value: value,
}


def _layer(layer: nn.Module, value: _Value) -> _Value:
    for kind, function in _LAYERS.items():
        if isinstance(layer, kind):
            return function(layer, value)
    known = ", ".join(kind.__name__ for kind in _LAYERS)
    raise TypeError(f"there is no normal form of a layer {layer}; known are ReLU, {known} and sums")
