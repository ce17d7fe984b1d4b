"""Gradient ascent within one budget: FGSM, BIM, PGD, MI-FGSM."""

from __future__ import annotations

import torch
from torch import Generator, Tensor, nn

from .losses import Loss, _hit, _loss
from .steps import _begin, _gradient, _per_example, _project, _random_start, _stepper, _unit


@torch.inference_mode(False)
@torch.enable_grad()
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
    """One gradient step of length ``eps`` (Goodfellow et al. 2015): x + eps sign(gradient), clipped to [0, 1].

    ``norm="l2"`` steps along the normalised gradient. A larger ``eps`` can do less harm: the step is taken blindly.
    No guarantee.

    >>> x, y = torch.tensor([[0.8, 0.3]]), torch.tensor([0])
    >>> fgsm(nn.Identity().eval(), x, y, eps=0.2)  # a network whose logits are its two inputs
    tensor([[0.6000, 0.5000]])
    """
    x, y, targets = _begin(model, x, y, eps, targets, norm)
    if not len(x) or eps == 0:
        return x
    at = x.clone().requires_grad_()
    gradient = _gradient(_loss(loss)(model(at), y, targets), at)
    return _project(x + eps * (gradient.sign() if norm == "linf" else _unit(gradient)), x, eps, norm)


@torch.inference_mode(False)
@torch.enable_grad()
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
    """Projected gradient ascent on the loss inside the ball (Madry et al. 2018), ``norm`` "linf" or "l2".

    Steps of ``step_size`` (default 2.5 eps / steps) along the gradient's sign, or the normalised gradient. Runs
    ``restarts`` times from random points; ``start`` (n, ...) is where the first run begins instead, such as the result
    for a smaller ``eps``. ``momentum`` accumulates L1-normalised gradients with that decay (Dong et al. 2018).

    An example that meets the goal at any iterate is returned so; the others at their last iterate. With ``active_set``
    an example that meets the goal is finished and leaves the batch, so that the return is its first adversarial iterate;
    without it every step runs, and the last iterate is returned where it is adversarial too.
    More restarts, and a warm ``start``, never leave the defender better off. No guarantee otherwise.

    >>> x, y = torch.tensor([[0.8, 0.3]]), torch.tensor([0])
    >>> net = nn.Identity().eval()  # its logits are the two inputs, so that they must meet: eps = 0.25
    >>> [int(net(pgd(net, x, y, eps=eps)).argmax()) for eps in (0.24, 0.26)]
    [0, 1]
    """
    x, y, targets = _begin(model, x, y, eps, targets, norm)
    objective = _loss(loss)
    if steps < 1 or restarts < 1:
        raise ValueError(f"steps is {steps} and restarts {restarts}; both must be at least 1")
    if start is not None and start.shape != x.shape:
        raise ValueError(f"start has the shape {tuple(start.shape)}, x {tuple(x.shape)}; they must be equal")
    if not len(x) or eps == 0:
        return x
    length = 2.5 * eps / steps if step_size is None else step_size
    result = x.clone()
    todo = torch.arange(len(x), device=x.device)  # examples not yet broken
    for restart in range(restarts):
        if restart == 0 and start is not None:
            begin = _project(start.detach().to(x), x, eps, norm)
        else:
            begin = _random_start(x[todo], eps, norm, generator) if random_start else x[todo].clone()
        goals = None if targets is None else targets[todo]
        final, broken = _ascend(
            model, x[todo], y[todo], goals, begin, objective, eps, length, norm, steps, momentum, active_set
        )
        result[todo] = final
        todo = todo[~broken]
        if not len(todo):
            break
    return result


def _ascend(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    targets: Tensor | None,
    x_adv: Tensor,
    objective: Loss,
    eps: float,
    length: float,
    norm: str,
    steps: int,
    momentum: float | None,
    active_set: bool,
) -> tuple[Tensor, Tensor]:
    """One run of PGD: the points to return, (n, ...), and which met the goal, (n,) bool."""
    result = x_adv.clone()
    broken = torch.zeros(len(x), dtype=torch.bool, device=x.device)
    index = torch.arange(len(x), device=x.device)  # rows of the batch that are still worked on
    step = _stepper(x, eps, norm)
    velocity = torch.zeros_like(x) if momentum is not None else None
    for _ in range(steps):
        at = x_adv.requires_grad_()
        logits = model(at)
        hit = _hit(logits.detach(), y, targets)
        gradient = _gradient(objective(logits, y, targets), at)
        x_adv = x_adv.detach()
        if hit.any():
            result[index[hit]] = x_adv[hit]
            broken[index[hit]] = True
            if active_set:
                if hit.all():
                    return result, broken
                stay = ~hit
                x, y, x_adv, gradient, index = x[stay], y[stay], x_adv[stay], gradient[stay], index[stay]
                targets = None if targets is None else targets[stay]
                velocity = None if velocity is None else velocity[stay]
                step = _stepper(x, eps, norm)
        if momentum is not None and velocity is not None:
            mean = gradient.abs().flatten(1).mean(1).clamp_min(1e-30)
            gradient = velocity = momentum * velocity + gradient / _per_example(mean, x)
        x_adv = step(x_adv, gradient, length)
    with torch.no_grad():
        hit = _hit(model(x_adv), y, targets)
    take = hit | ~broken[index]
    result[index[take]] = x_adv[take]
    broken[index] |= hit
    return result, broken


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
    """The basic iterative method (Kurakin et al. 2017): :func:`pgd` in the linf ball from ``x``, with steps of eps / steps.

    >>> x, y = torch.tensor([[0.8, 0.3]]), torch.tensor([0])
    >>> bim(nn.Identity().eval(), x, y, eps=0.2, steps=4)  # no random start: steps of 0.05, straight to the corner
    tensor([[0.6000, 0.5000]])
    """
    length = eps / max(steps, 1) if step_size is None else step_size
    return pgd(
        model,
        x,
        y,
        eps=eps,
        steps=steps,
        step_size=length,
        loss=loss,
        targets=targets,
        random_start=False,
        active_set=active_set,
    )


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
    """Momentum iterative FGSM (Dong et al. 2018): made for transfer, so every step runs unless ``active_set``.

    >>> x, y = torch.tensor([[0.8, 0.3]]), torch.tensor([0])
    >>> mi_fgsm(nn.Identity().eval(), x, y, eps=0.2, targets=1 - y)
    tensor([[0.6000, 0.5000]])
    """
    return pgd(
        model,
        x,
        y,
        eps=eps,
        steps=steps,
        step_size=eps / max(steps, 1),
        loss=loss,
        targets=targets,
        random_start=False,
        momentum=decay,
        active_set=active_set,
    )
