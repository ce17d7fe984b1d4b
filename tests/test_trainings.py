"""Rows of several trainings: what a line says, that it is made again, and the losses that the rows are trained with."""

import functools
import math

import pytest
import torch
from torch import nn

from advlab import data, evaluate, models, training, verification, zoo
from advlab.__main__ import main
from advlab.spheres import concentric_spheres
from advlab.stability.bounds import interval_bounds, interval_margins
from advlab.stability.losses import ibp_loss, rs_loss, sparsity_loss, stability_loss
from labbook.adversarial_spheres import million_claims
from labbook.relu_stability import trainings

MADE = [row for row in (trainings.ROWS | trainings.ABLATION).values() if row.records()]
EACH = pytest.mark.parametrize("row", MADE, ids=lambda row: row.stem)


def small(seed=0):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Flatten(), nn.Linear(16, 12), nn.ReLU(), nn.Linear(12, 8), nn.ReLU(), nn.Linear(8, 4))


# ---------------------------------------------------------------------------------------------- bounds and losses


@pytest.mark.parametrize("seed", range(5))
def test_interval_margins_hold_and_are_tighter_than_a_difference_of_bounds(seed):
    net = small(seed).double()
    x, y, eps = torch.rand(20, 1, 4, 4).double(), torch.randint(4, (20,)), 0.05
    margins = interval_margins(net, x, y, eps)
    assert torch.equal(margins[torch.arange(20), y], torch.zeros(20).double())
    for _ in range(200):
        logits = net((x + eps * (2 * torch.rand_like(x) - 1)).clamp(0, 1))
        assert (logits.gather(1, y[:, None]) - logits >= margins - 1e-12).all()
    low, high = interval_bounds(net, x, eps)[-1]
    others = torch.arange(4) != y[:, None]
    assert (margins >= low.gather(1, y[:, None]) - high - 1e-12)[others].all()
    assert (margins > low.gather(1, y[:, None]) - high + 1e-6)[others].any(), "elision gains nothing: the test shows nothing"
    none = interval_margins(net, x, y, 0.0)
    logits = net(x)
    assert torch.allclose(none, logits.gather(1, y[:, None]) - logits)
    with pytest.raises(TypeError, match=r"nn\.Linear"):
        interval_margins(net[:-1], x, y, eps)


def test_the_loss_of_bounds_rises_as_it_says():
    net, x, y = small(), torch.rand(9, 1, 4, 4), torch.randint(4, (9,))
    plain = nn.functional.cross_entropy(net(x), y)
    loss = functools.partial(ibp_loss, net, x, y, eps=0.1, kappa=0.25)
    assert torch.equal(loss(0.0), plain)
    half, whole = (nn.functional.cross_entropy(-interval_margins(net, x, y, eps), y) for eps in (0.05, 0.1))
    assert torch.allclose(loss(0.25), 0.625 * plain + 0.375 * half)
    assert torch.allclose(loss(0.5), 0.25 * plain + 0.75 * whole)
    assert torch.equal(loss(0.5), loss(1.0))


def test_the_weights_of_the_stability_loss_rise_and_a_part_of_the_batch_gives_it():
    net, x, y = models.stability_cnn(), torch.rand(6, 1, 28, 28), torch.randint(10, (6,))
    pairs = torch.stack([x, x], 1)
    loss = functools.partial(stability_loss, net, pairs, y, eps=0.1, l1=1e-4, rs=0.1, images=2, rise=(0.2, 0.6))
    plain = nn.functional.cross_entropy(net(x), y)
    whole = 1e-4 * sparsity_loss(net, (1, 28, 28)) + 0.1 * rs_loss(interval_bounds(net, x[:2], 0.1), "mean")
    for done, weight in ((0.0, 0.0), (0.2, 0.0), (0.4, 0.5), (0.6, 1.0), (1.0, 1.0)):
        assert torch.allclose(loss(done), plain + weight * whole, atol=1e-6)
    less = 1e-4 * sparsity_loss(net, (1, 28, 28)) + 0.1 * rs_loss(interval_bounds(net, x[:2], 0.1 * 0.625), "mean")
    assert torch.allclose(loss(0.6, budget_rise=1.2), plain + less, atol=1e-6)


def test_a_loss_that_asks_is_told_how_much_is_done():
    told = []

    def loss(model, x, y, done):
        told.append(done)
        return training.cross_entropy(model, x, y)

    net = nn.Sequential(nn.Linear(2, 2))
    training.fit(net, torch.rand(10, 2), torch.zeros(10).long(), epochs=2, batch_size=5, loss=loss, progress=False)
    assert told == [0.0, 0.25, 0.5, 0.75]


