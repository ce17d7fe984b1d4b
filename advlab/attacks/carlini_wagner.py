"""Small perturbations found by optimisation: Carlini and Wagner's attacks in L2, linf and L0, and the L2 one for any goal."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

from .. import checks
from .contract import attack, check_options
from .losses import Goal
from .steps import Adam, by_pixel, input_gradient, per_example


def _to_box(w: Tensor) -> Tensor:
    """The point of [0, 1] that the free variable w (n, ...) stands for: x = (tanh w + 1) / 2, with no bound to keep."""
    return (torch.tanh(w) + 1) / 2


def _from_box(x: Tensor) -> Tensor:
    """The free variable near x (n, ...), drawn in by 1 %: at 0 and 1 it is infinite, and dx / dw = 2 x (1 - x) is 0."""
    return torch.atanh((2 * x - 1) * 0.99)


def _reached(done: Tensor, x: Tensor) -> Tensor:
    """The least distance found at first, (n,): 0 where the goal is met without any change, so that nothing is nearer."""
    return torch.where(done, 0, torch.full((len(x),), math.inf, dtype=x.dtype, device=x.device))


# 9 parameters: the goal in three functions, and what the paper's search has. Most of its lines are words and their example.
@torch.inference_mode(False)
@torch.enable_grad()
def minimal_l2(
    criterion: Callable[[Tensor], Tensor],
    x: Tensor,
    *,
    penalty: Callable[[Tensor], Tensor] | None = None,
    accept: Callable[[Tensor], Tensor] | None = None,
    eps: float = math.inf,
    search_steps: int = 9,
    steps: int = 100,
    learning_rate: float = 0.03,
    initial_c: float = 1.0,
) -> Tensor:
    """The smallest L2 change of ``x`` (n, ...) in [0, 1] that brings ``criterion`` (n, ...) -> (n,) below 0, by descent.

    The scheme of Carlini and Wagner (2017) on any differentiable criterion: Adam on
    ``|x_adv - x|^2 + c relu(criterion)`` in the variable artanh(2 x - 1), with a binary search over c for each example.
    Unlike theirs, the variable and Adam's moments are kept from one c to the next, and x is drawn in by 1 % so that black
    and white pixels can move. ``penalty`` (n, ...) -> (n,) is added to relu(criterion), but the search over c does not look
    at it. ``accept`` (n, ...) -> (n,) bool says which points count, instead of criterion < 0, for the search and for the
    result: an attack on a detector can so ask the detector itself.
    Returns the nearest point found, and ``x`` itself where it counts already, or none within ``eps`` (L2) was found.
    No guarantee.

    Raises TypeError for an x that is no float tensor, ValueError for one outside [0, 1], a setting that is not above 0, or a
    criterion that is of the wrong shape, not finite or without a gradient.

    >>> x = torch.tensor([[0.8, 0.3]])
    >>> nearest = minimal_l2(lambda z: z.sum(1) - 0.7, x, search_steps=6)  # where the two sum to less than 0.7
    >>> round((nearest - x).norm().item(), 2), round(0.4 / math.sqrt(2), 2)
    (0.28, 0.28)
    """
    search = {"search_steps": search_steps, "steps": steps, "learning_rate": learning_rate, "initial_c": initial_c}
    check_options("minimal_l2", {"eps": eps, **search})
    checks.tensors(x=x)
    checks.inputs(x)
    x = x.detach().clone()
    if not len(x) or eps == 0:
        return x
    at = x.clone().requires_grad_()
    gap = criterion(at)
    if gap.shape != (len(x),):
        raise ValueError(f"the criterion gives {tuple(gap.shape)} for {len(x)} examples; it must give ({len(x)},)")
    checks.passes_gradient(gap, at)
    best, best_norm = x.clone(), _reached(gap.detach() < 0 if accept is None else accept(x), x)
    w = _from_box(x)
    adam = Adam(w, learning_rate)
    c = torch.full_like(best_norm, initial_c)
    low, high = torch.zeros_like(c), torch.full_like(c, math.inf)
    for _ in range(search_steps):
        found = torch.zeros(len(x), dtype=torch.bool, device=x.device)
        for _ in range(steps):
            at = w.requires_grad_()
            x_adv = _to_box(at)
            gap = checks.finite(criterion(x_adv), "the criterion")
            squared = (x_adv - x).flatten(1).square().sum(1)
            extra = gap.relu() if penalty is None else gap.relu() + penalty(x_adv)
            gradient = input_gradient(squared + c * extra, at)
            hit = gap.detach() < 0 if accept is None else accept(x_adv.detach())
            distance = squared.detach().sqrt()
            found |= hit
            better = hit & (distance < best_norm) & (distance <= eps)
            best[better], best_norm[better] = x_adv.detach()[better], distance[better]
            w = adam.move(w.detach(), gradient)
        high, low = torch.where(found, c.minimum(high), high), torch.where(found, low, c.maximum(low))
        c = torch.where(high.isinf(), c * 10, (low + high) / 2)
    return best


def _untouched(model: nn.Module, goal: Goal, x: Tensor) -> Tensor:
    """:func:`_reached` for the goal of an attack, with its confidence."""
    with torch.no_grad():
        return _reached(goal.gap(model(x)) < 0, x)


# 10 parameters, as of minimal_l2. Every attack writes the contract's out, for help() and editors: so they look alike.
@attack
def cw_l2(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    *,
    eps: float = math.inf,
    confidence: float = 0.0,
    search_steps: int = 9,
    steps: int = 100,
    learning_rate: float = 0.03,
    initial_c: float = 1.0,
    targets: Tensor | None = None,
) -> Tensor:
    """Carlini and Wagner in L2: :func:`minimal_l2` on the margin of the logits. Returns ``x`` where it finds nothing.

    Parameters
    ----------
    confidence : kappa, the margin by which the wrong class must lead, 0 or more
    search_steps, initial_c : of the binary search over c for each example, and where it begins
    steps, learning_rate : of Adam, for each c

    References
    ----------
    Carlini and Wagner (2017), section V-A, and equation 7 for the margin.

    Examples
    --------
    >>> x, y = torch.tensor([[0.8, 0.3]]), torch.tensor([0])
    >>> x_adv = cw_l2(nn.Identity().eval(), x, y, confidence=0.2, search_steps=6)
    >>> round((x_adv - x).norm().item(), 2), round(0.7 / math.sqrt(2), 2)  # a margin of 0.5, and the confidence, to overcome
    (0.5, 0.49)
    """
    goal = Goal(y, targets, confidence)
    search = {"search_steps": search_steps, "steps": steps, "learning_rate": learning_rate, "initial_c": initial_c}
    return minimal_l2(lambda x_adv: goal.gap(model(x_adv)), x, eps=eps, **search)


# 12 parameters: the contract's, and what the paper's search has. A page of documentation, and the loop in one piece.
@attack
def cw_linf(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    *,
    eps: float = math.inf,
    confidence: float = 0.0,
    steps: int = 1000,
    patience: int = 50,
    learning_rate: float = 0.01,
    initial_c: float = 0.1,
    largest_c: float = 100.0,
    shrink: float = 0.9,
    targets: Tensor | None = None,
) -> Tensor:
    """Carlini and Wagner in linf: the largest change is pressed under a falling threshold tau, each example's own.

    Adam on ``sum relu(|x_adv - x| - tau) + c relu(confidence - margin)``, with tau at 1 first. Returns the point of the
    smallest largest change; ``x`` where none within ``eps`` was found.

    Parameters
    ----------
    confidence : the margin by which the wrong class must lead, 0 or more
    steps, learning_rate : of Adam, in all
    patience : steps without a success under tau after which c is doubled
    initial_c, largest_c : where c begins, and where an example leaves the batch
    shrink : what tau falls to at a success, times the largest change, in (0, 1)

    References
    ----------
    Carlini and Wagner (2017), section VI-C.

    Examples
    --------
    >>> x, y = torch.tensor([[0.8, 0.3]]), torch.tensor([0])
    >>> round((cw_linf(nn.Identity().eval(), x, y) - x).abs().max().item(), 2)  # both move by half of their difference
    0.25
    """
    goal, index, w = Goal(y, targets, confidence), torch.arange(len(x), device=x.device), _from_box(x)
    best, best_norm = x.clone(), _untouched(model, goal, x)
    adam = Adam(w, learning_rate)
    tau, c, waited = torch.ones_like(best_norm), torch.full_like(best_norm, initial_c), torch.zeros_like(best_norm)
    for _ in range(steps):
        at = w.requires_grad_()
        x_adv = _to_box(at)
        gap = goal.gap(model(x_adv))
        change = (x_adv - x).abs()
        over = (change - per_example(tau, change)).relu().flatten(1).sum(1)
        gradient = input_gradient(over + c * gap.relu(), at)
        largest, hit = change.detach().flatten(1).amax(1), gap.detach() < 0
        better = hit & (largest < best_norm[index]) & (largest <= eps)
        best[index[better]], best_norm[index[better]] = x_adv.detach()[better], largest[better]
        met = hit & (largest <= tau)
        tau = torch.where(met, shrink * largest, tau)
        late = ~met & (waited + 1 >= patience)
        waited = torch.where(met | late, 0, waited + 1)
        c = torch.where(late, 2 * c, c)
        w = adam.move(w.detach(), gradient)
        stay = c <= largest_c
        if not stay.any():
            break
        if not stay.all():
            adam.keep(stay)
            goal, (w, x, index, tau, c, waited) = goal[stay], (t[stay] for t in (w, x, index, tau, c, waited))
    return best


# 11 parameters: the contract's, and what the paper's search has. A page of documentation, and the rounds in one piece.
@attack
def cw_l0(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    *,
    eps: float = math.inf,
    confidence: float = 0.0,
    rounds: int = 40,
    steps: int = 40,
    learning_rate: float = 0.1,
    initial_c: float = 1.0,
    drop: float = 0.3,
    targets: Tensor | None = None,
) -> Tensor:
    """Carlini and Wagner in L0: the pixels that matter least are given back, in rounds.

    Each round attacks in L2 with the pixels that may still change, starting where the last one ended. If it succeeds, the
    share ``drop`` of them with the least ``|gradient| |change|`` goes back to the original; if it fails, c is doubled, the
    last set is taken up again and half as many are dropped (before the first success it only goes on). An example leaves
    the batch when it cannot give back a single one. ``eps`` counts pixels: positions, with all their channels.

    Parameters
    ----------
    confidence : the margin by which the wrong class must lead, 0 or more
    rounds, drop : at the most, and the share of pixels that the first gives back, in (0, 1)
    steps, learning_rate, initial_c : of Adam in each round, and where c begins

    References
    ----------
    Carlini and Wagner (2017), section VI-B.

    Examples
    --------
    >>> x, y = torch.tensor([[0.8, 0.3, 0.1, 0.1]]), torch.tensor([0])
    >>> int((cw_l0(nn.Identity().eval(), x, y) != x).sum())  # one value is enough
    1
    """
    goal, index, w = Goal(y, targets, confidence), torch.arange(len(x), device=x.device), _from_box(x)
    best, best_norm = x.clone(), _untouched(model, goal, x)
    free = torch.ones_like(by_pixel(x), dtype=torch.bool)  # (n, pixels) that may change
    good, good_w, worth = free, w, by_pixel(x)  # of the last success
    share, c, number = (torch.full_like(best_norm, value) for value in (drop, initial_c, math.inf))
    for _ in range(rounds):
        near_x, near_w, found, w = _l2_round(model, goal, x, w, free, c, steps, learning_rate)
        at = near_x.clone().requires_grad_()
        slope = input_gradient(goal.margin(model(at)), at)
        pixels = by_pixel(near_x - x).gt(0).sum(1).to(best_norm)
        better = found & (pixels < best_norm[index]) & (pixels <= eps)
        best[index[better]], best_norm[index[better]] = near_x[better], pixels[better]
        ever, stay = number.isfinite() | found, found | (number > 1)
        good = torch.where(found[:, None], free, good)
        w = good_w = torch.where(per_example(found, w), near_w, torch.where(per_example(ever, w), good_w, w))
        worth = torch.where(found[:, None], by_pixel(slope * (near_x - x)), worth)
        share, c = torch.where(found | ~ever, share, share / 2), torch.where(found, c, 2 * c)
        number = torch.where(ever, (share * good.sum(1)).floor().clamp_min(1), math.inf)
        rank = worth.masked_fill(~good, math.inf).argsort(1).argsort(1)
        free = good & (rank >= torch.where(ever, number, 0)[:, None])
        stay &= free.any(1)
        if not stay.any():
            break
        goal, (x, index, w, free, good, good_w) = goal[stay], (t[stay] for t in (x, index, w, free, good, good_w))
        worth, share, c, number = (t[stay] for t in (worth, share, c, number))
    return best


def _l2_round(
    model: nn.Module, goal: Goal, x: Tensor, w: Tensor, free: Tensor, c: Tensor, steps: int, learning_rate: float
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Adam on ``|x_adv - x|^2 + c relu(gap)`` over the ``free`` pixels: the nearest success, its w, if there is one; last w."""
    mask, adam = free.view(len(w), 1, *w.shape[2:]) if w.ndim > 2 else free, Adam(w, learning_rate)
    near, near_w, near_x = torch.full_like(c, math.inf), w, x.clone()
    for _ in range(steps):
        at = w.requires_grad_()
        x_adv = torch.where(mask, _to_box(at), x)
        gap = goal.gap(model(x_adv))
        squared = (x_adv - x).flatten(1).square().sum(1)
        gradient = input_gradient(squared + c * gap.relu(), at)
        w = w.detach()
        nearer = (gap.detach() < 0) & (squared.detach() < near)
        near = torch.where(nearer, squared.detach(), near)
        near_w = torch.where(per_example(nearer, w), w, near_w)
        near_x = torch.where(per_example(nearer, w), x_adv.detach(), near_x)
        w = adam.move(w, gradient)
    return near_x, near_w, near.isfinite(), w
