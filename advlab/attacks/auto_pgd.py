"""Auto-PGD: gradient ascent within one budget that chooses its own steps."""

from __future__ import annotations

import functools
import math

import torch
from torch import Generator, Tensor, nn

from .contract import attack
from .gradient import in_restarts
from .losses import Goal, Loss, dlr_loss, loss_function, margin_loss
from .steps import input_gradient, per_example, project, unit


# 11 parameters: the contract's, and what the paper has.
@attack
def apgd(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    *,
    eps: float,
    steps: int = 100,
    norm: str = "linf",
    loss: str | Loss = "ce",
    targets: Tensor | None = None,
    restarts: int = 1,
    start: Tensor | None = None,
    generator: Generator | None = None,
) -> Tensor:
    """Auto-PGD: ascent with momentum, whose step of 2 eps is halved wherever the loss no longer grows.

    The step needs no tuning; a halving goes back to the best point so far. Returns the first adversarial iterate of each
    example, else that of the largest loss. With ``loss="targeted"`` the nine likeliest wrong classes are aimed at in turn.

    Parameters
    ----------
    steps : gradients after the first, 1 or more, for each restart and each class that is aimed at
    norm : "linf" or "l2"
    loss : what to make large, a name in ``LOSSES`` or a function; or "targeted", the DLR loss for one wrong class after the
        other (the margin where there are fewer than four classes)
    restarts : how often to begin at uniform points of the ball, 1 or more
    start : (n, ...), where the first run begins instead
    generator : source of the random points

    References
    ----------
    Croce and Hein (2020), algorithm 1, and equation 7 for the targeted loss.

    Examples
    --------
    >>> x, y = torch.tensor([[0.8, 0.3]]), torch.tensor([0])
    >>> net = nn.Identity().eval()  # its logits are the two inputs, so that they must meet: eps = 0.25
    >>> [int(net(apgd(net, x, y, eps=eps)).argmax()) for eps in (0.24, 0.26)]
    [0, 1]
    """
    goal, where = Goal(y, targets), {"eps": eps, "norm": norm, "restarts": restarts, "generator": generator}
    climb = functools.partial(_climb, model, eps=eps, norm=norm, steps=steps)
    if loss != "targeted" or targets is not None:
        climb = functools.partial(climb, loss=dlr_loss if loss == "targeted" else loss_function(loss))
        return in_restarts(climb, x, goal, start=start, **where)[0]
    with torch.no_grad():
        logits = model(x)
    climb = functools.partial(climb, loss=dlr_loss if logits.shape[1] > 3 else margin_loss)
    result, left = x.clone(), torch.arange(len(x), device=x.device)
    for rival in (
        logits.scatter(1, y[:, None], -math.inf).argsort(1, descending=True)[:, : min(9, logits.shape[1] - 1)].unbind(1)
    ):
        goal = Goal(y[left], None, rival=rival[left])
        result[left], broken = in_restarts(climb, x[left], goal, start=None if start is None else start[left], **where)
        left = left[~broken]
    return result


class _State:
    """What Auto-PGD knows of the examples (n, ...) still in its batch; each attribute has a row for each of them."""

    def __init__(self, x: Tensor, x_adv: Tensor, step: float) -> None:
        self.index = torch.arange(len(x), device=x.device)
        self.x, self.x_adv, self.before, self.best = x, x_adv, x_adv, x_adv  # now, one step ago, and where the loss was largest
        self.gradient = self.best_gradient = torch.zeros_like(x)
        self.value = self.best_value = self.checked_value = torch.full((len(x),), -math.inf, dtype=x.dtype, device=x.device)
        self.step, self.ups = torch.full_like(self.value, step), torch.zeros_like(self.value)
        self.halved = torch.ones_like(self.index, dtype=torch.bool)

    def keep(self, rows: Tensor) -> None:
        for name, value in vars(self).items():
            setattr(self, name, value[rows])


# Plainly, without the bookkeeping of examples that are finished:
#     z = project(x_adv + step * gradient.sign(), x, eps, "linf")
#     x_adv, before = project(x_adv + 0.75 * (z - x_adv) + 0.25 * (x_adv - before), x, eps, "linf"), x_adv
# and step is halved at a checkpoint where the loss grew in fewer than 75 % of the steps since the last, or its largest value
# did not and step was not halved there.
def _climb(
    model: nn.Module, x: Tensor, goal: Goal, x_adv: Tensor, *, eps: float, norm: str, steps: int, loss: Loss
) -> tuple[Tensor, Tensor]:
    """One run from ``x_adv`` (n, ...): the points to return, (n, ...), and which met the goal, (n,) bool."""
    result, broken = x_adv.clone(), torch.zeros(len(x), dtype=torch.bool, device=x.device)
    s = _State(x, x_adv, 2 * eps)
    window, checkpoint = max(int(0.22 * steps), 1), 0  # steps between two checkpoints, fewer and fewer; the last one
    for step in range(steps + 1):
        at = s.x_adv.detach().requires_grad_()
        logits = model(at)
        hit, value = goal.met(logits.detach()), loss(logits, goal.y, goal.targets if goal.rival is None else goal.rival)
        if value.shape != (len(at),):
            told = f"the loss gives {tuple(value.shape)} for {len(at)} images"
            raise ValueError(f"{told}; it must give one value for each, ({len(at)},): reduction='none'")
        s.gradient, value, s.x_adv = input_gradient(value, at), value.detach(), at.detach()
        s.ups, s.value = s.ups + (value > s.value), value
        higher = value > s.best_value
        s.best = torch.where(per_example(higher, x), s.x_adv, s.best)
        s.best_gradient = torch.where(per_example(higher, x), s.gradient, s.best_gradient)
        s.best_value = torch.where(higher, value, s.best_value)
        result[s.index], broken[s.index] = torch.where(per_example(hit, x), s.x_adv, s.best), hit
        if hit.all() or step == steps:
            break
        if hit.any():
            s.keep(~hit)
            goal = goal[~hit]
        if step == 0:
            s.checked_value, s.ups = s.best_value, torch.zeros_like(s.ups)
        elif step - checkpoint == window:
            s.halved = (s.ups <= 0.75 * window) | (~s.halved & (s.checked_value >= s.best_value))
            s.step = torch.where(s.halved, s.step / 2, s.step)
            s.x_adv = torch.where(per_example(s.halved, x), s.best, s.x_adv)
            s.gradient = torch.where(per_example(s.halved, x), s.best_gradient, s.gradient)
            s.checked_value, s.ups = s.best_value, torch.zeros_like(s.ups)
            window, checkpoint = max(window - max(int(0.03 * steps), 1), max(int(0.06 * steps), 1)), step
        share = 0.75 if step else 1.0
        way = s.gradient.sign() if norm == "linf" else unit(s.gradient)
        z = project(s.x_adv + per_example(s.step, x) * way, s.x, eps, norm)
        moved = project(s.x_adv + share * (z - s.x_adv) + (1 - share) * (s.x_adv - s.before), s.x, eps, norm)
        s.before, s.x_adv = s.x_adv, moved
    return result, broken
