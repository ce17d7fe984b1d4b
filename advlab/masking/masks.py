"""Fixed random masks on feature maps, after Luo et al. (2018), "Random Mask", and the steps between them and channel masks."""

from __future__ import annotations

import copy
import itertools
import math
from collections.abc import Callable, Sequence
from numbers import Integral

import torch
from torch import Generator, Tensor, nn

from .. import checks
from ..models import Mask

#: Kinds of masks, with p the share of zeros:
#:
#: - ``element``: exactly round(p h w) zeros in each channel, independent across channels: the paper's text, section 2;
#: - ``tensor``: exactly round(p c h w) zeros in the whole tensor, channels as it comes: the authors' code;
#: - ``shared``: one map with round(p h w) zeros for all channels, the paper's "same mask";
#: - ``channel``: exactly round(p c) channels are zero, the others are whole;
#: - ``periodic``: each channel repeats a tile of ``period`` q by q, cut off at the border. The tiles have round(p q q c)
#:   zeros in all, and each the number p q q rounded down or up, so that the share is p for every period. q = 1 is
#:   ``channel``; with q = h = w it is ``element`` where p h w is a whole number;
#: - ``block``: as ``element`` in blocks of ``block`` by ``block`` values, cut off at the border.
KINDS = ("element", "tensor", "shared", "channel", "periodic", "block")


