"""Claims of chapter 2 on squeezing inside the network."""

from __future__ import annotations

import functools
from dataclasses import replace

import torch
from torch import Tensor, nn

from advlab.squeezing.detector import SqueezingDetector
from advlab.squeezing.features import ChannelDrop, FeatureBits, features, hidden_layers, output_distance, response, with_layer
from advlab.squeezing.squeezers import SQUEEZERS, reduce_bit_depth

from ..results import Measurement, claim
from ..stats import share, share_of
from .measuring import halves, network, shipped, threshold

#: The MNIST network's feature maps: the four convolutions and the two hidden linear layers.
LAYERS = ("conv 1", "conv 2", "conv 3", "conv 4", "linear 1", "linear 2")
BITS = (1, 2, 3, 4)
SHARES = (0.25, 0.5, 0.75)


@functools.cache
def _inside(n: int | None) -> tuple[nn.Sequential, Tensor, Tensor, Tensor]:
    """The MNIST network, clean images that set thresholds (2,000), the seeds, and successful adversarial images."""
    model = network("mnist")
    assert isinstance(model, nn.Sequential)
    found, successful = shipped("mnist")
    attacked = torch.cat([images[:n][successful[name][:n]] for name, images in found.adversarial.items()])
    return model, halves("mnist", n)[0][:2000], found.x[:n], attacked


def _response(n: int | None, squeezer: str) -> Measurement:
    """How much more a squeezer changes the features of adversarial images than of clean ones, at the last hidden layer."""
    model, _, seeds, attacked = _inside(n)
    clean_change, change = (response(model, images, SQUEEZERS[squeezer]).median(1).values for images in (seeds, attacked))
    ratios = (change / clean_change.clamp_min(1e-12)).tolist()
    return Measurement(
        ratios[-1], len(attacked), series={"clean": clean_change.tolist(), "attacked": change.tolist(), "ratio": ratios}
    )


def _response_claim(squeezer: str) -> None:
    @claim(
        f"feature_squeezing.response_{squeezer.replace('-', '').replace(' ', '_')}",
        f"MNIST, {squeezer}: how many times more it changes the last features of attacked digits than of clean ones",
        unit="times",
        note="Ratio of the median relative changes, |h(x) - h(squeezed x)| / |h(x)|; the series has all six layers.",
        networks=["mnist_cnn7"],
        evidence=["adversarial-mnist"],
    )
    def measure(n: int | None = None) -> Measurement:
        return _response(n, squeezer)


_response_claim("1-bit")
_response_claim("median 2x2")


def _detection(fit: Tensor, attacked: Tensor) -> float:
    return float((attacked > threshold(fit)).double().mean())


def _best(grid: dict[str, list[float]], n: int) -> Measurement:
    """The best of the shares "detected", each of ``n`` images."""
    return replace(share_of(round(max(grid["detected"]) * n), n), series=grid)


@claim(
    "feature_squeezing.input_bits",
    "MNIST, detection by one bit of the input alone, all attacks",
    note="The series has 1 to 4 bits. Interval of the one-bit detector, images taken as independent.",
    networks=["mnist_cnn7"],
    evidence=["adversarial-mnist"],
)
def input_bits(n: int | None = None) -> Measurement:
    model, fit, _, attacked = _inside(n)
    found = []
    for bits in BITS:
        one = SqueezingDetector(model, {"bits": functools.partial(reduce_bit_depth, bits=bits)})
        found.append(one.score_samples(attacked) > threshold(one.score_samples(fit)))
    return replace(share(found[0]), series={"detected": [share(f).value for f in found]})


@claim(
    "feature_squeezing.feature_bits",
    "MNIST, detection by rounding one feature map instead, the best layer and precision",
    note="1 to 4 bits at each of six feature maps, scaled to the largest clean value; the series has all 24, layer by layer. "
    "The best of 24 is chosen on the images it is scored on, which flatters it.",
    networks=["mnist_cnn7"],
    evidence=["adversarial-mnist"],
)
def feature_bits(n: int | None = None) -> Measurement:
    model, fit, _, attacked = _inside(n)
    tops = [float(f.max()) for f in features(model, fit)]
    grid = {"layer": [], "bits": [], "detected": []}
    for layer, (place, top) in enumerate(zip(hidden_layers(model), tops, strict=True)):
        for bits in BITS:
            coarse = with_layer(model, place, FeatureBits(bits, top))
            grid["layer"].append(float(layer))
            grid["bits"].append(float(bits))
            grid["detected"].append(_detection(output_distance(model, coarse, fit), output_distance(model, coarse, attacked)))
    return _best(grid, len(attacked))


@claim(
    "feature_squeezing.feature_width",
    "MNIST, detection by leaving out channels of one layer instead, the best layer and share",
    note="A quarter, a half and three quarters of the channels, drawn at random once; the series has all 18, layer by layer.",
    networks=["mnist_cnn7"],
    evidence=["adversarial-mnist"],
)
def feature_width(n: int | None = None) -> Measurement:
    model, fit, _, attacked = _inside(n)
    widths = [f.shape[1] for f in features(model, fit[:1])]
    grid = {"layer": [], "share": [], "detected": []}
    for layer, (place, width) in enumerate(zip(hidden_layers(model), widths, strict=True)):
        for part in SHARES:
            narrow = with_layer(model, place, ChannelDrop(width, part, torch.Generator().manual_seed(layer)))
            grid["layer"].append(float(layer))
            grid["share"].append(part)
            grid["detected"].append(_detection(output_distance(model, narrow, fit), output_distance(model, narrow, attacked)))
    return _best(grid, len(attacked))
