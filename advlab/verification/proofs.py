"""Proofs of verdicts, as files that :mod:`advlab.verification.check` checks; ``book/proofs.md`` describes their format."""

from __future__ import annotations

import base64
import hashlib
import json
import math
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ..models import Mask, MaskedReLU
from .check import LARGEST, MOST
from .reduced import Problem

MAGIC = b"advlab proof 1\n"
LEVELS = 128  #: slopes are stored as 0 ... LEVELS
_NAMES = {
    torch.float32: "F32",
    torch.float64: "F64",
    torch.int8: "I8",
    torch.uint8: "U8",
    torch.int16: "I16",
    torch.int32: "I32",
    torch.int64: "I64",
    torch.bool: "BOOL",
}


@dataclass(frozen=True)
class Leaf:
    """One case of a proof: the signs that it assumes, in the order of the tree, and what bounds the margin there."""

    path: tuple[tuple[int, int], ...]  #: (unit among all unstable ones, 1 for z >= 0 or -1 for z <= 0)
    slopes: Tensor  #: (units,), as :func:`storable` has them
    multipliers: Tensor  #: (units,)


#: What proves a verdict "robust": margin -> leaves. Margins without any are proved by the standard slopes.
Evidence = dict[int, list[Leaf]]


def storable(slopes: Tensor, multipliers: Tensor) -> tuple[Tensor, Tensor]:
    """The nearest slopes and multipliers that are short in a proof: parts of ``LEVELS``, and float32."""
    return (slopes * LEVELS).round() / LEVELS, multipliers.float().double()


def describe(net: nn.Module, shape: Sequence[int]) -> dict[str, Any]:
    """How a proof names a network: the SHA-256 of its weights as they are stored, its layers, and an input's shape.

    Raises TypeError where a layer is none that the checker knows, by its name.

    >>> net = nn.Sequential(nn.Flatten(), nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2)).eval()
    >>> [layer["op"] for layer in describe(net, (1, 2, 2))["layers"]]
    ['flatten', 'linear', 'relu', 'linear']
    """
    held, known, size, affine = net.state_dict(), list[dict[str, Any]](), tuple(shape), False
    for name, layer in _chain(net, ""):
        if one := _layer(name, layer):
            try:
                size, affine = _after(one, held, size, affine)
            except ValueError as e:
                raise TypeError(f"no proof can be about layer {name or 'network'}, a {type(layer).__name__}: {e}") from e
            known.append(one)
    if not known or known[-1]["op"] != "linear":
        raise TypeError("a network that a proof can be about ends with a linear layer")
    digest = hashlib.sha256()
    for name, value in sorted(held.items()):
        if value.dtype not in _NAMES:
            raise TypeError(f"the network's {name} is {value.dtype}; a proof can be about {', '.join(_NAMES.values())}")
        stored = value.detach().cpu().contiguous()
        digest.update(json.dumps([name, _NAMES[value.dtype], list(value.shape)]).encode() + stored.numpy().tobytes())
    return {"sha256": digest.hexdigest(), "shape": list(shape), "layers": known}


def _chain(net: nn.Module, name: str) -> Iterator[tuple[str, nn.Module]]:
    if type(net) is nn.Sequential:
        for child, module in net._modules.items():
            yield from _chain(module, f"{name}.{child}" if name else child) if module is not None else ()
    else:
        yield name, net


def _layer(name: str, layer: nn.Module) -> dict[str, Any]:
    """A layer as proofs describe it; empty for one that does nothing."""
    before = f"{name}." if name else ""
    if isinstance(layer, nn.Linear | nn.Conv2d):
        held = {"weight": f"{before}weight", "bias": f"{before}bias" if layer.bias is not None else None}
        if isinstance(layer, nn.Linear):
            return {"op": "linear", **held}
        plain = layer.groups == 1 and layer.dilation == (1, 1) and layer.padding_mode == "zeros"
        if plain and not isinstance(layer.padding, str):
            return {"op": "conv", **held, "stride": [*map(int, layer.stride)], "padding": [*map(int, layer.padding)]}
    if isinstance(layer, nn.ReLU | MaskedReLU):
        return {"op": "relu", "mask": f"{before}mask" if isinstance(layer, MaskedReLU) else None}
    if isinstance(layer, Mask):
        return {"op": "mask", "mask": f"{before}kept"}
    if isinstance(layer, nn.Flatten) and (layer.start_dim, layer.end_dim) == (1, -1):
        return {"op": "flatten"}
    if isinstance(layer, nn.Identity | nn.Dropout):
        return {}
    known = "nested nn.Sequential of Conv2d without groups or dilation, Linear, ReLU, Flatten, masks after these, and Dropout"
    raise TypeError(f"no proof can be about layer {name or 'network'}, a {type(layer).__name__}; proofs are about {known}")


