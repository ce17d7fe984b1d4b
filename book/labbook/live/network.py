"""A sequential network as JSON and half-precision weights, for the JavaScript in ``network.js`` to run."""

from __future__ import annotations

import base64
import copy
import zlib
from typing import Any, Self

import numpy as np
import torch
import traitlets
from torch import Tensor, nn

from advlab.models import Normalize

from .figure import Shared


def pack_network(net: nn.Sequential, shape: tuple[int, ...]) -> tuple[list[dict[str, Any]], str]:
    """The layers of ``net`` for inputs of ``shape`` (c, h, w), and its weights in base64, rounded as by :func:`short`.

    Layers: Normalize, Conv2d (square kernel, no groups or dilation), ReLU, MaxPool2d(2), Flatten, Linear, Dropout.
    Raises ValueError for any other.

    >>> layers, weights = pack_network(nn.Sequential(nn.Flatten(), nn.Linear(4, 2)), (1, 2, 2))
    >>> layers, len(base64.b64decode(weights))  # 10 weights of 2 bytes
    ([{'input': [4], 'shape': [2], 'kind': 'linear', 'weights': 10}], 20)
    """
    layers: list[dict[str, Any]] = []
    weights: list[Tensor] = []
    x = torch.zeros(1, *shape)
    for layer in copy.deepcopy(net).cpu().float().eval():  # the caller's network keeps its mode
        with torch.no_grad():
            y = layer(x)
        spec: dict[str, Any] = {"input": list(x.shape[1:]), "shape": list(y.shape[1:])}
        own = [p.detach().flatten() for p in layer.parameters()]
        match layer:
            case Normalize():
                spec |= {"kind": "affine", "shift": layer.mean.flatten().tolist(), "scale": layer.std.flatten().tolist()}
            case nn.Conv2d(groups=1, dilation=(1, 1), padding_mode="zeros") if layer.bias is not None:
                k, s, p = layer.kernel_size, layer.stride, layer.padding
                if k[0] != k[1] or s[0] != s[1] or isinstance(p, str) or p[0] != p[1]:
                    raise ValueError(f"{layer} is not square in kernel, stride and padding")
                spec |= {"kind": "conv", "kernel": k[0], "stride": s[0], "padding": p[0]}
            case nn.ReLU():
                spec |= {"kind": "relu"}
            case nn.MaxPool2d(kernel_size=2, stride=2, padding=0, dilation=1, ceil_mode=False):
                spec |= {"kind": "pool"}
            case nn.Linear() if layer.bias is not None:
                spec |= {"kind": "linear"}
            case nn.Flatten() | nn.Dropout():
                spec = {}
            case _:
                raise ValueError(f"{layer} cannot run in the page; see pack_network for the layers that can")
        if spec:
            layers.append(spec | ({"weights": sum(len(p) for p in own)} if own else {}))
            weights += own
        x = y
    flat = short(torch.cat(weights)).numpy() if weights else np.empty(0, np.float16)
    return layers, base64.b64encode(flat.astype("<f2").tobytes()).decode()


def short(weights: Tensor) -> Tensor:
    """Weights in half precision with 8 significant bits instead of 11: the others would be noise that does not compress.

    >>> short(torch.tensor([1 / 3, -1.0])).tolist()
    [0.333984375, -1.0]
    """
    mantissa, exponent = torch.frexp(weights.double())
    return torch.ldexp((256 * mantissa).round(), exponent - 8).half()


def rounded(net: nn.Sequential) -> nn.Sequential:
    """A double-precision copy of ``net`` with the rounded weights that the page computes with."""
    twin = copy.deepcopy(net).double().eval()
    with torch.no_grad():
        for p in twin.parameters():
            p.copy_(short(p).double())
    return twin


def pixels_of(x: Tensor, name: str) -> Tensor:
    """Images in multiples of 1/255 as bytes."""
    x = x.detach().cpu()
    pixels = (x * 255).round()
    if not torch.equal(pixels.clamp(0, 255) / 255, x):
        raise ValueError(f"{name} must hold multiples of 1/255 from 0 to 1; 8-bit images do: (x * 255).round() / 255")
    return pixels.to(torch.uint8)


def encoded(array: np.ndarray) -> str:
    return base64.b64encode(np.ascontiguousarray(array).tobytes()).decode()


class Network(Shared):
    """A network that the figures of a notebook share: its ``layers``, and its ``weights`` as they are stored.

    ``weights`` are those of :func:`pack_network`, the low byte of each before the high byte of each, deflated: high bytes
    repeat, low bytes are noise.
    """

    layers = traitlets.List().tag(sync=True)
    weights = traitlets.Unicode().tag(sync=True)

    @classmethod
    def pack(cls, net: nn.Sequential, shape: tuple[int, ...]) -> Self:
        """The network ``net`` for inputs of ``shape`` (c, h, w). Raises ValueError as :func:`pack_network` does."""
        layers, weights = pack_network(net, shape)
        halves = np.frombuffer(base64.b64decode(weights), np.uint8).reshape(-1, 2)
        return cls.of(layers=layers, weights=base64.b64encode(zlib.compress(halves.T.tobytes(), 9)).decode())
