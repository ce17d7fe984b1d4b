"""The live figures of Feature Squeezing: their JavaScript against NumPy, SciPy, torch and scikit-learn, and what they say."""

import json
import math

import numpy as np
import pytest
import torch
import traitlets
from browser import needs_chromium, page, page_of
from figures import answer_to_keys, has_words_and_a_picture
from node import javascript, needs_node
from scipy.ndimage import median_filter
from scipy.stats import binomtest
from sklearn.metrics import roc_auc_score

from advlab import attacks, data, models, zoo
from labbook import live
from labbook.live import figure, network

MATHS = figure.module("squeezing_math.js") + "\nexport { rint, reduceBitDepth, medianFilter, thresholdAt, areaUnderRoc };"
SQUEEZED = ("example", "adversarial", "bits", "window", "shape", "clean", "attacked")
THRESHOLD = 0.0029


def eight_bit(x):
    return (x * 255).round() / 255


@pytest.fixture(scope="module")
def twins():
    """The target network with six digits, their labels, and FGSM's twins."""
    net = zoo.load("mnist_cnn7")
    x, y = data.mnist("test", 6)
    return net, x, y, eight_bit(attacks.fgsm(net, x, y, eps=0.3))


@pytest.fixture(scope="module")
def colours():
    """An untrained network with three colour images, labels and noisy twins."""
    torch.manual_seed(0)
    net = models.cifar_cnn()
    x, y = data.cifar10("test", 3)
    models.whiten_first_layer(net, x)
    noise = torch.randn(x.shape, generator=torch.Generator().manual_seed(0))
    return net, x, y, eight_bit((x + 0.05 * noise).clamp(0, 1))


def scores(n=400, attacked=(60, 90), seed=0):
    """Clean scores and those of two attacks under three squeezers, of which one ties often and one is sometimes 0."""
    random = np.random.default_rng(seed)

    def some(rows, centre):
        drawn = np.minimum(2, 10 ** random.normal(centre, 1, (rows, 3)))
        drawn[:, 1] = drawn[:, 1].round(1)
        drawn[random.random(rows) < 0.1, 2] = 0
        return drawn

    return some(n, -3), {name: some(m, c) for name, m, c in zip(("FGSM", "CW2 next"), attacked, (-2, -0.3), strict=True)}


def detector(**values):
    clean, adversarial = scores()
    return live.DetectorScores(clean, adversarial, squeezers=["1-bit", "median 2x2", "median 3x3"], **values)


def evasion(**values):
    budget = [0.1, 0.2, 0.3, 0.4]
    curves = {
        "margin, straight-through": (budget, [0, 3, 8, 31], 100),
        "soft": (budget, [0.0, 0.1, 0.2, 0.25], [0.0, 0.05, 0.1, 0.2], [0.1, 0.2, 0.3, 0.35]),
        "the paper's": ([0.3, 0.5], [1, 6], [100, 50]),
    }
    return live.EvasionCurve(curves, **values)


@pytest.fixture(scope="module")
def figures(twins, colours):
    net, x, y, x_adv = twins
    return {
        "squeeze-digit": live.SqueezeDigit(net, x, y, x_adv, threshold=THRESHOLD, attack="FGSM"),
        "detector-scores": detector(threshold=0.5),
        "evasion": evasion(),
        "colour-squeeze": live.ColourSqueeze(*colours, attack=["one", "two", "three"], threshold=1.14, window=3),
    }


def state_of(f, *names):
    return {name: getattr(f, name) for name in names}


# ------------------------------------------------------------------------------------------------ squeezers


@needs_node
def test_bit_depth_is_that_of_numpy_with_ties_to_even(tmp_path):
    random = np.random.default_rng(0)
    halves = np.arange(511) / 510  # times 255, every other one is a tie
    values = np.concatenate([np.arange(256) / 255, random.random(500), halves, [0.5, 0.25, 0.75, 1 / 6, 5 / 6]])
    plain = np.array([-2.5, -1.5, -0.5, 0.5, 1.5, 2.5, 3.5, 0.49999999999999994, 2**52 + 1])
    found = javascript(
        tmp_path, MATHS, "[[1,2,3,4,5,6,7,8].map((b) => figure.reduceBitDepth(a[0], b)), a[1].map(figure.rint)]",
        [values.tolist(), plain.tolist()],
    )  # fmt: skip
    for bits, answer in zip(range(1, 9), found[0], strict=True):
        levels = 2**bits - 1
        assert answer == (np.rint(values * levels) / levels).tolist()
    assert found[1] == np.rint(plain).tolist()


