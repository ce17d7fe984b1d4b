"""The peers of bench/verifier.py: auto_LiRPA's bounds, interval arithmetic by hand, Marabou, and a plain big-M program."""

from __future__ import annotations

import copy
import functools
import importlib
import math
import sys
import types
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from unittest import mock

import highspy
import numpy as np
import torch
from scipy import sparse
from torch import Tensor, nn

from advlab import stability

Bounds = list[tuple[Tensor, ...]]  # (lower, upper) of the inputs of each ReLU layer, and of the logits
Bounder = Callable[[Tensor], Bounds]
#: A status, and the input that shows it.
Answer = tuple[str, np.ndarray | None]


def plain(net: nn.Module) -> nn.Sequential:
    """The same network with ``nn.Conv2d`` for every convolution, which is all that auto_LiRPA can read.

    Raises TypeError for layers that the peers' models have no place for, such as pruned ReLUs.
    """
    found = []
    for layer in stability.bounds.layers(copy.deepcopy(net)):
        if isinstance(layer, nn.Conv2d):
            sizes: Any = layer.in_channels, layer.out_channels, layer.kernel_size, layer.stride, layer.padding
            ordinary = nn.Conv2d(*sizes)
            ordinary.load_state_dict(layer.state_dict())
            layer = ordinary
        elif not isinstance(layer, nn.Linear | nn.ReLU | nn.Flatten):
            raise TypeError(f"the peers get linear layers, convolutions, ReLU and flatten; not {type(layer).__name__}")
        found.append(layer)
    return nn.Sequential(*found).eval()


# ---------------------------------------------------------------------------------------------- bounds


def auto_lirpa() -> Callable[[nn.Module, str, torch.dtype, float], Bounder]:
    """PyPI's 0.3 was written for torch 1.12 and NumPy 1: what has moved since is lent to it."""
    inside = "torch.onnx._internal.torchscript_exporter."
    exporter, settings = (importlib.import_module(inside + name) for name in ("utils", "_globals"))
    chosen = functools.partial(setattr, settings.GLOBALS, "export_onnx_opset_version")
    lent: dict[str, Any] = {
        "numpy.lib.arraysetops": types.SimpleNamespace(isin=np.isin),
        "torch.onnx.utils": types.SimpleNamespace(_optimize_graph=exporter._optimize_graph),
        "torch.onnx.symbolic_helper": types.SimpleNamespace(_set_opset_version=chosen),
    }
    with mock.patch.dict(sys.modules, lent):
        lib = importlib.import_module("auto_LiRPA")
        loaded = dict(sys.modules)
    sys.modules.update({name: module for name, module in loaded.items() if name not in lent})
    ball = importlib.import_module("auto_LiRPA.perturbations").PerturbationLpNorm

    def attribute(node: Any, name: str) -> Any:
        return getattr(node, node.kindOf(name))(name)

    def make(net: nn.Module, method: str, dtype: torch.dtype, eps: float) -> Bounder:
        with mock.patch.object(torch._C.Node, "__getitem__", attribute, create=True):
            module = lib.BoundedModule(copy.deepcopy(net).to(dtype), torch.zeros(1, 1, 28, 28, dtype=dtype))

        def bound(x: Tensor) -> Bounds:
            low, high = stability.bounds.box(x.to(dtype), eps)
            at = lib.BoundedTensor(x.to(dtype), ball(norm=np.inf, x_L=low, x_U=high))
            logits = module.compute_bounds(x=(at,), method=method)
            nodes: list[Any] = list(module._modules.values())
            hidden = [node.inputs[0] for node in nodes if type(node).__name__ == "BoundRelu"]
            return [*((node.lower, node.upper) for node in hidden), logits]

        return bound

    return make


