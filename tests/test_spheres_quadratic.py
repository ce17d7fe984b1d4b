"""Error rates against closed forms and integrals by other methods in many digits, nearest errors against brute force."""

import math
import time
import types

import mpmath as mp
import numpy as np
import pytest
import torch
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy.optimize import minimize
from scipy.special import log_ndtr

from advlab import models, spheres

R = 1.3
LOG10 = math.log(10)
BOTH = pytest.mark.parametrize("sphere", ["inner", "outer"])


def coefficients(alphas, sphere, radius=R):
    """The c of the error cone, in mpmath."""
    return [mp.mpf(float(a)) - 1 if sphere == "inner" else 1 / mp.mpf(radius) ** 2 - mp.mpf(float(a)) for a in alphas]


def log_of_two_values(high, k, low, rest):
    """Log P(high A > low B), A and B chi-squared of k and ``rest`` degrees: a beta law."""
    y = high / (high + low)
    below = mp.betainc(mp.mpf(rest) / 2, mp.mpf(k) / 2, 0, y, regularized=True)  # B / (A + B) < y
    return mp.log(below) if below < 0.9 else mp.log1p(-mp.betainc(mp.mpf(k) / 2, mp.mpf(rest) / 2, 0, 1 - y, regularized=True))


def log_of_pairs(c):
    """Log P(sum c z^2 > 0) where every c of the list (all different) counts twice: exponentials, by partial fractions."""
    with mp.workdps(300):
        c = [+v for v in c]
        return mp.log(mp.fsum(mp.fprod(ci / (ci - cj) for cj in c if cj != ci) for ci in c if ci > 0))


def log_of_one_positive(top, others):
    """Log P(top z^2 > sum |c| z^2), others a list of (|c|, multiplicity): the integral around the one cut, on the real axis."""
    start = 1 / (2 * top)

    def log_height(x):  # s = start (1 + e^x)
        s = start * (1 + mp.exp(x))
        return x / 2 - sum(m * mp.log1p(2 * c * s) for c, m in others) / 2 - mp.log1p(mp.exp(x))

    grid = [mp.mpf(k) for k in range(-60, 61)]
    heights = [log_height(x) for x in grid]
    peak = max(heights)
    used = [x for x, h in zip(grid, heights, strict=True) if h > peak - 40]
    return peak + mp.log(mp.quad(lambda x: mp.exp(log_height(x) - peak), mp.linspace(used[0] - 1, used[-1] + 1, 8)) / mp.pi)


def log_by_gil_pelaez(c):
    """Log P(sum c z^2 > 0) from the characteristic function on the imaginary axis (Imhof 1961)."""

    def height(x):
        u = [v * mp.exp(x) for v in c]
        return mp.sin(sum(map(mp.atan, u)) / 2) / mp.exp(sum(mp.log1p(v * v) for v in u) / 4)

    low, high = -mp.log(max(map(abs, c))) - 30, -mp.log(min(map(abs, c))) + 70 / mp.mpf(len(c))
    return mp.log(mp.mpf(1) / 2 + mp.quad(height, mp.linspace(low, high, 16)) / mp.pi)