@needs_node
def test_the_median_is_that_of_scipy(tmp_path):
    random = np.random.default_rng(1)
    shapes = [(1, 1, 1), (1, 1, 7), (2, 2, 3), (1, 5, 2), (3, 8, 9), (1, 28, 28)]
    images = [random.random(s) if i % 2 else random.integers(0, 4, s) / 255 for i, s in enumerate(shapes)]
    images.append(data.cifar10("test", 1)[0][0].double().numpy())
    cases = [(x, w) for x in images for w in range(1, 8)]  # windows wider than the image too
    found = javascript(
        tmp_path,
        MATHS,
        "a.map(([x, shape, w]) => figure.medianFilter(x, shape, w))",
        [(x.ravel().tolist(), x.shape, w) for x, w in cases],
    )
    for (x, w), answer in zip(cases, found, strict=True):
        assert answer == median_filter(x, size=(1, w, w), mode="reflect").ravel().tolist(), (x.shape, w)


# ------------------------------------------------------------------------------------------------ digits and colours


def packed(net, x):
    """Layers and weights, for ``compute`` in Node: in the page they come from the widget that figures share."""
    return dict(zip(("layers", "weights"), live.pack_network(net, x.shape[1:]), strict=True))


def by_hand(net, x, bits, window):
    """Views, probabilities and scores once more: NumPy, SciPy, and torch in double precision."""
    levels = 2**bits - 1
    reduced, median = np.rint(x * levels) / levels, median_filter(x, size=(1, window, window), mode="reflect")
    views = np.stack([x, reduced, median])
    with torch.no_grad():
        p = net(torch.from_numpy(views)).softmax(1).numpy()
    return views, p, [np.abs(p[0] - q).sum() for q in p[1:]]


@needs_node
def test_the_digits_in_the_page_are_those_of_torch(twins, tmp_path):
    net, x, y, x_adv = twins
    f = live.SqueezeDigit(net, x, y, x_adv, threshold=THRESHOLD)
    cases = [(0, False, 1, 2), (1, True, 1, 2), (2, True, 3, 3), (3, False, 8, 1), (4, True, 2, 5), (5, False, 5, 4)]
    state = state_of(f, *SQUEEZED) | packed(net, x)
    source = (
        "a[1].map(([example, adversarial, bits, window]) => figure.compute({ ...a[0], example, adversarial, bits, window }))"
    )
    found = javascript(tmp_path, f._esm, source, [state, cases])
    twin = network.rounded(net)
    for (example, adversarial, bits, window), answer in zip(cases, found, strict=True):
        image = (x_adv if adversarial else x)[example].double()
        views, p, expected = by_hand(twin, (image * 255).round().numpy() / 255, bits, window)
        assert answer["images"] == [v.ravel().tolist() for v in views]
        np.testing.assert_allclose(answer["probabilities"], p, atol=1e-9)
        np.testing.assert_allclose(answer["scores"], expected, atol=1e-9)
        f.example, f.adversarial, f.bits, f.window = example, adversarial, bits, window
        mine = f.computed()
        np.testing.assert_array_equal(mine[0], views)
        np.testing.assert_allclose(mine[2], expected, atol=1e-9)
    assert found[3]["scores"] == [0, 0], "eight bits and no median leave the picture as it is"


