"""python -m advlab verify: what it takes, and what its exit status says. What it computes is tested with the verifier."""

import json

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

from advlab import verification
from advlab.__main__ import main
from advlab.verification import Verdict, Verdicts


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A folder with a network of two classes, "the mean of the image is above 1/2" or not, on grey images of 4 x 4."""
    monkeypatch.chdir(tmp_path)
    weight = np.stack([-np.ones(16), np.ones(16)]).astype(np.float32) / 16
    constants = {"w": weight, "b": np.float32([0.5, -0.5]), "same": np.eye(2, dtype=np.float32)}
    steps = [("Flatten", ["x"], "f"), ("Gemm", ["f", "w", "b"], "g"), ("Relu", ["g"], "r"), ("Gemm", ["r", "same"], "y")]
    graph = helper.make_graph(
        [helper.make_node(kind, names, [out], **{"transB": 1} if kind == "Gemm" else {}) for kind, names, out in steps],
        "net",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 1, 4, 4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 2])],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 15)])
    model.ir_version = 8
    onnx.save(model, str(tmp_path / "net.onnx"))
    for name, grey in (("bright", 204), ("dark", 51)):  # 0.8 and 0.2
        (tmp_path / "photos" / name).mkdir(parents=True)
        for k in range(2):
            Image.fromarray(np.full((4, 4), grey, np.uint8)).save(tmp_path / "photos" / name / f"{k}.png")
    (tmp_path / "names.txt").write_text("dark\nbright\n")
    return tmp_path


def specification(here, low, high):
    """All pixels within [low, high]; unsafe where the image is not called bright."""
    lines = [f"(declare-const X_{i} Real)" for i in range(16)] + ["(declare-const Y_0 Real)", "(declare-const Y_1 Real)"]
    lines += [f"(assert (>= X_{i} {low}))\n(assert (<= X_{i} {high}))" for i in range(16)]
    (here / "spec.vnnlib").write_text("\n".join([*lines, "(assert (<= Y_1 Y_0))"]))
    return "spec.vnnlib"


def test_a_folder_of_images_under_a_network_in_a_file(here, capsys):
    line = ["verify", "net.onnx", "--images", "photos", "--classes", "names.txt", "--eps"]
    assert main([*line, "0.29"]) == 0
    told = capsys.readouterr()
    assert "net.onnx, linf 0.29, 4 images: 100.00% proved robust" in told.out
    assert "robust=4" in told.err, "the bar counts them"
    assert len(verification.Store("runs/net-0.29.sqlite")) == 2, "of four images two are equal to the other two"
    assert main([*line, "0.31"]) == 10
    assert "0.00% not broken" in capsys.readouterr().out
    assert main(["verify", "net.onnx", "--images", "photos", "--eps", "0.29"]) == 10, "by their order bright is class 0"
    (here / "photos" / "dark" / "x.jpg").write_bytes(b"not a picture")
    assert main([*line, "0.29"]) == 0
    assert "left out: photos/dark/x.jpg" in capsys.readouterr().err


def test_a_property_in_a_file(here, capsys):
    assert main(["verify", "net.onnx", specification(here, 0.6, 0.9)]) == 0
    assert "net.onnx, spec.vnnlib: robust" in capsys.readouterr().out
    assert main(["verify", "net.onnx", specification(here, 0.4, 0.9)]) == 10
    assert "counterexample" in capsys.readouterr().out


def test_the_status_of_a_property_that_is_not_decided(here, monkeypatch):
    monkeypatch.setattr(verification, "verify_files", lambda *_, **__: Verdict("unknown", "mixed-integer", -1.0, 1.0))
    assert main(["verify", "net.onnx", "spec.vnnlib"]) == 20


def test_lines_of_json(here, capsys):
    assert main(["verify", "net.onnx", specification(here, 0.4, 0.9), "--json"]) == 10
    (line,) = map(json.loads, capsys.readouterr().out.splitlines())
    assert (line["property"], line["status"], len(line["witness"])) == ("spec.vnnlib", "counterexample", 16)
    assert np.mean(line["witness"]) < 0.5
    question = ["verify", "net.onnx", "--images", "photos", "--classes", "names.txt", "--eps"]
    assert main([*question, "0.29", "--json"]) == 0
    told = capsys.readouterr()
    lines = [json.loads(line) for line in told.out.splitlines()]
    assert {(line["input"], line["label"], line["status"]) for line in lines} == {
        (f"photos/{name}/{k}.png", label, "robust") for label, name in enumerate(("dark", "bright")) for k in range(2)
    }
    assert all(0 < line["bound"] <= 0.02 + 1e-6 for line in lines), "0.8 - 0.29 is 0.01 above one half, on both sides"
    assert "bound=0.0" in told.err, "the bar has the last bound"


def test_a_network_that_a_function_gives(here, capsys, monkeypatch):
    (here / "mine_of_test.py").write_text(
        "import advlab.verification as v\ndef net():\n    return v.read_onnx('net.onnx')[0]\nmany = None\n"
    )
    monkeypatch.syspath_prepend(str(here))
    line = ["verify", "mine_of_test:net", "--images", "photos", "--classes", "names.txt", "--eps", "0.29"]
    assert main(line) == 1
    assert "give --shape, such as 1x28x28" in capsys.readouterr().err
    assert main([*line, "--shape", "1x4x4"]) == 0
    assert "mine_of_test:net, linf 0.29, 4 images: 100.00% proved robust" in capsys.readouterr().out
    assert (here / "runs" / "mine_of_test-net-0.29.sqlite").exists()
    assert main(["verify", "mine_of_test:many", *line[2:], "--shape", "1x4x4"]) == 1
    assert "'mine_of_test:many' gives no network" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("statuses", "code"),
    [
        (["robust", "robust"], 0),
        (["robust", "counterexample"], 10),
        (["unknown", "robust"], 20),
        (["unknown", "counterexample", "robust"], 10),
    ],
)
def test_the_status_of_images(here, monkeypatch, statuses, code):
    found = Verdicts(tuple(Verdict(status, "crown", 0.0, 1.0) for status in statuses))
    monkeypatch.setattr(verification, "verify_dataset", lambda *_, **__: found)
    assert main(["verify", "mnist_small", "--eps", "0.1"]) == code


@pytest.mark.parametrize(
    ("option", "says"),
    [
        (["--images", "-5"], "'-5' is neither a number from 1 up nor a folder"),
        (["--images", "0"], "'0' is neither"),
        (["--images", "nowhere"], "'nowhere' is neither"),
        (["--workers", "0"], "'0' is no number from 1 up"),
        (["--workers", "-1"], "'-1' is no number from 1 up"),
        (["--workers", "1.5"], "'1.5' is no number from 1 up"),
        (["--eps", "-0.1"], "'-0.1' is no budget"),
        (["--eps", "nan"], "'nan' is no budget"),
        (["--eps", "inf"], "'inf' is no budget"),
        (["--shape", "1x0x4"], "'1x0x4' is no shape"),
        (["--time-limit", "-1"], "'-1' is no number above 0"),
        (["--time-limit", "nan"], "'nan' is no number above 0"),
        (["--shape", "1x2x2"], "--shape is not used for a network of the zoo"),
        (["--labels", "nofile"], "--labels is not used without a folder"),
        (["--classes", "nofile", "--images", "2"], "--classes is not used without a folder"),
        (["--scheduler", "tcp://127.0.0.1:1", "--workers", "2"], "--workers is not used with a scheduler"),
    ],
)
def test_counts_and_budgets_are_checked_before_any_work(here, capsys, option, says):
    with pytest.raises(SystemExit) as stopped:
        main(["verify", "mnist_small", "--eps", "0.1", *option])
    assert stopped.value.code == 2
    assert says in capsys.readouterr().err
    assert not (here / "runs").exists()


@pytest.mark.parametrize(
    ("line", "says"),
    [
        (["mnist_small"], "the budget is missing"),
        (["net.onnx", "--eps", "0.1"], "give --images FOLDER, or a property"),
        (["mnist_small", "spec.vnnlib"], "verify NET.onnx SPEC.vnnlib"),
        (["net.onnx", "spec.vnnlib", "--eps", "0.1"], "verify NET.onnx SPEC.vnnlib"),
        (["net.onnx", "nowhere.vnnlib"], "nowhere.vnnlib"),
        (["net.onnx", "--images", "photos/dark", "--eps", "0.1"], "give --labels FILE"),
        (["mnist_small", "--images", "photos", "--eps", "0.1"], "2 subfolders, the network 10 classes"),
    ],
)
def test_what_does_not_go_together_is_said(here, capsys, line, says):
    specification(here, 0.6, 0.9)
    assert main(["verify", *line]) == 1
    assert says in capsys.readouterr().err


@pytest.mark.parametrize(
    ("line", "says"),
    [
        *[
            (["net.onnx", "spec.vnnlib", option, value], f"{option} is not used with the property spec.vnnlib")
            for option, value in {
                "--images": "7",
                "--classes": "names.txt",
                "--labels": "nofile",
                "--shape": "1x4x4",
                "--from": "photos",
                "--store": "F",
                "--proofs": "D",
                "--workers": "5",
                "--scheduler": "tcp://127.0.0.1:1",
            }.items()
        ],
        (["net.onnx", "--images", "photos", "--eps", "0.1", "--shape", "1x4x4"], "--shape is not used for a network in a file"),
        (["net.onnx", "--images", "photos", "--eps", "0.1", "--from", "."], "--from is not used for a network in a file"),
        (
            ["m:f", "--images", "photos", "--eps", "0.1", "--shape", "1x4x4", "--from", "."],
            "--from is not used where a function",
        ),
    ],
)
def test_an_option_that_a_form_of_the_call_does_not_use_is_refused(here, capsys, line, says):
    specification(here, 0.6, 0.9)
    with pytest.raises(SystemExit) as stopped:
        main(["verify", *line])
    assert stopped.value.code == 2
    assert says in capsys.readouterr().err
    assert not (here / "runs").exists()


def test_a_readers_mistake_is_one_line(here, capsys, monkeypatch):
    (here / "mistakes_of_test.py").write_text(
        "import torch\nfrom torch import nn\n\n\nclass Pair(nn.Module):\n    def forward(self, x):\n"
        "        return x.flatten(1), 0\n\n\n"
        "def layer():\n    return nn.Sequential(nn.Flatten(), nn.Linear(16, 3), nn.Sigmoid(), nn.Linear(3, 2))\n\n\n"
        "def key():\n    raise KeyError('weights')\n"
    )
    monkeypatch.syspath_prepend(str(here))
    (here / "damaged").mkdir()
    (here / "damaged" / "mnist_small.json").write_text("{}")
    verify = ["verify", "--images", "photos", "--eps", "0.1"]
    for line, says in (
        ([*verify, "mistakes_of_test:layer", "--shape", "1x4x4"], "Sigmoid"),
        ([*verify, "mistakes_of_test:Pair", "--shape", "1x4x4"], "the model returns tuple"),
        (
            [*verify, "mistakes_of_test:key", "--shape", "1x4x4"],
            "'mistakes_of_test:key' gives no network (KeyError('weights'))",
        ),
        ([*verify, "net.onnx", "--proofs", "D"], "no proof"),
        (["detect", "photos", "--size", "4", "--network", "mistakes_of_test:Pair"], "the model returns tuple"),
        ([*verify, "mnist_small", "--from", "damaged"], "mnist_small.json is no model card"),
        (["train", "mnist_small", "--device", "nosuch"], "there is no device 'nosuch' here"),
    ):
        assert main(line) == 1
        told = capsys.readouterr().err.splitlines()[-1]
        assert told.startswith("advlab: error: ")
        assert says in told


@pytest.mark.book
@pytest.mark.parametrize(
    ("line", "says"),
    [
        (["examples", "mnist", "--images", "5"], "--images is not used for mnist"),
        (["examples", "mnist", "--images", "-3"], "'-3' is no number from 1 up"),
        (["examples", "cifar10", "--network", "lite0"], "--network is not used for cifar10"),
        (["examples", "mnist", "--batch", "4"], "--batch is not used for mnist"),
        (["examples", "mnist", "--store"], "--store is not used for mnist"),
        (["gpu", "--epochs", "0"], "'0' is no number from 1 up"),
        (["gpu", "--minutes", "nan"], "'nan' is no number above 0"),
        (["reproduce", "--n", "0"], "'0' is no number from 1 up"),
        (["reproduce", "--workers", "-3"], "'-3' is no number from 1 up"),
        (["reproduce", "--n", "5", "--stale"], "--stale is not used with --n"),
        (["transfer", "--images", "-5"], "'-5' is no number from 1 up"),
        (["game", "team.py", "--seconds", "-1"], "'-1' is no number above 0"),
    ],
)
def test_commands_of_the_book_refuse_likewise(here, capsys, line, says):
    with pytest.raises(SystemExit) as stopped:
        main(line)
    assert stopped.value.code == 2
    assert says in capsys.readouterr().err


def test_a_folder_under_a_network_of_the_zoo(here, capsys):
    (here / "digits.txt").write_text("\n".join("0123456789"))
    (here / "labels.csv").write_text("image,label\n0.png,3\n1.png,4\n")
    line = ["verify", "mnist_small", "--images", "photos/dark", "--labels", "labels.csv", "--classes", "digits.txt"]
    assert main([*line, "--eps", "0.001"]) == 10, "grey squares are no digits"
    assert "2 images" in capsys.readouterr().out
    assert torch.get_num_threads() == 1