@BOTH
@pytest.mark.parametrize("d", [2, 3, 5, 50, 101, 500])
def test_error_rates_of_two_alphas_follow_a_beta_law(d, sphere):
    with mp.workdps(40):
        for k in sorted({1, d // 3, d // 2, d - 1} - {0}):
            for bad, good in ((1.0001, 0.6), (1.5, 0.77), (30.0, 0.999), (0.5, 0.9), (0.0, 0.60), (0.59, 0.99)):
                c = coefficients([bad, good], sphere)
                found = spheres.quadratic_log_error([bad] * k + [good] * (d - k), R, sphere)
                if c[0] > 0 > c[1]:
                    expected = log_of_two_values(c[0], k, -c[1], d - k)
                    assert abs(found - expected) <= 1e-9 * abs(expected) + mp.mpf("1e-300")  # 1 - P may be below float64
                else:
                    assert found == -math.inf, "the other sphere has no errors"


def test_two_dimensions_have_an_arctangent():
    for high, low in ((1e-12, 0.3), (1e-3, 0.2), (0.5, 0.5), (2.0, 1e-6)):
        expected = math.log(2 / math.pi * math.atan(math.sqrt(((1 + high) - 1) / (1 - (1 - low)))))
        assert spheres.quadratic_log_error([1 + high, 1 - low]) == pytest.approx(expected, rel=1e-9)


@BOTH
@pytest.mark.parametrize("pairs", [2, 20, 250])
@pytest.mark.parametrize("bounds", [(0.3, 1.1), (0.58, 1.001), (0.1, 3.0)])
def test_error_rates_of_doubled_spectra_have_partial_fractions(pairs, bounds, sphere):
    alphas = np.random.default_rng(pairs).uniform(*bounds, pairs)
    alphas[:2] = bounds  # errors on both spheres
    with mp.workdps(60):
        expected = log_of_pairs(coefficients(alphas, sphere))
    found = spheres.quadratic_log_error(np.repeat(alphas, 2), R, sphere)
    assert abs(found / expected - 1) < 1e-9
    approximate = spheres.quadratic_log_error(np.repeat(alphas, 2), R, sphere, "saddlepoint")
    assert abs(approximate - found) < (0.1 if pairs == 250 else 0.2)


def test_one_bad_alpha_of_500_against_an_integral_on_the_real_axis():
    with mp.workdps(25):
        for bad, log10 in ((3.0, -12.76), (1 + 1e-6, None)):
            (top,), (other,) = coefficients([bad], "inner"), coefficients([0.77], "inner")
            found = spheres.quadratic_log_error([0.77] * 250 + [bad] + [0.77] * 249)
            assert abs(found / log_of_one_positive(top, [(-other, 499)]) - 1) < 1e-9
            assert found / LOG10 == pytest.approx(log10, abs=0.005) if log10 else found / LOG10 < -1000
        alphas = np.exp(np.random.default_rng(0).normal(-3, 2, 14))
        alphas = np.append(alphas[alphas < 0.99], [0.0, 0.0, 0.0, 1.05])  # an odd number, of many magnitudes
        *others, top = coefficients(alphas, "inner")
        assert abs(spheres.quadratic_log_error(alphas) / log_of_one_positive(top, [(-c, 1) for c in others]) - 1) < 1e-9


@BOTH
@pytest.mark.parametrize("d", [3, 9])
def test_other_odd_spectra_against_gil_pelaez(d, sphere):
    alphas = np.random.default_rng(d).uniform(0.2, 1.4, d)
    with mp.workdps(20):
        expected = log_by_gil_pelaez(coefficients(alphas, sphere))
    assert abs(spheres.quadratic_log_error(alphas, R, sphere) / expected - 1) < 1e-9


def test_two_dominant_alphas_against_sampling_and_their_union():
    alphas = [40.0, 41.0] + [0.6] * 498
    z2 = np.random.default_rng(0).normal(size=(400_000, 2)) ** 2
    rest = np.random.default_rng(1).chisquare(498, 400_000)
    hits = 39 * z2[:, 0] + 40 * z2[:, 1] > 0.4 * rest
    p = math.exp(spheres.quadratic_log_error(alphas))
    assert abs(hits.mean() - p) < 4 * math.sqrt(p * (1 - p) / len(hits))


@BOTH
def test_error_rates_agree_with_counting(sphere):
    alphas = np.random.default_rng(3).gamma(6, 0.13, 40)
    radius = 1 if sphere == "inner" else R
    x = spheres.sample_sphere(150_000, 40, radius, generator=torch.Generator().manual_seed(0)).double()
    outer = x.square() @ torch.tensor(alphas) > 1
    wrong = outer if sphere == "inner" else ~outer
    p = math.exp(spheres.quadratic_log_error(alphas, R, sphere))
    assert 0.001 < p < 0.5
    assert abs(wrong.double().mean() - p) < 4 * math.sqrt(p * (1 - p) / len(x))


SPECTRA = hnp.arrays(float, st.integers(2, 30), elements=st.floats(0, 3).map(lambda a: round(a, 3)))


@given(alphas=SPECTRA, data=st.data())
@settings(deadline=None)
def test_error_rates_are_probabilities_whatever_the_order_and_grow_with_alpha(alphas, data):
    for method in ("exact", "saddlepoint", "clt"):
        inner, outer = (spheres.quadratic_log_error(alphas, R, sphere, method) for sphere in ("inner", "outer"))
        assert inner <= 0
        assert outer <= 0
        order = data.draw(st.permutations(range(len(alphas))))
        assert spheres.quadratic_log_error(alphas[order], R, "inner", method) == pytest.approx(inner, rel=1e-9, abs=1e-12)
    larger = alphas.copy()
    larger[0] += 0.1
    assert spheres.quadratic_log_error(larger) >= spheres.quadratic_log_error(alphas) - 1e-12
    assert spheres.quadratic_log_error(larger, R, "outer") <= spheres.quadratic_log_error(alphas, R, "outer") + 1e-12


@given(alphas=SPECTRA)
@settings(deadline=None)
def test_certificates_are_infinite_and_only_they(alphas):
    inner, outer = (spheres.quadratic_log_error(alphas, R, sphere) for sphere in ("inner", "outer"))
    assert (inner == -math.inf) == (alphas.max() <= 1)
    assert (outer == -math.inf) == (alphas.min() >= 1 / R**2)
    assert spheres.is_perfect(alphas) == (inner == outer == -math.inf and alphas.min() > 1 / R**2)
    if alphas.min() >= 1 and alphas.max() > 1:
        assert inner == 0.0


def test_one_sphere_and_its_complement_share_all_points():
    """P(sum c z^2 > 0) + P(sum c z^2 < 0) = 1: an inner spectrum a and an outer one a - 1 + 1 / R^2 have opposite c."""
    random = np.random.default_rng(0)
    for d in (2, 3, 10, 99):
        alphas = random.uniform(0.75, 1.25, d)
        shares = [spheres.quadratic_log_error(alphas), spheres.quadratic_log_error(alphas - 1 + 1 / R**2, R, "outer")]
        assert sum(map(math.exp, shares)) == pytest.approx(1, abs=1e-12)
    for shift in (-1e-3, -1e-9, -1e-13, 0.0, 1e-13, 1e-9, 1e-3):  # symmetric about the mean: the saddlepoint meets the pole
        alphas = np.array([0.5, 1.5, 0.75, 1.25]) + shift
        for method, slack in (("exact", 1e-12), ("saddlepoint", 1e-8), ("clt", 1e-8)):
            p = math.exp(spheres.quadratic_log_error(alphas, method=method))
            mirrored = math.exp(spheres.quadratic_log_error(2 - alphas, method=method))
            assert p + mirrored == pytest.approx(1, abs=slack)
            assert p == pytest.approx(0.5, abs=abs(shift) * 3 + slack)


def test_zero_coefficients_count_for_nothing():
    for method in ("exact", "saddlepoint"):
        alone = spheres.quadratic_log_error([1.5, 0.5, 0.7], method=method)
        assert spheres.quadratic_log_error([1.0, 1.5, 1.0, 0.5, 0.7], method=method) == pytest.approx(alone, rel=1e-12)
    assert spheres.quadratic_log_error([1.0, 1.0]) == -math.inf
    assert spheres.quadratic_log_error([1.0, 1.0], method="clt") == -math.inf
    assert spheres.quadratic_log_error([1.0, 1.1]) == 0.0


def test_the_clt_is_the_corrected_equation_3():
    alphas = np.random.default_rng(0).uniform(0.5, 1.2, 100)
    for sphere, c in (("inner", alphas - 1), ("outer", 1 / R**2 - alphas)):
        expected = log_ndtr(c.sum() / math.sqrt(2 * (c**2).sum()))
        assert spheres.quadratic_log_error(alphas, R, sphere, "clt") == pytest.approx(expected, rel=1e-12)
    perfect = spheres.quadratic_log_error([0.77] * 500, method="clt") / LOG10
    assert perfect == pytest.approx(-55.9, abs=0.05), "it never sees that the network is perfect"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([[1.0]],), r"must be \(d,\)"),
        (([],), r"must be \(d,\)"),
        (([1.0, math.nan],), "finite and at least 0"),
        (([1.0, math.inf],), "finite and at least 0"),
        (([1.0, -0.1],), "finite and at least 0"),
        (([1.0], 1.0), "above 1"),
        (([1.0], math.nan), "above 1"),
        (([1.0], R, "middle"), "'inner' or 'outer'"),
        (([1.0], R, "inner", "gauss"), "exact, saddlepoint, clt"),
    ],
)
def test_arguments_that_make_no_sense_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        spheres.quadratic_log_error(*arguments)
    if len(arguments) < 3:
        with pytest.raises(ValueError, match=message):
            spheres.is_perfect(*arguments)
        with pytest.raises(ValueError, match=message):
            spheres.nearest_error_quadratic(torch.zeros(1, 1), *arguments)
    if len(arguments) < 4:
        with pytest.raises(ValueError, match=message):
            spheres.mean_field_distance(*arguments)


