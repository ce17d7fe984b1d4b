"""What a run of the tests says: marks by file, every file on its own, and nothing left behind."""

import os
import subprocess
import sys
from types import SimpleNamespace

import conftest
import pytest
from browser import ROOT

FILES = sorted((ROOT / "tests").glob("test_*.py"))
TODAY = FILES[int(os.environ["ADVLAB_DAY"]) % 16 :: 16]


def run(*arguments, cwd=ROOT, **environment):
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *arguments]
    return subprocess.run(command, cwd=cwd, env=os.environ | environment, capture_output=True, text=True)


def collected(*arguments):
    done = run("--collect-only", *arguments)
    assert done.returncode == 0, done.stdout + done.stderr
    return [line for line in done.stdout.splitlines() if "::" in line]


@pytest.mark.parametrize("path", [pytest.param(p, id=p.stem, marks=[pytest.mark.slow] * (p not in TODAY)) for p in FILES])
def test_each_file_is_collected_alone(path):
    name = path.relative_to(ROOT).as_posix()
    found = collected(name, "--slow")
    assert found
    assert all(line.startswith(f"{name}::") for line in found)


def test_marks_follow_what_a_file_imports():
    kinds = {p.stem: conftest.kind_of(p) for p in FILES}
    for name in ("attacks", "evaluate", "masking", "spheres_geometry", "squeezing_detector", "stability_verifier", "training"):
        assert kinds[f"test_{name}"] == "library"
    for name in ("results", "exercises", "package", "structure", "journey", "notebooks", "signals"):
        assert kinds[f"test_{name}"] == "book"
    assert {conftest.kind_of(p) for p in (ROOT / "advlab").rglob("*.py")} == {"library"}
    others = [*(ROOT / "book" / "labbook").rglob("*.py"), *(ROOT / "notebooks").glob("*.ipynb")]
    assert {conftest.kind_of(p) for p in others} == {"book"}


def test_the_marks_select_their_tests():
    where = ("tests/test_models.py", "tests/test_static_book.py", "advlab/evaluate/measures.py")
    library = collected("-m", "library", *where)
    assert {line.partition("::")[0] for line in library} == {"tests/test_models.py", "advlab/evaluate/measures.py"}
    browser = collected("-m", "browser", *where)
    assert {line.partition("::")[0] for line in browser} == {"tests/test_static_book.py"}
    assert any("test_live_figures_move" in line for line in browser)
    assert not any("test_the_pages_exist" in line for line in browser)
    assert len(collected(*where)) == len(library) + len(browser) + len(collected("-m", "book", *where))


@pytest.fixture
def checkout(tmp_path):
    """A checkout with one test in it, run with our conftest."""
    subprocess.run(["git", "init", "-q", tmp_path], check=True)
    (tmp_path / "tests").mkdir()
    for name in ("conftest.py", "browser.py"):
        (tmp_path / "tests" / name).write_bytes((ROOT / "tests" / name).read_bytes())
    (tmp_path / "book").symlink_to(ROOT / "book")
    markers = "".join(f"\n  {kind}" for kind in ("library", "book", "browser", "slow"))
    (tmp_path / "pytest.ini").write_text(f"[pytest]\npythonpath = tests book\naddopts = --strict-markers\nmarkers ={markers}\n")
    return tmp_path


class Item:
    """A test as the hook sees it."""

    def __init__(self, nodeid, *marks):
        self.nodeid, self.marks, self.path = nodeid, marks, ROOT / "tests" / "test_signals.py"

    def iter_markers(self, name):
        return iter(())

    def get_closest_marker(self, name):
        return name if name in self.marks else None

    def add_marker(self, name):
        pass


def test_long_tests_take_turns_where_nobody_names_them(checkout, monkeypatch):
    heavy = checkout / "tests" / "heavy.txt"
    heavy.write_text("".join(f"{10 + k} tests/test_it.py::test_{k}\n" for k in range(1, 8)) + "9 tests/test_it.py::test_9[a]\n")
    monkeypatch.setattr(conftest, "HEAVY", heavy)
    items = [*(Item(f"tests/test_it.py::test_{k}") for k in range(8)), Item("tests/test_it.py::test_9[a]")]
    items.append(Item("tests/test_it.py::test_9[b]", "slow"))  # its function is dealt out to days in another way

    def ran(day, slow=False, whole=True):
        monkeypatch.setenv("ADVLAB_DAY", str(day))
        monkeypatch.setenv("ADVLAB_TURNS", str(int(whole)))
        options, left = {"--slow": slow}, []
        hook = SimpleNamespace(pytest_deselected=lambda items: left.extend(items))
        kept = list(items)
        conftest.pytest_collection_modifyitems(SimpleNamespace(getoption=options.get, hook=hook), kept)
        assert slow or set(kept) | set(left) == set(items)
        return {item.nodeid.partition("::test_")[2] for item in kept}

    days = [ran(day) for day in range(7)]
    assert set.union(*days) == {*"01234567", "9[a]"}
    assert set.intersection(*days) == {"0", "9[a]"}
    assert [len(day) for day in days] == [3] * 7
    assert ran(0, whole=False) == {*"01234567", "9[a]"}
    assert ran(0, slow=True) == {*"01234567", "9[a]", "9[b]"}


def test_the_whole_suite_is_one_that_nobody_named_and_its_library_has_turns_too(checkout):
    (checkout / "tests" / "test_it.py").write_text("def test_a():\n    pass\n\n\ndef test_b():\n    pass\n")
    (checkout / "tests" / "heavy.txt").write_text("9 tests/test_it.py::test_a\n8 tests/test_it.py::test_b\n")
    with (checkout / "pytest.ini").open("a") as ini:
        ini.write("testpaths = tests\n")
    done = run("-n2", cwd=checkout, ADVLAB_DAY="0")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Of 2 long tests it was the turn of 1 today; --slow runs all." in done.stdout
    assert done.stdout.splitlines()[-1].startswith("1 passed")
    for days, passed in (([], 2), (["-m", "library"], 1)):
        assert run("tests", *days, cwd=checkout, ADVLAB_DAY="0").stdout.splitlines()[-1].startswith(f"{passed} passed")


def test_the_list_of_long_tests_names_tests():
    assert len(conftest.turns()) > 60
    for name in conftest.turns():
        file, _, function = name.partition("[")[0].partition("::")
        assert function.rpartition(".")[2] in (ROOT / file).read_text(), f"{name}: after `make test SLOW=1`, chores.py adopt"


def test_what_a_run_leaves_is_named_and_is_a_fault_where_nobody_edits(checkout):
    (checkout / "tests" / "test_it.py").write_text("def test_it():\n    open('left.txt', 'w').close()\n")
    done = run(cwd=checkout, CI="")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "left.txt" in done.stdout.partition("left in the checkout")[2]
    (checkout / "left.txt").unlink()
    done = run(cwd=checkout, CI="1")
    assert done.returncode == 1
    assert "1 passed" in done.stdout.splitlines()[-1], "the closing line is the last"
    done = run(cwd=checkout, CI="1")
    assert (done.returncode, "left in the checkout" in done.stdout) == (0, False), "it was there before"
