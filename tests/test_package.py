"""The house itself: one list of dependencies, a quick import, a wheel that carries its data and needs nothing else."""

import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tomllib
import zipfile

import pytest
import yaml
from browser import ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def test_environment_yml_agrees_with_pyproject():
    environment = yaml.safe_load((ROOT / "environment.yml").read_text())
    assert set(environment) == {"name", "channels", "dependencies"}
    assert environment["name"] == PROJECT["name"]
    conda = [d for d in environment["dependencies"] if isinstance(d, str)]
    (pip,) = (d["pip"] for d in environment["dependencies"] if isinstance(d, dict))
    assert [d.split()[0] for d in conda] == ["python", "pip"], "conda brings Python alone"
    version = conda[0].split("=")[1].strip()
    assert version == PROJECT["requires-python"].removeprefix(">=")
    assert pip[:2] == ["-c constraints.txt", "-r requirements-torch.txt"]
    extras = re.fullmatch(r"-e \.\[(.*)\]", pip[2])[1].split(",")
    makefile = (ROOT / "Makefile").read_text()
    assert f"EXTRAS = {','.join(extras)}\n" in makefile, "conda and make install the same extras"
    assert set(extras) <= set(PROJECT["optional-dependencies"]) >= {"lab", "book", "test", "bench", "cluster"}


def test_constraints_are_plain_pins_that_cover_the_list():
    lines = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if not line.startswith("#")]
    assert all(re.fullmatch(r"[A-Za-z0-9._-]+==[A-Za-z0-9.!]+", line) for line in lines), "no paths, no local versions"
    pinned = {line.split("==")[0].lower().replace("_", "-") for line in lines}
    wanted = PROJECT["dependencies"] + [d for extra in ("lab", "book", "test") for d in PROJECT["optional-dependencies"][extra]]
    names = {re.match(r"[A-Za-z0-9._-]+", d)[0].lower() for d in wanted} - {"advlab"}
    assert names <= pinned


def test_requirements_are_ranges_and_nothing_needs_torchvision():
    for requirement in PROJECT["dependencies"]:
        assert "==" not in requirement
    everything = (ROOT / "pyproject.toml").read_text() + (ROOT / "constraints.txt").read_text()
    assert "torchvision" not in everything


def test_the_import_is_quick():
    code = "import time; a = time.process_time(); import advlab; print(time.process_time() - a)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert float(done.stdout) < 2
    lazily = "import sys, advlab; assert 'torch' not in sys.modules; advlab.attacks.pgd; assert 'torch' in sys.modules"
    subprocess.run([sys.executable, "-c", lazily], check=True, cwd=ROOT)
    wrong = subprocess.run([sys.executable, "-c", "import advlab; advlab.nosuch"], capture_output=True, text=True, cwd=ROOT)
    assert "its modules are attacks, data" in wrong.stderr


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    kept = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    for name in kept.stdout.splitlines():
        if (ROOT / name).is_file() and not name.startswith(("notebooks/", "tests/")):
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, source / name)
    uv = os.path.join(os.path.dirname(sys.executable), "uv")
    build = [uv, "build"] if os.path.exists(uv) else [sys.executable, "-m", "pip", "wheel", "--no-deps"]
    out = ["-o", str(folder), "--wheel"] if "uv" in build[0] else ["-w", str(folder)]
    subprocess.run([*build, *out, str(source)], check=True, capture_output=True)
    (found,) = folder.glob("*.whl")
    return found


def test_the_wheel_is_small_and_whole(wheel):
    assert wheel.stat().st_size < 64 * 2**20
    names = zipfile.ZipFile(wheel).namelist()
    for needed in (
        "checkpoints/mnist_cnn7.safetensors",
        "shipped/cifar10-test.webp",
        "live/kit.js",
        "live/live.css",
        "py.typed",
    ):
        assert f"advlab/{needed}" in names
    assert any(n.endswith("licenses/LICENSE-text") for n in names)
    assert not [n for n in names if n.startswith(("tests", "book", "notebooks", "bench"))]


def test_the_installed_wheel_works_with_no_network(wheel, tmp_path):
    """Installed into a folder of its own and run isolated, from elsewhere, with every connection refused."""
    where = tmp_path / "site"
    command = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--no-index", "--target", str(where), str(wheel)]
    subprocess.run(command, check=True, capture_output=True)
    code = f"""
        import sys, socket
        sys.path[:0] = [{str(where)!r}]
        sys.path.append({sysconfig.get_path("purelib")!r})
        def refuse(*_): raise OSError("no network")
        socket.socket.connect = refuse
        import advlab
        assert advlab.__file__.startswith({str(where)!r}), advlab.__file__
        x, y = advlab.data.mnist()
        net = advlab.zoo.load("mnist_cnn7")
        print(x.shape, int((net(x[:50]).argmax(1) == y[:50]).sum()), advlab.data.cifar10("test", 5, full=False)[1].tolist())
    """
    code = "\n".join(line.strip() for line in code.splitlines())
    done = subprocess.run([sys.executable, "-I", "-S", "-c", code], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "10000" in done.stdout
    assert "[3, 8, 8, 0, 6]" in done.stdout


def test_the_makefile_refuses_an_old_python(tmp_path):
    old = tmp_path / "python-old"
    old.write_text('#!/bin/sh\n[ "$1" = -c ] && exit 1\necho Python 3.9.1\n')
    old.chmod(0o755)
    for name in ("Makefile", "pyproject.toml", "requirements-torch.txt", "constraints.txt"):
        shutil.copy(ROOT / name, tmp_path)
    done = subprocess.run(["make", "book", f"PYTHON={old}"], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode != 0
    assert "needs Python 3.11 or later; this is Python 3.9.1" in done.stderr


def test_no_machine_is_named_in_the_tree():
    found = subprocess.run(
        ["git", "grep", "-nE", r"/(home|Users|root)/[a-z]", "--", ".", ":!tests/test_package.py"],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert found.stdout == ""


def test_versions_agree():
    import advlab

    assert f"version: {advlab.__version__}\n" in (ROOT / "CITATION.cff").read_text()
    assert f"## {advlab.__version__}" in (ROOT / "CHANGELOG.md").read_text()
    assert json.loads((ROOT / "notebooks" / "00_start_here.ipynb").read_text())["nbformat"] == 4
