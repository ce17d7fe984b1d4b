"""Branch and bound in the page: sound at every leaf, exact at the end, against the network itself and a linear program."""

import itertools

import numpy as np
import pytest
import torch
from browser import needs_chromium, page, page_of
from figures import has_words_and_a_picture, stands_in_its_frame
from node import javascript, needs_node
from scipy.optimize import linprog
from torch import nn

from labbook import live


def network(*sizes, seed=0):
    torch.manual_seed(seed)
    layers = [layer for a, b in itertools.pairwise(sizes) for layer in (nn.Linear(a, b), nn.ReLU())]
    return nn.Sequential(*layers[:-1]).double()


def figure_of(net, point, eps):
    return live.BranchAndBound(net, [0.5, 0.5], 0, point=point, eps=eps, eps_max=1.0)


def searched(tmp_path, f, **more):
    state = {name: getattr(f, name) for name in ("networks", "network", "point", "eps")}
    return javascript(tmp_path, live.BranchAndBound._esm, "figure.compute(a)", state | more)


def margins(net, label, x):
    """The least margin of the class at each x (n, 2), by torch."""
    with torch.no_grad():
        out = net(torch.as_tensor(x))
    others = [k for k in range(out.shape[1]) if k != label]
    return (out[:, [label]] - out[:, others]).min(1).values.numpy()


def by_programs(net, label, box):
    """The least margin in a box, exactly: a linear program for each choice of sides of one hidden layer's units."""
    (w, b), (v, c) = (
        (layer.weight.detach().numpy(), layer.bias.detach().numpy()) for layer in net if isinstance(layer, nn.Linear)
    )
    best = np.inf
    for sides in itertools.product([0, 1], repeat=len(b)):
        on = np.array(sides)
        sign = np.where(on, -1.0, 1.0)
        for other in range(len(c)):
            if other != label:
                row = (v[label] - v[other]) * on
                found = linprog(row @ w, A_ub=sign[:, None] * w, b_ub=-sign * b, bounds=box)
                if found.status == 0:
                    best = min(best, found.fun + row @ b + c[label] - c[other])
    return best


@needs_node
@pytest.mark.parametrize("seed", range(4))
def test_the_search_ends_at_the_least_margin(tmp_path, seed):
    net = network(2, 6, 3, seed=seed)
    f = figure_of(net, [0.4, 0.55], 0.3)
    label, box = f.computed().label, [(0.1, 0.7), (0.25, 0.85)]
    found = searched(tmp_path, f)
    assert found["reached"] == pytest.approx(by_programs(net, label, box), abs=1e-8)
    assert found["first"] <= found["reached"] + 1e-12


@needs_node
@pytest.mark.parametrize("sizes", [(2, 16, 2), (2, 9, 8, 3), (2, 6, 5, 4, 2)])
def test_every_leaf_is_sound_and_the_end_is_what_the_pieces_say(tmp_path, sizes):
    net = network(*sizes, seed=5)
    f = figure_of(net, [0.5, 0.4], 0.35)
    answer = f.computed()
    assert searched(tmp_path, f)["reached"] == pytest.approx(answer.margins[2], abs=1e-9)
    assert searched(tmp_path, f, most=1)["leaves"] == 1
    some = searched(tmp_path, f, most=6)
    assert 1 < some["leaves"] <= 6 or some["first"] == pytest.approx(answer.margins[2])
    x = np.random.default_rng(0).uniform([0.15, 0.05], [0.85, 0.75], (2000, 2))
    least = np.full(len(x), np.inf)
    for corners, bound in some["bounds"]:
        edges = np.roll(corners, -1, 0) - corners
        apart = x[:, None] - np.array(corners)
        inside = (edges[:, 0] * apart[..., 1] - edges[:, 1] * apart[..., 0] >= -1e-9).all(1)
        least[inside] = np.minimum(least[inside], bound)
    assert np.isfinite(least).all(), "the leaves cover the box"
    assert (margins(net, answer.label, x) >= least - 1e-9).all()


@pytest.fixture(scope="module")
def small():
    return live.BranchAndBound({"a": network(2, 8, 8, 2, seed=3), "b": network(2, 8, 2, seed=1)}, [0.5, 0.5], 0, eps=0.2)


def test_it_describes_itself_and_carries_a_picture(small):
    has_words_and_a_picture(small)


@needs_chromium
@pytest.mark.parametrize("width", [1280, 360])
def test_leaves_split_on_click_until_all_is_decided(small, tmp_path, width):
    with page() as p:
        p.set_viewport_size({"width": width, "height": 900})
        p.goto(page_of({"small": small}, tmp_path))
        f = p.locator(".advlab-branch-and-bound")
        verdict = f.locator(".verdict")
        verdict.wait_for()
        f.get_by_label("radius ε").focus()
        p.keyboard.press("End")
        assert "1 leaf, 1 open" in verdict.inner_text()
        f.get_by_role("button", name="split the box").focus()
        p.keyboard.press("Enter")
        assert "2 leaves" in verdict.inner_text()
        before = f.locator("path.folds").get_attribute("d")
        for _ in range(300):
            if not f.get_by_role("button", name="split the weakest").is_enabled():
                break
            f.get_by_role("button", name="split the weakest").click()
        assert verdict.inner_text().partition(". ")[2].startswith(("Proved, with", "Refuted, with"))
        assert f.locator("path.folds").get_attribute("d") != before
        stands_in_its_frame(f, "branch-and-bound")
        f.get_by_role("button", name="start again").click()
        assert "1 leaf, 1 open" in verdict.inner_text()
        assert not p.errors
