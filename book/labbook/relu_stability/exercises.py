"""Exercises of chapter 3."""

from __future__ import annotations

import copy
import itertools
import math
from collections.abc import Callable, Sequence
from fractions import Fraction

import numpy as np
import torch
from torch import Tensor, nn

from advlab.stability import interval_bounds
from advlab.verification import verify

from ..exercises import close, exercise, require


def _state(net: nn.Module) -> dict[str, Tensor]:
    return {name: t.clone() for name, t in net.state_dict().items()}


def _unchanged(net: nn.Module, before: dict[str, Tensor]) -> bool:
    now = net.state_dict()
    return all(now[k].dtype == t.dtype and torch.equal(now[k], t) for k, t in before.items())


def _sequential(found: object) -> nn.Sequential:
    """A copy of what was returned, if it is an ``nn.Sequential`` of linear layers that fit and ReLUs alone."""
    layers = list(found) if isinstance(found, nn.Sequential) else []
    linear = [m for m in layers if isinstance(m, nn.Linear)]
    require(
        linear
        and layers[0] is linear[0]
        and layers[-1] is linear[-1]
        and all(isinstance(m, nn.Linear | nn.ReLU) for m in layers),
        "Return an nn.Sequential of nn.Linear and nn.ReLU layers alone, the first and the last of them linear.",
    )
    for one, other in itertools.pairwise(linear):
        require(one.out_features == other.in_features, f"{one} is followed by {other}, which takes another number of values.")
    return copy.deepcopy(nn.Sequential(*layers)).requires_grad_(False).eval()


def _number_pair(found: object, what: str) -> tuple[float, float]:
    if not isinstance(found, tuple | list) or len(found) != 2:
        require(False, f"Return two numbers, {what}.")
    assert isinstance(found, tuple | list)
    a, b = (float(v) for v in found)
    return a, b


# ------------------------------------------------------------------------------------------ the loss and the bounds


@exercise("relu_stability.slope", "Any slope will do", minutes=15, level="medium")
def slope(answer: Callable[[float, float, float], tuple[float, float]]) -> None:
    grid = np.arange(101) / 100
    cases = [(0.5, -1.0, 2.0), (0.3, -2.0, 1.0), (1.5, -1.0, 2.0), (-0.4, -2.0, 1.0), (0.0, -1.0, 1.0)]
    cases += [(int(torch.randint(-50, 150, ())) / 100, *(torch.rand(2) * torch.tensor([-2, 2])).tolist()) for _ in range(20)]
    for c, low, high in cases:
        alpha, bound = _number_pair(answer(c, low, high), "the slope and the bound")
        at = f" (c = {c:g}, from {low:.3g} to {high:.3g})"
        require(0 <= alpha <= 1, f"A line of slope {alpha:g} is not below the ReLU{at}: only slopes from 0 to 1 are.")
        x = np.concatenate([np.linspace(low, high, 301), [0.0]])
        bounds = ((grid[:, None] - c) * x).min(1)  # of each slope, by trying points
        truth = (np.maximum(x, 0) - c * x).min()
        require(
            bound <= truth + 1e-9, f"The bound {bound:g} is above the least value of f, {truth:g}{at}: it is no lower bound."
        )
        close(
            alpha,
            grid[bounds.argmax()],
            f"the slope{at}",
            hint="The best line is the one that fits *this* f, not the ReLU alone.",
        )
        close(bound, bounds.max(), f"the bound{at}", hint="It is the least value of the linear function on the interval.")


@exercise("relu_stability.verdict", "Three verdicts", minutes=10, level="easy")
def verdict(answer: Callable[[nn.Module, Tensor, int, float, float, Tensor | None], str]) -> None:
    def ask(what: str, why: str, x: Tensor, eps: float, bound: float, candidate: Tensor | None, lift: float = 0.0) -> None:
        """Of a network whose logits are the two pixels; ``lift`` is added to the first and, in another layer, taken away."""
        net = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2)).requires_grad_(False)
        for layer, sign in zip(net, (1, -1), strict=True):
            layer.load_state_dict({"weight": torch.eye(2), "bias": torch.tensor([sign * lift, 0.0])})
        before = _state(net)
        found = answer(net, x, 0, eps, bound, candidate)
        require(_unchanged(net, before), "Your function changed the network: net.double() works in place. Take a copy.")
        require(found in ("robust", "counterexample", "unknown"), f"You say {found!r}, which is none of the three verdicts.")
        require(found == what, f"You say {found!r}; it should be {what!r}. {why}")

    x, over = torch.tensor([0.6, 0.5]), torch.tensor([0.5, 0.6])
    ask("robust", "The least margin is above zero on the whole ball: that is a proof.", x, 0.01, 0.05, None)
    ask("unknown", "That nothing was proved does not mean that there is an adversarial image.", x, 0.2, -1.0, None)
    ask("unknown", "A margin of zero is no proof: two classes may be equal.", x, 0.05, 0.0, None)
    ask("counterexample", "The candidate is in the ball, and another class wins there.", x, 0.2, -1.0, over)
    ask("unknown", "The candidate is classified right.", x, 0.2, -1.0, torch.tensor([0.65, 0.6]))
    ask("unknown", "The candidate is not in the ball: a pixel differs by more than eps.", x, 0.05, -1.0, over)
    bright, beyond = torch.tensor([0.97, 0.95]), torch.tensor([0.97, 1.05])
    ask("unknown", "The candidate is no image: it leaves [0, 1].", bright, 0.2, -1.0, beyond)
    ask("unknown", "In float64 the candidate is classified right: replay it there.", x, 0.2, -1.0, x, 2.0**25)


