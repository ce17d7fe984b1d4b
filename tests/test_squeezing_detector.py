"""The joint detector against a few lines of NumPy, its threshold's promise, and what it says to bad input."""

import copy
import math
import warnings
from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from torch import nn

from advlab import attacks
from advlab.squeezing import JOINT, SQUEEZERS, SqueezingDetector, joint_score, median_filter, reduce_bit_depth

NAMES = ["1-bit", "median 2x2", "3-bit"]


class Reads(nn.Module):
    """Two classes; the first pixel is the log odds. With the squeezer ``erase`` the score is |tanh(first pixel / 2)|."""

    def forward(self, x):
        return torch.stack([x.flatten(1)[:, 0], torch.zeros(len(x), dtype=x.dtype)], 1)


def erase(x):
    return torch.zeros_like(x)


def by_hand(logits, squeezed):
    """Equations 6 and 7 in NumPy's float64, from the logits for x, (n, c), and for each squeezed x."""

    def softmax(z):
        e = np.exp(z - z.max(1, keepdims=True))
        return e / e.sum(1, keepdims=True)

    plain = softmax(logits.double().numpy())
    return np.stack([np.abs(plain - softmax(z.double().numpy())).sum(1) for z in squeezed], 1)


@pytest.fixture(scope="module")
def x_adv(net, digits):
    return attacks.pgd(net, *digits, eps=0.2, generator=torch.Generator().manual_seed(0))


def test_scores_are_those_of_a_few_lines_of_numpy(net, digits):
    x, _ = digits
    detector = SqueezingDetector(net, NAMES).fit(x)
    with torch.no_grad():
        expected = by_hand(net(x), [net(SQUEEZERS[name](x)) for name in NAMES])
    scores = detector.squeezer_scores(x)
    assert scores.dtype == torch.float32
    assert np.allclose(scores, expected, atol=1e-6)
    assert np.allclose(detector.score_samples(x), expected.max(1), atol=1e-6)
    assert expected.max() > 0.1
    rank = math.ceil(60 * 0.95) - 1
    assert math.isclose(detector.threshold_, np.sort(expected.max(1))[rank], abs_tol=1e-6)
    assert torch.equal(detector.predict(x), detector.score_samples(x) > detector.threshold_)
    assert detector.squeezer_names_ == tuple(NAMES)


def test_what_squeezers_may_be(net, digits):
    x = digits[0][:20]
    named = SqueezingDetector(net, JOINT["mnist"]).squeezer_scores(x)
    functions = [SQUEEZERS["1-bit"], lambda x: median_filter(x, 2)]
    assert torch.equal(SqueezingDetector(net, functions).squeezer_scores(x), named)
    mapping = {"bits": functions[0], "blur": functions[1]}
    detector = SqueezingDetector(net, mapping).fit(x)
    assert torch.equal(detector.squeezer_scores(x), named)
    assert detector.squeezer_names_ == ("bits", "blur")
    assert SqueezingDetector(net, [functions[0], "median 2x2"]).fit(x).squeezer_names_ == ("squeezer 0", "median 2x2")


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(0, 12), min_size=1, max_size=60), st.integers(1, 99), st.integers(0, 9))
def test_threshold_rule_and_the_promised_rate(values, percent, seed):
    """Many ties: the threshold is a score that was attained, and no more than floor(n rate) clean inputs lie above it."""
    rate = percent / 100
    x = torch.tensor(values, dtype=torch.float64).view(-1, 1, 1, 1) / 12
    detector = fitted(SqueezingDetector(Reads().eval(), [erase], rate, batch_size=7), x)
    scores = detector.score_samples(x)
    allowed = math.floor(len(x) * Fraction(percent, 100))
    assert detector.threshold_ in scores.tolist()
    assert detector.predict(x).sum() <= allowed
    rank = math.ceil(len(x) * (1 - rate))  # as documented; n (1 - rate) may round up, never to more false positives
    assert detector.threshold_ == sorted(scores.tolist())[rank - 1]
    assert (scores >= detector.threshold_).sum() >= allowed
    order = torch.randperm(len(x), generator=torch.Generator().manual_seed(seed))
    assert fitted(clone(detector), x[order]).threshold_ == detector.threshold_


def fitted(detector, x):
    """With a warning exactly where the threshold is the greatest of the scores by its rank."""
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        detector.fit(x)
    assert len(told) == (math.ceil(len(x) * (1 - detector.false_positive_rate)) == len(x))
    return detector


