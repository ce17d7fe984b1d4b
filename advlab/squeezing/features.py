"""Squeezing inside the network: fewer bits or fewer channels in a feature map, where the paper squeezes only the input."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Generator, Tensor, nn

from .squeezers import Squeezer, reduce_bit_depth


class FeatureBits(nn.Module):
    """Features (n, ...) in [0, top] rounded to 2^bits levels, as :func:`reduce_bit_depth` does; those above ``top`` are cut."""

    top: Tensor

    def __init__(self, bits: int, top: float) -> None:
        super().__init__()
        self.bits = bits
        self.register_buffer("top", torch.tensor(float(top)))

    def forward(self, x: Tensor) -> Tensor:
        return reduce_bit_depth((x / self.top).clamp(0, 1), self.bits) * self.top

    def extra_repr(self) -> str:
        return f"bits={self.bits}, top={float(self.top):.4g}"


class ChannelDrop(nn.Module):
    """Sets a fixed choice of channels of (n, c, ...) to 0: a narrower layer without new weights."""

    kept: Tensor

    def __init__(self, channels: int, share: float, generator: Generator | None = None) -> None:
        super().__init__()
        if not 0 <= share < 1:
            raise ValueError(f"share is {share}; it must be in [0, 1), the part of the channels that is dropped")
        kept = torch.ones(channels, dtype=torch.bool)
        kept[torch.randperm(channels, generator=generator)[: round(share * channels)]] = False
        self.register_buffer("kept", kept)

    def forward(self, x: Tensor) -> Tensor:
        return x * self.kept.view(1, -1, *[1] * (x.ndim - 2)).to(x)

    def extra_repr(self) -> str:
        return f"{int(self.kept.sum())} of {len(self.kept)} channels"


def hidden_layers(net: nn.Sequential) -> list[int]:
    """The places of the ReLUs in ``net``: its feature maps."""
    return [i for i, layer in enumerate(net) if isinstance(layer, nn.ReLU)]


def with_layer(net: nn.Sequential, place: int, extra: nn.Module) -> nn.Sequential:
    """``net`` in eval mode with ``extra`` after its layer ``place``; weights are shared.

    Raises ValueError for a place that is not there.
    """
    layers = list(net)
    if not 0 <= place < len(layers):
        raise ValueError(f"place is {place}; the network has the layers 0 to {len(layers) - 1}")
    return nn.Sequential(*layers[: place + 1], extra, *layers[place + 1 :]).eval()


@torch.no_grad()
def features(net: nn.Sequential, x: Tensor, batch_size: int = 250) -> list[Tensor]:
    """The feature maps of :func:`hidden_layers` for inputs (n, ...), in order, (n, ...) each."""
    places = set(hidden_layers(net))
    found: list[list[Tensor]] = []
    for part in x.split(batch_size):
        maps = []
        for i, layer in enumerate(net):
            part = layer(part)
            if i in places:
                maps.append(part)
        found.append(maps)
    return [torch.cat(maps) for maps in zip(*found, strict=True)]


def response(net: nn.Sequential, x: Tensor, squeezer: Squeezer) -> Tensor:
    """How much squeezing the input changes each feature map: ``|h(x) - h(squeezed x)| / |h(x)|`` in L2, (layers, n)."""
    plain, squeezed = features(net, x), features(net, squeezer(x))
    change = [(a - b).flatten(1).norm(dim=1) / a.flatten(1).norm(dim=1) for a, b in zip(plain, squeezed, strict=True)]
    return torch.stack(change)


@torch.no_grad()
def output_distance(
    model: Callable[[Tensor], Tensor], other: Callable[[Tensor], Tensor], x: Tensor, batch_size: int = 250
) -> Tensor:
    """The L1 distance between the softmax outputs of two networks, (n,) in [0, 2]: equation 6 with the network squeezed."""
    parts = x.split(batch_size)
    return torch.cat([(model(p).softmax(1) - other(p).softmax(1)).abs().sum(1) for p in parts])