@exercise("relu_stability.dead", "A hundred per cent stable", minutes=10, level="easy")
def dead(answer: Callable[[nn.Module], nn.Module]) -> None:
    convolution = nn.Sequential(
        nn.Conv2d(1, 3, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(48, 5), nn.ReLU(), nn.Linear(5, 2)
    )
    great = nn.Linear(16, 8)
    nn.init.normal_(great.weight, std=10)
    wide = nn.Sequential(nn.Flatten(), great, nn.ReLU(), nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 3))
    for net in (convolution, wide):
        net.double().eval().requires_grad_(False)
        before = _state(net)
        made = answer(net)
        require(_unchanged(net, before), "Your function changed the network that it was given. Work on copy.deepcopy(net).")
        require(
            isinstance(made, nn.Module) and [k for k, _ in made.named_parameters()] == [k for k, _ in net.named_parameters()],
            "Return a network of the same layers.",
        )
        after = made.state_dict()
        require(
            all(torch.equal(after[k], t) for k, t in before.items() if k.endswith("weight")),
            "A weight differs. Only biases may: the network should still look like one that was trained.",
        )
        middle = torch.full((1, 1, 4, 4), 0.5, dtype=torch.float64)
        bounds = interval_bounds(made.double().eval(), middle, 0.5)[:-1]  # of every image, and so of every budget
        both = [int(((low < 0) & (high > 0)).sum()) for low, high in bounds]
        require(
            not sum(both),
            f"Over all images in [0, 1], {both[0]} units of the first layer and {both[1]} of the second may be on or off. "
            "How large can the sum of weights times inputs be?",
        )


@exercise("relu_stability.sum_or_mean", "Sum or mean", minutes=10, level="easy")
def sum_or_mean(answer: Callable[[nn.Module, Tensor, float], Sequence[float]]) -> None:
    convolutions = [nn.Conv2d(1, 3, 3, stride=2, padding=1), nn.ReLU(), nn.Conv2d(3, 2, 3, stride=2, padding=1), nn.ReLU()]
    dense = [nn.Flatten(), nn.Linear(2 * 2 * 3, 6), nn.ReLU(), nn.Linear(6, 3)]
    net = nn.Sequential(*convolutions, *dense).double().eval().requires_grad_(False)
    x = torch.rand(5, 1, 8, 12, dtype=torch.float64)
    found = [float(v) for v in answer(net, x, 0.02)]
    require(
        len(found) == 3,
        f"There are 3 ReLU layers, so 3 factors; you return {len(found)}. The logits come last, and do not count.",
    )
    require(
        not np.allclose(found, [3 * 24, 2 * 6, 6], rtol=1e-3),
        "These are the units of each layer. The code takes the mean over a channel's positions, and sums over channels.",
    )
    maps, expected = x, []
    for layer in net:  # the positions, counted on a picture that is sent through
        maps = layer(maps)
        if isinstance(layer, nn.ReLU):
            expected.append(float(maps[0, 0].numel()))
    close(found, expected, "the factors", tolerance=1e-3, hint="Ask for the loss of one layer at a time, of the batch's mean.")


@exercise("relu_stability.least", "The least value, exactly", minutes=15, level="medium")
def least(answer: Callable[[np.ndarray, np.ndarray, np.ndarray, float, float, float], float]) -> None:
    def of(w: object, b: object, v: object, c: float, low: float, high: float) -> tuple[float, float]:
        w, b, v = (np.asarray(t, float) for t in (w, b, v))
        return float(answer(w, b, v, c, low, high)), _least_of_all_cases(w, b, v, c, low, high)

    close(
        *of([1, -1], [-0.5, 0.5], [1, 1], 0.0, 0.0, 1.0), "the least value of |x - 1/2| on [0, 1]", hint="Units switch inside."
    )
    close(
        *of([1, -1], [-0.5, 0.5], [1, 1], 0.0, 0.7, 1.0),
        "the least value of |x - 1/2| where x is from 0.7 to 1",
        hint="A unit that switches outside of the interval is stable: that point is no input of the box.",
    )
    close(
        *of([1, 1], [0, -0.5], [1, -1], 0.0, 0.0, 1.0),
        "the least value of relu(x) - relu(x - 1/2) on [0, 1]",
        hint="Both units see the same x, so that the least values of their terms cannot be added.",
    )
    close(*of([2, 0], [-1, 3], [-1, 1], 0.5, 0.0, 1.0), "the least value with a unit of weight 0", hint="It never switches.")
    close(*of([1], [0.5], [-2], 0.25, 0.0, 1.0), "the least value with a unit that is always on", hint="Mind both ends.")
    for _ in range(12):
        w, b, v = torch.randn(3, 5, dtype=torch.float64).numpy()
        close(
            *of(w, b / 2, v, 1.0, -0.3, 0.9),
            "the least value of a random network",
            tolerance=1e-9,
            hint="It has to be exact: samples can miss the least value, which is at an end or where a unit switches.",
        )


