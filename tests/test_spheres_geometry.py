"""Caps against 30-digit integration and closed forms, the optimal distance against other sets, and the samples' law."""

import math
import time

import mpmath as mp
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy import stats

from advlab import spheres

HALF = math.pi / 2
LOG10 = math.log(10)
DIMENSIONS = st.sampled_from([2, 3, 4, 9, 20, 100, 500, 3072, 150_528])
METRICS = pytest.mark.parametrize("metric", ["chord", "geodesic"])


def integral(f, reach, d):
    """The integral of f(reach - p) sin(p)^(d-2), over that of a sphere, for p from 0 to ``reach``, at 30 digits."""
    with mp.workdps(30):
        reach = mp.mpf(reach)
        peak = min(reach, mp.pi / 2)
        width = min(1 / mp.sqrt(max(d - 2, 1)), mp.tan(peak) / max(d - 2, 1))
        inner = {peak + k * width for k in (-60, -20, -8, -3, 0, 3, 8, 20)}
        ends = sorted({mp.mpf(0), reach} | {p for p in inner if 0 < p < reach})
        size = reach**2 / d  # the integrand is scaled to about 1: mpmath stops at an absolute error
        value = mp.quad(lambda p: f(reach - p) * (mp.sin(p) / mp.sin(peak)) ** (d - 2) / size, ends)
        return value * size * mp.sin(peak) ** (d - 2) / mp.beta(mp.mpf(d - 1) / 2, mp.mpf(1) / 2)


def log_cap(angle, d):
    with mp.workdps(30):
        return mp.log(integral(lambda s: 1, angle, d)) if angle < HALF else mp.log1p(-integral(lambda s: 1, mp.pi - angle, d))


@pytest.mark.parametrize("d", [2, 3, 7, 500, 150_528])
@pytest.mark.parametrize("log_measure", [-1e-9, -0.3, -math.log(2), -0.8, -20.0, -600.0, -5000.0])
def test_cap_measures_agree_with_integration_at_30_digits(d, log_measure):
    if log_measure < -707 * (d - 1):
        with pytest.raises(ValueError, match="no float64 holds the angle"):
            spheres.cap_angle(log_measure, d)
        return
    angle = spheres.cap_angle(log_measure, d)
    expected = log_cap(angle, d)
    assert abs(spheres.log_cap_measure(angle, d) / expected - 1) < 1e-10
    assert abs(expected - log_measure) < 1e-9


def test_cap_measures_have_their_closed_forms_and_ends():
    for angle in (1e-300, 1e-9, 0.3, 1.5, HALF, 1.6, 3.0, 3.1415926):
        assert spheres.log_cap_measure(angle, 2) == pytest.approx(math.log(angle / math.pi), rel=1e-13)
        in_space = 2 * math.log(math.sin(angle / 2)) if angle < 2 else math.log1p(-(math.cos(angle / 2) ** 2))
        assert spheres.log_cap_measure(angle, 3) == pytest.approx(in_space, rel=1e-13)
    for d in (2, 500):
        assert spheres.log_cap_measure(0.0, d) == -math.inf
        assert spheres.log_cap_measure(math.pi, d) == 0.0
        assert spheres.log_cap_measure(HALF, d) == pytest.approx(-math.log(2), rel=1e-14)
        assert spheres.cap_angle(-math.inf, d) == 0.0
        assert spheres.cap_angle(0.0, d) == math.pi
        assert spheres.mean_distance_to_cap(math.pi, d) == 0.0


@given(
    d=DIMENSIONS, log_measure=st.one_of(st.floats(-5000, -1e-3), st.floats(-2, 0), st.floats(-300, 5).map(lambda e: -(10**e)))
)
@settings(deadline=None)
def test_the_angle_inverts_the_measure(d, log_measure):
    assume(log_measure > -706 * (d - 1) or d > 9)
    assume(log_measure >= -5000)
    assert abs(spheres.log_cap_measure(spheres.cap_angle(log_measure, d), d) - log_measure) < 1e-9


@given(d=DIMENSIONS, angles=st.tuples(st.floats(1e-3, 3.1), st.floats(1e-3, 3.1)))
@settings(deadline=None)
def test_larger_caps_cover_more_and_lie_nearer(d, angles):
    small, large = sorted(angles)
    assume(large - small > 1e-6)
    assert spheres.log_cap_measure(small, d) <= spheres.log_cap_measure(large, d)
    for metric in ("chord", "geodesic"):
        far, near = (spheres.mean_distance_to_cap(angle, d, metric) for angle in (small, large))
        assert far > near or far == near == 0, "distances may underflow to 0, no more"
    assert spheres.mean_distance_to_cap(small, d) <= spheres.mean_distance_to_cap(small, d, "geodesic") * (1 + 1e-12)


