"""The papers' architectures, as plain modules from images in [0, 1] to logits.

Each builder returns a freshly initialised network; trained ones come from :mod:`advlab.zoo`. Normalisation is the first
layer of a network, never a step outside it, so that attacks always work on pixels.
"""

from collections import OrderedDict
from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn


class Normalize(nn.Module):
    """(x - mean) / std for each channel of (n, c, h, w). No parameters are learned.

    >>> Normalize([0.5], [0.25])(torch.full((1, 1, 1, 2), 1.0)).tolist()
    [[[[2.0, 2.0]]]]
    """

    mean: Tensor
    std: Tensor

    def __init__(self, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(mean).view(-1, 1, 1))
        self.register_buffer("std", torch.tensor(std).view(-1, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        return (x - self.mean) / self.std

    def extra_repr(self) -> str:
        return f"mean={self.mean.flatten().tolist()}, std={self.std.flatten().tolist()}"


def mnist_cnn7(dropout: float = 0.5) -> nn.Sequential:
    """The 7-layer MNIST network of Carlini and Wagner (2017) that Feature Squeezing attacks (its Table 1).

    Four valid 3 x 3 convolutions (32, 32, 64, 64 channels) with two poolings, then 200, 200 and 10 units; 312,202
    parameters; the input is shifted by 1/2. Weights start from Glorot's uniform law and biases from 0, as in the
    authors' Keras code. (n, 1, 28, 28) -> logits (n, 10).
    """
    net = nn.Sequential(
        Normalize([0.5], [1.0]),
        *(nn.Conv2d(1, 32, 3), nn.ReLU(), nn.Conv2d(32, 32, 3), nn.ReLU(), nn.MaxPool2d(2)),  # (n, 32, 12, 12)
        *(nn.Conv2d(32, 64, 3), nn.ReLU(), nn.Conv2d(64, 64, 3), nn.ReLU(), nn.MaxPool2d(2)),  # (n, 64, 4, 4)
        *(nn.Flatten(), nn.Linear(1024, 200), nn.ReLU(), nn.Dropout(dropout)),
        *(nn.Linear(200, 200), nn.ReLU(), nn.Linear(200, 10)),
    )
    for layer in net:
        if isinstance(layer, (nn.Conv2d, nn.Linear)):
            nn.init.xavier_uniform_(layer.weight)
            nn.init.zeros_(cast(Tensor, layer.bias))
    return net


class HalvingConv2d(nn.Conv2d):
    """A convolution of stride 2, computed as one of stride 1 on the four interleaved quarters of the image.

    The same function as ``nn.Conv2d(..., stride=2)``; on a CPU its gradients are faster. For even padding
    and no dilation or groups; inputs of odd size go the ordinary way.

    >>> halving = HalvingConv2d(1, 4, 5, padding=2)
    >>> plain = nn.Conv2d(1, 4, 5, stride=2, padding=2)
    >>> _ = plain.load_state_dict(halving.state_dict())
    >>> x = torch.rand(2, 1, 28, 28)
    >>> halving(x).shape, halving(x).allclose(plain(x), atol=1e-5)
    (torch.Size([2, 4, 14, 14]), True)
    """

    def __init__(self, inputs: int, outputs: int, kernel_size: int, *, padding: int) -> None:
        if padding % 2:
            raise ValueError(f"padding is {padding}; it must be even")
        super().__init__(inputs, outputs, kernel_size, stride=2, padding=padding)

    def _conv_forward(self, input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        if input.shape[-2] % 2 or input.shape[-1] % 2:
            return super()._conv_forward(input, weight, bias)
        odd = self.kernel_size[0] % 2
        weight = _interleaved(nn.functional.pad(weight, (0, odd, 0, odd)))
        return nn.functional.conv2d(_interleaved(input), weight, bias, padding=int(self.padding[0]) // 2)


def _interleaved(x: Tensor) -> Tensor:
    """(n, c, 2h, 2w) -> (n, 4c, h, w), every second row and column; faster than pixel_unshuffle."""
    n, c, h, w = x.shape
    return x.reshape(n, c, h // 2, 2, w // 2, 2).permute(0, 3, 5, 1, 2, 4).reshape(n, 4 * c, h // 2, w // 2)


class MaskedReLU(nn.Module):
    """A ReLU layer of which some units are pruned: where ``mask`` is 1 the identity, where it is -1 zero, where 0 a ReLU.

    ``mask`` has the shape of one input of the layer, without the batch (Xiao et al. 2019, section 3.2).

    >>> MaskedReLU(torch.tensor([1, 0, -1]))(torch.tensor([[-2.0, -2.0, 2.0], [3.0, 3.0, 3.0]])).tolist()
    [[-2.0, 0.0, 0.0], [3.0, 3.0, 0.0]]
    """

    mask: Tensor

    def __init__(self, mask: Tensor) -> None:
        super().__init__()
        self.register_buffer("mask", mask.to(torch.int8))

    def forward(self, x: Tensor) -> Tensor:
        return torch.where(self.mask == 0, x.relu(), x * (self.mask > 0))

    def extra_repr(self) -> str:
        counts = [int((self.mask == value).sum()) for value in (0, 1, -1)]
        return f"relu={counts[0]}, identity={counts[1]}, zero={counts[2]}"


def stability_cnn(channels: int = 1, size: int = 28) -> nn.Sequential:
    """The small network of Xiao et al. (2019): 5 x 5 convolutions of stride 2 with 16 and 32 filters, then 100 units.

    4,804 ReLUs on MNIST (``channels=1, size=28``), 6,244 on CIFAR-10 (``channels=3, size=32``). (n, c, h, w) -> (n, 10).
    """
    return _stability(channels, size, 16, 32, 100)


def _stability(channels: int, size: int, first: int, second: int, units: int) -> nn.Sequential:
    return nn.Sequential(
        *(HalvingConv2d(channels, first, 5, padding=2), nn.ReLU()),
        *(HalvingConv2d(first, second, 5, padding=2), nn.ReLU()),
        *(nn.Flatten(), nn.Linear(second * (size // 4) ** 2, units), nn.ReLU(), nn.Linear(units, 10)),
    )


def prunable(net: nn.Sequential, shape: Sequence[int]) -> nn.Sequential:
    """``net`` with layers whose ReLUs can be pruned (:class:`MaskedReLU`); none is yet. ``shape`` is that of one input.

    >>> net = prunable(nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2)), (4,))
    >>> net[1], int(net[1].mask.count_nonzero())
    (MaskedReLU(relu=3, identity=0, zero=0), 0)
    """
    layers, x = [], torch.zeros(1, *shape)
    for layer in net:
        x = layer(x)
        layers.append(MaskedReLU(torch.zeros(x.shape[1:])) if isinstance(layer, nn.ReLU) else layer)
    return nn.Sequential(*layers)


def pruned_stability_cnn(channels: int = 1, size: int = 28) -> nn.Sequential:
    """:func:`stability_cnn`, :func:`prunable`."""
    return prunable(stability_cnn(channels, size), (channels, size, size))


def narrow_stability_cnn(first: int = 3, second: int = 23, units: int = 82) -> nn.Sequential:
    """:func:`stability_cnn` for MNIST with fewer filters and units: as many as training with the RS loss leaves alive."""
    return _stability(1, 28, first, second, units)


def pruned_narrow_stability_cnn() -> nn.Sequential:
    """:func:`narrow_stability_cnn`, :func:`prunable`."""
    return prunable(narrow_stability_cnn(), (1, 28, 28))


#: Mean and deviation of CIFAR-10's training images, by channel (RGB).
CIFAR10_MEAN, CIFAR10_STD = (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)


def cifar_cnn(widths: Sequence[int] = (64, 128, 256)) -> nn.Sequential:
    """A network for CIFAR-10 that a laptop trains in an hour: three blocks of two 3 x 3 convolutions; 1.2 million parameters.

    Its shape, its frozen first layer (:func:`whiten_first_layer`) and its start near the identity follow Jordan (2024),
    "94% on CIFAR-10 in 3.29 seconds on a single GPU", with ReLU and fewer channels. (n, 3, 32, 32) -> logits (n, 10).
    """
    first = nn.Conv2d(3, 24, 2)
    first.weight.requires_grad_(False)
    layers: list[nn.Module] = [Normalize(CIFAR10_MEAN, CIFAR10_STD), first, nn.ReLU()]  # (n, 24, 31, 31)
    inputs = 24
    for width in widths:  # 15 x 15, 7 x 7, 3 x 3
        layers += [nn.Conv2d(inputs, width, 3, padding=1, bias=False), nn.MaxPool2d(2), nn.BatchNorm2d(width), nn.ReLU()]
        layers += [nn.Conv2d(width, width, 3, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU()]
        inputs = width
    net = nn.Sequential(*layers, nn.MaxPool2d(3), nn.Flatten(), nn.Linear(inputs, 10))
    for layer in net:
        if isinstance(layer, nn.Conv2d) and layer is not first:
            nn.init.dirac_(layer.weight[: layer.in_channels])
    return net.to(memory_format=torch.channels_last)  # pyrefly: ignore[no-matching-overload]


def whiten_first_layer(model: nn.Module, x: Tensor, n: int = 5000) -> None:
    """Set the first convolution of :func:`cifar_cnn` so that it whitens the 2 x 2 patches of the images ``x`` (n, 3, h, w).

    Its filters are the 12 eigenvectors of the patches' covariance (of the first ``n`` images, normalised as the network
    does), each over the root of its eigenvalue, and their negatives.

    >>> from advlab import data
    >>> net, (x, _) = cifar_cnn((8, 8, 8)), data.cifar10("test", 50, full=False)
    >>> whiten_first_layer(net, x)
    >>> first = next(layer for layer in net.modules() if isinstance(layer, nn.Conv2d))
    >>> first.weight.shape, first.weight[:12].equal(-first.weight[12:])
    (torch.Size([24, 3, 2, 2]), True)
    """
    normalise, first = cast(nn.Sequential, model)[0], cast(nn.Conv2d, cast(nn.Sequential, model)[1])
    patches = nn.functional.unfold(normalise(x[:n]), 2).transpose(1, 2).flatten(0, 1)  # (n 31 31, 12)
    values, vectors = torch.linalg.eigh(torch.cov(patches.T))
    filters = (vectors / (values + 5e-4).sqrt()).T.reshape(12, 3, 2, 2)
    with torch.no_grad():
        first.weight.copy_(torch.cat([filters, -filters]))
        cast(Tensor, first.bias).zero_()


class _DenseLayer(nn.Module):
    def __init__(self, channels: int, growth: int) -> None:
        super().__init__()
        self.new = nn.Sequential(nn.BatchNorm2d(channels), nn.ReLU(), nn.Conv2d(channels, growth, 3, padding=1, bias=False))

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([x, self.new(x)], 1)


def densenet(depth: int = 40, growth: int = 12) -> nn.Sequential:
    """DenseNet (Huang et al. 2017) without bottleneck for CIFAR-10; L = 40, k = 12 is Feature Squeezing's network.

    Three dense blocks of (depth - 4) / 3 layers. (n, 3, 32, 32) -> logits (n, 10).
    Raises ValueError unless depth is 4 more than a multiple of 3.
    """
    if (depth - 4) % 3 or depth < 7:
        raise ValueError(f"depth is {depth}; it must be 4 more than a multiple of 3, such as 40")
    channels = 16
    layers: list[nn.Module] = [Normalize(CIFAR10_MEAN, CIFAR10_STD), nn.Conv2d(3, channels, 3, padding=1, bias=False)]
    for block in range(3):
        for _ in range((depth - 4) // 3):
            layers.append(_DenseLayer(channels, growth))
            channels += growth
        layers += [nn.BatchNorm2d(channels), nn.ReLU()]
        if block < 2:
            layers += [nn.Conv2d(channels, channels, 1, bias=False), nn.AvgPool2d(2)]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, 10))


class ResidualBlock(nn.Module):
    """A block of :func:`resnet`: ``residual`` and ``shortcut`` added, then ReLU; ``kernels`` are its convolutions' sizes.

    >>> block = ResidualBlock(16, 32, stride=2, kernels=(3, 3), inner=32)
    >>> block(torch.zeros(1, 16, 8, 8)).shape
    torch.Size([1, 32, 4, 4])
    """

    def __init__(self, inputs: int, outputs: int, stride: int, kernels: Sequence[int], inner: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        channels = [inputs, *[inner] * (len(kernels) - 1), outputs]
        strided = kernels.index(3)
        for i, kernel in enumerate(kernels):
            step = stride if i == strided else 1
            layers.append(nn.Conv2d(channels[i], channels[i + 1], kernel, step, kernel // 2, bias=False))
            layers += [nn.BatchNorm2d(channels[i + 1]), nn.ReLU()]
        self.residual = nn.Sequential(*layers[:-1])
        self.shortcut = nn.Identity()
        if stride != 1 or inputs != outputs:
            self.shortcut = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(self.residual(x) + self.shortcut(x))


def resnet_blocks(depth: int) -> tuple[int, ...]:
    """How many blocks the stages of :func:`resnet` have. Raises ValueError for a depth that there is not."""
    if depth not in (18, 34, 50) and (depth < 8 or (depth - 2) % 6):
        raise ValueError(f"depth is {depth}; it must be 18, 34 or 50, or 6 k + 2: 8, 14, 20 and so on")
    return {18: (2, 2, 2, 2), 34: (3, 4, 6, 3), 50: (3, 4, 6, 3)}.get(depth, ((depth - 2) // 6,) * 3)


def resnet(depth: int = 18, width: int | Sequence[int] = 64) -> nn.Sequential:
    """A residual network for CIFAR-10 (He et al. 2016): 3 x 3 stem, no first pooling. (n, 3, 32, 32) -> logits (n, 10).

    Depths 18, 34 and 50 have four stages with 1, 2, 4 and 8 times ``width`` channels (50 with bottlenecks, and four times
    the channels between its blocks); depths 8, 14, 20 and so on, 6 k + 2, have three stages of k blocks. ResNet-18 is Random
    Mask's network. Its parts are named: ``stem``, then ``stage1`` onwards. ``width`` may also be a sequence, the channels of
    the stem and of each stage. Raises ValueError for a depth that there is not, and a wrong number of widths.
    """
    bottleneck, blocks = depth == 50, resnet_blocks(depth)
    widths = [width, *(width * 2**k for k in range(len(blocks)))] if isinstance(width, int) else list(width)
    if len(widths) != len(blocks) + 1 or min(widths) < 1:
        raise ValueError(f"width is {width}; it must be a number above 0, or {len(blocks) + 1}: for the stem and each stage")
    inputs = widths[0]
    stem = nn.Sequential(nn.Conv2d(3, inputs, 3, 1, 1, bias=False), nn.BatchNorm2d(inputs), nn.ReLU())
    parts: dict[str, nn.Module] = {"normalize": Normalize(CIFAR10_MEAN, CIFAR10_STD), "stem": stem}
    for stage, (count, inner) in enumerate(zip(blocks, widths[1:], strict=True), 1):
        outputs = 4 * inner if bottleneck else inner
        made: list[nn.Module] = []
        for i in range(count):
            stride = 2 if stage > 1 and i == 0 else 1
            made.append(ResidualBlock(inputs, outputs, stride, (1, 3, 1) if bottleneck else (3, 3), inner))
            inputs = outputs
        parts[f"stage{stage}"] = nn.Sequential(*made)
    parts |= {"pool": nn.AdaptiveAvgPool2d(1), "flatten": nn.Flatten(), "linear": nn.Linear(inputs, 10)}
    return nn.Sequential(OrderedDict(parts)).to(memory_format=torch.channels_last)  # pyrefly: ignore[no-matching-overload]


class Mask(nn.Module):
    """Sets the values of its input, ``(n, *shape)``, to 0 wherever ``kept`` is False: a boolean buffer ``(1, *shape)``.

    Made of ``kept`` without that 1. The buffer has it, so that ``.to(memory_format=...)`` reaches masks of feature maps.

    >>> Mask(torch.tensor([True, False, True]))(torch.ones(2, 3)).tolist()
    [[1.0, 0.0, 1.0], [1.0, 0.0, 1.0]]
    """

    kept: Tensor

    def __init__(self, kept: Tensor) -> None:
        super().__init__()
        self.register_buffer("kept", kept.bool()[None])

    def forward(self, x: Tensor) -> Tensor:
        return x * self.kept.to(x.dtype)

    def extra_repr(self) -> str:
        return f"{tuple(self.kept.shape[1:])}, {int((~self.kept).sum())} of {self.kept.numel()} values are 0"


def sphere_relu(d: int = 500, width: int = 1000, hidden: int = 2) -> nn.Sequential:
    """The ReLU network of Adversarial Spheres: ``hidden`` layers of ``width`` units with batch norm. (n, d) -> (n,)."""
    layers: list[nn.Module] = []
    for inputs in [d] + [width] * (hidden - 1):
        layers += [nn.Linear(inputs, width), nn.BatchNorm1d(width), nn.ReLU()]
    return nn.Sequential(*layers, nn.Linear(width, 1), nn.Flatten(0))


class SphereQuadratic(nn.Module):
    """The quadratic network of Adversarial Spheres, ``w |W x|^2 + b``: (n, d) -> one logit each, (n,); its section 4.

    ``weight`` W (h, d), ``scale`` w and ``bias`` b are learned; positive logits mean the outer sphere. It starts with
    normal weights of variance 1/h, so that ``|W x|`` is about ``|x|``, with w = 10, and with b halfway between the
    spheres of radius 1 and 1.3. The paper does not say how its network starts.

    >>> net = SphereQuadratic(d=100, width=10_000)
    >>> x = torch.nn.functional.normalize(torch.randn(1000, 100))
    >>> (net(x) < 0).float().mean().item() > 0.9, (net(1.3 * x) > 0).float().mean().item() > 0.9  # right before any training
    (True, True)
    """

    def __init__(self, d: int = 500, width: int = 1000) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(width, d) / width**0.5)
        self.scale = nn.Parameter(torch.tensor(10.0))
        self.bias = nn.Parameter(torch.tensor(-10 * (1 + 1.3**2) / 2))

    def forward(self, x: Tensor) -> Tensor:
        return self.scale * nn.functional.linear(x, self.weight).square().sum(1) + self.bias


def sphere_quadratic(d: int = 500, width: int = 1000) -> SphereQuadratic:
    """A fresh :class:`SphereQuadratic`; the paper's has d = 500 inputs and 1,000 hidden units. (n, d) -> (n,)."""
    return SphereQuadratic(d, width)
