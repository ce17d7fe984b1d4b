"""The live figures of ReLU stability: their JavaScript against NumPy, torch and the verifier, what they say, and a look."""

import copy
import itertools
import json
import math

import numpy as np
import pytest
import torch
import traitlets
from browser import needs_chromium, page, page_of
from figures import answer_to_keys, has_words_and_a_picture
from node import javascript, needs_node
from torch import nn

from advlab import stability, verification
from labbook import live
from labbook.live import figure

MATHS = figure.module("stability_math.js") + "\nexport { analyse, bounds, corners, logits, pieces, territories };"
LIMIT = 120.0


def network(*sizes, seed=0, spread=1.5, bias=True):
    """Random weights with kinks inside of the unit square, in float64."""
    generator = torch.Generator().manual_seed(seed)
    parts: list[nn.Module] = []
    for a, b in itertools.pairwise(sizes):
        layer = nn.Linear(a, b, bias=bias).double()
        with torch.no_grad():
            layer.weight.copy_(spread * torch.randn(b, a, generator=generator) / math.sqrt(a))
            if bias:  # zero at the image of some point of the square
                layer.bias.copy_(-layer.weight @ torch.rand(a, generator=generator).double())
        parts += [layer, nn.ReLU()]
    return nn.Sequential(*parts[:-1]).eval()


def stable():
    """Every ReLU is on in the whole square, so that the network is affine."""
    net = network(2, 5, 4, 3, seed=5)
    with torch.no_grad():
        for layer in (net[0], net[2]):
            layer.bias.copy_(layer.weight.abs().sum(1) * 40 + 1)
    return net


def dead():
    """Every ReLU of the last layer is off in the whole square: equal logits everywhere, of which the first wins."""
    net = network(2, 6, 5, 3, seed=6)
    with torch.no_grad():
        net[2].bias.fill_(-1000)
        net[4].bias.fill_(0.5)
    return net


def ties():
    """Weights on a grid: kinks run through corners of boxes, along their sides, and meet in points."""
    net = network(2, 6, 2, seed=1)
    rows = [[1, 0], [0, 1], [1, -1], [1, 1], [1, 1], [0, 0]]
    with torch.no_grad():
        net[0].weight.copy_(torch.tensor(rows))
        net[0].bias.copy_(torch.tensor([-0.5, -0.25, 0, -1, -0.75, 0]))
    return net


NETWORKS = {
    "one layer": network(2, 16, 2),
    "two layers": network(2, 10, 9, 3, seed=1),
    "three layers": network(2, 12, 10, 8, 4, seed=2),
    "no bias": network(2, 9, 7, 2, seed=3, bias=False),
    "the largest": network(2, 22, 21, 21, 8, seed=4),
    "stable": stable(),
    "dead": dead(),
    "ties": ties(),
}
BOXES = [
    ([0.5, 0.5], 0.1),
    ([0.31, 0.64], 0.2),
    ([0.5, 0.25], 0.25),
    ([0.0, 0.0], 0.1),
    ([1.0, 0.0], 0.05),
    ([0.7, 0.2], 0.0),
    ([1.0, 1.0], 0.0),
    ([0.5, 0.5], 1e-6),
    ([0.4, 0.6], 1.0),
]


def two_inputs(nets, **values):
    return live.TwoInputs(nets, [0.5, 0.5], 0, **({"eps_max": 1.0} | values))


def history(records=12, seed=0):
    """Bounds of two trainings: units drift from the unstable quadrant, in one of them faster."""
    random = np.random.default_rng(seed)
    found = {}
    for name, drift, units in (("plain", 0.05, 70), ("RS loss", 0.3, 40)):
        middle = random.normal(0, 1, (1, units)) * (1 + drift * np.arange(records)[:, None])
        found[name] = np.stack([middle - 1, middle + 1], -1)
    return found


def times(n=700, seed=0):
    random = np.random.default_rng(seed)
    slow = np.minimum(LIMIT, 10 ** random.normal(0, 1.2, n))
    quick = 10 ** random.normal(-1.5, 0.5, n)
    return {
        "plain": {"seconds": slow, "decided": slow < LIMIT},
        "RS loss": {"seconds": quick, "decided": random.random(n) < 0.97},
    }


@pytest.fixture(scope="module")
def figures():
    nets = {"plain": network(2, 16, 16, 2, seed=7), "RS loss": network(2, 12, 12, 2, seed=8)}
    x = torch.rand(30, 2, generator=torch.Generator().manual_seed(0))
    return {
        "stability-loss": live.StabilityLoss(),
        "two-inputs": live.TwoInputs(nets, x, (x[:, 0] > 0.5).long()),
        "settling-units": live.SettlingUnits(history(), steps=range(0, 120_000, 10_000)),
        "race": live.Race(times(), limit=LIMIT),
    }