@pytest.mark.parametrize("width", [3, 5, 9])
def test_the_spectrum_of_a_network_is_its_decision(width):
    net = models.SphereQuadratic(5, width)
    alphas, axes = spheres.eigenbasis(net)
    assert alphas.dtype == axes.dtype == torch.float64
    assert not alphas.requires_grad
    assert torch.equal(alphas, alphas.sort().values)
    assert int((alphas < 1e-12).sum()) == max(5 - width, 0)
    assert (spheres.alphas(net) - alphas).abs().max() < 1e-12
    with torch.no_grad():
        singular = torch.linalg.svdvals(net.weight.double())
        expected = -net.scale.double() / net.bias.double() * singular.square().sort().values
        assert (alphas[-len(expected) :] - expected).abs().max() < 1e-12
        x = torch.randn(1000, 5, generator=torch.Generator().manual_seed(0))
        boundary = (x.double() @ axes).square() @ alphas - 1
        clear = boundary.abs() > 1e-4
        assert torch.equal((net(x) > 0)[clear], (boundary > 0)[clear])


@pytest.mark.parametrize(("scale", "bias"), [(1.0, 1.0), (-1.0, -1.0), (0.0, -1.0), (1.0, 0.0), (math.nan, -1.0)])
def test_networks_without_an_ellipsoid_are_refused(scale, bias):
    net = types.SimpleNamespace(weight=torch.eye(3), scale=torch.tensor(scale), bias=torch.tensor(bias))
    for call in (spheres.alphas, spheres.eigenbasis):
        with pytest.raises(ValueError, match="scale > 0 > bias"):
            call(net)
    flat = types.SimpleNamespace(weight=torch.ones(3), scale=torch.tensor(1.0), bias=torch.tensor(-1.0))
    with pytest.raises(ValueError, match=r"must be \(h, d\)"):
        spheres.alphas(flat)


