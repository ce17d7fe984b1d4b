"""The detector on a folder of images: a small one, made here."""

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from advlab.__main__ import main
from advlab.squeezing import folder

NETWORK = """
import torch
from torch import nn

def build():
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(3 * 16 * 16, 3))

def wrong():
    return 7
"""


@pytest.fixture
def images(tmp_path):
    random = np.random.default_rng(0)
    for label, (name, shape) in enumerate((("b", (40, 30)), ("a", (25, 50)), ("c", (16, 16)))):
        (tmp_path / name).mkdir()
        for k in range(5):
            pixels = random.integers(0, 256, (*shape, 3), dtype=np.uint8)
            pixels[..., label] = 250
            Image.fromarray(pixels).save(tmp_path / name / f"{k}.png")
    (tmp_path / "c" / "notes.txt").write_text("not an image")
    return tmp_path


def test_a_folder_is_read_as_it_should_be(images):
    x, y = folder.load(images, size=14)
    assert x.shape == (15, 3, 14, 14)
    assert x.min() >= 0
    assert x.max() <= 1
    assert y.tolist() == [0, 1, 2] * 5, "one of each class in turn, in the order of the names"
    brightest = x.mean((2, 3)).argmax(1)
    assert brightest.tolist() == [1, 0, 2] * 5, "red first; folder a was made with green"
    assert folder.load(images, size=14, n=4)[1].tolist() == [0, 1, 2, 0]
    with Image.open(images / "c" / "0.png") as picture:
        exact = np.asarray(picture.convert("RGB"))[1:15, 1:15] / 255  # 16 = 14 * 8 / 7: no scaling, only the cut
    np.testing.assert_allclose(x[2].permute(1, 2, 0).numpy(), exact, atol=1e-6)


def test_what_is_no_folder_of_images_is_refused(images, tmp_path):
    with pytest.raises(ValueError, match="one subfolder a class"):
        folder.load(tmp_path / "nowhere")
    (images / "a" / "9.png").write_bytes(b"not a png")
    with pytest.raises(ValueError, match="cannot be read as an image"):
        folder.load(images)


def test_the_report_adds_up(images):
    torch.manual_seed(0)
    x, y = folder.load(images, size=14)
    net = nn.Sequential(nn.Flatten(), nn.Linear(588, 3)).eval()
    found = folder.report(net, x, y, eps=0.3)
    with torch.no_grad():
        assert found["accuracy"] == pytest.approx(float((net(x).argmax(1) == y).double().mean()))
    assert 0 <= found["false positive rate, low"] <= found["false positive rate"] <= found["false positive rate, high"] <= 1
    assert 0 <= found["threshold"] <= 2
    with pytest.raises(ValueError, match="at least 4"):
        folder.report(net, x[:3], y[:3])


def test_the_command_runs_on_a_network_of_the_readers_own(images, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine_for_this_test.py").write_text(NETWORK)
    (tmp_path / "photos").mkdir()
    for name in "abc":
        (tmp_path / name).rename(tmp_path / "photos" / name)
    run = ["detect", "photos", "--size", "16", "--network"]
    assert main([*run, "mine_for_this_test:build"]) == 0
    assert "false positive rate" in capsys.readouterr().out
    for place, says in (
        ("mine_for_this_test:missing", "gives no network"),
        ("mine_for_this_test:wrong", "returns int"),
        ("no_such:f", "gives no"),
    ):
        assert main([*run, place]) == 1
        assert says in capsys.readouterr().err
