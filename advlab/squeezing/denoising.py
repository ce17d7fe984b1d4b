"""Non-local means in integers, as OpenCV computes it, and the 8-bit Lab colours that it works in.

OpenCV's algorithm (its photo and imgproc modules), written anew in torch: every table below follows from a formula.
"""

from __future__ import annotations

import math
from functools import cache

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn.functional import avg_pool2d

#: Bytes of padded images that one step works on.
_CHUNK = 2**20


def mirror(length: int, before: int, after: int, device: torch.device, *, repeat_edge: bool) -> Tensor:
    """Where each position of a padded axis is read from: (before + length + after,) indices in 0..length - 1."""
    at = torch.arange(-before, length + after, device=device)
    if repeat_edge:  # c b a | a b c | c b a
        at = at.remainder(2 * length)
        return at.minimum(2 * length - 1 - at)
    at = at.remainder(max(2 * length - 2, 1))  # c b | a b c | b a
    return at.minimum(2 * length - 2 - at).clamp_min(0)


# ---------------------------------------------------------------------------------------------- the filter


def denoise_plainly(planes: Tensor, search: int, patch: int, strength: float) -> Tensor:
    """The plain version of :func:`denoise`, every pair of pixels twice; ``test_the_fast_means_are_the_plain_ones`` compares."""
    _, _, h, w = planes.shape
    reach, (table, shift) = search // 2, _weights(search, patch, strength, len(planes))
    patches = _padded(planes.long(), reach + patch // 2).unfold(2, patch, 1).unfold(3, patch, 1)  # (c, n, .., .., patch, patch)
    windows = patches.unfold(2, search, 1).unfold(3, search, 1)  # (c, n, h, w, patch, patch, search, search)
    own = patches[:, :, reach : reach + h, reach : reach + w, ..., None, None]
    index = ((windows - own).square().sum((0, 4, 5)) >> shift).clamp(max=len(table) - 1)
    weight = table[index].long()  # (n, h, w, search, search)
    total, weights = (weight * windows[:, :, :, :, patch // 2, patch // 2]).sum((4, 5)), weight.sum((3, 4))
    return (total + weights // 2) // weights


def _padded(x: Tensor, border: int) -> Tensor:
    """(a, b, h, w), mirrored all round."""
    rows, columns = (mirror(length, border, border, x.device, repeat_edge=False) for length in x.shape[2:])
    return x.index_select(2, rows).index_select(3, columns)


def denoise(planes: Tensor, search: int, patch: int, strength: float) -> Tensor:
    """Non-local means of (c, n, h, w) integers in 0..255, whose c channels share their weights; the result is the same.

    Each pixel becomes the mean of its ``search`` x ``search`` neighbours, weighted by exp(-d / (strength^2 c)), where d is
    the mean squared difference of the ``patch`` x ``patch`` patches around the two, in fixed point.
    """
    c, _, h, w = planes.shape
    border = search // 2 + patch // 2
    out = torch.empty_like(planes)
    step = max(1, _CHUNK // (4 * c * (h + 2 * border) * (w + 2 * border)))
    table, shift = _weights(search, patch, strength, c)
    table = table.to(planes.device)
    for part, target in zip(planes.split(step, 1), out.split(step, 1), strict=True):
        padded = _padded(part, border).permute(0, 2, 3, 1).to(torch.int32).contiguous()  # images innermost
        target.copy_(_weighted_mean(padded, h, w, search // 2, patch, table, shift).permute(0, 3, 1, 2))
    return out


def _weights(search: int, patch: int, strength: float, channels: int) -> tuple[Tensor, int]:
    """Weights (k,) int32 by the shifted sum of squared differences over a patch, and the shift. The last, 0, holds beyond.

    As in OpenCV, the mean over a patch is a shift by the next power of two, which the exponent makes good; weights under a
    thousandth of the greatest are 0; and the greatest is such that no sum of weights times 255 leaves 32 bits.
    """
    area, greatest = patch**2, (2**31 - 1) // (255 * search**2)
    shift = math.ceil(math.log2(area))
    mean = torch.arange((255**2 * channels * area >> shift) + 1, dtype=torch.float64) * (2**shift / area)
    width = torch.tensor(strength, dtype=torch.float32).square() * channels  # single precision, as OpenCV has it
    weights = (greatest * (-mean / width.double()).exp()).round()
    weights = weights[weights >= 0.001 * greatest]
    return torch.cat([weights, weights.new_zeros(1)]).to(torch.int32), shift


def _weighted_mean(padded: Tensor, h: int, w: int, reach: int, patch: int, table: Tensor, shift: int) -> Tensor:
    """The filter on (c, H, W, m), padded all round, to (c, h, w, m). A pair of pixels is compared once and serves both.

    d(p, q) = d(q, p), so that a weight is added to p with the value of q and to q with that of p; half of the offsets suffice.
    """
    around = patch // 2
    border = reach + around
    total = padded[:, border : border + h, border : border + w] * table[0]
    weights = torch.full_like(total[0], int(table[0]))
    for dy in range(reach + 1):
        for dx in range(-reach if dy else 1, reach + 1):
            # p runs over all pixels such that p or its partner p + (dy, dx) lies in the image: (h + dy, w + |dx|) of them
            top, left = border - dy, border - max(dx, 0)
            height, width = h + dy, w + abs(dx)
            here = padded[:, top - around : top + height + around, left - around : left + width + around]
            there = padded[:, top + dy - around : top + dy + height + around, left + dx - around : left + dx + width + around]
            difference = here - there
            squares = difference.mul_(difference)
            squares = squares[0] if len(squares) == 1 else squares[0] + squares[1]
            strips = _window_sums(squares, 0, height, patch)
            sums = _window_sums(strips, 1, width, patch)  # (height, width, m)
            index = sums.bitwise_right_shift_(shift).clamp_(max=len(table) - 1)
            weight = table.index_select(0, index.view(-1)).view(index.shape)
            y, x = dy, max(dx, 0)  # where the image's own pixels begin among the p
            own = weight[y : y + h, x : x + w]
            total.addcmul_(padded[:, border + dy : border + dy + h, border + dx : border + dx + w], own)
            weights += own
            y, x = 0, max(-dx, 0)  # and the partners of which lie in the image
            partner = weight[y : y + h, x : x + w]
            total.addcmul_(padded[:, border - dy : border - dy + h, border - dx : border - dx + w], partner)
            weights += partner
    weights = weights.long()
    return (total.long() + weights // 2) // weights


def _window_sums(v: Tensor, axis: int, length: int, size: int) -> Tensor:
    """Sums of ``size`` neighbours along an axis, ``length`` of them."""
    if size == 1:
        return v.narrow(axis, 0, length).contiguous()
    sums = v.narrow(axis, 0, length) + v.narrow(axis, 1, length)
    for i in range(2, size):
        sums += v.narrow(axis, i, length)
    return sums


def smooth_denoise(x: Tensor, search: int, patch: int, strength: float) -> Tensor:
    """The same mean of (n, c, h, w) floats, without steps: all channels share their weights, nothing is rounded.

    Differentiable once, through the weights too (but for those under e^-30, which hardly count).
    """
    return _Smooth.apply(x, search, patch, strength)


class _Smooth(torch.autograd.Function):
    """Backward computes each row of neighbours again, so that memory does not grow with their number."""

    @staticmethod
    def forward(ctx, x: Tensor, search: int, patch: int, strength: float) -> Tensor:
        ctx.filter = search, patch, strength
        rows = (_smooth_row(x, dy, *ctx.filter) for dy in range(search))
        total, weights = (torch.stack(parts).sum(0) for parts in zip(*rows, strict=True))
        ctx.save_for_backward(x, total / weights, weights)
        return total / weights

    @staticmethod
    @once_differentiable
    def backward(ctx, gradient: Tensor) -> tuple[Tensor, None, None, None]:  # pyrefly: ignore[bad-override]
        x, mean, weights = ctx.saved_tensors
        of_total = gradient / weights
        of_weights = -(of_total * mean).sum(1, keepdim=True)
        result = torch.zeros_like(x)
        for dy in range(ctx.filter[0]):
            with torch.enable_grad():
                at = x.detach().requires_grad_()
                row = _smooth_row(at, dy, *ctx.filter)
            result += torch.autograd.grad(row, at, (of_total, of_weights))[0]
        return result, None, None, None


def _smooth_row(x: Tensor, dy: int, search: int, patch: int, strength: float) -> tuple[Tensor, Tensor]:
    """Sums over the neighbours of one row of the search window: weight times value (n, c, h, w), and weight (n, 1, h, w)."""
    _, c, h, w = x.shape
    reach, around = search // 2, patch // 2
    padded = _padded(x, reach + around)
    here, strip = padded[:, :, reach : reach + h + 2 * around], padded[:, :, dy : dy + h + 2 * around]
    here = here[..., reach : reach + w + 2 * around]
    total, weights = torch.zeros_like(x), torch.zeros_like(x[:, :1])
    for dx in range(search):
        there = strip[..., dx : dx + w + 2 * around]
        distance = avg_pool2d((here - there).square().sum(1, keepdim=True), patch, 1)  # (n, 1, h, w)
        weight = (distance / -(strength**2 * c)).clamp_min(-30).exp()  # smaller ones are slow, as numbers below normal
        total = total + weight * there[:, :, around : around + h, around : around + w]
        weights = weights + weight
    return total, weights


# ---------------------------------------------------------------------------------------------- linear BGR <-> Lab, 8 bits

_WHITE = (0.950456, 1.0, 1.088754)  # D65
_RGB_TO_XYZ = ((0.412453, 0.357580, 0.180423), (0.212671, 0.715160, 0.072169), (0.019334, 0.119193, 0.950227))
_XYZ_TO_RGB = ((3.240479, -1.53715, -0.498535), (-0.969256, 1.875991, 0.041556), (0.055648, -0.204043, 1.057311))


def lab_of_bgr(bgr: Tensor) -> Tensor:
    """CIE Lab of (3, ...) linear blue, green and red in 0..255: (3, ...) int32 in 0..255, OpenCV's COLOR_LBGR2LAB."""
    blue, green, red = 8 * bgr.to(torch.int32)
    root = _cube_roots().to(bgr.device)
    fx, fy, fz = (
        root[((round(4096 * r / white) * red + round(4096 * g / white) * green + round(4096 * b / white) * blue + 2048) >> 12)]
        for (r, g, b), white in zip(_RGB_TO_XYZ, _WHITE, strict=True)
    )
    half = 1 << 14
    lightness = (296 * fy - 1336934 + half) >> 15  # 116 f(Y) - 16 of 100, times 255 / 100
    a = (500 * (fx - fy) + (128 << 15) + half) >> 15
    b = (200 * (fy - fz) + (128 << 15) + half) >> 15
    return torch.stack([lightness, a, b]).clamp_(0, 255)


def bgr_of_lab(lab: Tensor) -> Tensor:
    """Linear blue, green and red of (3, ...) Lab in 0..255: (3, ...) int32 in 0..255, OpenCV's COLOR_LAB2LBGR."""
    lightness, a, b = lab.to(torch.int32)
    luminance, f, power = (table.to(lab.device) for table in _powers())
    y, fy = luminance[lightness], f[lightness]
    # a / 500 and b / 200 in units of 2^-14, rounded as OpenCV rounds them
    x = power[fy + ((5 * a * 53687 + 128) >> 13) - 4194 - _LEAST]
    z = power[fy - ((b * 41943 + 16) >> 9) + 10484 - _LEAST]
    red, green, blue = (
        ((round(4096 * r * _WHITE[0]) * x + round(4096 * g) * y + round(4096 * b * _WHITE[2]) * z + 8192) >> 14)
        .clamp_(0, 4095)
        .mul_(255)
        >> 12
        for r, g, b in _XYZ_TO_RGB
    )
    return torch.stack([blue, green, red])


_LEAST = -8145  # the least argument of the third table of _powers


@cache
def _cube_roots() -> Tensor:
    """f(i / 2040) in units of 2^-15, where f is Lab's cube root with its straight beginning; rounded in single precision."""
    t = torch.arange(3072, dtype=torch.float64) / 2040
    f = torch.where(t < 216 / 24389, t * 841 / 108 + 16 / 116, t ** (1 / 3))
    return (f.float() * 2**15).round().to(torch.int32)


@cache
def _powers() -> tuple[Tensor, Tensor, Tensor]:
    """In units of 2^-14: luminance Y and f(Y) of each lightness, (256,) both, and the inverse of f, from ``_LEAST`` on."""
    lightness = torch.arange(256, dtype=torch.float64) * 100 / 255
    f = torch.where(lightness <= 8, lightness * 27 / 24389 * 841 / 108 + 16 / 116, (lightness + 16) / 116)
    y = torch.where(lightness <= 8, lightness * 27 / 24389, f**3)
    i = torch.arange(_LEAST, _LEAST + 2**14 * 9 // 4)
    line = (i * 108).div(841, rounding_mode="trunc") - 290
    cube = (i * i // 2**14) * i // 2**14
    tables = (y * 2**14).round(), (f * 2**14).round(), torch.where(i <= 3390, line, cube)
    return tables[0].to(torch.int32), tables[1].to(torch.int32), tables[2].to(torch.int32)
