"""Networks in ONNX, as torch modules. Needs ``pip install "advlab[onnx]"``."""

from __future__ import annotations

import operator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, fx, nn

from .layers import Elementwise


def read_onnx(path: str | Path) -> tuple[nn.Module, tuple[int, ...]]:
    """The network of an ONNX file, and the shape of one input.

    Takes Conv, Gemm, MatMul, Add, Sub, Mul and Div with constants, sums of two branches, BatchNormalization, AveragePool,
    GlobalAveragePool, Relu, Flatten, Reshape to a vector, Identity and Dropout.

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
    Guarantee
    ---------
    Weights keep their values.
    """
    import onnx
    from onnx import numpy_helper

    graph = onnx.load(str(path)).graph
    constants = {t.name: numpy_helper.to_array(t) for t in graph.initializer}
    inputs = [i for i in graph.input if i.name not in constants]
    if len(inputs) != 1 or len(graph.output) != 1:
        raise TypeError(f"{path} has {len(inputs)} inputs and {len(graph.output)} outputs; only one of each is known")
    shape = tuple(d.dim_value for d in inputs[0].type.tensor_type.shape.dim)[1:]
    if not all(shape):
        raise TypeError(f"{path} leaves the shape of its input open: {shape}")
    build = _Builder(constants)
    build.values[inputs[0].name] = build.graph.placeholder("x")
    for node in graph.node:
        attributes = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
        if node.op_type == "Constant":
            constants[node.output[0]] = numpy_helper.to_array(attributes["value"])
            continue
        if node.op_type not in _OPERATORS:
            raise TypeError(f"{path} uses {node.op_type}, which has no normal form; known are {', '.join(sorted(_OPERATORS))}")
        build.values[node.output[0]] = _OPERATORS[node.op_type](build, list(node.input), attributes)
    build.graph.output(build.values[graph.output[0].name])
    return fx.GraphModule(build.root, build.graph).eval(), shape


class _Builder:
    """A torch.fx graph in the making: named values are nodes, constants are arrays."""

    def __init__(self, constants: dict[str, np.ndarray]) -> None:
        self.constants, self.graph, self.root = constants, fx.Graph(), nn.Module()
        self.values: dict[str, fx.Node] = {}

    def layer(self, module: nn.Module, name: str) -> fx.Node:
        key = f"layer{len(self.root._modules)}"
        self.root.add_module(key, module)
        return self.graph.call_module(key, (self.values[name],))

    def constant(self, name: str) -> Tensor:
        if name not in self.constants:
            raise TypeError(f"{name} is computed, where only a constant has a normal form")
        return torch.from_numpy(np.array(self.constants[name], np.float32))


def _gemm(build: _Builder, names: list[str], attributes: dict[str, Any]) -> fx.Node:
    if attributes.get("transA") or attributes.get("alpha", 1.0) != 1 or attributes.get("beta", 1.0) != 1:
        raise TypeError("Gemm with transA, alpha or beta has no normal form here")
    weight = build.constant(names[1])
    weight = weight if attributes.get("transB") else weight.T
    return build.layer(_linear(weight, build.constant(names[2]).flatten() if len(names) > 2 else None), names[0])


def _linear(weight: Tensor, bias: Tensor | None) -> nn.Linear:
    layer = nn.Linear(weight.shape[1], weight.shape[0], bias=bias is not None)
    with torch.no_grad():
        layer.weight.copy_(weight)
        if bias is not None:
            layer.bias.copy_(bias)
    return layer


def _matmul(build: _Builder, names: list[str], attributes: dict[str, Any]) -> fx.Node:
    if names[0] in build.constants:  # weights @ column: the same map on vectors
        return build.layer(_linear(build.constant(names[0]), None), names[1])
    return build.layer(_linear(build.constant(names[1]).T, None), names[0])


