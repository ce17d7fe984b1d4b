"""The least change in a hundred gradients or a few, each a step of its own: in linf after FMN, and sigma-zero in L0."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from .contract import attack
from .losses import Goal
from .steps import Adam, by_pixel, input_gradient, per_example


# Every attack writes the contract's parameters out, for help() and editors: so they look alike.
@attack
def fmn_linf(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    *,
    eps: float = math.inf,
    steps: int = 100,
    step_size: float = 1.0,
    gamma: float = 0.05,
    targets: Tensor | None = None,
) -> Tensor:
    """Fast minimum norm in linf: ascent on the margin in a ball of each example's own, which shrinks while the goal is met.

    Before the first success the ball reaches as far as the linearised margin says; then its radius falls by ``gamma`` at a
    success and grows by it otherwise. Both steps decay as a cosine. Unlike the paper's, a step follows the gradient's sign, the
    steepest way in linf, and its length is a share of the radius. Returns the nearest adversarial iterate of each example, and
    ``x`` itself where none within ``eps`` was found: an upper bound of the smallest distance.

    Parameters
    ----------
    steps, step_size : gradients, 1 or more, and the length of the first step in radii; the last is a hundredth of it
    gamma : by which share the radius changes in the first step, in (0, 1); in the last, 0.001

    References
    ----------
    Pintor et al. (2021), algorithm 1.

    Examples
    --------
    >>> x, y = torch.tensor([[0.8, 0.3]]), torch.tensor([0])
    >>> round((fmn_linf(nn.Identity().eval(), x, y) - x).abs().max().item(), 2)  # both move by half of their difference
    0.25
    """
    goal, best, x_adv = Goal(y, targets), x.clone(), x.clone()
    least = torch.full((len(x),), math.inf, dtype=x.dtype, device=x.device)  # of all successes, within eps or not
    radius = torch.zeros_like(least)
    for step in range(steps + 1):
        at = x_adv.requires_grad_()
        logits = model(at)
        margin, hit = goal.margin(logits), goal.met(logits.detach())
        distance = (x_adv.detach() - x).flatten(1).abs().amax(1)
        nearer = hit & (distance < least)
        least, keep = torch.where(nearer, distance, least), nearer & (distance <= eps)
        best[keep] = x_adv.detach()[keep]
        if step == steps:
            break
        gradient, cosine = input_gradient(margin, at), (1 + math.cos(math.pi * step / steps)) / 2
        change, slope = 0.001 + (gamma - 0.001) * cosine, gradient.flatten(1).abs().sum(1)
        away = distance + margin.detach().abs() / slope.clamp_min(1e-30)
        # Unlike in the paper the radius also grows before the first success: otherwise the box, where it clips, can hold it.
        grown = radius.where(least.isfinite(), radius.maximum(away)) * (1 + change)
        radius = torch.where(hit, least.minimum(radius * (1 - change)), grown)
        bound = per_example(radius, x)
        moved = x_adv.detach() + step_size * (0.01 + 0.99 * cosine) * bound * gradient.sign()
        x_adv = moved.clamp(x - bound, x + bound).clamp_(0, 1)
    return best


@attack
def sigma_zero(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    *,
    eps: float = math.inf,
    steps: int = 1000,
    learning_rate: float = 1.0,
    sigma: float = 0.001,
    threshold: float = 0.3,
    targets: Tensor | None = None,
) -> Tensor:
    """Sigma-zero: few pixels, found by Adam on a smooth count of them and a threshold that follows success and failure.

    The loss is relu(-margin) plus the mean of d^2 / (d^2 + sigma) over pixels, with d^2 a pixel's squared change; its gradient
    is divided by its largest value. After each step, pixels that no channel changes by the threshold go back to ``x``.
    Returns the adversarial iterate with the fewest pixels, and ``x`` itself where none within ``eps`` was found. ``eps`` counts
    pixels: positions, with all their channels (the paper counts values).

    Parameters
    ----------
    steps, learning_rate : of Adam, 1 or more, and its first rate, which decays as a cosine to a tenth
    sigma : how small a squared change counts half, above 0
    threshold : the first, in (0, 1); it rises or falls by a hundredth of the rate

    References
    ----------
    Cin\u00e0 et al. (2025), algorithm 1.

    Examples
    --------
    >>> x, y = torch.tensor([[0.8, 0.3, 0.1, 0.1]]), torch.tensor([0])
    >>> int((sigma_zero(nn.Identity().eval(), x, y, steps=100) != x).sum())  # one value is enough
    1
    """
    goal, best, delta = Goal(y, targets), x.clone(), torch.zeros_like(x)
    fewest = torch.full((len(x),), math.inf, dtype=x.dtype, device=x.device)
    adam, limit = Adam(x, learning_rate), torch.full_like(fewest, threshold)
    for step in range(steps + 1):
        at = delta.requires_grad_()
        logits = model(x + at)
        hit, pixels = goal.met(logits.detach()), by_pixel(at.detach()).gt(0).sum(1).to(fewest)
        better = hit & (pixels < fewest) & (pixels <= eps)
        best[better], fewest[better] = (x + at.detach())[better], pixels[better]
        if step == steps:
            break
        squared = by_pixel(at.square())
        smooth = (squared / (squared + sigma)).mean(1)
        gradient = input_gradient((-goal.margin(logits)).relu() + smooth, at)
        gradient = gradient / per_example(gradient.flatten(1).abs().amax(1).clamp_min(1e-30), x)
        adam.rate = learning_rate * (0.1 + 0.9 * (1 + math.cos(math.pi * step / steps)) / 2)
        delta = (x + adam.move(delta.detach(), gradient)).clamp_(0, 1).sub_(x)
        limit = (limit + torch.where(hit, 0.01, -0.01) * adam.rate).clamp_(0, 1)
        small = delta.abs().amax(1, keepdim=True) if x.ndim > 2 else delta.abs()
        delta = delta.masked_fill(small < per_example(limit, x), 0)
    return best
