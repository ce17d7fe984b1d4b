"""The errata of Adversarial Spheres, each shown wrong as printed and right as corrected."""

import math

import pytest
import torch
from scipy.integrate import quad
from scipy.stats import norm

from advlab import evaluate, spheres, zoo
from labbook import results
from labbook.adversarial_spheres import geometry_claims, quadratic_claims

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


def test_the_network_that_the_paper_printed_errs_visibly_on_the_other_sphere():
    """Its histogram, by the exact law and by plain sampling: 10^-5 outside, where the paper says 10^-11 of the inside."""
    alphas = quadratic_claims.printed_alphas()
    assert len(alphas) == 500
    inner, outer = (spheres.quadratic_log_error(alphas, sphere=s) / math.log(10) for s in ("inner", "outer"))
    normal = spheres.quadratic_log_error(alphas, method="clt") / math.log(10)
    assert normal == pytest.approx(-10.99, abs=0.05), "the paper's number"
    assert inner == pytest.approx(-12.24, abs=0.02)
    assert outer == pytest.approx(-5.16, abs=0.02)
    generator, wrong = torch.Generator().manual_seed(0), 0
    for _ in range(20):
        x = spheres.sample_sphere(20_000, 500, 1.3, generator=generator)
        wrong += int((x.square() @ alphas.float() < 1).sum())
    low, high = evaluate.clopper_pearson(wrong, 400_000, 0.999)
    assert wrong > 0
    assert low < 10**outer < high


def test_the_labels_of_the_figure_on_caps_are_arcs_on_spheres_of_that_dimension():
    """Figure 3 (version 3): no erratum. In n + 1 dimensions of space all four fit; in n the first does not."""
    for n, label in ((2, 1.4), (100, 0.23), (500, 0.104), (2000, 0.052)):
        digits = len(str(label)) - 2
        assert round(spheres.optimal_distance(math.log(0.01), n + 1, "geodesic"), digits) == label
    assert round(spheres.optimal_distance(math.log(0.01), 2, "geodesic"), 1) != 1.4


# ------------------------------------------------------------------------------------ errors along equal long axes (theorem)


@pytest.mark.parametrize("k", [1, 3])
def test_distances_along_equal_axes_agree_with_a_search(k):
    """In 6 dimensions, against the nearest of many points of the set itself."""
    rate = 0.03
    found = geometry_claims.long_axes_distance(k, rate, 6)
    g = torch.Generator().manual_seed(0)
    x = spheres.sample_sphere(2_000, 6, generator=g).double()
    inside = x[:, :k].norm(dim=1)
    edge = float(inside.quantile(1 - rate))
    errors = spheres.sample_sphere(400_000, 6, generator=g).double()
    errors = errors[errors[:, :k].norm(dim=1) >= edge]
    rim = errors.clone()  # the nearest point lies on the rim of the set
    rim[:, :k] *= edge / errors[:, :k].norm(dim=1, keepdim=True)
    rim[:, k:] *= (1 - edge**2) ** 0.5 / errors[:, k:].norm(dim=1, keepdim=True)
    distance = torch.where(inside >= edge, 0.0, torch.cat([torch.cdist(part, rim).amin(1) for part in x.split(200)]))
    assert float(distance.mean()) == pytest.approx(found, rel=0.05)
    assert float(distance.mean()) > 0.99 * found, "sampled, so a little farther"


def test_two_caps_in_many_dimensions_tend_to_the_normal_form_and_its_ratio_to_one():
    def positive_part(height):  # E(height - Z)+
        return height * norm.cdf(height) + norm.pdf(height)

    for rate, within in ((1e-2, 2e-3), (1e-6, 2e-3)):
        h, half = -norm.ppf(rate), -norm.ppf(rate / 2)
        two = 2 * quad(lambda z, top=half: (top - z) * norm.pdf(z), 0, half)[0]
        ratio = two / positive_part(h)
        d = 1_000_000
        measured = geometry_claims.long_axes_distance(1, rate, d) / spheres.optimal_distance(math.log(rate), d)
        assert measured == pytest.approx(ratio, abs=within)
    ratios = []
    for rate in (1e-3, 1e-10, 1e-100, 1e-300):
        h, half = -norm.ppf(rate), -norm.ppf(rate / 2)
        two = 2 * quad(lambda z, top=half: (top - z) * norm.pdf(z), 0, min(half, 40))[0]
        ratios.append(two / positive_part(h))
    assert ratios == sorted(ratios)
    assert 0.97 < ratios[-1] < 1


def test_one_over_root_two_is_the_limit_of_many_axes_and_no_law_of_degree_two():
    law = results.get("adversarial_spheres.two_caps").series
    at = {(int(k), r): ratio for k, r, ratio in zip(law["axes"], law["log10_error"], law["ratio"], strict=True)}
    assert at[1, -6.0] == pytest.approx(0.861, abs=0.002)
    assert at[1, -30.0] == pytest.approx(0.935, abs=0.002)
    assert at[100, -6.0] == pytest.approx(0.5**0.5, abs=0.03)
    for rate in (-3.0, -6.0, -10.0, -30.0):
        ratios = [at[k, rate] for k in (1, 2, 5, 20, 100, 250)]
        assert ratios == sorted(ratios, reverse=True), "the fewer long axes, the farther"
    assert at[1, -1.0] < at[5, -1.0], "but not where one point in ten is an error"
