"""Feature squeezers (Xu, Evans and Qi 2018, section III): fewer bits, local medians, non-local means.

Each is a function of a batch of images that keeps its shape, dtype and device and changes no argument. Values are exact,
bit for bit: those of NumPy's ``rint``, of SciPy's ``median_filter`` and of OpenCV's non-local means, which the paper's code
calls. ``gradient`` chooses what the backward pass sees, and never changes a value, so that whoever attacks a squeezer can
differentiate it. Wherever no gradient can be asked for (bytes, ``torch.no_grad``), ``gradient`` has no effect.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from ..attacks import bpda, straight_through
from .denoising import bgr_of_lab, denoise, lab_of_bgr, mirror, smooth_denoise

#: Bytes of images that one step works on: the copies that it makes fit a processor's cache.
_CHUNK = 2**19
#: Elements of all windows that are sorted at once, where no network of minima and maxima is written down.
_WINDOWS = 2**22
#: Sizes of non-local means beyond which its sums would leave 32 bits.
_LARGEST = 99


def _known(gradient: str, *choices: str) -> None:
    if gradient not in choices:
        raise ValueError(f"gradient is {gradient!r}; it must be one of {', '.join(map(repr, choices))}")


def _differentiated(x: Tensor) -> bool:
    return x.requires_grad and torch.is_grad_enabled()


# ---------------------------------------------------------------------------------------------- bit depth


def reduce_bit_depth(x: Tensor, bits: int, *, gradient: str = "none", sharpness: float = 10.0) -> Tensor:
    """The nearest of 2^bits equally spaced values: round(x (2^bits - 1)) / (2^bits - 1), half to even (section III-A).

    ``x`` of any shape in [0, 1], float16, 32 or 64; ``bits`` 1 to 8. The result has the same dtype and equals NumPy's
    ``rint`` formula in that dtype bit for bit. Values outside [0, 1] are not clipped. A uint8 ``x`` stands for x / 255: the
    result is uint8 too, 255 times the squeezed value rounded to the nearest byte (there are no ties).

    ``gradient``: "none", zero as ``torch.round`` has it; "straight-through", the identity; "soft", that of a staircase of
    sigmoids: with t = x (2^bits - 1) and f its fraction, the step from one value to the next is
    sigmoid(sharpness (f - 1/2)), scaled to begin at 0 and end at 1. At ``sharpness`` 10 the slope is 2.5 at a rounding
    threshold and 0.07 midway between two.

    Raises TypeError for another dtype, ValueError for other ``bits`` or ``gradient``, or a sharpness that is not positive.

    >>> reduce_bit_depth(torch.tensor([0.0, 0.5, 0.51, 1.0]), 1).tolist()
    [0.0, 0.0, 1.0, 1.0]
    """
    _known(gradient, "none", "straight-through", "soft")
    if bits not in range(1, 9):
        raise ValueError(f"bits is {bits}; it must be a whole number from 1 to 8")
    if not sharpness > 0:
        raise ValueError(f"sharpness is {sharpness}; it must be positive")
    levels = 2 ** int(bits) - 1
    if x.dtype == torch.uint8:
        byte = torch.arange(256, device=x.device)
        level = (2 * byte * levels + 255) // 510  # the nearest level of byte / 255; a tie would need an even 255 or levels
        table = ((510 * level + levels) // (2 * levels)).to(torch.uint8)
        return table[x.long()]
    if not x.is_floating_point():
        raise TypeError(f"x is {x.dtype}; it must be a float tensor in [0, 1], or uint8")
    exact = partial(_round_to_levels, levels=levels)
    if gradient == "none" or not _differentiated(x):
        return exact(x)
    if gradient == "straight-through":
        return straight_through(exact)(x)
    return bpda(exact, partial(_soft_steps, levels=levels, sharpness=sharpness))(x)


def _round_to_levels(x: Tensor, levels: int) -> Tensor:
    return (x * levels).round() / levels


def _soft_steps(x: Tensor, levels: int, sharpness: float) -> Tensor:
    """A continuous staircase through the same values: at each rounding threshold a sigmoid, here written with tanh."""
    t = x * levels
    floor = t.detach().floor()
    half = torch.as_tensor(sharpness / 4).tanh().item()
    return (floor + 0.5 + (sharpness / 2 * (t - floor - 0.5)).tanh() / (2 * half)) / levels


# ---------------------------------------------------------------------------------------------- local medians


def median_filter(x: Tensor, size: int, *, gradient: str = "exact") -> Tensor:
    """The median of each pixel's ``size`` x ``size`` window, channel by channel (section III-B), as SciPy computes it.

    ``x`` (n, c, h, w), uint8 or float16, 32 or 64; the result is the same and equals
    ``scipy.ndimage.median_filter(x, (1, 1, size, size), mode="reflect")`` bit for bit, also where the window is larger than
    the image. That is: the border is mirrored with the edge repeated; an even window reaches one pixel further up and left
    than down and right; of an even number of values the greater middle one is taken. NaN gives no defined result.
    Sizes to 3 by networks of minima and maxima, which share the sorting of columns; others by sorting, in bounded memory.

    ``gradient``: "exact" gives each output's gradient to the pixel that it is, the first in reading order among equals;
    "straight-through", the identity. Raises TypeError for another dtype, ValueError for another shape, size or gradient.

    >>> median_filter(torch.tensor([[[[0.0, 1.0], [2.0, 3.0]]]]), 2)
    tensor([[[[0., 1.],
              [2., 2.]]]])
    """
    _known(gradient, "exact", "straight-through")
    if size != int(size) or size < 1:
        raise ValueError(f"size is {size}; it must be a whole number from 1 up")
    if x.ndim != 4:
        raise ValueError(f"x has the shape {tuple(x.shape)}; the median needs images (n, c, h, w)")
    if not x.is_floating_point() and x.dtype != torch.uint8:
        raise TypeError(f"x is {x.dtype}; it must be a float tensor, or uint8")
    exact = partial(_medians, size=int(size))
    if not _differentiated(x):
        return exact(x)
    return straight_through(exact)(x) if gradient == "straight-through" else _Median.apply(x, int(size))


def _pad(x: Tensor, size: int) -> Tensor:
    """(m, h, w) -> (m, h + size - 1, w + size - 1): the mirrored border that the windows reach into."""
    if size == 1:
        return x
    before, after = size // 2, (size - 1) // 2
    rows, columns = (mirror(length, before, after, x.device, repeat_edge=True) for length in x.shape[1:])
    return x.index_select(1, rows).index_select(2, columns)


def _chunks(x: Tensor) -> int:
    """How many of the images (m, h, w) to take at once."""
    return max(1, _CHUNK // (x[0].numel() * x.element_size())) if x.numel() else 1


def _medians(x: Tensor, size: int) -> Tensor:
    n, c, h, w = x.shape
    x = x.detach()
    if not x.numel() or size == 1:
        return x.clone()
    planes = x.reshape(n * c, h, w).contiguous()
    out = torch.empty_like(planes)
    find = {2: _median_of_4, 3: _median_of_9}.get(size, partial(_median_by_sorting, size=size))
    step = _chunks(planes)
    for part, target in zip(planes.split(step), out.split(step), strict=True):
        find(part, target)
    return out.view(n, c, h, w)


# The networks take (m, h, w) contiguous images for one long row of pixels, where the pixel above lies w places earlier. What
# straddles two rows or images is worthless: it lies on the border, which is set right after each step.


def _median_of_4(x: Tensor, out: Tensor) -> None:
    """The third smallest of each 2 x 2 window: the greater of the lesser maximum and the greater minimum of its columns."""
    pixels, w = x.view(-1), x.shape[2]
    low, high = torch.empty_like(x), torch.empty_like(x)
    torch.minimum(pixels[:-w], pixels[w:], out=low.view(-1)[w:])
    torch.maximum(pixels[:-w], pixels[w:], out=high.view(-1)[w:])
    low[:, 0] = x[:, 0]
    high[:, 0] = x[:, 0]
    lows, highs, medians = low.view(-1), high.view(-1), out.view(-1)[1:]
    torch.minimum(highs[:-1], highs[1:], out=medians)
    torch.maximum(medians, torch.maximum(lows[:-1], lows[1:]), out=medians)
    out[:, :, 0] = high[:, :, 0]


def _median_of_9(x: Tensor, out: Tensor) -> None:
    """The median of each 3 x 3 window: with its columns sorted, that of the greatest low, the middle mid and the least high."""
    _, h, w = x.shape
    pixels = x.view(-1)
    low, mid, high, greatest, spare = (torch.empty_like(x) for _ in range(5))
    above, here, below = pixels[: -2 * w], pixels[w:-w], pixels[2 * w :]
    lows, mids, highs, spares = (t.view(-1)[w:-w] for t in (low, mid, high, spare))
    torch.minimum(above, here, out=lows)
    torch.maximum(above, here, out=highs)
    torch.minimum(highs, below, out=spares)
    torch.maximum(lows, spares, out=mids)
    torch.minimum(lows, below, out=lows)
    torch.maximum(highs, below, out=highs)
    for edge, beside in ((0, min(1, h - 1)), (h - 1, max(0, h - 2))):  # the edge counts twice
        mid[:, edge] = x[:, edge]
        low[:, edge] = torch.minimum(x[:, edge], x[:, beside])
        high[:, edge] = torch.maximum(x[:, edge], x[:, beside])

    lows, mids, highs, greatests, spares, middles = (t.view(-1) for t in (low, mid, high, greatest, spare, out))
    inner = slice(1, len(pixels) - 1)
    torch.maximum(lows[:-2], lows[1:-1], out=greatests[inner])
    torch.maximum(greatests[inner], lows[2:], out=greatests[inner])
    torch.minimum(mids[:-2], mids[1:-1], out=middles[inner])
    torch.maximum(mids[:-2], mids[1:-1], out=spares[inner])
    torch.minimum(spares[inner], mids[2:], out=spares[inner])
    torch.maximum(middles[inner], spares[inner], out=middles[inner])
    torch.minimum(highs[:-2], highs[1:-1], out=spares[inner])
    torch.minimum(spares[inner], highs[2:], out=spares[inner])
    for edge, beside in ((0, min(1, w - 1)), (w - 1, max(0, w - 2))):
        out[:, :, edge] = mid[:, :, edge]
        greatest[:, :, edge] = torch.maximum(low[:, :, edge], low[:, :, beside])
        spare[:, :, edge] = torch.minimum(high[:, :, edge], high[:, :, beside])

    torch.minimum(greatest, out, out=low)
    torch.maximum(greatest, out, out=out)
    torch.minimum(out, spare, out=out)
    torch.maximum(out, low, out=out)


def _median_by_sorting(x: Tensor, out: Tensor, size: int) -> None:
    windows = _pad(x, size).unfold(1, size, 1).unfold(2, size, 1)  # (m, h, w, size, size), a view
    _, h, w = x.shape
    images, rows = max(1, _WINDOWS // (h * w * size**2)), max(1, _WINDOWS // (w * size**2))
    for some, found in zip(windows.split(images), out.split(images), strict=True):
        for part, target in zip(some.split(rows, 1), found.split(rows, 1), strict=True):
            target.copy_(part.flatten(3).sort(3).values[..., size**2 // 2])


class _Median(torch.autograd.Function):
    """Backward finds each median again among the pixels of its window: several times faster than through minima and maxima."""

    @staticmethod
    def forward(ctx, x: Tensor, size: int) -> Tensor:
        out = _medians(x, size)
        ctx.save_for_backward(x, out)
        ctx.size = size
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx, gradient: Tensor) -> tuple[Tensor, None]:  # pyright: ignore[reportIncompatibleMethodOverride]
        x, out = ctx.saved_tensors
        size, shape = ctx.size, x.shape
        planes, out, gradient = (t.reshape(-1, *shape[2:]) for t in (x, out, gradient))
        result = torch.empty_like(planes, memory_format=torch.contiguous_format)
        if planes.numel():
            parts = (t.split(_chunks(planes)) for t in (planes, out, gradient, result))
            for plane, median, given, found in zip(*parts, strict=True):
                found.copy_(_route(plane, median, given, size))
        return result.view(shape), None


def _route(x: Tensor, median: Tensor, gradient: Tensor, size: int) -> Tensor:
    """For (m, h, w) images: the gradient of each median, given to the first pixel of the window that equals it."""
    _, h, w = x.shape
    padded = _pad(x, size)
    width = padded.shape[2]
    v = padded.reshape(-1)
    left = gradient.new_zeros(padded.shape)  # gradient that has found no pixel yet, laid out like the padded image
    left[:, :h, :w] = gradient
    wanted = median.new_zeros(padded.shape)
    wanted[:, :h, :w] = median
    left, wanted, given = left.view(-1), wanted.view(-1), torch.zeros_like(left).view(-1)
    last = (size - 1) * (width + 1)
    for shift in (dy * width + dx for dy in range(size) for dx in range(size)):
        k = len(v) - shift
        if shift == last:  # what has found none so far finds it here
            given[shift:] += left[:k]
        else:
            taken = v[shift:].clone().eq_(wanted[:k]).mul_(left[:k])  # 1 or 0, then the gradient or 0: faster than a mask
            given[shift:] += taken
            left[:k] -= taken
    given = given.view(padded.shape)
    before = size // 2
    for axis, length in ((1, h), (2, w)):  # what lies in the border belongs to the pixels it mirrors
        at = mirror(length, before, size - 1 - before, x.device, repeat_edge=True)
        inner = given.narrow(axis, before, length).clone()
        for i in (*range(before), *range(before + length, before + length + size - 1 - before)):
            inner.select(axis, int(at[i])).add_(given.select(axis, i))
        given = inner
    return given


# ---------------------------------------------------------------------------------------------- non-local means


def non_local_means(
    x: Tensor,
    search: int = 11,
    patch: int = 3,
    strength: float = 4.0,
    *,
    order: str = "bgr",
    gradient: str = "none",
) -> Tensor:
    """Each pixel becomes a mean over the ``search`` x ``search`` pixels around it, by the likeness of their patches (III-B).

    ``x`` (n, 3, h, w) or (n, 1, h, w) in [0, 1], float16, 32 or 64, is rounded to 8 bits, as is the result, which has the
    same dtype; a uint8 ``x`` gives uint8. The bytes equal those of OpenCV 5 bit for bit: three channels those of
    ``fastNlMeansDenoisingColored(image, None, strength, strength, patch, search)``, one channel those of
    ``fastNlMeansDenoising(image, None, strength, patch, search)``. ``search`` and ``patch`` are odd; ``strength`` is the
    paper's and OpenCV's, on the scale 0 to 255. "nlm 11-3-4" in the paper's tables is search 11, patch 3, strength 4.

    OpenCV takes the first channel for blue and all for linear light, smooths lightness and the two colour axes of Lab apart
    from each other, and converts back. ``order="bgr"``, the paper's code, hands it red first, so that red and blue change
    roles; ``order="rgb"`` exchanges them before and after. Even where nothing is smoothed, 8-bit Lab moves most colours by
    up to 3 levels.

    ``gradient``: "none" lets no gradient through; "straight-through", the identity; "soft", that of non-local means without
    rounding, in ``x``'s own channels with common weights in place of Lab.
    Raises TypeError for another dtype, ValueError for another shape, size, strength, order or gradient.

    >>> draw = torch.Generator().manual_seed(0)
    >>> noisy = 100 + torch.randint(0, 5, (1, 1, 16, 16), dtype=torch.uint8, generator=draw)
    >>> before, after = noisy.float().std().item(), non_local_means(noisy, strength=20.0).float().std().item()
    >>> after < before / 5
    True
    """
    _known(gradient, "none", "straight-through", "soft")
    if order not in ("bgr", "rgb"):
        raise ValueError(f"order is {order!r}; it must be 'bgr', as in the paper's code, or 'rgb', the true one")
    for name, size in (("search", search), ("patch", patch)):
        if size not in range(1, 1 + _LARGEST, 2):
            raise ValueError(f"{name} is {size}; it must be an odd number from 1 to {_LARGEST}")
    if not 0 < strength < math.inf:
        raise ValueError(f"strength is {strength}; it must be a positive number, such as 4")
    if x.ndim != 4 or x.shape[1] not in (1, 3):
        raise ValueError(f"x has the shape {tuple(x.shape)}; non-local means need images (n, 3, h, w) or (n, 1, h, w)")
    if not x.is_floating_point() and x.dtype != torch.uint8:
        raise TypeError(f"x is {x.dtype}; it must be a float tensor in [0, 1], or uint8")
    exact = partial(_means, search=search, patch=patch, strength=float(strength), swap=order == "rgb")
    if gradient == "none" or not _differentiated(x):
        return exact(x)
    if gradient == "straight-through":
        return straight_through(exact)(x)
    return bpda(exact, partial(smooth_denoise, search=search, patch=patch, strength=strength / 255))(x)


def _means(x: Tensor, search: int, patch: int, strength: float, swap: bool) -> Tensor:
    x = x.detach()
    if not x.numel():
        return x.clone()
    planes = x if x.dtype == torch.uint8 else (x * 255).round().clamp(0, 255).to(torch.uint8)
    planes = planes.transpose(0, 1)  # (c, n, h, w)
    if len(planes) == 1:
        smooth = denoise(planes, search, patch, strength)
    else:
        lab = lab_of_bgr(planes.flip(0) if swap else planes)
        lab = torch.cat([denoise(part, search, patch, strength) for part in (lab[:1], lab[1:])])
        smooth = bgr_of_lab(lab)
        smooth = smooth.flip(0) if swap else smooth
    smooth = smooth.transpose(0, 1).to(x.dtype, memory_format=torch.contiguous_format)
    return smooth if x.dtype == torch.uint8 else smooth / 255


# ---------------------------------------------------------------------------------------------- the paper's rows

Squeezer = Callable[[Tensor], Tensor]

#: The squeezers of the paper's Table IV under the names of its rows; "nlm a-b-c" has search a, patch b and strength c.
SQUEEZERS: dict[str, Squeezer] = {
    **{f"{bits}-bit": partial(reduce_bit_depth, bits=bits) for bits in range(1, 8)},
    **{f"median {size}x{size}": partial(median_filter, size=size) for size in (2, 3)},
    **{
        f"nlm {search}-3-{strength}": partial(non_local_means, search=search, patch=3, strength=float(strength))
        for search in (11, 13)
        for strength in (2, 4)
    },
}

#: The paper's best joint detectors (Table IV): names of :data:`SQUEEZERS`.
JOINT: dict[str, tuple[str, ...]] = {
    "mnist": ("1-bit", "median 2x2"),
    "cifar10": ("5-bit", "median 2x2", "nlm 13-3-2"),
    "imagenet": ("5-bit", "median 2x2", "nlm 11-3-4"),
}