# ---------------------------------------------------------------------------------------------- rows


@pytest.fixture
def quick(monkeypatch, tmp_path):
    """Short trainings, sixty digits, and a folder of results of its own."""
    true = zoo.train
    monkeypatch.setattr(zoo, "train", lambda name, to: true(name, to, epochs=1, n=300, progress=False))
    monkeypatch.setattr(trainings.Trainings, "data", lambda row: data.mnist(n=60))
    monkeypatch.setenv("ADVLAB_RESULTS", str(tmp_path / "results"))
    (tmp_path / "results").mkdir()
    return tmp_path


def test_a_row_is_made_line_by_line_and_goes_on(quick, capsys):
    row = trainings.ROWS["mnist_01_ibp"]
    path = trainings.make(row, range(1), quick / "runs")
    first = path.read_text()
    assert main(["trainings", "mnist_01_ibp", "--seeds", "2", "--to", str(quick / "runs")]) == 0
    assert "2 trainings" in capsys.readouterr().out
    assert path.read_text().startswith(first), "what is there is not made again"
    one, other = row.records()
    assert one["sha256"] != other["sha256"]
    net, (x, y) = zoo.load("mnist_01_ibp_1", quick / "runs"), data.mnist(n=60)
    assert other["right"] == int((net(x).argmax(1) == y).sum())
    for letter, image, label in list(zip(other["verdicts"], x, y, strict=True))[:10]:
        found = verification.verify(net, image, int(label), row.eps, time_limit=trainings.LIMIT)
        assert letter == ("w" if found.stage == "prediction" else trainings.LETTERS[found.status])


def test_what_cannot_be_made_is_said(capsys):
    assert main(["trainings", "nosuch"]) == 1
    assert "mnist_03_fast" in capsys.readouterr().err
    assert main(["trainings", "mnist_03_fast", "--seeds", "11"]) == 1
    assert "1 to 10" in capsys.readouterr().err


@EACH
def test_the_lines_are_of_their_recipes(row):
    lines = row.records()
    assert [line["seed"] for line in lines] == list(range(len(lines)))
    assert len({line["sha256"] for line in lines}) == len(lines) <= row.wanted
    assert lines[0]["sha256"] == zoo.card(row.shipped, row.folder)["sha256"], "the first ships"
    for line in lines:
        assert line["name"] == f"{row.stem}_{line['seed']}"
        assert line["epochs"] == zoo.recipe(line["name"]).epochs
        assert set(line["verdicts"]) <= set("RCUw")
        assert len(line["verdicts"]) == line["n"] / line["every"] == 10_000 / row.every
        assert line["verdicts"].count("R") <= line["withstands"], "proved <= attacked"
        assert line["verdicts"].count("R") <= len(line["verdicts"]) - line["verdicts"].count("w")
        assert not math.isnan(line["unstable"])


@EACH
def test_the_line_of_the_network_that_ships_is_found_again(row):
    line, net = row.records()[0], zoo.load(row.shipped, row.folder)
    if row.stem.startswith("mnist"):
        x, y = row.data()
        assert int((evaluate.predict(net, x) == y).sum()) == line["right"]
        for k, letter in list(enumerate(line["verdicts"]))[:: 1250 // row.every]:
            found = verification.verify(net, x[row.every * k], int(y[row.every * k]), row.eps, time_limit=5)
            now = "w" if found.stage == "prediction" else trainings.LETTERS[found.status]
            assert now == letter or "U" in (now, letter)


# ---------------------------------------------------------------------------------------------- the spheres' million updates


@pytest.mark.parametrize("stem", million_claims.STEMS)
def test_the_spheres_trainings_are_of_the_networks_that_they_name(stem):
    lines = million_claims.records(stem)
    assert [line["seed"] for line in lines] == list(million_claims.SEEDS)
    assert len({line["sha256"] for line in lines}) == len(lines)
    folder = million_claims.path(stem).parent
    card, net = zoo.card(f"{stem}_0", folder), zoo.load(f"{stem}_0", folder)
    assert lines[0]["sha256"] == card["sha256"]
    assert card["training_examples"] == zoo.recipe(f"{stem}_0").train.samples
    x, y = concentric_spheres(2000, 500, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        assert int(((net(x) > 0) == (y > 0)).sum()) >= 1999
    found = million_claims.measure(net, points=1000, particles=100, runs=4)
    for sphere in ("inner", "outer"):
        assert abs(found[sphere]["log10"] - lines[0][sphere]["log10"]) < 1.5, "by splitting, few particles"
        assert found[sphere]["errors"] <= 2
