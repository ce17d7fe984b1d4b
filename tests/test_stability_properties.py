"""Chapter 3: properties on any box, splitting of inputs, against what enumeration of all signs says."""

import functools
import itertools
import time

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linprog
from torch import nn

from advlab import verification
from advlab.verification import boxes, properties
from advlab.verification.reduced import reduce


def network(seed, inputs=2, units=3, outputs=3):
    torch.manual_seed(seed)
    layers = nn.Linear(inputs, units), nn.ReLU(), nn.Linear(units, 2), nn.ReLU(), nn.Linear(2, outputs)
    return nn.Sequential(*layers).double().eval()


def worst_of_each_way(net, low, high, rows, const, ways):
    """The least value of the greatest row of each way, by a linear program for each choice of signs of all ReLUs."""
    weights = [p.detach().numpy() for p in net.parameters()]
    least = {}
    for signs in itertools.product((0, 1), repeat=len(weights[1]) + len(weights[3])):
        matrix, shift, limits, ends, done = np.eye(len(low)), np.zeros(len(low)), [], [], 0
        for w, b in zip(weights[:4:2], weights[1:4:2], strict=True):
            matrix, shift = w @ matrix, w @ shift + b
            on = np.array(signs[done : done + len(b)])
            limits.append((1 - 2 * on)[:, None] * matrix)
            ends.append((2 * on - 1) * shift)
            matrix, shift, done = on[:, None] * matrix, on * shift, done + len(b)
        matrix, shift = rows @ weights[4] @ matrix, rows @ (weights[4] @ shift + weights[5]) + const
        for way in set(ways):
            at = [k for k, one in enumerate(ways) if one == way]
            # least t with t >= each row of the way
            a = np.vstack(
                [np.hstack([np.vstack(limits), np.zeros((done, 1))]), np.hstack([matrix[at], -np.ones((len(at), 1))])]
            )
            box = [*zip(low, high, strict=True), (None, None)]
            found = linprog(np.append(np.zeros(len(low)), 1), a, np.concatenate([*ends, -shift[at]]), bounds=box)
            if found.status == 0:
                least[way] = min(least.get(way, np.inf), found.fun)
    return least


@settings(max_examples=6, deadline=None)
@given(seed=st.integers(0, 10**6), ways=st.sampled_from([(0, 1, 2), (0, 0, 0), (0, 1, 0)]), split=st.booleans())
def test_properties_are_decided_as_by_enumeration(seed, ways, split):
    """Just above the least value the property fails, just below it holds: with splits of inputs and without."""
    net, draw = network(seed), np.random.default_rng(seed)
    low = draw.uniform(-1, 0, 2)
    high, rows, const = low + draw.uniform(0.1, 1.5, 2), draw.normal(size=(3, 3)), draw.normal(size=3)
    least = min(worst_of_each_way(net, low, high, rows, const, ways).values())
    box, rows = [torch.from_numpy(v) for v in (low, high)], torch.from_numpy(rows)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(properties, "FEW_INPUTS", 16 if split else 0)
        for shift, status in ((-1e-3, "counterexample"), (1e-3, "robust")):
            moved = torch.from_numpy(const - least + shift)
            with torch.no_grad():  # as a caller may be
                found = verification.verify_property(net, *box, rows, moved, ways=ways, time_limit=20)
            assert found.status == status
            if status == "counterexample":
                values = rows @ net(found.witness[None])[0].detach() + moved
                assert (box[0] <= found.witness).all()
                assert (found.witness <= box[1]).all()
                worst = [max(v for v, one in zip(values.tolist(), ways, strict=True) if one == way) for way in set(ways)]
                assert found.bound == pytest.approx(min(worst), abs=1e-12)
                assert any(all(v < 0 for v, one in zip(values, ways, strict=True) if one == way) for way in set(ways))
            else:
                assert 1e-6 <= found.bound <= 1e-3 + 1e-9


@pytest.mark.parametrize("seed", range(3))
def test_bounds_of_parts_hold_at_points_of_the_parts(seed):
    net, low = network(seed, inputs=3, units=12), -torch.ones(3).double()
    problem = reduce(verification.normal_form(net, (3,)), low.numpy(), -low.numpy(), np.eye(3), np.zeros(3)).lowered()
    draw = torch.Generator().manual_seed(seed)
    ends = torch.rand(2, 20, 3, dtype=torch.float64, generator=draw) * 2 - 1
    below, above = ends.amin(0), ends.amax(0)
    bounds, slopes = boxes._bounds(problem.stages, below, above, problem.rows, problem.const)
    assert bounds.shape == (20, 3)
    assert slopes.shape == (20, 3, 3)
    points = below + (above - below) * torch.rand(500, 1, 3, dtype=torch.float64, generator=draw)  # (500, 20, 3)
    least = net(points).detach().amin(0)
    assert (bounds <= least).all()
    whole = boxes._bounds(problem.stages, low[None], -low[None], problem.rows, problem.const)[0]
    assert (bounds >= whole - 1e-9).all(), "a part's bounds are no worse than the whole box's"
    tiny = boxes._bounds(problem.stages, points[0], points[0], problem.rows, problem.const)[0]
    torch.testing.assert_close(tiny, net(points[0]).detach(), rtol=0, atol=1e-9)


