"""The order of work for a GPU, on a slice on the CPU: it stops in time, keeps what it has, and goes on elsewhere."""

import shutil
import time

import pytest
import torch

from advlab import zoo
from advlab.__main__ import main
from labbook import gpu


def test_each_name_has_a_recipe_that_needs_no_other_network():
    for name in gpu.ORDER:
        assert zoo.recipe(name).start is None
    assert list(gpu.ORDER[:4]) == ["full_target", "full_mask_50", "full_mask_70", "full_mask_90"]


def test_it_trains_in_order_and_goes_on_in_a_copied_folder(tmp_path):
    names = ["mnist_small", "mnist_cnn7"]
    options = {"device": "cpu", "names": names, "epochs": 1, "n": 200}
    lines = list(gpu.run(3, tmp_path / "a", **options))
    assert [line.partition(":")[0] for line in lines] == names
    assert all("trained in" in line for line in lines)
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    (tmp_path / "b" / "mnist_cnn7.json").unlink()
    lines = list(gpu.run(3, tmp_path / "b", **options))
    assert "there already" in lines[0]
    assert "trained in" in lines[1]


def test_several_train_at_a_time_and_what_fails_is_said_at_the_end(tmp_path, monkeypatch):
    names = ["mnist_small", "nosuch", "mnist_cnn7"]
    lines, said = [], ""
    try:
        lines.extend(gpu.run(3, tmp_path, device="cpu", names=names, jobs=3, epochs=1, n=200))
    except RuntimeError as e:
        said = str(e)
    assert "nosuch" in said
    assert {path.stem for path in tmp_path.glob("*.json")} == {"mnist_small", "mnist_cnn7"}
    with pytest.raises(ValueError, match="jobs is 0"):
        next(gpu.run(1, tmp_path, device="cpu", jobs=0))


def test_the_spheres_train_together_by_their_recipe_and_go_on_after_a_break(tmp_path, monkeypatch):
    names, options = list(gpu.SPHERES[:2]), {"device": "cpu", "samples": 50 * 400}
    monkeypatch.setattr(gpu, "_KEPT_EVERY", 100)
    with monkeypatch.context() as broken:
        kept, saves = gpu._Sphere.save, []

        def save(self, path, done):
            kept(self, path, done)
            saves.append(done)
            if saves == [100, 100, 200, 200]:
                raise KeyboardInterrupt

        broken.setattr(gpu._Sphere, "save", save)
        with pytest.raises(KeyboardInterrupt):
            gpu.spheres(names, tmp_path, **options)
    assert len(list(tmp_path.glob("*.unfinished.safetensors"))) == 2
    gpu.spheres(names, tmp_path, **options)
    assert not list(tmp_path.glob("*.unfinished.safetensors"))
    for name in names:
        card = zoo.card(name, tmp_path)
        assert card["training_examples"] == 50 * 400
        assert card["resumed"]
        assert card["batch_size"] == zoo.recipe(name).batch_size == 50
        assert card["accuracy"] > 0.99, "four hundred steps are enough for that"
    first, second = (next(zoo.load(name, tmp_path).parameters()) for name in names)
    assert not first.equal(second), "seeds of their own"
    x, y = gpu._sphere_batch(1000, torch.Generator().manual_seed(0))
    radii = x.norm(dim=1)
    assert radii[y == 0].allclose(torch.tensor(1.0))
    assert radii[y == 1].allclose(torch.tensor(1.3))
    assert 400 < y.sum() < 600


def test_it_stops_in_time_and_keeps_the_last_epoch(tmp_path):
    options = {"device": "cpu", "names": ["mnist_small", "mnist_cnn7"], "epochs": 100_000, "n": 100}
    begun = time.monotonic()
    lines = list(gpu.run(0.35, tmp_path, **options))
    assert time.monotonic() - begun < 60 * 0.35 + 10
    assert "goes on from its last epoch" in lines[0]
    assert "not begun" in lines[1]
    assert (tmp_path / "mnist_small.unfinished.safetensors").exists()


def test_a_setting_below_1_or_a_name_twice_trains_nothing(tmp_path):
    for options, says in (
        ({"epochs": 0}, "epochs is 0"),
        ({"n": 0}, "n is 0"),
        ({"n": -3}, "n is -3"),
        ({"names": ["mnist_small", "mnist_cnn7", "mnist_small"]}, "mnist_small is there twice"),
    ):
        with pytest.raises(ValueError, match=says):
            next(gpu.run(1, tmp_path, device="cpu", **options))
    with pytest.raises(ValueError, match="samples is 0"):
        gpu.spheres(gpu.SPHERES, tmp_path, device="cpu", samples=0)
    assert not list(tmp_path.iterdir())


def test_the_state_of_another_training_is_named(tmp_path):
    path = tmp_path / f"{gpu.SPHERES[0]}.unfinished.safetensors"
    path.write_bytes(b"no tensors")
    with pytest.raises(ValueError, match=r"million_0\.unfinished\.safetensors is damaged, or no checkpoint"):
        gpu.spheres(gpu.SPHERES[:1], tmp_path, device="cpu", samples=50)


def test_what_cannot_be_is_said(tmp_path, capsys):
    with pytest.raises(ValueError, match="above 0"):
        next(gpu.run(0, tmp_path, device="cpu"))
    with pytest.raises(RuntimeError, match="nosuch"):
        list(gpu.run(1, tmp_path, device="cpu", names=["nosuch"]))
    if not torch.cuda.is_available():
        assert main(["gpu", "--to", str(tmp_path)]) == 1
        assert "no GPU" in capsys.readouterr().err