@METRICS
@pytest.mark.parametrize("d", [2, 3, 20, 500, 150_528])
def test_mean_distances_agree_with_integration_at_30_digits(d, metric):
    for angle in (1e-9, 0.5, 1.3, 1.55, HALF, 1.58, 1.8, 2.8, 3.14159):
        with mp.workdps(30):
            reach = mp.pi - mp.mpf(angle)
        expected = integral((lambda s: 2 * mp.sin(s / 2)) if metric == "chord" else (lambda s: s), reach, d)
        if expected > 1e-290:
            assert abs(spheres.mean_distance_to_cap(angle, d, metric) / expected - 1) < 1e-10, angle
        else:
            assert spheres.mean_distance_to_cap(angle, d, metric) < 1e-289


@METRICS
def test_mean_distances_agree_with_sampling(metric):
    x = spheres.sample_sphere(200_000, 30, generator=torch.Generator().manual_seed(0)).double()
    for angle in (0.9, 1.4, 1.7):
        away = (x[:, 0].clamp(-1, 1).arccos() - angle).clamp_min(0)
        away = 2 * (away / 2).sin() if metric == "chord" else away
        assert abs(away.mean() - spheres.mean_distance_to_cap(angle, 30, metric)) < 4 * away.std() / len(x) ** 0.5


@METRICS
def test_optimal_distances_compose_the_two_and_fall_with_the_measure(metric):
    for d in (2, 3, 500, 150_528):
        found = [spheres.optimal_distance(m, d, metric) for m in (-300.0, -20.0, -2.0, -0.7, -0.5, -1e-3)]
        assert found == sorted(found, reverse=True)
        assert found[1] == pytest.approx(spheres.mean_distance_to_cap(spheres.cap_angle(-20.0, d), d, metric), rel=1e-12)
        assert found[4] == pytest.approx(spheres.mean_distance_to_cap(spheres.cap_angle(-0.5, d), d, metric), rel=1e-12)
    assert spheres.optimal_distance(0.0, 500, metric) == 0.0
    # at d = 2 the cap of the share m leaves an arc of 2 pi (1 - m); a point's mean distance is pi (1 - m)^2 / 2
    for share in (0.01, 0.5, 0.999, 1 - 1e-9):
        left = -math.expm1(math.log(share))
        half = math.pi * left
        expected = math.pi * left**2 / 2 if metric == "geodesic" else 8 / math.pi * math.sin(half / 4) ** 2
        assert spheres.optimal_distance(math.log(share), 2, metric) == pytest.approx(expected, rel=1e-10)


def test_optimal_distances_are_those_of_the_papers_figure():
    read_off = {1e-6: 0.2116, 1e-5: 0.1901, 1e-4: 0.1660, 1e-3: 0.1381, 0.01: 0.1042, 0.1: 0.0595, 0.5: 0.0179}
    for measure, distance in read_off.items():
        assert round(spheres.optimal_distance(math.log(measure), 500), 4) == distance
    for d, label in {100: 0.23, 500: 0.104, 2000: 0.052}.items():
        assert spheres.optimal_distance(math.log(0.01), d) == pytest.approx(label, abs=5e-3 if d == 100 else 5e-4)


def test_no_other_set_of_the_same_measure_is_farther_away():
    d, n = 20, 100_000
    x = spheres.sample_sphere(n, d, generator=torch.Generator().manual_seed(1)).double()
    for measure in (0.2, 0.01, 1e-6):
        best = spheres.optimal_distance(math.log(measure), d)
        cap = spheres.cap_angle(math.log(measure / 2), d)  # two opposite caps, and two orthogonal ones
        angles = x.clamp(-1, 1).arccos()
        for nearest in (torch.minimum(angles[:, 0], math.pi - angles[:, 0]), torch.minimum(angles[:, 0], angles[:, 1])):
            away = 2 * ((nearest - cap).clamp_min(0) / 2).sin()
            assert away.mean() + 4 * away.std() / n**0.5 < best


def test_the_asymptotic_form_is_the_papers():
    for measure in (1e-300, 1e-6, 0.01, 0.5, 0.9):
        with mp.workdps(30):
            quantile = mp.sqrt(2) * mp.erfinv(1 - 2 * mp.mpf(measure)) if measure > 1e-20 else None
        if quantile is not None:
            assert spheres.gaussian_distance(math.log(measure), 500) == pytest.approx(float(quantile / mp.sqrt(500)), abs=1e-14)
    deep = spheres.gaussian_distance(-5000.0, 500) * math.sqrt(500)
    with mp.workdps(30):
        assert abs(mp.log(mp.ncdf(-mp.mpf(deep))) + 5000) < 1e-8
    assert spheres.gaussian_distance(math.log(0.9), 500) < 0 < spheres.optimal_distance(math.log(0.9), 500)
    for log_measure in (-18.0, -10.0, -5.0):
        assert spheres.gaussian_distance(log_measure, 500) == pytest.approx(
            spheres.optimal_distance(log_measure, 500), rel=7e-3
        )
    ratios = [
        spheres.gaussian_distance(-10.0, d) / spheres.optimal_distance(-10.0, d) - 1 for d in (100, 1000, 10_000, 100_000)
    ]
    assert ratios == sorted(ratios, reverse=True), "it is asymptotic"
    assert abs(ratios[-1]) < 1e-4


