"""The detector on a folder of images: a small one, made here."""

import math

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from advlab import attacks, data, evaluate, folders
from advlab.__main__ import main
from advlab.squeezing import JOINT, SqueezingDetector, folder

NETWORK = """
import torch
from torch import nn

def build():
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(3 * 16 * 16, 3))

def wide():
    return nn.Sequential(nn.Flatten(), nn.Linear(3 * 16 * 16, 1001))

def soft():
    return nn.Sequential(build(), nn.Softmax(1))

def wrong():
    return 7
"""
HALF = 24  # images of each half


@pytest.fixture
def images(tmp_path):
    """Sixteen images of each of three classes, told by a bright channel."""
    random, root = np.random.default_rng(0), tmp_path / "photos"
    for channel, name in enumerate("abc"):
        (root / name).mkdir(parents=True)
        for k in range(2 * HALF // 3):
            pixels = random.integers(0, 256, (20, 18, 3), dtype=np.uint8)
            pixels[..., channel] = 200
            Image.fromarray(pixels).save(root / name / f"{k}.png")
    return root


def network():
    """Nearly right on them, and not sure."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Flatten(), nn.Linear(3 * 14 * 14, 3)).eval()
    for channel in range(3):
        net[1].weight.data[channel, channel * 196 : channel * 196 + 196] += 0.01
    return net


def test_the_report_is_what_the_detector_says_of_the_halves(images):
    """Against the whole folder at once, from the library's other functions."""
    net = network()
    for k in range(8):
        (images / "a" / f"{k}.png").rename(images / "b" / f"{k} of a.png")  # where they will be called wrong
    found, notes = folder.report(net, images, 14, eps=0.02, batch_size=7, progress=False)
    paths, _ = folders.images(images)
    x = torch.stack([folders.read(path, 14) for path in paths]).float() / 255
    y = torch.tensor(["abc".index(path.parent.name) for path in paths])
    detector = SqueezingDetector(net, JOINT["imagenet"]).fit(x[:HALF])
    right = evaluate.predict(net, x[HALF:]) == y[HALF:]
    x_adv = data.eight_bits(attacks.fgsm(net, x[HALF:][right], y[HALF:][right], eps=0.02))
    wrong = evaluate.predict(net, x_adv) != y[HALF:][right]
    flagged = detector.predict(x[HALF:])
    assert 0 < wrong.sum() < right.sum() < HALF
    assert notes == []
    assert found["accuracy"] == pytest.approx(float((evaluate.predict(net, x) == y).double().mean()))
    assert found["threshold"] == pytest.approx(detector.threshold_, abs=1e-6)
    assert found["false positive rate"] == float(flagged.double().mean())
    interval = found["false positive rate, low"], found["false positive rate, high"]
    assert interval == evaluate.clopper_pearson(int(flagged.sum()), HALF)
    assert found["FGSM success"] == pytest.approx(float(wrong.double().mean()))
    assert found["FGSM detection"] == pytest.approx(float(detector.predict(x_adv[wrong]).double().mean()))


@pytest.mark.parametrize("n", [12, 48])
def test_both_halves_and_few_images_are_of_all_classes(images, n):
    names = [path.parent.name for path in folders.images(images)[0][:n]]
    assert set(names[: n // 2]) == set(names[n // 2 :]) == set("abc")


def test_a_flat_folder_needs_no_labels_but_for_the_accuracy(images, tmp_path):
    flat = tmp_path / "flat"
    flat.mkdir()
    for path in images.rglob("*.png"):
        path.rename(flat / f"{path.parent.name}{path.name}")
    found, notes = folder.report(network(), flat, 14, progress=False)
    assert math.isnan(found["accuracy"])
    assert "without labels" in notes[0]
    assert all(0 <= value <= 2 for name, value in found.items() if name not in ("accuracy", "images", "FGSM detection"))
    table = tmp_path / "labels.csv"
    table.write_text("\n".join(f"{path.name},{'abc'.index(path.name[0])}" for path in flat.iterdir()))
    labelled, notes = folder.report(network(), flat, 14, table=table, progress=False)
    assert notes == []
    assert labelled["accuracy"] > 0.8
    assert labelled["threshold"] == found["threshold"], "the order does not depend on labels"


class Killed(BaseException):
    pass


def test_a_run_that_was_killed_goes_on(images, tmp_path, monkeypatch):
    """Nothing is read twice, no more than a batch is in memory, and the answer is that of one run."""
    whole = folder.report(network(), images, 14, batch_size=5, progress=False)
    read, seen = folders.read, []

    def watched(path, *args):
        if len(seen) == 17:
            raise Killed
        seen.append(path)
        return read(path, *args)

    monkeypatch.setattr(folders, "read", watched)
    store = tmp_path / "runs" / "detect.sqlite"
    options = {"batch_size": 5, "store": store, "progress": False}
    with pytest.raises(Killed):
        folder.report(network(), images, 14, **options)
    again = []
    monkeypatch.setattr(folders, "read", lambda path, *args: again.append(path) or read(path, *args))
    assert folder.report(network(), images, 14, **options) == whole
    assert sorted(seen[:15] + again) == sorted(folders.images(images)[0]), "what was on the disk is not read again"
    again.clear()
    assert folder.report(network(), images, 14, **options) == whole
    assert again == []
    for change in (lambda net: net[1].weight.data.add_(1e-3), lambda net: net.append(nn.Identity().eval())):
        other = network()
        change(other)
        again.clear()
        folder.report(other, images, 14, **options)
        assert len(again) == 48, "of another network nothing is known"
    (images / "a" / "0.png").write_bytes((images / "b" / "0.png").read_bytes())
    again.clear()
    folder.report(network(), images, 14, **options)
    assert [path.relative_to(images).as_posix() for path in again] == ["a/0.png"]


def test_no_more_than_a_batch_is_in_memory(images, monkeypatch):
    held = []
    stack = torch.stack
    monkeypatch.setattr(folder.torch, "stack", lambda parts, *a: held.append(len(parts)) or stack(parts, *a))
    folder.report(network(), images, 14, batch_size=5, progress=False)
    assert max(held) <= 5


def test_the_command_runs_on_a_network_of_the_readers_own(images, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine_for_this_test.py").write_text(NETWORK)
    for name in (".ipynb_checkpoints", "__MACOSX"):
        (images / name).mkdir()
    (images / "a" / "._0.jpg").write_bytes(b"\0\5\26\7")
    (images / "b" / "photo.heic").touch()
    run = ["detect", "photos", "--size", "16", "--network"]
    assert main([*run, "mine_for_this_test:build"]) == 0
    told = capsys.readouterr()
    lines = dict(line.rsplit(maxsplit=1) for line in told.out.splitlines())
    assert lines["images"] == "48"
    assert 0 <= float(lines["accuracy"]) <= 1
    assert "left out: photos/a/._0.jpg cannot be read" in told.err
    assert "left out: 1 files .heic" in told.err
    assert "read=48, unreadable=1" in told.err
    assert (tmp_path / "runs" / "detect.sqlite").exists()
    for place, says in (
        ("mine_for_this_test:missing", "gives no network"),
        ("mine_for_this_test:wrong", "returns int"),
        ("no_such:f", "gives no"),
        ("mine_for_this_test:wide", "has 3 subfolders, the network 1001 classes"),
        ("mine_for_this_test:soft", "the model returns probabilities"),
    ):
        assert main([*run, place]) == 1
        assert says in capsys.readouterr().err
    (images / "a" / "._0.jpg").unlink()
    (tmp_path / "names.txt").write_text("c\nb\na\n")
    assert main([*run, "mine_for_this_test:build", "--classes", "names.txt", "--n", "8"]) == 0
    told = capsys.readouterr()
    assert "images                     8" in told.out
    assert "the greatest of only 4 clean scores" in told.err
    for n in ("0", "-3", "x"):
        with pytest.raises(SystemExit):
            main([*run, "mine_for_this_test:build", "--n", n])
        assert "is no number from 1 up" in capsys.readouterr().err
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "x.png").write_bytes(b"not a png")
    assert main(["detect", "bad", "--size", "16", "--network", "mine_for_this_test:build"]) == 1
    assert "0 images could be read" in capsys.readouterr().err