def state_of(f, *names):
    return {name: getattr(f, name) for name in names}


# ------------------------------------------------------------------------------------------------ one ReLU

PAIRS = [(-1, 1.5), (-4, 4), (-1, 1), (0, 0), (0, 2), (-2, 0), (1, 1), (-3, -3), (0.5, 3), (-4, -0.5), (-0.01, 4), (-0.3, 0.2)]


@needs_node
def test_one_unit_is_that_of_torch_and_of_python(tmp_path):
    cases = [{"lower": low, "upper": high, "steps": k} for low, high in PAIRS for k in (0, 1, 200)]
    source = figure.module("plot.js", "stability_parts.js", "stability_loss.js")
    found = javascript(tmp_path, source, "a.map(figure.compute)", cases)
    for case, answer in zip(cases, found, strict=True):
        ends = torch.tensor([case["lower"], case["upper"]], dtype=torch.float64)
        moving = ends.clone().requires_grad_()
        loss = stability.rs_loss([(moving[:1, None], moving[1:, None])] * 2)
        loss.backward()
        np.testing.assert_allclose(answer["gradient"], moving.grad, atol=1e-15)
        low, high = case["lower"], case["upper"]
        triangle = np.array([(low, 0), (0, 0), (high, high)]) if low < 0 < high else np.zeros((3, 2))
        (a, b), (c, d) = triangle[1:] - triangle[0]
        assert answer["area"] == pytest.approx(abs(a * d - b * c) / 2)
        assert answer["state"] == (1 if low >= 0 else 2 if high <= 0 else 0)
        f = live.StabilityLoss(**case)
        mine = f.computed()
        assert mine[0] == pytest.approx(loss.item(), abs=1e-12)
        assert [answer["loss"], answer["size"], answer["area"], *answer["end"]] == pytest.approx(mine, rel=1e-12, abs=1e-15)
        np.testing.assert_allclose(answer["path"], f.path(), rtol=1e-12, atol=1e-15)
        for _ in range(case["steps"]):  # descent once more, by torch
            step = ends.clone().requires_grad_()
            (-torch.tanh(1 + step.prod())).backward()
            ends = ends - 0.1 * step.grad
        np.testing.assert_allclose(answer["end"], ends, rtol=1e-9, atol=1e-12)


def test_a_very_unstable_unit_does_not_move():
    """The reader's lesson: at l u = -5 the gradient's factor is a thousandth; both kinds of stability are rewarded alike."""
    far = live.StabilityLoss(-4, 4, steps=200)
    assert np.abs(np.array(far.computed()[3:]) - (-4, 4)).max() < 1e-4
    near = live.StabilityLoss(-1, 1.5, steps=200)
    assert near.computed()[3] > 0
    assert near.describe().endswith("always active.")
    factor = live.StabilityLoss(-2.5, 2).computed()[1] / math.hypot(2.5, 2)
    assert factor == pytest.approx(1.3e-3, abs=1e-4)
    assert live.StabilityLoss(0.5, 3).computed()[:3] == live.StabilityLoss(-3, -0.5).computed()[:3]


# ------------------------------------------------------------------------------------------------ two inputs


def answers(tmp_path, f):
    """What the page finds of every box in turn."""
    source = "a[1].map(([point, eps]) => figure.compute({ ...a[0], point, eps }))"
    return javascript(tmp_path, f._esm, source, [state_of(f, "networks", "network"), BOXES])


def margin_network(net, label):
    """The network whose outputs are the margins of ``label``, merged into its last layer."""
    twin = copy.deepcopy(net)
    last, k = twin[-1], net[-1].out_features
    onto = torch.eye(k).double()[label] - torch.eye(k).double()[[j for j in range(k) if j != label]]
    merged = nn.Linear(last.in_features, k - 1).double()
    with torch.no_grad():
        merged.weight.copy_(onto @ last.weight)
        merged.bias.copy_(onto @ last.bias if last.bias is not None else torch.zeros(k - 1))
    return nn.Sequential(*twin[:-1], merged).eval()


def before_relus(net, x):
    """The inputs of all ReLUs at the points (n, 2), (n, units)."""
    found = []
    with torch.no_grad():
        for layer in net:
            if isinstance(layer, nn.ReLU):
                found.append(x)
            x = layer(x)
    return torch.cat(found, 1).numpy()


