"""A checker of proofs that trusts neither the verifier nor torch: standard library and NumPy alone, nothing of advlab.

    python check.py PROOF WEIGHTS.safetensors        # ends with 0 where the proof is valid, with 1 where it is not

What it establishes, for the network in *real* arithmetic with the weights as stored. "robust": every input within eps (linf)
of the stored one and in [0, 1] has each margin logit(label) - logit(other) above the stored ``margin``. "counterexample": the
stored image is such an input, and another class's logit is the larger. What float32 rounds as a network runs is not covered.

How: intervals, layer by layer; linear relaxation, backwards (CROWN, Zhang et al. 2018), of units that these leave unstable,
and of each margin in each leaf of a tree of cases z >= 0 and z <= 0. Any slopes in [0, 1], any multipliers from 0 up and any
complete tree give a sound bound (Wang et al. 2021): nothing in a proof is believed, and only its claim is read. A float64 sum
of n products, in any order, fused or not, errs by at most n u / (1 - n u) times the sum of absolute values, u = 2**-53 (Higham
2002, section 3.1). Coefficients A of a layer's z, taken one layer back, round at most that share of ``|A| (|W| max|a| + |b|) =
|A| reach``, whatever A is. Each step is charged ``gamma |A| reach``, gamma = 4 (n + 64) u for the largest width n: four times
too much, for what rounds in reach, charges and constants. Underflow, below 2**-700, is charged too.

Trusted are this file, Python, NumPy, in that its matrix product adds up products, json, zlib and hashlib; and that the claim,
which is printed, is the one that you care about, in particular its list of layers, which weights do not tell.
"""

from __future__ import annotations

import base64
import hashlib
import json
import math
import sys
import zlib
from collections import namedtuple
from fractions import Fraction
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

MAGIC = b"advlab proof 1\n"
LEVELS, LARGEST = 128, 2**27  #: slopes are stored as 0 ... LEVELS; entries of the largest matrix
MOST, TINY = 2.0**200, 2.0**-700  #: of all numbers; of what underflow loses
DTYPES = {"F32": "<f4", "F64": "<f8", "I8": "i1", "BOOL": "?"}
UNREADABLE = (KeyError, TypeError, ValueError, IndexError, ArithmeticError, AttributeError, RecursionError, zlib.error)
#: z = weight @ a + bias, then z where kind is 1, relu(z) where it is 0, 0 where it is -1; relu is the ReLU's number, or -1.
Stage = namedtuple("Stage", "weight size bias kind relu")


class Answer(NamedTuple):
    """What :func:`check` says; as a string, with the claim, which a reader compares with the question."""

    valid: bool
    reason: str  #: what is wrong; "" of a valid proof
    claim: dict[str, Any]  #: what is proved; {} where the file has none

    def __str__(self) -> str:
        if not self.valid:
            return f"NOT VALID: {self.reason}"
        net, label, image = self.claim["network"], self.claim["label"], base64.b64decode(self.claim["input"]["data"])
        ball = f"linf {self.claim['eps']!r} around {hashlib.sha256(image).hexdigest()[:16]}, margin {self.claim['margin']!r}"
        network = f"network {net['sha256'][:16]} of {', '.join(layer['op'] for layer in net['layers'])}"
        return f"valid: {self.claim['status']}, label {label}, {ball}, {network}"


def need(condition: Any, reason: str) -> None:
    if not condition:
        raise ValueError(reason)


