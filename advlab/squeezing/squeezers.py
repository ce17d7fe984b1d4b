"""Feature squeezers (Xu, Evans and Qi 2018, section 3): fewer bits, local medians, non-local means.

Each is a function of a batch of images in [0, 1], or of bytes, that keeps its shape, dtype and device and changes no argument.
It refuses other types, numbers outside and what is not finite (:func:`check_images`). Values are exact, bit for bit:
those of NumPy's ``rint``, of SciPy's ``median_filter`` and of OpenCV's non-local means, which the paper's code calls.
``gradient`` chooses what the backward pass sees, and never changes a value, so that whoever attacks a squeezer can
differentiate it. Wherever no gradient can be asked for (bytes, ``torch.no_grad``), ``gradient`` has no effect.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import cast

import torch
from torch import Tensor

from .. import checks
from ..attacks import bpda, straight_through
from .denoising import bgr_of_lab, denoise, lab_of_bgr, smooth_denoise
from .medians import ExactMedian, medians

Squeezer = Callable[[Tensor], Tensor]

#: Sizes of non-local means beyond which its sums would leave 32 bits.
_LARGEST = 99
#: Where squares of a strength, and slopes of a staircase, are neither 0 nor infinite in single precision.
_STRENGTH: checks.Range = (lambda v: 1e-9 <= v <= 1e9, "positive, from 1e-9 to 1e9, such as 4")
_SHARPNESS: checks.Range = (lambda v: 1e-6 <= v <= 1e6, "positive, from 1e-6 to 1e6")
_SIZE: checks.Range = (lambda v: 1 <= v < math.inf and v == int(v), "a whole number from 1 up")


def check_images(x: Tensor) -> None:
    """Check that ``x`` holds numbers in [0, 1] as float16, 32 or 64, or bytes, which stand for x / 255: one pass over it.

    Raises TypeError for another type, ValueError for a value outside or that is not finite.
    """
    if not isinstance(x, Tensor):
        raise TypeError(f"x is {type(x).__name__}; it must be a torch tensor: torch.as_tensor(x)")
    if x.dtype == torch.uint8:
        return
    if x.dtype not in (torch.float16, torch.float32, torch.float64):
        raise TypeError(f"x is {x.dtype}; it must be float16, 32 or 64 in [0, 1], or uint8: x.float() of what lies there")
    if x.numel():
        low, high = (end.item() for end in x.detach().aminmax())
        if not math.isfinite(low + high):
            bad = tuple((~x.isfinite()).nonzero()[0].tolist())
            raise ValueError(f"x is {x[bad]} at {bad}; it must hold finite numbers in [0, 1]")
        if low < 0 or high > 1:
            raise ValueError(f"x ranges from {low:.3g} to {high:.3g}; it must lie in [0, 1]: x / 255, or x.clamp(0, 1)")


def _known(gradient: str, *choices: str) -> None:
    if gradient not in choices:
        raise ValueError(f"gradient is {gradient!r}; it must be one of {', '.join(map(repr, choices))}")


def _differentiated(x: Tensor) -> bool:
    return x.requires_grad and torch.is_grad_enabled()


def _with(gradient: str, exact: Squeezer, soft: Squeezer, x: Tensor) -> Tensor:
    """``exact(x)`` with its own gradient ("none"), the identity's ("straight-through"), or that of ``soft``."""
    if gradient == "none" or not _differentiated(x):
        return exact(x)
    return straight_through(exact)(x) if gradient == "straight-through" else bpda(exact, soft)(x)


# ---------------------------------------------------------------------------------------------- bit depth


