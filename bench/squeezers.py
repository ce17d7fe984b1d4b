"""The squeezers beside SciPy and OpenCV: equal bit for bit, and how fast, on 1,000 CIFAR-10 images.

- ``median``: windows of 2 x 2 and 3 x 3 in float32 and uint8 against scipy.ndimage.median_filter on the same dtype.
- ``backward``: the exact gradient of these medians against autograd's through the same minima and maxima.
- ``means``: the paper's four settings of non-local means against cv2.fastNlMeansDenoisingColored on the same bytes, both
  colour orders; and Lab against cv2.cvtColor on all 2^24 colours, both ways.

Run it from the repository's root, in the environment of the tests:

    .venv/bin/python -m bench.squeezers
    .venv/bin/python -m bench.squeezers --parts median backward --rounds 9

Time is CPU time of one thread. In each round both sides run once, in turns of order, and theirs is divided by ours: the table
shows the median, least and largest of these ratios and that of the two shortest times ("best"). Writes bench/squeezers.json;
it is no test and never fails on a figure.
"""

from __future__ import annotations

import argparse
import datetime
import gc
import json
import platform
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import scipy
import torch
from scipy import ndimage
from torch import Tensor
from torch.nn.functional import pad

import advlab
from advlab import data
from advlab.squeezing import median_filter, non_local_means
from advlab.squeezing.denoising import bgr_of_lab, lab_of_bgr

from .report import rounded

ROOT = Path(__file__).parent
MEANS = ((11, 3, 2.0), (11, 3, 4.0), (13, 3, 2.0), (13, 3, 4.0))

#: A row's name, ours and theirs, and whether their results are equal.
Row = tuple[str, Callable[[], Any], Callable[[], Any], Callable[[Any, Any], bool]]


# ---------------------------------------------------------------------------------------------- parts


def median(x: Tensor) -> Iterator[Row]:
    for size in (2, 3):
        for images in (x, (x * 255).round().to(torch.uint8)):

            def ours(images: Tensor = images, size: int = size) -> Tensor:
                return median_filter(images, size)

            def scipys(images: Tensor = images, size: int = size) -> np.ndarray:
                return ndimage.median_filter(images.numpy(), (1, 1, size, size), mode="reflect")

            name = f"median {size}x{size}, {str(images.dtype).removeprefix('torch.')}"
            yield name, ours, scipys, lambda a, b: a.numpy().dtype == b.dtype and np.array_equal(a.numpy(), b)


