"""Gradient attacks on pixels in [0, 1], one contract for all.

Every attack is a function ``attack(model, x, y, *, eps, ...) -> x_adv`` with the same shape, dtype and device as ``x``
(n, ...). ``x_adv`` lies in [0, 1] and in the ball of radius ``eps`` around ``x`` (to rounding, 1e-6). ``eps=0`` returns
``x``. ``y`` (n,) are the true labels; ``targets`` (n,), where taken, are labels to reach instead of any wrong one. No
argument is changed, the model keeps its mode, gradients are taken with respect to the input only. The model maps (n, ...)
to logits (n, k) and must be in eval mode. Bad input raises TypeError or ValueError (:mod:`advlab.checks`).

No guarantee: an attack finds errors, it never shows that there are none.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Sequence

import torch
from torch import Generator, Tensor, nn
from torch.nn.functional import cross_entropy

from . import checks

#: ``loss(logits (n, k), y (n,), targets (n,) or None) -> (n,)``, which an attack makes large.
Loss = Callable[[Tensor, Tensor, Tensor | None], Tensor]


# ---------------------------------------------------------------------------------------------- losses


def ce_loss(logits: Tensor, y: Tensor, targets: Tensor | None = None) -> Tensor:
    """Cross entropy of ``y``, or minus that of ``targets``. Its gradient vanishes where softmax saturates."""
    return cross_entropy(logits, y, reduction="none") if targets is None else -cross_entropy(logits, targets, reduction="none")


def margin_loss(logits: Tensor, y: Tensor, targets: Tensor | None = None) -> Tensor:
    """The best wrong logit minus that of ``y`` (above 0: misclassified); or that of ``targets`` minus the best other."""
    if targets is not None:
        return -margin_loss(logits, targets)
    own = logits.gather(1, y[:, None]).squeeze(1)
    return logits.scatter(1, y[:, None], -math.inf).amax(1) - own


def dlr_loss(logits: Tensor, y: Tensor, targets: Tensor | None = None) -> Tensor:
    """Difference of logits ratio (Croce and Hein 2020, equations 6 and 7): the margin, free of the logits' scale.

    Needs 3 classes, 4 with ``targets``; raises ValueError for fewer.
    """
    need = 3 if targets is None else 4
    if logits.shape[1] < need:
        raise ValueError(f"the DLR loss needs {need} classes, the model has {logits.shape[1]}: take loss='margin'")
    ranked = logits.sort(1, descending=True).values
    if targets is None:
        return margin_loss(logits, y) / (ranked[:, 0] - ranked[:, 2] + 1e-12)
    gap = logits.gather(1, targets[:, None]).squeeze(1) - logits.gather(1, y[:, None]).squeeze(1)
    return gap / (ranked[:, 0] - (ranked[:, 2] + ranked[:, 3]) / 2 + 1e-12)


LOSSES: dict[str, Loss] = {"ce": ce_loss, "margin": margin_loss, "dlr": dlr_loss}


# ---------------------------------------------------------------------------------------------- shared steps


def _begin(
    model: nn.Module, x: Tensor, y: Tensor, eps: float, targets: Tensor | None, norm: str = "linf"
) -> tuple[Tensor, Tensor, Tensor | None]:
    """Check the input; return copies that are safe to build a graph on, also when called under inference mode."""
    checks.budget(eps)
    checks.classifier_inputs(model, x, y)
    if targets is not None:
        checks.classifier_inputs(model, x, targets, labels="targets")
    if norm not in ("linf", "l2"):
        raise ValueError(f"norm is {norm!r}; it must be 'linf' or 'l2'")
    return x.detach().clone(), y.clone(), None if targets is None else targets.clone()


def _loss(loss: str | Loss) -> Loss:
    if callable(loss):
        return loss
    if loss not in LOSSES:
        raise ValueError(f"loss is {loss!r}; it must be one of {', '.join(LOSSES)}, or a function")
    return LOSSES[loss]


def _hit(logits: Tensor, y: Tensor, targets: Tensor | None) -> Tensor:
    """Where the attack's goal is met, (n,) bool."""
    guess = logits.argmax(1)
    return guess != y if targets is None else guess == targets


def _gradient(value: Tensor, at: Tensor) -> Tensor:
    """Gradient of the sum of ``value`` (n,) with respect to the input alone."""
    if not value.requires_grad:
        raise ValueError(
            "the model passes no gradient to its input: wrap its non-differentiable part in bpda or straight_through"
        )
    return torch.autograd.grad(value.sum(), at)[0]


