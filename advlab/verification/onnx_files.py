"""Networks in ONNX, as torch modules. Needs ``pip install "advlab[onnx]"``."""

from __future__ import annotations

import functools
import operator
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, fx, nn

from .onnx_reference import compare, folded


def read_onnx(path: str | Path) -> tuple[nn.Module, tuple[int, ...]]:
    """The network of an ONNX file, and the shape of one input.

    Takes the operators that :func:`normal_form` can follow: what is affine, piecewise linear, or only moves values. What is
    computed from constants alone is folded.

    Parameters
    ----------
    path : str or Path
    Returns
    -------
    nn.Module in eval mode, and the shape without the batch
    Raises
    ------
    TypeError, ImportError
        any other operator or attribute, by its name; no onnx
    ValueError
        a file that is none
    Guarantee
    ---------
    Weights keep their values, in float32 or float64. At a random input the answer is that of ONNX's own reference, as far as
    float32 goes.
    """
    import onnx

    try:
        model = onnx.load(str(path))
    except OSError:
        raise
    except Exception as e:  # protobuf's own
        raise ValueError(f"{path} is no network in ONNX, or is cut off: {e}") from e
    if not model.graph.node:
        raise ValueError(f"{path} is no network in ONNX, or is cut off: there is no operator in it")
    graph, opsets = model.graph, {entry.domain: entry.version for entry in model.opset_import}
    constants = {t.name: onnx.numpy_helper.to_array(t) for t in graph.initializer}
    inputs = [i for i in graph.input if i.name not in constants]
    if len(inputs) != 1 or len(graph.output) != 1:
        raise TypeError(f"{path} has {len(inputs)} inputs and {len(graph.output)} outputs; only one of each is known")
    sizes = [d.dim_value for d in inputs[0].type.tensor_type.shape.dim]
    vector = len(sizes) == 1  # of one input, without a batch
    if not sizes or (not vector and sizes[0] > 1):
        raise TypeError(f"{path} has an input of the shape {sizes}, which does not begin with a batch of 1 or of any size")
    shape = tuple(sizes if vector else sizes[1:])
    if not all(shape):
        raise TypeError(f"{path} leaves the shape of its input open: {shape}")
    build = _Builder(constants, vector)
    build.values[inputs[0].name] = build.graph.placeholder("x")
    for node in graph.node:
        attributes = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
        if all(name in build.constants for name in node.input if name):
            build.constants |= zip(node.output, folded(node, build.constants, opsets), strict=False)
            continue
        if node.op_type not in _OPERATORS:
            raise TypeError(f"{path} uses {node.op_type}, which has no normal form; known are {', '.join(sorted(_OPERATORS))}")
        if vector and node.op_type not in _OF_VECTORS:
            raise TypeError(f"{path} uses {node.op_type} on an input without a batch: export it with a batch of 1 in front")
        missing = [name for name in node.input if name and name not in (*build.values, *build.constants)]
        if missing or len([name for name in node.output if name]) != 1:
            raise TypeError(
                f"{path} uses {node.op_type} of {list(node.input)}, of which {missing} are not known, or not simply"
            )
        build.values[node.output[0]] = _OPERATORS[node.op_type](build, list(node.input), attributes)
    if graph.output[0].name not in build.values:
        raise TypeError(f"{path} has an output that does not depend on its input")
    build.graph.output(build.values[graph.output[0].name])
    net = fx.GraphModule(build.root, build.graph).eval()
    compare(model, net, [size or 1 for size in sizes], shape)
    return net, shape


