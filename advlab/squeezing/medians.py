"""Medians of small windows, as SciPy computes them: by sorting, and for windows up to 9 by networks of minima and maxima."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, partial

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from .denoising import mirror

#: Bytes of images that one step works on: the copies that it makes fit a processor's cache.
_CHUNK = 2**19
#: Elements of all windows that are sorted at once; and the greatest side of a window for which a network is quicker.
_WINDOWS, _BY_NETWORK = 2**22, 9


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


def medians(x: Tensor, size: int) -> Tensor:
    """The greater middle value of each ``size`` x ``size`` window of (n, c, h, w), some images at a time."""
    n, c, h, w = x.shape
    x = x.detach()
    if not x.numel() or size == 1:
        return x.clone()
    planes = x.reshape(n * c, h, w).contiguous()
    out = torch.empty_like(planes)
    others = partial(_in_parts, middle=middle_by_network) if size <= _BY_NETWORK else median_by_sorting
    find = {2: _median_of_4, 3: _median_of_9}.get(size, partial(others, size=size))
    step = _chunks(planes)
    for part, target in zip(planes.split(step), out.split(step), strict=True):
        find(part, target)
    return out.view(n, c, h, w)


def median_by_sorting(x: Tensor, out: Tensor, size: int) -> None:
    """The plain version, for any size, of (m, h, w) images. ``test_networks_are_sorting`` compares the networks with it."""
    _in_parts(x, out, size, lambda windows: windows.flatten(3).sort(3).values[..., size**2 // 2])


def _in_parts(x: Tensor, out: Tensor, size: int, middle: Callable[[Tensor], Tensor]) -> None:
    """``middle`` of the windows (m, rows, w, size, size) of some images and rows at a time."""
    windows = _pad(x, size).unfold(1, size, 1).unfold(2, size, 1)  # (m, h, w, size, size), a view
    _, h, w = x.shape
    images, rows = max(1, _WINDOWS // (h * w * size**2)), max(1, _WINDOWS // (w * size**2))
    for some, into in zip(windows.split(images), out.split(images), strict=True):
        for part, target in zip(some.split(rows, 1), into.split(rows, 1), strict=True):
            target.copy_(middle(part))


def middle_by_network(windows: Tensor) -> Tensor:
    """Batcher's odd-even merge sort, of which only what the middle value needs is computed, on all windows at once."""
    wires = [pixel.contiguous() for row in windows.unbind(3) for pixel in row.unbind(3)]  # each (m, rows, w)
    for i, j, low, high in _comparators(len(wires)):
        first, second = wires[i], wires[j]
        if low:
            wires[i] = torch.minimum(first, second)
        if high:
            wires[j] = torch.maximum(first, second)
    return wires[len(wires) // 2]


@cache
def _comparators(n: int) -> list[tuple[int, int, bool, bool]]:
    """(i, j, whether the lesser of the two is needed on wire i, the greater on j), for the middle one of n (Batcher 1968)."""
    steps = [(2**a, 2**b) for a in range((n - 1).bit_length()) for b in range(a, -1, -1)]
    pairs = [
        (j, j + k)
        for p, k in steps
        for start in range(k % p, n - k, 2 * k)
        for j in range(start, min(start + k, n - k))
        if j // (2 * p) == (j + k) // (2 * p)
    ]
    needed, kept = {n // 2}, []
    for i, j in reversed(pairs):
        if {i, j} & needed:
            kept.append((i, j, i in needed, j in needed))
            needed |= {i, j}
    return kept[::-1]


# The next two take (m, h, w) contiguous images for one long row of pixels, where the pixel above lies w places earlier. What
# straddles two rows or images is worthless: it lies on the border, which is set right after each step.


def _median_of_4(x: Tensor, out: Tensor) -> None:
    """The third smallest of each 2 x 2 window: the greater of the lesser maximum and the greater minimum of its columns.

    Of sorted columns a <= b and c <= d the greatest value is max(b, d); of the rest it is max(min(b, d), max(a, c)).
    """
    pixels, w = x.view(-1), x.shape[2]
    low, high = torch.empty_like(x), torch.empty_like(x)
    torch.minimum(pixels[:-w], pixels[w:], out=low.view(-1)[w:])
    torch.maximum(pixels[:-w], pixels[w:], out=high.view(-1)[w:])
    low[:, 0] = x[:, 0]
    high[:, 0] = x[:, 0]
    lows, highs, found = low.view(-1), high.view(-1), out.view(-1)[1:]
    torch.minimum(highs[:-1], highs[1:], out=found)
    torch.maximum(found, torch.maximum(lows[:-1], lows[1:]), out=found)
    out[:, :, 0] = high[:, :, 0]


def _median_of_9(x: Tensor, out: Tensor) -> None:
    """The median of each 3 x 3 window: with its columns sorted, that of the greatest low, the middle mid and the least high.

    The other two lows and the least mid have five values each that are not below them, the other two highs and the greatest
    mid five that are not above: the median of nine is one of the three that remain, with as many taken from either side.
    """
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


class ExactMedian(torch.autograd.Function):
    """Backward finds each median again among the pixels of its window: several times faster than through minima and maxima."""

    @staticmethod
    def forward(ctx, x: Tensor, size: int) -> Tensor:
        out = medians(x, size)
        ctx.save_for_backward(x, out)
        ctx.size = size
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx, gradient: Tensor) -> tuple[Tensor, None]:  # pyrefly: ignore[bad-override]
        x, out = ctx.saved_tensors
        size, shape = ctx.size, x.shape
        planes, out, gradient = (t.reshape(-1, *shape[2:]) for t in (x, out, gradient))
        result = torch.empty_like(planes, memory_format=torch.contiguous_format)
        if planes.numel():
            parts = (t.split(_chunks(planes)) for t in (planes, out, gradient, result))
            for plane, median, given, into in zip(*parts, strict=True):
                into.copy_(_route(plane, median, given, size))
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
