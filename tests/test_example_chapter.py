"""CONTRIBUTING's walk through a new chapter, walked: its example is added to a copy of the house, measured, run and built."""

import json
import os
import shutil
import subprocess
import sys
import tomllib

import nbformat
import pytest
import torch
from browser import ROOT

from advlab import data

EXAMPLE = ROOT / "tests" / "example_chapter"
LINES = tomllib.loads((EXAMPLE / "lines.toml").read_text())["line"]
NOTEBOOK = "notebooks/06_linear_classifiers"
HEAVY = ("checkpoints", "shipped")  # of the library: linked, not copied


@pytest.fixture(scope="module")
def house(tmp_path_factory):
    """A copy of the house with the example in it."""
    copy = tmp_path_factory.mktemp("copy") / "house"
    ignored = shutil.ignore_patterns("__pycache__", "*.ipynb", *HEAVY)
    for folder in ("advlab", "book", "tests"):
        shutil.copytree(ROOT / folder, copy / folder, ignore=ignored)
    for name in HEAVY:
        (copy / "advlab" / name).symlink_to(ROOT / "advlab" / name)
    (copy / "notebooks").mkdir()
    for name in ("pyproject.toml", "README.md", "README.zh.md", "notebooks/jupytext.toml"):
        shutil.copy(ROOT / name, copy / name)
    shutil.copytree(EXAMPLE, copy, dirs_exist_ok=True)
    for line in LINES:
        path = copy / line["file"]
        text = path.read_text()
        if "before" in line:
            assert text.count(line["before"]) == 1, line
            text = text.replace(line["before"], line["insert"] + line["before"])
        else:
            text += line["insert"]
        path.write_text(text)
    return copy


@pytest.fixture(scope="module")
def run(house):
    environment = os.environ | {"PYTHONPATH": f"{house}:{house / 'book'}", "OMP_NUM_THREADS": "1"}

    def run(*arguments):
        done = subprocess.run([sys.executable, *arguments], cwd=house, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    return run


@pytest.fixture(scope="module")
def measured(run):
    return run("-m", "labbook", "reproduce", "linear_classifiers")


@pytest.fixture(scope="module")
def refreshed(run, measured):
    return run("book/chores.py", "refresh", f"{NOTEBOOK}.md")


def test_its_numbers_are_measured(house, measured):
    l2, linf = json.loads((house / "book" / "results" / "linear_classifiers.json").read_text())
    assert [l2["id"], linf["id"]] == ["linear_classifiers.l2", "linear_classifiers.linf"]
    assert "linear_classifiers.l2" in measured
    x, y = data.mnist("train", 2000)
    ones = torch.cat([x.flatten(1).double(), torch.ones(2000, 1, dtype=torch.float64)], 1)
    ridge = torch.diag(torch.cat([torch.ones(784), torch.zeros(1)])).double()  # the bias is free
    fitted = torch.linalg.solve(ones.T @ ones + ridge, ones.T @ torch.eye(10, dtype=torch.float64)[y])
    x, y = data.mnist(n=1000)
    logits = torch.cat([x.flatten(1).double(), torch.ones(1000, 1, dtype=torch.float64)], 1) @ fitted
    each = [
        [float((logits[i, y[i]] - logits[i, k]) / (fitted[:-1, y[i]] - fitted[:-1, k]).norm()) for k in range(10) if k != y[i]]
        for i in range(1000)
    ]
    assert l2["value"] == pytest.approx(sorted(max(0.0, min(d)) for d in each)[499], rel=0.01)
    assert 0 < linf["value"] < l2["value"]


def test_its_notebook_is_run_and_agrees_with_its_twin(house, run, refreshed):
    assert "1 pairs agree, 2 code cells were run" in run("book/chores.py", "check", f"{NOTEBOOK}.md")
    shown = nbformat.read(house / f"{NOTEBOOK}.ipynb", 4).cells[-1].outputs[0].data["text/html"]
    assert "Exact. A digit that is misread already counts as 0." in shown


def test_it_passes_the_tests_of_the_house(run, refreshed):
    wanted = "library_imports or paper or itself or linear or disagree"
    files = ["tests/test_linear.py", "tests/test_structure.py", "tests/test_results.py", "tests/test_notebooks.py"]
    options = ["-q", "-o", "addopts=--doctest-modules --import-mode=importlib", "-p", "no:cacheprovider", "-k", wanted]
    said = run("-m", "pytest", *options, *files, "advlab/linear")
    assert " passed" in said
    assert "skipped" not in said


def test_its_pages_are_built(house, run, refreshed):
    build = "import sys; sys.path.insert(0, 'tests'); from pathlib import Path; from book_slice import build"
    pages = [NOTEBOOK, "book/api/linear"]
    contents = (house / "book" / "_toc.yml").read_text()
    assert all(contents.count(f"- file: {page}\n") == 1 for page in pages)
    (house / "slice").mkdir()
    warnings = run("-c", f"{build}; print(*build(Path('slice').resolve(), {pages})[1], sep='\\n')")
    assert warnings.strip() == ""
    html = house / "slice" / "_build" / "html"
    assert "Exact. A digit that is misread already counts as 0." in (html / f"{NOTEBOOK}.html").read_text()
    assert "advlab.linear.nearest_error" in (html / "book/api/linear.html").read_text()
