"""Gradient ascent within one budget: FGSM, BIM, PGD, MI-FGSM."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Generator, Tensor, nn

from .. import checks
from .contract import attack
from .losses import Goal, Loss, loss_function
from .steps import input_gradient, per_example, project, random_point, steepest_step


@attack
def fgsm(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    *,
    eps: float,
    norm: str = "linf",
    loss: str | Loss = "ce",
    targets: Tensor | None = None,
) -> Tensor:
    """One gradient step of length ``eps``: x + eps sign(gradient), clipped to [0, 1].

    It is taken blindly, so that a larger ``eps`` can do less harm.

    Parameters
    ----------
    norm : "linf", or "l2" for a step along the normalised gradient
    loss : what to make large, a name in ``LOSSES`` or a function

    References
    ----------
    Goodfellow et al. (2015), section 4.

    Examples
    --------
    >>> x, y = torch.tensor([[0.8, 0.3]]), torch.tensor([0])
    >>> fgsm(nn.Identity().eval(), x, y, eps=0.2)  # a network whose logits are its two inputs
    tensor([[0.6000, 0.5000]])
    """
    at = x.clone().requires_grad_()
    gradient = input_gradient(loss_function(loss)(model(at), y, targets), at)
    return steepest_step(x, eps, norm)(x, gradient, eps)


# 15 parameters: what papers on PGD vary, by its usual names; each attack writes the contract's out, for help() and editors.
# Over 60 lines: most are these names and what they mean.
@attack
def pgd(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    *,
    eps: float,
    steps: int = 40,
    step_size: float | None = None,
    norm: str = "linf",
    loss: str | Loss = "ce",
    targets: Tensor | None = None,
    random_start: bool = True,
    restarts: int = 1,
    start: Tensor | None = None,
    momentum: float | None = None,
    active_set: bool = True,
    generator: Generator | None = None,
) -> Tensor:
    """Projected gradient ascent on the loss inside the ball: an adversarial iterate of each example, else the last one.

    More restarts, and a warm ``start``, never leave the defender better off. :func:`apgd` chooses its step itself, and is often
    the stronger of the two at equal steps.

    Parameters
    ----------
    steps, step_size : 1 or more, and their length (2.5 eps / steps), along the gradient's sign or the normalised gradient
    norm : "linf" or "l2"
    loss : what to make large, a name in ``LOSSES`` or a function
    random_start, restarts : whether to begin at uniform points of the ball, and how often, 1 or more; else at ``x``, once
    start : (n, ...), where the first run begins instead, such as the result for a smaller ``eps``
    momentum : decay with which L1-normalised gradients are accumulated (Dong et al. 2018, equation 6), or None
    active_set : an example leaves the batch at its first adversarial iterate; else every step runs, and the last of them counts
    generator : source of the random points

    References
    ----------
    Madry et al. (2018), section 2.1.

    Examples
    --------
    >>> x, y = torch.tensor([[0.8, 0.3]]), torch.tensor([0])
    >>> net = nn.Identity().eval()  # its logits are the two inputs, so that they must meet: eps = 0.25
    >>> [int(net(pgd(net, x, y, eps=eps)).argmax()) for eps in (0.24, 0.26)]
    [0, 1]
    """
    if not random_start and restarts > 1 + (start is not None):
        raise ValueError(f"restarts is {restarts}; without a random start runs from x are all the same: leave it out")
    step_size = 2.5 * eps / steps if step_size is None else step_size
    ascent, goal = Ascent(eps, norm, loss_function(loss), steps, step_size, momentum, active_set), Goal(y, targets)
    climb, where = functools.partial(_ascend, model, ascent=ascent), {"random_start": random_start, "start": start}
    return in_restarts(climb, x, goal, eps=eps, norm=norm, restarts=restarts, generator=generator, **where)[0]


def in_restarts(
    climb: Callable[[Tensor, Goal, Tensor], tuple[Tensor, Tensor]],
    x: Tensor,
    goal: Goal,
    *,
    eps: float,
    norm: str,
    restarts: int,
    generator: Generator | None,
    start: Tensor | None,
    random_start: bool = True,
) -> tuple[Tensor, Tensor]:
    """``climb(x, goal, begin)`` from several points, of what stands yet: the points (n, ...), and which met the goal, (n,)."""
    result, todo = x.clone(), torch.arange(len(x), device=x.device)  # todo: examples not yet broken
    for restart in range(restarts):
        if restart == 0 and start is not None:
            begin = project(start.detach().to(x), x, eps, norm)
        else:
            begin = random_point(x[todo], eps, norm, generator) if random_start else x[todo]
        result[todo], broken = climb(x[todo], goal[todo], begin)
        todo = todo[~broken]
        if not len(todo):
            break
    return result, ~torch.isin(torch.arange(len(x), device=x.device), todo)


@dataclass(frozen=True)
class Ascent:
    """How PGD climbs."""

    eps: float
    norm: str
    loss: Loss
    steps: int
    step_size: float
    momentum: float | None
    active_set: bool


# Plainly, without momentum and the bookkeeping of examples that are finished:
#     for _ in range(steps):
#         x_adv = project(x_adv + step_size * gradient(x_adv).sign(), x, eps, "linf")
# and of each example the first x_adv that meets the goal, or the last.
def _ascend(model: nn.Module, x: Tensor, goal: Goal, x_adv: Tensor, ascent: Ascent) -> tuple[Tensor, Tensor]:
    """One run from ``x_adv`` (n, ...): the points to return, (n, ...), and which met the goal, (n,) bool."""
    result = x_adv.clone()
    broken = torch.zeros(len(x), dtype=torch.bool, device=x.device)
    index = torch.arange(len(x), device=x.device)  # rows of the batch that are still worked on
    step = steepest_step(x, ascent.eps, ascent.norm)
    velocity = torch.zeros_like(x)
    for _ in range(ascent.steps):
        at = x_adv.detach().requires_grad_()
        logits = model(at)
        hit = goal.met(logits.detach())
        gradient = input_gradient(ascent.loss(logits, goal.y, goal.targets), at)
        x_adv = at.detach()
        if hit.any():
            result[index[hit]] = x_adv[hit]
            broken[index[hit]] = True
        if ascent.active_set and hit.all():
            return result, broken
        if ascent.active_set and hit.any():
            stay = ~hit
            x, goal, x_adv, index = x[stay], goal[stay], x_adv[stay], index[stay]
            gradient, velocity = gradient[stay], velocity[stay]
            step = steepest_step(x, ascent.eps, ascent.norm)
        if ascent.momentum is not None:
            mean = gradient.abs().flatten(1).mean(1).clamp_min(1e-30)
            gradient = velocity = ascent.momentum * velocity + gradient / per_example(mean, x)
        x_adv = step(x_adv, gradient, ascent.step_size)
    with torch.no_grad():
        hit = goal.met(model(x_adv))
    take = hit | ~broken[index]
    result[index[take]] = x_adv[take]
    broken[index] |= hit
    return result, broken


# 9 parameters: the contract's, and what the paper has.
@attack
def bim(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    *,
    eps: float,
    steps: int = 10,
    step_size: float | None = None,
    loss: str | Loss = "ce",
    targets: Tensor | None = None,
    active_set: bool = True,
) -> Tensor:
    """The basic iterative method: :func:`pgd` in the linf ball, from ``x`` itself.

    Parameters
    ----------
    steps, step_size : 1 or more, and their length (eps / steps)
    loss, active_set : as in :func:`pgd`

    References
    ----------
    Kurakin et al. (2017), section 2.2.

    Examples
    --------
    >>> x, y = torch.tensor([[0.8, 0.3]]), torch.tensor([0])
    >>> bim(nn.Identity().eval(), x, y, eps=0.2, steps=4)  # no random start: steps of 0.05, straight to the corner
    tensor([[0.6000, 0.5000]])
    """
    step_size = eps / steps if step_size is None else step_size
    ascent = Ascent(eps, "linf", loss_function(loss), steps, step_size, None, active_set)
    return _ascend(model, x, Goal(y, targets), x, ascent)[0]


# 9 parameters: the contract's, and what the paper has.
@attack
def mi_fgsm(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    *,
    eps: float,
    steps: int = 10,
    decay: float = 1.0,
    loss: str | Loss = "ce",
    targets: Tensor | None = None,
    active_set: bool = False,
) -> Tensor:
    """Momentum iterative FGSM: :func:`bim` with momentum, made for transfer, so that every step runs unless ``active_set``.

    Parameters
    ----------
    steps : 1 or more, of length eps / steps
    decay : of the gradients of earlier steps, in [0, 1]
    loss, active_set : as in :func:`pgd`

    References
    ----------
    Dong et al. (2018), algorithm 1.

    Examples
    --------
    >>> x, y = torch.tensor([[0.8, 0.3]]), torch.tensor([0])
    >>> mi_fgsm(nn.Identity().eval(), x, y, eps=0.2, targets=1 - y)
    tensor([[0.6000, 0.5000]])
    """
    checks.setting("decay", decay, (lambda v: 0 <= v <= 1, "from 0 to 1"))
    ascent = Ascent(eps, "linf", loss_function(loss), steps, eps / steps, decay, active_set)
    return _ascend(model, x, Goal(y, targets), x, ascent)[0]