@needs_node
@pytest.mark.parametrize("name", list(NETWORKS))
def test_two_inputs_in_the_page_and_in_python_and_by_the_library(name, tmp_path):
    net = NETWORKS[name]
    f = two_inputs(net)
    for (point, eps), answer in zip(BOXES, answers(tmp_path, f), strict=True):
        f.point, f.eps = point, eps
        mine = f.computed()
        assert answer["label"] == mine.label
        assert (answer["unstable"], answer["regions"]) == (list(mine.unstable), mine.regions)
        np.testing.assert_allclose(answer["margins"], mine.margins, rtol=1e-9, atol=1e-9)
        naive, crown, exact = mine.margins
        assert naive <= crown + 1e-9
        assert crown <= exact + 1e-9

        x = torch.tensor([point], dtype=torch.float64)
        label = int(net(x).argmax())
        assert mine.label == label
        margins = margin_network(net, label)
        for i, method in enumerate(("naive", "crown")):
            bounds = stability.interval_bounds(margins, x, eps, method)
            assert mine.margins[i] == pytest.approx(bounds[-1][0].min().item(), rel=1e-9, abs=1e-9)
            assert mine.unstable[i] == sum(int(u.sum()) for u in stability.unstable(bounds))
        assert mine.unstable[0] >= mine.unstable[1] >= mine.unstable[2]
        with torch.no_grad():
            for worst in (answer["worst"], mine.worst):
                assert margins(torch.tensor([worst], dtype=torch.float64)).min().item() == pytest.approx(exact, abs=1e-9)
                assert max(abs(a - b) for a, b in zip(worst, point, strict=True)) <= eps + 1e-12


@needs_node
@pytest.mark.parametrize("name", list(NETWORKS))
def test_the_exact_answer_is_that_of_dense_samples(name, tmp_path):
    """A region is a cell of one pattern of ReLUs, and convex, so that each pattern has one; together they fill the box."""
    net = NETWORKS[name]
    f = two_inputs(net)
    for (_, eps), answer in zip(BOXES, answers(tmp_path, f), strict=True):
        (a, b), (c, d) = answer["box"]
        axes = [torch.linspace(low, high, 301, dtype=torch.float64) for low, high in ((a, b), (c, d))]
        grid = torch.cartesian_prod(*axes)
        with torch.no_grad():
            sampled = margin_network(net, answer["label"])(grid).amin(1).min().item()
        exact = answer["margins"][2]
        assert exact <= sampled + 1e-9
        assert sampled <= exact + max(1e-2, 0.05 * eps)

        polygons = [np.array(p) for p in answer["polygons"]]
        z = before_relus(net, torch.from_numpy(np.concatenate(polygons)).double())
        assert ((z.min(0) < -1e-12) & (z.max(0) > 1e-12)).sum() == answer["unstable"][2], "extremes lie at corners"
        if eps < 1e-3:
            continue
        z = before_relus(net, grid)
        assert ((z.min(0) < -1e-9) & (z.max(0) > 1e-9)).sum() <= answer["unstable"][2]
        areas = [p[:, 0] @ np.roll(p[:, 1], -1) - p[:, 1] @ np.roll(p[:, 0], -1) for p in polygons]
        assert min(areas) > 0
        assert sum(areas) / 2 == pytest.approx((b - a) * (d - c), rel=1e-9)
        cells = before_relus(net, torch.from_numpy(np.stack([p.mean(0) for p in polygons]))) > 1e-12
        assert len(np.unique(cells, axis=0)) == len(cells) == answer["regions"]
        inside = z[(np.abs(z) > 1e-9).all(1)] > 0  # points on no kink
        assert {row.tobytes() for row in inside} <= {row.tobytes() for row in cells}


@pytest.mark.parametrize("name", ["one layer", "two layers", "three layers", "no bias", "stable"])
def test_the_verifier_agrees(name):
    """The figure's exact answer decides what the verifier of chapter 3 decides."""
    net = NETWORKS[name]
    f = two_inputs(net)
    random = np.random.default_rng(0)
    found = []
    for _ in range(6):
        f.point, f.eps = random.random(2).tolist(), random.choice([0.01, 0.05, 0.2])
        mine = f.computed()
        verdict = verification.verify(net, torch.tensor(f.point, dtype=torch.float64), mine.label, f.eps, time_limit=60)
        assert abs(mine.margins[2]) > 1e-5, "too close to tell: take another seed"
        assert verdict.status == ("robust" if mine.margins[2] > 0 else "counterexample")
        assert verdict.status != "robust" or verdict.bound <= mine.margins[2] + 1e-9
        found.append(verdict.status)
    assert "robust" in found


