"""Normal form: each ReLU layer of a network, and last the logits, as one affine map of the input and of earlier ReLU layers.

That is all the verifier knows of a network. Residual connections, batch norm, average pools and pruned ReLUs disappear in it.
"""

from __future__ import annotations

import functools
import hashlib
import itertools
import operator
from dataclasses import dataclass, field
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import sparse
from torch import fx, nn
from torch.fx.proxy import TraceError

from ..models import MaskedReLU
from .layers import UNIT, AffineMap, Array, diagonal, flattened, known_layers, through_layer


@dataclass(frozen=True)
class AffineLayer:
    """The inputs of one ReLU layer, or the logits: sum over sources of matrix @ source, plus bias.

    Source 0 is the flattened input, source k the outputs of ReLU layer k, from 1 on.
    """

    matrices: dict[int, sparse.csr_array] = field(repr=False)  #: source -> (units, size of the source)
    bias: Array = field(repr=False)  #: (units,)
    doubt: Array = field(repr=False)  #: (units,), the rounding error of forming each, where no source is above 1

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
        reach, fault = abs(self.bias), self.doubt * max(1.0, *(size.max(initial=0) for size in sizes.values()))
        for source, matrix in self.magnitudes.items():
            both = matrix @ np.stack([sizes[source], faults[source]], 1)
            reach, fault = reach + both[:, 0], fault + both[:, 1]
        return reach, fault


@dataclass(frozen=True)
class NormalForm:
    """A ReLU network in normal form, in float64."""

    inputs: int
    hidden: tuple[AffineLayer, ...]
    logits: AffineLayer

    def __call__(self, x: Array) -> Array:
        """Logits (n, classes) of flattened inputs (n, inputs)."""
        sources = {0: np.asarray(x, np.float64).T}
        for k, layer in enumerate(self.hidden, 1):
            sources[k] = np.maximum(_affine(layer, sources), 0)
        return _affine(self.logits, sources).T

    def rounding(self, x: Array) -> tuple[Array, Array]:
        """The logits of one input (inputs,), and a bound of their error where float64 computes them in any order."""
        values, faults = {0: np.asarray(x, np.float64)}, {0: np.zeros(self.inputs)}
        for k, layer in enumerate((*self.hidden, self.logits), 1):
            z = _affine(layer, {s: v[:, None] for s, v in values.items()})[:, 0]
            reach, fault = layer.reach({s: abs(v) for s, v in values.items()}, faults)
            fault = fault + 2 * (layer.terms + 16) * UNIT * reach
            values[k], faults[k] = np.maximum(z, 0), np.where(z + fault > 0, fault, 0.0)
        return z, fault

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


def _affine(layer: AffineLayer, sources: dict[int, Array]) -> Array:
    total = layer.bias[:, None]
    for source, matrix in layer.matrices.items():
        total = total + matrix @ sources[source]
    return total


class _Tracer(fx.Tracer):
    """Follows a network down to the layers that :func:`normal_form` knows."""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return isinstance(m, known_layers()) or (type(m).__module__.startswith("torch.nn") and not isinstance(m, nn.Sequential))


def _overridden(kind: type[nn.Module]) -> bool:
    """Does a class derived from a known layer compute in a way of its own?"""
    own = itertools.takewhile(lambda c: c not in known_layers(), kind.__mro__)
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
        if isinstance(m, known_layers()) and _overridden(type(m)):
            raise TypeError(
                f"layer {name or 'network'}, a {type(m).__name__}, has a forward of its own: its weights do not tell all"
            )
    if (plain := _chain(net)) is not None:
        return plain
    try:
        return _Tracer().trace(net)
    except (TraceError, RuntimeError) as e:
        raise TypeError(f"the network has no normal form, because its calls depend on its input: {e}") from e


