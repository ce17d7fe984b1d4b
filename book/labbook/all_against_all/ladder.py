"""The same attacks on every row, and the proofs beside them: what happened to each image."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from advlab import evaluate
from advlab.attacks import autoattack, pgd, square
from advlab.squeezing.adaptive import evade_linf, with_gradient
from advlab.squeezing.squeezers import SQUEEZERS
from advlab.verification.certificates import needed_lead, verify_one_bit, verify_squeezed
from advlab.verification.verifier import verify

from ..networks import network
from .defences import SETTINGS, Row, defended, images

#: The attacks, weakest knowledge first. "clean" is none.
ATTACKS = ("clean", "noise", "transfer", "Square", "PGD", "adaptive")

#: What is known of an image: refuted by the verifier, nothing, proved by search, proved by bounds alone.
REFUTED, UNKNOWN, PROVED, BOUNDED = 0, 1, 2, 3


class Effort(NamedTuple):
    """How hard attacks and proofs try; the second is for a trial."""

    draws: int = 20  #: of random signs
    queries: int = 500
    steps: int = 50  #: of PGD, with two random starts, and of transfer and evasion
    auto: bool = True  #: AutoAttack on what PGD left
    seconds: float = 5.0  #: CPU seconds for a proof


FULL, TRIAL = Effort(), Effort(2, 20, 3, False, 0.3)


@functools.cache
def transferred(dataset: str, n: int, steps: int) -> Tensor:
    """Adversarial images of a network that no row has, by PGD with momentum; (n, c, h, w)."""
    setting = SETTINGS[dataset]
    x, y = images(dataset, n)
    attack = functools.partial(pgd, eps=setting.eps, steps=steps, random_start=False, active_set=False, momentum=1.0)
    return _in_parts(functools.partial(attack, network(setting.surrogate)), x, y)


def _in_parts(attack: Callable[[Tensor, Tensor], Tensor], x: Tensor, y: Tensor) -> Tensor:
    return torch.cat([attack(a, b) for a, b in zip(x.split(100), y.split(100), strict=True)])


def attacked(row: Row, n: int, effort: Effort) -> tuple[dict[str, Tensor], tuple[str, ...]]:
    """Attack -> (n,) bool, whether each image stands, for every attack of :data:`ATTACKS`; and the ids of the flags of PGD.

    "noise": no one of so many draws of random signs harms. "transfer": images of another network. "Square": its answers alone.
    "PGD": the margin, 2 random starts, blind to a detector. "adaptive": everything is known; AutoAttack, or, where there is a
    detector, PGD on the input and all squeezed inputs at once. Each begins from the clean images, but AutoAttack gets those
    that PGD left, and the attack on a detector begins once at PGD's images.
    """
    defence, eps = defended(row), SETTINGS[row.dataset].eps
    x, y = images(row.dataset, n)
    generator = torch.Generator().manual_seed(0)
    clean = defence.right(x, y)
    stands = {"clean": clean, "noise": clean.clone()}
    for _ in range(effort.draws):
        signs = torch.randint(0, 2, x.shape, generator=generator) * 2.0 - 1
        stands["noise"] &= defence.holds((x + eps * signs).clamp(0, 1), y)
    stands["transfer"] = clean & defence.holds(transferred(row.dataset, n, effort.steps), y)
    run = functools.partial(square, defence.model, eps=eps, queries=effort.queries, generator=generator)
    stands["Square"] = clean & defence.holds(_in_parts(run, x, y), y)
    stands["PGD"], stands["adaptive"], flags = adaptive_attack(row, x, y, eps, effort, generator)
    return stands, flags


def adaptive_attack(
    row: Row, x: Tensor, y: Tensor, eps: float, effort: Effort, generator: torch.Generator
) -> tuple[Tensor, Tensor, tuple[str, ...]]:
    """Whether each image stands under PGD, and under the adaptive attack, (n,) bool each; and the ids of PGD's flags."""
    defence = defended(row)
    clean = defence.right(x, y)
    run = functools.partial(pgd, eps=eps, steps=effort.steps, restarts=2, loss="margin", generator=generator)
    found = evaluate.robust_accuracy(defence.model, x, y, run, eps=eps, batch_size=100, queries=0)
    blind = clean & defence.holds(found.x_adv, y)
    flags = tuple(flag.id for flag in found.flags)
    if defence.alarm is None:
        stands = blind.clone()
        left = stands.nonzero()[:, 0]
        if len(left) and effort.auto:
            x_adv = _in_parts(functools.partial(autoattack, defence.model, eps=eps), x[left], y[left])
            stands[left] = defence.holds(x_adv, y[left])
        return blind, stands, flags
    stands = clean.clone()
    for gradient, first in (("straight-through", x), ("soft", found.x_adv)):
        left = stands.nonzero()[:, 0]
        views = with_gradient(tuple(defence.squeezers), gradient)
        attack = functools.partial(evade_linf, defence.model, views, defence.threshold, eps=eps, steps=effort.steps)
        parts = zip(*(t[left].split(50) for t in (x, y, first)), strict=True)
        tried = [attack(a, b, start=c, generator=generator) for a, b, c in parts]
        stands[left] = defence.holds(torch.cat([x[:0], *tried]), y[left])
    return blind, stands, flags


def proved(row: Row, n: int, effort: Effort) -> Tensor:
    """What is known of each image, (n,) int64: REFUTED, UNKNOWN, PROVED or BOUNDED.

    An image that is answered wrongly, or with an alarm, while clean is REFUTED. For a detector, "proved" means that no image of
    the ball is both wrong and accepted, by a proof for the network alone or by that of :func:`needed_lead`.
    """
    x, y = images(row.dataset, n)
    right, eps = defended(row).right(x, y), SETTINGS[row.dataset].eps
    each = zip(x, y.tolist(), right, strict=True)
    return torch.tensor([known(row, a, b, effort, eps) if ok else REFUTED for a, b, ok in each])


def known(row: Row, x: Tensor, y: int, effort: Effort, eps: float) -> int:
    """What is proved of one image (c, h, w) that the row answers as ``y`` while clean, within ``eps``."""
    net = network(row.network)
    if row.kind == "detector":
        lead = needed_lead(defended(row).threshold)
        monotone = [name for name in defended(row).squeezers if not name.startswith("nlm")]
        for name in monotone if lead < math.inf else []:
            found = verify_squeezed(net, SQUEEZERS[name], x, y, eps, lead=lead, last_stage="alpha-crown")
            if found.status == "robust":
                return BOUNDED
        if "1-bit" in monotone and lead < math.inf:
            found = verify_one_bit(net, x, y, eps, lead=lead, time_limit=effort.seconds)
            if found.status == "robust":
                return PROVED
    if row.kind == "one bit":
        found = verify_one_bit(net, x, y, eps, time_limit=effort.seconds)
    else:
        found = verify(net, x, y, eps, time_limit=effort.seconds)
    if found.status == "robust":
        return BOUNDED if found.stage in ("crown", "alpha-crown") else PROVED
    return REFUTED if found.status == "counterexample" and row.kind != "detector" else UNKNOWN
