"""One loop: it learns, resumes to the bit, keeps no pickle, and refuses what it cannot use. Then the zoo on top of it."""

import dataclasses
import functools
import json
import os

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from scipy.stats import binom
from torch import nn

from advlab import attacks, data, masking, models, training, zoo
from advlab.__main__ import main

fit = functools.partial(training.fit, progress=False)


def fresh():
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(784, 20), nn.ReLU(), nn.Dropout(0.2), nn.Linear(20, 10))


@pytest.fixture(scope="module")
def some():
    return data.mnist("train", 600)


def test_it_learns_and_leaves_the_model_ready(some):
    net = fresh()
    losses = fit(net, *some, epochs=4)
    assert losses[-1] < losses[0] - 0.2
    assert not net.training
    assert all(p.grad is None for p in net.parameters())


@pytest.mark.parametrize("optimizer", [torch.optim.Adam, functools.partial(torch.optim.SGD, lr=0.05, momentum=0.9)])
def test_a_resumed_run_ends_like_an_unbroken_one(some, tmp_path, optimizer):
    whole, broken = fresh(), fresh()
    schedule = lambda step, steps: 1 - step / steps  # noqa: E731
    expected = fit(whole, *some, epochs=3, optimizer=optimizer, schedule=schedule, seed=5)

    class Stop(Exception):
        pass

    def stop(model, x, y, done):
        if done > 0.5:
            raise Stop
        return x

    path = tmp_path / "c.safetensors"
    with pytest.raises(Stop):
        fit(broken, *some, epochs=3, optimizer=optimizer, schedule=schedule, seed=5, checkpoint=path, transform=stop)
    resumed = fresh()
    found = fit(resumed, *some, epochs=3, optimizer=optimizer, schedule=schedule, seed=5, checkpoint=path)
    assert found == expected
    for p, q in zip(whole.parameters(), resumed.parameters(), strict=True):
        assert torch.equal(p, q)
    assert load_file(path), "the checkpoint is plain safetensors"
    with pytest.raises(ValueError, match="another run"):
        fit(fresh(), *some, epochs=3, optimizer=optimizer, seed=6, checkpoint=path)


def test_the_seed_decides_and_the_callers_random_state_is_left_alone(some):
    torch.manual_seed(11)
    before = torch.random.get_rng_state()
    nets = []
    for seed in (1, 1, 2):
        net = fresh()
        torch.random.set_rng_state(before)
        fit(net, *some, epochs=1, seed=seed)
        assert torch.equal(torch.random.get_rng_state(), before)
        nets.append(net[1].weight)
    assert torch.equal(nets[0], nets[1])
    assert not torch.equal(nets[0], nets[2])


def test_adversarial_training_through_the_transform(some):
    seen = []

    def attack(model, x, y, done):
        seen.append(model.training)
        return attacks.pgd(model, x, y, eps=0.1, steps=2)

    fit(fresh(), *some, epochs=1, transform=attack)
    assert seen
    assert not any(seen), "the attack must see the model in eval mode"


def test_bad_arguments(some):
    x, y = some
    for arguments, options in [((x, y[:-1]), {}), ((x[:0], y[:0]), {}), ((x, y), {"epochs": 0}), ((x, y), {"batch_size": 0})]:
        with pytest.raises(ValueError, match="must be"):
            fit(fresh(), *arguments, **({"epochs": 1} | options))


def test_fresh_samples_are_fresh_and_resumed_to_the_bit(tmp_path):
    seen = []

    def draw(n):
        seen.append(torch.randn(n, 3))
        return seen[-1], (seen[-1][:, 0] > 0).long()

    def run(stop=None, **options):
        torch.manual_seed(1)
        net = nn.Sequential(nn.Linear(3, 8), nn.ReLU(), nn.Linear(8, 1), nn.Flatten(0))

        def loss(model, x, y):
            if len(seen) == stop:
                raise InterruptedError
            return training.binary_cross_entropy(model, x, y)

        return net, training.fit_online(net, draw, samples=95, batch_size=10, epochs=2, loss=loss, progress=False, **options)

    whole, losses = run()
    assert len(seen) == 10, "95 samples are rounded up to whole batches"
    assert len({float(x[0, 0]) for x in seen}) == 10, "no batch comes twice"
    path = tmp_path / "c.safetensors"
    seen.clear()
    with pytest.raises(InterruptedError):
        run(stop=8, checkpoint=path)
    resumed, again = run(checkpoint=path)
    assert again == losses
    for p, q in zip(whole.parameters(), resumed.parameters(), strict=True):
        assert torch.equal(p, q)
    with pytest.raises(ValueError, match="at least 1"):
        training.fit_online(whole, draw, samples=0)


