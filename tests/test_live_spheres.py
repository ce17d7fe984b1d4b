"""The live figures of Adversarial Spheres: their JavaScript against advlab.spheres, what they say, and a look by Chromium."""

import json
import math

import numpy as np
import pytest
import traitlets
from browser import needs_chromium, page, page_of
from figures import has_words_and_a_picture, stands_in_its_frame
from node import javascript, needs_node
from scipy import stats
from scipy.special import log_ndtr, ndtri_exp

from advlab import spheres
from labbook import live
from labbook.live import figure
from labbook.live.spheres import METHODS, SPHERES

LN10 = math.log(10)
MATHS = figure.module("spheres_math.js") + (
    "\nexport { logCapMeasure, capAngle, meanDistanceToCap, optimalDistance, gaussianDistance, normalLogCdf, normalQuantile,"
    " quadraticLogError, meanFieldDistance, ignored, ignoredClt, inputsNeeded, coordinates };"
)


def recorded_run(levels=4, particles=300):
    """Levels and scores as splitting leaves them, for a score whose excess over any level is exponential: exact by design."""
    generator = np.random.default_rng(0)
    thresholds = [math.log(0.2) * k for k in range(levels - 1, -1, -1)]  # a fifth live on at each
    starts = [2 * thresholds[0] - thresholds[1], *thresholds[:-1]]
    return thresholds, [generator.exponential(size=particles) + start for start in starts]


def figures():
    return {
        "cap-tradeoff": live.CapTradeoff(),
        "alpha-spectrum": live.AlphaSpectrum(),
        "ignored-inputs": live.IgnoredInputs(),
        "concentration": live.Concentration(d=100),
        "splitting": live.SplittingAnimation(*recorded_run()),
    }


def agrees(found, expected, rel=1e-9):
    """Equal within ``rel``; a JSON null stands for NaN and infinities alike."""
    expected = np.array(expected, float)
    finite = np.isfinite(expected)
    found = np.array(found, float)
    assert np.array_equal(np.isfinite(found), finite)
    np.testing.assert_allclose(found[finite], expected[finite], rtol=rel)


@needs_node
def test_caps_agree(tmp_path):
    random = np.random.default_rng(0)
    dims = [2, 3, 4, 150528, *np.exp(random.uniform(math.log(2), math.log(150528), 80)).astype(int).tolist()]
    logs = [-0.7, -690.0, *(-np.exp(random.uniform(math.log(0.1), math.log(690), len(dims) - 2))).tolist()]
    deep = [(d, -5000.0) for d in (500, 3072, 150528)]
    cases = [*zip(dims, logs, strict=True), *deep]
    found = javascript(
        tmp_path,
        MATHS,
        "a.map(([d, m]) => { const t = figure.capAngle(m, d); return [t, figure.logCapMeasure(t, d),"
        " figure.optimalDistance(m, d), figure.gaussianDistance(m, d)]; })",
        cases,
    )
    expected = [
        (
            spheres.cap_angle(m, d),
            spheres.log_cap_measure(spheres.cap_angle(m, d), d),
            spheres.optimal_distance(m, d),
            spheres.gaussian_distance(m, d),
        )
        for d, m in cases
    ]
    agrees(found, expected)
    np.testing.assert_allclose([row[1] for row in found], [m for _, m in cases], rtol=1e-9)


@needs_node
def test_wide_and_narrow_caps_agree(tmp_path):
    cases = [
        (t, d) for d in (2, 3, 10, 500, 20000) for t in (0.01, 0.5, 1.4, 1.57, math.pi / 2, 1.6, 2.0) if d < 900 or t < 1.7
    ]
    found = javascript(
        tmp_path, MATHS, "a.map(([t, d]) => [figure.logCapMeasure(t, d), figure.meanDistanceToCap(t, d)])", cases
    )
    measures = [spheres.log_cap_measure(*case) for case in cases]
    agrees([row[0] for row in found], np.where(np.array(measures) > -1e-12, measures, measures), rel=1e-9)
    np.testing.assert_allclose(
        [row[1] for row in found], [spheres.mean_distance_to_cap(*c) for c in cases], rtol=1e-9, atol=1e-15
    )