def test_the_easy_networks_are_as_expected():
    f = two_inputs(NETWORKS["stable"], eps=0.3)
    mine = f.computed()
    assert mine.unstable == (0, 0, 0)
    assert mine.regions == 1
    assert mine.margins[1] == pytest.approx(mine.margins[2], rel=1e-9), "CROWN is exact where no ReLU is open"
    f = two_inputs(NETWORKS["dead"], eps=0.3)
    assert f.computed().margins == (0, 0, 0)
    assert f.computed().label == 0
    f = two_inputs(NETWORKS["two layers"], eps=0.0)
    naive, crown, exact = f.computed().margins
    assert naive == pytest.approx(exact, abs=1e-12)
    assert crown == pytest.approx(exact, abs=1e-12)


@needs_node
@pytest.mark.parametrize("name", ["two layers", "three layers", "dead", "stable"])
def test_the_map_shows_the_networks_classes(name, tmp_path):
    """Each random point of the square lies in one polygon, of the class that torch gives it."""
    net = NETWORKS[name]
    layers = two_inputs(net).networks[0]["layers"]
    classes = net[-1].out_features
    source = f"figure.territories(figure.pieces(a, [[0, 0], [1, 0], [1, 1], [0, 1]]).parts, {classes})"
    found = javascript(tmp_path, MATHS, source, layers)
    x = torch.rand(300, 2, generator=torch.Generator().manual_seed(1)).double()
    said = net(x).argmax(1).numpy()
    seen: list[list[int]] = [[] for _ in x]
    for k, polygons in enumerate(found):
        for polygon in map(np.array, polygons):
            edges = np.roll(polygon, -1, 0) - polygon
            away = x.numpy()[:, None] - polygon
            for i in np.flatnonzero((edges[:, 0] * away[..., 1] - edges[:, 1] * away[..., 0] > 0).all(1)):
                seen[i].append(k)
    assert seen == [[k] for k in said]


@needs_node
def test_an_update_takes_less_than_a_tenth_of_a_second(tmp_path):
    layers = two_inputs(NETWORKS["the largest"]).networks[0]["layers"]
    work = {
        "figure.analyse(a, [0.5, 0.5], 0.2)": 100,
        "figure.territories(figure.pieces(a, figure.corners([[0, 1], [0, 1]])).parts, 8)": 500,
    }
    for expression, most in work.items():
        clock = (
            f"Array.from({{ length: 5 }}, () => {{ const t = performance.now(); {expression}; return performance.now() - t; }})"
        )
        assert min(javascript(tmp_path, MATHS, clock, layers)) < most, expression


def test_a_network_is_left_as_it_is():
    net = network(2, 4, 2).float().train()
    before = copy.deepcopy(net.state_dict())
    f = two_inputs({"one": net, "two": network(2, 3, 2)}, network="two")
    f.network = "one"
    assert net.training
    assert all(torch.equal(before[k], v) for k, v in net.state_dict().items())
    assert "'one'" in f.describe()


# ------------------------------------------------------------------------------------------------ units settling


@needs_node
def test_units_are_counted_in_the_page_as_here(tmp_path):
    """Signs survive half precision, however small; numbers too large for it too."""
    odd = np.array([[-1e-12, 1e-12], [0, 0], [0, 1e-30], [-1e-30, 0], [-1e7, 1e7], [-2, -1e-9], [1e-9, 3], [-3, 5]])
    found = history(3)
    found["odd"] = np.repeat(odd[None], 3, 0)
    found["odd"][2] = [-1, 1]
    f = live.SettlingUnits(found, steps=[0, 10, 500], labels=["A", "B", "C"])
    cases = [0, 1, 2]
    state = state_of(f, "packed", "sizes", "steps")
    pages = javascript(tmp_path, f._esm, "a[1].map((record) => figure.compute({ ...a[0], record }))", [state, cases])
    for record, answer in zip(cases, pages, strict=True):
        f.record = record
        truth = [
            [int(((b[record, :, 0] < 0) & (b[record, :, 1] > 0)).sum()), int((b[record, :, 0] >= 0).sum())]
            for b in found.values()
        ]
        assert [counts[:2] for counts in answer] == truth
        assert [sum(counts) for counts in answer] == f.sizes
        assert answer == f.computed()
    assert pages[0][2] == [3, 3, 2]
    assert pages[2][2] == [8, 0, 0]
    assert f.describe().startswith("At training step 500, A has ")


# ------------------------------------------------------------------------------------------------ a race