def check_errors(x, alphas, distance, error):
    """Every error lies on the sphere of its point and on the boundary, as far away as is said; wrong points stay."""
    x = x.double()
    radius = x.norm(dim=1)
    outer = (radius - R).abs() < (radius - 1).abs()
    alphas = torch.as_tensor(alphas, dtype=torch.float64)
    c = torch.where(outer[:, None], 1 / R**2 - alphas, alphas - 1)
    wrong = (c * x.square()).sum(1) >= 0
    assert torch.equal(distance == 0, wrong)
    assert torch.equal(error[wrong], x[wrong])
    residual = (c * error.square()).sum(1).abs() / (c.abs() * error.square()).sum(1)
    assert (residual[~wrong] <= 1e-10).all()
    assert ((error.norm(dim=1) - radius).abs() <= 1e-10).all()
    assert ((error - x).norm(dim=1) - distance).abs().max() <= 1e-12


@pytest.mark.parametrize("radius", [1.0, R])
def test_nearest_errors_in_the_plane_against_a_fine_grid(radius):
    alphas = torch.tensor([0.4, 1.2], dtype=torch.float64)
    turn = torch.linspace(0, 2 * math.pi, 400_001, dtype=torch.float64)
    circle = radius * torch.stack([turn.cos(), turn.sin()], 1)
    value = circle.square() @ alphas
    errors = circle[value > 1 if radius == 1 else value < 1]
    x = spheres.sample_sphere(50, 2, radius, generator=torch.Generator().manual_seed(0))
    distance, error = spheres.nearest_error_quadratic(x, alphas)
    check_errors(x, alphas, distance, error)
    assert (torch.cdist(x.double(), errors).amin(1) - distance).abs().max() < 3e-5


