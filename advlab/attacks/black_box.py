"""Attacks that see only scores (Square) or only labels (HopSkipJump)."""

from __future__ import annotations

import functools
import math

import torch
from torch import Generator, Tensor, nn

from .contract import attack
from .losses import Goal
from .steps import l2_norm, per_example, random_like, unit


# Every attack writes the contract's parameters out, for help() and editors: so they look alike.
@functools.partial(attack, gradient=False)
def square(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    *,
    eps: float,
    queries: int = 1000,
    share: float = 0.8,
    targets: Tensor | None = None,
    generator: Generator | None = None,
) -> Tensor:
    """The Square attack in the linf ball: random squares, no gradient, images (n, c, h, w) only.

    A black box beside the gradient attacks: where it does better, a defence hides its gradients. An example leaves the batch
    once its goal is met.

    Parameters
    ----------
    queries : passes of each image at the most, 1 or more
    share : of the pixels, changed at first, in (0, 1]
    generator : source of the squares

    References
    ----------
    Andriushchenko et al. (2020), algorithms 1 and 2.

    Examples
    --------
    >>> x, y = torch.tensor([[[[0.8, 0.5], [0.1, 0.1]]]]), torch.tensor([0])
    >>> net = nn.Flatten().eval()  # its four logits are the pixels
    >>> x_adv = square(net, x, y, eps=0.2, generator=torch.Generator().manual_seed(0))
    >>> net(x).argmax().item(), net(x_adv).argmax().item()
    (0, 1)
    """
    if x.ndim != 4:
        raise ValueError(f"x has the shape {tuple(x.shape)}; the Square attack needs images (n, c, h, w)")
    n, c, h, w = x.shape
    goal = Goal(y, targets)
    stripes = random_like((n, c, 1, w), x, generator).sub_(0.5).sign_()
    x_adv = (x + eps * stripes).clamp_(0, 1)
    value = goal.margin(model(x_adv))
    for query in range(1, queries):
        todo = (value <= 0).nonzero().squeeze(1)
        if not len(todo):
            break
        side = min(h, w, max(1, round(math.sqrt(share * square_schedule(query, queries) * h * w))))
        corner = random_like((len(todo), 2), x, generator)
        top, left = (corner[:, 0] * (h - side + 1)).long(), (corner[:, 1] * (w - side + 1)).long()
        row, column = torch.arange(h, device=x.device), torch.arange(w, device=x.device)
        inside = ((row >= top[:, None]) & (row < top[:, None] + side))[:, None, :, None]
        inside = inside & ((column >= left[:, None]) & (column < left[:, None] + side))[:, None, None, :]  # (m, 1, h, w)
        sign = random_like((len(todo), c, 1, 1), x, generator).sub_(0.5).sign_()
        trial = torch.where(inside, (x[todo] + eps * sign).clamp_(0, 1), x_adv[todo])
        new = goal[todo].margin(model(trial))
        better = new > value[todo]
        x_adv[todo[better]], value[todo[better]] = trial[better], new[better]
    return x_adv


def square_schedule(query: int, queries: int) -> float:
    """The share of pixels halves at these points of a budget of 10,000 queries (section 3.2 of the paper), rescaled."""
    passed = sum(query * 10_000 > at * queries for at in (10, 50, 200, 500, 1000, 2000, 4000, 6000, 8000))
    return 0.5**passed


class _Labels:
    """A model that shows no more than whether the goal is met, for at most ``queries`` questions about each example."""

    def __init__(self, model: nn.Module, goal: Goal, queries: int) -> None:
        self.model, self.goal, self.left = model, goal, torch.full((len(goal.y),), queries)

    def open(self, rows: Tensor) -> Tensor:
        """(m,) bool: which examples of ``rows`` have a question left."""
        return (self.left[rows.cpu()] > 0).to(rows.device)

    def met(self, rows: Tensor, points: Tensor) -> Tensor:
        """(m,) bool, for one point of each example of ``rows``; False, unasked, where no question is left."""
        found = torch.zeros(len(rows), dtype=torch.bool, device=points.device)
        asked = self.open(rows).nonzero().squeeze(1)
        self.left[rows[asked].cpu()] -= 1
        if len(asked):
            found[asked] = self.goal[rows[asked]].met(self.model(points[asked]))
        return found

    def met_around(self, row: int, points: Tensor) -> Tensor:
        """(b,) bool for many points of one example, no more than there are questions left."""
        points = points[: int(self.left[row])]
        self.left[row] -= len(points)
        return self.goal[torch.full((len(points),), row, device=points.device)].met(self.model(points))