@needs_node
def test_the_race_is_exact_at_every_stop(tmp_path):
    random = np.random.default_rng(1)
    n = 10_000
    raced = times() | {
        "many": {"seconds": 10 ** random.normal(0, 1, n), "decided": random.random(n) < 0.9},
        "rounded": {"seconds": np.round(10 ** random.normal(0, 1, 500), 1), "decided": np.ones(500)},
        "one": {"seconds": [3], "decided": [True]},
        "none": {"seconds": [LIMIT] * 5, "decided": [False] * 5},
        "at once": {"seconds": [0.0, 0.0], "decided": [True, False]},
    }
    f = live.Race(raced, limit=LIMIT)
    assert f.stops == sorted(f.stops)
    assert f.stops[-1] == LIMIT
    assert len(f.stops) <= live.Race.KEPT
    source = "a[1].map((seconds) => figure.compute({ ...a[0], seconds }))"
    found = javascript(tmp_path, f._esm, source, [state_of(f, "curves"), f.stops])
    for stop, answer in zip(f.stops, found, strict=True):
        truth = [int(((np.array(c["seconds"]) <= stop) & np.array(c["decided"], bool)).sum()) for c in raced.values()]
        assert [a["decided"] for a in answer] == truth, stop
        assert [a["share"] for a in answer] == [k / len(c["seconds"]) for k, c in zip(truth, raced.values(), strict=True)]
        f.seconds = stop
        assert f.computed() == truth
    for curve, c in zip(f.curves, raced.values(), strict=True):
        done = np.sort(np.array(c["seconds"])[np.array(c["decided"], bool)])
        assert len(curve["at"]) == len(curve["count"]) <= 2 * live.Race.KEPT
        assert (np.diff(curve["at"]) > 0).all()
        assert (np.diff(curve["count"]) > 0).all()
        assert curve["mean"] == pytest.approx(np.mean(c["seconds"]))
        half = math.ceil(curve["n"] / 2)
        assert curve["median"] == (done[half - 1] if len(done) >= half else None)
        for at, count in zip(curve["at"], curve["count"], strict=True):
            assert count == (done <= at).sum(), "exact at each step that was kept"
        dense = np.geomspace(f.stops[0], LIMIT, 2000)
        kept = np.array([0, *curve["count"]])[np.searchsorted(curve["at"], dense, "right")]
        behind = np.searchsorted(done, dense, "right") - kept
        assert behind.min() >= 0
        assert behind.max() <= max(0.0102 * curve["n"], 0)
    assert f.curves[3]["median"] > 0
    assert f.curves[-2]["median"] is None


@needs_node
def test_each_input_turns_green_at_its_own_time(tmp_path):
    random = np.random.default_rng(2)
    seconds = np.round(10 ** random.normal(0, 1, 500), 2)
    raced = times(300) | {"other": {"seconds": seconds, "decided": random.random(500) < 0.8}}
    f = live.Race(raced, limit=LIMIT)
    source = "a[1].map((seconds) => figure.decidedBy({ ...a[0], seconds }))"
    found = javascript(tmp_path, f._esm, source, [state_of(f, "curves", "stops"), f.stops])
    for stop, lanes in zip(f.stops, found, strict=True):
        for cells, c in zip(lanes, raced.values(), strict=True):
            assert cells == [bool(d) and s <= stop for s, d in zip(c["seconds"], c["decided"], strict=True)]


@needs_chromium
@pytest.mark.parametrize("motion", ["no-preference", "reduce"])
def test_the_race_runs_by_itself_only_where_motion_is_wanted(tmp_path, motion):
    with page(reduced_motion=motion) as p:
        p.goto(page_of({"race": live.Race(times(100), limit=LIMIT)}, tmp_path))
        f = p.locator(".advlab-race")
        green = "e => e.querySelector('.lane path.green').getAttribute('d').split('M').length - 1"
        f.locator(".verdict:not(:empty)").wait_for()
        most = f.evaluate(green)
        assert most == sum(bool(d) for d in times(100)["plain"]["decided"])
        f.get_by_role("button").click()  # from the end it starts again
        first = f.evaluate(green)
        assert first < most
        p.wait_for_timeout(700)
        assert (f.evaluate(green) > first) is (motion == "no-preference")
        assert f.get_by_role("button").inner_text() == ("pause" if motion == "no-preference" else "next moment")
        f.get_by_role("button").click()
        held = f.evaluate(green)
        p.wait_for_timeout(400)
        assert f.evaluate(green) == held
        assert not p.errors


@needs_node
def test_a_tie_is_no_victory(tmp_path):
    f = live.Race(times(), limit=LIMIT)
    found = [
        {"name": name, "share": share, "said": f"{share:.0%}"} for name, share in (("a", 1), ("b", 1), ("c", 0.5), ("d", 0.5))
    ]
    said = javascript(tmp_path, f._esm, "[a, a.slice(0, 2), a.slice(0, 1)].map(figure.verdict)", found)
    assert said[0] == "the largest share of inputs is decided by a: 100%, b: 100%; the smallest by c: 50%, d: 50%."
    assert said[1] == "the same share of inputs is decided by all; a: 100%, b: 100%."
    assert said[2] == "a has decided 100%."