@pytest.mark.parametrize(("n", "rate", "share", "least"), [(19, 0.05, "5%", 20), (9, 0.1, "10%", 10), (1, 0.05, "50%", 20)])
def test_fewer_inputs_than_the_rate_can_count_are_warned_of(n, rate, share, least):
    """Of n + 1 exchangeable scores without ties each is the greatest with probability 1 / (n + 1)."""
    x = torch.linspace(0.1, 1, n, dtype=torch.float64).view(-1, 1)
    says = f"the greatest of only {n} clean scores: up to {share} of fresh ones .* give at least {least}"
    with pytest.warns(UserWarning, match=says) as told:
        detector = SqueezingDetector(Reads().eval(), [erase], rate).fit(x)
    assert told[0].filename == __file__
    assert not detector.predict(x).any()
    more = torch.linspace(0.1, 1, least, dtype=torch.float64).view(-1, 1)
    assert SqueezingDetector(Reads().eval(), [erase], rate).fit(more).predict(more).sum() == 1, "and nothing is said"


def test_threshold_by_hand():
    x = torch.linspace(0, 1, 20, dtype=torch.float64).view(-1, 1)
    score = np.abs(np.tanh(x.numpy()[:, 0] / 2))
    for rate, rank in ((0.05, 18), (0.1, 17), (0.5, 9), (0.01, 19), (0.99, 0)):
        detector = fitted(SqueezingDetector(Reads().eval(), [erase], false_positive_rate=rate), x)
        assert math.isclose(detector.threshold_, score[rank], abs_tol=1e-12)
        assert detector.predict(x).tolist() == [i > rank for i in range(20)]


def test_batches_and_order_change_nothing_but_rounding(net, digits):
    x, _ = digits
    whole = SqueezingDetector(net, NAMES, batch_size=60).squeezer_scores(x)
    order = torch.randperm(60, generator=torch.Generator().manual_seed(0))
    for size in (1, 7, 59, 1000):
        detector = SqueezingDetector(net, NAMES, batch_size=size)
        assert torch.allclose(detector.squeezer_scores(x), whole, atol=1e-5)
        assert torch.allclose(detector.squeezer_scores(x[order]), whole[order], atol=1e-5)


def test_no_more_than_a_batch_is_worked_on(net, digits):
    seen = []

    def watch(x):
        seen.append(len(x))
        return x

    SqueezingDetector(net, [watch], batch_size=25).score_samples(digits[0])
    assert seen == [25, 25, 10]


def test_nothing_is_changed(net, digits):
    x, _ = digits
    before, weights = x.clone(), copy.deepcopy(net.state_dict())
    detector = SqueezingDetector(net, JOINT["mnist"]).fit(x)
    flagged = detector.predict(x.clone().requires_grad_())
    assert flagged.dtype == torch.bool
    assert not detector.score_samples(x.clone().requires_grad_()).requires_grad
    assert torch.equal(x, before)
    assert all(torch.equal(value, weights[key]) for key, value in net.state_dict().items())
    assert all(p.grad is None for p in net.parameters())
    assert not net.training
    with torch.inference_mode():
        assert torch.equal(detector.predict(x), flagged)


def test_it_tells_attacked_digits_from_clean_ones(net, digits, x_adv):
    x, y = digits
    with torch.no_grad():
        fooled = net(x_adv).argmax(1) != y
    detector = SqueezingDetector(net, JOINT["mnist"]).fit(x)
    assert fooled.sum() > 30
    assert detector.predict(x_adv)[fooled].float().mean() > 0.7
    assert detector.predict(x).sum() <= 3


def test_roc_is_the_count_at_every_threshold(net, digits, x_adv):
    x, _ = digits
    detector = SqueezingDetector(net, JOINT["mnist"])
    roc = detector.roc(x, x_adv[:40])
    clean, adversarial = detector.score_samples(x).double(), detector.score_samples(x_adv[:40]).double()
    pairs = (adversarial[:, None] > clean).double() + (adversarial[:, None] == clean).double() / 2
    assert math.isclose(roc.auc, float(pairs.mean()), abs_tol=1e-12)  # the chance that an attacked one scores higher
    assert 0.7 < roc.auc < 1
    assert roc.thresholds[0] == math.inf
    for threshold, false, found in zip(roc.thresholds, roc.false_positive_rates, roc.detection_rates, strict=True):
        assert math.isclose((clean >= threshold).double().mean(), false, abs_tol=1e-12)
        assert math.isclose((adversarial >= threshold).double().mean(), found, abs_tol=1e-12)
    assert set(roc.thresholds[1:].tolist()) == {*clean.tolist(), *adversarial.tolist()}


