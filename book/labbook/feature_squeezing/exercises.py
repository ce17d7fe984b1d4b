"""Exercises of chapter 2."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor

from ..exercises import close, exercise, require


@exercise("feature_squeezing.share_that_differs", "A wrong median", minutes=10, level="easy")
def share_that_differs(answer: Callable[[Tensor], float]) -> None:
    def filtered(images: np.ndarray, rank: int) -> np.ndarray:
        return ndimage.rank_filter(images, rank, size=(1, 1, 2, 2), mode="reflect")

    def share(x: Tensor) -> float:
        return float((filtered(x.numpy(), 1) != filtered(x.numpy(), 2)).mean())

    flat = float(answer(torch.full((2, 1, 5, 5), 0.3)))
    require(
        flat == 0, f"On an image of one gray {flat:.2f} of the pixels differ, and none should: mirror the border, pad no zeros."
    )
    x = torch.randint(0, 4, (3, 2, 7, 9)) / 4
    found = float(answer(x))
    require(found <= 1, "Return a share, between 0 and 1: the number of pixels that differ over that of all.")
    close(
        found,
        share(x),
        "the share for images of four grays",
        hint="Both filters use one window, with the pixel at its lower right; else you count a shift.",
    )
    edge = torch.rand(1, 1, 1, 6)
    close(answer(edge), share(edge), "the share for one row of pixels")
    noise = torch.rand(2, 3, 20, 20)
    close(answer(noise), share(noise), "the share for noise")


@exercise("feature_squeezing.loudest", "The bound of silence", minutes=10, level="easy")
def loudest(answer: Callable[[float, int], Sequence[Tensor]]) -> None:
    for m, k in ((8.0, 10), (8.0, 2), (9.0, 5), (12.0, 4)):
        found = answer(m, k)
        require(len(found) == 2, "Return two vectors of logits.")
        logits = torch.stack([torch.as_tensor(z, dtype=torch.float64) for z in found])
        require(logits.shape == (2, k), f"With {k} classes each vector has the shape ({k},).")
        require(logits.isfinite().all(), "Logits are finite numbers; -60 is low enough.")
        require(
            logits[0].argmax() == logits[1].argmax(),
            "The two answers disagree about the class. The same class has to lead in both.",
        )
        best, second = logits.topk(2, 1).values.unbind(1)
        require(
            (best - second >= m - 1e-4).all(),
            f"For m = {m:g} the class leads by {float((best - second).min()):.3g} only: the margin holds against every rival.",
        )
        score = float((logits[0].softmax(0) - logits[1].softmax(0)).abs().sum())
        bound = 2 * (k - 1) * math.exp(-m)
        require(
            score >= 0.99 * bound,
            f"For m = {m:g} and {k} classes the score is {score / bound:.3f} of the bound; 0.99 is possible. "
            "The proof counts all rivals at the margin in one output, and nothing in the other.",
        )


@exercise("feature_squeezing.round_through", "A gradient through rounding", minutes=15, level="medium")
def round_through(answer: Callable[[Tensor, int], Tensor]) -> None:
    for bits in (1, 3, 8):
        x = torch.rand(2, 1, 4, 5).requires_grad_()
        found = answer(x, bits)
        require(isinstance(found, Tensor) and found.shape == x.shape, "Return the rounded images, in the shape of x.")
        require(found.dtype == x.dtype, f"x is {x.dtype} and your images are {found.dtype}.")
        levels = np.linspace(0, 1, 2**bits)
        nearest = levels[np.abs(x.detach().numpy()[..., None] - levels).argmin(-1)]
        require(
            not torch.equal(found, x),
            "The images are not rounded. Their values have to be those of the squeezer; only the gradient is the identity's.",
        )
        close(found, nearest, f"a pixel of {bits} bits", tolerance=1e-6, hint=f"{bits} bits are {2**bits} grays from 0 to 1.")
        require(found.requires_grad, "No gradient comes through: round on a detached copy and add the difference to x.")
        weights = torch.randn_like(x)
        (g,) = torch.autograd.grad((found * weights).sum(), x)
        require(g.any(), "The gradient is zero: rounding is flat almost everywhere. Let x through beside it.")
        close(g, weights, "the gradient", hint="It has to pass as if nothing had been done, with the slope 1.")


@exercise("feature_squeezing.false_positive_rates", "A threshold from few images", minutes=15, level="medium")
def false_positive_rates(answer: Callable[[Tensor, int, float, int], Tensor]) -> None:
    few, others, draws = 92, 108, 4000
    scores = torch.randn(few + others, dtype=torch.float64).exp()
    found = torch.as_tensor(answer(scores, few, 0.05, draws)).double()
    require(found.shape == (draws,), f"Return one rate for each draw, ({draws},); yours has the shape {tuple(found.shape)}.")
    require((found >= 0).all() and (found <= 1).all(), "Rates lie between 0 and 1.")
    # of those drawn 88 lie at or below the level; the number of others above it is beta-binomial
    above = few - math.ceil(few * 0.95) + 1
    mean = above / (few + 1)
    spread = math.sqrt(mean * (1 - mean) * (few + 1 + others) / (few + 2) / others)
    require(float(found.std()) > 0.5 * spread, "The rates hardly vary: each draw needs its own images, and its own threshold.")
    require(
        float(found.mean()) < 0.5,
        "Most images are above your threshold. The right one lets through all but one in twenty: the 88th smallest of 92.",
    )
    inside = (4 + others * mean) / (few + others)
    error = 5 * spread / math.sqrt(draws)
    require(
        abs(float(found.mean()) - inside) > error / 2,
        f"The mean rate is {found.mean():.4f}: that counts the images that set the threshold. Count the others alone.",
    )
    close(
        float(found.mean()),
        mean,
        "the mean rate over the draws",
        tolerance=error,
        hint="The threshold is one of the scores, the ceil(92 * 0.95)-th smallest, with no interpolation.",
    )
    close(float(found.std()) / spread, 1.0, "the spread over the draws, over that of the exact law,", tolerance=0.06)
    close(
        torch.as_tensor(answer(torch.zeros(20), 5, 0.2, 3)),
        [0.0] * 3,
        "with all scores equal, the rate",
        hint="Flagged is above.",
    )


@exercise("feature_squeezing.caught_by_more", "A third squeezer", minutes=20, level="medium")
def caught_by_more(answer: Callable[[Tensor, Tensor, float], Tensor]) -> None:
    clean, attacked = torch.rand(400, 3).pow(4), torch.rand(300, 3)
    clean[:, 2], attacked[:, 2] = torch.rand(400) * 1.5, torch.rand(300) * 0.5  # a squeezer that harms
    attacked[:, 1] = 0.6 * attacked[:, 1] + 0.4
    found = torch.as_tensor(answer(clean, attacked, 0.05)).double()
    require(found.shape == (3,), "Return one rate for each number of squeezers, (k,).")
    expected, by_one, alone = [], [], []
    first = sorted(clean[:, 0].tolist())[379]
    for k in (1, 2, 3):
        levels = sorted(max(row[:k]) for row in clean.tolist())
        scores = [max(row[:k]) for row in attacked.tolist()]
        expected.append(sum(s > levels[379] for s in scores) / 300)
        by_one.append(sum(s > first for s in scores) / 300)
        alone.append(sum(row[k - 1] > sorted(clean[:, k - 1].tolist())[379] for row in attacked.tolist()) / 300)
    require(
        not np.allclose(found, by_one, atol=1e-6),
        "That keeps the first threshold. Each detector sets its own on the clean images, or it flags too many of them.",
    )
    require(
        not np.allclose(found, alone, atol=1e-6), "That is each squeezer alone. The joint score is the greatest of the first k."
    )
    close(
        found,
        expected,
        "the detection rate",
        hint="The threshold is the ceil(n (1 - rate))-th smallest joint score of the clean.",
    )
    one = torch.as_tensor(answer(clean[:, :1], attacked[:7, :1], 0.3)).double()
    level = sorted(clean[:, 0].tolist())[279]
    close(one, [float((attacked[:7, 0] > level).double().mean())], "with one squeezer and seven images, the rate")


@exercise("feature_squeezing.descend_inside", "Clip inside, not after", minutes=15, level="hard")
def descend_inside(answer: Callable[[Callable[[Tensor], Tensor], Tensor, float, float, int], Tensor]) -> None:
    x = 0.2 + 0.5 * torch.rand(3, 1, 2, 2, dtype=torch.float64)
    x[0, 0, 0, 0] = 0.97
    c = torch.tensor([3.0, 1.0, -1.0, 0.5], dtype=torch.float64)
    goal = x.flatten(1) @ c + torch.tensor([0.9, -0.8, 0.7], dtype=torch.float64)

    def loss(z: Tensor) -> Tensor:
        require(z.shape == x.shape, "The loss takes images in the shape of x.")
        return (z.flatten(1) @ c - goal).square()

    def walked(eps_inside: float, low: float, high: float) -> np.ndarray:
        start = x.flatten(1).numpy()
        z = start.copy()
        for _ in range(80):
            z = z - 0.02 * 2 * (z @ c.numpy() - goal.numpy())[:, None] * c.numpy()
            z = np.clip(np.clip(z, start - eps_inside, start + eps_inside), low, high)
        return z.reshape(x.shape)

    found = answer(loss, x, 0.15, 0.02, 80)
    require(isinstance(found, Tensor) and found.shape == x.shape, "Return the changed images, in the shape of x.")
    found = found.detach()
    free = np.clip(np.clip(walked(9.0, -9.0, 9.0), x.numpy() - 0.15, x.numpy() + 0.15), 0, 1)
    require(
        not np.allclose(found, free, atol=1e-6),
        "That is clipped after the last step: a pixel that wanted to go far loses the rest, and no other makes up for it.",
    )
    require(
        float((found - x).abs().max()) <= 0.15 + 1e-6,
        "A pixel moved by more than eps. The ball is round the image where it began, not where it is now.",
    )
    require(float(found.min()) >= 0 and float(found.max()) <= 1, "Pixels left [0, 1]: clip to the box as well, in each step.")
    require(float(loss(found).sum()) < float(loss(x).sum()), "The loss went up. Step against its gradient.")
    expected = walked(0.15, 0.0, 1.0)
    close(found, expected, "the image", hint="Each step is rate times the gradient of the image's own loss, then both clips.")
    close(answer(loss, x, 0.0, 0.02, 3), x, "with a budget of 0 the image")
