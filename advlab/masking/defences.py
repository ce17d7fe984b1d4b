"""Defences that masks are compared with: adversarial training, TRADES, dropout of three kinds, stochastic pruning, JPEG."""

from __future__ import annotations

import functools
import io
from collections.abc import Iterable
from numbers import Integral

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from .. import checks, models
from ..attacks import pgd, straight_through
from ..training import flip_and_shift
from .networks import PART, insert_layers, masked_layers, stage_numbers

#: Kinds of dropout, as :func:`dropout_resnet` describes them.
DROPOUTS = ("element", "channel", "block")
_QUALITY: checks.Range = (lambda v: 1 <= v <= 95 and isinstance(v, Integral), "a whole number from 1 to 95")


def single_step(model: nn.Module, x: Tensor, y: Tensor, done: float, *, eps: float, pixels: int = 4) -> Tensor:
    """A transform for :func:`advlab.training.fit`: augmented images after one step of FGSM from a random start.

    Adversarial training in one step of 1.25 ``eps`` (Wong, Rice and Kolter 2020). Known limitation: such training can
    collapse, so that only attacks of several steps show that nothing was learned; measure with those.

    >>> net, x = nn.Sequential(nn.Flatten(), nn.Linear(192, 10)).eval(), torch.full((2, 3, 8, 8), 0.5)
    >>> x_adv = single_step(net, x, torch.tensor([0, 1]), 0.5, eps=0.1, pixels=0)
    >>> x_adv.shape, round((x_adv - x).abs().max().item(), 4)
    (torch.Size([2, 3, 8, 8]), 0.1)
    """
    x = flip_and_shift(model, x, y, done, pixels)
    return pgd(model, x, y, eps=eps, steps=1, step_size=1.25 * eps, active_set=False)


def trades_pairs(model: nn.Module, x: Tensor, y: Tensor, done: float, *, eps: float, pixels: int = 4) -> Tensor:
    """A transform for :func:`advlab.training.fit`: (n, 2, ...), augmented images attacked on the divergence, and as they were.

    One step of 1.25 ``eps`` from a random start, where Zhang et al. (2019) take ten.

    >>> net = nn.Sequential(nn.Flatten(), nn.Linear(192, 10)).eval()
    >>> trades_pairs(net, torch.full((2, 3, 8, 8), 0.5), torch.tensor([0, 1]), 0.5, eps=0.1).shape
    torch.Size([2, 2, 3, 8, 8])
    """
    x = flip_and_shift(model, x, y, done, pixels)
    with torch.no_grad():
        p = model(x).softmax(1)

    def divergence(logits: Tensor, y: Tensor, targets: Tensor | None = None) -> Tensor:
        return nn.functional.kl_div(logits.log_softmax(1), p, reduction="none").sum(1)

    attacked = pgd(model, x, y, eps=eps, steps=1, step_size=1.25 * eps, loss=divergence, active_set=False)
    return torch.stack([attacked, x], 1)


def trades_loss(model: nn.Module, pairs: Tensor, y: Tensor, *, beta: float = 6.0) -> Tensor:
    """Cross entropy of the clean images plus ``beta`` times KL(clean, attacked) (Zhang et al. 2019, equation 5).

    ``pairs`` (n, 2, ...) are those of :func:`trades_pairs`. A loss for :func:`advlab.training.fit`.

    >>> pairs = torch.zeros(1, 2, 2)  # logits of a clean and of an attacked image, which do not differ
    >>> round(trades_loss(nn.Flatten(), pairs, torch.tensor([0])).item(), 4)  # log 2, the cross entropy
    0.6931
    """
    attacked, clean = model(pairs.transpose(0, 1).flatten(0, 1)).chunk(2)
    apart = nn.functional.kl_div(attacked.log_softmax(1), clean.softmax(1), reduction="batchmean")
    return nn.functional.cross_entropy(clean, y) + beta * apart


class DropBlock(nn.Module):
    """Squares of ``block`` by ``block`` values are 0 while training, the rest is rescaled (Ghiasi et al. 2018).

    About a share ``drop`` of all values is dropped, somewhat less near borders, and in eval mode nothing is. It draws at each
    pass from torch's global generator, as ``nn.Dropout`` does: ``torch.manual_seed`` before it makes a pass again.
    Raises ValueError for a share outside [0, 1) and a block below 1.

    >>> layer, x = DropBlock(0.5, block=4), torch.ones(1, 1, 64, 64)
    >>> bool((layer(x) == 0).any()), bool((layer.eval()(x) == 1).all())
    (True, True)
    """

    def __init__(self, drop: float, block: int = 7) -> None:
        checks.setting("drop", drop, PART)
        checks.setting("block", block, checks.COUNT)
        super().__init__()
        self.drop, self.block = drop, block

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or not self.drop:
            return x
        side = min(self.block, *x.shape[2:])
        centres = [s - side + 1 for s in x.shape[2:]]
        # a value is kept if all squares that cover it are; most values are covered by side**2 of them
        rate = 1 - (1 - self.drop) ** (1 / side**2)
        starts = (torch.rand(*x.shape[:2], *centres, device=x.device) < rate).to(x.dtype)
        padded = nn.functional.pad(starts, [side - 1] * 4)
        across = nn.functional.max_pool2d(padded, (1, side), 1)  # a square is a row of columns: 2 side comparisons, not side**2
        kept = 1 - nn.functional.max_pool2d(across, (side, 1), 1)
        return x * kept * (kept.numel() / kept.sum().clamp_min(1))

    def extra_repr(self) -> str:
        return f"drop={self.drop:g}, block={self.block}"