def test_parts_cover_the_box():
    low, high = torch.tensor([[0.0, -1.0], [0.5, 0.0]]).double(), torch.tensor([[0.5, 1.0], [1.0, 4.0]]).double()
    found = boxes._halves(low, high, torch.tensor([0, 1]))
    assert found[0].tolist() == [[0, -1], [0.5, 0], [0.25, -1], [0.5, 2]]
    assert found[1].tolist() == [[0.25, 1], [1, 2], [0.5, 1], [1, 4]]


def test_splitting_stops_at_its_deadline_with_the_bound_that_it_has():
    net, low = network(0, inputs=3, units=12), -np.ones(3)
    problem = reduce(verification.normal_form(net, (3,)), low, -low, np.eye(3), np.zeros(3)).lowered()
    split = functools.partial(boxes.split_inputs, problem, [[0]], lambda points: None)
    first = split(enough=100.0, deadline=0.0)
    assert (first.status, first.nodes) == ("unknown", 1)
    start = time.thread_time()
    later = split(enough=100.0, deadline=start + 0.3)
    assert later.status == "unknown"
    assert first.bound <= later.bound <= net(torch.zeros(3).double()).amax().item()
    assert time.thread_time() - start < 3
    assert split(enough=first.bound - 1, deadline=0.0).status == "robust"


def test_a_tie_is_left_open_at_once():
    """|x| reaches 0 inside of the box: no part around that point is ever proved, none is ever refuted."""
    net = nn.Sequential(nn.Linear(1, 2, bias=False), nn.ReLU(), nn.Linear(2, 1, bias=False)).double().eval()
    with torch.no_grad():
        net[0].weight.copy_(torch.tensor([[1.0], [-1.0]]))
        net[2].weight.fill_(1.0)
    form = verification.normal_form(net, (1,))
    problem = reduce(form, np.array([-1.0]), np.array([1.5]), np.ones((1, 1)), np.zeros(1)).lowered()
    found = boxes.split_inputs(problem, [[0]], lambda points: None, enough=1e-9, deadline=time.thread_time() + 60)
    assert found.status == "unknown"
    assert found.nodes < 5000


def test_a_bound_that_is_no_number_proves_nothing(monkeypatch):
    monkeypatch.setattr(
        boxes, "_bounds", lambda stages, low, high, rows, const: (torch.full((len(low), 1), torch.nan), low[:, None])
    )
    problem = reduce(verification.normal_form(network(0), (2,)), -np.ones(2), np.ones(2), np.eye(3)[:1], np.zeros(1))
    assert boxes.split_inputs(problem, [[0]], lambda points: None, enough=0.0, deadline=0.0).status == "unknown"


def test_ways_that_do_not_fit_are_named():
    net, low = network(0), torch.zeros(2).double()
    with pytest.raises(ValueError, match="ways has 2 numbers; it must have one for each of the 3 rows"):
        verification.verify_property(net, low, low + 1, torch.eye(3), torch.zeros(3), ways=(0, 1))


@pytest.mark.parametrize(
    ("changed", "error", "said"),
    [
        ({"low": torch.zeros(2).long()}, TypeError, r"low is torch.int64; .*low.float\(\)"),
        ({"high": torch.ones(2).half()}, ValueError, "high is torch.float16"),
        ({"low": "zero"}, TypeError, "low is 'zero'"),
        ({"rows": None}, TypeError, "rows is None"),
        ({"const": 0.0}, ValueError, "rows is .* and const"),
        ({"time_limit": "1"}, ValueError, "time_limit is '1'"),
    ],
)
def test_a_property_that_is_none_is_named(changed, error, said):
    asked = {"net": network(0), "low": torch.zeros(2), "high": torch.ones(2), "rows": torch.eye(3), "const": torch.zeros(3)}
    with pytest.raises(error, match=said):
        verification.verify_property(**asked | changed)


def test_a_property_may_be_of_arrays_and_numbers_or_have_a_graph():
    net, low, high, rows, const = network(0), torch.zeros(2), torch.ones(2), torch.eye(3), torch.full((3,), 0.3)
    expected = verification.verify_property(net, low, high, rows, const)
    parts = low, high, rows, const
    for asked in (map(torch.Tensor.numpy, parts), map(torch.Tensor.tolist, parts), (v.clone().requires_grad_() for v in parts)):
        found = verification.verify_property(net, *asked)
        assert (found.status, found.stage, found.bound) == (expected.status, expected.stage, expected.bound)


def test_a_network_is_compared_on_a_box_outside_of_the_unit_cube(monkeypatch):
    net = nn.Sequential(nn.Linear(1, 1), nn.ReLU(), nn.Linear(1, 1)).eval()
    with torch.no_grad():
        for p, value in zip(net.parameters(), ([[1.0]], [0.0], [[1.0]], [1.0]), strict=True):
            p.copy_(torch.tensor(value))
    low, asked = torch.tensor([-2.0]), (torch.eye(1), torch.zeros(1))
    assert verification.verify_property(net, low, -low, *asked).status == "robust"
    monkeypatch.setattr(nn.ReLU, "forward", lambda self, x: x)  # on [0, 1] the same
    assert verification.verify_property(net, low * 0, low * 0 + 1, *asked).status == "robust"
    with pytest.raises(TypeError, match="does not compute what its layers say"):
        verification.verify_property(net, low, -low, *asked)
