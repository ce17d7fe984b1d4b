"""The house itself: one list of dependencies, a quick import, a wheel that carries its data and needs nothing else."""

import hashlib
import json
import re
import shutil
import subprocess
import sys
import textwrap
import tomllib
import venv
import zipfile
from importlib import metadata

import pytest
import yaml
from browser import ROOT
from packaging.requirements import Requirement

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


def library():
    """The library's files in the checkout, those not yet committed included."""
    kept = ["git", "ls-files", "-co", "--exclude-standard", "advlab", "LICENSE*", "README.md", "pyproject.toml", "setup.py"]
    names = subprocess.run(kept, cwd=ROOT, capture_output=True, text=True, check=True).stdout.splitlines()
    return [name for name in names if (ROOT / name).is_file()]


def wheel_of(source, folder):
    """The wheel of a source tree or an sdist, made by the build tools that are here: no network."""
    command = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-index", "--no-build-isolation", "-w", str(folder)]
    subprocess.run([*command, str(source)], check=True, capture_output=True)
    (found,) = folder.glob("*.whl")
    return found


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    folder = tmp_path_factory.mktemp("package") / "source"
    for name in library():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, folder / name)
    return folder


@pytest.fixture(scope="module")
def wheel(source):
    return wheel_of(source, source.parent / "wheel")


@pytest.fixture(scope="module")
def wheel_of_the_sdist(source):
    hook = "import sys; from setuptools import build_meta; build_meta.build_sdist(sys.argv[1])"
    subprocess.run([sys.executable, "-c", hook, source.parent / "sdist"], cwd=source, check=True, capture_output=True)
    (sdist,) = (source.parent / "sdist").glob("*.tar.gz")
    return wheel_of(sdist, source.parent / "wheel-of-sdist")


def what_it_needs(name):
    """The distribution ``name`` and all that it needs on this machine, by the metadata of what is installed here."""
    found, todo = {}, [name]
    while todo:
        distribution = metadata.distribution(todo.pop())
        if distribution.name in found:
            continue
        found[distribution.name] = distribution
        wanted = [Requirement(text) for text in distribution.requires or ()]
        todo += [r.name for r in wanted if r.marker is None or r.marker.evaluate({"extra": ""})]
    return found


@pytest.fixture(scope="module")
def needed(tmp_path_factory):
    """A folder with links to what the library needs, and nothing else of this environment."""
    folder = tmp_path_factory.mktemp("needed")
    for distribution in what_it_needs("advlab").values():
        tops = {file.parts[0] for file in distribution.files or () if file.parts[0] not in ("..", "__pycache__")}
        for top in tops if distribution.name != "advlab" else ():
            if not (folder / top).exists():
                (folder / top).symlink_to(distribution.locate_file(top))
    return folder


def test_the_sdist_makes_the_same_wheel(wheel, wheel_of_the_sdist):
    one, other = (
        {f.filename: (f.CRC, f.file_size) for f in zipfile.ZipFile(w).infolist()} for w in (wheel, wheel_of_the_sdist)
    )
    assert one == other
    assert len(one) > 100


def test_installed_alone_in_an_empty_environment(wheel, source, needed, tmp_path):
    """The wheel and what its metadata asks for: every module loads, and what a reader would do first runs, offline."""
    python = tmp_path / "env" / "bin" / "python"
    venv.create(tmp_path / "env", with_pip=False)
    install = [sys.executable, "-m", "pip", "--python", str(python), "install", "-q", "--no-deps", "--no-index"]
    subprocess.run([*install, str(wheel)], check=True, capture_output=True)
    (site,) = (tmp_path / "env").glob("lib/python*/site-packages")
    (site / "dependencies.pth").write_text(f"{needed}\n")

    code = """
        import importlib, pkgutil, socket, sys
        def refuse(*_): raise OSError("no network")
        socket.socket.connect = refuse
        from functools import partial
        import advlab
        from advlab import attacks, data, evaluate, squeezing, verification, zoo
        for module in pkgutil.walk_packages(advlab.__path__, "advlab."):
            if module.name not in ("advlab.__main__", "advlab.shipped.make"): importlib.import_module(module.name)
        loaded = {name.partition(".")[0] for name in sys.modules}
        print(sorted({"matplotlib", "ipywidgets", "anywidget", "IPython", "labbook"} & loaded))
        net = zoo.load("mnist_cnn7")
        x, y = data.mnist("test", 20)
        print(int((net(x).argmax(1) == y).sum()), evaluate.robust_accuracy(net, x, y, partial(attacks.fgsm, eps=0.2)).n)
        detector = squeezing.SqueezingDetector(net, squeezing.JOINT["mnist"]).fit(x)
        print(len(detector.score_samples(x)), verification.verify(zoo.load("mnist_small"), x[0], int(y[0]), 0.01).status)
        print(advlab.__file__)
        try: advlab.results
        except AttributeError as e: print(e)
    """
    command = [str(python), "-I", "-W", "error::ImportWarning", "-c", textwrap.dedent(code)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    here = str(site / "advlab" / "__init__.py")
    moved = "advlab.results is labbook.results now, the book's own code: it comes with a checkout"
    assert done.stdout.splitlines() == ["[]", "20 20", "20 robust", here, moved]
    told = subprocess.run([str(python), "-I", "-m", "advlab", "reproduce"], capture_output=True, text=True, cwd=tmp_path)
    assert (told.returncode, told.stderr) == (
        1,
        "advlab: reproduce is a command of the book: pip install -e . in a checkout of it\n",
    )

    def digest(path):
        return hashlib.sha256(path.read_bytes()).hexdigest()

    def files(top):
        found = [p for p in (top / "advlab").rglob("*") if p.is_file() and p.suffix != ".pyc"]
        return {str(p.relative_to(top)): digest(p) for p in found}

    assert files(site) == files(source)
    (info,) = site.glob("advlab-*.dist-info")
    for name in ("LICENSE", "LICENSE-text", "advlab/shipped/LICENSE-data"):
        assert digest(info / "licenses" / name) == digest(source / name), name


def test_the_wheel_is_small_and_whole(wheel):
    assert wheel.stat().st_size < 64 * 2**20
    names = zipfile.ZipFile(wheel).namelist()
    for needed in (
        "checkpoints/mnist_cnn7.safetensors",
        "shipped/cifar10-test.webp",
        "py.typed",
    ):
        assert f"advlab/{needed}" in names
    assert any(n.endswith("licenses/LICENSE-text") for n in names)
    assert not [n for n in names if n.startswith(("tests", "book", "labbook", "notebooks", "bench"))]


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