@needs_node
def test_the_normal_distribution_agrees(tmp_path):
    points = [*np.linspace(-40, 6, 93).tolist(), -2.5, -1e-9, 0.0]
    logs = [-0.01, -math.log(2), -1e-3, *(-np.logspace(-2, 4, 60)).tolist()]
    found = javascript(tmp_path, MATHS, "[a[0].map(figure.normalLogCdf), a[1].map(figure.normalQuantile)]", [points, logs])
    np.testing.assert_allclose(found[0], log_ndtr(points), rtol=1e-9)
    np.testing.assert_allclose(found[1], ndtri_exp(logs), rtol=1e-9, atol=1e-15)


def spectra():
    """Trained-like, one outlier, nearly perfect, truncated, few dimensions: what the theory finds easy and hard."""
    random = np.random.default_rng(1)
    for d in (2, 3, 10, 60, 500):
        for spread in (0.02, 0.2, 0.5):
            yield np.abs(0.8 + spread * random.standard_normal(d))
        for size in (1.0001, 1.01, 1.5, 3.0, 30.0):
            yield np.r_[size, np.full(d - 1, 0.77)]
        yield np.r_[np.zeros(d // 2), np.full(d - d // 2, 1.6)]
        yield np.full(d, 0.77)
        yield np.full(d, 1.2)
    yield np.r_[np.zeros(20), np.full(480, 1.02)]
    yield np.r_[np.full(250, 1.2), np.full(250, 0.8)]  # mean 1: an error rate of one half


@needs_node
@pytest.mark.parametrize("radius", [1.3, 2.0])
def test_quadratic_networks_agree(radius, tmp_path):
    cases = [(s.tolist(), sphere) for s in spectra() for sphere in SPHERES]
    source = f"a.map(([s, sphere]) => [...{json.dumps(METHODS)}.map((m) => figure.quadraticLogError(s, {radius}, sphere, m)),"
    found = javascript(tmp_path, MATHS, source + f" figure.meanFieldDistance(s, {radius}, sphere)])", cases)
    for (s, sphere), answer in zip(cases, found, strict=True):
        logs = [spheres.quadratic_log_error(s, radius, sphere, method) for method in METHODS]
        agrees(answer, [*logs, spheres.mean_field_distance(s, radius, sphere)])


@needs_node
def test_repeated_alphas_may_be_counted(tmp_path):
    cases = [[[3.0, *[0.77] * 499], [1] * 500], [[3.0, 0.77], [1, 499]]]
    source = "a.map(([alphas, n]) => figure.quadraticLogError(alphas, 1.3, 'inner', 'exact', n))"
    plain, counted = javascript(tmp_path, MATHS, source, cases)
    assert counted == pytest.approx(plain, rel=1e-12)


@needs_node
def test_ignored_inputs_agree_and_give_the_papers_table(tmp_path):
    cases = [(k, d) for d in (20, 500, 3000) for k in (1, 2, d // 7, d // 2, d - 3, d - 1, d)]
    found = javascript(
        tmp_path, MATHS, "a.map(([k, d]) => [figure.ignored(k, d, 1.3).logError, figure.ignoredClt(k, d, 1.3).logError])", cases
    )
    agrees(found, [[spheres.ignored_log_error(k, d, method=m) for m in ("exact", "clt")] for k, d in cases])
    rules = "[figure.inputsNeeded(Math.log(1e-14), d, 1.3), figure.inputsNeeded(Math.log(1e-14), d, 1.3, figure.ignoredClt)]"
    assert javascript(tmp_path, MATHS, f"a.map((d) => {rules})", [500, 1000, 3000]) == [[392, 412], [635, 669], [1091, 1145]]
    assert live.IgnoredInputs(d=3000).needed() == (1091, 1145)


@needs_node
@pytest.mark.parametrize("d", [2, 3, 40, 2000])
def test_samples_and_densities_agree(d, tmp_path):
    for quantity in ("coordinate", "distance", "angle"):
        f = live.Concentration(d=d, quantity=quantity, seed=7, n=700)
        at = {"coordinate": [-0.9, -0.1, 0.02], "distance": [0.4, 1.4, 1.9], "angle": [20, 89, 91]}[quantity]
        state = {name: getattr(f, name) for name in ("d", "quantity", "seed", "n")}
        source = figure.module("plot.js", "spheres_math.js", "concentration.js")
        found = javascript(tmp_path, source, "[figure.compute(a[0]), a[1].map((v) => figure.density(a[0], v))]", [state, at])
        np.testing.assert_allclose(found[0]["samples"], f.samples(), rtol=1e-9, atol=1e-12)
        np.testing.assert_allclose(found[0]["interval"], f.middle(), rtol=1e-9)
        np.testing.assert_allclose(found[1], f.density(np.array(at, float)), rtol=1e-8, atol=1e-290)


@pytest.mark.parametrize("d", [2, 3, 40, 2000])
def test_samples_follow_the_law(d):
    """Against the beta law of a coordinate, and the middle interval against the share of samples in it."""
    f = live.Concentration(d=d, seed=3, n=4000)
    samples = f.samples()
    assert stats.kstest((samples + 1) / 2, stats.beta((d - 1) / 2, (d - 1) / 2).cdf).pvalue > 1e-3
    low, high = f.middle()
    assert abs(((samples > low) & (samples < high)).mean() - 0.99) < 0.007


@needs_node
def test_each_figure_computes_what_its_python_says(tmp_path):
    def run(f, names, expression):
        state = {name: getattr(f, name) for name in names}
        return javascript(tmp_path, f._esm, expression, state)

    f = live.CapTradeoff(d=784, log10_measure=-23.0, degree=3, reach=0.3)
    found = run(f, ("d", "log10_measure", "degree", "reach"), "figure.compute(a)")
    assert [found["exact"], found["gaussian"], found["degree"]] == pytest.approx(f.computed(), rel=1e-9)
    assert found["near"] == pytest.approx(f.near(), rel=1e-9)

    names = ("d", "outliers", "size", "centre", "spread", "shape", "outer_radius")
    for values in (
        {},
        {"outliers": 0, "spread": 0.3, "shape": "uniform"},
        {"d": 40, "outliers": 40},
        {"outliers": 0, "spread": 0.05},
    ):
        f = live.AlphaSpectrum(**values)
        found = run(f, names, "figure.compute(a)")
        np.testing.assert_allclose(found["alphas"], f.alphas(), rtol=1e-9)
        errors, distances = f.computed()
        for sphere, error, distance in zip(SPHERES, errors, distances, strict=True):
            agrees([found[sphere][m] for m in METHODS], np.array(error) * LN10)
            agrees([found[sphere][key] for key in ("nearest", "cap")], distance)

    for values in ({}, {"d": 3000, "share": 0.3}, {"d": 3000, "share": 0.99}, {"share": 1.0}):
        f = live.IgnoredInputs(**values)
        found = run(f, ("d", "share", "outer_radius"), "figure.compute(a)")
        assert found["k"] == f.used()
        logs = [f.log10_error(f.used(), m) * LN10 for m in ("exact", "clt")]
        agrees([found["exact"], found["clt"], found["nearest"]], [*logs, f.nearest(f.used())])

    f = live.SplittingAnimation(*recorded_run(), level=3)
    found = run(f, ("levels", "scores", "log10", "level"), "figure.compute(a)")
    assert found["inside"] == found["above"] > 0, "the last level is the error set"
    assert found["log10"] == f.log10[-1]


@needs_node
@pytest.mark.parametrize("d", [2, 3, 500])
def test_the_cap_grows_as_random_points_say(tmp_path, d):
    """The share within the chord of the cap against points of the sphere, and the heights of the dots against theirs."""
    f = live.CapTradeoff(d=d, log10_measure=-1.0, reach=1.0 if d < 10 else 0.06)
    x = np.random.default_rng(0).normal(size=(4000, d))
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    angle = spheres.cap_angle(-LN10, d)
    away = np.arccos(x[:, 0].clip(-1, 1)) - angle
    share = (2 * np.sin(away.clip(0) / 2) <= f.reach).mean()
    assert 0.2 < share < 0.9
    assert f.near() == pytest.approx(share, abs=0.04)
    dots = np.array(javascript(tmp_path, f._esm, "figure.scattered(a)", d))
    assert stats.ks_2samp(dots[:, 0], x[:, 0]).pvalue > 1e-3
    assert ((dots**2).sum(1) <= 1 + 1e-9).all()
    if d == 3:
        assert stats.ks_2samp(dots[:, 1], x[:, 1]).pvalue > 1e-3, "there the picture is the sphere itself"
    if d == 2:
        np.testing.assert_allclose((dots**2).sum(1), 1)


@needs_node
@pytest.mark.parametrize(
    "values",
    [{}, {"size": 1.05}, {"size": 0.2}, {"size": 0.0}, {"outliers": 0, "spread": 0.35}, {"outliers": 0, "spread": 0.02}],
)
def test_the_section_errs_on_as_much_of_each_circle_as_points_say(values, tmp_path):
    """The quadratic network itself, on points of the two circles in the plane of the two axes."""
    f = live.AlphaSpectrum(**values)
    names = ("d", "outliers", "size", "centre", "spread", "shape", "outer_radius")
    found = javascript(tmp_path, f._esm, "figure.compute(a)", {name: getattr(f, name) for name in names})
    section, alphas = found["section"], np.array(found["alphas"])
    assert [section["across"], section["up"]] == pytest.approx(f.section(), rel=1e-9)
    assert section["up"] == np.sort(alphas)[250]
    assert section["across"] in alphas
    angle = (np.arange(100_000) + 0.5) / 100_000 * 2 * np.pi
    x = np.stack([np.cos(angle), np.sin(angle)])
    value = np.array([section["across"], section["up"]]) @ x**2
    truth = [(value > 1).mean(), (f.outer_radius**2 * value < 1).mean()]
    np.testing.assert_allclose(section["wrong"], truth, atol=1e-4)
    low, bad = 1 / f.outer_radius**2, (alphas > 1) | (alphas < 1 / f.outer_radius**2)
    assert (max(truth) > 0) == (not low <= section["across"] <= 1) == bool(bad.any())


@needs_chromium
def test_the_ellipse_is_pulled_through_the_inner_circle(tmp_path):
    f = live.AlphaSpectrum(outliers=0, centre=0.77, spread=0.0)
    with page() as p:
        p.goto(page_of({"spectrum": f}, tmp_path))
        cut = p.locator(".advlab-alpha-spectrum .section")
        cut.wait_for()
        assert "0 % of the inner circle" in cut.get_attribute("aria-label").replace("\u00a0", " ")
        box = cut.bounding_box()
        middle = box["y"] + box["height"] / 2
        p.mouse.move(box["x"] + 0.9 * box["width"], middle)
        p.mouse.down()
        p.mouse.move(box["x"] + 0.7 * box["width"], middle, steps=3)
        p.mouse.up()
        assert "1 of 500 alphas are bad" in p.locator(".verdict").inner_text()
        assert "orange: wrong, 0 %" not in cut.get_attribute("aria-label").replace("\u00a0", " ")
        assert not p.errors


@needs_node
def test_an_update_takes_less_than_a_tenth_of_a_second(tmp_path):
    cases = {
        "cap_tradeoff.js": "figure.compute(a); figure.curves(a.d); figure.scattered(a.d);",
        "alpha_spectrum.js": "figure.compute(a);",
        "ignored_inputs.js": "for (let i = 1; i <= 50; i++) figure.compute({ ...a, share: i / 51 }); figure.needed(a.d, 1.3);",
        "concentration.js": "figure.compute(a);",
    }
    state = {"d": 500, "log10_measure": -6, "degree": 2, "outer_radius": 1.3, "quantity": "angle", "seed": 1, "n": 3000}
    state |= {"outliers": 3, "size": 1.2, "centre": 0.8, "spread": 0.35, "shape": "normal"}
    for name, work in cases.items():
        source = figure.module("plot.js", "spheres_math.js", name)
        clock = f"Array.from({{ length: 5 }}, () => {{ const t = performance.now(); {work} return performance.now() - t; }})"
        assert min(javascript(tmp_path, source, clock, state)) < 100, name


def test_the_story_of_the_spectrum():
    """One bad alpha among 499 good ones: the CLT is 34 orders off; and it cannot see a proof."""
    errors, distances = live.AlphaSpectrum(outliers=1, size=3.0, centre=0.77, spread=0.0).computed()
    assert errors[0][0] == pytest.approx(-12.76, abs=0.01)
    assert errors[0][2] == pytest.approx(-46.98, abs=0.01)
    assert distances[0][0] < distances[0][1]
    perfect = live.AlphaSpectrum(outliers=0, centre=0.77, spread=0.0)
    errors, distances = perfect.computed()
    assert errors[0][0] == errors[1][0] == -math.inf
    assert errors[0][2] == pytest.approx(-55.9, abs=0.1)
    assert np.isnan(distances).all()
    assert "0 (proved)" in perfect.describe()


def test_splitting_takes_a_run_as_it_is():
    levels, scores = recorded_run()
    f = live.SplittingAnimation(levels[:-1], scores)
    assert f.levels == levels, "the error set's own level may be left out"
    exact = [0.2 ** (k + 1) for k in range(len(levels))]
    np.testing.assert_allclose(f.log10, np.log10(exact), atol=0.3)
    assert {len(s) for s in f.scores} == {live.SplittingAnimation.KEPT}
    given = live.SplittingAnimation(levels, scores, [-1.0, -2.0, -3.0, -4.0], level=2)
    assert given.log10 == [-1, -2, -3, -4]
    assert "Level 3 of 4" in given.describe()


@pytest.mark.parametrize("name", list(figures()))
def test_a_figure_describes_itself_and_carries_a_picture(name):
    f = figures()[name]
    has_words_and_a_picture(f)


@pytest.mark.parametrize(
    "f",
    [
        live.CapTradeoff(d=2, log10_measure=-300.0, degree=4),
        live.CapTradeoff(d=150528, log10_measure=-0.3),
        live.AlphaSpectrum(outliers=0, spread=0.05),
        live.AlphaSpectrum(d=2, outliers=2, size=3.5),
        live.AlphaSpectrum(outliers=200, size=0.0, spread=1.0, shape="uniform"),
        live.IgnoredInputs(d=200, share=0.02),
        live.IgnoredInputs(share=1.0, outer_radius=5.0),
        live.Concentration(d=2),
        live.Concentration(d=2, quantity="distance"),
        live.Concentration(d=2000, quantity="angle", n=1),
        live.SplittingAnimation([0.0], [[-1.0, 2.0]]),
    ],
    ids=lambda f: repr(f)[:60],
)
def test_the_corners_have_words_and_pictures_too(f):
    assert "nan" not in f.describe()
    assert figure.png(f.still())


@pytest.mark.parametrize(
    "make",
    [
        lambda: live.CapTradeoff(d=1),
        lambda: live.CapTradeoff(log10_measure=0.0),
        lambda: live.CapTradeoff(degree=5),
        lambda: live.AlphaSpectrum(d=10, outliers=11),
        lambda: live.AlphaSpectrum(shape="cauchy"),
        lambda: live.AlphaSpectrum(outer_radius=1.0),
        lambda: live.IgnoredInputs(share=0.0),
        lambda: live.IgnoredInputs(outer_radius=0.5),
        lambda: live.Concentration(d=1),
        lambda: live.Concentration(quantity="volume"),
        lambda: live.SplittingAnimation(*recorded_run(), level=4),
    ],
)
def test_bad_values_are_refused(make):
    with pytest.raises(traitlets.TraitError):
        make()


def test_bad_runs_are_refused():
    levels, scores = recorded_run()
    for wrong, match in [
        (([], []), "each needs its own"),
        ((levels[2:], scores), "each needs its own"),
        (([-1.0, -2.0, 0.0, 0.0], scores), "ascend to 0"),
        (([-3.0, -2.0, -1.0, -0.5], scores), "ascend to 0"),
        ((levels, [*scores[:3], [math.nan]]), "finite"),
        ((levels, [*scores[:3], []]), "finite"),
        ((levels, [*scores[:3], [-1.0, -2.0]]), "did not reach"),
        ((levels, scores, [-1.0, -2.0, -1.5, -3.0]), "downwards"),
        ((levels, scores, [-1.0]), "one value a level"),
    ]:
        with pytest.raises(ValueError, match=match):
            live.SplittingAnimation(*wrong)


@pytest.fixture(scope="module")
def small_page(tmp_path_factory):
    return page_of(figures(), tmp_path_factory.mktemp("page"))


@needs_chromium
@pytest.mark.parametrize("width", [1280, 400])
def test_the_figures_move_by_keyboard_in_a_page(small_page, width):
    moves = {
        "cap-tradeoff": [
            ("dimensions d", "End", "In 150,528 dimensions"),
            ("error rate μ", "Home", "measure 0.5"),
        ],
        "alpha-spectrum": [
            ("alphas set apart", "Home", "0 of 500 alphas are bad"),
            ("centre of the rest", "End", "500 of 500"),
        ],
        "ignored-inputs": [("share used", "End", "makes no error: proved"), ("share used", "Home", "uses 10 of 500")],
        "concentration": [("dimensions d", "End", "In 2,000 dimensions"), ("dimensions d", "ArrowLeft", "In 1,")],
        "splitting": [("level", "End", "particles are errors"), ("level", "ArrowLeft", "Level 3 of 4")],
    }
    with page() as p:
        p.set_viewport_size({"width": width, "height": 900})
        p.goto(small_page)
        for name, steps in moves.items():
            f = p.locator(f".advlab-{name}")
            f.locator(".verdict").wait_for()
            drawn = f.locator("svg.plot").first
            for label, key, said in steps:
                before = drawn.inner_html()
                f.get_by_label(label, exact=True).focus()
                p.keyboard.press(key)
                assert said in f.locator(".verdict").inner_text(), (name, label)
                assert drawn.inner_html() != before or name == "alpha-spectrum"
            stands_in_its_frame(f, name)
        p.locator(".advlab-alpha-spectrum").get_by_label("example").select_option("a perfect network")
        assert "0, proved" in p.locator(".advlab-alpha-spectrum .verdict").inner_text()
        ball = p.locator(".advlab-cap-tradeoff svg.ball")
        assert ball.locator("path.spots.blue").get_attribute("d")
        p.locator(".advlab-cap-tradeoff").get_by_label("grow the errors by").focus()
        p.keyboard.press("End")
        assert "Within 1.50 of it lies > 99.9" in p.locator(".advlab-cap-tradeoff .verdict").inner_text()
        assert ball.locator("path.spots.blue").get_attribute("d") == "", "no dot is left outside"
        p.locator(".advlab-concentration").get_by_label("show").select_option("angle")
        assert "°" in p.locator(".advlab-concentration .verdict").inner_text()
        assert p.evaluate("document.documentElement.scrollWidth") <= width
        assert not p.outside
        assert not p.errors


@needs_chromium
def test_splitting_plays_only_when_asked_and_steps_for_readers_who_want_no_motion(small_page):
    with page() as p:
        p.goto(small_page)
        f = p.locator(".advlab-splitting")
        button, verdict = f.get_by_role("button"), f.locator(".verdict")
        p.wait_for_timeout(1500)
        assert "Level 1 of 4" in verdict.inner_text(), "it must not start by itself"
        button.click()
        assert button.inner_text() == "pause"
        p.wait_for_function("() => document.querySelector('.advlab-splitting .verdict.broken')")
        assert button.inner_text() == "play"
        assert "Level 4 of 4" in verdict.inner_text()
    with page(reduced_motion="reduce") as p:
        p.goto(small_page)
        f = p.locator(".advlab-splitting")
        assert f.get_by_role("button").inner_text() == "next level"
        f.get_by_role("button").click()
        p.wait_for_timeout(1500)
        assert "Level 2 of 4" in f.locator(".verdict").inner_text()