def backward(x: Tensor) -> Iterator[Row]:
    """All that is timed is the way back. Pixels are all different, so that ties, where autograd shares out, do not tell."""
    different = torch.randperm(x[0, 0].numel() * 64, generator=torch.Generator().manual_seed(0)).float()
    different = different.view(64, 1, *x.shape[2:]).repeat(-(-len(x) * 3 // 64), 1, 1, 1)[: len(x) * 3].view_as(x)
    for size in (2, 3):
        weights = torch.randint(-9, 10, x.shape, generator=torch.Generator().manual_seed(size)).float()
        passes = []
        for forward in (median_filter, autograd_median):
            at = different.clone().requires_grad_()
            out = forward(at, size)

            def back(out: Tensor = out, at: Tensor = at, weights: Tensor = weights) -> Tensor:
                return torch.autograd.grad(out, at, weights, retain_graph=True)[0]

            passes.append(back)
        yield f"backward of median {size}x{size}, float32", *passes, torch.equal  # pyrefly: ignore[invalid-yield]


def autograd_median(x: Tensor, size: int) -> Tensor:
    """The same network of minima and maxima, left to autograd."""
    low, high = torch.minimum, torch.maximum
    x = pad(x, (1, size - 2, 1, size - 2), mode="replicate")

    def middle(a: Tensor, b: Tensor, c: Tensor) -> Tensor:
        return high(low(a, b), low(high(a, b), c))

    if size == 2:
        least, most = low(x[:, :, :-1], x[:, :, 1:]), high(x[:, :, :-1], x[:, :, 1:])
        return high(high(least[..., :-1], least[..., 1:]), low(most[..., :-1], most[..., 1:]))
    a, b, c = x[:, :, :-2], x[:, :, 1:-1], x[:, :, 2:]
    less, more = low(a, b), high(a, b)
    columns = low(less, c), high(less, low(more, c)), high(more, c)
    least, mid, most = ((t[..., :-2], t[..., 1:-1], t[..., 2:]) for t in columns)
    return middle(high(high(least[0], least[1]), least[2]), middle(*mid), low(low(most[0], most[1]), most[2]))


def means(x: Tensor) -> Iterator[Row]:
    pixels = (x * 255).round().to(torch.uint8)
    images = np.ascontiguousarray(pixels.permute(0, 2, 3, 1).numpy())
    swapped = np.ascontiguousarray(images[..., ::-1])
    for order, given in (("bgr", images), ("rgb", swapped)):
        for search, patch, strength in MEANS if order == "bgr" else MEANS[1:2]:

            def ours(search: int = search, patch: int = patch, strength: float = strength, order: str = order) -> Tensor:
                return non_local_means(pixels, search, patch, strength, order=order)

            def opencvs(
                search: int = search, patch: int = patch, strength: float = strength, given: np.ndarray = given
            ) -> list[np.ndarray]:
                run = cv2.fastNlMeansDenoisingColored
                return [run(image, None, strength, strength, patch, search) for image in given]

            def equal(a: Tensor, b: list[np.ndarray], order: str = order) -> bool:
                theirs = np.stack(b)[..., :: 1 if order == "bgr" else -1]
                return np.array_equal(a.permute(0, 2, 3, 1).numpy(), theirs)

            yield f"non-local means {search}-{patch}-{strength:g}, {order}", ours, opencvs, equal


PARTS: dict[str, Callable[[Tensor], Iterator[Row]]] = {"median": median, "backward": backward, "means": means}


def lab_differences() -> dict[str, int]:
    """How many of all 2^24 colours OpenCV converts otherwise."""
    wrong = {"to Lab": 0, "from Lab": 0}
    byte = torch.arange(256, dtype=torch.uint8)
    second, third = torch.meshgrid(byte, byte, indexing="ij")
    for first in range(256):
        colours = torch.stack([torch.full_like(second, first), second, third])  # (3, 256, 256)
        picture = np.ascontiguousarray(colours.permute(1, 2, 0).numpy())
        for way, convert, code in (("to Lab", lab_of_bgr, cv2.COLOR_LBGR2LAB), ("from Lab", bgr_of_lab, cv2.COLOR_LAB2LBGR)):
            theirs = cv2.cvtColor(picture, code)
            wrong[way] += int((convert(colours).permute(1, 2, 0).numpy() != theirs).any(-1).sum())
    return wrong


# ---------------------------------------------------------------------------------------------- timing


def measure(row: Row, rounds: int) -> dict[str, Any]:
    """CPU seconds of ours and theirs in every round, after one that is not counted and in which results are compared."""
    _, ours, theirs, equal = row
    seconds: dict[str, list[float]] = {"advlab": [], "peer": []}
    exact = equal(ours(), theirs())
    for turn in range(rounds):
        sides = [("advlab", ours), ("peer", theirs)]
        for side, run in sides if turn % 2 else sides[::-1]:
            gc.collect()
            start = time.process_time()
            run()
            seconds[side].append(time.process_time() - start)
    ratios = [b / a for a, b in zip(seconds["advlab"], seconds["peer"], strict=True)]
    speed = {"median": statistics.median(ratios), "min": min(ratios), "max": max(ratios)}
    speed["best"] = min(seconds["peer"]) / min(seconds["advlab"])
    return {"exact": exact, "cpu_seconds": seconds, "times_faster": speed}


def main() -> None:
    parser = argparse.ArgumentParser(description="Compare advlab's squeezers with SciPy and OpenCV in one run.")
    parser.add_argument("--parts", nargs="+", choices=list(PARTS), default=list(PARTS))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--images", type=int, default=1000)
    parser.add_argument("--out", type=Path, default=ROOT / "squeezers.json")
    args = parser.parse_args()
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    versions = {"torch": torch.__version__, "numpy": np.__version__, "scipy": scipy.__version__, "opencv": cv2.__version__}
    versions |= {"python": platform.python_version(), "advlab": advlab.__version__}
    print("  ".join(f"{name} {version}" for name, version in versions.items()))

    x, _ = data.cifar10("test", args.images, full=False)
    command = " ".join(["python -m bench.squeezers", *sys.argv[1:]])
    whole: dict[str, Any] = {"date": datetime.date.today().isoformat(), "command": command, "images": len(x), "threads": 1}
    whole |= {"rounds": args.rounds, "versions": versions, "rows": {}}
    print(f"\n{len(x)} images {'':31}equal   ours, s   peer, s   times faster: median [min, max], best")
    for part in args.parts:
        for row in PARTS[part](x):
            found = whole["rows"][row[0]] = measure(row, args.rounds)
            ours, theirs = (statistics.median(found["cpu_seconds"][side]) for side in ("advlab", "peer"))
            speed = "{median:.2f} [{min:.2f}, {max:.2f}], {best:.2f}".format(**found["times_faster"])
            print(f"  {row[0]:40}{found['exact']!s:>7}{ours:10.4f}{theirs:10.4f}   {speed}", flush=True)
    if "means" in args.parts:
        whole["lab_differences"] = lab_differences()
        print(f"  colours of 2^24 that Lab converts otherwise: {whole['lab_differences']}")
    args.out.write_text(json.dumps(rounded(whole), indent=1) + "\n")
    print(f"\nWritten: {args.out}")


if __name__ == "__main__":
    main()
