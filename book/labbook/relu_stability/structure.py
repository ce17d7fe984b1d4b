"""What a trained network is made of: live channels, units that switch, what its layers still tell of the image.

The measures of experiment E1, which Xiao et al. (2019) leave open: does the RS loss do more than remove capacity?
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.linear_model import Ridge
from torch import Tensor, nn

from advlab.models import MaskedReLU
from advlab.stability.bounds import constant_units, layers
from advlab.verification.affine import normal_form


@torch.no_grad()
def activations(net: nn.Module, x: Tensor, batch_size: int = 500) -> list[Tensor]:
    """The outputs of every ReLU layer for inputs ``x`` (n, ...). Raises TypeError for a network that is not sequential."""
    found: list[list[Tensor]] = []
    for part in x.split(batch_size):
        k = 0
        for layer in layers(net):
            part = layer(part)
            if isinstance(layer, nn.ReLU | MaskedReLU):
                if len(found) == k:
                    found.append([])
                found[k].append(part)
                k += 1
    return [torch.cat(parts) for parts in found]


def _live(net: nn.Module, shape: tuple[int, ...]) -> list[Tensor]:
    """Of each ReLU layer, (units,) bool: which depend on the input."""
    dead = constant_units(normal_form(net, shape))
    if [o.numel() for o in activations(net, torch.zeros(1, *shape))] != [len(d) for d in dead]:
        raise TypeError("pruned ReLUs are no units any more: look at the network before its ReLUs are pruned")
    return [torch.from_numpy(~d) for d in dead]


def live_channels(net: nn.Module, shape: tuple[int, ...]) -> list[int]:
    """Of each ReLU layer, how many channels (units of a flat layer) have a unit that depends on the input.

    A unit without a path of weights to the input is constant (:class:`UnitCounts`). ``shape`` is that of one input.
    Raises TypeError for a network with pruned ReLUs, which are no units any more.
    """
    outputs = activations(net, torch.zeros(1, *shape))
    return [int(live.view(o.shape[1], -1).any(1).sum()) for o, live in zip(outputs, _live(net, shape), strict=True)]


@dataclass(frozen=True)
class Behaviour:
    """What the units of each ReLU layer do over a set of inputs. The four counts add up to the units of the layer."""

    constant: tuple[int, ...]  #: units that do not depend on the input
    on: tuple[int, ...]  #: positive for each input, and not constant
    off: tuple[int, ...]  #: zero for each input, and not constant
    switching: tuple[int, ...]


def behaviour(net: nn.Module, x: Tensor) -> Behaviour:
    """Count what the units do over the inputs ``x`` (n, ...). Raises ValueError for no inputs, TypeError as :func:`layers`."""
    if not len(x):
        raise ValueError("there are no inputs to look at")
    counts = []
    for values, live in zip(activations(net, x), _live(net, tuple(x.shape[1:])), strict=True):
        positive = (values > 0).flatten(1)
        on, off = positive.all(0) & live, ~positive.any(0) & live
        counts.append(tuple(int(part.sum()) for part in (~live, on, off, live & ~on & ~off)))
    return Behaviour(*zip(*counts, strict=True))


def switched(net: nn.Module, x: Tensor, x_adv: Tensor) -> list[float]:
    """Of each ReLU layer, the mean number of units that are on for ``x`` (n, ...) and off for ``x_adv``, or the other way."""
    if x.shape != x_adv.shape:
        raise ValueError(f"x is {tuple(x.shape)} and x_adv {tuple(x_adv.shape)}; they must have one shape")
    pairs = zip(activations(net, x), activations(net, x_adv), strict=True)
    return [float(((a > 0) != (b > 0)).flatten(1).sum(1).double().mean()) for a, b in pairs]


def kernel_energy_below(weight: Tensor, cutoff: float = 0.5, size: int = 32) -> NDArray[np.float64]:
    """The share of each kernel's energy at spatial frequencies below ``cutoff`` of the highest, in both directions.

    ``weight`` (o, c, h, w). Kernels are padded with zeros to ``size``; one of zeros has no share: nan. A single tap, which
    has all frequencies alike, has the share of the area, about ``cutoff`` squared.
    """
    spectrum = np.abs(np.fft.fft2(weight.detach().double().numpy(), (size, size))) ** 2
    frequency = np.abs(np.fft.fftfreq(size)) / 0.5
    low = (frequency < cutoff)[:, None] & (frequency < cutoff)[None]
    total = spectrum.sum((1, 2, 3))
    with np.errstate(invalid="ignore"):
        return (spectrum * low).sum((1, 2, 3)) / total


def stroke(x: Tensor) -> Tensor:
    """Two things that a digit's class does not tell, (n, 2): how much ink there is, and the slant, from images (n, 1, h, w).

    The ink is the mean value. The slant is the slope of the axis of the ink against the vertical, cov(row, column) over
    var(row), each weighted by the ink; 0 for an image with ink in one row only.
    """
    h, w = x.shape[2:]
    ink = x[:, 0].double()
    total = ink.sum((1, 2)).clamp_min(1e-12)
    rows, columns = torch.meshgrid(torch.arange(h).double(), torch.arange(w).double(), indexing="ij")
    centre = [(ink * place).sum((1, 2)) / total for place in (rows, columns)]
    down, right = (place - middle[:, None, None] for place, middle in zip((rows, columns), centre, strict=True))
    variance = (ink * down**2).sum((1, 2)) / total
    slant = (ink * down * right).sum((1, 2)) / total / variance.clamp_min(1e-12)
    return torch.stack([total / (h * w), torch.where(variance > 1e-9, slant, 0.0)], 1)


@dataclass(frozen=True)
class Probes:
    """What a linear map reads off each layer, measured on inputs that it was not fitted on."""

    layer: tuple[str, ...]  #: "input", then "ReLU 1", ...
    digit: tuple[float, ...]  #: accuracy of a linear classifier
    ink: tuple[float, ...]  #: share of the variance explained (R squared), at most 1
    slant: tuple[float, ...]
    image: tuple[float, ...]  #: of all pixels together


def probe(net: nn.Module, x: Tensor, y: Tensor, *, fit: int, alpha: float = 1.0) -> Probes:
    """Linear probes by ridge regression, fitted on the first ``fit`` images (n, 1, h, w), measured on the others.

    The digit is read off by regression on its ten indicators. Features are used as they are, with penalty ``alpha``.
    No guarantee: a linear map may miss what a layer still holds.
    Raises ValueError unless there are images on both sides of ``fit``.
    """
    if not 0 < fit < len(x) or len(x) != len(y):
        raise ValueError(f"fit is {fit} with {len(x)} images and {len(y)} labels; it must leave images on both sides")
    indicators = nn.functional.one_hot(y, 10).double()
    targets = torch.cat([indicators, stroke(x), x.flatten(1).double()], 1).numpy()
    rows: list[tuple[float, ...]] = []
    for features in (x, *activations(net, x)):
        inputs = features.flatten(1).double().numpy()
        found = Ridge(alpha=alpha, solver="cholesky").fit(inputs[:fit], targets[:fit]).predict(inputs[fit:])
        right = (found[:, :10].argmax(1) == y[fit:].numpy()).mean()
        parts = (slice(10, 11), slice(11, 12), slice(12, None))
        rows.append((float(right), *(_explained(found[:, part], targets[fit:, part]) for part in parts)))
    names = ("input", *(f"ReLU {k}" for k in range(1, len(rows))))
    return Probes(names, *zip(*rows, strict=True))


def _explained(found: NDArray[np.float64], truth: NDArray[np.float64]) -> float:
    return float(1 - ((found - truth) ** 2).sum() / ((truth - truth.mean(0)) ** 2).sum())
