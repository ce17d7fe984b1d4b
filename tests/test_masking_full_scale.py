"""The command for a GPU, on a slice that a processor can take: two steps, two sources."""

import dataclasses
import functools
import hashlib
import json

import pytest
import torch

from advlab import attacks, data, evaluate, masking, models, zoo
from advlab.__main__ import main
from advlab.recipes.masking import EPOCHS
from labbook import results
from labbook.random_mask import full_scale, full_scale_claims, tables


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
        assert r.epochs == EPOCHS
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
    assert len(found["cells"]) == 2 * len(full_scale.ATTACKS) + len(full_scale.WHITE)
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

    white, right = found["cells"]["white FGSM 2 mask_50"], target(x).argmax(1) == y
    x_adv = (attacks.fgsm(target, x[right], y[right], eps=2 / 255) * 255).round() / 255
    assert white["n"] == right.sum()
    assert white["accuracy"] is None or white["accuracy"] * white["n"] == (target(x_adv).argmax(1) == y[right]).sum()

    with pytest.raises(ValueError, match="holds a trial"):
        full_scale.store(tmp_path)
    monkeypatch.setattr(zoo, "train", functools.partial(pytest.fail, "trained again"))
    torch.manual_seed(0)
    again = full_scale.transfer(tmp_path, sources=("resnet18", "vgg"), targets=("mask_50",), **options)
    assert again == found
    (tmp_path / "transfer.sqlite").unlink()
    again = full_scale.transfer(tmp_path, sources=("resnet18", "vgg"), targets=("mask_50",), **options)
    assert again == found, "the table of version 0.2 is taken over"
    with pytest.raises(ValueError, match="is of a run with"):
        full_scale.transfer(tmp_path, **(options | {"images": 41}))


def test_what_is_refused_leaves_no_trace_in_the_folder(small, tmp_path):
    for options, says in (
        ({"images": -5}, "images is -5"),
        ({"images": 20_000_000}, "."),
        ({"epochs": 0}, "epochs is 0"),
        ({"n": 0}, "n is 0"),
        ({"device": "foo"}, "there is no device 'foo' here"),
    ):
        with pytest.raises(ValueError, match=says):
            full_scale.transfer(tmp_path, **{"images": 9, "epochs": 1, "device": "cpu", **options})
    assert not list(tmp_path.iterdir())


def test_the_command_prints_cells_and_names_what_is_wrong(small, tmp_path, capsys):
    command = ["transfer", "--to", str(tmp_path), "--images", "9", "--epochs", "1", "--device", "cpu", "--source", "resnet18"]
    assert main([*command, "--target", "target"]) == 0
    said = capsys.readouterr().out.splitlines()
    assert len(said) == len(full_scale.ATTACKS) + len(full_scale.WHITE)
    assert said[2].startswith("resnet18 PGD 16 target")
    assert main([*command, "--target", "mask_60"]) == 1
    assert "there are: target, mask_50" in capsys.readouterr().err


def test_a_full_run_becomes_evidence_and_a_claim_is_a_cell_of_it(small, tmp_path, monkeypatch):
    for name in ("vgg", "mask_50"):
        zoo.train(f"full_{name}", tmp_path, epochs=1, progress=False)
    cell = {"accuracy": 0.25, "interval": [0.2, 0.3], "n": 300}
    table = {"settings": {"images": 5000, "epochs": None, "n": None}, "cells": {"vgg PGD 16 mask_50": cell}}
    (tmp_path / "transfer.json").write_text(json.dumps(table))
    monkeypatch.setattr(full_scale, "evidence", lambda: tmp_path / "kept.json")
    kept = json.loads(full_scale.store(tmp_path).read_text())
    assert kept["cells"] == table["cells"]
    assert set(kept["networks"]) == {"vgg", "mask_50"}
    for name, card in kept["networks"].items():
        assert card["sha256"] == hashlib.sha256((tmp_path / f"full_{name}.safetensors").read_bytes()).hexdigest()


def test_the_table_at_the_papers_width_is_of_the_evidence_and_of_the_paper():
    kept = json.loads(full_scale.evidence().read_text())
    assert {"target", "mask_50", "mask_70", "mask_90", "resnet18", "vgg"} <= set(kept["networks"])
    assert all(card["epochs"] == EPOCHS for card in kept["networks"].values())
    grid = tables.width_table()
    assert [label for label, _ in grid.rows] == ["no masks", *(f"drop 0.{p}, shallow" for p in (5, 7, 9))]
    clean, residual, _, white = grid.rows[2][1]
    assert residual[0] == f"{100 * kept['cells']['resnet18 PGD 16 mask_70']['accuracy']:.1f}\u00a0%"
    assert residual[2] == "39.6\u00a0%", "Table 9"
    assert clean[0] == f"{100 * kept['networks']['mask_70']['accuracy']:.1f}\u00a0%"
    assert white[2] == "3.3\u00a0%", "Table 6"
    found = results.get("random_mask.full_70_white")
    assert found.n == kept["cells"]["white PGD 8 mask_70"]["n"]
    assert found.inputs.keys() == {"full_scale"}
    assert set(full_scale_claims.FULL_TARGETS.values()) <= set(full_scale.TARGETS)
