"""Exercises of chapter 0."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

from ..exercises import Wrong, close, exercise, require


def _small_network() -> nn.Module:
    torch.manual_seed(1)
    return nn.Sequential(nn.Flatten(), nn.Linear(9, 6), nn.Tanh(), nn.Linear(6, 3)).double().eval()


def _flat_network() -> nn.Module:
    """Its gradient is zero everywhere."""
    net = nn.Sequential(nn.Flatten(), nn.Linear(9, 3)).double().eval()
    for p in net.parameters():
        nn.init.zeros_(p)
    return net


@exercise("start_here.l2_step", "A step in the other ball", minutes=10, level="easy")
def l2_step(answer: Callable[[nn.Module, Tensor, Tensor, float], Tensor]) -> None:
    net = _small_network()
    x = 0.3 + 0.4 * torch.rand(4, 1, 3, 3, dtype=torch.float64)
    y = torch.tensor([0, 1, 2, 0])
    found = answer(net, x, y, 0.05)
    require(isinstance(found, Tensor) and found.shape == x.shape, "Return the moved images, in the shape of x.")
    moved = (found - x).flatten(1).norm(dim=1)
    require(
        not torch.allclose(moved, torch.full_like(moved, 0.05 * 3)),
        "That is the step of the other ball: every pixel moved by eps. In l2 the whole change has the length eps.",
    )
    close(moved, torch.full_like(moved, 0.05), "the l2 length of each image's change", hint="Each image needs its own norm.")
    at = x.clone().requires_grad_()
    (g,) = torch.autograd.grad(nn.functional.cross_entropy(net(at), y, reduction="sum"), at)
    gain = ((found - x) * g).flatten(1).sum(1)
    require((gain > 0).all(), "The loss falls along your step. Go with the gradient, not against it.")
    expected = x + 0.05 * g / g.flatten(1).norm(dim=1)[:, None, None, None]
    close(found, expected, "the moved images", hint="The best direction is the gradient itself, divided by its length.")
    close(answer(net, x[:1], y[:1], 0.05), expected[:1], "a batch of one image, moved")
    at_the_edge = answer(net, torch.ones_like(x), y, 0.5)
    require((at_the_edge <= 1).all() and (at_the_edge >= 0).all(), "Pixels left [0, 1]: clip the result.")
    flat = answer(_flat_network(), x, y, 0.5)
    close(flat, x, "where the gradient is zero, the images moved", hint="Mind the division by a zero length.")


class _Pits(nn.Module):
    """Reads one-pixel images as class 1 in the pits [0.4, 0.5] and [0.7, 0.8], else as class 0; the loss of 0 grows with x."""

    def forward(self, x: Tensor) -> Tensor:
        v = x.flatten(1)[:, 0]
        in_a_pit = ((v - 0.45).abs() <= 0.05) | ((v - 0.75).abs() <= 0.05)
        slope = v - v.detach()  # zero, with the gradient of v
        return torch.stack([1 - 2.0 * in_a_pit - slope, slope], 1)


@exercise("start_here.recovers", "More budget, less harm", minutes=15, level="easy")
def recovers(answer: Callable[[nn.Module, Tensor, Tensor, list[float]], Tensor]) -> None:
    net, grid = _Pits().eval(), [0.05, 0.15, 0.25, 0.35, 0.45]
    starts = torch.tensor([0.30, 0.48, 0.58, 0.02, 0.90, 0.45, 0.33]).view(-1, 1, 1, 1)
    # wrong at the budgets, from 0.30 and 0.33: no yes no no yes; 0.48 and 0.45: from the outset; 0.58: no yes no no no;
    # 0.02: no no no no yes; 0.90: never
    expected = torch.tensor([True, False, True, False, False, False, True])
    y = torch.zeros(7, dtype=torch.int64)
    found = torch.as_tensor(answer(net, starts, y, grid))
    require(found.shape == (7,), f"Return one truth value for each image, (n,); yours has the shape {tuple(found.shape)}.")
    found = found.bool()
    require(
        not (found[1] or found[5]),
        "An image that is misread before any attack counts as recovered. Nobody broke it: leave such images out.",
    )
    require(
        not found[3],
        "An image that is broken only at the largest budget counts as recovered. It has to be broken first, right again later.",
    )
    require(found[2], "An image that is broken at the second budget and right at the later ones is missed.")
    require(
        found[0],
        "An image that is broken, recovers, and is broken again at the largest budget is missed: compare all budgets, not two.",
    )
    close(found.float(), expected.float(), "the answer for seven images, 1 for recovered")
    one = torch.as_tensor(answer(net, torch.tensor([[[[0.78]]]]), torch.tensor([1]), grid))
    close(one.float(), torch.tensor([1.0]), "the answer for one image of the class 1", hint="Right and wrong depend on y.")


@exercise("start_here.margin_loss", "A loss that does not go blind", minutes=10, level="easy")
def margin_loss(answer: Callable[[Tensor, Tensor], Tensor]) -> None:
    logits = torch.tensor([[2.0, 5.0, 1.0], [2.0, 5.0, 1.0], [-3.0, -1.0, -2.0], [4.0, 4.0, 0.0]], dtype=torch.float64)
    y = torch.tensor([1, 0, 1, 0])
    found = answer(logits, y)
    require(isinstance(found, Tensor) and found.shape == (4,), "Return one value for each image, a tensor (n,).")
    require(
        not (found[0] == 0 and found[1] > 0),
        "It is never negative: the true class is among the rivals. Leave it out of the maximum.",
    )
    require(not (found[0] > 0 > found[1]), "The sign is turned: the loss has to grow as the image becomes wrong.")
    close(
        found,
        torch.tensor([-3.0, 3.0, -1.0, 0.0]),
        "the loss",
        hint="The best rival's logit, which may be negative, minus the true one's.",
    )
    many = torch.randn(50, 10, dtype=torch.float64) * 3
    labels = torch.randint(10, (50,))
    by_hand = [
        max(v for k, v in enumerate(row) if k != j) - row[j] for row, j in zip(many.tolist(), labels.tolist(), strict=True)
    ]
    close(answer(many, labels), by_hand, "the loss of fifty random images")
    inflated = (many * 10_000).requires_grad_()
    value = answer(inflated, labels)
    require(value.requires_grad, "No gradient comes through: keep to torch, without detach, item or numpy.")
    (g,) = torch.autograd.grad(value.sum(), inflated)
    require((g.abs().sum(1) > 1).all(), "With large logits the gradient vanishes. Take no softmax and no log of one.")


class _Noisy(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        v = x.flatten(1)[:, :1]
        return torch.cat([3 * v, 5 * torch.randn_like(v)], 1)


@exercise("start_here.mean_of_passes", "Noise that gets in the way", minutes=20, level="medium")
def mean_of_passes(answer: Callable[[nn.Module, int], nn.Module]) -> None:
    model = answer(_Noisy().eval(), 20)
    require(isinstance(model, nn.Module), f"Return an nn.Module; yours is a {type(model).__name__}.")
    require(not model.training, "The module is in training mode, and an attack refuses it: call eval().")
    x = torch.rand(2000, 1, 1, 1)
    logits = model(x)
    require(
        isinstance(logits, Tensor) and logits.shape == (2000, 2),
        "For n images the module gives logits (n, classes), as the network itself does.",
    )
    close(
        logits[:, 0],
        3 * x.flatten(),
        "a logit without noise",
        hint="Average the logits: a sum grows with the passes, and probabilities are no logits.",
    )
    spread = float(logits[:, 1].std())
    require(
        spread < 3,
        "The mean is as noisy as one pass. Call the network afresh for each pass; copies of one result hold one draw.",
    )
    require(
        0.8 < spread * math.sqrt(20) / 5 < 1.2,
        f"The noise falls by the factor {5 / spread:.1f}; it should be the root of 20.",
    )
    at = x[:5].clone().requires_grad_()
    value = model(at)[:, 0].sum()
    require(value.requires_grad, "No gradient passes to the images, so that no attack can follow it: no no_grad, no detach.")
    close(torch.autograd.grad(value, at)[0], torch.full_like(at, 3), "the gradient of the mean logit")
    close(answer(_Noisy().eval(), 1)(x)[:, 0], 3 * x.flatten(), "with one pass, a logit without noise")


@exercise("start_here.worst_change", "The unit of the theorem", minutes=15, level="medium")
def worst_change(answer: Callable[[Tensor, float, float], Tensor]) -> None:
    def asked(w: Tensor, p: float) -> float:
        delta = answer(w, 0.3, p)
        require(isinstance(delta, Tensor) and delta.shape == w.shape, "Return delta, a tensor in the shape of w.")
        if not torch.isfinite(delta).all():
            raise Wrong(f"For p = {p} and w = {w.tolist()} delta is not finite. Mind the powers 1/(p - 1) and 0 divided by 0.")
        size = float(delta.abs().max() if p == math.inf else delta.abs().pow(p).sum() ** (1 / p))
        require(size <= 0.3 * (1 + 1e-6), f"For p = {p} and eps = 0.3 your delta has the norm {size:.4g}: it leaves the ball.")
        return float(w @ delta)

    def gains(w: Tensor, p: float, best: float) -> None:
        gain = asked(w, p)
        require(
            gain > best * (1 - 1e-5),
            f"For p = {p} your delta gains {gain:.4g}, and {best:.4g} is possible. "
            "For p = 2 delta is parallel to w, for infinity to sign(w), for 1 all of it is on one weight; what lies between?",
        )

    w = torch.randn(6, dtype=torch.float64)
    corners = torch.tensor(list(itertools.product((-0.3, 0.3), repeat=6)), dtype=torch.float64)
    gains(w, math.inf, float((corners @ w).max()))
    gains(w, 2.0, 0.3 * float(w.norm()))
    gains(w, 1.0, 0.3 * float(w.abs().max()))
    turn = torch.linspace(0, 2 * math.pi, 200_001, dtype=torch.float64)
    circle = torch.stack([turn.cos(), turn.sin()], 1)
    for p in (1.0, 1.2, 1.5, 2.0, 3.0, 8.0, math.inf):
        ball = 0.3 * circle / torch.linalg.vector_norm(circle, p, dim=1, keepdim=True)
        for pair in ([1.0, -2.0], [0.5, 0.4], [-3.0, 0.0]):
            two = torch.tensor(pair, dtype=torch.float64)
            gains(two, p, float((ball @ two).max()))
    asked(torch.zeros(3, dtype=torch.float64), 2.0)
