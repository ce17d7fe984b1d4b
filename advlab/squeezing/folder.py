"""The detector on images of your own, such as ImageNet's, which no book may ship: ``python -m advlab detect FOLDER``."""

from __future__ import annotations

import importlib
import math
import sys
from pathlib import Path

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError
from torch import Tensor, nn

from ..attacks import fgsm
from ..data import eight_bits
from ..evaluate import clopper_pearson, predict
from .detector import SqueezingDetector
from .squeezers import JOINT

SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp")


def load(folder: str | Path, size: int = 224, n: int | None = None) -> tuple[Tensor, Tensor]:
    """Images of a folder with one subfolder a class: (n, 3, size, size) in [0, 1], red first, and labels (n,).

    Labels count the subfolders in the order of their names, as for ImageNet. The shorter side is scaled to 8/7 of ``size``
    and the middle is cut out, the usual preparation. With ``n`` as many images are taken, one a class in turn.
    Raises ValueError for a folder without images in subfolders, and for a file that is no image.
    """
    classes = sorted(p for p in Path(folder).iterdir() if p.is_dir()) if Path(folder).is_dir() else []
    files = [[(p, label) for p in sorted(c.rglob("*")) if p.suffix.lower() in SUFFIXES] for label, c in enumerate(classes)]
    turns = [row[k] for k in range(max(map(len, files), default=0)) for row in files if k < len(row)]
    if not turns:
        raise ValueError(f"{folder} holds no images in subfolders: it needs one subfolder a class, with {', '.join(SUFFIXES)}")
    images, labels = [], []
    for path, label in turns[:n]:
        try:
            with Image.open(path) as picture:
                images.append(_prepared(picture.convert("RGB"), size))
        except (UnidentifiedImageError, OSError) as e:
            raise ValueError(f"{path} cannot be read as an image ({e}): remove it, or replace it") from e
        labels.append(label)
    return torch.stack(images), torch.tensor(labels)


def _prepared(picture: Image.Image, size: int) -> Tensor:
    scale = size * 8 / 7 / min(picture.size)
    wide, high = (max(size, round(side * scale)) for side in picture.size)
    picture = picture.resize((wide, high), Image.Resampling.BILINEAR)
    left, top = (wide - size) // 2, (high - size) // 2
    pixels = np.asarray(picture.crop((left, top, left + size, top + size)), np.uint8)
    return torch.from_numpy(pixels.copy()).permute(2, 0, 1).float() / 255


def network(place: str) -> nn.Module:
    """What the function at ``place``, "module:function", returns, in eval mode; modules of the present folder are found too.

    It must map (n, 3, size, size) in [0, 1] to logits, so that it normalises by itself (:class:`advlab.models.Normalize`).
    Raises ValueError for a place that is not there, or is no such function.
    """
    module, _, name = place.partition(":")
    if "" not in sys.path:
        sys.path.insert(0, "")
    try:
        made = getattr(importlib.import_module(module), name)()
    except (ImportError, AttributeError, TypeError, ValueError) as e:
        raise ValueError(f"{place!r} gives no network ({e}): it must be module:function, a function without arguments") from e
    if not isinstance(made, nn.Module):
        raise ValueError(f"{place!r} returns {type(made).__name__}; it must return a torch.nn.Module")
    return made.eval()


def report(model: nn.Module, x: Tensor, y: Tensor, *, eps: float = 0.0078, batch_size: int = 32) -> dict[str, float]:
    """The paper's ImageNet detector on images (n, 3, h, w): threshold from half of them, rates on the other half.

    Returns accuracy, threshold, the false positive rate with its 95 % interval, the success rate of FGSM within ``eps``
    (the paper's, in linf) on correctly classified images, and the detection rate of its successes (NaN if there are none).
    Raises ValueError for fewer than 4 images, and as the detector does.
    """
    if len(x) < 4:
        raise ValueError(f"there are {len(x)} images; a threshold and its test need at least 4, better some hundreds")
    half = len(x) // 2
    detector = SqueezingDetector(model, JOINT["imagenet"], batch_size=batch_size).fit(x[:half])
    rest, labels = x[half:], y[half:]
    flagged = detector.predict(rest)
    low, high = clopper_pearson(int(flagged.sum()), len(flagged))
    right = predict(model, rest, batch_size) == labels
    parts = zip(rest[right].split(batch_size), labels[right].split(batch_size), strict=True)
    attacked = [eight_bits(fgsm(model, images, goal, eps=eps)) for images, goal in parts if len(images)]
    x_adv = torch.cat(attacked) if attacked else rest[:0]
    wrong = predict(model, x_adv, batch_size) != labels[right]
    caught = detector.predict(x_adv[wrong])
    return {
        "accuracy": float((predict(model, x, batch_size) == y).double().mean()),
        "threshold": detector.threshold_,
        "false positive rate": float(flagged.double().mean()),
        "false positive rate, low": low,
        "false positive rate, high": high,
        "FGSM success": float(wrong.double().mean()) if len(wrong) else math.nan,
        "FGSM detection": float(caught.double().mean()) if len(caught) else math.nan,
    }