@needs_node
def test_the_page_reads_the_networks_stored_outputs(colours, tmp_path):
    net, x, y, x_adv = colours
    net.train()
    f = live.ColourSqueeze(net, x, y, x_adv)
    assert net.training, "the caller's network must keep its mode"
    net.eval()
    cases = [(0, False, 8, 1), (1, True, 1, 2), (2, False, 3, 3), (2, True, 5, 5), (0, True, 4, 4)]
    state = state_of(f, *SQUEEZED, "outputs", "classes")
    source = (
        "a[1].map(([example, adversarial, bits, window]) => figure.compute({ ...a[0], example, adversarial, bits, window }))"
    )
    found = javascript(tmp_path, f._esm, source, [state, cases])
    for (example, adversarial, bits, window), answer in zip(cases, found, strict=True):
        image = ((x_adv if adversarial else x)[example].double() * 255).round().numpy() / 255
        levels = 2**bits - 1

        def median(v, size=(1, window, window)):
            return median_filter(v, size=size, mode="reflect")

        reduced = np.rint(image * levels) / levels
        views = np.stack([image, reduced, median(image), median(reduced)])
        np.testing.assert_array_equal(views[3], np.rint(median(image) * levels) / levels, "the order does not matter")
        assert answer["images"] == [v.ravel().tolist() for v in views]
        with torch.no_grad():
            p = net(torch.from_numpy(views).float()).softmax(1).numpy()
        np.testing.assert_allclose(answer["probabilities"], p, atol=1e-5)
        f.example, f.adversarial, f.bits, f.window = example, adversarial, bits, window
        mine = f.computed()
        np.testing.assert_array_equal(mine[0], views)
        np.testing.assert_allclose(answer["probabilities"], mine[1], atol=1e-12)
        np.testing.assert_allclose(answer["scores"], mine[2], atol=1e-9)
    assert found[0]["scores"] == [0, 0, 0]


@needs_node
def test_an_update_takes_less_than_half_a_second(figures, twins, tmp_path):
    """Three passes of the network, its weights decoded before, as on the page."""
    f = figures["squeeze-digit"]
    net, x, *_ = twins
    state = {**state_of(f, *SQUEEZED), **packed(net, x), "bits": 2, "window": 5}
    clock = "(() => { const t = performance.now(); figure.squeezed(held, a); return performance.now() - t; })()"
    source = f"(() => {{ const held = figure.pageOf(a); return Array.from({{ length: 6 }}, () => {clock}); }})()"
    assert min(javascript(tmp_path, f._esm, source, state)) < 500


# ------------------------------------------------------------------------------------------------ scores of a detector


@needs_node
@pytest.mark.parametrize("attack", ["all", "FGSM", "CW2 next"])
def test_the_detector_counts_as_python_does(attack, tmp_path):
    clean, adversarial = scores()
    f = detector(attack=attack, threshold=0.5)
    settings = [
        (c, false_positive_rate)
        for c in ([1, 1, 1], [1, 0, 0], [0, 1, 0], [0, 1, 1])
        for false_positive_rate in (0.0, 0.001, 0.05, 0.1, 0.5)
    ]
    cases = [([bool(v) for v in c], false_positive_rate) for c, false_positive_rate in settings]
    state = state_of(f, "packed", "sizes", "squeezers", "attacks", "attack", "marked")
    found = javascript(
        tmp_path,
        f._esm,
        "a[1].map(([chosen, false_positive_rate]) => figure.compute({ ...a[0], chosen, false_positive_rate }))",
        [state, cases],
    )
    for (chosen, false_positive_rate), answer in zip(cases, found, strict=True):
        joint = {k: v.astype(np.float32)[:, chosen].max(1).astype(float) for k, v in {"clean": clean, **adversarial}.items()}
        shown = np.concatenate([joint[k] for k in adversarial]) if attack == "all" else joint[attack]
        threshold = sorted(joint["clean"])[math.ceil(len(clean) * (1 - false_positive_rate)) - 1]
        truth = np.r_[np.zeros(len(clean)), np.ones(len(shown))]
        assert answer["threshold"] == threshold
        assert answer["clean"] == (joint["clean"] > threshold).sum() <= false_positive_rate * len(clean)
        assert answer["shown"] == (shown > threshold).sum()
        assert answer["each"] == [(joint[k] > threshold).sum() for k in adversarial]
        assert answer["marked"] == {"clean": (joint["clean"] > 0.5).sum(), "shown": (shown > 0.5).sum()}
        assert answer["auc"] == pytest.approx(roc_auc_score(truth, np.r_[joint["clean"], shown]), rel=1e-12)
        f.chosen, f.false_positive_rate = chosen, false_positive_rate
        assert list(f.computed()) == pytest.approx([threshold, answer["clean"], answer["shown"], answer["auc"]], rel=1e-12)


