"""Public benchmarks: properties in VNN-LIB, of networks in ONNX."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .onnx_files import read_onnx
from .programs import Solver
from .properties import verify_property
from .verifier import Verdict


@dataclass(frozen=True)
class Property:
    """A part of a VNN-LIB property: on the box, rows @ outputs + const is to stay above 0, in one row at least of each way."""

    low: Tensor = field(repr=False)  #: (inputs,), float64
    high: Tensor = field(repr=False)
    rows: Tensor = field(repr=False)  #: (m, outputs)
    const: Tensor = field(repr=False)  #: (m,)
    ways: tuple[int, ...]  #: (m,), the way to be unsafe that a row is a condition of


def read_vnnlib(path: str | Path) -> list[Property]:
    """The parts of a VNN-LIB file (version 1): the property holds if all of them hold.

    The file describes what is *unsafe*: bounds on inputs X_i, and linear conditions on outputs Y_j, joined by and / or.

    Parameters
    ----------
    path : str or Path
    Returns
    -------
    list of Property
    Raises
    ------
    ValueError, TypeError
        text that cannot be read; a property of another form
    """
    text = re.sub(r";[^\n]*", "", Path(path).read_text())
    names = re.findall(r"\(declare-const\s+([XY])_(\d+)\s+Real\)", text)
    inputs, outputs = (1 + max((int(k) for kind, k in names if kind == which), default=-1) for which in "XY")
    if not inputs or not outputs:
        raise ValueError(f"{path} declares {inputs} inputs X_i and {outputs} outputs Y_j; it needs some of each")
    ways: list[list[tuple[np.ndarray, float]]] = [[]]  # each a list of  a @ (X, Y) + b >= 0
    for expression in _parse(text, path):
        if expression[0] == "assert":
            ways = [way + more for way in ways for more in _unsafe(expression[1], inputs, outputs)]
    boxes: dict[tuple, list[tuple[np.ndarray, float, int]]] = {}
    for number, way in enumerate(ways):
        low, high = np.full(inputs, -np.inf), np.full(inputs, np.inf)
        conditions = []
        for a, b in way:
            places = np.flatnonzero(a)
            if (places >= inputs).all():
                conditions.append((a[inputs:], b))
            elif len(places) == 1:
                (i,) = places
                low[i], high[i] = (max(low[i], -b / a[i]), high[i]) if a[i] > 0 else (low[i], min(high[i], -b / a[i]))
            else:
                raise TypeError(f"{path} relates inputs to each other or to outputs; only a box of inputs is known")
        if not conditions:
            raise TypeError(f"{path} has a way to be unsafe with 0 conditions on outputs; it needs one or more")
        boxes.setdefault((tuple(low), tuple(high)), []).extend((a, b, number) for a, b in conditions)
    found = []
    for (low, high), conditions in boxes.items():
        if not np.isfinite([low, high]).all():
            raise ValueError(f"{path} leaves an input without a bound")
        if not np.less_equal(low, high).all():
            continue  # a box without a point
        rows, const = np.array([-a for a, _, _ in conditions]), np.array([-b for _, b, _ in conditions])
        low, high, rows, const = (torch.tensor(v, dtype=torch.float64) for v in (low, high, rows, const))
        found.append(Property(low, high, rows, const, tuple(number for _, _, number in conditions)))
    return found


def _parse(text: str, path: Any) -> list[Any]:
    """Nested lists of words."""
    stack: list[list[Any]] = [[]]
    for word in re.findall(r"[()]|[^\s()]+", text):
        if word == "(":
            stack.append([])
        elif word == ")":
            if len(stack) < 2:
                raise ValueError(f"{path} closes a bracket that was not opened")
            done = stack.pop()
            stack[-1].append(done)
        else:
            stack[-1].append(word)
    if len(stack) != 1:
        raise ValueError(f"{path} leaves a bracket open")
    return stack[0]


def _unsafe(expression: Any, inputs: int, outputs: int) -> list[list[tuple[np.ndarray, float]]]:
    """The ways in which an expression holds, each a list of conditions a @ (X, Y) + b >= 0."""
    kind, *arguments = expression
    if kind == "or":
        return [way for argument in arguments for way in _unsafe(argument, inputs, outputs)]
    if kind == "and":
        ways: list[list[tuple[np.ndarray, float]]] = [[]]
        for argument in arguments:
            ways = [way + more for way in ways for more in _unsafe(argument, inputs, outputs)]
        return ways
    if kind not in ("<=", ">=", "<", ">"):
        raise TypeError(f"the property uses {kind}; known are and, or, <= and >=")
    (left, a), (right, b) = (_affine(argument, inputs, outputs) for argument in arguments)
    sign = 1 if kind in (">=", ">") else -1
    return [[(sign * (left - right), sign * (a - b))]]


def _affine(term: Any, inputs: int, outputs: int) -> tuple[np.ndarray, float]:
    """A term as an affine function of (X, Y)."""
    if isinstance(term, str):
        a = np.zeros(inputs + outputs)
        if match := re.fullmatch(r"([XY])_(\d+)", term):
            a[int(match[2]) + (inputs if match[1] == "Y" else 0)] = 1
            return a, 0.0
        return a, float(term)
    kind, *arguments = term
    parts = [_affine(argument, inputs, outputs) for argument in arguments]
    if kind == "+":
        return np.sum([a for a, _ in parts], 0), sum(b for _, b in parts)
    if kind == "-":
        (a, b), rest = parts[0], parts[1:]
        return (-a, -b) if not rest else (a - sum(c for c, _ in rest), b - sum(d for _, d in rest))
    if kind == "*" and len(parts) == 2:
        (a, b), (c, d) = parts
        if not a.any() or not c.any():
            return (b * c, b * d) if not a.any() else (d * a, d * b)
    raise TypeError(f"the property uses ({kind} ...), which is no affine term")


def verify_files(
    network: str | Path,
    specification: str | Path,
    *,
    time_limit: float = 120.0,
    margin: float = 1e-6,
    solver: Solver = "highs",
) -> Verdict:
    """:func:`verify_property` on an ONNX network and a VNN-LIB property.

    Parameters
    ----------
    network, specification : str or Path
    time_limit : float above 0, CPU seconds for all parts of the property together
    margin, solver : as in :func:`verify`
    Returns
    -------
    Verdict, "robust" where the property holds
    Raises
    ------
    TypeError, ValueError, ImportError
        as :func:`read_onnx`, :func:`read_vnnlib` and :func:`verify_property`
    Guarantee
    ---------
    That of :func:`verify_property`.
    """
    net, shape = read_onnx(network)
    with torch.no_grad():
        zeros = torch.zeros(1, *shape, dtype=next((p.dtype for p in net.parameters()), torch.float32))
        outputs = net(zeros).numel()
    left, verdict, least, seconds = time_limit, None, float("inf"), 0.0
    for part in read_vnnlib(specification):
        asked, there = (len(part.low), part.rows.shape[1]), (math.prod(shape), outputs)
        if asked != there:
            raise ValueError(f"{specification} is about (inputs, outputs) {asked}, and {network} has {there}")
        box = part.low.view(shape), part.high.view(shape)
        budget = max(left, 0.01)
        limits: dict[str, Any] = {"time_limit": budget, "margin": margin, "solver": solver}
        verdict = verify_property(net, *box, part.rows, part.const, ways=part.ways, **limits)
        left, seconds, least = left - verdict.seconds, seconds + verdict.seconds, min(least, verdict.bound)
        if verdict.status != "robust":
            break
    if verdict is None:
        raise ValueError(f"{specification} asserts nothing")
    bound = least if verdict.status == "robust" else verdict.bound
    return Verdict(verdict.status, verdict.stage, bound, seconds, verdict.unstable, verdict.witness)
