"""The command for a GPU, on a slice that a processor can take: two steps, two sources."""

import dataclasses
import functools
import json

import pytest
import torch

from advlab import attacks, data, evaluate, masking, models, zoo
from advlab.__main__ import main
from labbook.random_mask import full_scale


@pytest.fixture
def small(monkeypatch):
    """The recipes as they are, on 24 images of those that ship, at a sixteenth of the width."""
    x, y = data.cifar10("train", 24, full=False)
    narrow = {"resnet18": functools.partial(models.resnet, 18, 4), "vgg": functools.partial(models.cifar_cnn, (24, 24, 24))}
    narrow |= {"mask_50": functools.partial(masking.masked_resnet, 18, 4, 0.5), "target": narrow["resnet18"]}
    for name, build in narrow.items():
        r = zoo.recipe(f"full_{name}")
        short = dataclasses.replace(r, build=build, train=lambda: (x, y), test=lambda: (x[:9], y[:9]))
        monkeypatch.setitem(zoo.RECIPES, f"full_{name}", short)
    monkeypatch.setattr(data, "cifar10", functools.partial(data.cifar10, full=False))


def test_the_recipes_are_of_the_papers_size():
    for name in (*full_scale.SOURCES, *full_scale.TARGETS):
        r = zoo.recipe(f"full_{name}")
        assert r.epochs == 100
        assert "350" in r.says["paper"]
        assert "width" not in r.says["paper"]
    wide = zoo.recipe("full_mask_70").build()
    masks = [m for m in wide.modules() if isinstance(m, masking.RandomMask)]
    assert len(masks) == 10
    assert tuple(masks[0].kept.shape)[-3:] == (64, 32, 32)
    assert all(m.drop == 0.7 for m in masks)
    assert sum(p.numel() for p in wide.parameters()) > 11e6, "ResNet-18"
    assert sum(p.numel() for p in zoo.recipe("full_resnet50").build().parameters()) > 23e6


def test_a_slice_runs_end_to_end_and_goes_on_where_it_was_broken_off(small, tmp_path, monkeypatch):
    options = {"images": 40, "epochs": 2, "device": "cpu"}
    found = full_scale.transfer(tmp_path, sources=("resnet18", "vgg"), targets=("mask_50",), **options)
    assert len(found["cells"]) == 2 * len(full_scale.ATTACKS)
    kept = json.loads((tmp_path / "transfer.json").read_text())
    assert kept == found

    source, target = (zoo.load(f"full_{name}", tmp_path) for name in ("vgg", "mask_50"))
    x, y = data.cifar10(n=40)
    cell = found["cells"]["vgg FGSM 8 mask_50"]
    right = source(x).argmax(1) == y
    x_adv = (attacks.fgsm(source, x[right], y[right], eps=8 / 255) * 255).round() / 255
    fooled = source(x_adv).argmax(1) != y[right]
    assert cell["n"] == fooled.sum()
    if cell["n"]:
        hits = int((target(x_adv[fooled]).argmax(1) == y[right][fooled]).sum())
        assert cell["accuracy"] == hits / cell["n"]
        assert tuple(cell["interval"]) == evaluate.clopper_pearson(hits, cell["n"])

    monkeypatch.setattr(zoo, "train", functools.partial(pytest.fail, "trained again"))
    torch.manual_seed(0)
    again = full_scale.transfer(tmp_path, sources=("resnet18", "vgg"), targets=("mask_50",), **options)
    assert again == found
    (tmp_path / "transfer.sqlite").unlink()
    again = full_scale.transfer(tmp_path, sources=("resnet18", "vgg"), targets=("mask_50",), **options)
    assert again == found, "the table of version 0.2 is taken over"
    with pytest.raises(ValueError, match="is of a run with"):
        full_scale.transfer(tmp_path, **(options | {"images": 41}))


def test_the_command_prints_cells_and_names_what_is_wrong(small, tmp_path, capsys):
    command = ["transfer", "--to", str(tmp_path), "--images", "9", "--epochs", "1", "--device", "cpu", "--source", "resnet18"]
    assert main([*command, "--target", "target"]) == 0
    said = capsys.readouterr().out.splitlines()
    assert len(said) == 4
    assert said[2].startswith("resnet18 PGD 16 target")
    assert main([*command, "--target", "mask_60"]) == 1
    assert "there are: target, mask_50" in capsys.readouterr().err