class StochasticPruning(nn.Module):
    """Keeps values drawn in proportion to their size, rescaled, at test time too: SAP (Dhillon et al. 2018).

    Each value of an example (n, ...) is kept with the probability that so many draws with replacement as ``draws`` times the
    number of values would take it, independently of the others, and divided by that probability; the rest is 0. (The authors
    make the draws.) It draws at each pass from torch's global generator, in train and eval mode alike: ``torch.manual_seed``
    before it makes a pass again. Known limitation: gradients averaged over draws break it (Athalye et al. 2018). Raises
    ValueError for draws that are not above 0 and at most 1e9.

    >>> layer, x = StochasticPruning(), torch.ones(1, 10_000)
    >>> a, b = layer.eval()(x), layer(x)
    >>> a.equal(b), abs(a.mean().item() - 1) < 0.1  # random at test time too; right in the mean
    (False, True)
    """

    def __init__(self, draws: float = 1.0) -> None:
        checks.setting("draws", draws, (lambda v: 0 < v <= 1e9, "above 0 and at most 1e9"))
        super().__init__()
        self.draws = draws

    def forward(self, x: Tensor) -> Tensor:
        flat = x.flatten(1)
        size = flat.detach().abs()
        p = size / size.sum(1, keepdim=True).clamp_min(1e-12)
        chance = -torch.expm1(self.draws * flat.shape[1] * torch.log1p(-p.clamp_max(1 - 1e-6)))
        kept = torch.rand_like(chance) < chance
        return (flat * kept / chance.clamp_min(1e-12)).view_as(x)

    def extra_repr(self) -> str:
        return f"draws={self.draws:g}"


def dropout_resnet(
    depth: int = 18,
    width: int = 64,
    drop: float = 0.5,
    stages: str | Iterable[int] = (0, 1, 2),
    *,
    kind: str = "element",
    block: int = 7,
) -> nn.Module:
    """:func:`advlab.models.resnet` with dropout wherever :func:`masked_resnet` has masks: while training only, rescaled.

    ``kind`` is "element" (Srivastava et al. 2014), "channel" (Tompson et al. 2015) or "block" (:class:`DropBlock`).
    All draw at each pass from torch's global generator. No guarantee, and no claim of its authors, that dropout defends. Raises
    ValueError for an unknown kind or stage.

    >>> net, x = dropout_resnet(8, 4), torch.rand(2, 3, 32, 32)
    >>> net(x).equal(net(x)), net.eval()(x).equal(net(x))
    (False, True)
    """
    if kind not in DROPOUTS:
        raise ValueError(f"kind is {kind!r}; it must be one of {', '.join(map(repr, DROPOUTS))}")
    makers = {"element": nn.Dropout, "channel": nn.Dropout2d, "block": functools.partial(DropBlock, block=block)}
    net = models.resnet(depth, width)
    names = [name for stage in stage_numbers(stages) for name in masked_layers(net, stage)]
    made = insert_layers(net, lambda name, size: makers[kind](drop), layers=names, shape=(3, 32, 32))
    return made.to(memory_format=torch.channels_last)  # pyrefly: ignore[no-matching-overload]


def pruned_at_random(net: nn.Module, draws: float = 1.0) -> nn.Module:
    """A copy of :func:`advlab.models.resnet` with :class:`StochasticPruning` after its stem and after each block.

    >>> net = pruned_at_random(models.resnet(8, 4)).eval()
    >>> x = torch.rand(1, 3, 32, 32)
    >>> net(x).equal(net(x))
    False
    """
    names = [name for name, m in net.named_modules() if name == "stem" or isinstance(m, models.ResidualBlock)]
    return insert_layers(net, lambda name, size: StochasticPruning(draws), layers=names, shape=(3, 32, 32))


def jpeg(x: Tensor, quality: int = 75) -> Tensor:
    """Images (n, 3, h, w) in [0, 1] after JPEG at ``quality`` 1 to 95, colours subsampled as Pillow does. No gradient.

    Raises TypeError for bytes and half precision, ValueError for another quality or shape, and images outside [0, 1].

    >>> x = torch.rand(1, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    >>> changes = [(jpeg(x, q) - x).abs().mean().item() for q in (10, 50, 95)]
    >>> changes == sorted(changes, reverse=True)
    True
    """
    checks.tensors(x=x)
    checks.inputs(x)
    if x.ndim != 4 or x.shape[1] != 3:
        raise ValueError(f"x has the shape {tuple(x.shape)}; JPEG takes colour images (n, 3, h, w)")
    checks.setting("quality", quality, _QUALITY)
    bytes_ = (x.detach() * 255).round().byte().movedim(1, 3).cpu().numpy()
    read = []
    for image in bytes_:
        file = io.BytesIO()
        Image.fromarray(image).save(file, "JPEG", quality=int(quality))
        read.append(np.asarray(Image.open(file)))
    stacked = np.stack(read) if read else bytes_
    return torch.from_numpy(stacked).movedim(3, 1).to(x) / 255


class Jpeg(nn.Module):
    """:func:`jpeg` as a layer: (n, 3, h, w) -> the same shape, its backward pass that of the identity.

    Known limitation: that is an attack, BPDA (Athalye et al. 2018), and it is all that an attacker needs. Raises what
    :func:`jpeg` does, for another quality when it is made.

    >>> x = torch.rand(1, 3, 16, 16, requires_grad=True)
    >>> torch.autograd.grad(Jpeg(75)(x).sum(), x)[0].unique().tolist()
    [1.0]
    """

    def __init__(self, quality: int = 75) -> None:
        super().__init__()
        checks.setting("quality", quality, _QUALITY)
        self.quality = quality

    def forward(self, x: Tensor) -> Tensor:
        return straight_through(functools.partial(jpeg, quality=self.quality))(x)

    def extra_repr(self) -> str:
        return f"quality={self.quality}"
