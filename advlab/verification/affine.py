"""Normal form: each ReLU layer of a network, and last the logits, as one affine map of the input and of earlier ReLU layers.

That is all the verifier knows of a network. Residual connections, batch norm, average pools and pruned ReLUs disappear in it.
"""

from __future__ import annotations

import hashlib
import itertools
import operator
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, fx, nn
from torch.fx.node import map_arg

from .aliases import check_in_place
from .calls import MOVERS, PIECEWISE, Reader, constant
from .layers import UNIT, AffineLayer, AffineMap, Array, diagonal, known_layers


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
        return z, fault  # pyrefly: ignore[unbound-name]

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


_KNOWN = (*PIECEWISE, *MOVERS, *known_layers())


def _augmented(function: Callable[..., Any]) -> Callable[..., Any]:
    return lambda self, other: self.tracer.create_proxy("call_function", function, (self, other), {})


class _Proxy(fx.Proxy):
    """A value in a trace, whose ``+=`` and its kin are seen as what they are: torch.fx takes them for sums of a new value."""

    __iadd__, __isub__ = _augmented(operator.iadd), _augmented(operator.isub)
    __imul__, __itruediv__ = _augmented(operator.imul), _augmented(operator.itruediv)


class _Tracer(fx.Tracer):
    """Follows a network down to the layers that :func:`normal_form` knows, and leaves it as it was."""

    def proxy(self, node: fx.Node) -> fx.Proxy:
        return _Proxy(node, self)

    def create_arg(self, a: Any) -> Any:
        if not isinstance(a, Tensor):
            return super().create_arg(a)
        known = a in self.tensor_attrs
        node = cast(fx.Node, super().create_arg(a))
        node.meta["value"] = a
        if not known and a in self.tensor_attrs:  # torch.fx has put it on the network
            delattr(self.root, self.tensor_attrs[a])
        return node

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return isinstance(m, _KNOWN) or (type(m).__module__.startswith("torch.nn") and not isinstance(m, nn.Sequential))


