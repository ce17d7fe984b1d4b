"""What people type in a fresh checkout works: each command runs in a copy of what git knows, offline.

The two builds of the book together take about a minute.
"""

import contextlib
import hashlib
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
import venv
from pathlib import Path

import pytest
from browser import HTML, ROOT

BIN = Path(sys.executable).parent


@pytest.fixture(scope="module")
def checkout(tmp_path_factory):
    """A fresh checkout, with what is not committed yet."""
    folder = tmp_path_factory.mktemp("fresh") / "checkout"
    listed = subprocess.run(["git", "ls-files", "-co", "--exclude-standard", "-z"], cwd=ROOT, capture_output=True, check=True)
    for name in filter(None, listed.stdout.decode().split("\0")):
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, folder / name)
    return folder


@pytest.fixture(scope="module")
def typed(checkout):
    """A function that runs a command in the checkout, as a reader whose environment is this one types it."""

    def run(*command, cwd=checkout):
        environment = os.environ | {"PYTHONPATH": f"{checkout}{os.pathsep}{checkout / 'book'}", "PIP_NO_INDEX": "1"}
        for name in [name for name in environment if name.startswith("PYTEST_")]:
            del environment[name]
        done = subprocess.run([BIN / command[0], *command[1:]], cwd=cwd, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
        return done.stdout + done.stderr

    return run


def contents(folder):
    return {str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest() for p in folder.rglob("*") if p.is_file()}


def test_jupyter_book_builds_the_checkout_and_the_folder_book_alike(typed, checkout):
    for folder in (".", "book"):
        said = typed("jupyter-book", "build", folder)
        assert not re.findall(r"WARNING|ERROR|\d+ warning", said), said
    one, other = (contents(checkout / folder / "_build" / "html") for folder in (".", "book"))
    assert one == other
    pages = {str(p.relative_to(HTML)) for p in HTML.rglob("*.html") if p.relative_to(HTML).parts[0] != "zh"}
    assert len(pages) > 30, "run `make book` first"
    assert pages == {name for name in one if name.endswith(".html")}, "the pages of `make book`"
    for path in (checkout / "notebooks").glob("*.ipynb"):
        page = (checkout / "_build" / "html" / "notebooks" / f"{path.stem}.html").read_text()
        networks = re.findall(r'"weights": "([^"]{1000,})"', path.read_text())
        assert [page.count(weights) for weights in networks] == [1] * len(networks), f"{path.stem}: a network stands once"


def test_one_test_file(typed):
    assert re.search(r"\d+ passed", typed("pytest", "-q", "tests/test_structure.py"))


def test_the_notebooks_under_nbval(typed, checkout):
    found = typed("pytest", "--nbval", "notebooks", "--collect-only", "-q")
    for path in sorted((checkout / "notebooks").glob("*.ipynb")):
        cells = [cell for cell in json.loads(path.read_text())["cells"] if cell["cell_type"] == "code"]
        assert found.count(f"{path.name}::Cell ") == len(cells) > 0, path.name
    assert re.search(r"\d+ passed", typed("pytest", "--nbval", "notebooks/05_all_against_all.ipynb", "-q"))


def test_jupyter_lab_serves_the_notebooks(checkout, tmp_path):
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
    names = ("JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR", "IPYTHONDIR", "JUPYTERLAB_WORKSPACES_DIR")
    environment = os.environ | {name: str(tmp_path / name) for name in names}
    command = [BIN / "jupyter", "lab", "--no-browser", "--allow-root", "--ip=127.0.0.1", f"--port={port}"]
    with open(tmp_path / "log", "w") as log:
        server = subprocess.Popen(
            [*command, "--IdentityProvider.token=t"], cwd=checkout, env=environment, stdout=log, stderr=subprocess.STDOUT
        )
    try:
        for _ in range(240):
            with contextlib.suppress(OSError):
                url = f"http://127.0.0.1:{port}/api/contents/notebooks?token=t"
                listed = json.load(urllib.request.urlopen(url, timeout=10))
                break
            time.sleep(0.5)
        else:
            raise AssertionError((tmp_path / "log").read_text())
    finally:
        server.terminate()
        server.wait(30)
    served = {entry["name"] for entry in listed["content"]}
    assert {path.name for path in (checkout / "notebooks").iterdir()} - {"__pycache__"} <= served


@pytest.mark.parametrize("what", [["."], ["-e", ".[lab,book,test]"]], ids=["plain", "editable"])
def test_pip_install(what, checkout, tmp_path):
    """In an environment that has what the metadata asks for, and nothing of ours."""
    (site,) = {Path(p) for p in sys.path if p.endswith("site-packages") and (Path(p) / "torch").exists()}
    here = tmp_path / "here"
    here.mkdir()
    for entry in site.iterdir():
        if not re.match(r"(__editable__|_*advlab|__pycache__)", entry.name):
            (here / entry.name).symlink_to(entry)
    venv.create(tmp_path / "env", with_pip=False)
    (own,) = (tmp_path / "env").glob("lib/python*/site-packages")
    (own / "here.pth").write_text(f"{here}\n")
    source = tmp_path / "source"
    shutil.copytree(checkout, source, ignore=shutil.ignore_patterns("_build"))
    environment = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "PYTHONSAFEPATH")}
    python = tmp_path / "env" / "bin" / "python"
    install = [python, "-m", "pip", "install", "-q", "--no-index", "--no-build-isolation", *what]
    done = subprocess.run(install, cwd=source, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    code = "import importlib.util as u, advlab; print(advlab.__file__); print(u.find_spec('labbook') is not None)"
    done = subprocess.run([python, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True, check=True)
    place = source if "-e" in what else own
    assert done.stdout.splitlines() == [str(place / "advlab" / "__init__.py"), str("-e" in what)]
