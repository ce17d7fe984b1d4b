"""Chapter 3's verifier on masks: does training for stability do more than take units away at random?

A mask makes units constant, as pruning does, and the verifier drops both. The small training of
:mod:`advlab.stability.sweep_claims`, without the RS loss, but with masks behind both convolutions. Settled before the
trainings: the measure is the share of unstable ReLUs (CROWN) among those that are live, beside that with the RS loss and
without masks. Registered by :mod:`.claims`.
"""

from __future__ import annotations

import functools

from torch import nn

from ..results import Measurement, claim
from ..stability.sweep_claims import STRUCTURES, TIME_LIMIT, trained, verified
from .networks import insert_masks

DROPS = {"50": 0.5, "70": 0.7, "90": 0.9}


def masked_cnn(drop: float) -> nn.Module:
    """Chapter 3's network with a mask behind both of its convolutions."""
    return insert_masks(STRUCTURES["plain"][1](), drop, layers=("0", "2"), shape=(1, 28, 28))


def _bridge(key: str, drop: float) -> None:
    @claim(
        f"random_mask.verified_{key}",
        f"MNIST, linf 0.1, a small training, masks with drop {drop:g}: mean time to verify an image",
        unit="s",
        digits=2,
        note="12,000 images, 5 epochs, PGD-8, L1, small weights pruned; one seed. CPU seconds over the first 100 test images, "
        f"cut off at {TIME_LIMIT:g}, of those that are classified right. The series has accuracy, verdicts and units.",
        tier="laptop",
    )
    def seconds(n: int | None = None) -> Measurement:
        return verified(trained(functools.partial(masked_cnn, drop), 0.0, n), n)


for _key, _drop in DROPS.items():
    _bridge(_key, _drop)