def what_is_read(net: nn.Module, shape: tuple[int, ...]) -> str:
    """A digest of all that :func:`normal_form` reads: the traced calls, the layers, their settings and weights."""
    calls = [(node.op, str(node.target), str(node.args), str(node.kwargs)) for node in traced(net).nodes]
    digest = hashlib.sha256(repr((calls, tuple(shape))).encode())
    for name, layer in net.named_modules():
        settings = {k: v for k, v in vars(layer).items() if isinstance(v, bool | int | float | str | tuple | None)}
        kind = f"{type(layer).__module__}.{type(layer).__qualname__}"
        digest.update(repr((name, kind, sorted(settings.items()))).encode())
    for name, value in (*net.named_parameters(), *net.named_buffers()):
        digest.update(name.encode() + str(value.dtype).encode() + value.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def normal_form(net: nn.Module, shape: tuple[int, ...]) -> NormalForm:
    """The network in eval mode as :class:`NormalForm`, in float64.

    Units that a mask has made linear or zero are no ReLUs any more.

    Parameters
    ----------
    net : ``nn.Sequential``, or any module that torch.fx can trace, of linear layers, convolutions, batch norm, average pools,
        ReLU, :class:`MaskedReLU`, flatten, :class:`advlab.models.Normalize`, dropout (idle in eval mode), sums of two branches
    shape : of one input, without the batch
    Returns
    -------
    NormalForm
    Raises
    ------
    TypeError, ValueError
        any other layer, by its name; a network in training mode or with weights that are not finite
    Guarantee
    ---------
    The same function, with weights widened from float32 to float64 exactly; batch norm is folded in float64.
    References
    ----------
    Tjeng et al. (2019), section 4
    Examples
    --------
    >>> net = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Dropout(), nn.Linear(4, 2)).eval()
    >>> normal_form(net, (3,))(np.zeros((1, 3))).shape, net(torch.zeros(1, 3)).shape
    ((1, 2), torch.Size([1, 2]))
    """
    if net.training:
        raise ValueError("the network is in training mode: call net.eval() first")
    if not all(bool(p.isfinite().all()) for p in net.parameters()):
        raise ValueError("the network has weights that are not finite")
    reader, values = _Reader(net), {}
    for node in traced(net).nodes:
        arguments = [values.get(a, a) if isinstance(a, fx.Node) else a for a in node.args]
        if node.op == "placeholder":
            size = int(np.prod(shape))
            values[node] = AffineMap({0: diagonal(np.ones(size))}, np.zeros(size), tuple(shape), np.zeros(size))
        elif node.op == "output":
            logits = values[cast(fx.Node, node.args[0])]
            return NormalForm(int(np.prod(shape)), tuple(reader.hidden), AffineLayer(logits.parts, logits.bias, logits.doubt))
        else:
            values[node] = reader.result(node, arguments)
    raise TypeError("the network has no output")


_SUMS = (operator.add, operator.iadd, torch.add, "add", "add_")
_RELUS = (torch.relu, nn.functional.relu, "relu", "relu_")


class _Reader:
    """Follows the calls of a network; ``hidden`` are the ReLU layers met so far."""

    def __init__(self, net: nn.Module) -> None:
        self.net, self.hidden = net, list[AffineLayer]()

    def result(self, node: fx.Node, arguments: list[Any]) -> AffineMap:
        """What a call gives. Raises TypeError for one that has no normal form."""
        if node.op == "call_module":
            layer = self.net.get_submodule(cast(str, node.target))
            if isinstance(layer, nn.ReLU):
                return self.relu(arguments[0])
            if isinstance(layer, MaskedReLU):
                return self.relu(arguments[0], layer.mask.cpu().numpy().ravel())
            return through_layer(layer, arguments[0])
        if node.target in _SUMS:
            if node.kwargs or not all(isinstance(a, AffineMap) for a in arguments):
                raise TypeError(f"the network calls {node.format_node()}, which has no normal form; add two branches, plainly")
            return arguments[0].plus(arguments[1])
        if node.target in _RELUS:
            return self.relu(arguments[0])
        if node.target in (torch.flatten, "flatten"):
            return flattened(arguments[0])
        raise TypeError(f"the network calls {node.target}, which has no normal form; known are ReLU, flatten and sums")

    def relu(self, value: AffineMap, mask: NDArray[np.int8] | None = None) -> AffineMap:
        """A new source: the units that are ReLUs. Those that a mask makes linear (1) go on as they are, zeros (-1) end here."""
        size = len(value.bias)
        kept = np.flatnonzero(mask == 0) if mask is not None else np.arange(size)
        parts = {s: cast(Any, part)[kept] for s, part in value.parts.items()}
        self.hidden.append(AffineLayer(parts, value.bias[kept], value.doubt[kept]))
        place = sparse.coo_array((np.ones(len(kept)), (kept, np.arange(len(kept)))), shape=(size, len(kept)))
        out = AffineMap({len(self.hidden): sparse.csr_array(place)}, np.zeros(size), value.shape, np.zeros(size))
        if mask is None:
            return out
        return out.plus(value.through(diagonal((mask > 0).astype(np.float64)), np.zeros(size), value.shape))