def _overridden(kind: type[nn.Module]) -> bool:
    """Does a class derived from a known layer compute in a way of its own?"""
    own = itertools.takewhile(lambda c: c not in _KNOWN, kind.__mro__)
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

    Raises TypeError for what is no network in Python, and where torch.fx cannot follow: calls that depend on the input, hooks,
    a forward set on one object; and for a value that is changed in place and used again.
    """
    if not isinstance(net, nn.Module):
        raise TypeError(f"the network is a {type(net).__name__}; give an nn.Module, such as nn.Sequential of its layers")
    for name, m in net.named_modules():
        if isinstance(m, torch.jit.ScriptModule):
            raise TypeError(f"layer {name or 'network'} is compiled by torch.jit: give the nn.Module that it was made of")
        if "forward" in vars(m) or m._forward_hooks or m._forward_pre_hooks:
            raise TypeError(
                f"layer {name or 'network'} has a hook or a forward of its own object: it cannot be read; remove it"
            )
        if isinstance(m, _KNOWN) and _overridden(type(m)):
            raise TypeError(
                f"layer {name or 'network'}, a {type(m).__name__}, has a forward of its own: its weights do not tell all"
            )
    if (graph := _chain(net)) is None:
        try:
            graph = _Tracer().trace(net)
        except Exception as e:  # the network's own code runs here
            raise TypeError(f"torch.fx cannot follow the network, whose calls may depend on its input: {e!r}") from e
    check_in_place(net, graph)
    return graph


def check_weights(net: nn.Module) -> None:
    """Raises ValueError for weights that are not finite, TypeError for half precision."""
    for name, value in (*net.named_parameters(), *net.named_buffers()):
        if not bool(value.isfinite().all()):
            raise ValueError(f"the network has weights that are not finite: {name}")
        if value.dtype in (torch.float16, torch.bfloat16):
            raise TypeError(f"the network's {name} is {value.dtype}: give net.float(), whose weights are the same numbers")


def _exactly(value: Any) -> str:
    """A setting in words that no other value has."""
    if isinstance(value, Tensor):
        held = value.detach().cpu().contiguous().view(-1).view(torch.uint8)
        return f"{value.dtype} {tuple(value.shape)} {hashlib.sha256(held.numpy().data).hexdigest()}"
    if isinstance(value, np.ndarray):
        return f"{value.dtype} {value.shape} {hashlib.sha256(value.tobytes()).hexdigest()}"
    if isinstance(value, dict):
        return f"{{{', '.join(f'{_exactly(k)}: {_exactly(v)}' for k, v in value.items())}}}"
    if isinstance(value, list | tuple | set | frozenset):
        return f"{type(value).__name__}[{', '.join(map(_exactly, value))}]"
    return re.sub(" at 0x[0-9a-f]+", "", repr(value))


#: What every module has; its weights and buffers, and the layers in it, are read by their names.
_OF_ALL = vars(nn.Module()).keys() - {"training"}


def _tensors(net: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """Weights and buffers by each of their names, and weights that are computed of others."""
    yield from net.named_parameters(remove_duplicate=False)
    yield from net.named_buffers(remove_duplicate=False)
    for name, layer in net.named_modules():
        for part in getattr(layer, "parametrizations", ()):  # pyrefly: ignore[not-iterable]
            yield f"{name}.{part}", getattr(layer, part)  # pyrefly: ignore[bad-argument-type]


def what_is_read(net: nn.Module, shape: tuple[int, ...]) -> str:
    """A digest of all that :func:`normal_form` reads: the traced calls, the layers, their settings and weights."""
    graph = traced(net)
    calls = [(node.op, str(node.target), str(node.args), str(node.kwargs)) for node in graph.nodes]
    digest = hashlib.sha256(repr((calls, tuple(shape))).encode())
    for name, layer in net.named_modules(remove_duplicate=False):
        settings = [(key, _exactly(value)) for key, value in sorted(vars(layer).items()) if key not in _OF_ALL]
        digest.update(repr((name, f"{type(layer).__module__}.{type(layer).__qualname__}", settings)).encode())
    constants = [(str(node.target), constant(net, node)) for node in graph.nodes if node.op == "get_attr"]
    digest.update(repr([(name, _exactly(value)) for name, value in (*_tensors(net), *constants)]).encode())
    return digest.hexdigest()


def normal_form(net: nn.Module, shape: tuple[int, ...]) -> NormalForm:
    """The network in eval mode as :class:`NormalForm`, in float64.

    Units that a mask has made linear or zero are no ReLUs any more.

    Parameters
    ----------
    net : ``nn.Sequential``, or any module that torch.fx can trace, of what is affine (linear layers, convolutions, batch norm,
        average pools, sums and differences, constants), piecewise linear (ReLU and leaky ones, clamps, maxima, max pools),
        or only moves values (views, permutations, slices, concatenation, zeros at the edge); dropout is idle in eval mode
    shape : of one input, without the batch
    Returns
    -------
    NormalForm
    Raises
    ------
    TypeError, ValueError
        any other layer or call, by its name, such as one that changes in place what is used again; no ``nn.Module``; a network
        in training mode or with weights that are not finite
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
    graph = traced(net)
    if net.training:
        raise ValueError("the network is in training mode: call net.eval() first")
    for name, layer in net.named_modules():
        if layer.training and type(layer).__name__.startswith(("BatchNorm", "Dropout")):
            raise ValueError(f"layer {name} is in training mode inside of a network that is not: call net.eval() first")
    check_weights(net)
    reader, values = Reader(net), dict[fx.Node, Any]()
    for node in graph.nodes:
        if node.op == "placeholder":
            if values:
                raise TypeError("the network takes several inputs; only one is known")
            size = int(np.prod(shape))
            values[node] = AffineMap({0: diagonal(np.ones(size))}, np.zeros(size), tuple(shape), np.zeros((size, 2)))
        elif node.op == "output":
            logits = values.get(cast(fx.Node, node.args[0]))
            if not isinstance(logits, AffineMap):
                raise TypeError("the network gives something else than one tensor of logits that depend on its input")
            return NormalForm(int(np.prod(shape)), tuple(reader.hidden), AffineLayer(logits.parts, logits.bias, logits.doubt))
        else:
            arguments, options = (map_arg(a, values.__getitem__) for a in (node.args, node.kwargs))
            values[node] = reader.result(node, cast(Any, arguments), cast(Any, options))
    raise TypeError("the network has no output")