def _per_example(v: Tensor, like: Tensor) -> Tensor:
    """(n,) -> (n, 1, ..., 1), to scale examples of the shape of ``like``."""
    return v.view(-1, *[1] * (like.ndim - 1))


def _l2(v: Tensor) -> Tensor:
    """The L2 norm of each example, (n,)."""
    return v.flatten(1).norm(dim=1)


def _unit(v: Tensor) -> Tensor:
    """Each example divided by its L2 norm; zero stays zero."""
    return v / _per_example(_l2(v).clamp_min(1e-30), v)


def _project(x_adv: Tensor, x: Tensor, eps: float, norm: str) -> Tensor:
    """The point of ball and box near ``x_adv``. Clipping to the box last cannot leave the ball, since x is in the box."""
    if norm == "linf":
        return x_adv.clamp(x - eps, x + eps).clamp_(0, 1)
    delta = x_adv - x
    shrink = (eps / _l2(delta).clamp_min(1e-30)).clamp_max(1)
    return (x + delta * _per_example(shrink, x)).clamp_(0, 1)


def _stepper(x: Tensor, eps: float, norm: str) -> Callable[[Tensor, Tensor, float], Tensor]:
    """The step of projected ascent around ``x``: (x_adv, gradient, length) -> the next point of ball and box."""
    if norm == "linf":
        low, high = (x - eps).clamp_(0, 1), (x + eps).clamp_(0, 1)
        return lambda x_adv, gradient, length: x_adv.add(gradient.sign(), alpha=length).clamp_(low, high)
    return lambda x_adv, gradient, length: _project(x_adv + length * _unit(gradient), x, eps, norm)


def _random(
    shape: Sequence[int], like: Tensor, generator: Generator | None, draw: Callable[..., Tensor] = torch.rand
) -> Tensor:
    device = like.device if generator is None else generator.device
    return draw(*shape, generator=generator, device=device, dtype=like.dtype).to(like.device)


def _random_start(x: Tensor, eps: float, norm: str, generator: Generator | None) -> Tensor:
    """A uniform point of the ball, clipped to the box."""
    if norm == "linf":
        return (x + (2 * _random(x.shape, x, generator) - 1) * eps).clamp_(0, 1)
    direction = _unit(_random(x.shape, x, generator, torch.randn))
    radius = eps * _random((len(x),), x, generator) ** (1 / x[0].numel())
    return (x + direction * _per_example(radius, x)).clamp_(0, 1)


# ---------------------------------------------------------------------------------------------- one budget


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
    """The basic iterative method (Kurakin et al. 2017): :func:`pgd` in the linf ball from ``x``, with steps of eps / steps."""
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
    """Momentum iterative FGSM (Dong et al. 2018): made for transfer, so every step runs unless ``active_set``."""
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


# ---------------------------------------------------------------------------------------------- labels only


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


# ---------------------------------------------------------------------------------------------- smallest perturbation


@torch.inference_mode(False)
@torch.enable_grad()
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
    """Decoupled direction and norm (Rony et al. 2019): a small L2 perturbation, found in ``steps`` gradients.

    The perturbation's norm shrinks by ``gamma`` while the goal is met and grows while it is not; its direction follows
    the gradient of cross entropy with a cosine-decayed step. Returns the nearest adversarial iterate of each example, and
    ``x`` itself where none within ``eps`` (L2) was found. The distance is an upper bound of the smallest. No guarantee.
    """
    x, y, targets = _begin(model, x, y, eps, targets)
    if not len(x) or eps == 0:
        return x
    best, best_norm = x.clone(), torch.full((len(x),), math.inf, dtype=x.dtype, device=x.device)
    norm = torch.full_like(best_norm, initial_norm)
    x_adv = x.clone()
    for step in range(steps + 1):
        at = x_adv.requires_grad_()
        logits = model(at)
        hit, distance = _hit(logits.detach(), y, targets), _l2(x_adv.detach() - x)
        better = hit & (distance < best_norm) & (distance <= eps)
        best[better], best_norm[better] = x_adv.detach()[better], distance[better]
        if step == steps:
            break
        gradient = _gradient(ce_loss(logits, y, targets), at)
        length = 0.01 + 0.99 * (1 + math.cos(math.pi * step / steps)) / 2
        delta = x_adv.detach() - x + length * _unit(gradient)
        norm = norm * torch.where(hit, 1 - gamma, 1 + gamma)
        x_adv = (x + _unit(delta) * _per_example(norm, x)).clamp_(0, 1)
    return best