def test_joint_score_is_what_an_attack_differentiates(net, digits):
    x = digits[0][:10]
    assert torch.equal(joint_score(net, x, JOINT["mnist"]), SqueezingDetector(net, JOINT["mnist"]).score_samples(x))
    exact = copy.deepcopy(net).double()
    soft = {"bits": lambda x: reduce_bit_depth(x, 1, gradient="soft"), "blur": lambda x: median_filter(x, 2)}
    for squeezers, name in ((soft, "soft"), (JOINT["mnist"], "none")):
        at = x.double().requires_grad_()
        slope = torch.autograd.grad(joint_score(exact, at, squeezers).sum(), at)[0]
        assert slope.isfinite().all(), name
        assert slope.flatten(1).abs().sum(1).gt(0).all(), name
    # a smooth squeezer: against finite differences along a line
    shrink = {"shrink": lambda x: 0.9 * x, "square": lambda x: x**2}
    at = (x.double() * 0.9 + 0.05).requires_grad_()
    way = torch.randn(at.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    slope = (torch.autograd.grad(joint_score(exact, at, shrink).sum(), at)[0] * way).flatten(1).sum(1)
    ahead, behind = (joint_score(exact, at.detach() + step * way, shrink) for step in (1e-6, -1e-6))
    assert torch.allclose(slope, (ahead - behind) / 2e-6, rtol=1e-4, atol=1e-6)


def test_it_is_a_scikit_learn_estimator(net, digits):
    x = digits[0][:20]
    detector = SqueezingDetector(net, JOINT["mnist"], 0.1).fit(x)
    assert detector.get_params(deep=False) == {
        "model": net,
        "squeezers": JOINT["mnist"],
        "false_positive_rate": 0.1,
        "batch_size": 250,
    }
    fresh = clone(detector)
    assert not hasattr(fresh, "threshold_")
    assert fresh.fit(x).threshold_ == detector.threshold_
    assert clone(detector).set_params(false_positive_rate=0.5).fit(x).threshold_ < detector.threshold_
    assert "SqueezingDetector" in repr(detector)


def test_no_inputs_give_no_answers(net, digits):
    detector = SqueezingDetector(net, NAMES).fit(digits[0])
    nothing = digits[0][:0]
    assert detector.squeezer_scores(nothing).shape == (0, 3)
    assert detector.score_samples(nothing).shape == (0,)
    assert detector.predict(nothing).shape == (0,)
    assert detector.predict(nothing).dtype == torch.bool


def training_inside():
    """In eval mode itself, with a batch norm in it that is not."""
    net = nn.Sequential(nn.Flatten(), nn.BatchNorm1d(784), nn.Linear(784, 10)).eval()
    net[1].train()
    return net


def test_probabilities_are_refused_by_the_score_too(net, digits):
    """Where they come from softmax in any precision; and logits are not, that are probabilities of some inputs alone."""
    x = digits[0]
    for dtype in (torch.float32, torch.float64):
        model = nn.Sequential(copy.deepcopy(net), nn.Softmax(1)).to(dtype).eval()
        for n in (1, 60):
            with pytest.raises(ValueError, match="the model returns probabilities"):
                joint_score(model, x[:n].to(dtype), ["1-bit"])
    logs = nn.Sequential(net, nn.LogSoftmax(1)).eval()
    assert torch.allclose(joint_score(logs, x, ["1-bit"]), joint_score(net, x, ["1-bit"]), atol=1e-5)
    ones = torch.ones(3, 1, dtype=torch.float64)
    assert joint_score(Reads(), ones, [erase]).tolist() == pytest.approx([math.tanh(0.5)] * 3), "logits (1, 0), and (0, 0)"


def test_the_first_lines_say_that_the_sign_is_not_scikit_learns():
    """Where somebody looks who knows its outlier detectors."""
    said = SqueezingDetector.__doc__.strip().split("\n\n")
    assert "High scores are suspect" in said[0]
    assert all(
        name in said[1] for name in ("scikit-learn", "score_samples", "decision_function", "fit_predict", "OutlierMixin")
    )
    first = SqueezingDetector.score_samples.__doc__.strip().split("\n")[0]
    assert "high is suspect" in first
    assert "scikit-learn" in first


def test_masks_and_scores_are_where_the_images_are(net, digits):
    """What is made without saying where would be on torch's default device: here that is none that can compute."""
    x = digits[0][:30]
    detector = SqueezingDetector(net, JOINT["mnist"])
    with torch.device("meta"):
        scores = detector.fit(x).squeezer_scores(x)
        assert detector.predict(x).device == x.device
        assert detector.roc(x, x).auc == pytest.approx(0.5)
    assert scores.device == x.device


def broken(x):
    return torch.full((len(x), 10), torch.nan)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"false_positive_rate": 0}, ValueError, "between 0 and 1"),
        ({"false_positive_rate": 1.0}, ValueError, "between 0 and 1"),
        ({"false_positive_rate": float("nan")}, ValueError, "between 0 and 1"),
        ({"batch_size": 0}, ValueError, "at least 1"),
        ({"squeezers": ["1-bit", "9-bit"]}, ValueError, r"no squeezer '9-bit'.*one of 1-bit, .*median 3x3.*nlm 13-3-4"),
        ({"squeezers": []}, ValueError, "give at least one"),
        ({"squeezers": "1-bit"}, TypeError, r"\['1-bit'\]"),
        ({"squeezers": SQUEEZERS["1-bit"]}, TypeError, "a list or a mapping"),
        ({"squeezers": {"half": 0.5}}, TypeError, "'half' is float"),
        ({"squeezers": {"crop": lambda x: x[..., 1:]}}, ValueError, r"'crop' turns \(60, 1, 28, 28\) into \(60, 1, 28, 27\)"),
        ({"squeezers": [lambda x: x * torch.nan]}, ValueError, "60 of 60 inputs are not numbers, the first at 0"),
        ({"model": broken}, ValueError, "60 of 60 inputs are not numbers"),
        ({"model": nn.Flatten(0).eval()}, ValueError, "logits"),
        ({"model": nn.Sequential(nn.Flatten(), nn.Linear(7, 2)).eval()}, ValueError, "cannot take inputs of the shape"),
        ({"model": nn.Flatten().train()}, ValueError, r"model\.eval\(\)"),
        ({"model": training_inside()}, ValueError, r"model\.eval\(\)"),
        ({"model": nn.Sequential(nn.Flatten(), nn.Linear(784, 3), nn.Softmax(1)).eval()}, ValueError, "returns probabilities"),
    ],
)
def test_errors_of_the_detector_say_what_to_do(net, digits, change, error, message):
    options = {"model": net, "squeezers": ["1-bit"], **change}
    with pytest.raises(error, match=message):
        SqueezingDetector(**options).fit(digits[0])