def test_a_threshold_taken_from_the_scores_flags_none_but_those_above():
    """Scores are rounded to single precision, and a threshold that is one of them is rounded alike."""
    clean, adversarial = scores()
    joint = clean.max(1)
    own = float(np.sort(joint)[-9])
    f = live.DetectorScores(clean, adversarial, squeezers=["a", "b", "c"], threshold=own)
    assert f.marked is not None
    assert (f.joint()[0] > f.marked).sum() == (joint > own).sum() > 0


# ------------------------------------------------------------------------------------------------ evasion


@needs_node
def test_evasion_is_read_off_where_it_was_measured(tmp_path):
    f = evasion()
    budgets = [0.1, 0.3, 0.4, 0.5, 0.37]
    found = javascript(
        tmp_path, f._esm, "a[1].map((budget) => figure.compute({ ...a[0], budget }))", [state_of(f, "curves"), budgets]
    )
    for budget, answer in zip(budgets, found, strict=True):
        f.budget = budget
        assert [None if v is None else [v["share"], v["low"], v["high"]] for v in answer] == [
            None if v is None else list(v) for v in f.computed()
        ]
    assert [v is None for v in found[1]] == [False, False, False]
    assert [v is None for v in found[3]] == [True, True, False]
    assert found[4] == [None, None, None]
    exact = binomtest(6, 50).proportion_ci(0.95, "exact")
    assert list(found[3][2].values()) == pytest.approx([0.12, exact.low, exact.high], abs=1e-9)


@needs_node
@pytest.mark.parametrize(("norm", "unit"), [("l2", 1), ("linf", 1), ("linf", 255)])
def test_the_image_beside_the_curve_is_changed_by_the_budget(norm, unit, tmp_path):
    x, _ = data.mnist("test", 1)
    towards = eight_bit((x + 0.2 * torch.randn(x.shape, generator=torch.Generator().manual_seed(0))).clamp(0, 1))
    f = evasion(changed=(x[0], towards[0]), norm=norm, unit=unit)
    budgets = [0.1, 0.2, 0.4]
    found = javascript(tmp_path, f._esm, "a[1].map((budget) => figure.movedBy({ ...a[0], budget }))", [f.beside, budgets])
    x, change = eight_bit(x[0].double()), (eight_bit(towards[0].double()) - eight_bit(x[0].double())).flatten()
    for budget, answer in zip(budgets, found, strict=True):
        order = 2 if norm == "l2" else math.inf
        way = change / torch.linalg.vector_norm(change, order)
        np.testing.assert_allclose(answer, (x.flatten() + budget / unit * way).clamp(0, 1), atol=1e-9)
        assert torch.linalg.vector_norm(torch.tensor(answer, dtype=torch.float64) - x.flatten(), order) <= budget / unit + 1e-12
        f.budget = budget
        np.testing.assert_allclose(f.moved().ravel(), answer, atol=1e-9)
    has_words_and_a_picture(evasion(changed=(x.float(), towards[0])))
    assert evasion().moved() is None


@needs_chromium
def test_the_image_beside_the_curve_follows_the_budget(tmp_path):
    x, _ = data.mnist("test", 2)
    with page(viewport={"width": 390, "height": 900}) as p:
        p.goto(page_of({"evasion": evasion(changed=(x[0], x[1]))}, tmp_path))
        f = p.locator(".advlab-evasion")
        f.locator(".verdict:not(:empty)").wait_for()
        drawn = "c => c.getContext('2d').getImageData(0, 0, c.width, c.height).data.join()"
        before = f.locator("canvas").evaluate(drawn)
        answer_to_keys(p, {"evasion": [("budget ε", "Home", "Budget ε: 0.1.")]})
        assert f.locator("canvas").evaluate(drawn) != before
        assert f.locator("canvas").get_attribute("aria-label") == "a change of this size: budget ε: 0.1"
        assert not p.errors


# ------------------------------------------------------------------------------------------------ what a figure promises


