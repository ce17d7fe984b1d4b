"""Where bounds lose: widths against weights multiplied out and a dense grid, ratios in the page against NumPy."""

import itertools

import numpy as np
import pytest
import torch
import traitlets
from browser import needs_chromium, page, page_of
from figures import answer_to_keys, has_words_and_a_picture
from node import javascript, needs_node
from torch import nn

from advlab import data, zoo
from labbook import live


def network(*sizes, seed=0):
    torch.manual_seed(seed)
    parts = [layer for a, b in itertools.pairwise(sizes) for layer in (nn.Linear(a, b), nn.ReLU())]
    return nn.Sequential(*parts[:-1]).double().eval()


@pytest.fixture(scope="module")
def figure():
    x = torch.rand(3, 2, generator=torch.Generator().manual_seed(0)).double()
    return live.Tightness({"small": network(2, 6, 5, 3), "large": network(2, 9, 9, 9, 2, seed=1)}, x, [0.05, 0.2])


def test_widths_are_those_of_weights_and_of_a_grid():
    net, x, eps = network(2, 7, 6, 2, seed=3), torch.tensor([[0.4, 0.5], [0.0, 0.9]], dtype=torch.float64), 0.15
    intervals, crown, reached = live.mean_widths(net, x, eps, samples=4000, generator=torch.Generator().manual_seed(0))
    low, high = (x - eps).clamp(0, 1).numpy(), (x + eps).clamp(0, 1).numpy()
    expected, grid = [], []
    for layer in (net[0], net[2], net[4]):
        w, b = layer.weight.detach().numpy(), layer.bias.detach().numpy()
        low, high = (np.maximum(w, 0) @ a.T + np.minimum(w, 0) @ c.T + b[:, None] for a, c in ((low, high), (high, low)))
        low, high = low.T, high.T
        expected.append((high - low).mean())
        low, high = np.maximum(low, 0), np.maximum(high, 0)
    np.testing.assert_allclose(intervals, expected, rtol=1e-9)
    for one in x:
        ends = [torch.linspace(float(max(0, v - eps)), float(min(1, v + eps)), 201).double() for v in one]
        at = torch.cartesian_prod(*ends)
        with torch.no_grad():
            values = [net[:k](at) for k in (1, 3, 5)]
        grid.append([float((v.amax(0) - v.amin(0)).mean()) for v in values])
    truth = np.mean(grid, 0)
    np.testing.assert_allclose(crown[0], truth[0], rtol=1e-5, err_msg="the first layer is linear")
    assert (reached <= truth * (1 + 1e-3)).all()
    assert (reached > 0.9 * truth).all()
    assert (truth <= crown * (1 + 1e-6)).all()
    assert (crown <= intervals * (1 + 1e-9)).all()


@needs_node
def test_the_page_finds_where_most_is_lost(figure, tmp_path):
    cases = [{"network": n, "budget": k} for n in ("small", "large") for k in (0, 1)]
    source = "a[1].map((s) => figure.compute({ ...a[0], ...s }))"
    found = javascript(tmp_path, figure._esm, source, [{"networks": figure.networks}, cases])
    for case, ways in zip(cases, found, strict=True):
        held = next(n for n in figure.networks if n["name"] == case["network"])
        widths = np.array(held["widths"][case["budget"]])
        for way, answer in enumerate(ways):
            over = widths[way] / widths[2]
            np.testing.assert_allclose(answer["over"], over)
            assert answer["worst"] == np.argmax(over / np.append(1, over[:-1]))


def test_what_it_says_and_refuses(figure):
    has_words_and_a_picture(figure)
    intervals, crown, reached = figure.widths()
    assert f"{intervals[-1]:.3g} by intervals, {crown[-1]:.3g} by CROWN, {reached[-1]:.3g} in samples." in figure.describe()
    x = torch.tensor([[0.5, 0.5]])
    for nets, budgets in (({}, [0.1]), ({"a": network(2, 3, 2)}, []), ({"a": network(2, 3, 2)}, [0.0])):
        with pytest.raises(ValueError, match="above 0"):
            live.Tightness(nets, x, budgets)
    pruned = zoo.load("mnist_01_rs_pruned").requires_grad_(False)
    with pytest.raises(ValueError, match="pruned ones"):
        live.Tightness({"pruned": pruned}, data.mnist("test", 1)[0], [0.05])
    for name, value in (("network", "other"), ("budget", 2)):
        with pytest.raises(traitlets.TraitError):
            setattr(figure, name, value)


@needs_chromium
@pytest.mark.parametrize("width", [1280, 360])
def test_it_moves_by_keyboard(figure, tmp_path, width):
    with page() as p:
        p.set_viewport_size({"width": width, "height": 900})
        p.goto(page_of({"tightness": figure}, tmp_path))
        answer_to_keys(p, {"tightness": [("budget ε", "Home", "small, ε = 0.05. At the logits the intervals are")]})
        f = p.locator(".advlab-tightness")
        f.get_by_role("combobox", name="network").select_option("large")
        assert "large, ε = 0.05." in f.locator(".verdict").inner_text()
        assert "layer 3" in f.locator("svg.plot").text_content()
        assert not p.errors
