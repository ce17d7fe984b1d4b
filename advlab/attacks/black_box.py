"""Attacks that see only scores (Square) or only labels (HopSkipJump)."""

from __future__ import annotations

import math

import torch
from torch import Generator, Tensor, nn

from .losses import _hit, margin_loss
from .steps import _begin, _l2, _per_example, _random, _unit


@torch.inference_mode(False)
@torch.no_grad()
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
    """The Square attack in the linf ball (Andriushchenko et al. 2020): random squares, no gradient, images (n, c, h, w) only.

    A black box beside the gradient attacks: where it does better, a defence hides its gradients. ``share`` is the share of
    pixels changed at first. An example leaves the batch once its goal is met. No guarantee.

    >>> x, y = torch.tensor([[[[0.8, 0.5], [0.1, 0.1]]]]), torch.tensor([0])
    >>> net = nn.Flatten().eval()  # its four logits are the pixels
    >>> x_adv = square(net, x, y, eps=0.2, generator=torch.Generator().manual_seed(0))
    >>> net(x).argmax().item(), net(x_adv).argmax().item()
    (0, 1)
    """
    x, y, targets = _begin(model, x, y, eps, targets)
    if x.ndim != 4:
        raise ValueError(f"x has the shape {tuple(x.shape)}; the Square attack needs images (n, c, h, w)")
    if not len(x) or eps == 0:
        return x
    n, c, h, w = x.shape
    stripes = _random((n, c, 1, w), x, generator).sub_(0.5).sign_()
    x_adv = (x + eps * stripes).clamp_(0, 1)
    value = margin_loss(model(x_adv), y, targets)
    for query in range(1, queries):
        todo = (value <= 0).nonzero().squeeze(1)
        if not len(todo):
            break
        side = min(h, w, max(1, round(math.sqrt(share * _square_schedule(query, queries) * h * w))))
        corner = _random((len(todo), 2), x, generator)
        top, left = (corner[:, 0] * (h - side + 1)).long(), (corner[:, 1] * (w - side + 1)).long()
        row, column = torch.arange(h, device=x.device), torch.arange(w, device=x.device)
        inside = ((row >= top[:, None]) & (row < top[:, None] + side))[:, None, :, None]
        inside = inside & ((column >= left[:, None]) & (column < left[:, None] + side))[:, None, None, :]  # (m, 1, h, w)
        sign = _random((len(todo), c, 1, 1), x, generator).sub_(0.5).sign_()
        trial = torch.where(inside, (x[todo] + eps * sign).clamp_(0, 1), x_adv[todo])
        new = margin_loss(model(trial), y[todo], None if targets is None else targets[todo])
        better = new > value[todo]
        x_adv[todo[better]], value[todo[better]] = trial[better], new[better]
    return x_adv


def _square_schedule(query: int, queries: int) -> float:
    """The share of pixels halves at these points of a budget of 10,000 queries (section 3.2 of the paper), rescaled."""
    passed = sum(query * 10_000 > at * queries for at in (10, 50, 200, 500, 1000, 2000, 4000, 6000, 8000))
    return 0.5**passed


class _Labels:
    """A model that shows no more than whether the goal is met, for at most so many questions about each example."""

    def __init__(self, model: nn.Module, y: Tensor, targets: Tensor | None, queries: int) -> None:
        self.model, self.y, self.targets, self.left = model, y, targets, torch.full((len(y),), queries)

    def met(self, rows: Tensor, points: Tensor) -> Tensor:
        """(m,) bool, for one point of each example of ``rows``; False, unasked, where no question is left."""
        found = torch.zeros(len(rows), dtype=torch.bool, device=points.device)
        asked = (self.left[rows.cpu()] > 0).nonzero().squeeze(1)
        self.left[rows.cpu()[asked]] -= 1
        if len(asked):
            at = rows[asked]
            goal = None if self.targets is None else self.targets[at]
            found[asked] = _hit(self.model(points[asked]), self.y[at], goal)
        return found

    def met_around(self, row: int, points: Tensor) -> Tensor:
        """(b,) bool for many points of one example, no more than there are questions left."""
        points = points[: int(self.left[row])]
        self.left[row] -= len(points)
        y = self.y[row].expand(len(points))
        return _hit(self.model(points), y, None if self.targets is None else self.targets[row].expand(len(points)))