def _conv(build: _Builder, names: list[str], attributes: dict[str, Any]) -> fx.Node:
    weight = build.constant(names[1])
    if weight.ndim != 4 or attributes.get("auto_pad", b"NOTSET") != b"NOTSET":
        raise TypeError("only convolutions of two dimensions with pads in numbers have a normal form here")
    groups = attributes.get("group", 1)
    layer = nn.Conv2d(
        weight.shape[1] * groups,
        weight.shape[0],
        tuple(weight.shape[2:]),  # type: ignore[arg-type]
        tuple(attributes.get("strides", (1, 1))),
        _padding(attributes),
        tuple(attributes.get("dilations", (1, 1))),
        groups,
        bias=len(names) > 2,
    )
    with torch.no_grad():
        layer.weight.copy_(weight)
        if layer.bias is not None:
            layer.bias.copy_(build.constant(names[2]))
    return build.layer(layer, names[0])


def _padding(attributes: dict[str, Any]) -> tuple[int, int]:
    top, left, bottom, right = attributes.get("pads", (0, 0, 0, 0))
    if (top, left) != (bottom, right):
        raise TypeError(f"pads {(top, left, bottom, right)} differ between sides, which has no normal form here")
    return top, left


def _batch_norm(build: _Builder, names: list[str], attributes: dict[str, Any]) -> fx.Node:
    scale, shift, mean, variance = (build.constant(name).double() for name in names[1:5])
    scale = scale / (variance + attributes.get("epsilon", 1e-5)).sqrt()
    shape = (-1, 1, 1)
    return build.layer(Elementwise(scale.view(shape), (shift - mean * scale).view(shape)), names[0])


def _arithmetic(sign: str) -> Any:
    def add(build: _Builder, names: list[str], attributes: dict[str, Any]) -> fx.Node:
        first, second = names
        computed = [name for name in names if name not in build.constants]
        if len(computed) == 2:
            if sign != "Add":
                raise TypeError(f"{sign} of two computed values has no normal form; a sum of two has")
            return build.graph.call_function(operator.add, (build.values[first], build.values[second]))
        constant = build.constant(second if first in computed else first)
        constant = constant[0] if constant.ndim > 1 and len(constant) == 1 else constant
        one, zero = torch.ones(()), torch.zeros(())
        turned = first not in computed  # constant on the left
        if sign == "Div" and turned:
            raise TypeError("division by a computed value has no normal form")
        scale, shift = {
            "Add": (one, constant),
            "Sub": (-one, constant) if turned else (one, -constant),
            "Mul": (constant, zero),
            "Div": (1 / constant.double(), zero),
        }[sign]
        return build.layer(Elementwise(scale, shift), computed[0])

    return add


def _reshape(build: _Builder, names: list[str], attributes: dict[str, Any]) -> fx.Node:
    target = build.constants.get(names[1])
    if target is None or len(target) != 2:
        raise TypeError(f"Reshape to {None if target is None else target.tolist()}; only one to a vector has a normal form")
    return build.graph.call_function(torch.flatten, (build.values[names[0]], 1))


def _pool(build: _Builder, names: list[str], attributes: dict[str, Any]) -> fx.Node:
    padding = _padding(attributes)
    if attributes.get("ceil_mode") or attributes.get("auto_pad", b"NOTSET") != b"NOTSET":
        raise TypeError("AveragePool with ceil_mode or auto_pad has no normal form here")
    if padding != (0, 0) and not attributes.get("count_include_pad"):
        raise TypeError("AveragePool that leaves the padding out of its mean has no normal form here")
    kernel, stride = tuple(attributes["kernel_shape"]), tuple(attributes.get("strides", (1, 1)))
    return build.layer(nn.AvgPool2d(kernel, stride, padding), names[0])  # type: ignore[arg-type]


_OPERATORS: dict[str, Any] = {
    "Gemm": _gemm,
    "MatMul": _matmul,
    "Conv": _conv,
    "BatchNormalization": _batch_norm,
    **{sign: _arithmetic(sign) for sign in ("Add", "Sub", "Mul", "Div")},
    "Relu": lambda build, names, _: build.graph.call_function(torch.relu, (build.values[names[0]],)),
    "Flatten": lambda build, names, _: build.graph.call_function(torch.flatten, (build.values[names[0]], 1)),
    "Reshape": _reshape,
    "AveragePool": _pool,
    "GlobalAveragePool": lambda build, names, _: build.layer(nn.AdaptiveAvgPool2d(1), names[0]),
    "Identity": lambda build, names, _: build.values[names[0]],
    "Dropout": lambda build, names, _: build.values[names[0]],
}
