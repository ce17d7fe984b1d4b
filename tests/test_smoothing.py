"""Randomised smoothing: against the closed form of a linear classifier, against SciPy's interval, and by sampling."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest, norm
from torch import nn

from advlab.verification import certified_radius, smoothed_predict
from advlab.verification.smoothing import ABSTAIN

pytestmark = pytest.mark.library


class Halfspace(nn.Module):
    """Class 0 where the first value is above ``at``: the border is a plane, and the smoothed classifier has the same one."""

    def __init__(self, at):
        super().__init__()
        self.at = at
        self.eval()

    def forward(self, x):
        lead = x[:, 0] - self.at
        return torch.stack([lead, -lead], 1)


def drawn(seed):
    return torch.Generator().manual_seed(seed)


@settings(max_examples=25, deadline=None)
@given(st.floats(0.0, 1.0), st.floats(0.1, 1.0), st.integers(0, 10**6))
def test_a_radius_is_that_of_scipys_interval_and_below_the_distance_of_a_plane(at, sigma, seed):
    """With the samples drawn again and counted here, by SciPy's exact interval; p of a plane is the normal law's."""
    x, n = torch.tensor([[0.5, 0.2]]), 400
    found = certified_radius(Halfspace(at), x, sigma=sigma, n=n, n_select=50, alpha=1e-6, generator=drawn(seed))
    g = drawn(seed)
    chosen = int(((x + sigma * torch.randn(50, 2, generator=g))[:, 0] <= at).sum() > 25)
    answers = ((x + sigma * torch.randn(n, 2, generator=g))[:, 0] <= at).long()
    interval = binomtest(int((answers == chosen).sum()), n, alternative="greater").proportion_ci(1 - 1e-6, "exact")
    if interval.low > 0.5:
        assert found.classes.item() == chosen
        assert found.radii.item() == pytest.approx(sigma * norm.ppf(interval.low), rel=1e-6)
        assert found.radii.item() < abs(0.5 - at), "no farther than the plane"
    else:
        assert (found.classes.item(), found.radii.item()) == (ABSTAIN, 0.0)


def test_radii_are_too_large_as_seldom_as_promised_and_not_never():
    """The true radius is known, and alpha is large enough to see errors: in 2,000 runs about as many as it allows."""
    alpha, n, distance, sigma = 0.1, 200, 0.2, 0.25
    x = torch.full((2000, 1), 0.5)
    found = certified_radius(Halfspace(0.5 - distance), x, sigma=sigma, n=n, alpha=alpha, generator=drawn(0))
    wrong = int((found.radii > distance).sum())
    assert binomtest(wrong, len(x), alpha, alternative="greater").pvalue > 1e-3
    assert wrong > 0.4 * alpha * len(x), "the bound is of the size it says, and not far below"


def test_answers_of_the_smoothed_classifier_and_abstention():
    x = torch.tensor([[0.9], [0.5], [0.1]])
    found = smoothed_predict(Halfspace(0.5), x, sigma=0.2, n=200, generator=drawn(1))
    assert found.tolist() == [0, ABSTAIN, 1]
    open_ = certified_radius(Halfspace(0.5), x, sigma=0.2, n=200, generator=drawn(1))
    assert open_.classes.tolist() == [0, ABSTAIN, 1]
    assert open_.radii[1] == 0
    assert (open_.radii[[0, 2]] > 0).all()


def test_samples_limit_the_radius():
    """A network of one answer: the radius that counting allows, and no more."""
    for n in (100, 1000):
        found = certified_radius(Halfspace(-100.0), torch.zeros(1, 3), sigma=0.5, n=n, alpha=0.01, generator=drawn(0))
        assert found.radii.item() == pytest.approx(0.5 * norm.ppf(0.01 ** (1 / n)), rel=1e-6)


def test_what_is_drawn_is_the_generators_and_nothing_is_changed():
    x = torch.rand(3, 1, 4, 4, generator=drawn(0))
    net, before = nn.Sequential(nn.Flatten(), nn.Linear(16, 3)).eval(), x.clone()
    runs = [certified_radius(net, x, sigma=0.5, n=100, generator=drawn(7), batch_size=b) for b in (33, 33, 1000)]
    assert torch.equal(runs[0].radii, runs[1].radii)
    assert runs[2].radii == pytest.approx(runs[0].radii, abs=0.5), "other batches, other draws of the same law"
    assert torch.equal(x, before)
    assert smoothed_predict(net, x[:0], sigma=0.5).shape == (0,)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"sigma": 0.0}, "sigma is 0.0; it must be above 0"),
        ({"sigma": math.inf}, "sigma is inf"),
        ({"alpha": 0.5}, "alpha is 0.5; it must be between 0 and 1/2"),
        ({"n": 0}, "n is 0; it must be a whole number and at least 1"),
        ({"n_select": 2.5}, "n_select is 2.5"),
        ({"batch_size": -1}, "batch_size is -1"),
    ],
)
def test_bad_settings_are_refused(options, words):
    with pytest.raises(ValueError, match=words):
        certified_radius(Halfspace(0.5), torch.rand(1, 2), **({"sigma": 0.5} | options))


def test_bad_images_and_networks_are_refused():
    with pytest.raises(ValueError, match="must lie in"):
        smoothed_predict(Halfspace(0.5), torch.tensor([[1.5]]), sigma=0.1)
    with pytest.raises(TypeError, match="must be torch tensors"):
        smoothed_predict(Halfspace(0.5), [[0.5]], sigma=0.1)
    with pytest.raises(ValueError, match="training mode"):
        certified_radius(nn.Sequential(nn.Dropout()).train(), torch.rand(1, 2), sigma=0.1)