def test_flip_and_shift_gives_mirrored_and_moved_copies_of_each_image():
    x = torch.rand(40, 3, 6, 5)
    torch.manual_seed(0)
    moved = training.flip_and_shift(nn.Identity(), x, torch.zeros(40), 0.0, pixels=2)
    assert moved.shape == x.shape
    seen = set()
    for before, after in zip(x.numpy(), moved.numpy(), strict=True):
        found = []
        for mirrored in (False, True):
            padded = np.pad(before[:, :, ::-1] if mirrored else before, [(0, 0), (2, 2), (2, 2)], mode="reflect")
            for top in range(5):
                for left in range(5):
                    if np.array_equal(padded[:, top : top + 6, left : left + 5], after):
                        found.append((mirrored, top, left))
        assert found, "each image is one of the fifty copies, some of which coincide"
        seen.add(found[0])
    assert len(seen) > 20


def test_smoothed_labels():
    logits, y = torch.randn(7, 5), torch.arange(7) % 5
    target = torch.full((7, 5), 0.1 / 5)
    target[torch.arange(7), y] += 0.9
    expected = -(target * logits.log_softmax(1)).sum(1).mean()
    torch.testing.assert_close(training.smoothed_cross_entropy(nn.Identity(), logits, y), expected)


def test_a_recipe_may_prepare_its_network(tmp_path, monkeypatch):
    x, y = data.cifar10("train", 60, full=False)
    short = dataclasses.replace(zoo.recipe("cifar_cnn"), train=lambda: (x, y), test=lambda: (x, y))
    monkeypatch.setitem(zoo.RECIPES, "cifar_cnn", short)
    zoo.train("cifar_cnn", tmp_path, epochs=1, progress=False)
    net = zoo.load("cifar_cnn", tmp_path)
    fresh = short.build()
    short.prepare(fresh, x)
    assert torch.equal(net[1].weight, fresh[1].weight.half().float()), "the first layer is set from the data, then left alone"
    assert not torch.equal(net[3].weight, fresh[3].weight)


def test_a_masked_network_is_trained_and_keeps_its_masks(tmp_path, monkeypatch):
    x, y = data.cifar10("train", 130, full=False)
    short = dataclasses.replace(zoo.recipe("cifar_mask_50_b"), train=lambda: (x, y), test=lambda: (x[:30], y[:30]))
    monkeypatch.setitem(zoo.RECIPES, "cifar_mask_50_b", short)
    zoo.train("cifar_mask_50_b", tmp_path, epochs=1, progress=False)
    torch.manual_seed(5)
    net = zoo.load("cifar_mask_50_b", tmp_path)
    torch.manual_seed(1)
    fresh = short.build()
    pairs = [(a, b) for a, b in zip(net.modules(), fresh.modules(), strict=True) if isinstance(a, masking.RandomMask)]
    assert len(pairs) == 10
    assert all(torch.equal(a.kept, b.kept) and torch.equal(a.seed, b.seed) for a, b in pairs), "those of the recipe's seed"
    assert not torch.equal(net.linear.weight, fresh.linear.weight)


def test_masks_and_widths_of_the_recipes():
    drops = {"cifar_resnet18": 0, "cifar_mask_50": 10, "cifar_mask_50_deep": 10, "cifar_mask_50_narrow": 0}
    for name, count in drops.items():
        net = zoo.recipe(name).build()
        masks = [m for m in net.modules() if isinstance(m, masking.RandomMask)]
        assert len(masks) == count
        assert all(m.drop == 0.5 for m in masks)
    assert zoo.recipe("cifar_arm_tile4_0").build().stem[1][1].period == 4


# ------------------------------------------------------------------------------------------------- the zoo


SHIPPED = sorted(p.stem for p in zoo.shipped().glob("*.json"))
DAY = int(os.environ["ADVLAB_DAY"])


def right(recipe, net, n=None):
    """How many of the first ``n`` test images, or of all, the network gets right, of how many; and whether all were there."""
    try:
        (x, y), whole = recipe.test(), True
    except data.DataError:  # the full CIFAR-10 is not here
        (x, y), whole = data.cifar10(full=False), False
    x, y = x[:n], y[:n]
    with torch.no_grad():
        logits = torch.cat([net(part) for part in x.split(500)])
    answers = logits.argmax(1) if logits.ndim == 2 else (logits > 0).long()  # one logit: the outer sphere where positive
    return int((answers == y).sum()), len(y), whole