def _least_of_all_cases(w: np.ndarray, b: np.ndarray, v: np.ndarray, c: float, low: float, high: float) -> float:
    """The theorem: every choice of states, each on the interval where the units have these states."""
    found = math.inf
    for on in itertools.product((False, True), repeat=len(w)):
        a, z = low, high
        for weight, bias, state in zip(w, b, on, strict=True):
            sign = 1 if state else -1  # sign * (weight x + bias) >= 0
            if weight == 0:
                z = z if sign * bias >= 0 else -math.inf
            elif sign * weight > 0:
                a = max(a, -bias / weight)
            else:
                z = min(z, -bias / weight)
        if a <= z:
            found = min(found, *(float((v * on) @ (w * x + b)) + c for x in (a, z)))
    return found


@exercise("relu_stability.loose", "Stable, and yet loose", minutes=15, level="medium")
def loose(answer: Callable[[], nn.Sequential]) -> None:
    net = _sequential(answer()).double()
    require([type(m) for m in net] == [nn.Linear, nn.ReLU, nn.Linear], "The layers should be linear, ReLU, linear.")
    first, last = (m for m in net if isinstance(m, nn.Linear))
    least = first(torch.zeros(first.in_features).double()) + first.weight.clamp_max(0).sum(1)  # over all inputs in [0, 1]
    require(
        least.min() > 0,
        f"Some unit goes down to {float(least.min()):.3g} for an input in [0, 1], so that it is not always on. "
        "A bias can lift it.",
    )
    x, eps = torch.full((first.in_features,), 0.5).double(), 0.01
    ends = torch.cat([x + eps * torch.eye(len(x)).double(), x - eps * torch.eye(len(x)).double()])
    up, down = net(ends).chunk(2)
    truth = (up - down).abs().sum(0)  # always on, so linear: each input counts by itself
    require(
        truth.min() > 1e-7, "An output does not depend on the input. Its bounds may be loose, but there is nothing to bound."
    )
    radius = eps * first.weight.abs().sum(1) @ last.weight.abs().T
    ratio = float((2 * radius / truth).max())
    require(
        ratio >= 100,
        f"The interval bounds are only {ratio:.3g} times as wide as the truth. Great weights make both wide: "
        "what intervals do not see is that parts of a sum cancel.",
    )


# ------------------------------------------------------------------------------------------ what a verdict says


@exercise("relu_stability.float", "Proved in the reals, wrong in the machine", minutes=20, level="hard")
def float_(answer: Callable[[], nn.Sequential]) -> None:
    net = _sequential(answer())
    require(all(p.dtype == torch.float32 for p in net.parameters()), "The network should be of float32.")
    require((net[0].in_features, net[-1].out_features) == (1, 2), "The network should have one input and two logits.")
    for k in range(17):
        one, other = _in_fractions(net, Fraction(k, 16))
        require(
            one - other >= Fraction(1, 2),
            f"In exact arithmetic the margin of class 0 at x = {k / 16:g} is {float(one - other):g}, below 1/2. "
            "What is added must be taken away again.",
        )
    found = verify(net, torch.tensor([0.5]), 0, 0.5, margin=0.49, time_limit=1.0)
    require(
        found.status == "robust", f"verify says {found.status!r}: between the points that were tried the margin is below 1/2."
    )
    x = torch.linspace(0, 1, 17)[:, None]
    wrong = net(x).argmax(1) == 1
    require(
        wrong.all(),
        f"In float32 the network is right at {int((~wrong).sum())} of 17 points. Which sums does float32 round away? "
        "Up to 2^24 it holds every whole number.",
    )


def _in_fractions(net: nn.Sequential, x: Fraction) -> list[Fraction]:
    """The logits, without any rounding."""
    values = [x]
    for layer in net:
        if isinstance(layer, nn.ReLU):
            values = [max(v, Fraction(0)) for v in values]
        elif isinstance(layer, nn.Linear):
            bias = layer(torch.zeros(layer.in_features)).tolist()
            values = [
                sum((Fraction(w) * v for w, v in zip(row, values, strict=True)), Fraction(b))
                for row, b in zip(layer.weight.tolist(), bias, strict=True)
            ]
    return values
