"""Proofs hold for real numbers, networks run in float32: images that are proved robust and misclassified all the same.

After Jia and Rinard (2021), "Exploiting verified neural networks via floating point numerical error".
"""

from __future__ import annotations

import copy
import math
import warnings
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from .verifier import verify


@dataclass(frozen=True)
class Bracket:
    """The distance to the nearest misclassified input, in linf, between two budgets that the verifier has decided."""

    proved: float  #: a budget at which the input is proved robust; 0 where none was found
    broken: float  #: a budget at which a witness is known; inf where none was found
    witness: Tensor | None = field(repr=False)  #: for ``broken``


def bracket_distance(
    net: nn.Module, x: Tensor, y: int, high: float, *, tolerance: float = 1e-3, margin: float = 1e-6, time_limit: float = 60.0
) -> Bracket:
    """The exact distance of ``x`` to misclassification, in linf, bracketed by halving budgets up to ``high``.

    The bracket ends are ``tolerance`` apart, or further where budgets between them are not decided within ``time_limit``
    CPU seconds each. Guarantee: that of :func:`verify` with ``margin``, for both ends. Raises what it raises, and
    ValueError for a tolerance or a budget that is not above 0.
    """
    if not tolerance > 0 or not 0 < high < math.inf:
        raise ValueError(f"tolerance is {tolerance} and high {high}; both must be above 0 and finite")
    proved, broken, undecided, witness, budget = 0.0, math.inf, math.inf, None, 0.0
    while True:
        verdict = verify(net, x, y, budget, margin=margin, time_limit=time_limit)
        if verdict.status == "robust":
            proved = budget
        elif verdict.witness is None:
            undecided = budget
        else:
            broken, witness = min(budget, float((verdict.witness.double() - x.double()).abs().max())), verdict.witness
        ceiling = min(broken, undecided)
        if proved >= high or ceiling - proved <= tolerance or ceiling == 0:
            return Bracket(proved, broken, witness)
        budget = high if ceiling == math.inf else (proved + ceiling) / 2


#: Ways to compute a network in float32 that differ in the order of additions only.
WAYS = ("one at a time", "channels last", "without oneDNN", "batch")


def float32_margins(net: nn.Module, x: Tensor, y: Tensor) -> dict[str, Tensor]:
    """How far the logit of the label leads, (n,) each, computed in float32 in :data:`WAYS`, and in float64 ("exact").

    For inputs ``x`` (n, ...) and labels ``y`` (n,). All but "batch" take one input at a time, so that what they say of an
    input does not depend on the others. The error of float64 is some hundred million times less than that of float32.
    """
    single, double = copy.deepcopy(net).float(), copy.deepcopy(net).double()
    x = x.float()
    last = x.to(memory_format=torch.channels_last) if x.ndim == 4 else x
    with torch.no_grad(), warnings.catch_warnings():
        found = {"one at a time": _lead(torch.cat([single(one[None]) for one in x]), y)}
        found["channels last"] = _lead(torch.cat([single(one) for one in last.split(1)]), y)
        warnings.filterwarnings("ignore", message="TF32 acceleration")  # on switching oneDNN off
        with torch.backends.mkldnn.flags(enabled=False):
            found["without oneDNN"] = _lead(torch.cat([single(one[None]) for one in x]), y)
        return found | {"batch": _lead(single(x), y), "exact": _lead(double(x.double()), y)}


def _lead(logits: Tensor, y: Tensor) -> Tensor:
    """(n,): the logit of the label less the greatest of the others."""
    rest = logits.scatter(1, y[:, None], -math.inf).amax(1)
    return logits.gather(1, y[:, None])[:, 0] - rest


def into_ball(x_adv: Tensor, x: Tensor, eps: float) -> Tensor:
    """``x_adv`` moved into the linf ball of radius ``eps`` around ``x``, and rounded to float32 such that it stays inside.

    Guarantee: 0 <= result <= 1, and abs(result - x) <= eps up to one rounding of x - eps in float64, for ``x`` in float32
    and in [0, 1].
    """
    centre = x.double()
    low, high = (centre - eps).clamp_min(0), (centre + eps).clamp_max(1)
    near = torch.minimum(torch.maximum(x_adv.double(), low), high).float()
    outside = (near.double() < low) | (near.double() > high)
    return torch.where(outside, torch.nextafter(near, x.float()), near)


def float32_counterexample(
    net: nn.Module, x: Tensor, y: int, bracket: Bracket, *, tries: int = 200, rounds: int = 20, generator: torch.Generator
) -> Tensor | None:
    """An input within the budget that is *proved* safe, ``bracket.proved``, which the network misclassifies in float32.

    Climbs from the witness just beyond, moved inside: each round changes ``tries`` copies by single roundings of random pixels,
    and goes on from the copy whose margin is least in float32. None where no copy is misclassified on its own in any of
    :data:`WAYS`, or there is no witness. No guarantee: a search.
    """
    if bracket.witness is None or bracket.proved <= 0:
        return None
    best = into_ball(bracket.witness, x, bracket.proved)
    for _ in range(rounds):
        draws = torch.randint(-1, 2, (tries, *x.shape), generator=generator)
        draws[0] = 0
        draws *= torch.rand(draws.shape, generator=generator) < torch.rand(tries, *[1] * x.ndim, generator=generator)
        steps = torch.where(draws > 0, torch.inf, -torch.inf)
        moved = torch.where(draws == 0, best, torch.nextafter(best.expand_as(steps), steps))
        copies = into_ball(moved, x, bracket.proved)
        margins = float32_margins(net, copies, torch.full((tries,), y))
        least = torch.stack([margins[way] for way in WAYS[:-1]]).amin(0)
        at = int((least.double() + 1e-3 * margins["exact"]).argmin())  # float32 has ties
        best = copies[at]
        if least[at] < 0:
            return best
    return None