def reduce_bit_depth(x: Tensor, bits: int, *, gradient: str = "none", sharpness: float = 10.0) -> Tensor:
    """The nearest of 2^bits equally spaced values: round(x (2^bits - 1)) / (2^bits - 1), half to even.

    Parameters
    ----------
    x : float16, 32 or 64 of any shape, in [0, 1]; or uint8, which stands for x / 255
    bits : int, 1 to 8
    gradient : "none", zero as ``torch.round`` has it; "straight-through", the identity; "soft", that of a staircase of sigmoids
    sharpness : 1e-6 to 1e6, of "soft": with t = x (2^bits - 1) and f its fraction, a step is sigmoid(sharpness (f - 1/2)),
        scaled to begin at 0 and end at 1; at 10 the slope is 2.5 at a rounding threshold and 0.07 midway between two
    Returns
    -------
    Tensor of the same shape and dtype; of uint8, 255 times the value rounded to the nearest byte (there are no ties)
    Raises
    ------
    TypeError, ValueError
        another dtype, or values; other ``bits``, ``gradient`` or ``sharpness``
    Guarantee
    ---------
    Equal to NumPy's ``rint`` formula in that dtype bit for bit. Known limitation: no defence by itself.
    References
    ----------
    Xu et al. (2018), section 3-A
    Examples
    --------
    >>> reduce_bit_depth(torch.tensor([0.0, 0.5, 0.51, 1.0]), 1).tolist()
    [0.0, 0.0, 1.0, 1.0]
    """
    if bits not in range(1, 9):
        raise ValueError(f"bits is {bits}; it must be a whole number from 1 to 8")
    checks.setting("sharpness", sharpness, _SHARPNESS)
    _known(gradient, "none", "straight-through", "soft")
    check_images(x)
    levels = 2 ** int(bits) - 1
    if x.dtype == torch.uint8:
        byte = torch.arange(256, device=x.device)
        level = (2 * byte * levels + 255) // 510  # the nearest level of byte / 255; a tie would need an even 255 or levels
        table = ((510 * level + levels) // (2 * levels)).to(torch.uint8)
        return table[x.long()]
    return round_to_levels(x, levels, gradient, sharpness)


def round_to_levels(x: Tensor, levels: int, gradient: str = "none", sharpness: float = 10.0) -> Tensor:
    """The rounding of :func:`reduce_bit_depth`, to multiples of 1 / ``levels``, of any floats; only ``gradient`` is checked."""
    _known(gradient, "none", "straight-through", "soft")
    soft = partial(_soft_steps, levels=levels, sharpness=sharpness)
    return _with(gradient, partial(_nearest_level, levels=levels), soft, x)


def _nearest_level(x: Tensor, levels: int) -> Tensor:
    return (x * levels).round_().div_(levels)


def _soft_steps(x: Tensor, levels: int, sharpness: float) -> Tensor:
    """A continuous staircase through the same values: at each rounding threshold a sigmoid, here written with tanh."""
    t = x * levels
    floor = t.detach().floor()
    half = torch.as_tensor(sharpness / 4, device="cpu").tanh().item()
    return (floor + 0.5 + (sharpness / 2 * (t - floor - 0.5)).tanh() / (2 * half)) / levels


def binary_filter(x: Tensor, cutoff: float = 0.5, *, gradient: str = "none") -> Tensor:
    """1 above ``cutoff`` in (0, 1), else 0: one bit with another threshold, as the paper draws them at random (section 5-D).

    Takes floats as :func:`reduce_bit_depth` does, in whose dtype the two are compared, and its ``gradient``. Raises TypeError
    and ValueError likewise.

    >>> binary_filter(torch.tensor([0.2, 0.5, 0.6]), 0.5).tolist()
    [0.0, 0.0, 1.0]
    """
    checks.setting("cutoff", cutoff, checks.SHARE)
    _known(gradient, "none", "straight-through", "soft")
    check_images(x)
    if not x.is_floating_point():
        raise TypeError(f"x is {x.dtype}; it must be a float tensor in [0, 1]: x / 255")
    return _with(gradient, partial(_above, cutoff=cutoff), partial(_soft_step, cutoff=cutoff), x)


def _above(x: Tensor, cutoff: float) -> Tensor:
    """1 or 0, with the gradient 0."""
    return x.round() * 0 + (x > cutoff)


def _soft_step(x: Tensor, cutoff: float) -> Tensor:
    return _soft_steps(x + (0.5 - cutoff), 1, 10.0)


# ---------------------------------------------------------------------------------------------- local medians


def median_filter(x: Tensor, size: int, *, gradient: str = "exact") -> Tensor:
    """The median of each pixel's ``size`` x ``size`` window, channel by channel.

    The border is mirrored with the edge repeated; an even window reaches one pixel further up and left than down and right; of
    an even number of values the greater middle one is taken. Memory is bounded.

    Parameters
    ----------
    x : Tensor (n, c, h, w), float16, 32 or 64 in [0, 1], or uint8
    size : int, from 1 up, also beyond the image's
    gradient : "exact", to the pixel that each output is, the first in reading order among equals; or "straight-through"
    Returns
    -------
    Tensor of the same shape and dtype
    Raises
    ------
    TypeError, ValueError
        another dtype, or values; another shape, size or gradient
    Guarantee
    ---------
    Equal to ``scipy.ndimage.median_filter(x, (1, 1, size, size), mode="reflect")`` bit for bit.
    Known limitation: no defence by itself.
    References
    ----------
    Xu et al. (2018), section 3-B
    Examples
    --------
    >>> median_filter(torch.tensor([[[[0.0, 0.25], [0.5, 1.0]]]]), 2)
    tensor([[[[0.0000, 0.2500],
              [0.5000, 0.5000]]]])
    """
    _known(gradient, "exact", "straight-through")
    checks.setting("size", size, _SIZE)
    check_images(x)
    if x.ndim != 4:
        raise ValueError(f"x has the shape {tuple(x.shape)}; the median needs images (n, c, h, w)")
    exact = partial(medians, size=int(size))
    if not _differentiated(x):
        return exact(x)
    return straight_through(exact)(x) if gradient == "straight-through" else ExactMedian.apply(x, int(size))


# ---------------------------------------------------------------------------------------------- non-local means


def non_local_means(
    x: Tensor, search: int = 11, patch: int = 3, strength: float = 4.0, *, order: str = "bgr", gradient: str = "none"
) -> Tensor:
    """Each pixel becomes a mean over the pixels around it, by the likeness of their patches.

    OpenCV takes the first channel for blue and all for linear light, smooths lightness and the two colour axes of 8-bit Lab
    apart from each other, and converts back, which alone moves most colours by up to 3 levels.

    Parameters
    ----------
    x : (n, 3, h, w) or (n, 1, h, w), float16, 32 or 64 in [0, 1], rounded to 8 bits; or uint8
    search, patch : odd int, 1 to 99, sides of the window and of the patches; "nlm 11-3-4" is search 11, patch 3, strength 4
    strength : float, 1e-9 to 1e9, on the scale 0 to 255
    order : "bgr", the paper's code, which hands OpenCV red first; or "rgb", which exchanges red and blue before and after
    gradient : "none"; "straight-through", the identity; "soft", that of means without rounding, in ``x``'s own channels
    Returns
    -------
    Tensor of the same shape and dtype, rounded to 8 bits
    Raises
    ------
    TypeError, ValueError
        another dtype, or values; another shape, size, strength, order or gradient
    Guarantee
    ---------
    The bytes of OpenCV 5, bit for bit: ``fastNlMeansDenoisingColored(image, None, strength, strength, patch, search)``, or
    ``fastNlMeansDenoising(image, None, strength, patch, search)`` of one channel. Known limitation: no defence by itself.
    References
    ----------
    Xu et al. (2018), section 3-B
    Examples
    --------
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
    checks.setting("strength", strength, _STRENGTH)
    check_images(x)
    if x.ndim != 4 or x.shape[1] not in (1, 3):
        raise ValueError(f"x has the shape {tuple(x.shape)}; non-local means need images (n, 3, h, w) or (n, 1, h, w)")
    sizes = {"search": int(search), "patch": int(patch)}
    exact = partial(_means, **sizes, strength=float(strength), swap=order == "rgb")
    return _with(gradient, exact, partial(smooth_denoise, **sizes, strength=strength / 255), x)


def _means(x: Tensor, search: int, patch: int, strength: float, swap: bool) -> Tensor:
    x = x.detach()
    if not x.numel():
        return x.clone()
    planes = x if x.dtype == torch.uint8 else (x * 255).round().to(torch.uint8)
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

#: The squeezers of the paper's Table 4 under the names of its rows; "nlm a-b-c" has search a, patch b and strength c.
SQUEEZERS: dict[str, Squeezer] = {
    **{f"{bits}-bit": partial(reduce_bit_depth, bits=bits) for bits in range(1, 8)},
    **{f"median {size}x{size}": partial(median_filter, size=size) for size in (2, 3)},
    **{
        f"nlm {search}-3-{strength}": partial(non_local_means, search=search, patch=3, strength=float(strength))
        for search in (11, 13)
        for strength in (2, 4)
    },
}

#: The paper's best joint detectors (Table 4): names of :data:`SQUEEZERS`.
JOINT: dict[str, tuple[str, ...]] = {
    "mnist": ("1-bit", "median 2x2"),
    "cifar10": ("5-bit", "median 2x2", "nlm 13-3-2"),
    "imagenet": ("5-bit", "median 2x2", "nlm 11-3-4"),
}

#: How an attack sees bits, medians and means: the ``gradient`` that each kind of squeezer is given.
GRADIENTS = {
    "none": ("none", "exact", "none"),
    "soft": ("soft", "exact", "straight-through"),
    "straight-through": ("straight-through", "exact", "straight-through"),
    "identity": ("straight-through", "straight-through", "straight-through"),
}
_KINDS = (reduce_bit_depth, median_filter, non_local_means)


def with_gradient(names: tuple[str, ...], gradient: str) -> dict[str, Squeezer]:
    """The squeezers ``names`` of :data:`SQUEEZERS` with the same values, and the gradients of ``gradient``.

    "none": as the paper's attack had them, zero through bits and means; "soft": a staircase of sigmoids through bits, the
    exact one through medians, the identity through means; "straight-through": the identity through bits too; "identity":
    through all. Raises ValueError for another, and for a name that is not there.

    >>> x = torch.tensor([0.4], requires_grad=True)
    >>> bits = [with_gradient(("1-bit",), gradient)["1-bit"](x) for gradient in ("none", "straight-through")]
    >>> [b.item() for b in bits], [torch.autograd.grad(b, x)[0].item() for b in bits]
    ([0.0, 0.0], [0.0, 1.0])
    """
    _known(gradient, *GRADIENTS)
    if unknown := [name for name in names if name not in SQUEEZERS]:
        raise ValueError(f"there is no squeezer {unknown[0]!r}; there are: {', '.join(SQUEEZERS)}")
    found = {}
    for name in names:
        squeezer = cast(partial, SQUEEZERS[name])
        through = GRADIENTS[gradient][_KINDS.index(squeezer.func)]
        found[name] = partial(squeezer.func, **squeezer.keywords, gradient=through)
    return found  # pyrefly: ignore[bad-return]