class Weights:
    """The tensors of a safetensors file, name -> (dtype, shape, bytes), and the last network made of them."""

    def __init__(self, path: str | Path) -> None:
        raw = Path(path).read_bytes()
        start, digest = 8 + int.from_bytes(raw[:8], "little"), hashlib.sha256()
        self.tensors, self.networks = dict[str, tuple[str, list[int], bytes]](), dict[str, Network]()
        try:
            header = json.loads(raw[8:start])
            for name in sorted(set(header) - {"__metadata__"}):
                dtype, shape, (first, last) = (header[name][key] for key in ("dtype", "shape", "data_offsets"))
                need(0 <= first <= last <= len(raw) - start, f"the weights' {name} lies outside of the file")
                self.tensors[name] = dtype, shape, raw[start + first : start + last]
                digest.update(json.dumps([name, dtype, shape]).encode() + self.tensors[name][2])
        except UNREADABLE as e:
            raise ValueError(f"{path} holds no weights in safetensors that can be read: {e!r}") from e
        self.sha256 = digest.hexdigest()

    def array(self, name: Any, kind: str) -> np.ndarray:
        """A tensor as an array of its kind, "f", "i" or "b"; in float64 where it is "f"."""
        dtype, shape, data = self.tensors[name]
        need(dtype in DTYPES and np.dtype(DTYPES[dtype]).kind == kind, f"{name} is {dtype}, which no such layer has")
        values = np.frombuffer(data, DTYPES[dtype]).reshape(shape)
        need(kind != "f" or (np.abs(values) < MOST).all(), f"the weights' {name} is not finite, or beyond 2**200")
        return values.astype(np.float64) if kind == "f" else values


class Network:
    """The layers as dense matrices."""

    def __init__(self, weights: Weights, described: str) -> None:
        layers, shape = json.loads(described)
        self.shape, self.stages, relus = tuple(shape), list[Stage](), 0
        for layer in layers:
            op = layer["op"]
            if op in ("conv", "linear"):
                self.stages.append(self._affine(weights, layer))
            elif op == "flatten":
                self.shape = (math.prod(self.shape),)
            else:
                need(op in ("relu", "mask") and self.stages and self.stages[-1].relu < 0, f"a layer {op!r} is not known there")
                last, mask = self.stages[-1], layer["mask"]
                kind = np.zeros(len(last.bias)) if mask is None else weights.array(mask, "bi"[op == "relu"]).ravel()
                kind = kind if op == "relu" else np.where(kind, 1, -1)
                need(len(kind) == len(last.bias) and np.isin(kind, (-1, 0, 1)).all(), f"the mask of a {op} does not fit")
                self.stages[-1] = last._replace(kind=np.where(last.kind < 0, -1, kind), relu=relus if op == "relu" else -1)
                relus += op == "relu"
        need(layers[-1]["op"] == "linear", "the network does not end with a linear layer")
        self.gamma = 4 * (max(max(s.weight.shape) for s in self.stages) + 64) * 2.0**-53

    def _affine(self, weights: Weights, layer: dict[str, Any]) -> Stage:
        """A convolution, output (o, i, j) the sum of w[o, c, p, q] times input (c, i down + p - top, j across + q - left)."""
        conv, w = layer["op"] == "conv", weights.array(layer["weight"], "f")
        b = weights.array(layer["bias"], "f") if layer["bias"] is not None else np.zeros(len(w))
        fits = w.ndim == 2 + 2 * conv == len(self.shape) + 1 and b.shape == w.shape[:1]
        need(fits, f"{layer['weight']} or its bias is not of its layer's shape")
        down, across, top, left = moves = (*layer["stride"], *layer["padding"]) if conv else (1, 1, 0, 0)
        need(all(type(n) is int for n in moves) and min(moves[:2]) > 0 <= min(moves[2:]), f"{layer['weight']} does not fit")
        (o, c, rows, columns), (channels, height, width) = (*w.shape, 1, 1)[:4], (*self.shape, 1, 1)[:3]
        high, wide = (height + 2 * top - rows) // down + 1, (width + 2 * left - columns) // across + 1
        padded = o, high, wide, c, height + 2 * top, width + 2 * left
        given = c == channels and min(padded) > 0 and math.prod(padded) <= LARGEST
        need(given, f"{layer['weight']} does not fit the shape {self.shape}, or its matrix is too large")
        whole, i, j = np.zeros(padded), np.arange(high)[:, None], np.arange(wide)
        for p, q in np.ndindex(rows, columns):
            whole[:, i, j, :, i * down + p, j * across + q] = w.reshape(o, c, rows, columns)[:, :, p, q]
        self.shape = (o, high, wide) if conv else (o,)
        matrix = whole[..., top : top + height, left : left + width].reshape(o * high * wide, -1)
        return Stage(matrix, np.abs(matrix), np.repeat(b, high * wide), np.ones(len(matrix)), -1)


