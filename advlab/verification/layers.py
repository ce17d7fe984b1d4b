"""Each layer that a normal form takes, as an affine map: convolutions and pools as sparse matrices, batch norm by channel."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import sparse
from torch import Tensor, nn

from ..models import HalvingConv2d, Mask, Normalize

Array = NDArray[np.float64]
Index = NDArray[np.intp]

UNIT = 2.0**-53  #: the relative rounding error of one operation in float64


@dataclass(frozen=True)
class AffineMap:
    """What a module of the network computes, flattened: an affine map of the sources, and its shape without the batch.

    A source is the input (0), or the outputs of a ReLU layer (from 1 on).
    """

    parts: dict[int, sparse.csr_array]
    bias: Array
    shape: tuple[int, ...]
    doubt: Array  #: (units, 2), rounding errors of forming a row, summed over it, and of the bias

    def through(self, matrix: sparse.csr_array, bias: Array, shape: tuple[int, ...], doubt: Array | float = 0.0) -> AffineMap:
        """The map and then another, whose entries may have 8 roundings each, and its bias a rounding error of ``doubt``."""
        parts = {s: cast(Any, matrix @ part).tocsr() for s, part in self.parts.items()}
        terms = int(np.diff(matrix.indptr).max(initial=0)) + 8
        rounded = abs(matrix) @ (self.doubt + terms * UNIT * self.size)
        rounded[:, 1] += terms * UNIT * abs(bias) + doubt
        return AffineMap(parts, matrix @ self.bias + bias, shape, rounded)

    @property
    def size(self) -> Array:
        """The sums of the absolute values of each row, and those of the bias, (units, 2)."""
        rows = sum((abs(part).sum(1) for part in self.parts.values()), np.zeros(len(self.bias)))
        return np.stack([rows, abs(self.bias)], 1)

    def scaled(self, scale: Array, shift: Array, doubt: Array | float = 0.0) -> AffineMap:
        """Channel by channel: ``scale``, ``shift`` and its ``doubt`` (c,)."""
        if len(scale) != self.shape[0]:
            raise TypeError(f"a layer of {len(scale)} channels meets the shape {self.shape}")
        repeat = int(np.prod(self.shape[1:]))
        each = [np.repeat(np.asarray(v, np.float64), repeat) for v in (scale, shift, np.broadcast_to(doubt, scale.shape))]
        return self.through(diagonal(each[0]), each[1], self.shape, each[2])

    def plus(self, other: AffineMap) -> AffineMap:
        if self.shape != other.shape:
            raise TypeError(f"branches of the shapes {self.shape} and {other.shape} are added: only equal shapes are known")
        parts = dict(self.parts)
        for source, part in other.parts.items():
            parts[source] = cast(sparse.csr_array, parts[source] + part) if source in parts else part
        whole = AffineMap(parts, self.bias + other.bias, self.shape, self.doubt + other.doubt)
        return replace(whole, doubt=whole.doubt + UNIT * whole.size)


@dataclass(frozen=True)
class AffineLayer:
    """The inputs of one ReLU layer, or the logits: sum over sources of matrix @ source, plus bias.

    Source 0 is the flattened input, source k the outputs of ReLU layer k, from 1 on.
    """

    matrices: dict[int, sparse.csr_array] = field(repr=False)  #: source -> (units, size of the source)
    bias: Array = field(repr=False)  #: (units,)
    doubt: Array = field(repr=False)  #: (units, 2), rounding errors of forming the row, summed over it, and of the bias
    places: Index | None = field(default=None, repr=False)  #: (units,), of a ReLU layer: which of its values, flattened

    @property
    def units(self) -> int:
        return len(self.bias)

    @functools.cached_property
    def magnitudes(self) -> dict[int, sparse.csr_array]:
        """The matrices with the absolute values of their entries, for interval arithmetic."""
        return {source: abs(matrix) for source, matrix in self.matrices.items()}

    @functools.cached_property
    def terms(self) -> int:
        """The most entries that a unit has."""
        rows = [np.diff(matrix.indptr) for matrix in self.matrices.values()]
        return int(np.sum(rows, 0).max(initial=0)) if rows else 0

    def reach(self, sizes: dict[int, Array], faults: dict[int, Array]) -> tuple[Array, Array]:
        """How large what a unit adds up may be, and its error, each (units,), given both for the sources."""
        reach, fault = abs(self.bias), self.doubt @ [max(size.max(initial=0) for size in sizes.values()), 1.0]
        for source, matrix in self.magnitudes.items():
            both = matrix @ np.stack([sizes[source], faults[source]], 1)
            reach, fault = reach + both[:, 0], fault + both[:, 1]
        return reach, fault


def diagonal(values: Array) -> sparse.csr_array:
    return sparse.csr_array(sparse.diags_array(values))


def pair(size: Any) -> tuple[int, int]:
    """A size of two dimensions, as layers have it: one number, two, or a list."""
    return tuple(size) if isinstance(size, tuple | list) else (size, size)


def spread(layer: nn.Module, values: NDArray[Any], shape: tuple[int, ...]) -> NDArray[Any]:
    """What a layer has for each value of its input, flattened: ``values``, broadcast to the input's ``shape``; TypeError."""
    try:
        return np.broadcast_to(values, (1, *shape)).ravel()
    except ValueError as e:
        raise TypeError(f"{type(layer).__name__} of the shape {values.shape} meets inputs of the shape {shape}") from e