def test_nearest_errors_in_space_against_a_fine_grid():
    alphas = torch.tensor([0.7, 1.3, 0.9], dtype=torch.float64)
    k = torch.arange(1_000_000, dtype=torch.float64)  # a Fibonacci spiral
    height, turn = 1 - (2 * k + 1) / len(k), k * math.pi * (3 - 5**0.5)
    flat = (1 - height**2).sqrt()
    sphere = torch.stack([flat * turn.cos(), flat * turn.sin(), height], 1)
    errors = sphere[sphere.square() @ alphas > 1]
    x = spheres.sample_sphere(20, 3, generator=torch.Generator().manual_seed(0))
    distance, error = spheres.nearest_error_quadratic(x, alphas)
    check_errors(x, alphas, distance, error)
    grid = torch.stack([(errors - row).norm(dim=1).min() for row in x.double()])
    assert (grid - distance).abs().max() < 5e-3
    assert (grid - distance).min() > -1e-6, "nothing on the grid is nearer"


@pytest.mark.parametrize("d", [5, 8])
@pytest.mark.parametrize("radius", [1.0, R])
def test_no_local_search_finds_a_nearer_error(d, radius):
    random = np.random.default_rng(d)
    alphas = np.append(random.uniform(0.4, 1.2, d - 1), 0.45)
    c = alphas - 1 if radius == 1 else 1 / R**2 - alphas
    x = spheres.sample_sphere(4, d, radius, generator=torch.Generator().manual_seed(d)).double()
    distance, error = spheres.nearest_error_quadratic(x, alphas)
    check_errors(x, alphas, distance, error)
    for row, least in zip(x.numpy(), distance.tolist(), strict=True):
        rules = [
            {"type": "eq", "fun": lambda y: y @ y - radius**2, "jac": lambda y: 2 * y},
            {"type": "ineq", "fun": lambda y: c @ y**2, "jac": lambda y: 2 * c * y},
        ]
        found = []
        for _ in range(12):
            answer = minimize(
                lambda y, row=row: ((y - row) ** 2).sum(),
                row + random.normal(size=d) / 2,
                jac=lambda y, row=row: 2 * (y - row),
                method="SLSQP",
                constraints=rules,
                options={"ftol": 1e-14, "maxiter": 300},
            )
            if abs(answer.x @ answer.x - radius**2) < 1e-9 and c @ answer.x**2 > -1e-9:
                found.append(math.sqrt(max(answer.fun, 0)))
        assert len(found) >= 3
        assert min(found) == pytest.approx(least, abs=1e-5)


@pytest.mark.parametrize("tiny", [0.0, 1e-300, 1e-170, 1e-120, 1e-30, 1e-12, 1e-6])
@pytest.mark.parametrize("axes", [1, 2])
def test_points_orthogonal_to_the_worst_axes_are_no_exception(tiny, axes):
    """The hard case: the answer must not jump as the component along the largest alpha vanishes."""
    alphas = torch.tensor([0.5, 0.8, 0.9] + [1.5] * axes, dtype=torch.float64)
    x = torch.tensor([[0.6, 0.8, 0.0] + [tiny] * axes], dtype=torch.float64)
    distance, error = spheres.nearest_error_quadratic(x, alphas)
    check_errors(x, alphas, distance, error)
    rest = x[0, :3] / (1.5 - alphas[:3])  # (I - C / max c)^-1 x, times what the worst axes add
    y = torch.cat([rest, torch.zeros(axes, dtype=torch.float64)])
    missing = -((alphas - 1) * y.square()).sum()
    y[3:] = (missing / 0.5 / axes).sqrt()
    expected = (y / y.norm() - x[0]).norm()
    assert float(distance) == pytest.approx(float(expected), abs=1e-11 + 2 * tiny)


def test_a_second_axis_may_be_nearer_than_an_orthogonal_worst_one():
    alphas = torch.tensor([0.9, 1.3, 1.4], dtype=torch.float64)
    x = torch.tensor([[0.9, 0.43, 0.0], [0.87, 0.48, 0.0]], dtype=torch.float64)
    x /= x.norm(dim=1, keepdim=True)
    distance, error = spheres.nearest_error_quadratic(x, alphas)
    check_errors(x, alphas, distance, error)
    turn = torch.linspace(0, 2 * math.pi, 1001, dtype=torch.float64)
    height = torch.linspace(0, 1, 501, dtype=torch.float64)[:, None]
    flat = (1 - height**2).sqrt()
    sphere = torch.stack([flat * turn.cos(), flat * turn.sin(), height.expand(-1, len(turn))], -1).flatten(0, 1)
    errors = sphere[sphere.square() @ alphas > 1]
    for row, least in zip(x, distance, strict=True):
        assert float((errors - row).norm(dim=1).min() - least) == pytest.approx(0, abs=5e-3)
        assert float((errors - row).norm(dim=1).min() - least) > -1e-9