class Ranges:
    """Bounds of each stage's z on a box: by intervals, and by relaxation where these leave a ReLU unstable."""

    def __init__(self, net: Network, low: np.ndarray, high: np.ndarray) -> None:
        self.net, self.box = net, _centred(low, high)
        self.ends, self.reach = list[tuple[np.ndarray, np.ndarray]](), list[np.ndarray]()
        for k, stage in enumerate(net.stages):
            middle, radius = _centred(low, high)
            reach = stage.size @ (np.abs(middle) + radius) + np.abs(stage.bias)
            need((reach < MOST).all(), "the network's values are not finite, or beyond 2**200")
            centre, spread = stage.weight @ middle + stage.bias, stage.size @ radius + net.gamma * reach + TINY
            lower, upper = centre - spread, centre + spread
            self.reach.append(reach + TINY)
            rows = np.flatnonzero((upper > 0) & (stage.kind == 0))
            for leaves in ((), None):  # intervals again, that see through linear units; relaxation of what is unstable then
                one = np.equal.outer(rows, np.arange(len(lower))) * 1.0
                lower[rows] = np.maximum(lower[rows], self.least(k, one, leaves))
                upper[rows] = np.minimum(upper[rows], -self.least(k, -one, leaves))
                rows = rows[(lower[rows] < 0) & (upper[rows] > 0)]
            self.ends.append((lower, upper))
            low, high = (np.where(stage.kind > 0, z, np.maximum(z, 0) * (stage.kind == 0)) for z in (lower, upper))

    def least(self, k: int, a: np.ndarray, leaves: tuple[np.ndarray, ...] | None = None) -> np.ndarray:
        """Lower bounds (n,) of a @ z, (n, units) of stage k, on the box; of row i in leaf i where there are leaves."""
        const, charge = np.zeros(len(a)), np.zeros(len(a))
        for j in range(k, -1, -1):
            live = np.flatnonzero(a.any(0))
            a = a[:, live]
            charge += np.abs(a) @ self.reach[j][live]
            const += a @ self.net.stages[j].bias[live]
            a = a @ self.net.stages[j].weight[live]
            if j:
                a, shift, size = self._through(j - 1, a, leaves)
                const, charge = const + shift, charge + size @ self.reach[j - 1]
        middle, radius = self.box
        charge += np.abs(a) @ (np.abs(middle) + radius)
        return const + a @ middle - np.abs(a) @ radius - (self.net.gamma * charge + TINY)

    def _through(self, j: int, a: np.ndarray, leaves: tuple[np.ndarray, ...] | None) -> tuple[np.ndarray, ...]:
        """From coefficients of stage j's outputs to those of its z, with what must be added, and the sizes of what rounds.

        relu(z) >= slope z, and relu(z) <= chord z + shift for any chord in [0, 1] if that is so at both ends. Where a side is
        assumed relu(z) is z or 0, and side z >= 0, so that - side multiplier z may be added to a lower bound.
        """
        kind, (low, high) = self.net.stages[j].kind, self.ends[j]
        on, off = (kind > 0) | ((kind == 0) & (low >= 0)), (kind < 0) | ((kind == 0) & (high <= 0))
        fixed = on | off
        chord = np.where(fixed, 0, np.minimum(high / np.where(fixed, 1, high - low), 1))
        shift = np.where(fixed, 0, np.maximum(-chord * low, high * (1 - chord)) * (1 + 2.0**-50))
        if leaves == ():
            ends = np.maximum(a, 0) * np.maximum(low, 0) + np.minimum(a, 0) * np.maximum(high, 0)
            return a * (kind > 0), (ends * (kind == 0)).sum(1), np.abs(a)
        slope, side, weight, down = np.tile(high > -low, (len(a), 1)) * 1.0, 0 * a, 0 * a, np.minimum(a, 0)
        if leaves is not None:
            own = np.flatnonzero(leaves[0][:, 0] == j)
            for values, given in zip((slope, side, weight), leaves[1:], strict=True):
                values[:, leaves[0][own, 1]] = given[:, own]
        onto = np.where(fixed, a * on, np.maximum(a, 0) * slope + down * chord)
        onto = np.where(side == 0, onto, a * (side > 0)) - side * weight
        return onto, np.where(side == 0, down * shift, 0).sum(1), np.abs(a) + weight