def linear(value: AffineMap, weight: Array, bias: Array) -> AffineMap:
    """The map weight @ value + bias, along the last dimension."""
    *before, size = value.shape or (0,)
    if size != weight.shape[1]:
        raise TypeError(f"a linear layer of {weight.shape[1]} inputs meets the shape {value.shape}: flatten first")
    times = int(np.prod(before))
    matrix = sparse.csr_array(weight) if times == 1 else sparse.csr_array(sparse.kron(sparse.eye_array(times), weight))
    return value.through(matrix, np.tile(bias, times), (*before, len(weight)))


def _array(t: Tensor) -> Array:
    return t.detach().cpu().double().numpy()


def _bias(layer: nn.Linear | nn.Conv2d) -> Array:
    return _array(layer.bias) if layer.bias is not None else np.zeros(len(layer.weight))


def _convolution(layer: nn.Conv2d, value: AffineMap) -> AffineMap:
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


def _batch_norm(layer: nn.BatchNorm1d | nn.BatchNorm2d, value: AffineMap) -> AffineMap:
    if layer.running_mean is None or layer.running_var is None:
        raise TypeError(f"{layer} keeps no running statistics, so it has no normal form")
    if not (layer.running_var + layer.eps > 0).all():
        raise ValueError(f"{layer} has a running variance that is not above 0: train it further, or set it")
    scale = 1 / np.sqrt(_array(layer.running_var) + layer.eps)
    scale = scale if layer.weight is None else scale * _array(layer.weight)
    shift = -_array(layer.running_mean) * scale
    return value.scaled(scale, shift if layer.bias is None else shift + _array(layer.bias), 8 * UNIT * abs(shift))


def _normalize(layer: Normalize, value: AffineMap) -> AffineMap:
    mean, std = _array(layer.mean), _array(layer.std)
    scale, shift = (spread(layer, each, value.shape) for each in (1 / std, -mean / std))
    return value.through(diagonal(scale), shift, value.shape)


def _mask(layer: Mask, value: AffineMap) -> AffineMap:
    return value.through(diagonal(spread(layer, _array(layer.kept), value.shape)), np.zeros(len(value.bias)), value.shape)


def _average(layer: nn.AvgPool2d | nn.AdaptiveAvgPool2d, value: AffineMap) -> AffineMap:
    if len(value.shape) != 3:
        raise TypeError(f"{layer} meets inputs of the shape {value.shape}")
    channels, height, width = value.shape
    if isinstance(layer, nn.AdaptiveAvgPool2d):
        if pair(layer.output_size) != (1, 1):
            raise TypeError(f"{layer} has no normal form here; only a mean over all positions has")
        kernel, stride, padding = (height, width), (1, 1), (0, 0)
    else:
        kernel, stride, padding = map(pair, (layer.kernel_size, layer.stride, layer.padding))
        if layer.ceil_mode or layer.divisor_override or (any(padding) and not layer.count_include_pad):
            raise TypeError(f"{layer} has no normal form here; use the plain average pool")
    weight = np.zeros((channels, channels, *kernel))
    weight[np.arange(channels), np.arange(channels)] = 1 / np.prod(kernel)
    matrix, out = _convolution_matrix(weight, value.shape, stride, padding)
    return value.through(matrix, np.zeros(channels * out[0] * out[1]), (channels, *out))


LAYERS: dict[type[nn.Module], Callable[[Any, AffineMap], AffineMap]] = {
    nn.Linear: lambda layer, value: linear(value, _array(layer.weight), _bias(layer)),
    nn.Conv2d: _convolution,
    nn.BatchNorm1d: _batch_norm,
    nn.BatchNorm2d: _batch_norm,
    Normalize: _normalize,
    Mask: _mask,
    nn.AvgPool2d: _average,
    nn.AdaptiveAvgPool2d: _average,
    nn.Identity: lambda _, value: value,
    **dict.fromkeys((nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d), lambda _, value: value),
}


def known_layers() -> tuple[type[nn.Module], ...]:
    """The affine layers that :func:`normal_form` reads."""
    return (HalvingConv2d, *LAYERS)


def through_layer(layer: nn.Module, value: AffineMap) -> AffineMap:
    for kind, function in LAYERS.items():
        if isinstance(layer, kind):
            return function(layer, value)
    known = ", ".join(kind.__name__ for kind in LAYERS)
    raise TypeError(f"there is no normal form of a layer {layer}; known are {known}, ReLU and its kin, maxima and sums")
