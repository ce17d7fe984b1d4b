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
from .verifier import STAGES, Verdict, check_limits


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
        text that cannot be read, with its path; a property of another form
    """
    text = re.sub(r";[^\n]*", "", Path(path).read_text("utf-8-sig", "replace"))  # but for comments all is ASCII
    try:
        return _parts(_parse(text))
    except (ValueError, TypeError) as e:
        raise type(e)(f"{path} {e}") from e


def _parts(expressions: list[Any]) -> list[Property]:
    """What :func:`read_vnnlib` says, of all expressions in the file; errors go on from its path."""
    places, inputs, outputs = _declared(expressions)
    ways: list[_Way] = [[]]
    for expression in expressions:
        match expression:
            case ["assert", condition]:
                ways = [way + more for way in ways for more in _unsafe(condition, places, inputs + outputs)]
            case ["assert", *conditions]:
                raise ValueError(f"has an assert of {len(conditions)} conditions; it needs one: join them by and")
            case [word, *_] if word in _IDLE:
                pass
            case _:
                raise ValueError(f"holds {_said(expression)}; known are declare-const and assert")
    boxes: dict[tuple, list[tuple[np.ndarray, float, int]]] = {}
    for number, way in enumerate(ways):
        low, high, conditions = _split(way, inputs)
        boxes.setdefault((tuple(low), tuple(high)), []).extend((a, b, number) for a, b in conditions)
    found = []
    for (low, high), conditions in boxes.items():
        if not np.isfinite([low, high]).all():
            raise ValueError("leaves an input without a bound")
        if not np.less_equal(low, high).all():
            continue  # a box without a point
        rows, const = np.array([-a for a, _, _ in conditions]), np.array([-b for _, b, _ in conditions])
        low, high, rows, const = (torch.tensor(v, dtype=torch.float64) for v in (low, high, rows, const))
        found.append(Property(low, high, rows, const, tuple(number for _, _, number in conditions)))
    return found


_Way = list[tuple[np.ndarray, float]]  # conditions a @ (X, Y) + b >= 0, all of which are to hold
_IDLE = ("declare-const", "set-logic", "set-info", "set-option", "check-sat", "get-model", "exit")
_NUMBER = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?")


def _parse(text: str) -> list[Any]:
    """Nested lists of words."""
    stack: list[list[Any]] = [[]]
    for word in re.findall(r"[()]|[^\s()]+", text):
        if word == "(":
            stack.append([])
        elif word == ")":
            if len(stack) < 2:
                raise ValueError("closes a bracket that was not opened")
            done = stack.pop()
            stack[-1].append(done)
        else:
            stack[-1].append(word)
    if len(stack) != 1:
        raise ValueError("leaves a bracket open")
    return stack[0]


def _said(expression: Any) -> str:
    """An expression as it was written, not all of a long one."""
    text = expression if isinstance(expression, str) else f"({' '.join(map(_said, expression))})"
    return text if len(text) <= 80 else f"{text[:80]}..."


def _declared(expressions: list[Any]) -> tuple[dict[str, int], int, int]:
    """The places of all variables that are declared among (X, Y), and how many inputs and outputs these are, to the last."""
    found, last = list[tuple[str, int]](), {"X": -1, "Y": -1}
    for expression in expressions:
        if expression[:1] == ["declare-const"]:
            match = re.fullmatch(r"\(declare-const ([XY])_(0|[1-9]\d*) Real\)", _said(expression))
            if not match:
                raise ValueError(f"holds {_said(expression)}; known are inputs X_i and outputs Y_j, Real")
            found.append((match[1], int(match[2])))
            last[match[1]] = max(last[match[1]], int(match[2]))
    if min(last.values()) < 0:
        raise ValueError(f"declares {last['X'] + 1} inputs X_i and {last['Y'] + 1} outputs Y_j; it needs some of each")
    inputs, outputs = (n + 1 for n in last.values())
    return {f"{kind}_{n}": n + inputs * (kind == "Y") for kind, n in found}, inputs, outputs


def _split(way: _Way, inputs: int) -> tuple[np.ndarray, np.ndarray, _Way]:
    """The box of a way to be unsafe, and its conditions on outputs alone."""
    low, high = np.full(inputs, -np.inf), np.full(inputs, np.inf)
    conditions = []
    for a, b in way:
        at = np.flatnonzero(a)
        if (at >= inputs).all():
            conditions.append((a[inputs:], b))
        elif len(at) == 1:
            (i,) = at
            low[i], high[i] = (max(low[i], -b / a[i]), high[i]) if a[i] > 0 else (low[i], min(high[i], -b / a[i]))
        else:
            raise TypeError("relates inputs to each other or to outputs; only a box of inputs is known")
    if not conditions:
        raise TypeError("has a way to be unsafe with 0 conditions on outputs; it needs one or more")
    return low, high, conditions


def _unsafe(expression: Any, places: dict[str, int], size: int) -> list[_Way]:
    """The ways in which an expression holds; ``places`` of the variables that are declared, ``size`` of all."""
    if isinstance(expression, str) or not expression or not isinstance(expression[0], str):
        raise ValueError(f"holds {_said(expression)} where a condition is needed, such as (<= Y_0 Y_1)")
    kind, *arguments = expression
    if kind in ("or", "and") and not arguments:
        raise ValueError(f"holds ({kind}), which joins nothing")
    if kind == "or":
        return [way for argument in arguments for way in _unsafe(argument, places, size)]
    if kind == "and":
        ways: list[_Way] = [[]]
        for argument in arguments:
            ways = [way + more for way in ways for more in _unsafe(argument, places, size)]
        return ways
    if kind not in ("<=", ">=", "<", ">"):
        raise TypeError(f"uses {kind}; known are and, or, <= and >=")
    if len(arguments) != 2:
        raise ValueError(f"holds {_said(expression)}; {kind} is known between two terms")
    (left, a), (right, b) = (_affine(argument, places, size) for argument in arguments)
    sign = 1 if kind in (">=", ">") else -1
    return [[(sign * (left - right), sign * (a - b))]]


def _affine(term: Any, places: dict[str, int], size: int) -> tuple[np.ndarray, float]:
    """A term as an affine function of (X, Y)."""
    if isinstance(term, str):
        a = np.zeros(size)
        if term in places:
            a[places[term]] = 1
            return a, 0.0
        if not _NUMBER.fullmatch(term) or not math.isfinite(float(term)):
            raise ValueError(f"uses {term}, which is neither declared nor a finite number")
        return a, float(term)
    if len(term) < 2:
        raise ValueError(f"holds {_said(term)}, which is no term")
    kind, *arguments = term
    parts = [_affine(argument, places, size) for argument in arguments]
    if kind == "+":
        return np.sum([a for a, _ in parts], 0), sum(b for _, b in parts)
    if kind == "-":
        (a, b), rest = parts[0], parts[1:]
        return (-a, -b) if not rest else (a - sum(c for c, _ in rest), b - sum(d for _, d in rest))
    if kind == "*" and len(parts) == 2:
        (a, b), (c, d) = parts
        if not a.any() or not c.any():
            return (b * c, b * d) if not a.any() else (d * a, d * b)
    raise TypeError(f"uses {_said(term)}, which is no affine term")


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
    check_limits(time_limit, margin, STAGES[-1], solver)
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
        raise ValueError(f"{specification} is about no input: in each of its boxes a lower bound is above an upper one")
    bound = least if verdict.status == "robust" else verdict.bound
    return Verdict(verdict.status, verdict.stage, bound, seconds, verdict.unstable, verdict.witness)