@pytest.mark.parametrize("call", [spheres.cap_angle, spheres.optimal_distance, spheres.gaussian_distance])
def test_measures_that_are_none_are_refused(call):
    for bad in (0.01, 1.0, math.nan):
        with pytest.raises(ValueError, match=r"take math\.log"):
            call(bad, 500)
    for bad in (1, math.nan, math.inf, 1e300):
        with pytest.raises(ValueError, match="at least 2 dimensions"):
            call(-1.0, bad)


@pytest.mark.parametrize("call", [spheres.log_cap_measure, spheres.mean_distance_to_cap])
def test_angles_that_are_none_are_refused(call):
    for bad in (-0.1, 3.2, math.nan):
        with pytest.raises(ValueError, match="from 0 to pi"):
            call(bad, 500)
    for bad in (1, math.nan, math.inf, 1e300):  # with the last, and without a check, the continued fraction never ends
        with pytest.raises(ValueError, match="at least 2 dimensions"):
            call(1.0, bad)


def test_other_metrics_are_refused():
    with pytest.raises(ValueError, match="one of chord, geodesic"):
        spheres.mean_distance_to_cap(1.0, 5, "euclid")
    with pytest.raises(ValueError, match="one of chord, geodesic"):
        spheres.optimal_distance(-1.0, 5, "euclid")


def test_a_point_of_the_trade_off_takes_a_millisecond():
    spheres.optimal_distance(-10.0, 500)
    cost = []
    for d in (2, 500, 150_528):
        start = time.process_time()
        for k in range(30):
            spheres.optimal_distance(-0.5 - k * 20, d)
        cost.append((time.process_time() - start) / 30)
    assert max(cost) < 3e-3


def test_samples_are_uniform_on_their_sphere():
    draw = torch.Generator().manual_seed(0)
    x = spheres.sample_sphere(20_000, 5, 1.3, generator=draw)
    assert x.dtype == torch.float32
    assert (x.norm(dim=1) - 1.3).abs().max() < 1e-6
    for k in range(5):  # (x_k / r + 1) / 2 follows Beta((d - 1) / 2, (d - 1) / 2)
        assert stats.kstest(((x[:, k].double() / 1.3 + 1) / 2).numpy(), stats.beta(2, 2).cdf, method="asymp").pvalue > 1e-4
    again = spheres.sample_sphere(20_000, 5, 1.3, generator=torch.Generator().manual_seed(0))
    assert torch.equal(x, again)
    assert spheres.sample_sphere(0, 5).shape == (0, 5)


def test_two_spheres_are_labelled_by_a_fair_coin():
    x, y = spheres.concentric_spheres(10_000, 50, 1.5, generator=torch.Generator().manual_seed(0))
    assert (x.dtype, y.dtype) == (torch.float32, torch.int64)
    assert (x.norm(dim=1) - 1 - 0.5 * y).abs().max() < 1e-6
    assert stats.binomtest(int(y.sum()), len(y)).pvalue > 1e-4


@pytest.mark.parametrize("bad", [(-1, 5), (1, 1), (1, 5, 0.0), (1, 5, -1.0), (1, 5, math.nan)])
def test_impossible_samples_are_refused(bad):
    with pytest.raises(ValueError):
        spheres.sample_sphere(*bad)
    with pytest.raises(ValueError):
        spheres.concentric_spheres(*bad)


def test_the_outer_sphere_lies_outside():
    with pytest.raises(ValueError, match="above 1"):
        spheres.concentric_spheres(1, 5, 1.0)


@pytest.mark.parametrize(("mu", "factor"), [(0.4, 2.13), (0.3, 1.36), (0.1, 1.04), (0.01, 1.001)])
def test_the_mean_distance_to_a_cap_tends_to_h_phi_h_plus_density(mu, factor):
    """Not to h, which is the distance of a typical point: the mean is larger, by these factors."""
    h, d = -stats.norm.ppf(mu), 5_000_000
    limit = h * stats.norm.cdf(h) + stats.norm.pdf(h)
    assert math.sqrt(d) * spheres.optimal_distance(math.log(mu), d) == pytest.approx(limit, rel=2e-3)
    assert limit / h == pytest.approx(factor, rel=5e-3)
