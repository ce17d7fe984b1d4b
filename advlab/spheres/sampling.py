"""The data of Adversarial Spheres (its section 2): uniform points on spheres, drawn fresh whenever they are needed."""

from __future__ import annotations

import torch
from torch import Tensor


def sample_sphere(n: int, d: int, radius: float = 1.0, *, generator: torch.Generator | None = None) -> Tensor:
    """Independent uniform points on a sphere: normal vectors divided by their length.

    Parameters
    ----------
    n, d : int, points from 0 up, and dimensions from 2 up
    radius : float, above 0
    generator : what to draw from; torch's global generator by default
    Returns
    -------
    Tensor (n, d), float32
    Raises
    ------
    ValueError
        n below 0, d below 2, or a radius that is not positive
    Guarantee
    ---------
    The distribution is exactly uniform, up to float32.
    References
    ----------
    Gilmer et al. (2018), section 2
    Examples
    --------
    >>> sample_sphere(3, 500).norm(dim=1).allclose(torch.ones(3))
    True
    """
    if n < 0 or d < 2 or not 0 < radius < float("inf"):
        raise ValueError(f"n is {n}, d is {d} and radius {radius}: need n from 0, d from 2, and a positive radius")
    z = torch.randn(n, d, generator=generator)
    return z.mul_(radius / z.norm(dim=1, keepdim=True))


def concentric_spheres(
    n: int, d: int, outer_radius: float = 1.3, *, generator: torch.Generator | None = None
) -> tuple[Tensor, Tensor]:
    """Labelled points: a fair coin chooses the sphere of radius 1 (label 0) or of ``outer_radius`` (label 1).

    Parameters
    ----------
    n, d : int, points from 0 up, and dimensions from 2 up
    outer_radius : float, above 1
    generator : what to draw from; torch's global generator by default
    Returns
    -------
    x (n, d) float32 and y (n,) int64
    Raises
    ------
    ValueError
        as :func:`sample_sphere`, and for an outer radius that is not above 1
    Guarantee
    ---------
    As :func:`sample_sphere`, on each of the two.
    References
    ----------
    Gilmer et al. (2018), section 2
    Examples
    --------
    >>> x, y = concentric_spheres(4, 500, generator=torch.Generator().manual_seed(0))
    >>> [round(r, 4) for r in x.norm(dim=1).tolist()] == [1.3 if label else 1.0 for label in y.tolist()]
    True
    """
    if not 1 < outer_radius < float("inf"):
        raise ValueError(f"outer_radius is {outer_radius}; the inner sphere has radius 1, so it must be above 1")
    x = sample_sphere(n, d, generator=generator)
    y = torch.randint(2, (n,), generator=generator)
    return x * (1 + (outer_radius - 1) * y)[:, None], y
