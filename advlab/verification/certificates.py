"""Proofs about squeezed inputs, by the verifier of chapter 3.

Bits and medians are *monotone*: a brighter image never becomes a darker one. So the squeezed images of a ball lie in a box, and
a proof for the network on that box is one for squeezing before the network; with a lead in the logits, for the detector too.
"""

from __future__ import annotations

import functools
import math
import time
from collections.abc import Callable

import torch
from torch import Tensor, nn

from .. import checks
from .prepared import Prepared, prepare
from .properties import verify_property
from .reduced import class_margins
from .replay import sure_margin
from .verifier import Verdict, check_inputs, given, labels

MARGIN = 1e-6  #: in logits, that of :func:`advlab.verification.verify`
#: A function of a batch of images that keeps its shape.
Squeezer = Callable[[Tensor], Tensor]


def reachable(squeezer: Squeezer, x: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    """A box that holds the squeezed images of all float32 images within ``eps`` (linf) of ``x`` (n, ...) and in [0, 1].

    Guarantee: that, for a monotone squeezer, such as bits and medians, and not non-local means. The ball's corners are moved
    outwards by one float32 each. Raises TypeError for bytes and half precision, ValueError for what is no batch or lies outside
    [0, 1], and a negative eps.
    """
    checks.tensors(x=x)
    checks.inputs(x)
    checks.budget(eps)
    corners = []
    for sign, far in ((-1, -math.inf), (1, math.inf)):
        corner = (x.double() + sign * eps).clamp(0, 1).float()
        corners.append(squeezer(torch.nextafter(corner, torch.full_like(corner, far)).clamp(0, 1)))
    return corners[0], corners[1]


def needed_lead(threshold: float, classes: int = 10) -> float:
    """The margin between logits, at the squeezed image, from which on no image that the joint detector accepts is wrong.

    An accepted image has g(x') within ``threshold`` of g(s(x')) in L1. So g_y and g_j together move by no more than that, and a
    gap between them above it is not closed. With a margin m over each of k - 1 others the gap is least where these are equal,
    (1 - e^-m) / (1 + (k - 1) e^-m); that is more than T from m = log((1 + (k - 1) T) / (1 - T)) on.

    Parameters
    ----------
    threshold : float from 0 up, the detector's
    classes : int, from 2 up
    Returns
    -------
    float, in logits; infinite for a threshold of 1 or more
    Raises
    ------
    ValueError
        a negative threshold, fewer than two classes
    Guarantee
    ---------
    A lead of more than that over each other class is enough, and with no smaller one is it: where the others are equal, half of
    the threshold goes to one of them.
    References
    ----------
    Ours, the theorem on the lead in chapter 5; the score is that of Xu et al. (2018), section 4-D
    Examples
    --------
    >>> round(needed_lead(0.0537), 4), needed_lead(0.0), needed_lead(1.0)
    (0.4495, 0.0, inf)
    """
    if not threshold >= 0 or classes < 2:
        raise ValueError(f"threshold is {threshold} and classes {classes}; they must be at least 0 and 2")
    return math.log((1 + (classes - 1) * threshold) / (1 - threshold)) if threshold < 1 else math.inf


def _margins(net: nn.Module, x: Tensor, y: int, lead: float) -> tuple[Prepared, Tensor, Tensor]:
    """``net`` as the verifier reads it, and rows and constants of class y's margins over each other, for one image ``x``."""
    if not 0 <= lead < math.inf:
        raise ValueError(f"lead is {lead}; it must be at least 0 and finite: with no finite lead nothing can be proved")
    prepared = prepare(net, tuple(x.shape))
    classes = prepared.form.logits.units
    (label,) = labels(y, 1, classes).tolist()
    rows, const = class_margins(label, classes)
    return prepared, torch.from_numpy(rows), torch.from_numpy(const)


@torch.inference_mode(False)
def verify_squeezed(
    net: nn.Module,
    squeezer: Squeezer,
    x: Tensor,
    y: int,
    eps: float,
    *,
    lead: float = 0.0,
    time_limit: float = 10.0,
    last_stage: str = "mixed-integer",
) -> Verdict:
    """Does ``net`` give class ``y`` a lead of more than ``lead`` on the whole box that :func:`reachable` gives for ``x``?

    Parameters
    ----------
    net : nn.Module, as in :func:`advlab.verification.verify`
    squeezer : a monotone function of a batch of images
    x : Tensor, one image without a batch dimension, in [0, 1]
    y, eps, lead : int label, float from 0 up (linf), and float in logits, such as :func:`needed_lead`
    time_limit, last_stage : as in :func:`advlab.verification.verify`
    Returns
    -------
    Verdict, whose "counterexample" is none of the network: the box has points that no squeezed image reaches
    Raises
    ------
    ValueError, TypeError
        as :func:`advlab.verification.verify`, and for a lead that is not finite
    Guarantee
    ---------
    "robust": net(squeezer(x')) answers ``y`` with that lead for every x' of the ball.
    """
    x = given("x", x)
    check_inputs(x, eps, time_limit, MARGIN, last_stage, "highs")
    low, high = (corner[0] for corner in reachable(squeezer, x[None], eps))
    _, rows, const = _margins(net, low, y, lead)
    return verify_property(net, low, high, rows, const - lead, time_limit=time_limit, last_stage=last_stage)


@torch.inference_mode(False)
def verify_one_bit(net: nn.Module, x: Tensor, y: int, eps: float, *, lead: float = 0.0, time_limit: float = 10.0) -> Verdict:
    """Is every image within ``eps`` (linf) of ``x``, in one bit, given to ``y`` by ``lead``? A search over undecided pixels.

    Each pixel of the ball is 0, 1, or free to be either. A box of free pixels is done when the verifier's bounds prove it; else
    it is halved at the pixel that matters most, until none is free.

    Parameters
    ----------
    net, y, eps : as in :func:`advlab.verification.verify`
    x : Tensor, one image without a batch dimension, in [0, 1]
    lead : float from 0 up, in logits, over each other class, such as :func:`needed_lead`
    time_limit : float, CPU seconds of this thread
    Returns
    -------
    Verdict
    Raises
    ------
    ValueError, TypeError
        as :func:`advlab.verification.verify`, and for a lead that is not finite
    Guarantee
    ---------
    "robust" as in :func:`advlab.verification.verify`, with more than the ``lead``; "counterexample" comes with a ``witness`` in
    the ball that the network, in float64, misclassifies after one bit; "unknown" where the time ran out, where the class holds
    and its lead does not, or where the only errors are at ends that rounding put just outside of the ball.
    References
    ----------
    Ours; the bit is that of Xu et al. (2018), section 3-A
    """
    start = time.thread_time()
    x = given("x", x).clone()  # one that gradients can pass
    check_inputs(x, eps, time_limit, MARGIN, "crown", "highs")
    prepared, rows, const = _margins(net, x, y, lead)
    sure = functools.partial(sure_margin, prepared.double, prepared.form, (rows.numpy(), const.numpy()))
    low, high = (corner[0] for corner in reachable(torch.round, x[None], eps))
    todo, worst, missed, boxes = [(low, high)], math.inf, False, 0
    while todo:
        if time.thread_time() - start > time_limit:
            return Verdict("unknown", "branch and bound", -math.inf, time.thread_time() - start)
        (low, high), boxes = todo.pop(), boxes + 1
        free = (high > low).flatten()
        slope = _slope(prepared.double, low, high, rows, const)
        corner = torch.where(slope > 0, low, high)
        value = sure(corner[None].double()).item()
        if value < 0:
            witness = torch.where(corner > 0, x.clamp(min=_JUST_ONE), x.clamp(max=0.5))
            if (witness.double() - x.double()).abs().max() <= eps:
                return Verdict("counterexample", "branch and bound", value, time.thread_time() - start, witness=witness)
        if value <= lead and lead > 0:
            return Verdict("unknown", "branch and bound", value - lead, time.thread_time() - start)
        verdict = verify_property(net, low, high, rows, const - lead, last_stage="crown", time_limit=time_limit)
        if verdict.status == "robust" or not free.any():
            worst, missed = min(worst, verdict.bound), missed or verdict.status != "robust"
            continue
        pixel = int(torch.where(free, slope.flatten().abs(), -1.0).argmax())
        for end in (0.0, 1.0):
            box = low.clone(), high.clone()
            for corner in box:
                corner.view(-1)[pixel] = end
            todo.append(box)
    stage = "crown" if boxes == 1 else "branch and bound"
    return Verdict("unknown" if missed else "robust", stage, worst, time.thread_time() - start)


_JUST_ONE = float(torch.nextafter(torch.tensor(0.5), torch.tensor(1.0)))  #: the least float32 that one bit makes 1


def _slope(net: nn.Module, low: Tensor, high: Tensor, rows: Tensor, const: Tensor) -> Tensor:
    """The gradient of the least margin in the middle of the box."""
    with torch.enable_grad():
        middle = ((low.double() + high.double()) / 2)[None].requires_grad_()
        (slope,) = torch.autograd.grad((net(middle) @ rows.T + const).amin(), middle)
    return slope[0]
