"""Exercises of chapter 4."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from advlab.masking import RandomMask

from ..exercises import close, exercise, require


def _two(found: object, what: str) -> tuple:
    require(isinstance(found, tuple | list) and len(found) == 2, f"Return two things, {what}.")
    assert isinstance(found, tuple | list)
    return tuple(found)


# ------------------------------------------------------------------------------------------ masks


@exercise("random_mask.count", "Text and code", minutes=10, level="easy")
def count(answer: Callable[[tuple[int, int, int], float], float]) -> None:
    for shape, drop in (
        ((2, 1, 3), 0.5),
        ((3, 1, 2), 0.5),
        ((2, 2, 2), 0.25),
        ((4, 1, 3), 0.5),
        ((2, 1, 6), 0.75),
        ((1, 2, 3), 0.5),
    ):
        found, each = answer(shape, drop), shape[1] * shape[2]
        cells = range(shape[0] * each)
        zeros = [sum(k < each for k in gone) for gone in itertools.combinations(cells, round(drop * len(cells)))]
        expected = float(np.std(zeros))  # over all masks that can be drawn
        at = f"for maps of {' x '.join(map(str, shape))} and drop = {drop:g}"
        close(found, found if isinstance(found, float | int) else 0.0, "the spread")
        require(
            not math.isclose(float(found), math.sqrt(each * drop * (1 - drop))),
            f"That is the binomial law {at}. The code draws without replacement: a zero in one channel is missing in others.",
        )
        require(
            expected == 0 or not math.isclose(float(found), expected**2),
            f"That is the variance {at}. The spread is its square root, a number of values.",
        )
        close(found, expected, f"the spread {at}", hint="Count the zeros of one channel in all masks that the code can draw.")
    masks = [RandomMask((64, 32, 32), 0.5, kind="tensor").kept for _ in range(12)]
    seen = float(torch.stack([(~kept).sum((-2, -1)).double() for kept in masks]).std())
    found = answer((64, 32, 32), 0.5)
    require(
        abs(found / seen - 1) < 0.15,
        f"For maps of 64 x 32 x 32 you say {found:.3g}; twelve masks that were drawn have {seen:.3g}.",
    )


@exercise("random_mask.shift", "What a shift breaks", minutes=15, level="medium")
def shift(answer: Callable[[float, int, int, int], float]) -> None:
    def ask(zeros: int, period: int, dy: int, dx: int, hint: str) -> None:
        drop = zeros / period**2
        what = f"the error for drop = {drop:.3g}, period {period} and a shift by ({dy}, {dx})"
        close(answer(drop, period, dy, dx), _over_all_tiles(zeros, period, dy, dx), what, hint=hint)

    ask(2, 2, 2, 2, "A shift by whole tiles changes nothing.")
    require(
        not math.isclose(float(answer(0.5, 2, 1, 1)), 1.0),
        "2 p would hold if two cells of a tile were independent. But a tile has exactly p q^2 zeros: one that is used is gone.",
    )
    for zeros in (1, 2, 3):
        ask(zeros, 2, 1, 1, "Count the ordered pairs of a zero and a one, and compare with what the mask keeps.")
    both = "The tile is left in place only by a shift that is a multiple of the period in *both* directions."
    for dy, dx in ((2, 1), (1, 2), (1, 0), (0, 1), (-1, 4), (4, -2)):
        ask(2, 2, dy, dx, both)
    for zeros, period, dy, dx in ((3, 3, 1, 2), (6, 3, 3, 1), (3, 3, 3, -3), (2, 4, 2, 0), (2, 4, 0, 4)):
        ask(zeros, period, dy, dx, "All pairs of different cells are equally likely.")
    close(
        answer(0.5, 1, 3, 1),
        0.0,
        "the error of a mask of whole channels",
        hint="With period 1 every shift is one by whole tiles.",
    )


def _over_all_tiles(zeros: int, period: int, dy: int, dx: int) -> float:
    """Both sides of the theorem, each summed over every tile with so many zeros, on a map of two by two tiles."""
    v = torch.randn(2 * period, 2 * period, dtype=torch.float64)
    broken = kept = 0.0
    for gone in itertools.combinations(range(period**2), zeros):
        tile = torch.ones(period**2, dtype=torch.float64)
        tile[list(gone)] = 0
        mask = tile.view(period, period).repeat(2, 2)
        broken += float((mask * v.roll((dy, dx), (0, 1)) - (mask * v).roll((dy, dx), (0, 1))).square().sum())
        kept += float((mask * v).square().sum())
    return broken / kept


@exercise("random_mask.dropout", "It is not dropout", minutes=10, level="easy")
def dropout(answer: Callable[[nn.Module, list[str], tuple[int, int, int], float], nn.Module]) -> None:
    shape, x = (3, 6, 6), torch.rand(5, 3, 6, 6)
    one = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1)).eval().requires_grad_(False)
    before = one(x)
    for drop in (0.5, 0.75):
        made = answer(one, ["0"], shape, drop)
        require(isinstance(made, nn.Module), "Return a network.")
        require(torch.equal(one(x), before), "The network that was given has changed. Put the masks into a copy.")
        after = made.eval()(x)
        require(after.shape == before.shape, "The maps behind the layer should keep their shape.")
        zero = after == 0
        require(zero.any(), "Nothing is zero in eval mode, where nn.Dropout does nothing. A mask stays, in training and test.")
        require(torch.equal(after, made(x)), "Two passes differ. A mask is drawn once.")
        require(torch.equal(after, made.train()(x)), "The network differs between training and eval mode. A mask is fixed.")
        require((zero == zero[:1]).all(), "Images have masks of their own. There is one mask, whatever the image.")
        gone = zero[0].sum((1, 2))
        require(
            (gone == drop * 36).all(),
            f"With drop = {drop:g} each channel of 36 values should have {drop * 36:g} zeros; yours have {gone.tolist()}.",
        )
        require((zero[0] != zero[0, :1]).any(), "All channels have the same mask. Draw each by itself.")
        close(
            after[~zero],
            before[~zero] / (1 - drop),
            f"with drop = {drop:g}, a value that is kept",
            hint="Dropout makes up for what is missing: it divides by the share that is kept.",
        )
    two = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 4, 3, bias=False)).eval()
    after, before = answer(two.requires_grad_(False), ["1", "3"], shape, 0.5).eval()(x), two(x)
    zero = after == 0
    require((zero.sum((2, 3)) == 2).all(), "With two layers named, the second has no mask of its own maps' size behind it.")
    require(not torch.allclose(after[~zero], 2 * before[~zero]), "With two layers named, there is no mask behind the first.")


@exercise("random_mask.matrix", "A masked convolution is a matrix with rows removed", minutes=15, level="medium")
def matrix(answer: Callable[[nn.Module, tuple[int, int, int]], tuple[Tensor, Tensor]]) -> None:
    circular = nn.Conv2d(1, 2, 3, padding=1, padding_mode="circular", bias=False)
    strided = nn.Conv2d(2, 3, 3, padding=1, stride=2)
    norm = nn.BatchNorm2d(3)
    norm.load_state_dict({**norm.state_dict(), "running_mean": torch.randn(3), "bias": torch.randn(3)})
    layers = [
        (nn.Sequential(circular, RandomMask((2, 4, 4), 0.5)), (1, 4, 4)),
        (strided, (2, 6, 4)),
        (nn.Sequential(strided, norm, RandomMask((3, 3, 2), 0.5)), (2, 6, 4)),
    ]
    for layer, shape in layers:
        layer.double().eval().requires_grad_(False)
        dense, bias = _two(answer(layer, shape), "the matrix and the bias")
        zero = layer(torch.zeros(1, *shape, dtype=torch.float64)).flatten()
        inputs = math.prod(shape)
        for part in (dense, bias):
            require(isinstance(part, Tensor), "Return the matrix and the bias as tensors.")
        says = f"The matrix has the shape {tuple(dense.shape)}; it should be ({len(zero)}, {inputs}): rows are outputs."
        require(dense.shape == (len(zero), inputs), says)
        close(bias, zero, "the bias", hint="It is what the layer makes of an input that is zero.")
        x = torch.randn(4, *shape, dtype=torch.float64)
        close(
            x.flatten(1) @ dense.detach().double().T + zero,
            layer(x).flatten(1),
            "matrix times input, plus bias",
            hint="What a unit vector is sent to holds the bias too: take it away from each column.",
        )


@exercise("random_mask.tiles", "Two tiles", minutes=10, level="medium")
def tiles(answer: Callable[[Sequence[int], Sequence[int]], int]) -> None:
    cases = [
        ((4,), (1,), 8, "One mask, and no stride: its own period."),
        ((1,), (2,), 8, "With a stride of 2 maps can move along only with even moves, with a mask or without."),
        ((6, 4), (1, 1), 24, "The move must be a multiple of both periods, the least one that is."),
        ((4, 8), (1, 2), 32, "Behind a stride of 2 a move of s pixels is one of s / 2."),
        ((3, 2), (1, 2), 24, "Behind a stride of 2 a move of s pixels is one of s / 2."),
        ((4, 2), (2, 2), 16, "A layer's own stride comes before its mask, and all the strides before it count."),
        ((2, 1, 4), (2, 1, 2), 32, "Strides multiply along the layers."),
    ]
    for periods, strides, side, hint in cases:
        found = answer(periods, strides)
        close(
            found,
            _least_by_trying(periods, strides, side),
            f"the least move for periods {periods}, strides {strides}",
            hint=hint,
        )


@torch.no_grad()
def _least_by_trying(periods: Sequence[int], strides: Sequence[int], side: int) -> int:
    """With a random network: the least move of a random picture with which the last maps just move along."""
    layers, channels, size = [], 1, side
    for period, stride in zip(periods, strides, strict=True):
        size //= stride
        layers += [
            nn.Conv2d(channels, 6, 3, stride=stride, padding=1, padding_mode="circular"),
            RandomMask((6, size, size), 0.5, kind="periodic", period=period),
            nn.ReLU(),
        ]
        channels = 6
    net, x, stride = nn.Sequential(*layers).double(), torch.randn(1, 1, side, side, dtype=torch.float64), side // size
    return next(m for m in range(stride, side + 1, stride) if torch.allclose(net(x.roll(m, 3)), net(x).roll(m // stride, 3)))


# ------------------------------------------------------------------------------------------ transfer


class _Table(nn.Module):
    """A classifier (n, 1, 1, 1) -> (n, 3) that looks its answer up: a pixel of k / 1000 is class ``answers[k]``."""

    def __init__(self, answers: Tensor) -> None:
        super().__init__()
        self.answers = answers

    def forward(self, x: Tensor) -> Tensor:
        at = (1000 * x[:, 0, 0, 0]).round().long()
        return nn.functional.one_hot(self.answers[at], 3).to(x.dtype)


@exercise("random_mask.fooled", 'What "only those that fool the source" does', minutes=15, level="medium")
def fooled(answer: Callable[[nn.Module, nn.Module, Tensor, Tensor, Tensor], tuple[float, float]]) -> None:
    n = 80
    x, x_adv = (torch.arange(2 * n) / 1000).view(2, n, 1, 1, 1)
    y = torch.randint(3, (n,))
    for changed in (0.6, 0.0):  # the share of images on which attacks change the source's answer
        source, target = (torch.where(torch.rand(2 * n) < 0.7, y.repeat(2), torch.randint(3, (2 * n,))) for _ in range(2))
        source[n:] = torch.where(torch.rand(n) < changed, (source[:n] + 1) % 3, source[:n])
        every, chosen = [], []
        for k in range(n):
            if source[k] == y[k]:
                every.append(bool(target[n + k] == y[k]))
                if source[n + k] != y[k]:
                    chosen.append(bool(target[n + k] == y[k]))
        found = _two(answer(_Table(source), _Table(target), x, y, x_adv), "both accuracies")
        a, b = (float(v) for v in found)
        all_images = float((target[n:] == y).double().mean())
        require(
            not math.isclose(a, all_images, abs_tol=1e-6),
            "In the first, images count that the source misreads before any attack.",
        )
        share = sum(every) / len(every)
        require(
            not math.isclose(a, 1 - share, abs_tol=1e-6),
            "That is the share of images that fool the target; accuracy is the rest.",
        )
        close(
            a, share, "the accuracy on all that the source reads right as they are", hint="The target need not read them right."
        )
        if not chosen:
            require(math.isnan(b), f"No image fools the source, so that there is nothing to count: nan, and not {b:g}.")
            continue
        close(
            b,
            sum(chosen) / len(chosen),
            "the accuracy on those that fool the source",
            hint="An image fools the source that is read right before the attack, and wrong after.",
        )


@exercise("random_mask.surrogate", "A surrogate of your own", minutes=20, level="hard")
def surrogate(answer: Callable[[list[nn.Module], Tensor, Tensor, float], Tensor]) -> None:
    x, y, eps = torch.rand(8, 1, 2, 3, dtype=torch.float64), torch.arange(8) % 2, 0.1
    x[0], x[1] = 0.02, 0.97
    linear = [nn.Linear(6, 2) for _ in range(3)]
    for layer in linear:
        nn.init.normal_(layer.weight)
    linear[0].weight.data[:, 0] = torch.tensor([3.0, -3.0])  # here one is steep, and is outvoted
    for layer in linear[1:]:
        layer.weight.data[:, 0] = torch.tensor([-1.0, 1.0])
    nets: list[nn.Module] = [nn.Sequential(nn.Flatten(), layer).double().eval().requires_grad_(False) for layer in linear]
    for label in (0, 1):  # the first surrogate is very sure of this class, the others are not
        linear[0].bias.data = torch.tensor([9.0, -9.0] if label == 0 else [-9.0, 9.0]).double()
        mine, labels = x[y == label], y[y == label]
        found = answer(nets, mine, labels, eps)
        require(isinstance(found, Tensor) and found.shape == mine.shape, "Return the images, in the shape of x.")
        require(
            (found - mine).abs().max() <= eps + 1e-6, "An image differs from x by more than eps: project it back into the ball."
        )
        require(found.min() >= 0 and found.max() <= 1, "Pixels left [0, 1]: clip the result.")

        def margin(images: Tensor, k: int = label) -> Tensor:
            logits = torch.stack([net(images) for net in nets]).mean(0)
            return logits[:, k] - logits[:, 1 - k]

        for k, image in enumerate(mine):  # the nets are linear: the worst image is one of the ball's 64 corners
            steps = torch.tensor(list(itertools.product((-eps, eps), repeat=6))).double().view(-1, 1, 2, 3)
            worst = margin((image + steps).clamp(0, 1)).min()
            close(
                margin(found[k : k + 1])[0],
                worst,
                f"the margin of the mean logits on image {k}",
                hint="Attack the mean of the *logits*. By mean losses a surrogate that is very sure counts for too little, and "
                "by votes one that is steep.",
            )
