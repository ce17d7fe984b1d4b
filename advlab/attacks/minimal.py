"""Small perturbations found by walking to the border: DDN, DeepFool, and JSMA, which changes few pixels."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from .contract import attack
from .losses import Goal, ce_loss
from .steps import by_pixel, input_gradient, l2_norm, per_example, unit


# Every attack writes the contract's parameters out, for help() and editors: so they look alike.
@attack
def ddn(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    *,
    eps: float = math.inf,
    steps: int = 100,
    gamma: float = 0.05,
    initial_norm: float = 1.0,
    targets: Tensor | None = None,
) -> Tensor:
    """Decoupled direction and norm: a small L2 perturbation, found in ``steps`` gradients.

    The perturbation's norm shrinks while the goal is met and grows while it is not; its direction follows the gradient of
    cross entropy with a cosine-decayed step. Returns the nearest adversarial iterate of each example, and ``x`` itself where
    none within ``eps`` was found: an upper bound of the smallest distance.

    Parameters
    ----------
    steps : gradients, 1 or more
    gamma : by which share the norm changes in a step, in (0, 1)
    initial_norm : L2 norm of the first perturbation

    References
    ----------
    Rony et al. (2019), algorithm 1.

    Examples
    --------
    >>> x, y = torch.tensor([[0.8, 0.3]]), torch.tensor([0])
    >>> round((ddn(nn.Identity().eval(), x, y) - x).norm().item(), 2)  # the nearest error is 0.5 / sqrt(2) away
    0.35
    """
    goal, best, best_norm = Goal(y, targets), x.clone(), torch.full((len(x),), math.inf, dtype=x.dtype, device=x.device)
    norm = torch.full_like(best_norm, initial_norm)
    x_adv = x.clone()
    for step in range(steps + 1):
        at = x_adv.requires_grad_()
        logits = model(at)
        hit, distance = goal.met(logits.detach()), l2_norm(x_adv.detach() - x)
        better = hit & (distance < best_norm) & (distance <= eps)
        best[better], best_norm[better] = x_adv.detach()[better], distance[better]
        if step == steps:
            break
        gradient = input_gradient(ce_loss(logits, y, targets), at)
        length = 0.01 + 0.99 * (1 + math.cos(math.pi * step / steps)) / 2
        # Direction and norm are decoupled: the gradient step turns delta, whatever its length then is; that is set to norm,
        # which shrinks by gamma where the goal is met and grows by it elsewhere, so that it settles at the border.
        delta = x_adv.detach() - x + length * unit(gradient)
        norm = norm * torch.where(hit, 1 - gamma, 1 + gamma)
        x_adv = (x + unit(delta) * per_example(norm, x)).clamp_(0, 1)
    return best


@attack
def deepfool(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    *,
    eps: float = math.inf,
    overshoot: float = 0.02,
    steps: int = 50,
    classes: int = 10,
) -> Tensor:
    """DeepFool in L2: to the nearest border of the linearised network, again and again, until it is crossed.

    An example leaves the batch at its first wrong answer; ``x`` is returned where none within ``eps`` was found. It stops just
    past the border it meets, which need not be the nearest.

    Parameters
    ----------
    overshoot : the sum of the steps, times 1 + overshoot, is added to ``x``; 0 or more
    steps : 1 or more
    classes : how many compete, 2 or more: the true one and the likeliest others at ``x``, as in the authors' code

    References
    ----------
    Moosavi-Dezfooli et al. (2016), algorithm 2.

    Examples
    --------
    >>> x, y = torch.tensor([[0.8, 0.3]]), torch.tensor([0])
    >>> x_adv = deepfool(nn.Identity().eval(), x, y, overshoot=0.02)
    >>> round((x_adv - x).norm().item(), 4), round(1.02 * 0.5 / math.sqrt(2), 4)  # exact, as the network is linear
    (0.3607, 0.3606)
    """
    result = x.clone()
    index, base, total, x_adv = torch.arange(len(x), device=x.device), x, torch.zeros_like(x), x
    others = None  # (n, classes - 1), those that compete with y
    for step in range(steps + 1):
        at = x_adv.detach().requires_grad_()
        with torch.set_grad_enabled(step < steps):
            logits = model(at)
        hit = logits.detach().argmax(1) != y
        if hit.any():
            near = hit & (l2_norm(x_adv - base) <= eps)
            result[index[near]] = x_adv[near]
        if step == steps or hit.all():
            break
        others = _rivals(logits.detach(), y, classes) if others is None else others
        move = _to_nearest_border(logits, y, others, at)
        stay = ~hit
        base, y, others, index, total = base[stay], y[stay], others[stay], index[stay], (total + move)[stay]
        x_adv = (base + (1 + overshoot) * total).clamp(0, 1)
    return result


def _rivals(logits: Tensor, y: Tensor, classes: int) -> Tensor:
    """The ``classes`` - 1 likeliest classes but ``y``, (n, classes - 1); if there are no more, all, in turn from ``y`` on."""
    k = logits.shape[1]
    if k <= classes:
        return (y[:, None] + torch.arange(1, k, device=y.device)) % k
    return logits.scatter(1, y[:, None], -math.inf).topk(classes - 1, dim=1).indices


def _to_nearest_border(logits: Tensor, y: Tensor, others: Tensor, at: Tensor) -> Tensor:
    """The shortest step to where one of ``others`` reaches the logit of ``y``, if the network were linear around ``at``."""
    own = logits.gather(1, y[:, None])
    best, move = torch.full_like(own[:, 0], math.inf), torch.zeros_like(at)
    # Linearly, the difference of two logits after a step r is f + slope . r. It is 0 first on the way along the slope, at
    # r = |f| slope / |slope|^2 (f < 0), of length |f| / |slope|.
    for rank, other in enumerate(others.unbind(1), 1):
        difference = (logits.gather(1, other[:, None]) - own)[:, 0]
        (slope,) = torch.autograd.grad(difference.sum(), at, retain_graph=rank < others.shape[1])
        norm = l2_norm(slope).clamp_min(1e-12)
        distance = difference.detach().abs() / norm
        nearer = distance < best
        best = torch.where(nearer, distance, best)
        length = (distance + 1e-4) / norm  # a little further, so that rounding cannot stop it at the border
        move = torch.where(per_example(nearer, at), per_example(length, at) * slope, move)
    return move


@attack
def jsma(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    *,
    eps: float = math.inf,
    theta: float = 1.0,
    gamma: float = 0.1,
    targets: Tensor | None = None,
) -> Tensor:
    """The Jacobian-based saliency map attack, exact over all pairs of values.

    Each step adds ``theta`` to the two values, not yet changed, whose product of ``alpha`` (gradient of the target's logit)
    and ``-beta`` (of all others together) is largest. Without ``targets`` the likeliest wrong class is the target, and
    ``eps`` counts changed pixels (positions). An example that misses its target is returned as it was last.

    Parameters
    ----------
    theta : change of a value, in [-1, 1] and not 0
    gamma : share of all values that may change, in (0, 1] and enough for two of them

    References
    ----------
    Papernot et al. (2016), algorithm 3.

    Examples
    --------
    >>> net = nn.Linear(4, 2, bias=False).eval()
    >>> _ = net.weight.data.copy_(torch.tensor([[1.0, 1, -1, -1], [-1, -1, 1, 1]]))
    >>> x, y = torch.tensor([[0.8, 0.3, 0.0, 0.0]]), torch.tensor([0])
    >>> jsma(net, x, y, gamma=0.5)  # the pair that helps class 1 most is set to 1
    tensor([[0.8000, 0.3000, 1.0000, 1.0000]])
    """
    values = x[0].numel()
    if not (pairs := int(gamma * values / 2)):
        raise ValueError(f"gamma is {gamma}; it must let two of the {values} values change: give more than 2/{values}")
    with torch.no_grad():
        goal = model(x).scatter(1, y[:, None], -math.inf).argmax(1) if targets is None else targets
    result = x.clone()
    index, x_adv, base = torch.arange(len(x), device=x.device), x, x
    free = (x < 1 if theta > 0 else x > 0).flatten(1)
    for _ in range(pairs):
        at = x_adv.detach().requires_grad_()
        logits = model(at)
        (alpha,) = torch.autograd.grad(logits.gather(1, goal[:, None]).sum(), at, retain_graph=True)
        (both,) = torch.autograd.grad(logits.sum(), at)
        first, second, found = best_pair(alpha.flatten(1), (both - alpha).flatten(1), free, math.copysign(1, theta))
        moved = x_adv.flatten(1).clone()
        for pixel in (first, second):
            moved.scatter_(1, pixel[:, None], (moved.gather(1, pixel[:, None]) + theta).clamp(0, 1))
            free = free.scatter(1, pixel[:, None], False)
        moved = moved.view_as(x_adv)
        stay = found & (logits.argmax(1) != goal) & (by_pixel(moved - base).gt(0).sum(1) <= eps)
        result[index[stay]] = moved[stay]
        if not stay.any():
            break
        x_adv, base, goal, index, free = moved[stay], base[stay], goal[stay], index[stay], free[stay]
    return result


# Plainly: try all pairs of an example, 306,936 of 784 values, as the test does.
def best_pair(alpha: Tensor, beta: Tensor, free: Tensor, sign: float) -> tuple[Tensor, Tensor, Tensor]:
    """The pair p < q of ``free`` values with the largest ``-(alpha_p + alpha_q) (beta_p + beta_q)``, and if there is one.

    Only pairs with ``sign (alpha_p + alpha_q) > 0 > sign (beta_p + beta_q)`` count. All arguments are (n, values). Exact:
    a value that two others beat in both alpha and -beta cannot be in the best pair, so few remain to be paired.
    """
    a, b = (sign * alpha).masked_fill(~free, -math.inf), (-sign * beta).masked_fill(~free, -math.inf)
    order = a.argsort(dim=1, descending=True, stable=True)
    ranked = b.gather(1, order)
    highest = ranked.cummax(1).values
    before = torch.cat([torch.full_like(highest[:, :1], -math.inf), highest[:, :-1]], 1)
    second = torch.minimum(ranked, before).cummax(1).values  # the second highest so far, of those with larger alpha too
    kept = (ranked >= second) & ranked.isfinite()
    width = max(2, int(kept.sum(1).max()))
    columns = (~kept).to(torch.uint8).argsort(dim=1, stable=True)[:, :width]
    chosen = order.gather(1, columns).where(kept.gather(1, columns), order.shape[1]).sort(1).values  # in reading order
    chosen = chosen.clamp_max(order.shape[1] - 1)
    real = kept.gather(1, columns).sum(1)[:, None] > torch.arange(width, device=a.device)
    a, b = (t.gather(1, chosen).masked_fill(~real, -math.inf) for t in (a, b))
    up, down = a[:, :, None] + a[:, None, :], b[:, :, None] + b[:, None, :]
    allowed = torch.triu(torch.ones(width, width, dtype=torch.bool, device=a.device), 1) & (up > 0) & (down > 0)
    value, place = torch.where(allowed, up * down, -math.inf).flatten(1).max(1)
    return chosen.gather(1, place[:, None] // width)[:, 0], chosen.gather(1, place[:, None] % width)[:, 0], value > 0
