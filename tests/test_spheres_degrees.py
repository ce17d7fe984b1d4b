"""Degree shares of functions whose degrees are known, and of Gegenbauer polynomials from SciPy."""

import pytest
import torch
from scipy.special import gegenbauer

from advlab import spheres


def shares(f, d=60, **options):
    return spheres.degree_shares(f, d, generator=torch.Generator().manual_seed(0), **{"n": 20_000, **options})


def zonal(k, d):
    """The harmonic of degree k around an axis, of variance 1 on the sphere (by sampling its square)."""
    polynomial = gegenbauer(k, d / 2 - 1)
    coefficients = torch.tensor(polynomial.c.copy(), dtype=torch.float32)

    def f(x):
        value = torch.zeros(len(x))
        for c in coefficients:
            value = value * x[:, 0] + c
        return value

    x = spheres.sample_sphere(200_000, d, generator=torch.Generator().manual_seed(1))
    scale = float(f(x).double().square().mean().sqrt())
    return lambda x: f(x) / scale


@pytest.mark.parametrize("k", [1, 2, 3, 4])
def test_pure_degrees(k):
    found = shares(zonal(k, 20), d=20, n=40_000)
    expected = [0.0] * 4
    expected[{1: 0, 2: 1, 3: 2, 4: 3}[k]] = 1.0
    got = [found.degree_1, found.degree_2, found.odd_from_3, found.even_from_4]
    errors = [found.errors[name] for name in ("degree_1", "degree_2", "odd_from_3", "even_from_4")]
    for value, truth, error in zip(got, expected, errors, strict=True):
        assert abs(value - truth) < 4 * error + 0.01
    truth = k * (k + 18) / 19
    assert abs(found.mean_degree - truth) < 4 * found.errors["mean_degree"] + 0.02 * truth
    assert found.ratio == pytest.approx(found.mean_degree**-0.5)


def test_a_mixture_with_a_constant_and_a_radius():
    f = lambda x: 5 + 2 * x[:, 0] * 60**0.5 / 1.3 + zonal(2, 60)(x / 1.3)  # noqa: E731
    found = spheres.degree_shares(f, 60, 1.3, n=40_000, generator=torch.Generator().manual_seed(2))
    assert found.degree_1 == pytest.approx(0.8, abs=0.03)
    assert found.degree_2 == pytest.approx(0.2, abs=0.03)
    total = found.degree_1 + found.degree_2 + found.odd_from_3 + found.even_from_4
    assert total == pytest.approx(1, abs=1e-9)


def test_the_ratio_predicts_the_distance_of_a_cap_and_of_a_quadratic():
    """What the number is for: degree 1 reaches the optimum, degree 2 about 0.71 of it."""
    spectrum = torch.linspace(0.4, 1.4, 500)
    log = spheres.quadratic_log_error(spectrum)
    measured = spheres.mean_field_distance(spectrum) / spheres.optimal_distance(log, 500)
    predicted = shares(lambda x: x.square() @ spectrum, d=500).ratio
    assert predicted == pytest.approx(0.707, abs=0.01)
    assert measured == pytest.approx(predicted, abs=0.06)


def test_bad_input():
    with pytest.raises(ValueError, match="need d from 3"):
        spheres.degree_shares(lambda x: x[:, 0], 2)
    with pytest.raises(ValueError, match="20 points"):
        spheres.degree_shares(lambda x: x[:, 0], 5, n=100)


def test_the_least_that_is_allowed_is_and_one_less_is_not():
    least = {"d": 3, "folds": 3, "n": 60}
    spheres.degree_shares(lambda x: x[:, 0], generator=torch.Generator().manual_seed(0), **least)
    for name in least:
        with pytest.raises(ValueError, match="need d from 3, 3 folds"):
            spheres.degree_shares(lambda x: x[:, 0], **least | {name: least[name] - 1})
