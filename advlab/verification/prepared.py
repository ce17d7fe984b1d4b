"""Networks as the verifier reads them: once for many inputs."""

from __future__ import annotations

import contextlib
import copy
import hashlib
import threading
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from .affine import NormalForm, check_weights, normal_form, what_is_read


@dataclass(frozen=True)
class Prepared:
    """A network, read."""

    form: NormalForm
    double: nn.Module
    described: dict[str, Any] = field(default_factory=dict)  #: as proofs describe it; empty until one is asked for


prepared_networks: OrderedDict[str, Prepared] = OrderedDict()
_held: dict[tuple[int, tuple[int, ...]], Prepared] = {}
_lock = threading.Lock()


@contextlib.contextmanager
def held(net: nn.Module, shape: tuple[int, ...]) -> Iterator[None]:
    """Meanwhile a network is taken as it is now, and not read for each input again: a tenth of the time of an easy one."""
    _held[id(net), shape] = prepare(net, shape)
    try:
        yield
    finally:
        _held.pop((id(net), shape), None)


def network_hash(net: nn.Module, shape: tuple[int, ...]) -> str:
    """The SHA-256 of the function that a network is on inputs of ``shape``: of its affine maps in float64.

    Verdicts are stored under it. Raises what :func:`normal_form` raises.

    >>> net = nn.Linear(2, 2)
    >>> written_otherwise = nn.Sequential(net, nn.Dropout(), nn.Flatten()).eval()
    >>> network_hash(nn.Sequential(net).eval(), (2,)) == network_hash(written_otherwise, (2,))
    True
    """
    return hashlib.sha256(f"{tuple(shape)} {prepare(net, shape).form.sha256}".encode()).hexdigest()


def prepare(net: nn.Module, shape: tuple[int, ...]) -> Prepared:
    """The normal form, checked against the network itself, and kept for the last networks seen."""
    if (id(net), shape) in _held:
        return _held[id(net), shape]
    key = what_is_read(net, shape)
    with _lock:
        if key not in prepared_networks:
            check_weights(net)
            double = copy.deepcopy(net).double()  # what a forward computes from constants is then computed in float64 too
            made = Prepared(normal_form(double, shape), double)
            compare(made, torch.rand(8, *shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0)))
            prepared_networks[key] = made
            while len(prepared_networks) > 4:
                prepared_networks.popitem(last=False)
        return prepared_networks[key]


def compare(prepared: Prepared, x: Tensor) -> None:
    """Raises TypeError where the normal form is another function at one of ``x`` (n, ...), or where no such inputs fit."""
    device = next((p.device for p in prepared.double.parameters()), torch.device("cpu"))
    try:
        with torch.no_grad():
            expected = prepared.double(x.double().to(device)).flatten(1).cpu().numpy()
    except (RuntimeError, ValueError) as e:
        raise TypeError(f"the network takes no inputs of the shape {tuple(x.shape[1:])}: {e}") from e
    found = [prepared.form.rounding(one) for one in x.double().flatten(1).cpu().numpy()]
    if any((abs(y - z) > 1e-6 * abs(y) + 4 * doubt).any() for y, (z, doubt) in zip(expected, found, strict=True)):
        raise TypeError("the network does not compute what its layers say: a layer with its own forward has no normal form")