# ------------------------------------------------------------------------------------------------ what a figure promises


def test_what_the_figures_say_is_true(figures):
    said = figures["stability-loss"].describe()
    assert "from -1 to 1.5 is unstable" in said
    assert f"loss is {math.tanh(0.5):.3g}" in said
    assert "triangle 0.75" in said
    f = figures["two-inputs"]
    mine = f.computed()
    for v in mine.margins:
        assert f"{v:.3g}" in f.describe()
    assert f"of 32 ReLUs {mine.unstable[0]} are unstable by intervals" in f.describe()
    assert f.describe().endswith(f"in {mine.regions} linear regions.")
    last = history()["plain"][-1]
    open_ = int(((last[:, 0] < 0) & (last[:, 1] > 0)).sum())
    assert f"At training step 110,000, plain has {open_} of 70 units unstable" in figures["settling-units"].describe()
    plain = times()["plain"]
    share = f"{100 * plain['decided'].mean():.1f} % ({plain['decided'].sum()} of 700, mean {plain['seconds'].mean():.2g} s)"
    assert f"within 120 CPU seconds: plain {share}" in figures["race"].describe()


@pytest.mark.parametrize("name", ["stability-loss", "two-inputs", "settling-units", "race"])
def test_a_figure_describes_itself_and_carries_a_picture(name, figures):
    f = figures[name]
    has_words_and_a_picture(f)


def test_payloads_are_modest(figures):
    """What a notebook stores for each figure, in bytes."""
    stored = {name: len(json.dumps({k: v for k, v in f.get_state().items() if k != "layout"})) for name, f in figures.items()}
    assert max(stored.values()) < 60_000, stored


def test_the_corners_have_words_and_pictures_too():
    many = np.zeros((1, 2000, 2))
    corners = [
        live.StabilityLoss(0, 0),
        live.StabilityLoss(-4, 4, steps=200),
        two_inputs(NETWORKS["dead"], eps=0.0),
        two_inputs(NETWORKS["the largest"], point=[0.0, 1.0], eps=0.1),
        live.SettlingUnits({"one": many}),
        live.SettlingUnits(dict.fromkeys("abc", many[:, :600] + 1)),
        live.Race({"one": {"seconds": [0.0], "decided": [False]}}),
        live.Race({str(k): {"seconds": [1.0, 2.0], "decided": [k % 2, 1]} for k in range(8)}, limit=1.5),
    ]
    for f in corners:
        assert "nan" not in f.describe()
        assert figure.png(f.still())
    assert corners[-1].computed() == [0, 1] * 4


