"""How long the notebooks run: what is stored stays under the limit, and a run of the tests measures it."""

import json
import os
import subprocess
import sys

import nbformat
from browser import ROOT

import chores


def test_all_notebooks_together_stay_under_the_limit():
    stored = json.loads(chores.TIMES.read_text())
    assert set(stored) == {path.stem for path in (ROOT / "notebooks").glob("*.ipynb")}
    assert 0 < sum(entry["seconds"] for entry in stored.values()) < chores.LIMIT
    for entry in stored.values():
        assert set(entry) == {"seconds", "machine", "date", "by"}


def test_a_run_measures_its_notebooks(tmp_path, monkeypatch):
    cells = [nbformat.v4.new_code_cell(f"import time; time.sleep({s})", execution_count=1) for s in (1, 2)]
    nbformat.write(nbformat.v4.new_notebook(cells=cells), tmp_path / "slow.ipynb")
    (tmp_path / "pytest.ini").write_text("[pytest]\n")
    environment = dict(os.environ, PYTHONPATH=os.pathsep.join([str(ROOT / "tests"), str(ROOT / "book")]))
    command = [sys.executable, "-m", "pytest", "-p", "conftest", "--nbval", "-n", "1", "slow.ipynb"]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    measured = json.loads((tmp_path / "build" / "execution_times.json").read_text())
    assert set(measured) == {"slow"}
    assert measured["slow"]["seconds"] >= 3
    assert "cores" in measured["slow"]["machine"]
    assert "execution times of the notebooks" in done.stdout
    assert "together" in done.stdout
    monkeypatch.setattr(chores, "MEASURED", tmp_path / "build" / "execution_times.json")
    monkeypatch.setattr(chores, "TIMES", tmp_path / "manifest.json")
    chores.TIMES.write_text(json.dumps({"slow": {}, "other": {"seconds": 1}}))
    assert chores.adopt([tmp_path / "slow.md", tmp_path / "other.md"]) == 0
    assert json.loads(chores.TIMES.read_text()) == {**measured, "other": {"seconds": 1}}