class _Adam:
    """Adam on a batch whose examples may leave it; ``move`` gives the next point."""

    def __init__(self, like: Tensor, learning_rate: float) -> None:
        self.first, self.second, self.count, self.rate = torch.zeros_like(like), torch.zeros_like(like), 0, learning_rate

    def move(self, w: Tensor, gradient: Tensor) -> Tensor:
        self.count += 1
        self.first = 0.9 * self.first + 0.1 * gradient
        self.second = 0.999 * self.second + 0.001 * gradient.square()
        first, second = self.first / (1 - 0.9**self.count), self.second / (1 - 0.999**self.count)
        return w - self.rate * first / (second.sqrt() + 1e-8)

    def keep(self, rows: Tensor) -> None:
        self.first, self.second = self.first[rows], self.second[rows]


def _to_box(w: Tensor) -> Tensor:
    """The point of [0, 1] that the free variable w of Carlini and Wagner stands for."""
    return (torch.tanh(w) + 1) / 2


def _from_box(x: Tensor) -> Tensor:
    """The free variable near x, drawn in by 1 % so that black and white pixels can move."""
    return torch.atanh((2 * x - 1) * 0.99)


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
    Returns the nearest point found, and ``x`` itself where none within ``eps`` (L2) was found. No guarantee.

    Raises ValueError for x outside [0, 1] or a criterion of the wrong shape.
    """
    checks.budget(eps)
    if not x.is_floating_point() or x.ndim < 2 or (x.numel() and not (x.min() >= 0 and x.max() <= 1)):
        raise ValueError("x must be a batch of floats in [0, 1], (n, ...)")
    x = x.detach().clone()
    if not len(x) or eps == 0:
        return x
    w = _from_box(x)
    adam = _Adam(w, learning_rate)
    best, best_norm = x.clone(), torch.full((len(x),), math.inf, dtype=x.dtype, device=x.device)
    c = torch.full_like(best_norm, initial_c)
    low, high = torch.zeros_like(c), torch.full_like(c, math.inf)
    for _ in range(search_steps):
        found = torch.zeros(len(x), dtype=torch.bool, device=x.device)
        for _ in range(steps):
            at = w.requires_grad_()
            x_adv = _to_box(at)
            gap = criterion(x_adv)
            if gap.shape != (len(x),):
                raise ValueError(f"the criterion gives {tuple(gap.shape)} for {len(x)} examples; it must give ({len(x)},)")
            squared = (x_adv - x).flatten(1).square().sum(1)
            extra = gap.relu() if penalty is None else gap.relu() + penalty(x_adv)
            gradient = _gradient(squared + c * extra, at)
            hit = gap.detach() < 0 if accept is None else accept(x_adv.detach())
            distance = squared.detach().sqrt()
            found |= hit
            better = hit & (distance < best_norm) & (distance <= eps)
            best[better], best_norm[better] = x_adv.detach()[better], distance[better]
            w = adam.move(w.detach(), gradient)
        high, low = torch.where(found, c.minimum(high), high), torch.where(found, low, c.maximum(low))
        c = torch.where(high.isinf(), c * 10, (low + high) / 2)
    return best


@torch.inference_mode(False)
@torch.enable_grad()
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
    """The L2 attack of Carlini and Wagner (2017, section V-A): :func:`minimal_l2` on the margin of the logits.

    ``confidence`` is kappa, the margin by which the wrong class must lead. Returns ``x`` where nothing within ``eps`` (L2)
    was found. No guarantee.
    """
    x, y, targets = _begin(model, x, y, eps, targets)
    return minimal_l2(
        lambda x_adv: confidence - margin_loss(model(x_adv), y, targets),
        x,
        eps=eps,
        search_steps=search_steps,
        steps=steps,
        learning_rate=learning_rate,
        initial_c=initial_c,
    )


@torch.inference_mode(False)
@torch.enable_grad()
def deepfool(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    *,
    eps: float = math.inf,
    overshoot: float = 0.02,
    steps: int = 50,
) -> Tensor:
    """DeepFool in L2 (Moosavi-Dezfooli et al. 2016, algorithm 2): to the nearest border of the linearised network.

    All classes compete; the sum of the steps, times ``1 + overshoot``, is added to ``x`` and clipped to [0, 1]. An example
    leaves the batch at its first wrong answer. Returns ``x`` where none within ``eps`` (L2) was found. No guarantee: it
    stops just past the border it meets, which need not be the nearest.
    """
    x, y, _ = _begin(model, x, y, eps, None)
    result = x.clone()
    if not len(x) or eps == 0:
        return result
    index, base, total, x_adv = torch.arange(len(x), device=x.device), x, torch.zeros_like(x), x
    for step in range(steps + 1):
        at = x_adv.detach().requires_grad_()
        with torch.set_grad_enabled(step < steps):
            logits = model(at)
        hit = logits.detach().argmax(1) != y
        if hit.any():
            near = hit & (_l2(x_adv - base) <= eps)
            result[index[near]] = x_adv[near]
        if step == steps or hit.all():
            break
        move = _to_nearest_border(logits, y, at)
        stay = ~hit
        base, y, index, total = base[stay], y[stay], index[stay], (total + move)[stay]
        x_adv = (base + (1 + overshoot) * total).clamp(0, 1)
    return result


def _to_nearest_border(logits: Tensor, y: Tensor, at: Tensor) -> Tensor:
    """The shortest step to where another logit reaches that of ``y``, if the network were linear around ``at`` (n, ...)."""
    classes = logits.shape[1]
    own = logits.gather(1, y[:, None])
    best, move = torch.full_like(own[:, 0], math.inf), torch.zeros_like(at)
    for other in range(1, classes):
        difference = (logits.gather(1, (y[:, None] + other) % classes) - own)[:, 0]
        (slope,) = torch.autograd.grad(difference.sum(), at, retain_graph=other < classes - 1)
        norm = _l2(slope).clamp_min(1e-12)
        distance = difference.detach().abs() / norm
        nearer = distance < best
        best = torch.where(nearer, distance, best)
        length = (distance + 1e-4) / norm  # a little further, so that rounding cannot stop it at the border
        move = torch.where(_per_example(nearer, at), _per_example(length, at) * slope, move)
    return move


@torch.inference_mode(False)
@torch.enable_grad()
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
    """The Jacobian-based saliency map attack (Papernot et al. 2016, algorithm 3), targeted, exact over all pairs.

    Each step adds ``theta`` to the two values, not yet changed, whose product of ``alpha`` (gradient of the target's logit)
    and ``-beta`` (of all others together) is largest, until the target is reached or the share ``gamma`` of all values has
    changed. Without ``targets`` the likeliest wrong class is the target. ``eps`` counts changed pixels (positions).

    An example that misses its target is returned as it was last: at most ``gamma`` of it has changed. No guarantee.
    """
    x, y, targets = _begin(model, x, y, eps, targets)
    if not len(x) or eps == 0 or theta == 0:
        return x
    with torch.no_grad():
        goal = model(x).scatter(1, y[:, None], -math.inf).argmax(1) if targets is None else targets
    result = x.clone()
    index, x_adv, base = torch.arange(len(x), device=x.device), x, x
    free = (x < 1 if theta > 0 else x > 0).flatten(1)
    for _ in range(int(gamma * free.shape[1] / 2)):
        at = x_adv.detach().requires_grad_()
        logits = model(at)
        (alpha,) = torch.autograd.grad(logits.gather(1, goal[:, None]).sum(), at, retain_graph=True)
        (both,) = torch.autograd.grad(logits.sum(), at)
        first, second, found = _best_pair(alpha.flatten(1), (both - alpha).flatten(1), free, math.copysign(1, theta))
        moved = x_adv.flatten(1).clone()
        for pixel in (first, second):
            moved.scatter_(1, pixel[:, None], (moved.gather(1, pixel[:, None]) + theta).clamp(0, 1))
            free = free.scatter(1, pixel[:, None], False)
        moved = moved.view_as(x_adv)
        stay = found & (logits.argmax(1) != goal) & (_by_pixel(moved - base).gt(0).sum(1) <= eps)
        result[index[stay]] = moved[stay]
        if not stay.any():
            break
        x_adv, base, goal, index, free = moved[stay], base[stay], goal[stay], index[stay], free[stay]
    return result


def _best_pair(alpha: Tensor, beta: Tensor, free: Tensor, sign: float) -> tuple[Tensor, Tensor, Tensor]:
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


@torch.inference_mode(False)
@torch.enable_grad()
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
    """The linf attack of Carlini and Wagner (2017, section VI-C): the largest change is pressed under a falling threshold.

    Adam on ``sum relu(|x_adv - x| - tau) + c relu(confidence - margin)``. Each example has a tau of its own, which
    starts at 1 and falls to ``shrink`` times the largest change as soon as the goal is met with no change above tau. After
    ``patience`` steps without that, c is doubled; an example leaves the batch when c passes ``largest_c``, or after
    ``steps`` steps. Returns the point of the smallest largest change; ``x`` where none within ``eps`` (linf) was found.
    No guarantee.
    """
    x, y, targets = _begin(model, x, y, eps, targets)
    if not len(x) or eps == 0:
        return x
    best, best_norm = x.clone(), torch.full((len(x),), math.inf, dtype=x.dtype, device=x.device)
    index = torch.arange(len(x), device=x.device)
    w, base = _from_box(x), x
    adam = _Adam(w, learning_rate)
    tau, c, waited = torch.ones_like(best_norm), torch.full_like(best_norm, initial_c), torch.zeros_like(best_norm)
    for _ in range(steps):
        at = w.requires_grad_()
        x_adv = _to_box(at)
        gap = confidence - margin_loss(model(x_adv), y, targets)
        change = (x_adv - base).abs()
        over = (change - _per_example(tau, change)).relu().flatten(1).sum(1)
        gradient = _gradient(over + c * gap.relu(), at)
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
        if not stay.all():
            if not stay.any():
                break
            adam.keep(stay)
            w, base, y, index, tau, c, waited = (t[stay] for t in (w, base, y, index, tau, c, waited))
            targets = None if targets is None else targets[stay]
    return best


@torch.inference_mode(False)
@torch.enable_grad()
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
    """The L0 attack of Carlini and Wagner (2017, section VI-B): the pixels that matter least are given back, in rounds.

    Each round attacks in L2 with the pixels that may still change, starting where the last one ended. If it succeeds, the
    share ``drop`` of them with the least ``|gradient| |change|`` goes back to the original; if it fails, c is doubled, the
    last set is taken up again and half as many are dropped (before the first success it only goes on). An example leaves
    the batch when it cannot give back a single one. A pixel is a position, with all its channels.
    Returns the image that changes the fewest pixels; ``x`` where none of at most ``eps`` pixels was found. No guarantee.
    """
    x, y, targets = _begin(model, x, y, eps, targets)
    if not len(x) or eps == 0:
        return x
    best, best_norm = x.clone(), torch.full((len(x),), math.inf, dtype=x.dtype, device=x.device)
    index, base, w = torch.arange(len(x), device=x.device), x, _from_box(x)
    free = torch.ones_like(_by_pixel(x), dtype=torch.bool)  # (n, pixels) that may change
    good, good_w, worth = free, w, _by_pixel(x)  # of the last success
    share, c, number = torch.full_like(best_norm, drop), torch.full_like(best_norm, initial_c), best_norm.clone()
    for _ in range(rounds):
        mask, adam = free.view(len(w), 1, *w.shape[2:]) if w.ndim > 2 else free, _Adam(w, learning_rate)
        near, near_w, near_x = torch.full_like(share, math.inf), w, base.clone()
        for _ in range(steps):
            at = w.requires_grad_()
            x_adv = torch.where(mask, _to_box(at), base)
            gap = confidence - margin_loss(model(x_adv), y, targets)
            squared = (x_adv - base).flatten(1).square().sum(1)
            gradient = _gradient(squared + c * gap.relu(), at)
            w = w.detach()
            nearer = (gap.detach() < 0) & (squared.detach() < near)
            near = torch.where(nearer, squared.detach(), near)
            near_w = torch.where(_per_example(nearer, w), w, near_w)
            near_x = torch.where(_per_example(nearer, w), x_adv.detach(), near_x)
            w = adam.move(w, gradient)
        found = near.isfinite()
        at = near_x.clone().requires_grad_()
        slope = _gradient(margin_loss(model(at), y, targets), at)
        change = _by_pixel(near_x - base)
        pixels = change.gt(0).sum(1).to(best_norm)
        better = found & (pixels < best_norm[index]) & (pixels <= eps)
        best[index[better]], best_norm[index[better]] = near_x[better], pixels[better]
        ever, stay = number.isfinite() | found, found | (number > 1)
        good = torch.where(found[:, None], free, good)
        good_w = torch.where(_per_example(found, w), near_w, torch.where(_per_example(ever, w), good_w, w))
        worth = torch.where(found[:, None], _by_pixel(slope * (near_x - base)), worth)
        share, c = torch.where(found | ~ever, share, share / 2), torch.where(found, c, 2 * c)
        number = torch.where(ever, (share * good.sum(1)).floor().clamp_min(1), math.inf)
        rank = worth.masked_fill(~good, math.inf).argsort(1).argsort(1)
        free = good & (rank >= torch.where(ever, number, 0)[:, None])
        w = good_w
        stay &= free.any(1)
        if not stay.all():
            if not stay.any():
                break
            w, base, y, index, free, good, good_w = (t[stay] for t in (w, base, y, index, free, good, good_w))
            worth, share, c, number = worth[stay], share[stay], c[stay], number[stay]
            targets = None if targets is None else targets[stay]
    return best


def _by_pixel(v: Tensor) -> Tensor:
    """The sum of absolute values over the channels of (n, c, ...), as (n, positions); of (n, d), each value by itself."""
    return v.abs().sum(1).flatten(1) if v.ndim > 2 else v.abs()


# ---------------------------------------------------------------------------------------------- non-differentiable parts


class _Surrogate(torch.autograd.Function):
    @staticmethod
    def forward(ctx, exact: Tensor, smooth: Tensor) -> Tensor:
        return exact.clone()

    @staticmethod
    def backward(ctx, *gradients: Tensor) -> tuple[None, Tensor]:
        return None, gradients[0]


def bpda(exact: Callable[[Tensor], Tensor], surrogate: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    """A function with the values of ``exact`` and the gradient of ``surrogate`` (Athalye et al. 2018, section 4.1).

    Both map a tensor to tensors of one shape. ``exact`` need not be differentiable.
    Raises ValueError, when called, if the two shapes differ.

    >>> steep = bpda(torch.round, lambda x: x**2)
    >>> x = torch.tensor([0.2, 0.7], requires_grad=True)
    >>> steep(x).tolist(), torch.autograd.grad(steep(x).sum(), x)[0].tolist()
    ([0.0, 1.0], [0.4000000059604645, 1.399999976158142])
    """

    def both(x: Tensor) -> Tensor:
        with torch.no_grad():
            value = exact(x)
        smooth = surrogate(x)
        if value.shape != smooth.shape:
            raise ValueError(f"exact gives {tuple(value.shape)} and surrogate {tuple(smooth.shape)}; they must be equal")
        return _Surrogate.apply(value, smooth)

    return both


def straight_through(exact: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    """:func:`bpda` with the identity: the backward pass takes ``exact``, which keeps the shape, for no change at all."""
    return bpda(exact, lambda x: x)


# ---------------------------------------------------------------------------------------------- reference protocol


def autoattack(
    model: nn.Module, x: Tensor, y: Tensor, *, eps: float, norm: str = "linf", seed: int = 0, batch_size: int = 250
) -> Tensor:
    """AutoAttack's standard ensemble (Croce and Hein 2020), imported from ``pyautoattack``: the reference protocol.

    Thousands of passes for each image of a network that resists. The attack works on a frozen copy of the model.
    Raises ImportError without the extra: ``pip install advlab[autoattack]``.
    """
    try:
        from pyautoattack import AutoAttack
    except ImportError as e:
        raise ImportError("AutoAttack needs the package pyautoattack: pip install 'advlab[autoattack]'") from e
    x, y, _ = _begin(model, x, y, eps, None, norm)
    if not len(x) or eps == 0:
        return x
    frozen = copy.deepcopy(model).requires_grad_(False)
    name = "Linf" if norm == "linf" else "L2"
    with torch.inference_mode(False), torch.enable_grad(), torch.random.fork_rng():
        ensemble = AutoAttack(frozen, norm=name, eps=eps, seed=seed, device=x.device)
        x_adv, _ = ensemble.run_standard_evaluation(x, y, batch_size=batch_size)
    return _project(x_adv.detach().to(x), x, eps, norm)
