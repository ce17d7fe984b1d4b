"""One loop: it learns, resumes to the bit, keeps no pickle, and refuses what it cannot use. Then the zoo on top of it."""

import dataclasses
import functools
import hashlib
import json
import os

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save, save_file
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
    whole, broken, stops = fresh(), fresh(), []

    def schedule(step, steps):
        if stops and step > steps / 2:
            raise InterruptedError
        return 1 - step / steps

    expected = fit(whole, *some, epochs=3, optimizer=optimizer, schedule=schedule, seed=5)
    path = tmp_path / "c.safetensors"
    stops.append("here")
    with pytest.raises(InterruptedError):
        fit(broken, *some, epochs=3, optimizer=optimizer, schedule=schedule, seed=5, checkpoint=path)
    stops.clear()
    resumed = fresh()
    found = fit(resumed, *some, epochs=3, optimizer=optimizer, schedule=schedule, seed=5, checkpoint=path)
    assert found == expected
    for p, q in zip(whole.parameters(), resumed.parameters(), strict=True):
        assert torch.equal(p, q)
    assert load_file(path), "the checkpoint is plain safetensors"
    with pytest.raises(ValueError, match="another run"):
        fit(fresh(), *some, epochs=3, optimizer=optimizer, schedule=schedule, seed=6, checkpoint=path)


def line():
    torch.manual_seed(0)
    return nn.Linear(4, 2)


POINTS = torch.rand(30, 4, generator=torch.Generator().manual_seed(0))
SIDES = (POINTS[:, 0] > 0.5).long()


def test_a_checkpoint_of_another_run_is_refused_and_what_differs_is_said(tmp_path):
    path = tmp_path / "c.safetensors"
    plain = training.smoothed_cross_entropy
    smoothed, smoother = (functools.partial(plain, smoothing=s) for s in (0.2, 0.3))
    settings = {"epochs": 1, "batch_size": 10, "checkpoint": path, "loss": smoothed}
    losses = fit(line(), POINTS, SIDES, **settings)
    assert fit(line(), POINTS, SIDES, **settings) == losses, "the same run is there already"
    assert fit(line(), POINTS.clone(), SIDES, **settings | {"loss": functools.partial(plain, smoothing=0.2)}) == losses
    others = {
        "data": [(line(), POINTS + 1e-6, SIDES, {}), (line(), POINTS, 1 - SIDES, {})],
        "settings": [(line(), POINTS, SIDES, {"optimizer": functools.partial(torch.optim.Adam, lr=10.0)})],
        "loss": [(line(), POINTS, SIDES, {"loss": f}) for f in (plain, smoother)],
        "schedule": [(line(), POINTS, SIDES, {"schedule": lambda step, steps: 0.5})],
        "transform": [(line(), POINTS, SIDES, {"transform": training.flip_and_shift})],
        "model.weight": [(nn.Linear(4, 3), POINTS, SIDES, {})],
        "model.0.weight": [(nn.Sequential(line()), POINTS, SIDES, {})],
    }
    for key, runs in others.items():
        for net, x, y, options in runs:
            with pytest.raises(ValueError, match=rf"c.safetensors is the checkpoint of another run \(its {key} is"):
                fit(net, x, y, **settings | options)


def test_an_unfinished_training_of_version_0_2_goes_on(tmp_path):
    path, whole = tmp_path / "c.safetensors", line()
    expected = fit(whole, POINTS, SIDES, epochs=2, batch_size=10)

    def stop(model, x, y):
        if path.exists():
            raise InterruptedError
        return training.cross_entropy(model, x, y)

    with pytest.raises(InterruptedError):
        fit(line(), POINTS, SIDES, epochs=2, batch_size=10, loss=stop, checkpoint=path)
    with safe_open(path, framework="pt") as f:
        run, tensors = json.loads(f.metadata()["run"]), {key: f.get_tensor(key) for key in f.keys()}  # noqa: SIM118
    old = {key: run[key] for key in ("n", "epochs", "batch_size", "seed", "optimizer", "losses")}
    save_file(tensors, path, {"run": json.dumps(old)})
    resumed = line()
    assert fit(resumed, POINTS, SIDES, epochs=2, batch_size=10, checkpoint=path) == expected
    assert torch.equal(resumed.weight, whole.weight)
    save_file(tensors, path, {"run": json.dumps(old)})
    with pytest.raises(ValueError, match="its epochs is 2, not 3"):
        fit(line(), POINTS, SIDES, epochs=3, batch_size=10, checkpoint=path)
    with pytest.raises(ValueError, match=r"its model\.weight is"):
        fit(nn.Linear(4, 3), POINTS, SIDES, epochs=2, batch_size=10, checkpoint=path)


def test_a_file_that_is_no_checkpoint_is_named(tmp_path):
    path = tmp_path / "c.safetensors"
    fit(line(), POINTS, SIDES, epochs=1, checkpoint=path)
    whole = path.read_bytes()
    foreign = {"weight": torch.zeros(2)}
    for make in (
        lambda: path.write_bytes(whole[:-9]),
        lambda: path.write_bytes(b"{}"),
        lambda: save_file(foreign, path),
        lambda: save_file(foreign, path, {"run": "{}"}),
        lambda: save_file(foreign, path, {"run": "no JSON"}),
    ):
        make()
        with pytest.raises(ValueError, match=r"c.safetensors is damaged, or no checkpoint of such a training"):
            fit(line(), POINTS, SIDES, epochs=1, checkpoint=path)


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


def test_a_generator_of_ones_own_moves_images_and_no_other_is_touched():
    x, y = torch.rand(20, 3, 6, 5), torch.zeros(20)
    torch.manual_seed(0)
    by_default = training.flip_and_shift(nn.Identity(), x, y, 0.0)
    state, draw = torch.get_rng_state(), torch.Generator().manual_seed(0)
    assert torch.equal(training.flip_and_shift(nn.Identity(), x, y, 0.0, generator=draw), by_default), "the same numbers"
    assert torch.equal(torch.get_rng_state(), state)
    with pytest.raises(TypeError, match=r"generator is 0; it must be a torch\.Generator"):
        training.flip_and_shift(nn.Identity(), x, y, 0.0, generator=0)


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


@pytest.mark.book  # takes longer than make quick has
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


def test_a_card_or_a_checkpoint_that_is_none_is_a_checkpoint_error(tmp_path):
    card, weights = tmp_path / "mnist_cnn7.json", tmp_path / "mnist_cnn7.safetensors"

    for raw, text, says in (
        (b"", "{", "mnist_cnn7.json cannot be read as a model card"),
        (b"", "{}", "mnist_cnn7.json is no model card"),
        (b"", "[]", "mnist_cnn7.json is no model card"),
        (b"nothing", None, "mnist_cnn7.safetensors does not hold the weights of mnist_cnn7"),
        (save({"weight": torch.zeros(2)}), None, "mnist_cnn7.safetensors does not hold the weights of mnist_cnn7"),
    ):
        weights.write_bytes(raw)
        card.write_text(text or json.dumps({"sha256": hashlib.sha256(raw).hexdigest()}))
        with pytest.raises(zoo.CheckpointError, match=says) as raised:
            zoo.load("mnist_cnn7", tmp_path)
        assert "\n" not in str(raised.value)


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