class _Builder:
    """A torch.fx graph in the making: named values are nodes, constants are arrays."""

    def __init__(self, constants: dict[str, np.ndarray], vector: bool) -> None:
        self.constants, self.vector, self.graph, self.root = constants, vector, fx.Graph(), nn.Module()
        self.values: dict[str, fx.Node] = {}

    def layer(self, module: nn.Module, name: str) -> fx.Node:
        key = f"layer{len(self.root._modules)}"
        self.root.add_module(key, module)
        return self.graph.call_module(key, (self.values[name],))

    def constant(self, name: str) -> Tensor:
        if name not in self.constants:
            raise TypeError(f"{name} is computed, where only a constant has a normal form")
        value = np.array(self.constants[name])
        return torch.from_numpy(value.astype(np.float32) if value.dtype == np.float16 else value)

    def integers(self, names: list[str], at: int, attributes: dict[str, Any], key: str) -> list[int] | None:
        """Settings that are an input in newer files and an attribute in older ones."""
        if at < len(names) and names[at]:
            return self.constant(names[at]).flatten().tolist()
        return list(attributes[key]) if key in attributes else None

    def value(self, name: str) -> fx.Node:
        """A named value, computed or constant."""
        if name not in self.values:
            key = f"constant{len(self.root._buffers)}"
            self.root.register_buffer(key, self.constant(name))
            return self.graph.get_attr(key)
        return self.values[name]

    def call(self, function: Any, *arguments: Any, **options: Any) -> fx.Node:
        return self.graph.call_function(function, arguments, options)


def _gemm(build: _Builder, names: list[str], attributes: dict[str, Any]) -> fx.Node:
    if attributes.get("transA") or attributes.get("alpha", 1.0) != 1 or attributes.get("beta", 1.0) != 1:
        raise TypeError("Gemm with transA, alpha or beta has no normal form here")
    weight = build.constant(names[1])
    weight = weight if attributes.get("transB") else weight.T
    return build.layer(_linear(weight, build.constant(names[2]).flatten() if len(names) > 2 else None), names[0])


def _linear(weight: Tensor, bias: Tensor | None) -> nn.Linear:
    layer = nn.Linear(weight.shape[1], weight.shape[0], bias is not None, dtype=weight.dtype)
    with torch.no_grad():
        layer.weight.copy_(weight)
        if bias is not None:
            layer.bias.copy_(bias)
    return layer


def _matmul(build: _Builder, names: list[str], attributes: dict[str, Any]) -> fx.Node:
    if names[0] not in build.constants:
        return build.layer(_linear(build.constant(names[1]).T, None), names[0])
    layer = _linear(build.constant(names[0]), None)
    if build.vector:
        return build.layer(layer, names[1])
    columns = build.call(torch.transpose, build.values[names[1]], -1, -2)  # weights @ columns: each is mapped by itself
    build.values[names[1] + " in rows"] = columns
    return build.call(torch.transpose, build.layer(layer, names[1] + " in rows"), -1, -2)


def _conv(build: _Builder, names: list[str], attributes: dict[str, Any]) -> fx.Node:
    weight = build.constant(names[1])
    if weight.ndim != 4 or attributes.get("auto_pad", b"NOTSET") != b"NOTSET":
        raise TypeError("only convolutions of two dimensions with pads in numbers have a normal form here")
    top, left, bottom, right = attributes.get("pads", (0, 0, 0, 0))
    image, padding = names[0], (top, left)
    if (top, left) != (bottom, right):
        image, padding = f"{names[0]} with pads", (0, 0)
        build.values[image] = build.call(nn.functional.pad, build.values[names[0]], [left, right, top, bottom])
    groups = attributes.get("group", 1)
    layer = nn.Conv2d(
        weight.shape[1] * groups,
        weight.shape[0],
        tuple(weight.shape[2:]),  # type: ignore[arg-type]
        tuple(attributes.get("strides", (1, 1))),
        padding,
        tuple(attributes.get("dilations", (1, 1))),
        groups,
        bias=len(names) > 2,
        dtype=weight.dtype,
    )
    with torch.no_grad():
        layer.weight.copy_(weight)
        if layer.bias is not None:
            layer.bias.copy_(build.constant(names[2]))
    return build.layer(layer, image)


def _padding(attributes: dict[str, Any]) -> tuple[int, int]:
    top, left, bottom, right = attributes.get("pads", (0, 0, 0, 0))
    if (top, left) != (bottom, right):
        raise TypeError(f"pads {(top, left, bottom, right)} differ between sides, which has no normal form here")
    return top, left


class BatchNorm(nn.BatchNorm2d):
    """Batch norm of (n, c, ...), as ONNX has it: torch's layers take one number of dimensions each."""

    def _check_input_dim(self, input: Tensor) -> None:
        """Any will do."""