def test_what_the_figures_say_is_true(figures, twins):
    net, x, _, x_adv = twins
    f = figures["squeeze-digit"]
    for adversarial, images in ((False, x), (True, x_adv)):
        f.adversarial = adversarial
        _, p, expected = by_hand(network.rounded(net), (images[0].double() * 255).round().numpy() / 255, f.bits, f.window)
        joint = max(expected)
        said = f.describe()
        assert said.startswith("A handwritten 7 changed by FGSM" if adversarial else "A clean handwritten 7")
        assert f"reads as {p[0].argmax()} with probability {p[0].max():.2f}" in said
        assert f"the joint score {joint:.3g} is {'above' if joint > THRESHOLD else 'not above'} the threshold 0.0029" in said
        assert said.endswith("it is flagged." if joint > THRESHOLD else "it passes.")
    f.adversarial = False

    f = figures["detector-scores"]
    clean, adversarial = scores()
    joint, attacked = clean.max(1), np.concatenate(list(adversarial.values())).max(1)
    threshold = np.sort(joint)[379]
    false, flagged = (joint > threshold).sum(), (attacked > threshold).sum()
    said = f.describe()
    assert f"above {threshold:.3g} flags {false} of 400 ({100 * false / 400:.3g} %) clean images" in said
    assert f"{flagged} of 150 ({100 * flagged / 150:.3g} %) adversarial images of all attacks" in said
    assert f"{roc_auc_score([0] * 400 + [1] * 150, np.r_[joint, attacked]):.4f}" in said

    assert "Budget ε: 0.5. Share that evades: the paper's 12.0 % (4.5 to 24.3 %)." in figures["evasion"].describe()
    assert "A clean picture of class cat" in figures["colour-squeeze"].describe()


@pytest.mark.parametrize("name", ["squeeze-digit", "detector-scores", "evasion", "colour-squeeze"])
def test_a_figure_describes_itself_and_carries_a_picture(name, figures):
    f = figures[name]
    has_words_and_a_picture(f)


def test_payloads_are_modest(figures):
    """What a notebook stores for each figure, in bytes, without what it shares with others: network, scripts, style."""
    stored = {name: len(json.dumps(f.get_state())) for name, f in figures.items()}
    assert max(stored.values()) < 70_000
    assert len(figures["squeeze-digit"].network.weights) < 750_000


def test_the_corners_have_words_and_pictures_too(twins, colours):
    net, x, y, x_adv = twins
    same = torch.zeros(1, 1)
    corners = [
        live.SqueezeDigit(net, x[:1], y[:1], x_adv[:1], threshold=2.0, bits=8, window=1),
        live.ColourSqueeze(*(v[:1] if torch.is_tensor(v) else v for v in colours)),
        live.DetectorScores(same, {"one": same}, squeezers=["one"], scale="linear"),
        live.DetectorScores(same, {"one": same}, squeezers=["one"], false_positive_rate=0.0),
        live.EvasionCurve({"one": ([1.0], [0], 10)}, label_x="confidence κ"),
    ]
    for f in corners:
        assert "nan" not in f.describe()
        assert figure.png(f.still())
    assert "(0 %) adversarial" in corners[3].describe()
    assert "0.5000" in corners[3].describe()


def test_bad_figures_are_refused(twins, colours):
    net, x, y, x_adv = twins
    with pytest.raises(ValueError, match="x_adv must hold multiples of 1/255"):
        live.SqueezeDigit(net, x, y, x_adv + 1e-3, threshold=1.0)
    with pytest.raises(ValueError, match="the same number of images"):
        live.SqueezeDigit(net, x, y[:2], x_adv, threshold=1.0)
    with pytest.raises(ValueError, match="the same number of images"):
        live.SqueezeDigit(net, x, y, x_adv, threshold=1.0, attack=["FGSM"])
    for wrong in ({"example": 6}, {"bits": 9}, {"bits": 0}, {"window": 6}):
        with pytest.raises(traitlets.TraitError):
            live.SqueezeDigit(net, x, y, x_adv, threshold=1.0, **wrong)
    with pytest.raises(ValueError, match="10 outputs for 2 names"):
        live.ColourSqueeze(*(v[:1] if torch.is_tensor(v) else v for v in colours), classes=["cat", "dog"])
    for wrong in (
        {"chosen": [False] * 3},
        {"chosen": [True]},
        {"attack": "BIM"},
        {"false_positive_rate": 0.7},
        {"scale": "root"},
    ):
        with pytest.raises(traitlets.TraitError):
            detector(**wrong)
    good = np.ones((2, 1))
    for clean, adversarial, match in [
        (good, {}, "at least one"),
        (good, {"all": good}, "means all of them"),
        (good[:, 0], {"one": good}, "of clean"),
        (good, {"one": np.ones((2, 2))}, "of one"),
        (good, {"one": np.ones((0, 1))}, "of one"),
        (good, {"one": 3 * good}, "from 0 to 2"),
        (good * np.nan, {"one": good}, "from 0 to 2"),
    ]:
        with pytest.raises(ValueError, match=match):
            live.DetectorScores(clean, adversarial, squeezers=["one"])
    for curve, match in [
        (([1, 2], [0.1, 0.2]), "2 lists"),
        (([2, 1], [0, 1], 10), "ascend"),
        (([], [], 10), "one length"),
        (([1], [0.5], [0.6], [0.7]), "in its interval"),
    ]:
        with pytest.raises(ValueError, match=match):
            live.EvasionCurve({"one": curve})
    x = torch.zeros(1, 4, 4)
    for values, match in [
        ({"norm": "l1"}, "'l2' or 'linf'"),
        ({"unit": 0}, "unit above 0"),
        ({"changed": (x, x[0])}, "two images"),
    ]:
        with pytest.raises(ValueError, match=match):
            evasion(**({"changed": (x, x)} | values))
    with pytest.raises(ValueError, match="1 to 8"):
        live.EvasionCurve({str(k): ([1], [0], 10) for k in range(9)})


