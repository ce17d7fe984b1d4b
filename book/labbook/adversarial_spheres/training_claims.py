"""Claims of chapter 1 on how training goes: on a fixed set, with few hidden units, and from a perfect start."""

from __future__ import annotations

import functools
import math

import torch
from torch import nn

from advlab import models
from advlab.spheres.quadratic import SPHERES, alphas, ignored_log_error
from advlab.spheres.sampling import concentric_spheres
from advlab.training import binary_cross_entropy, fit

from ..results import Measurement, claim
from .measuring import OUTER, V1, D, Rows, fresh, generator_of, log10_error, series_of, train
from .quadratic_claims import bad_alphas


@functools.cache
def _fixed_set(n: int) -> Rows:
    """A quadratic network on 1,000 n fixed points: both exact error rates after 1, 2, 4, 8, 16 and 32 passes."""
    x, y = concentric_spheres(1000 * n, D, OUTER, generator=generator_of(1))
    net = fresh(models.sphere_quadratic, seed=0)
    rows, passes = [], 0
    for more in (0, 1, 1, 2, 4, 8, 16):
        if more:
            adam = functools.partial(torch.optim.Adam, lr=1e-4, fused=True)
            options = {"loss": binary_cross_entropy, "optimizer": adam, "seed": passes, "progress": False}
            fit(net, x, y, epochs=more, batch_size=250, **options)
        passes += more
        spectrum = alphas(net)  # pyrefly: ignore[bad-argument-type]
        inner, outer = (log10_error(spectrum, sphere=sphere) for sphere in SPHERES)
        rows.append({"passes": passes, "inner": inner, "outer": outer, "bad": bad_alphas(spectrum)})
    return series_of(rows)


@claim(
    "adversarial_spheres.fixed_set",
    "Error rate after 32 passes over 100,000 fixed points",
    unit="log10",
    digits=2,
    note="Quadratic, the worse sphere, exact. The optimiser starts afresh after 1, 2, 4, 8 and 16 passes.",
    tier="laptop",
)
def fixed_set(n: int = 100) -> Measurement:
    rows = _fixed_set(n)
    return Measurement(max(rows["inner"][-1], rows["outer"][-1]), series=rows)


@claim(
    "adversarial_spheres.narrow",
    "Error rate of a trained network with 300 hidden units, which ignores 200 directions",
    unit="log10",
    digits=2,
    note="Quadratic, 100,000 fresh points; the worse sphere. The series has the least that is possible.",
    tier="laptop",
)
def narrow(n: int = 100) -> Measurement:
    rows = []
    for width in (100, 200, 300, 400, 450):
        net = fresh(functools.partial(models.sphere_quadratic, D, width), seed=0)
        train(net, 1000 * n, 3e-4, seed=1)  # 0 would draw the rows of the weight
        inner, outer = (log10_error(alphas(net), sphere=sphere) for sphere in SPHERES)  # pyrefly: ignore[bad-argument-type]
        best = ignored_log_error(width, D, OUTER) / math.log(10)
        rows.append({"width": width, "inner": inner, "outer": outer, "best": best})
    return Measurement(max(rows[2]["inner"], rows[2]["outer"]), series=series_of(rows))


@functools.cache
def _perfect_start(n: int) -> Rows:
    """100 n steps of batches of 50 from a perfect network; 20 rows of loss, exact worst loss and bad alphas."""
    net = models.sphere_quadratic()
    with torch.no_grad():
        frame = torch.linalg.qr(torch.randn(1000, D, generator=generator_of(0))).Q
        net.weight.copy_(frame)  # W'W = 1: every alpha is the same, and the boundary halfway between the spheres
    rows = []
    for part in range(21):
        loss = train(net, max(1, 5 * n) * 50, 1e-4, seed=part, batch_size=50)[-1] if part else math.nan
        spectrum = alphas(net)
        top = float(-net.bias.detach()) * torch.stack([spectrum.max() - 1, 1 - OUTER**2 * spectrum.min()])
        rows.append(
            {
                "steps": max(1, 5 * n) * part,
                "loss": loss,
                "worst_loss": float(nn.functional.softplus(top).max()),
                "bad": bad_alphas(spectrum),
            }
        )
    return series_of(rows)


PERFECT = "Training from a perfect network, 40,000 batches of 50:"


@claim(
    "adversarial_spheres.perfect_start_bad",
    f"{PERFECT} most bad alphas",
    paper=265,
    where=f"{V1}, Figure 3, read off",
    unit="",
    digits=0,
    note="The average loss falls while perfection is lost. Our start (all alphas equal) and scale are our own choice.",
    tier="laptop",
)
def perfect_start_bad(n: int = 400) -> Measurement:
    rows = _perfect_start(n)
    return Measurement(max(rows["bad"]), series=rows)


@claim(
    "adversarial_spheres.perfect_start_loss",
    f"{PERFECT} mean loss at the end",
    paper=0.015,
    where=f"{V1}, Figure 3, read off",
    unit="",
    digits=4,
    note="It depends on the scale of the start.",
    tier="laptop",
)
def perfect_start_loss(n: int = 400) -> Measurement:
    return Measurement(_perfect_start(n)["loss"][-1])


@claim(
    "adversarial_spheres.perfect_start_worst",
    f"{PERFECT} largest loss of any point, at its largest",
    paper=7.0,
    where=f"{V1}, Figure 3, read off",
    unit="",
    digits=2,
    note="Exact, from the extreme alphas.",
    tier="laptop",
)
def perfect_start_worst(n: int = 400) -> Measurement:
    return Measurement(max(_perfect_start(n)["worst_loss"]))
