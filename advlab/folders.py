"""Images of your own: which files a folder holds, what class each is of, and their pixels."""

from __future__ import annotations

import csv
import io
import random
import re
import warnings
from collections import Counter
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

#: What is read, by its name and by what the file is; of several pictures in a file, the first.
SUFFIXES = (".bmp", ".gif", ".jfif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp")
FORMATS = ("BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP")


def _seen(name: str) -> bool:
    return not name.startswith(".") and name != "__MACOSX"


def images(folder: str | Path) -> tuple[list[Path], Counter[str]]:
    """The image files in a folder and all below, in an order mixed with a fixed seed; and how many others, by suffix.

    Hidden folders and ``__MACOSX`` are not looked into. Raises ValueError where there is no folder, or no image.
    """
    files = [path for path in sorted(Path(folder).rglob("*")) if path.is_file()]
    files = [path for path in files if all(map(_seen, path.relative_to(folder).parts[:-1]))]
    found = [path for path in files if path.suffix.lower() in SUFFIXES]
    if not found:
        raise ValueError(f"{folder} holds no images: it needs files {', '.join(SUFFIXES)}, or one subfolder a class with them")
    random.Random(0).shuffle(found)
    return found, Counter(path.suffix for path in files if path.suffix.lower() not in SUFFIXES and _seen(path.name))


def labels(
    folder: str | Path,
    paths: Sequence[Path],
    count: int,
    classes: str | Path | Sequence[str] | None = None,
    table: str | Path | None = None,
) -> list[int] | None:
    """The class of each image of :func:`images` for a network of ``count`` classes; None for a folder without subfolders.

    Parameters
    ----------
    classes : names, or a file of them, one a line, the first of class 0; "n01440764 tench" is found by its synset too
    table : a file of lines "image,label", the label a name of ``classes`` or without them a number; where there is none, the
        subfolders say it by their names in ``classes``, or where they are as many as the classes, by the order of their names
    Raises
    ------
    ValueError
        where a class is not certain, and for a file that is not in UTF-8
    """
    folder = Path(folder)
    if table is not None:
        texts = _rows(Path(table), folder, paths)
    elif all(path.parent == folder for path in paths):
        return None
    else:
        texts = [path.relative_to(folder).parts[0] for path in paths]
        if beside := [path for path in paths if path.parent == folder]:
            raise ValueError(
                f"{beside[0]} stands beside the subfolders: put it into that of its class, or give a file of labels"
            )
    if classes is not None:
        listed = not isinstance(classes, str | Path)
        names = list(classes) if listed else _text(Path(classes)).rstrip().splitlines()
        if len(names) != count:
            raise ValueError(f"{'the list' if listed else classes} names {len(names)} classes; the network has {count}")
    else:
        names = [str(k) for k in range(count)] if table is not None else _subfolders(folder, count)

    @cache
    def number(text: str) -> int:
        synset = re.match(r"n\d{8}", text)
        places = [k for k, name in enumerate(names) if name.strip() == text or (synset and name.startswith(synset[0]))]
        if len(places) != 1:
            known = ", ".join(names[:3])
            raise ValueError(f"{text!r} names {len(places)} of the network's {count} classes, which are {known} and so on")
        return places[0]

    return [number(text) for text in texts]


def _rows(table: Path, folder: Path, paths: Sequence[Path]) -> list[str]:
    """The label of each image in the table, which calls it by its path in the folder, its name, or its name without suffix."""
    try:
        rows = [[cell.strip() for cell in row[:2]] for row in csv.reader(io.StringIO(_text(table))) if len(row) > 1]
    except csv.Error as e:
        raise ValueError(f"{table} cannot be read as lines image,label ({e})") from e
    known = dict(rows)
    if twice := [name for name, label in rows if known[name] != label]:
        raise ValueError(f"{table} gives {twice[0]} two labels")
    named = [(path.relative_to(folder).as_posix(), path.name, path.stem) for path in paths]
    if missing := [names[0] for names in named if not known.keys() & set(names)]:
        raise ValueError(f"{table} has no line for {len(missing)} images, such as  {missing[0]},0")
    called = [next(name for name in names if name in known) for names in named]
    if several := [name for name, count in Counter(called).items() if count > 1]:
        first, second, *_ = (names[0] for names, name in zip(named, called, strict=True) if name == several[0])
        raise ValueError(f"{table} has one line {several[0]} for {first} and {second}: call each by its path in {folder}")
    return [known[name] for name in called]


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as e:
        raise ValueError(f"{path} is not in UTF-8 ({e.reason} at byte {e.start}): save it as UTF-8") from e


def _subfolders(folder: Path, count: int) -> list[str]:
    names = sorted(path.name for path in folder.iterdir() if path.is_dir() and _seen(path.name))
    if len(names) != count:
        raise ValueError(f"{folder} has {len(names)} subfolders, the network {count} classes: give a file of class names")
    if all(name.isdecimal() for name in names) and names != sorted(names, key=int):
        raise ValueError(f"the subfolders of {folder} are numbers in another order than as text: give a file of class names")
    return names


def read(path: Path, size: int, channels: int = 3) -> Tensor:
    """The picture as (channels, size, size) bytes, red first, or grey: upright as its camera says, and on white where clear.

    One of another size has its shorter side scaled to 8/7 of ``size`` and its middle cut out, the usual preparation.
    Raises ValueError, which names the file, where it cannot be read, has over 89 million pixels, or grey of unknown range.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(path, formats=FORMATS) as picture:
                return _prepared(picture, size, "L" if channels == 1 else "RGB")
    except Exception as e:  # a damaged file makes Pillow raise nearly anything
        raise ValueError(f"{path} cannot be read as an image ({e})") from e


def read_all(paths: Sequence[Path], size: int, channels: int = 3) -> tuple[Tensor, list[int], list[str]]:
    """What :func:`read` makes of those that can be read, (m, channels, size, size) in [0, 1]; which they are; the errors."""
    pixels, places, errors = [torch.empty(0, channels, size, size, dtype=torch.uint8)], [], []
    for k, path in enumerate(paths):
        try:
            pixels.append(read(path, size, channels)[None])
            places.append(k)
        except ValueError as e:
            errors.append(f"left out: {e}")
    return torch.cat(pixels).float() / 255, places, errors


def _prepared(picture: Image.Image, size: int, mode: str) -> Tensor:
    sixteen = picture.mode.startswith("I;16") or (picture.mode == "I" and picture.format == "PNG")
    if picture.mode[0] in "IF" and (not sixteen or "transparency" in picture.info):
        raise ValueError(f"its pixels are of the mode {picture.mode}, with a range or a transparency that is not known")
    picture = ImageOps.exif_transpose(picture)
    if sixteen:
        picture = Image.fromarray(((np.asarray(picture).astype(np.int64) + 128) // 257).astype(np.uint8))
    if "A" in picture.getbands() or "transparency" in picture.info:
        picture = picture.convert("RGBA")
        picture = Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture)
    picture = picture.convert(mode)
    if picture.size != (size, size):
        scale = size * 8 / 7 / min(picture.size)
        ends = []  # of the part that is cut out: the rest is never scaled, since a strip would be huge
        for side in picture.size:
            whole = max(size, round(side * scale))
            ends.append(((whole - size) // 2 * side / whole, ((whole - size) // 2 + size) * side / whole))
        (left, right), (top, bottom) = ends
        picture = picture.resize((size, size), Image.Resampling.BILINEAR, box=(left, top, right, bottom))
    return torch.from_numpy(np.array(picture, np.uint8)).reshape(size, size, -1).permute(2, 0, 1).contiguous()