def test_bad_figures_are_refused():
    for ends in ((1, 0), (-5, 0), (0, 5), (math.nan, 1)):
        with pytest.raises(ValueError, match="lower <= upper"):
            live.StabilityLoss(*ends)
    f = live.StabilityLoss(-1, 1)
    for name, value in (("lower", 2.0), ("upper", -2.0), ("steps", 201)):
        with pytest.raises(traitlets.TraitError):
            setattr(f, name, value)
    with f.hold_trait_notifications():
        f.lower, f.upper = 2.0, 3.0
    assert (f.lower, f.upper) == (2, 3)

    relu, good = nn.ReLU(), network(2, 4, 2)
    broken = network(2, 4, 2)
    with torch.no_grad():
        broken[0].weight[0, 0] = math.nan
    for net, match in [
        (nn.Linear(2, 2), "must be nn.Sequential"),
        (nn.Sequential(nn.Linear(2, 2)), "must be nn.Sequential"),
        (nn.Sequential(nn.Linear(2, 4), relu), "must be nn.Sequential"),
        (nn.Sequential(nn.Linear(2, 4), nn.Tanh(), nn.Linear(4, 2)), "must be nn.Sequential"),
        (nn.Sequential(nn.Linear(2, 4), relu, relu, relu, nn.Linear(4, 2)), "where a linear layer is needed"),
        (nn.Sequential(nn.Linear(2, 4), relu, nn.Linear(5, 2)), "do not fit"),
        (network(3, 4, 2), "2 inputs"),
        (network(2, 65, 2), "at most 64"),
        (network(2, 33, 32, 2), "at most 64"),
        (network(2, 4, 1), "2 to 8"),
        (network(2, 4, 9), "2 to 8"),
        (broken, "finite"),
        ({}, "one is needed"),
        ({"a": good, "b": network(2, 4, 3)}, "the same classes"),
    ]:
        with pytest.raises(ValueError, match=match):
            live.TwoInputs(net, [0.5, 0.5], 0)
    for x, y, values, match in [
        ([0.5, 1.5], 0, {}, "in \\[0, 1\\]"),
        ([0.5], 0, {}, "x is"),
        ([[0.5, 0.5]] * 501, [0] * 501, {}, "at most 500"),
        ([[0.5, 0.5]] * 2, [0], {}, "1 labels"),
        ([0.5, 0.5], 2, {}, "from 0 to 1"),
        ([0.5, 0.5], 0, {"eps": 0.4}, "eps_max"),
        ([0.5, 0.5], 0, {"eps": -0.1}, "eps_max"),
        ([0.5, 0.5], 0, {"eps": 0.0, "eps_max": 0.0}, "above 0"),
        ([0.5, 0.5], 0, {"eps_max": 2.0}, "eps_max"),
    ]:
        with pytest.raises(ValueError, match=match):
            live.TwoInputs(good, x, y, **values)
    for wrong in ({"network": "no"}, {"point": [0.5]}, {"point": [0.5, 2.0]}):
        with pytest.raises(traitlets.TraitError):
            live.TwoInputs(good, [0.5, 0.5], 0, **wrong)
    with pytest.raises(traitlets.TraitError, match=r"at most 0\.3"):
        live.TwoInputs(good, [0.5, 0.5], 0).eps = 0.31

    some = np.stack([np.zeros((2, 3)), np.ones((2, 3))], -1)
    for bounds, values, match in [
        ({}, {}, "1 to 3"),
        (dict.fromkeys("abcd", some), {}, "1 to 3"),
        ({"a": some}, {"labels": ["b", "c"]}, "2 labels"),
        ({"a": some, "b": some[:1]}, {}, "of b are"),
        ({"a": some[..., :1]}, {}, "of a are"),
        ({"a": some}, {"steps": [1]}, "1 records"),
        ({"a": some}, {"steps": [2, 2]}, "ascend"),
        ({"a": some[..., ::-1]}, {}, "lower <= upper"),
        ({"a": some + np.array([0, math.inf])}, {}, "finite"),
        ({"a": np.zeros((1, 2001, 2))}, {}, "at most 2,000"),
        ({"a": some}, {"reach": 0.0}, "reach"),
    ]:
        with pytest.raises(ValueError, match=match):
            live.SettlingUnits(bounds, **values)
    with pytest.raises(traitlets.TraitError, match="there are 2"):
        live.SettlingUnits({"a": some}, record=2)

    one = {"seconds": [1.0], "decided": [True]}
    for raced, values, match in [
        ({}, {}, "1 to 8"),
        (dict.fromkeys("123456789", one), {}, "1 to 8"),
        ({"a": {"seconds": [1.0]}}, {}, "of one length"),
        ({"a": {"seconds": [], "decided": []}}, {}, "1 to 10,000"),
        ({"a": {"seconds": np.ones(10_001), "decided": np.ones(10_001)}}, {}, "1 to 10,000"),
        ({"a": one | {"solved": [True]}}, {}, "nothing else"),
        ({"a": {"seconds": [-1.0], "decided": [True]}}, {}, "at least 0"),
        ({"a": {"seconds": [math.nan], "decided": [True]}}, {}, "finite"),
        ({"a": {"seconds": [1.0], "decided": [2]}}, {}, "true or false"),
        ({"a": one}, {"limit": 0}, "limit"),
        ({"a": one}, {"limit": math.inf}, "limit"),
    ]:
        with pytest.raises(ValueError, match=match):
            live.Race(raced, **values)
    with pytest.raises(traitlets.TraitError, match="must be from"):
        live.Race({"a": one}, seconds=2.0)


# ------------------------------------------------------------------------------------------------ a look


@pytest.fixture(scope="module")
def small_page(figures, tmp_path_factory):
    return page_of(figures, tmp_path_factory.mktemp("page"))


