"""Launch buttons: none without a public address, right ones with it; and the first cell on Colab does what it says."""

import os
import re
import shutil
import subprocess
import sysconfig
import venv

import book_slice
import nbformat
from browser import ROOT

import colab

REPOSITORY = "https://github.com/owner/name"


def test_a_slice_of_the_book_with_an_address_has_buttons(tmp_path):
    def change(config):
        config["sphinx"]["config"]["launch_repository"] = REPOSITORY

    where, _ = book_slice.build(tmp_path, ["book/notation", "notebooks/00_start_here"], change=change)
    chapter = (where / "notebooks" / "00_start_here.html").read_text()
    assert 'href="https://mybinder.org/v2/gh/owner/name/main?urlpath=lab/tree/notebooks/00_start_here.ipynb"' in chapter
    assert 'href="https://colab.research.google.com/github/owner/name/blob/colab/00_start_here.ipynb"' in chapter
    assert "mybinder" not in (where / "book" / "notation.html").read_text()


def test_the_book_has_buttons_only_with_an_address():
    chapter = (ROOT / "build" / "_build" / "html" / "notebooks" / "00_start_here.html").read_text()
    assert ("mybinder.org" in chapter) == bool(colab.repository())


def test_binder_installs_what_make_installs():
    told = (ROOT / ".binder" / "postBuild").read_text()
    assert os.access(ROOT / ".binder" / "postBuild", os.X_OK)
    assert "-c constraints.txt" in told
    for name in re.findall(r"-[rc] (\S+)", told):
        assert (ROOT / name).exists()


def test_the_first_cell_sets_up_advlab_where_it_is_missing(tmp_path):
    """In an environment with the dependencies and no advlab: the first cell, then the chapter's own first cells."""
    env, work = tmp_path / "env", tmp_path / "work"
    work.mkdir()
    venv.create(env, with_pip=True)
    (site,) = env.glob("lib/python*/site-packages")
    for old in site.glob("setuptools*"):  # Python 3.11 brings one that is too old to build with; there is a newer one below
        shutil.rmtree(old)
    (site / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    python = str(env / "bin" / "python")
    assert subprocess.run([python, "-c", "import torch, advlab"], capture_output=True, cwd=work).returncode != 0

    notebook = colab.with_first_cell(nbformat.read(ROOT / "notebooks" / "00_start_here.ipynb", 4), ROOT.as_uri())
    cells = [c.source for c in notebook.cells if c.cell_type == "code"]
    assert "git" in cells[0]
    code = "\n".join([*cells[:3], "import advlab", "print(advlab.__file__)", "print(results.get('start_here.clean').n)"])
    offline = {"PIP_NO_INDEX": "1", "PIP_NO_DEPS": "1", "PIP_NO_BUILD_ISOLATION": "0"}  # pip reads 0 as: no isolation
    done = subprocess.run([python, "-c", code], capture_output=True, text=True, cwd=work, env=os.environ | offline)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-2:] == [str(work / "adversarial-lab" / "advlab" / "__init__.py"), "10000"]
    assert (site / "advlab" / "zoo.py").exists()

    book = {"PYTHONPATH": str(ROOT / "book")}
    again = subprocess.run(
        [python, "-c", cells[0]], capture_output=True, text=True, cwd=tmp_path, env=os.environ | offline | book
    )
    assert again.returncode == 0
    assert not (tmp_path / "adversarial-lab").exists(), "where advlab is installed, the cell does nothing"