@given(
    alphas=hnp.arrays(float, st.integers(2, 12), elements=st.floats(0, 3)),
    seed=st.integers(0, 1000),
    radius=st.sampled_from([1.0, R]),
)
@example(alphas=np.array([1 + 1e-15] + [0.7] * 5), seed=0, radius=1.0)
@example(alphas=np.array([1 + 1e-15, 1 + 2e-15, 0.0]), seed=0, radius=1.0)
@settings(deadline=None)
def test_nearest_errors_are_errors_nearer_than_any_sampled_one(alphas, seed, radius):
    c = alphas - 1 if radius == 1 else 1 / R**2 - alphas
    assume(c.max() > 0)
    draw = torch.Generator().manual_seed(seed)
    x = spheres.sample_sphere(30, len(alphas), radius, generator=draw)
    distance, error = spheres.nearest_error_quadratic(x, alphas)
    check_errors(x, alphas, distance, error)
    others = spheres.sample_sphere(300, len(alphas), radius, generator=draw).double()
    others = others[others.square() @ torch.tensor(c) > 0]
    if len(others):
        assert ((torch.cdist(x.double(), others).amin(1) - distance) > -1e-9).all()
    order = torch.randperm(len(alphas), generator=draw)
    assert (spheres.nearest_error_quadratic(x[:, order], alphas[order.numpy()])[0] - distance).abs().max() < 1e-9


def test_points_next_to_the_boundary_of_a_nearly_perfect_network():
    alphas = torch.tensor([1 + 1e-13, 0.7, 0.8], dtype=torch.float64)
    c = alphas - 1
    for step in (1e-3, 1e-8, 1e-12):
        x = torch.tensor([[1.0, float((c[0] / -c[1]).sqrt()) * (1 + step), 0.0]], dtype=torch.float64)
        x /= x.norm()
        distance, error = spheres.nearest_error_quadratic(x, alphas)
        check_errors(x, alphas, distance, error)
        assert 0 < float(distance) < 1e-9


def test_both_spheres_in_one_call_and_nothing_changed_in_place():
    alphas = torch.tensor([0.2, 0.8, 1.4], dtype=torch.float64)
    x, y = spheres.concentric_spheres(40, 3, generator=torch.Generator().manual_seed(0))
    before = x.clone()
    distance, error = spheres.nearest_error_quadratic(x, alphas)
    check_errors(x, alphas, distance, error)
    for label in (0, 1):
        assert torch.equal(distance[y == label], spheres.nearest_error_quadratic(x[y == label], alphas)[0])
    assert torch.equal(x, before)
    assert spheres.nearest_error_quadratic(x[:0], alphas)[1].shape == (0, 3)


def test_a_perfect_sphere_has_no_nearest_error():
    x, y = spheres.concentric_spheres(40, 3, generator=torch.Generator().manual_seed(0))
    for alphas in ([0.3, 0.8, 0.9], [0.3, 0.8, 1.0]):
        distance, error = spheres.nearest_error_quadratic(x, alphas)
        assert torch.equal(distance.isnan(), y == 0)
        assert torch.equal(error.isnan().all(1), y == 0)
        assert math.isnan(spheres.mean_field_distance(alphas))
        assert spheres.mean_field_distance(alphas, R, "outer") > 0


def test_points_on_neither_sphere_are_refused():
    with pytest.raises(ValueError, match=r"row 1 of x has the length 1\.1"):
        spheres.nearest_error_quadratic(torch.tensor([[1.0, 0.0], [1.1, 0.0]]), [0.5, 1.5])
    with pytest.raises(ValueError, match="row 0"):
        spheres.nearest_error_quadratic(torch.tensor([[math.nan, 0.0]]), [0.5, 1.5])
    with pytest.raises(ValueError, match=r"it must be \(n, 2\)"):
        spheres.nearest_error_quadratic(torch.ones(1, 3), [0.5, 1.5])
    with pytest.raises(ValueError, match=r"it must be \(n, 2\)"):
        spheres.nearest_error_quadratic(torch.ones(2), [0.5, 1.5])