def _centred(low: np.ndarray, high: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    middle = (low + high) / 2  # of a box that has [low, high] in it
    return middle, np.nextafter(np.maximum(high - middle, middle - low), np.inf)


def check(proof: str | Path | bytes, weights: str | Path | Weights) -> Answer:
    """Is a proof, a file or its bytes, valid for the weights in a safetensors file?

    Raises OSError alone, for a file that cannot be read. Guarantee: that of the module, of the claim in the answer.
    """
    claim: dict[str, Any] = {}
    try:
        with np.errstate(all="ignore"):
            raw, opened = proof if isinstance(proof, bytes) else Path(proof).read_bytes(), zlib.decompressobj()
            need(raw.startswith(MAGIC), "the file is no proof of version 1")
            document = json.loads(opened.decompress(raw[len(MAGIC) :], 2**28))
            need(opened.eof and not opened.unused_data, "something follows the proof")
            claim = document["claim"]
            stated = hashlib.sha256(json.dumps(claim, sort_keys=True).encode()).hexdigest()
            need(stated == document["claim_sha256"], "the claim is not the one that was proved: its SHA-256 differs")
            weights = weights if isinstance(weights, Weights) else Weights(weights)
            need(weights.sha256 == claim["network"]["sha256"], "the weights are not those of the claim: their SHA-256 differs")
            described = json.dumps([claim["network"]["layers"], claim["network"]["shape"]])
            weights.networks = {described: weights.networks.get(described) or Network(weights, described)}
            _judge(claim, document["evidence"], weights.networks[described])
    except UNREADABLE as e:
        return Answer(False, str(e) if type(e) is ValueError else f"the proof or the weights cannot be read: {e!r}", claim)
    return Answer(True, "", claim)


def _judge(claim: dict[str, Any], evidence: dict[str, Any], net: Network) -> None:
    label, eps, margin, classes, last = claim["label"], claim["eps"], claim["margin"], net.shape[0], len(net.stages) - 1
    need(type(label) is int and 0 <= label < classes, f"the label is {label}; the network has {classes} classes")
    need(type(eps) is float and 0 <= eps < math.inf, f"eps is {eps}; it must be a number from 0 on")
    need(type(margin) is float and 0 < margin < math.inf, f"the margin is {margin}; it must be above 0")
    x = _image(claim["input"], math.prod(claim["network"]["shape"]))
    rows = np.delete(np.eye(classes)[label] - np.eye(classes), label, 0)
    if claim["status"] == "counterexample":
        found = _image(evidence["image"], x.size)
        need(all(abs(Fraction(a) - Fraction(b)) <= eps for a, b in zip(found, x, strict=True)), "the image is not within eps")
        least = -Ranges(net, found, found).least(last, -rows)
        need((least < 0).any(), f"the counterexample is not shown to be misclassified: its margin is {least.min():.3g}")
        return
    need(claim["status"] == "robust", f"the status is {claim['status']!r}, neither robust nor counterexample")
    ranges = Ranges(net, np.maximum(np.nextafter(x - eps, -np.inf), 0), np.minimum(np.nextafter(x + eps, np.inf), 1))
    units, trees = _units(evidence["units"], net), {m["class"]: m for m in evidence["margins"]}
    others = [c for c in range(classes) if c != label]
    need(len(trees) == len(evidence["margins"]) and set(trees) <= set(others), "there are trees of no margin, or two of one")
    for c, row in zip(others, rows, strict=True):
        leaves = (units, *_leaves(trees[c], len(units))) if c in trees else (units[:0], *np.zeros((3, 1, 0)))
        for done in range(0, len(leaves[1]), 256):
            part = [values[done : done + 256] for values in leaves[1:]]
            bounds = ranges.least(last, np.tile(row, (len(part[0]), 1)), (leaves[0], *part))
            for i, bound in enumerate(bounds.tolist(), done + 1):
                need(bound > margin, f"class {c}, leaf {i} of {len(leaves[1])}: the bound {bound:.6g} is not above {margin:g}")


def _image(stored: dict[str, str], size: int) -> np.ndarray:
    x = np.frombuffer(base64.b64decode(stored["data"], validate=True), DTYPES[stored["dtype"]]).astype(np.float64)
    need(x.size == size and ((x >= 0) & (x <= 1)).all(), f"an image is not of {size} values in [0, 1]")
    return x


def _units(listed: list[list[int]], net: Network) -> np.ndarray:
    """(stage, unit) of each (ReLU layer, unit) that the proof speaks of, (units, 2)."""
    stages = {stage.relu: k for k, stage in enumerate(net.stages) if stage.relu >= 0}
    for relu, unit in listed:
        kind = net.stages[stages[relu]].kind if relu in stages else ()
        need(type(unit) is int and 0 <= unit < len(kind) and kind[unit] == 0, f"unit {unit} of ReLU layer {relu} is no ReLU")
    need(len({(relu, unit) for relu, unit in listed}) == len(listed), "a unit is listed twice")
    return np.array([(stages[relu], unit) for relu, unit in listed], int).reshape(-1, 2)


def _leaves(stored: dict[str, Any], units: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Slopes, sides and multipliers (leaves, units) of a tree in preorder, the case z >= 0 before z <= 0."""
    stack, paths = list[dict[int, int]]([{}]), list[dict[int, int]]()
    for entry in stored["tree"]:
        need(stack, "the tree goes on after its last leaf")
        path = stack.pop()
        if entry == -1:
            paths.append(path)
            continue
        need(type(entry) is int and 0 <= entry < units, f"the tree splits unit {entry}, which is not listed")
        need(entry not in path, f"the tree splits unit {entry} twice")
        stack += [path | {entry: -1}, path | {entry: 1}]
    need(not stack, f"the tree forgets {len(stack)} of its cases")
    slopes = np.frombuffer(base64.b64decode(stored["slopes"], validate=True), np.uint8)
    weights = np.frombuffer(base64.b64decode(stored["multipliers"], validate=True), "<f8")
    need((slopes.size, weights.size) == (len(paths) * units, sum(map(len, paths))), "it needs other slopes or multipliers")
    need((slopes <= LEVELS).all(), "a slope is out of range: it must be from 0 to 1")
    need(((weights >= 0) & (weights < MOST)).all(), "a multiplier is out of range: it must be from 0 up")
    sides, multipliers = np.zeros((2, len(paths), units))
    at = [i for i, path in enumerate(paths) for _ in path], [unit for path in paths for unit in path]
    sides[at], multipliers[at] = [side for path in paths for side in path.values()], weights
    return slopes.reshape(len(paths), units) / LEVELS, sides, multipliers


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit("usage: python check.py PROOF WEIGHTS.safetensors")
    print(found := check(*sys.argv[1:]))
    sys.exit(0 if found.valid else 1)