def draw_mask(
    shape: Sequence[int],
    drop: float,
    *,
    kind: str = "element",
    period: int | None = None,
    block: int | None = None,
    generator: Generator | None = None,
) -> Tensor:
    """Which values of a feature map are kept, uniform given its counts.

    Parameters
    ----------
    shape : (c, h, w)
    drop : float in [0, 1], the share of zeros
    kind : one of :data:`KINDS`
    period, block : int from 1 to max(h, w), where the kind needs one
    generator : what to draw from; torch's global generator by default
    Returns
    -------
    Tensor (c, h, w), bool
    Raises
    ------
    ValueError
        another shape, share or kind, and a period or block that is missing, not wanted, or does not fit
    Guarantee
    ---------
    The counts, exactly. No guarantee of robustness: see :class:`RandomMask`.
    References
    ----------
    Luo et al. (2018), section 2, for "element", "tensor" and "shared"
    Examples
    --------
    >>> masks = {kind: draw_mask((4, 8, 8), 0.25, kind=kind) for kind in ("element", "channel")}
    >>> {kind: sorted((~kept).sum((1, 2)).tolist()) for kind, kept in masks.items()}  # zeros in each channel
    {'element': [16, 16, 16, 16], 'channel': [0, 0, 0, 64]}
    """
    _check_mask(shape, drop, kind, period, block)
    channels, height, width = shape
    if kind == "channel":
        return _exactly(1, channels, [round(drop * channels)], generator).view(-1, 1, 1).repeat(1, height, width)
    if kind == "tensor":
        return _exactly(1, math.prod(shape), [round(drop * math.prod(shape))], generator).view(*shape)
    if kind == "shared":
        shared = _exactly(1, height * width, [round(drop * height * width)], generator)
        return shared.view(1, height, width).repeat(channels, 1, 1)
    if period is not None:
        total, cells = round(drop * period**2 * channels), period**2
        fuller = _exactly(1, channels, [channels - total % channels], generator)[0]  # these have one zero more
        tiles = _exactly(channels, cells, [total // channels + int(more) for more in fuller], generator)
        times = (1, -(-height // period), -(-width // period))
        return tiles.view(channels, period, period).repeat(times)[:, :height, :width].clone()
    size = block or 1
    rows, columns = -(-height // size), -(-width // size)
    cells = _exactly(channels, rows * columns, [round(drop * rows * columns)] * channels, generator)
    cells = cells.view(channels, rows, columns).repeat_interleave(size, 1).repeat_interleave(size, 2)
    return cells[:, :height, :width].clone()


def _check_mask(shape: Sequence[int], drop: float, kind: str, period: int | None, block: int | None) -> None:
    if len(shape) != 3 or not all(isinstance(side, Integral) and side >= 1 for side in shape):
        raise ValueError(f"the shape is {tuple(shape)}; a mask is for feature maps (channels, height, width)")
    checks.setting("drop", drop, (lambda v: 0 <= v <= 1, "the share of zeros, from 0 to 1"))
    if kind not in KINDS:
        raise ValueError(f"kind is {kind!r}; it must be one of {', '.join(map(repr, KINDS))}")
    largest = max(shape[1:])
    for name, size in (("period", period), ("block", block)):
        wanted = kind == ("periodic" if name == "period" else "block")
        if wanted and not (isinstance(size, Integral) and 1 <= size <= largest):
            raise ValueError(f"{name} is {size}; masks of kind {kind!r} need a whole number from 1 to {largest}")
        if not wanted and size is not None:
            raise ValueError(f"{name} is {size}, but masks of kind {kind!r} have none: leave it out")


def _exactly(rows: int, cells: int, zeros: Sequence[int], generator: Generator | None) -> Tensor:
    """(rows, cells) bools, each row uniform among those with so many False: by sorting random numbers."""
    order = torch.rand(rows, cells, dtype=torch.float64, generator=generator).argsort(1)
    kept = torch.ones(rows, cells, dtype=torch.bool)
    for row, count in enumerate(zeros):
        kept[row, order[row, :count]] = False
    return kept


class RandomMask(Mask):
    """A mask drawn once and fixed, for training and test alike: (n, c, h, w) -> the same shape, masked values 0.

    It stands after batch norm and before the ReLU, and what is left is not rescaled. It is not dropout: a network with it
    computes one function. Mask and ``seed`` are buffers, so that saving, loading and moving a network keep them.

    Parameters
    ----------
    shape, drop, kind, period, block : as in :func:`draw_mask`
    generator : chooses the ``seed`` that the mask is drawn from; torch's global generator by default
    Raises
    ------
    ValueError
        as :func:`draw_mask`
    Guarantee
    ---------
    No guarantee. Known limitation: the network is differentiable and deterministic, so that an attacker who has it needs
    nothing but plain gradients; and adversarial examples of a network with another mask transfer.
    References
    ----------
    Luo et al. (2018), section 2
    Examples
    --------
    >>> mask = RandomMask((2, 4, 4), 0.25)
    >>> mask(torch.ones(1, 2, 4, 4)).sum((2, 3)).tolist()  # 4 of 16 values are 0 in each channel, and none is rescaled
    [[12.0, 12.0]]
    """

    seed: Tensor

    def __init__(  # the parameters of draw_mask, which the layer keeps
        self,
        shape: Sequence[int],
        drop: float,
        *,
        kind: str = "element",
        period: int | None = None,
        block: int | None = None,
        generator: Generator | None = None,
    ) -> None:
        seed = torch.randint(2**62, (), generator=generator)
        own = torch.Generator().manual_seed(int(seed))
        super().__init__(draw_mask(shape, drop, kind=kind, period=period, block=block, generator=own))
        self.drop, self.kind, self.period, self.block = drop, kind, period, block
        self.register_buffer("seed", seed)

    def extra_repr(self) -> str:
        size = next((f", {name}={v}" for name, v in (("period", self.period), ("block", self.block)) if v), "")
        return f"{super().extra_repr()}, drop={self.drop:g}, kind={self.kind!r}{size}, seed={int(self.seed)}"


@torch.no_grad()
def translation_error(
    function: Callable[[Tensor], Tensor], x: Tensor, *, shifts: int | None = None, generator: Generator | None = None
) -> Tensor:
    """How far ``function`` is from commuting with cyclic shifts: (n,) means of ``|f(Sx) - S f(x)| / |f(x)|`` over shifts S.

    For feature maps ``x`` (n, c, h, w); ``function`` keeps height and width. The mean is over all h w cyclic shifts, exactly,
    or over so many ``shifts`` drawn from them. Few draws do not tell masks apart: a period of q differs from none by the
    h w / q^2 shifts that keep it. 0 for a convolution with circular padding, a ReLU, batch norm in eval mode, and a channel
    mask; for a mask of period q and white noise about sqrt(2 p (1 - 1/q^2)), p being its share of zeros. Zero padding is not
    symmetric either: measure with ``padding_mode="circular"`` to see the mask alone. Raises ValueError where height or width
    change, and for fewer than one shift.

    >>> x = torch.rand(1, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    >>> masks = [RandomMask((4, 8, 8), 0.5, kind=kind) for kind in ("channel", "element")]
    >>> errors = [translation_error(mask, x).item() for mask in masks]
    >>> errors[0], errors[1] > 0.5
    (0.0, True)
    """
    before = function(x)
    if before.shape[2:] != x.shape[2:] or x.ndim != 4:
        raise ValueError(f"the function takes {tuple(x.shape)} to {tuple(before.shape)}; it must keep height and width")
    height, width = x.shape[2:]
    total = torch.zeros(len(x), dtype=before.dtype, device=before.device)
    steps = list(itertools.product(range(height), range(width)))
    if shifts is not None:
        if shifts < 1:
            raise ValueError(f"shifts is {shifts}; it must be at least 1, or None for all {len(steps)}")
        ends = (height, width)
        steps = [tuple(int(torch.randint(end, (), generator=generator)) for end in ends) for _ in range(shifts)]
    for step in steps:
        moved = function(x.roll(step, (2, 3))) - before.roll(step, (2, 3))
        total += moved.flatten(1).norm(dim=1) / before.flatten(1).norm(dim=1)
    return total / len(steps)


def wrapped_around(net: nn.Module) -> nn.Module:
    """A copy whose convolutions pad circularly, so that masks alone break the symmetry of cyclic shifts.

    >>> net = nn.Conv2d(1, 1, 3, padding=1)
    >>> x = torch.rand(1, 1, 8, 8)
    >>> [translation_error(f, x).item() < 1e-5 for f in (net, wrapped_around(net))]
    [False, True]
    """
    net = copy.deepcopy(net)
    for layer in net.modules():
        if isinstance(layer, nn.Conv2d):
            layer.padding_mode = "circular"
    return net