def _batch_norm(build: _Builder, names: list[str], attributes: dict[str, Any]) -> fx.Node:
    scale, shift, mean, variance = (build.constant(name) for name in names[1:5])
    layer = BatchNorm(len(scale), attributes.get("epsilon", 1e-5), dtype=scale.dtype)
    held = (layer.weight, scale), (layer.bias, shift), (layer.running_mean, mean), (layer.running_var, variance)
    with torch.no_grad():
        for place, value in held:
            cast(Tensor, place).copy_(value)
    return build.layer(layer, names[0])


def _arithmetic(sign: str, function: Any) -> Any:
    def two(build: _Builder, names: list[str], attributes: dict[str, Any]) -> fx.Node:
        if sign == "Mul" and not set(names) & set(build.constants):
            raise TypeError("Mul of two computed values has no normal form; a sum of two has")
        if sign == "Div" and names[1] not in build.constants:
            raise TypeError("division by a computed value has no normal form")
        return build.call(function, *map(build.value, names))

    return two


def _extreme(function: Any) -> Any:
    return lambda build, names, _: functools.reduce(functools.partial(build.call, function), map(build.value, names))


def _clip(build: _Builder, names: list[str], attributes: dict[str, Any]) -> fx.Node:
    given = [build.constant(name).item() if name else None for name in [*names[1:], "", ""][:2]]
    ends = [attributes.get(key, value) for key, value in zip(("min", "max"), given, strict=True)]
    return build.values[names[0]] if ends == [None, None] else build.call(torch.clamp, build.values[names[0]], *ends)


def _prelu(build: _Builder, names: list[str], attributes: dict[str, Any]) -> fx.Node:
    slope = build.constant(names[1])
    if slope.numel() not in (1, *slope.shape):
        raise TypeError(
            f"PRelu with slopes of the shape {tuple(slope.shape)} has no normal form here; one, or one for each channel, has"
        )
    layer = nn.PReLU(slope.numel(), dtype=slope.dtype)
    with torch.no_grad():
        layer.weight.copy_(slope.flatten())
    return build.layer(layer, names[0])


def _reshape(build: _Builder, names: list[str], attributes: dict[str, Any]) -> fx.Node:
    """The first number is the batch's: 1, 0 or -1 there is as many images as there are."""
    x, target = build.values[names[0]], build.integers(names, 1, attributes, "shape") or []
    if attributes.get("allowzero") or len(target) < 2 or target[0] > 1 or target.count(-1) > 1:
        raise TypeError(f"Reshape to {target}; only one that keeps the batch in front has a normal form")
    sizes = [build.graph.call_method("size", (x, k)) if n == 0 or k == 0 else n for k, n in enumerate(target)]
    return build.graph.call_method("reshape", (x, *sizes))


def _pad(build: _Builder, names: list[str], attributes: dict[str, Any]) -> fx.Node:
    pads = build.integers(names, 1, attributes, "pads") or []
    fill = build.constant(names[2]).item() if len(names) > 2 and names[2] else attributes.get("value", 0)
    half = len(pads) // 2
    if attributes.get("mode", b"constant") != b"constant" or fill or pads[0] or pads[half] or len(names) > 3:
        raise TypeError("Pad with anything but zeros around an image has no normal form here")
    around = [n for k in reversed(range(1, half)) for n in (pads[k], pads[half + k])]
    return build.call(nn.functional.pad, build.values[names[0]], around)


def _slice(build: _Builder, names: list[str], attributes: dict[str, Any]) -> fx.Node:
    starts, ends = (build.integers(names, at, attributes, key) or [] for at, key in ((1, "starts"), (2, "ends")))
    axes = build.integers(names, 3, attributes, "axes") or list(range(len(starts)))
    steps = build.integers(names, 4, attributes, "steps") or [1] * len(starts)
    x = build.values[names[0]]
    for axis, start, end, step in zip(axes, starts, ends, steps, strict=True):
        if axis < 1 or step < 1:
            raise TypeError(f"Slice along {axis} in steps of {step} has no normal form here")
        x = build.call(operator.getitem, x, (*[slice(None)] * axis, slice(start, end, step)))
    return x