def by_hand(net: nn.Module, eps: float) -> Bounder:
    """Interval arithmetic as anyone would write it first."""
    heavy = copy.deepcopy(net).requires_grad_(False)
    for p in heavy.parameters():
        p.copy_(p.abs() if p.ndim > 1 else 0 * p)

    def bound(x: Tensor) -> Bounds:
        (low, high), found = stability.bounds.box(x, eps), Bounds()
        for layer, magnitude in zip(net.children(), heavy.children(), strict=True):
            if isinstance(layer, nn.Conv2d | nn.Linear):
                middle, spread = layer((low + high) / 2), magnitude((high - low) / 2)
                low, high = middle - spread, middle + spread
                continue
            found += [(low, high)] if isinstance(layer, nn.ReLU) else []
            low, high = layer(low), layer(high)
        return [*found, (low, high)]

    return bound


# ---------------------------------------------------------------------------------------------- verdicts


@dataclass(frozen=True)
class Question:
    """Is any input of the ball classified otherwise? The network as one matrix, made from the network itself, not by ours.

    (inputs of all units, margins over the wrong classes, the likeliest first) = matrix @ (inputs, outputs of all units) + bias.
    """

    own: nn.Module  #: as it ships
    net: nn.Module  #: with ordinary convolutions, in float64
    x: Tensor
    y: int
    eps: float
    limit: float
    matrix: sparse.csr_array
    bias: np.ndarray
    units: int

    @property
    def box(self) -> tuple[np.ndarray, np.ndarray]:
        low, high = stability.bounds.box(self.x.double().flatten(), self.eps)
        return low.numpy(), high.numpy()


def question(own: nn.Module, x: Tensor, y: int, eps: float, limit: float) -> Question:
    """Each linear stretch of the network takes the unit vectors; the last one's logits become margins."""
    net = plain(own).double().requires_grad_(False)
    logits = net(x[None].double())[0]
    wrong = [k for k in logits.argsort(descending=True).tolist() if k != y]
    margins = nn.Linear(len(logits), len(wrong), bias=False, dtype=torch.float64).requires_grad_(False)
    margins.weight.copy_(torch.eye(len(logits))[y] - torch.eye(len(logits))[wrong])
    matrices, biases, shape, stretch = [], [], tuple(x.shape), list[nn.Module]()
    for layer in (*net, margins, nn.ReLU()):
        if not isinstance(layer, nn.ReLU):
            stretch.append(layer)
            continue
        run = nn.Sequential(*stretch)
        zero = run(torch.zeros(1, *shape, dtype=torch.float64))
        matrix = (run(torch.eye(math.prod(shape), dtype=torch.float64).view(-1, *shape)) - zero).flatten(1).T
        matrices.append(sparse.csr_array(matrix.where(matrix.abs() > 1e-14, 0.0).numpy()))
        biases.append(zero.flatten().numpy())
        shape, stretch = tuple(zero.shape[1:]), []
    matrix, bias = sparse.csr_array(sparse.block_diag(matrices)), np.concatenate(biases)
    return Question(own, net, x, y, eps, limit, matrix, bias, len(bias) - len(wrong))


def marabou(asked: Question) -> Answer:
    """Through its API, with its default options: one worker, DeepPoly bounds. The query is built once for all classes."""
    core, lib = (importlib.import_module(f"maraboupy.{name}") for name in ("MarabouCore", "Marabou"))
    low, high = asked.box
    units, rows = asked.units, len(asked.bias)
    columns = len(low) + units
    query, answers = core.InputQuery(), set[str]()  # variables: inputs, outputs of units, their inputs, margins
    query.setNumberOfVariables(columns + rows)
    for i in range(len(low)):
        query.setLowerBound(i, float(low[i]))
        query.setUpperBound(i, float(high[i]))
        query.markInputVariable(i, i)
    for i in range(rows):
        equation = core.Equation()
        for at in range(asked.matrix.indptr[i], asked.matrix.indptr[i + 1]):
            equation.addAddend(float(asked.matrix.data[at]), int(asked.matrix.indices[at]))
        equation.addAddend(-1.0, columns + i)
        equation.setScalar(-float(asked.bias[i]))
        query.addEquation(equation)
        if i < units:
            core.addReluConstraint(query, columns + i, len(low) + i)
        else:
            query.markOutputVariable(columns + i, i - units)
    for margin in range(columns + units, columns + rows):
        query.setUpperBound(margin, -1e-6)  # its tolerance, or what it finds may not be one
        code, values, _ = lib.solve_query(query, verbose=False, options=lib.createOptions(verbosity=0))
        if code == "sat":
            return "counterexample", np.array([values[i] for i in range(len(low))])
        query.setUpperBound(margin, sys.float_info.max)  # its infinity
        answers.add(code)
    return "robust" if answers == {"unsat"} else "unknown", None