@pytest.mark.parametrize("name", SHIPPED)
def test_what_ships_is_what_its_card_says(name):
    """A hundred images, of which as many are right as the card's accuracy makes likely, but for one time in a million."""
    card, net, recipe = zoo.card(name), zoo.load(name), zoo.recipe(name)
    assert not net.training
    correct, n, _ = right(recipe, net, 100)
    low, high = binom.ppf([1e-6, 1 - 1e-6], n, card["accuracy"])
    assert low <= correct <= high
    assert card["accuracy_interval"][0] < card["accuracy"] <= card["accuracy_interval"][1]
    assert card["parameters"] == sum(p.numel() for p in net.parameters())
    assert card["epochs"] == recipe.epochs, "a shortened trial must not ship"
    assert {"paper", "data", "optimizer", "seconds", "cpu_seconds", "commit", "date", "command", "torch"} <= set(card)
    assert not card["commit"].endswith("+changes")


@pytest.mark.book  # takes longer than make quick has
@pytest.mark.parametrize(
    "name", [pytest.param(n, id=n, marks=[] if k % 8 == DAY % 8 else [pytest.mark.slow]) for k, n in enumerate(SHIPPED)]
)
def test_the_accuracy_of_a_card_is_that_on_all_test_images(name):
    """An eighth of the networks a day, all with --slow."""
    correct, n, whole = right(zoo.recipe(name), zoo.load(name))
    tolerance = 3e-4 if whole else 4 * (0.25 / n) ** 0.5  # three images in ten thousand, across processors
    assert correct / n == pytest.approx(zoo.card(name)["accuracy"], abs=tolerance)


def test_the_first_network_meets_its_target():
    assert zoo.card("mnist_cnn7")["accuracy"] >= 0.993


@pytest.mark.book  # takes longer than make quick has
def test_training_by_recipe_on_a_slice_and_through_the_command_line(tmp_path, capsys):
    assert main(["train", "mnist_cnn7", "--to", str(tmp_path), "--epochs", "1", "--n", "200"]) == 0
    card = zoo.card("mnist_cnn7", tmp_path)
    assert card["training_examples"] == 200
    assert "--n 200" in card["command"]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["mnist_cnn7.json", "mnist_cnn7.safetensors"]
    assert zoo.load("mnist_cnn7", tmp_path)(torch.rand(2, 1, 28, 28)).shape == (2, 10)
    assert "accuracy" in capsys.readouterr().out


def test_altered_missing_and_unknown_checkpoints(tmp_path, capsys):
    with pytest.raises(ValueError, match="no network 'nosuch' in the zoo; there are: cifar_2_adversarial"):
        zoo.load("nosuch")
    with pytest.raises(zoo.CheckpointError, match="advlab train"):
        zoo.load("mnist_cnn7", tmp_path)
    (tmp_path / "mnist_cnn7.json").write_text(json.dumps(zoo.card("mnist_cnn7")))
    with pytest.raises(zoo.CheckpointError, match="cannot be read"):
        zoo.load("mnist_cnn7", tmp_path)
    raw = bytearray((zoo.shipped() / "mnist_cnn7.safetensors").read_bytes())
    raw[-1] ^= 1
    (tmp_path / "mnist_cnn7.safetensors").write_bytes(raw)
    with pytest.raises(zoo.CheckpointError, match="SHA-256 differs"):
        zoo.load("mnist_cnn7", tmp_path)
    for option in ("--epochs", "--n"):
        assert main(["train", "mnist_cnn7", "--to", str(tmp_path), option, "0"]) == 1
        assert "at least 1" in capsys.readouterr().err
    assert main(["train", "nosuch"]) == 1
    assert "there are: cifar_2_adversarial" in capsys.readouterr().err
    assert main(["zoo"]) == 0


def test_training_in_bfloat16_keeps_the_weights_and_follows_the_gradient_of_float32():
    torch.manual_seed(0)
    net = models.resnet(8, 8)
    x, y = torch.rand(32, 3, 32, 32), torch.arange(32) % 10
    exact = torch.autograd.grad(training.cross_entropy(net, x, y), list(net.parameters()))
    rounded = torch.autograd.grad(training.in_bfloat16(training.cross_entropy, net, x, y), list(net.parameters()))
    assert {g.dtype for g in rounded} == {torch.float32}
    a, b = (torch.cat([g.flatten() for g in gradients]) for gradients in (exact, rounded))
    assert 0.99 < float(nn.functional.cosine_similarity(a, b, dim=0)) < 1 - 1e-7  # close, and not the same
    losses = training.fit(
        net, x, y, epochs=8, batch_size=32, loss=functools.partial(training.in_bfloat16, training.cross_entropy), progress=False
    )
    assert losses[-1] < losses[0]
    assert next(net.parameters()).dtype == torch.float32
