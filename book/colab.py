"""The plain notebooks for Colab, with a first cell that sets up advlab:  python book/colab.py [--to FOLDER] [--from ADDRESS]

Plain is what book/plain.py makes of them.

The address is [project.urls] Repository in pyproject.toml. What this writes belongs on the repository's branch ``colab``,
where the book's Colab buttons look for it; the notebooks in the book stay as they are.
"""

from __future__ import annotations

import argparse
import sys
import tomllib
from pathlib import Path

import nbformat

sys.path.append(str(Path(__file__).resolve().parent))

import plain

ROOT = Path(__file__).resolve().parents[1]

CELL = """\
# Sets up advlab where it is missing, as on Colab; where it is installed, this does nothing.
import importlib.util
import os
import subprocess
import sys

if importlib.util.find_spec("labbook") is None:
    source = os.path.abspath("adversarial-lab")
    if not os.path.exists(source):
        subprocess.run(["git", "clone", "-q", "--depth", "1", "ADDRESS", source], check=True)
    subprocess.run([sys.executable, "-m", "pip", "install", "-q", source, "anywidget"], check=True)
    sys.path[:0] = [source, os.path.join(source, "book")]  # the library, and the book's own code beside it
"""


def repository() -> str | None:
    """The project's public address, without a slash or ".git" at its end; None while it has none."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    address = project.get("urls", {}).get("Repository")
    return address.rstrip("/").removesuffix(".git") if address else None


def with_first_cell(notebook: nbformat.NotebookNode, address: str) -> nbformat.NotebookNode:
    """The notebook with the cell that sets up advlab in front, run by nobody yet."""
    cell = nbformat.v4.new_code_cell(CELL.replace("ADDRESS", address), id="set-up")
    return nbformat.NotebookNode(notebook | {"cells": [cell, *notebook.cells]})


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--to", type=Path, default=ROOT / "build" / "colab")
    parser.add_argument("--from", dest="address", default=repository())
    told = parser.parse_args()
    if not told.address:
        sys.exit("The project has no public address yet: set [project.urls] Repository in pyproject.toml, or --from ADDRESS")
    told.to.mkdir(parents=True, exist_ok=True)
    for path in plain.chapters():
        chapter = plain.plainly(nbformat.read(path, 4), path.stem, f"{told.address}/blob/main")
        nbformat.write(with_first_cell(chapter, told.address), told.to / path.name)
    print(f"{told.to}: push its files to the branch colab of {told.address}")


if __name__ == "__main__":
    main()