def _after(one: dict[str, Any], held: dict[str, Tensor], size: tuple[int, ...], affine: bool) -> tuple[tuple[int, ...], bool]:
    """The shape after a layer, and whether a mask or a ReLU may follow. ValueError says why the checker takes none there."""
    for name in (one.get(key) for key in ("weight", "bias", "mask")):
        if name is not None and name not in held:
            raise ValueError(f"it computes its {name} of other weights")
        if name is not None and not (held[name].double().abs() < MOST).all():
            raise ValueError(f"{name} has values beyond 2**200")
    if one["op"] == "flatten":
        return (math.prod(size),), affine
    if "weight" not in one:
        if not affine:
            raise ValueError("it follows no linear layer or convolution")
        if one["mask"] is not None and held[one["mask"]].numel() != math.prod(size):
            raise ValueError(f"its mask has {held[one['mask']].numel()} values, and its input {math.prod(size)}")
        return size, one["op"] == "mask"
    outputs, _, *kernel = held[one["weight"]].shape
    if one["op"] == "linear" and len(size) != 1:
        raise ValueError(f"it meets inputs of the shape {size}: flatten first")
    padded = [n + 2 * p for n, p in zip(size[1:], one.get("padding", ()), strict=True)]
    size = (outputs, *((n - k) // s + 1 for n, k, s in zip(padded, kernel, one.get("stride", ()), strict=True)))
    if math.prod((*size, held[one["weight"]].shape[1], *padded)) > LARGEST:
        raise ValueError(f"its matrix has more than {LARGEST} entries")
    return size, True


@dataclass(frozen=True)
class Question:
    """What a proof is about."""

    network: dict[str, Any]  #: of :func:`describe`
    x: Tensor
    y: int
    eps: float
    margin: float

    def robust(self, problem: Problem, evidence: Evidence) -> bytes:
        """The file that proves "robust"; ``problem`` has the margins over all other classes, in their order."""
        places = [(k, int(unit)) for k, stage in enumerate(problem.stages) for unit in stage.places]
        margins = [{"class": k + (k >= self.y), **_tree(leaves)} for k, leaves in sorted(evidence.items())]
        return self._file("robust", {"units": places if evidence else [], "margins": margins})

    def counterexample(self, witness: Tensor) -> bytes:
        """The file that proves "counterexample"."""
        return self._file("counterexample", {"image": _image(witness)})

    def _file(self, status: str, evidence: dict[str, Any]) -> bytes:
        claim = {
            "status": status,
            "network": self.network,
            "input": _image(self.x),
            "label": self.y,
            "eps": float(self.eps),
            "margin": float(self.margin),
        }
        stated = hashlib.sha256(json.dumps(claim, sort_keys=True).encode()).hexdigest()
        document = {"claim": claim, "claim_sha256": stated, "evidence": evidence}
        return MAGIC + zlib.compress(json.dumps(document).encode(), 9)


def _image(x: Tensor) -> dict[str, str]:
    held = x.detach().cpu().contiguous()
    return {"dtype": _NAMES[x.dtype], "data": _text(held.numpy())}


def _text(values: np.ndarray) -> str:
    return base64.b64encode(values.tobytes()).decode()


def _tree(leaves: list[Leaf]) -> dict[str, Any]:
    """The tree of these leaves in preorder: the unit that is split, then the case z >= 0, then z <= 0; -1 for a leaf."""
    tree, order, todo = list[int](), list[Leaf](), [(leaves, 0)]
    while todo:
        inside, depth = todo.pop()
        if len(inside) == 1 and len(inside[0].path) == depth:
            tree.append(-1)
            order += inside
            continue
        (unit,) = {leaf.path[depth][0] for leaf in inside}
        tree.append(unit)
        todo += [([leaf for leaf in inside if leaf.path[depth] == (unit, side)], depth + 1) for side in (-1, 1)]
    slopes = torch.stack([leaf.slopes for leaf in order]).mul(LEVELS).round().to(torch.uint8)
    weights = [float(leaf.multipliers[unit]) for leaf in order for unit, _ in leaf.path]
    return {"tree": tree, "slopes": _text(slopes.numpy()), "multipliers": _text(np.array(weights, "<f8"))}
