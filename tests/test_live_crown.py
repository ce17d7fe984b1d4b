"""CROWN's steps in the page: each sound on samples, each bound that of a linear program, the last one the library's."""

import itertools

import numpy as np
import pytest
import torch
import traitlets
from browser import needs_chromium, page, page_of
from figures import has_words_and_a_picture, stands_in_its_frame
from node import javascript, needs_node
from scipy.optimize import linprog
from torch import nn

from advlab import stability
from labbook import live

BOXES = [([0.5, 0.5], 0.2), ([0.4, 0.6], 0.05), ([0.0, 1.0], 0.3), ([0.3, 0.3], 0.0)]


def network(*sizes, seed=0):
    torch.manual_seed(seed)
    layers = [layer for a, b in itertools.pairwise(sizes) for layer in (nn.Linear(a, b), nn.ReLU())]
    return nn.Sequential(*layers[:-1]).double()


FIGURES = {
    "by hand": live.CrownSteps.by_hand(),
    "one layer": live.CrownSteps(network(2, 8, 3), [0.5, 0.5], 0),
    "two layers": live.CrownSteps(network(2, 6, 7, 2, seed=1), [0.5, 0.5], 0),
    "three layers": live.CrownSteps(network(2, 5, 8, 4, 4, seed=2), [0.5, 0.5], 0),
}


def torch_of(f):
    """The figure's network once more, from what its page reads."""
    layers = []
    for held in f.networks[0]["layers"]:
        layer = nn.Linear(len(held["weight"][0]), len(held["bias"])).double()
        with torch.no_grad():
            layer.weight.copy_(torch.tensor(held["weight"], dtype=torch.float64))
            layer.bias.copy_(torch.tensor(held["bias"], dtype=torch.float64))
        layers += [layer, nn.ReLU()]
    return nn.Sequential(*layers[:-1])


@needs_node
@pytest.mark.parametrize("name", list(FIGURES))
def test_every_step_is_sound_and_the_last_is_crowns(name, tmp_path):
    f = FIGURES[name]
    net, held = torch_of(f), {"networks": f.networks, "network": f.network}
    source = "a[1].map(([point, eps]) => figure.compute({ ...a[0], point, eps }))"
    for (point, eps), found in zip(BOXES, javascript(tmp_path, f._esm, source, [held, BOXES]), strict=True):
        label, other = found["label"], found["other"]
        assert label == int(net(torch.tensor([point], dtype=torch.float64)).argmax())
        margins = nn.Linear(net[-1].in_features, net[-1].out_features - 1).double()
        others = [k for k in range(net[-1].out_features) if k != label]
        with torch.no_grad():
            margins.weight.copy_(net[-1].weight[label] - net[-1].weight[others])
            margins.bias.copy_(net[-1].bias[label] - net[-1].bias[others])
        twin = nn.Sequential(*net[:-1], margins).eval().requires_grad_(False)
        ends = stability.interval_bounds(twin, torch.tensor([point], dtype=torch.float64), eps, "crown")
        crown = float(ends[-1][0].min())
        naive = float(stability.interval_bounds(twin, torch.tensor([point], dtype=torch.float64), eps)[-1][0].min())
        assert max(found["steps"][-1]["bound"], naive) == pytest.approx(crown, abs=1e-9)
        assert found["intervals"] == pytest.approx(naive, abs=1e-9)

        low, high = (np.clip(np.array(point) + s * eps, 0, 1) for s in (-1, 1))
        x = torch.tensor(np.random.default_rng(0).uniform(low, high, (500, 2)))
        held_values = {("inputs", -1): x}
        with torch.no_grad():
            for k in range(len(net) // 2):
                held_values["entries", k] = net[: 2 * k + 1](x)
                held_values["outputs", k] = net[: 2 * k + 2](x)
            margin = (net(x)[:, label] - net(x)[:, other]).numpy()
        for step in found["steps"]:
            row, v = np.array(step["row"]), held_values[step["kind"], step["layer"]].numpy()
            gap = margin - v @ row - step["constant"]
            assert gap.min() > -1e-9, "a lower bound at every point"
            if step is found["steps"][0]:
                assert np.abs(gap).max() < 1e-9, "the margin itself"
            box = np.stack([low, high], 1) if step["kind"] == "inputs" else torch.stack(ends[step["layer"]], -1)[0].numpy()
            program = linprog(row, bounds=np.maximum(box, 0) if step["kind"] == "outputs" else box)
            assert step["bound"] == pytest.approx(program.fun + step["constant"], abs=1e-7)

        f.point, f.eps = point, eps
        for mine, theirs in zip(f.steps(), found["steps"], strict=True):
            assert (mine.kind, mine.layer) == (theirs["kind"], theirs["layer"])
            np.testing.assert_allclose(
                [*mine.row, mine.constant, mine.bound], [*theirs["row"], theirs["constant"], theirs["bound"]], atol=1e-9
            )


def test_the_network_by_hand_shows_what_it_is_for():
    f = live.CrownSteps.by_hand()
    bounds, (naive, crown, exact) = [s.bound for s in f.steps()], f.computed().margins
    assert naive < bounds[0] < bounds[2] < 0 < bounds[4] == pytest.approx(crown)
    assert crown < exact
    assert bounds[1] < bounds[0], "a line loses"
    has_words_and_a_picture(f)


def test_larger_networks_are_refused():
    for sizes in ((2, 9, 2), (2, 3, 3, 3, 3, 2)):
        with pytest.raises(ValueError, match="at most 3 layers of at most 8 units"):
            live.CrownSteps(network(*sizes), [0.5, 0.5], 0)
    with pytest.raises(traitlets.TraitError, match="the last one is 4"):
        live.CrownSteps.by_hand(step=5)


@needs_chromium
@pytest.mark.parametrize("width", [1280, 360])
def test_a_reader_goes_back_to_the_inputs_by_keyboard(tmp_path, width):
    with page() as p:
        p.set_viewport_size({"width": width, "height": 900})
        p.goto(page_of({"steps": live.CrownSteps.by_hand()}, tmp_path))
        f = p.locator(".advlab-crown-steps")
        verdict = f.locator(".verdict")
        verdict.wait_for()
        assert "the margin would be at least −3." in verdict.inner_text()
        f.get_by_role("button", name="one step back").focus()
        for said in ("at least −3.1.", "at least −0.4.", "at least −0.7.", "CROWN proves a margin of at least 0.1;"):
            assert "and the truth" not in verdict.inner_text()
            p.keyboard.press("Enter")
            assert said in verdict.inner_text()
        assert "intervals prove −4, and the truth is 0.25." in verdict.inner_text()
        assert f.get_by_role("button", name="one step back").is_disabled()
        assert f.locator(".unit.reached").count() == 6
        stands_in_its_frame(f, "crown-steps")
        f.get_by_label("radius ε").focus()
        p.keyboard.press("End")
        assert "broken" in verdict.get_attribute("class")
        f.get_by_role("button", name="start again").click()
        assert f.locator(".unit.reached").count() == 3
        assert not p.errors
