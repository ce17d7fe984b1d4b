"""The errata of Adversarial Spheres, each shown wrong as printed and right as corrected."""

import math

import pytest
import torch
from scipy.stats import norm

from advlab import evaluate, spheres, zoo

ALPHAS = torch.linspace(0.6, 1.33, 100, dtype=torch.float64)


@pytest.fixture(scope="module")
def sampled():
    """The share of the inner sphere that is wrong, with its interval."""
    x = spheres.sample_sphere(200_000, 100, generator=torch.Generator().manual_seed(3))
    wrong = int((x.double().square() @ ALPHAS > 1).sum())
    return wrong / len(x), evaluate.clopper_pearson(wrong, len(x), 0.9999)


def test_equation_3_has_the_wrong_sign(sampled):
    share, (low, high) = sampled
    c = ALPHAS - 1
    z = float(c.sum() / (2 * c.square().sum()).sqrt())
    assert not low < 1 - norm.cdf(z) < high, "as printed"
    assert abs(norm.cdf(z) - share) < 0.02, "as corrected, a normal approximation"
    assert math.exp(spheres.quadratic_log_error(ALPHAS, method="clt")) == pytest.approx(norm.cdf(z), rel=1e-12)
    assert low < math.exp(spheres.quadratic_log_error(ALPHAS)) < high, "exact"


def test_the_variance_lacks_a_square(sampled):
    c = ALPHAS - 1
    assert 2 * c.sum() < 0, "as printed it would be negative here"
    g = torch.Generator().manual_seed(4)
    z = torch.randn(100_000, 100, generator=g, dtype=torch.float64)
    assert float((z.square() @ c).var()) == pytest.approx(float(2 * c.square().sum()), rel=0.03)


def test_figure_3_reports_the_better_sphere():
    alphas = spheres.alphas(zoo.load("sphere_quadratic_100k"))
    inner, outer = (spheres.quadratic_log_error(alphas, sphere=s) / math.log(10) for s in ("inner", "outer"))
    assert outer > inner + 2


def test_the_label_at_two_dimensions():
    """Figure 3 (version 3) labels 1.4, .23, .104 and .052 at d = 2, 100, 500, 2000 for a measure of 0.01."""
    for d, label, digits in ((100, 0.23, 2), (500, 0.104, 3), (2000, 0.052, 3)):
        assert round(spheres.optimal_distance(math.log(0.01), d), digits) == label
    for metric in ("chord", "geodesic"):
        assert abs(spheres.optimal_distance(math.log(0.01), 2, metric) - 1.4) > 0.1
