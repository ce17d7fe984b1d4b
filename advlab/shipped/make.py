"""Make the files of this folder from the full sets:  python -m advlab.shipped.make MNIST_IDX_FOLDER CIFAR10_NPZ

MNIST keeps its published IDX form under xz; of CIFAR-10 the first 2,000 test images and the first 250 training images
of each class become one sheet of tiles each, as lossless WebP.
"""

import hashlib
import json
import lzma
import sys
from pathlib import Path

import numpy as np
from PIL import Image

HERE = Path(__file__).parent


def main(mnist: str, cifar10: str) -> None:
    for name in ("train-images-idx3", "train-labels-idx1", "t10k-images-idx3", "t10k-labels-idx1"):
        raw = (Path(mnist) / f"{name}-ubyte").read_bytes()
        (HERE / f"{name}-ubyte.xz").write_bytes(lzma.compress(raw, preset=9 | lzma.PRESET_EXTREME))
    with np.load(cifar10, allow_pickle=False) as full:
        y = full["y_train"]
        first = np.sort(np.concatenate([np.flatnonzero(y == k)[:250] for k in range(10)]))
        parts = {
            "train": (full["x_train"][first], y[first]),
            "test": (full["x_test"][:2000], full["y_test"][:2000]),
        }
    digests = {}
    for split, (x, y) in parts.items():
        sheet = x.reshape(-1, 50, 32, 32, 3).transpose(0, 2, 1, 3, 4).reshape(-1, 50 * 32, 3)
        Image.fromarray(sheet).save(HERE / f"cifar10-{split}.webp", lossless=True, quality=100, method=6)
        header = b"\0\0\x08\x01" + len(y).to_bytes(4, "big")
        (HERE / f"cifar10-{split}-labels.xz").write_bytes(lzma.compress(header + y.tobytes()))
        digests[f"x_{split}"] = hashlib.sha256(np.ascontiguousarray(x).tobytes()).hexdigest()
        digests[f"y_{split}"] = hashlib.sha256(y.tobytes()).hexdigest()
    (HERE / "cifar10.sha256.json").write_text(json.dumps(digests, indent=1) + "\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