@needs_chromium
@pytest.mark.parametrize("width", [1280, 360])
def test_the_figures_move_by_keyboard_in_a_page(small_page, width, figures):
    at_once = sum(int((c["seconds"] <= figures["race"].stops[0]).sum()) for c in times().values())
    moves = {
        "stability-loss": [
            ("descent steps", "End", "200 steps of descent lead to"),
            ("lower bound l", "End", "With bounds from 4 to 4 the unit is always active."),
            ("upper bound u", "Home", "With bounds from −4 to −4 the unit is always zero."),
        ],
        "two-inputs": [
            ("radius ε", "Home", "in the whole box, with a margin of at least"),
            ("input x₁", "Home", "The network says class"),
            ("radius ε", "End", "Bounds: "),
        ],
        "settling-units": [("training step", "Home", "Step 0. plain: "), ("training step", "ArrowRight", "Step 10,000. ")],
        "race": [("CPU time", "Home", "share of inputs is decided by "), ("CPU time", "ArrowRight", "; the smallest by ")],
    }
    assert at_once < 20, "or Home would not move the race"
    with page() as p:
        p.set_viewport_size({"width": width, "height": 900})
        p.goto(small_page)
        answer_to_keys(p, moves)

        # the same numbers as in Python, at (0, x2) with the largest budget
        inputs = figures["two-inputs"]
        point, eps = inputs.point, inputs.eps
        inputs.point, inputs.eps = [0.0, point[1]], inputs.eps_max
        mine = inputs.computed()
        inputs.point, inputs.eps = point, eps
        shown = p.locator(".advlab-two-inputs")
        assert (
            f"{mine.unstable[0]} by intervals, {mine.unstable[1]} by CROWN, {mine.unstable[2]} in truth"
            in shown.locator(".verdict").inner_text()
        )
        assert f"{mine.regions} linear regions" in shown.inner_text()
        shown.get_by_role("combobox", name="network").select_option("RS loss")
        assert "Unstable of 24 ReLUs" in shown.locator(".verdict").inner_text()

        def click(name, across, up, *labels):
            """At these shares of a plane, whose margins are 34, 14, 24 and 38 pixels: what the sliders say then."""
            f = p.locator(f".advlab-{name}")
            plane = f.locator("svg.plot.plane")
            box = plane.bounding_box()
            assert box
            plane.click(position={"x": 34 + across * (box["width"] - 48), "y": 24 + (1 - up) * (box["height"] - 62)})
            return [float(f.get_by_label(label, exact=True).input_value()) for label in labels]

        pair = ("lower bound l", "upper bound u")
        assert click("two-inputs", 0.25, 0.75, "input x₁", "input x₂") == pytest.approx([0.25, 0.75], abs=0.011)
        assert click("stability-loss", 0.25, 0.75, *pair) == pytest.approx([-2, 2], abs=0.06)
        assert click("stability-loss", 0.75, 0.25, *pair) == pytest.approx([-2, -2], abs=0.06), "l stays at most u"
        assert p.evaluate("document.documentElement.scrollWidth") <= width
        assert not p.outside
        assert not p.errors


@needs_chromium
def test_training_plays_only_when_asked_and_steps_for_readers_who_want_no_motion(small_page):
    with page() as p:
        p.goto(small_page)
        f = p.locator(".advlab-settling-units")
        button, verdict = f.get_by_role("button"), f.locator(".verdict")
        p.wait_for_timeout(900)
        assert "Step 110,000." in verdict.inner_text(), "it must not start by itself"
        f.get_by_label("training step").focus()
        p.keyboard.press("ArrowLeft")
        button.click()
        assert button.inner_text() == "pause"
        p.wait_for_function(
            "() => document.querySelector('.advlab-settling-units .verdict').textContent.includes('Step 110,000.')"
        )
        assert button.inner_text() == "play"
    with page(reduced_motion="reduce") as p:
        p.goto(small_page)
        f = p.locator(".advlab-settling-units")
        assert f.get_by_role("button").inner_text() == "next step"
        for said in ("Step 0.", "Step 10,000."):
            f.get_by_role("button").click()
            assert said in f.locator(".verdict").inner_text()
        p.wait_for_timeout(900)
        assert "Step 10,000." in f.locator(".verdict").inner_text()


@needs_chromium
def test_the_kernel_never_sees_a_lower_bound_above_the_upper(small_page):
    """It would refuse it: when one slider pushes the other, each message holds an interval."""
    watch = """async () => {
      const all = JSON.parse(document.querySelector("script[type$='state+json']").textContent)["state"];
      const { state } = Object.values(all).find((record) => record.state._anywidget_id?.endsWith(".StabilityLoss"));
      const parts = state.scripts.map((id) => all[id.replace("IPY_MODEL_", "")].state.value), sent = [], told = {};
      const address = URL.createObjectURL(new Blob([parts.join("\\n")], { type: "text/javascript" }));
      const model = {
        get: (k) => state[k], set: (k, v) => { state[k] = v; told[k]?.(); }, on: (k, f) => { told[k.slice(7)] = f; },
        save_changes: () => sent.push([state.lower, state.upper]),
      };
      const el = document.body.appendChild(document.createElement("div"));
      (await import(address)).default.render({ model, el });
      for (const [i, v] of [[0, 4], [1, -4], [0, -2], [1, 3]]) {
        const input = el.querySelectorAll("input")[i];
        input.value = v;
        input.dispatchEvent(new Event("input"));
      }
      return sent;
    }"""
    with page() as p:
        p.goto(small_page)
        sent = p.evaluate(watch)
        assert all(low <= high for low, high in sent), sent
        assert [4, 4] in sent
        assert [-4, -4] in sent
        assert sent[-1] == [-2, 3]
        assert not p.errors
