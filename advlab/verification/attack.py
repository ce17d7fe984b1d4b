"""Attacks that the verifier tries before it searches. No guarantee: what they find is replayed, what they miss says nothing."""

from __future__ import annotations

import time

import torch
from torch import Tensor, nn

from ..attacks import pgd

RESTARTS, STEPS, ROUNDS = 24, 30, 6


def attack_ball(net: nn.Module, x: Tensor, y: int, eps: float) -> Tensor:
    """What PGD finds around one input, (1, inputs) in float64."""
    dtype, generator = next((p.dtype for p in net.parameters()), x.dtype), torch.Generator(x.device).manual_seed(0)
    label = torch.tensor([y], device=x.device)
    x_adv = pgd(net, x[None].detach().to(dtype), label, eps=eps, steps=40, loss="margin", generator=generator)
    return x_adv.double().flatten(1).cpu()


def attack_box(net: nn.Module, box: tuple[Tensor, Tensor], rows: Tensor, const: Tensor, seconds: float) -> Tensor:
    """Points of a box where one of rows @ logits + const is small, (n, inputs) in float64, the smallest first.

    Signed steps from corners and random points, towards the rows that are least in the middle; in rounds, until a point is
    below 0 or the CPU ``seconds`` of this thread are over. ``net`` is in float64, ``box`` two Tensors of one input's shape.
    """
    deadline = time.thread_time() + seconds
    place = next((p for p in net.parameters()), box[0])
    low, high, rows, const = (t.to(place.device, torch.float64) for t in (*box, rows, const))
    generator = torch.Generator(place.device).manual_seed(0)
    radius, found, least = (high - low) / 2, list[Tensor](), list[Tensor]()
    with torch.no_grad():
        order = (net(((low + high) / 2)[None]).flatten(1) @ rows.T + const)[0].argsort()
    aims = order[: max(1, RESTARTS // 2)].repeat(RESTARTS)[:RESTARTS]
    for turn in range(ROUNDS):
        start = torch.rand(RESTARTS, *low.shape, generator=generator, dtype=low.dtype, device=low.device)
        start[::2] = start[::2].round()  # corners
        x = low + (high - low) * start
        if not turn:
            x[0] = (low + high) / 2
        best, value = x, torch.full((len(x),), torch.inf, dtype=x.dtype, device=x.device)
        for step in range(STEPS + 1):
            x = x.detach().requires_grad_()
            with torch.enable_grad():
                margins = net(x).flatten(1) @ rows.T + const
                aimed = margins[torch.arange(len(x), device=x.device), aims].sum()
            now = margins.detach().amin(1)
            best = torch.where((now < value).view(-1, *[1] * low.ndim), x.detach(), best)
            value = torch.minimum(now, value)
            if step == STEPS or bool((value < 0).any()) or time.thread_time() > deadline:
                break
            (slope,) = torch.autograd.grad(aimed, x)
            x = torch.minimum(torch.maximum(x.detach() - radius * 0.5 * 0.9**step * slope.sign(), low), high)
        found, least = [*found, best], [*least, value]
        if bool((value < 0).any()) or time.thread_time() > deadline:
            break
    nearest = torch.cat(least).argsort()
    return torch.cat(found)[nearest].double().flatten(1).cpu()