def test_errors_of_inputs_say_what_to_do(net, digits):
    x, _ = digits
    detector = SqueezingDetector(net, ["1-bit"])
    with pytest.raises(NotFittedError, match="call fit"):
        detector.predict(x)
    for wrong, error, message in (
        (x[:0], ValueError, "x_clean is empty"),
        (x * 2, ValueError, r"must lie in \[0, 1\]"),
        (x.numpy(), TypeError, "torch tensors"),
        (x[0, 0, 0], ValueError, "it must be a batch"),
        ((x * 255).to(torch.uint8), TypeError, "/ 255"),
    ):
        with pytest.raises(error, match=message):
            detector.fit(wrong)
    with pytest.raises(ValueError, match="some of each"):
        detector.roc(x, x[:0])
    with pytest.raises(ValueError, match="no squeezer 'blur'"):
        joint_score(net, x, ["blur"])
    with pytest.raises(ValueError, match="it must give logits"):
        joint_score(lambda x: x, x, ["1-bit"])
    bright = x.flatten(1).sum(1)
    some_bad = {"hole": lambda v: torch.where((v.flatten(1).sum(1) == bright[7]).view(-1, 1, 1, 1), torch.nan, v)}
    with pytest.raises(ValueError, match="of 1 of 60 inputs are not numbers, the first at 7"):
        SqueezingDetector(net, some_bad, batch_size=60).fit(x)