def _along(function: Any) -> Any:
    """Along axes, one after the other: Squeeze from behind, Unsqueeze from the front."""

    def each(build: _Builder, names: list[str], attributes: dict[str, Any]) -> fx.Node:
        axes = sorted(build.integers(names, 1, attributes, "axes") or [], reverse=function is torch.squeeze)
        if not axes or axes[0] < 0 or 0 in axes:
            raise TypeError(f"axes {axes} have no normal form here: name them from the front, without the batch")
        return functools.reduce(functools.partial(build.call, function), axes, build.values[names[0]])

    return each


def _mean(build: _Builder, names: list[str], attributes: dict[str, Any]) -> fx.Node:
    axes = build.integers(names, 1, attributes, "axes")
    if not axes:
        raise TypeError("ReduceMean over all axes has no normal form: it mixes the images of a batch")
    return build.call(torch.mean, build.values[names[0]], axes, bool(attributes.get("keepdims", 1)))


def _pool(kind: Any) -> Any:
    def pool(build: _Builder, names: list[str], attributes: dict[str, Any]) -> fx.Node:
        padding, name = _padding(attributes), kind.__name__
        if attributes.get("ceil_mode") or attributes.get("auto_pad", b"NOTSET") != b"NOTSET" or attributes.get("storage_order"):
            raise TypeError(f"{name} with ceil_mode, auto_pad or storage_order has no normal form here")
        kernel, stride = tuple(attributes["kernel_shape"]), tuple(attributes.get("strides", (1, 1)))
        if kind is nn.MaxPool2d:
            return build.layer(kind(kernel, stride, padding, tuple(attributes.get("dilations", (1, 1)))), names[0])
        if padding != (0, 0) and not attributes.get("count_include_pad"):
            raise TypeError(f"{name} that leaves the padding out of its mean has no normal form here")
        return build.layer(kind(kernel, stride, padding), names[0])

    return pool


_OPERATORS: dict[str, Any] = {
    "Gemm": _gemm,
    "MatMul": _matmul,
    "Conv": _conv,
    "BatchNormalization": _batch_norm,
    "Add": _arithmetic("Add", operator.add),
    "Sub": _arithmetic("Sub", operator.sub),
    "Mul": _arithmetic("Mul", operator.mul),
    "Div": _arithmetic("Div", operator.truediv),
    "Max": _extreme(torch.maximum),
    "Min": _extreme(torch.minimum),
    "Clip": _clip,
    "PRelu": _prelu,
    "LeakyRelu": lambda build, names, a: build.layer(nn.LeakyReLU(a.get("alpha", 0.01)), names[0]),
    "Neg": lambda build, names, _: build.call(torch.neg, build.values[names[0]]),
    "Abs": lambda build, names, _: build.call(torch.abs, build.values[names[0]]),
    "Concat": lambda build, names, a: build.call(torch.cat, [build.value(name) for name in names], a["axis"]),
    "Transpose": lambda build, names, a: build.call(torch.permute, build.values[names[0]], list(a["perm"])),
    "Pad": _pad,
    "Slice": _slice,
    "Squeeze": _along(torch.squeeze),
    "Unsqueeze": _along(torch.unsqueeze),
    "ReduceMean": _mean,
    "Relu": lambda build, names, _: build.call(torch.relu, build.values[names[0]]),
    "Flatten": lambda build, names, a: build.call(torch.flatten, build.values[names[0]], a.get("axis", 1)),
    "Reshape": _reshape,
    "AveragePool": _pool(nn.AvgPool2d),
    "MaxPool": _pool(nn.MaxPool2d),
    "GlobalAveragePool": lambda build, names, _: build.layer(nn.AdaptiveAvgPool2d(1), names[0]),
    "Identity": lambda build, names, _: build.values[names[0]],
    "Dropout": lambda build, names, _: build.values[names[0]],
}

#: Those that act on each value, or are maps of vectors: with or without a batch they are the same.
_OF_VECTORS = {
    "MatMul",
    "Add",
    "Sub",
    "Mul",
    "Div",
    "Max",
    "Min",
    "Clip",
    "LeakyRelu",
    "Neg",
    "Abs",
    "Relu",
    "Identity",
    "Dropout",
}