@torch.no_grad()
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
    """HopSkipJump (Chen, Jordan and Wainwright 2020): a small perturbation found from the predicted labels alone.

    From an image that meets the goal (``start``, else noise) each example is led to the boundary by bisection; there, the share
    of random neighbours that meet the goal estimates the gradient's direction (``batch`` of them at first, more in later
    rounds), and a step along it is led back to the boundary. At most ``queries`` images are shown to the model for each
    example. Returns the nearest image found of each, and ``x`` itself where none within ``eps`` was found.
    No guarantee: the distance is an upper bound of the smallest.

    >>> x, y = torch.tensor([[0.8, 0.3]]), torch.tensor([0])
    >>> x_adv = hop_skip_jump(nn.Identity().eval(), x, y, norm="l2", generator=torch.Generator().manual_seed(0))
    >>> (x_adv - x).norm().item() < 0.4  # the nearest error is 0.5 / sqrt(2) away, and labels alone lead there
    True
    """
    x, y, targets = _begin(model, x, y, eps, targets, norm)
    if queries < 1 or batch < 1:
        raise ValueError(f"queries is {queries} and batch {batch}; both must be at least 1")
    if start is not None and start.shape != x.shape:
        raise ValueError(f"start has the shape {tuple(start.shape)}; it must be that of x, {tuple(x.shape)}")
    if not len(x) or eps == 0:
        return x
    labels, size = _Labels(model, y, targets, queries), x[0].numel()
    everywhere = torch.arange(len(x), device=x.device)
    best = x.clone() if start is None else start.clone().clamp(0, 1).to(x)
    done = labels.met(everywhere, x)  # the goal is met without any change
    found = done.clone() if start is None else labels.met(everywhere, best) | done
    for _ in range(0 if start is not None else 100):
        todo = (~found).nonzero().squeeze(1)
        noise = _random((len(todo), *x.shape[1:]), x, generator)
        hit = labels.met(todo, noise)
        best[todo[hit]], found[todo[hit]] = noise[hit], True
    best[done] = x[done]
    active = (found & ~done).nonzero().squeeze(1)
    best[active] = _to_boundary(labels, active, x[active], best[active], norm)
    at = best.clone()
    for step in range(1, queries):
        active = active[labels.left[active.cpu()] > 0]
        if not len(active):
            break
        here, away = at[active], _distance(at[active] - x[active], norm)
        width = torch.full_like(away, 0.1) if step == 1 else (away / size).clamp_min(1e-6)
        way = torch.zeros_like(here)
        for k, row in enumerate(active.tolist()):
            noise = _random(
                (math.ceil(batch * step**0.5), *x.shape[1:]), x, generator, torch.randn if norm == "l2" else torch.rand
            )
            near = (here[k] + width[k] * _unit(noise if norm == "l2" else 2 * noise - 1)).clamp_(0, 1)
            sign = 2 * labels.met_around(row, near).to(x) - 1
            moves = near[: len(sign)] - here[k]
            weight = sign if sign.mean().abs() == 1 else sign - sign.mean()
            way[k] = (moves * _per_example(weight, moves)).sum(0)
        way = _unit(way) if norm == "l2" else way.sign()
        length, stepped = away / step**0.5, torch.zeros(len(active), dtype=torch.bool, device=x.device)
        trial = here.clone()
        for _ in range(30):
            todo = (~stepped & (labels.left[active.cpu()].to(x.device) > 0)).nonzero().squeeze(1)
            if not len(todo):
                break
            points = (here[todo] + _per_example(length[todo], here) * way[todo]).clamp_(0, 1)
            hit = labels.met(active[todo], points)
            trial[todo[hit]], stepped[todo[hit]] = points[hit], True
            length[todo[~hit]] /= 2
        at[active] = _to_boundary(labels, active, x[active], trial, norm)
        nearer = _distance(at[active] - x[active], norm) < _distance(best[active] - x[active], norm)
        best[active[nearer]] = at[active[nearer]]
    outside = ~found | (_distance(best - x, norm) > eps)
    return torch.where(_per_example(outside, x), x, best)


def _distance(delta: Tensor, norm: str) -> Tensor:
    return _l2(delta) if norm == "l2" else delta.flatten(1).abs().amax(1)


def _to_boundary(labels: _Labels, rows: Tensor, x: Tensor, x_adv: Tensor, norm: str) -> Tensor:
    """Points that meet the goal, close to the boundary, on the way from ``x_adv``, which does, to ``x``; by bisection."""
    high = torch.ones(len(x), dtype=x.dtype, device=x.device)
    low, reach, best = torch.zeros_like(high), _distance(x_adv - x, norm), x_adv.clone()
    for _ in range(math.ceil(1.5 * math.log2(x[0].numel())) if len(x) else 0):
        middle = (low + high) / 2
        share = _per_example(middle, x)
        if norm == "l2":
            points = x + share * (x_adv - x)
        else:
            points = torch.maximum(torch.minimum(x_adv, x + share * _per_example(reach, x)), x - share * _per_example(reach, x))
        hit = labels.met(rows, points)
        best[hit], high, low = points[hit], torch.where(hit, middle, high), torch.where(hit, low, middle)
    return best
