"""Exact distances, and float32's errors, against closed forms and arithmetic in which nothing is rounded."""

from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from advlab import models, verification
from advlab.verification import rounding


def linear(weight, bias):
    net = nn.Sequential(nn.Linear(len(weight[0]), len(weight))).eval()
    with torch.no_grad():
        net[0].weight.copy_(torch.tensor(weight))
        net[0].bias.copy_(torch.tensor(bias))
    return net


def test_the_edge_of_a_linear_network_is_its_margin_over_its_l1_norm():
    net = linear([[2.0, -1.0, 0.5], [0.0, 0.0, 0.0]], [0.0, 0.0])
    x = torch.tensor([0.5, 0.3, 0.6])
    distance = (2 * 0.5 - 0.3 + 0.3) / 3.5
    found = rounding.bracket_distance(net, x, 0, 1.0, tolerance=1e-6)
    assert found.proved < distance <= found.broken + 1e-7
    assert found.broken - found.proved <= 1e-6
    assert (found.witness - x).abs().max() <= found.broken + 1e-7
    assert net(found.witness[None]).argmax() == 1


@settings(max_examples=12, deadline=None)
@given(st.integers(0, 10_000))
def test_both_ends_of_an_edge_hold(seed):
    torch.manual_seed(seed)
    net = nn.Sequential(nn.Linear(3, 8), nn.ReLU(), nn.Linear(8, 3)).eval()
    x = torch.rand(3)
    y = int(net(x[None]).argmax())
    found = rounding.bracket_distance(net, x, y, 0.5, tolerance=1e-3)
    samples = (x + found.proved * (2 * torch.rand(2000, 3) - 1)).clamp(0, 1)
    assert (net(samples).argmax(1) == y).all()
    if found.witness is not None:
        assert net.double()(found.witness[None].double()).argmax() != y
        assert (found.witness.double() - x.double()).abs().max() <= found.broken
        assert found.proved < found.broken <= 0.5
    else:
        assert found.proved == 0.5


def test_an_input_that_is_wrong_already_has_no_proved_budget():
    net = linear([[1.0], [0.0]], [-0.5, 0.0])
    found = rounding.bracket_distance(net, torch.tensor([0.2]), 0, 0.5)
    assert (found.proved, found.broken) == (0.0, 0.0)
    for high, tolerance in ((0.0, 1e-3), (float("inf"), 1e-3), (0.5, 0.0)):
        with pytest.raises(ValueError, match="above 0"):
            rounding.bracket_distance(net, torch.tensor([0.2]), 0, high, tolerance=tolerance)


def test_budgets_that_are_not_decided_stay_open(monkeypatch):
    """The verifier decides below 0.2 and above 0.4 only: the bracket ends there, and says so."""

    def verify(net, x, y, eps, **options):
        if eps < 0.2:
            return verification.Verdict("robust", "crown", 1.0, 0.0, (), None)
        if eps <= 0.4:
            return verification.Verdict("unknown", "mixed-integer", 0.0, 0.0, (), None)
        return verification.Verdict("counterexample", "pgd", -1.0, 0.0, (), (x + eps).float())

    monkeypatch.setattr(rounding, "verify", verify)
    found = rounding.bracket_distance(nn.Identity(), torch.tensor([0.1]), 0, 0.8, tolerance=1e-3)
    assert 0.199 <= found.proved < 0.2
    assert found.broken == pytest.approx(0.8)


@settings(deadline=None)
@given(st.integers(0, 10_000), st.floats(1e-7, 0.3))
def test_inside_is_inside_exactly(seed, eps):
    """In fractions, so that the check itself rounds nothing."""
    g = torch.Generator().manual_seed(seed)
    x = torch.rand(20, generator=g)
    x[:2] = torch.tensor([0.0, 1.0])
    x_adv = x + 0.5 * torch.randn(20, generator=g)
    found = rounding.into_ball(x_adv, x, eps)
    assert found.dtype == torch.float32
    for a, b in zip(found.tolist(), x.tolist(), strict=True):
        assert abs(Fraction(a) - Fraction(b)) <= Fraction(eps) + Fraction(2) ** -53
        assert 0 <= a <= 1
    near = rounding.into_ball(x, x, eps)
    assert torch.equal(near, x)


def test_margins_in_all_ways():
    torch.manual_seed(0)
    net = models.stability_cnn().eval()
    x, y = torch.rand(5, 1, 28, 28), torch.arange(5)
    found = rounding.float32_margins(net, x, y)
    assert set(found) == {*rounding.WAYS, "exact"}
    logits = net.double()(x.double()).detach().numpy()
    expected = [row[k] - np.delete(row, k).max() for row, k in zip(logits, y.tolist(), strict=True)]
    assert found["exact"].numpy() == pytest.approx(expected, abs=1e-12)
    for way in rounding.WAYS:
        assert found[way].dtype == torch.float32
        assert (found[way].double() - found["exact"]).abs().max() < 1e-5
    assert next(net.parameters()).dtype == torch.float64, "the caller's network is left as it was"


def test_a_network_that_is_proved_and_wrong():
    """relu(x + 2^25) - 2^25 is x in real numbers, and a multiple of 4 in float32."""
    big = 2.0**25
    net = nn.Sequential(nn.Linear(1, 1), nn.ReLU(), nn.Linear(1, 2)).eval()
    with torch.no_grad():
        net[0].weight.fill_(1.0)
        net[0].bias.fill_(big)
        net[2].weight.copy_(torch.tensor([[1.0], [0.0]]))
        net[2].bias.copy_(torch.tensor([-big, 0.5]))
    x = torch.tensor([0.9])
    at = rounding.bracket_distance(net, x, 0, 0.5, tolerance=1e-3)
    assert 0.399 < at.proved < 0.4 < at.broken + 1e-6
    found = rounding.float32_counterexample(net, x, 0, at, generator=torch.Generator().manual_seed(0))
    assert found is not None
    assert (found - x).abs().max() <= at.proved
    margins = rounding.float32_margins(net, found[None], torch.tensor([0]))
    assert margins["exact"] > 0 > margins["one at a time"]
    sound = linear([[1.0], [0.0]], [0.0, 0.5])
    at = rounding.bracket_distance(sound, x, 0, 0.5, tolerance=1e-3)
    assert rounding.float32_counterexample(sound, x, 0, at, generator=torch.Generator().manual_seed(0)) is None
