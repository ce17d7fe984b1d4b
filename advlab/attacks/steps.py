"""What attacks share: checked input, gradients, and steps that stay in the ball and in [0, 1]."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Generator, Tensor, nn

from .. import checks


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


def _by_pixel(v: Tensor) -> Tensor:
    """The sum of absolute values over the channels of (n, c, ...), as (n, positions); of (n, d), each value by itself."""
    return v.abs().sum(1).flatten(1) if v.ndim > 2 else v.abs()


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
