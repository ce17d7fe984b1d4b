"""What attacks share: norms, gradients, and steps that stay in the ball and in [0, 1]. Examples stand along the first axis."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Generator, Tensor


def input_gradient(value: Tensor, at: Tensor) -> Tensor:
    """Gradient of the sum of ``value`` (n,) with respect to the input ``at`` (n, ...) alone, (n, ...)."""
    return torch.autograd.grad(value.sum(), at)[0]


def per_example(v: Tensor, like: Tensor) -> Tensor:
    """(n,) -> (n, 1, ..., 1), to scale examples of the shape of ``like`` (n, ...)."""
    return v.view(-1, *[1] * (like.ndim - 1))


def l2_norm(v: Tensor) -> Tensor:
    """The L2 norm of each example of (n, ...), (n,)."""
    return v.flatten(1).norm(dim=1)


def unit(v: Tensor) -> Tensor:
    """Each example of (n, ...) divided by its L2 norm; zero stays zero."""
    return v / per_example(l2_norm(v).clamp_min(1e-30), v)


def project(x_adv: Tensor, x: Tensor, eps: float, norm: str) -> Tensor:
    """A point of ball and box for each of (n, ...). Clipping to the box last cannot leave the ball, since x is in the box."""
    if norm == "linf":
        return x_adv.clamp(x - eps, x + eps).clamp_(0, 1)
    # The nearest point of the L2 ball minimises |z - x_adv|^2 + m (|z - x|^2 - eps^2): z = x + (x_adv - x) / (1 + m), on the
    # ray from x, and m = 0 inside or |z - x| = eps. Clipping then brings each value nearer to that of x, or leaves it.
    delta = x_adv - x
    shrink = (eps / l2_norm(delta).clamp_min(1e-30)).clamp_max(1)
    return (x + delta * per_example(shrink, x)).clamp_(0, 1)


def steepest_step(x: Tensor, eps: float, norm: str) -> Callable[[Tensor, Tensor, float], Tensor]:
    """Projected ascent around ``x``: (x_adv, gradient, length) -> the next point of ball and box, all (n, ...) but length."""
    # Of all steps d with |d| <= length, gradient . d is largest for the sign (linf) or for the unit gradient (L2).
    if norm == "linf":
        # Plainly: project(x_adv + length * gradient.sign(), x, eps, norm). The bounds are the same at each step.
        low, high = (x - eps).clamp_(0, 1), (x + eps).clamp_(0, 1)
        return lambda x_adv, gradient, length: x_adv.add(gradient.sign(), alpha=length).clamp_(low, high)
    return lambda x_adv, gradient, length: project(x_adv + length * unit(gradient), x, eps, norm)


def random_like(
    shape: Sequence[int], like: Tensor, generator: Generator | None, draw: Callable[..., Tensor] = torch.rand
) -> Tensor:
    """Random numbers of ``shape`` with the dtype and device of ``like``, drawn where the generator is."""
    return draw(*shape, **drawing(generator, like.device), dtype=like.dtype).to(like.device)


def drawing(generator: Generator | None, device: torch.device | None = None) -> dict[str, Any]:
    """Options of ``torch.rand`` and its like, to draw where the generator is, without one on ``device``.

    Raises TypeError for what is no generator.
    """
    if not isinstance(generator, Generator | None):
        raise TypeError(f"generator is {generator!r}; it must be a torch.Generator: torch.Generator().manual_seed(0)")
    return {"generator": generator, "device": device if generator is None else generator.device}


def random_point(x: Tensor, eps: float, norm: str, generator: Generator | None) -> Tensor:
    """A uniform point of the ball around each of (n, ...), clipped to the box."""
    if norm == "linf":
        return (x + (2 * random_like(x.shape, x, generator) - 1) * eps).clamp_(0, 1)
    # The ball of radius r holds the share (r / eps)^d of the volume: the radius is eps u^(1/d) for a uniform u.
    direction = unit(random_like(x.shape, x, generator, torch.randn))
    radius = eps * random_like((len(x),), x, generator) ** (1 / x[0].numel())
    return (x + direction * per_example(radius, x)).clamp_(0, 1)


def by_pixel(v: Tensor) -> Tensor:
    """The sum of absolute values over the channels of (n, c, ...), as (n, positions); of (n, d), each value by itself."""
    return v.abs().sum(1).flatten(1) if v.ndim > 2 else v.abs()


class Adam:
    """Adam (Kingma and Ba 2015) on a batch (n, ...) whose examples may leave it; ``move`` gives the next point."""

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