# 10 parameters: the contract's, and what the paper's search has.
@functools.partial(attack, gradient=False)
def hop_skip_jump(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    *,
    eps: float = math.inf,
    norm: str = "linf",
    queries: int = 2000,
    batch: int = 100,
    start: Tensor | None = None,
    targets: Tensor | None = None,
    generator: Generator | None = None,
) -> Tensor:
    """HopSkipJump: a small perturbation found from the predicted labels alone.

    From an image that meets the goal each example is led to the boundary by bisection; there, random neighbours estimate the
    gradient's direction, and a step along it is led back to the boundary. Returns the nearest image found of each, and ``x``
    itself where none within ``eps`` was found: an upper bound of the smallest distance.

    Parameters
    ----------
    norm : "linf" or "l2"
    queries, batch : images shown to the model for each example at the most, and neighbours of the first round; 1 or more
    start : (n, ...), images that meet the goal; else noise
    generator : source of noise and neighbours

    References
    ----------
    Chen, Jordan and Wainwright (2020), algorithm 2.

    Examples
    --------
    >>> x, y = torch.tensor([[0.8, 0.3]]), torch.tensor([0])
    >>> x_adv = hop_skip_jump(nn.Identity().eval(), x, y, norm="l2", generator=torch.Generator().manual_seed(0))
    >>> (x_adv - x).norm().item() < 0.4  # the nearest error is 0.5 / sqrt(2) away, and labels alone lead there
    True
    """
    labels = _Labels(model, Goal(y, targets), queries)
    best, found, active = _beginnings(labels, x, start, generator)
    best[active] = _to_boundary(labels, active, x[active], best[active], norm)
    at = best.clone()
    for step in range(1, queries):
        active = active[labels.open(active)]
        if not len(active):
            break
        count = math.ceil(batch * step**0.5)
        trial = _jump(labels, active, x[active], at[active], step, count, norm, generator)
        at[active] = _to_boundary(labels, active, x[active], trial, norm)
        nearer = _distance(at[active] - x[active], norm) < _distance(best[active] - x[active], norm)
        best[active[nearer]] = at[active[nearer]]
    outside = ~found | (_distance(best - x, norm) > eps)
    return torch.where(per_example(outside, x), x, best)


def _beginnings(labels: _Labels, x: Tensor, start: Tensor | None, generator: Generator | None) -> tuple[Tensor, Tensor, Tensor]:
    """Images (n, ...) that meet the goal; which do, (n,) bool; and the rows that are to come nearer to ``x``."""
    everywhere = torch.arange(len(x), device=x.device)
    best = x.clone() if start is None else start.clone().clamp(0, 1).to(x)
    done = labels.met(everywhere, x)  # the goal is met without any change
    found = done.clone() if start is None else labels.met(everywhere, best) | done
    for _ in range(0 if start is not None else 100):
        todo = (~found).nonzero().squeeze(1)
        noise = random_like((len(todo), *x.shape[1:]), x, generator)
        hit = labels.met(todo, noise)
        best[todo[hit]], found[todo[hit]] = noise[hit], True
    best[done] = x[done]
    return best, found, (found & ~done).nonzero().squeeze(1)


def _jump(
    labels: _Labels, rows: Tensor, x: Tensor, here: Tensor, step: int, count: int, norm: str, generator: Generator | None
) -> Tensor:
    """From ``here`` (m, ...), on the boundary, along the estimated gradient to points that meet the goal too, (m, ...)."""
    away = _distance(here - x, norm)
    width = torch.full_like(away, 0.1) if step == 1 else (away / x[0].numel()).clamp_min(1e-6)
    way, l2 = torch.zeros_like(here), norm == "l2"
    for k, row in enumerate(rows.tolist()):
        noise = random_like((count, *x.shape[1:]), x, generator, torch.randn if l2 else torch.rand)
        near = (here[k] + width[k] * unit(noise if l2 else 2 * noise - 1)).clamp_(0, 1)
        # The gradient's direction is that of the mean of sign * move; with the signs less their mean it varies less.
        sign = 2 * labels.met_around(row, near).to(x) - 1
        moves = near[: len(sign)] - here[k]
        weight = sign if sign.mean().abs() == 1 else sign - sign.mean()
        way[k] = (moves * per_example(weight, moves)).sum(0)
    way = unit(way) if l2 else way.sign()
    length, stepped = away / step**0.5, torch.zeros(len(rows), dtype=torch.bool, device=x.device)
    trial = here.clone()
    for _ in range(30):
        todo = (~stepped & labels.open(rows)).nonzero().squeeze(1)
        if not len(todo):
            break
        points = (here[todo] + per_example(length[todo], here) * way[todo]).clamp_(0, 1)
        hit = labels.met(rows[todo], points)
        trial[todo[hit]], stepped[todo[hit]] = points[hit], True
        length[todo[~hit]] /= 2
    return trial


def _distance(delta: Tensor, norm: str) -> Tensor:
    return l2_norm(delta) if norm == "l2" else delta.flatten(1).abs().amax(1)


def _to_boundary(labels: _Labels, rows: Tensor, x: Tensor, x_adv: Tensor, norm: str) -> Tensor:
    """Points that meet the goal, close to the boundary, on the way from ``x_adv``, which does, to ``x``; by bisection."""
    high = torch.ones(len(x), dtype=x.dtype, device=x.device)
    low, reach, best = torch.zeros_like(high), _distance(x_adv - x, norm), x_adv.clone()
    for _ in range(math.ceil(1.5 * math.log2(x[0].numel())) if len(x) else 0):
        middle = (low + high) / 2
        share = per_example(middle, x)
        if norm == "l2":
            points = x + share * (x_adv - x)
        else:
            points = torch.maximum(torch.minimum(x_adv, x + share * per_example(reach, x)), x - share * per_example(reach, x))
        hit = labels.met(rows, points)
        best[hit], high, low = points[hit], torch.where(hit, middle, high), torch.where(hit, low, middle)
    return best
