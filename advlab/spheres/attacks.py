"""Attacks that stay on the sphere of the point they attack: the paper's, and one that goes on to the nearest error it can find.

Networks give one logit per point, positive for the outer sphere (label 1). An error is a point with the wrong sign.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from .. import checks

Margin = Callable[[Tensor, Tensor], Tensor]


@torch.inference_mode(False)
def manifold_pgd(model: nn.Module, x: Tensor, y: Tensor, *, step_size: float = 0.01, steps: int = 1000) -> Tensor:
    """The paper's attack: the first error that gradient ascent meets on the sphere of each point.

    Each step goes along the normalised gradient of the loss and back to the sphere of radius ``|x|``.

    Parameters
    ----------
    model : (n, d) -> (n,) logits, positive for the outer sphere; in eval mode
    x, y : (n, d) of float32 or float64, none zero, and (n,) labels 0 and 1
    step_size, steps : float above 0, in the units of ``x``, and int from 0 up
    Returns
    -------
    Tensor (n, d), the first misclassified iterate; ``x`` itself where it is wrong already; the last iterate where none was met
    Raises
    ------
    TypeError, ValueError
        points, labels or a model that do not fit, or steps out of range; a model in training mode, with a logit that is not
        finite or without a gradient
    Guarantee
    ---------
    No guarantee: the distance of a first error is an upper bound of that of the nearest, and meeting none proves nothing.
    References
    ----------
    Gilmer et al. (2018), section 3
    Examples
    --------
    >>> x, y = torch.tensor([[1.0, 0.0]]), torch.tensor([0])
    >>> x_adv = manifold_pgd(lambda z: z[:, 1] - 0.5, x, y, step_size=0.1, steps=20)  # class 1 above height 0.5
    >>> round(x_adv.norm().item(), 4), x_adv[0, 1].item() > 0.5
    (1.0, True)
    """
    margin, x = _margin(model, x, y), x.detach()
    checks.setting("step_size", step_size, checks.POSITIVE)
    checks.setting("steps", steps, checks.WHOLE)
    radius, at, left = x.norm(dim=1, keepdim=True), x.clone(), torch.arange(len(x), device=x.device)
    for step in range(steps + 1):
        values, gradient = _gradient(margin, at[left], y[left])
        right = values <= 0
        left, gradient = left[right], gradient[right]
        if not len(left) or step == steps:
            break
        moved = at[left] + step_size * torch.nn.functional.normalize(gradient, dim=1)
        at[left] = moved * (radius[left] / moved.norm(dim=1, keepdim=True))
    return at


@torch.inference_mode(False)
def nearest_error(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    *,
    starts: Tensor | None = None,
    step_size: float = 0.01,
    steps: int = 1000,
    refinements: int = 25,
) -> tuple[Tensor, Tensor]:
    """An error near each point, on its own sphere.

    A first error of :func:`manifold_pgd` is drawn along the great circle to where the network changes its mind, and turned
    round ``x``, towards the gradient there, for as long as that brings it nearer: to a local minimum of the distance.

    Parameters
    ----------
    model, x, y, step_size, steps : as in :func:`manifold_pgd`
    starts : Tensor (m, d), known errors; points for which the attack met nothing begin at the closest of them
    refinements : int, turns at the most
    Returns
    -------
    distance (n,), a chord in the units of ``x``, and error (n, d); 0 and ``x`` where ``x`` is wrong itself, NaN if none was met
    Raises
    ------
    TypeError, ValueError
        as :func:`manifold_pgd`, and starts of another shape, or with one that is zero or not finite
    Guarantee
    ---------
    What is returned is an error of the model as it computes, so that its distance bounds that of the nearest from above.
    References
    ----------
    Gilmer et al. (2018), section 3, for the first error
    Examples
    --------
    >>> x, y = torch.tensor([[1.0, 0.0]]), torch.tensor([0])
    >>> distance, error = nearest_error(lambda z: z[:, 1] - 0.5, x, y)  # class 1 above height 0.5, which is 30 degrees up
    >>> round(distance.item(), 3), round(2 * torch.tensor(15.0).deg2rad().sin().item(), 3)
    (0.518, 0.518)
    """
    margin, x = _margin(model, x, y), x.detach()
    checks.setting("refinements", refinements, checks.WHOLE)
    if starts is not None:
        checks.tensors(starts=starts)
        if starts.ndim != 2 or starts.shape[1] != x.shape[1]:
            raise ValueError(f"starts has the shape {tuple(starts.shape)}; it must be (m, {x.shape[1]})")
        starts = _on_spheres(starts.detach().to(x), "starts")
    radius = x.norm(dim=1, keepdim=True)
    with torch.no_grad():
        already = margin(x, y) > 0
    best = manifold_pgd(model, x, y, step_size=step_size, steps=steps)
    with torch.no_grad():
        wrong = margin(best, y) > 0
        if starts is not None and len(starts) and not wrong.all():
            lost = (~wrong).nonzero().squeeze(1)
            from_starts = torch.nn.functional.normalize(starts, dim=1)
            nearest = (x[lost] @ from_starts.T).argmax(1)
            best[lost] = from_starts[nearest] * radius[lost]
            wrong = margin(best, y) > 0
    todo = (wrong & ~already).nonzero().squeeze(1)
    best[todo] = _refined(margin, x[todo], y[todo], best[todo], refinements)
    distance = torch.where(wrong, (best - x).norm(dim=1), torch.nan)
    distance = torch.where(already, 0.0, distance)
    return distance, torch.where(wrong[:, None], torch.where(already[:, None], x, best), torch.nan)


def _refined(margin: Margin, x: Tensor, y: Tensor, error: Tensor, refinements: int) -> Tensor:
    """Errors (n, d) on the spheres of ``x``, moved to a local minimum of their distance; each result is an error."""
    radius = x.norm(dim=1, keepdim=True)
    pole = x / radius
    u, t = _direction(pole, error), _angle(pole, error)  # error = radius (pole cos t + u sin t)

    def at(u: Tensor, t: Tensor, which: Tensor) -> Tensor:
        points = pole[which] * t.cos()[:, None] + u * t.sin()[:, None]
        return points * (radius[which] / points.norm(dim=1, keepdim=True))

    def drawn(u: Tensor, t: Tensor, which: Tensor, halvings: int) -> Tensor:
        low, high = torch.zeros_like(t), t.clone()
        for _ in range(halvings):
            middle = (low + high) / 2
            wrong = margin(at(u, middle, which), y[which]) > 0
            low, high = torch.where(wrong, low, middle), torch.where(wrong, middle, high)
        return high

    every = torch.arange(len(x), device=x.device)
    with torch.no_grad():
        t = drawn(u, t, every, 12)
    turn = torch.ones_like(t)
    left = every
    for _ in range(refinements):
        if not len(left):
            break
        _, gradient = _gradient(margin, at(u[left], t[left], left), y[left])
        target = _direction(pole[left], gradient)
        tried = torch.nn.functional.normalize(u[left] + turn[left, None] * (target - u[left]), dim=1)
        with torch.no_grad():
            closer = margin(at(tried, t[left] * 0.9999, left), y[left]) > 0
            which = left[closer]
            u[which] = tried[closer]
            t[which] = drawn(tried[closer], t[which] * 0.9999, which, 6)
        turn[left] = torch.where(closer, (turn[left] * 2).clamp(max=1.0), turn[left] / 2)
        left = left[turn[left] > 0.01]
    with torch.no_grad():
        t = drawn(u, t, every, 24)
        return at(u, t, every)


def _direction(pole: Tensor, y: Tensor) -> Tensor:
    """The unit tangents at ``pole`` (n, d) of the great circles towards the directions ``y`` (n, d)."""
    return torch.nn.functional.normalize(y - (y * pole).sum(1, keepdim=True) * pole, dim=1)


def _angle(pole: Tensor, y: Tensor) -> Tensor:
    along = (y * pole).sum(1)
    return torch.atan2((y - along[:, None] * pole).norm(dim=1), along)


def _gradient(margin: Margin, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    at = x.detach().requires_grad_()
    with torch.enable_grad():
        values = margin(at, y)
        (gradient,) = torch.autograd.grad(values.sum(), at)
    return values.detach(), gradient


def _margin(model: nn.Module, x: Tensor, y: Tensor) -> Margin:
    """The logit towards the wrong sphere, positive for an error; after a check of what the model is given."""
    checks.tensors(x=x, y=y)
    if x.dtype not in checks.PRECISIONS or x.ndim != 2:
        given = f"it is {x.dtype}, of the shape {tuple(x.shape)}"
        raise TypeError(f"x must be a tensor of float32 or float64 of the shape (n, d); {given}")
    if y.shape != (len(x),) or not bool(((y == 0) | (y == 1)).all()):
        raise ValueError(f"y must be ({len(x)},) labels, 0 for the inner sphere and 1 for the outer")
    _on_spheres(x, "x")
    with checks.watched(model), torch.enable_grad():
        if len(x):
            at = x[:1].detach().clone().requires_grad_()
            logits = checks.tried(model, at)
            if not isinstance(logits, Tensor) or logits.shape != (1,):
                given = tuple(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
                raise ValueError(f"the model maps (1, {x.shape[1]}) to {given}; it must give one logit each, (1,)")
            checks.passes_gradient(logits, at)

    def margin(points: Tensor, labels: Tensor) -> Tensor:
        logits = model(points)
        if not checks.is_finite(logits):
            raise ValueError("the model's logits are not finite at a point of x, or on the way from it to an error")
        return logits * (1 - 2 * labels.to(points.dtype))

    return margin


def _on_spheres(x: Tensor, name: str) -> Tensor:
    """``x`` (n, d). Raises ValueError where a point is zero or not finite."""
    if not bool(x.isfinite().all()) or (len(x) and not float(x.detach().norm(dim=1).min()) > 0):
        raise ValueError(f"{name} has a point that is zero or not finite: it lies on no sphere")
    return x