def big_m(asked: Question) -> Answer:
    """HiGHS on the whole network: a column a unit, and a sign for each that interval arithmetic leaves unstable."""
    low, high = asked.box
    units, inputs = asked.units, len(low)
    bounds = by_hand(asked.net, asked.eps)(asked.x[None].double())[:-1]
    least, most = (torch.cat([pair[side].flatten() for pair in bounds]).numpy() for side in (0, 1))
    on, loose = np.flatnonzero(least >= 0), np.flatnonzero((least < 0) & (most > 0))
    bias, infinite = asked.bias[:units], np.full(len(loose), np.inf)
    output = sparse.hstack([sparse.csr_array((units, inputs)), sparse.eye_array(units)]).tocsr()
    beyond = output - asked.matrix[:units]  # output - input, but for the bias
    ends, heights = (sparse.diags_array(v).tocsr()[loose] for v in (least, most))
    blocks = [
        (beyond[on], sparse.csr_array((len(on), units)), bias[on], bias[on]),  # a = z
        (beyond[loose], 0 * ends, bias[loose], infinite),  # a >= z  # pyrefly: ignore[unsupported-operation]
        # pyrefly: ignore[unsupported-operation]
        (beyond[loose], -ends, -infinite, (bias - least)[loose]),  # a <= z - l (1 - s)
        (output[loose], -heights, -infinite, np.zeros(len(loose))),  # a <= u s  # pyrefly: ignore[unsupported-operation]
    ]
    answers, none = set[bool](), sparse.csr_array((1, units))
    for row, offset in zip(range(units, len(asked.bias)), asked.bias[units:].tolist(), strict=True):
        margin = asked.matrix[row : row + 1]
        rows = [*blocks, (margin, none, np.array([-np.inf]), np.array([-offset]))]
        model, solver, kinds = highspy.HighsLp(), highspy.Highs(), highspy.HighsVarType
        matrix: Any = sparse.block_array([list(parts[:2]) for parts in rows]).tocsr()
        model.num_row_, model.num_col_ = matrix.shape
        # pyrefly: ignore[missing-attribute]
        model.col_cost_, model.offset_ = np.append(margin.toarray()[0], np.zeros(units)), offset
        model.col_lower_ = np.concatenate([low, np.zeros(2 * units)])
        model.col_upper_ = np.concatenate([high, most.clip(0), np.where(least < 0, most > 0, 0.0)])
        # pyrefly: ignore[no-matching-overload]
        model.row_lower_, model.row_upper_ = (np.concatenate([parts[side] for parts in rows]) for side in (2, 3))
        model.integrality_ = [kinds.kContinuous] * (inputs + units) + [kinds.kInteger] * units
        model.a_matrix_.format_ = highspy.MatrixFormat.kRowwise
        model.a_matrix_.start_, model.a_matrix_.index_, model.a_matrix_.value_ = matrix.indptr, matrix.indices, matrix.data
        for name, value in (("output_flag", False), ("threads", 1), ("objective_target", -1e-6)):
            solver.setOptionValue(name, value)
        solver.passModel(model)
        solver.run()
        status, values = solver.getModelStatus(), solver.getSolution().col_value
        if status in (highspy.HighsModelStatus.kObjectiveTarget, highspy.HighsModelStatus.kOptimal):
            return "counterexample", np.array(values[:inputs])
        answers.add(status == highspy.HighsModelStatus.kInfeasible)
    return "robust" if answers == {True} else "unknown", None