# ------------------------------------------------------------------------------------------------ a look


@pytest.fixture(scope="module")
def small_page(figures, tmp_path_factory):
    return page_of(figures, tmp_path_factory.mktemp("page"))


@needs_chromium
@pytest.mark.parametrize("width", [1280, 400])
def test_the_figures_move_by_keyboard_in_a_page(small_page, width):
    moves = {
        "squeeze-digit": [("bit depth", "End", "with 8 bits"), ("median window", "Home", "with no median")],
        "colour-squeeze": [("bit depth", "End", "with 8 bits"), ("median window", "End", "with median 5 × 5")],
        "detector-scores": [
            ("false positives, at most", "Home", "flags 0 of 400 clean images (0 %)"),
            ("median 2x2", "Space", "The largest of 2 scores (1-bit, median 3x3)"),
            ("1-bit", "Space", "The score of median 3x3"),
        ],
        "evasion": [("budget ε", "Home", "for the strongest of 2 attackers, "), ("budget ε", "ArrowRight", "0.2")],
    }
    with page() as p:
        p.set_viewport_size({"width": width, "height": 900})
        p.goto(small_page)
        answer_to_keys(p, moves)

        digit = p.locator(".advlab-squeeze-digit")
        assert "it passes" in digit.locator(".verdict").inner_text(), "8 bits and no median change nothing"
        canvas = "c => c.getContext('2d').getImageData(0, 0, c.width, c.height).data.join()"
        clean = digit.locator("canvas").first.evaluate(canvas)
        digit.get_by_role("combobox", name="show").select_option("its adversarial twin")
        assert "A 7 changed by FGSM" in digit.locator(".verdict").inner_text()
        assert digit.locator("canvas").first.evaluate(canvas) != clean
        colour = p.locator(".advlab-colour-squeeze")
        colour.get_by_role("combobox", name="example").select_option("2: ship, two")
        assert "The clean ship" in colour.locator(".verdict").inner_text()

        scored = p.locator(".advlab-detector-scores")
        assert scored.get_by_role("checkbox", name="median 3x3").is_disabled(), "one squeezer stays"
        scored.get_by_role("combobox", name="attack").select_option("FGSM")
        assert "of 60 adversarial images of FGSM" in scored.locator(".verdict").inner_text()
        before = scored.locator("svg.plot").first.inner_html()
        scored.get_by_role("combobox", name="axis").select_option("linear")
        assert scored.locator("svg.plot").first.inner_html() != before

        curves = p.locator(".advlab-evasion")
        box = curves.locator("svg.plot").bounding_box()
        assert box
        p.mouse.move(box["x"] + box["width"] - 20, box["y"] + 80)
        verdict = curves.locator(".verdict").inner_text()
        assert verdict.startswith("Budget ε: 0.5. Share that evades: 12.0")
        assert verdict.endswith(" for the paper's.")
        assert "not measured here" in curves.locator("table").inner_text()
        assert p.evaluate("document.documentElement.scrollWidth") <= width
        assert not p.outside
        assert not p.errors