@BOTH
@pytest.mark.parametrize(("d", "slack"), [(20, 0.12), (100, 0.03), (500, 0.01)])
def test_the_mean_field_is_near_the_mean(d, slack, sphere):
    alphas = np.random.default_rng(d).uniform(0.4, 1.15, d)
    radius = 1.0 if sphere == "inner" else R
    x = spheres.sample_sphere(600, d, radius, generator=torch.Generator().manual_seed(0))
    mean = float(spheres.nearest_error_quadratic(x, alphas)[0].mean()) / radius
    assert spheres.mean_field_distance(alphas, R, sphere) == pytest.approx(mean, rel=slack)
    assert spheres.mean_field_distance([3.0] * d) == 0.0


@pytest.mark.parametrize(("d", "clt", "exact"), [(500, 412, 392), (1000, 669, 635), (3000, 1145, 1091)])
def test_ignoring_inputs_reproduces_the_papers_62_percent(d, clt, exact):
    goal = math.log(1e-14)
    assert spheres.inputs_needed(goal, d, method="clt") == clt
    assert spheres.inputs_needed(goal, d) == exact
    assert spheres.ignored_log_error(exact, d) < goal <= spheres.ignored_log_error(exact - 1, d)
    assert spheres.ignored_log_error(clt, d, method="clt") < goal <= spheres.ignored_log_error(clt - 1, d, method="clt")


@pytest.mark.parametrize(("used", "d"), [(1, 2), (1, 50), (25, 50), (49, 50), (300, 500), (499, 500)])
@pytest.mark.parametrize("method", ["exact", "clt"])
def test_the_best_network_that_ignores_inputs_is_the_balanced_one(used, d, method):
    def worst(alpha):
        alphas = [alpha] * used + [0.0] * (d - used)
        return max(spheres.quadratic_log_error(alphas, R, sphere, method) for sphere in ("inner", "outer"))

    found = spheres.ignored_log_error(used, d, R, method)
    least = min(map(worst, np.geomspace(d / used / R**2, 6 * d / used, 200)))
    assert found <= least + 1e-9
    assert least < found * 0.9
    larger = [spheres.ignored_log_error(k, d, R, method) for k in range(1, d, max(1, d // 7))]
    assert larger == sorted(larger, reverse=True)


def test_ignoring_nothing_or_everything():
    assert spheres.ignored_log_error(500, 500) == -math.inf
    assert spheres.ignored_log_error(500, 500, method="clt") == pytest.approx(float(log_ndtr(-math.sqrt(250))))
    assert spheres.inputs_needed(-1e9, 500) == 500
    assert spheres.inputs_needed(-1e-9, 500) == 1
    with pytest.raises(ValueError, match="even all 500 inputs"):
        spheres.inputs_needed(-1e9, 500, method="clt")
    for bad in (0, 501):
        with pytest.raises(ValueError, match="from 1 to 500"):
            spheres.ignored_log_error(bad, 500)
    with pytest.raises(ValueError, match="at most 1e"):
        spheres.ignored_log_error(5, math.inf)
    with pytest.raises(ValueError, match="exact or clt"):
        spheres.ignored_log_error(3, 500, method="saddlepoint")
    with pytest.raises(ValueError, match="above 1"):
        spheres.ignored_log_error(3, 500, 0.9)


def test_the_exact_answers_are_quick():
    alphas = np.random.default_rng(0).uniform(0.4, 1.15, 500)
    x = spheres.sample_sphere(1000, 500, generator=torch.Generator().manual_seed(0))
    costs = {}
    for name, call, times in (
        ("error", lambda: spheres.quadratic_log_error(alphas), 20),
        ("distance", lambda: spheres.nearest_error_quadratic(x, alphas), 1),
        ("mean field", lambda: spheres.mean_field_distance(alphas), 20),
    ):
        call()
        start = time.process_time()
        for _ in range(times):
            call()
        costs[name] = (time.process_time() - start) / times
    assert costs["error"] < 0.03
    assert costs["distance"] < 1.5
    assert costs["mean field"] < 0.01
