"""What several test files need: a small trained network, real digits, and one thread for small batches.

Each test has one mark, by where it stands and what it asks for. ``browser``: it opens Chromium. ``library``: its file, or the
module whose examples it runs, imports nothing of the book, and the test does not say otherwise, as those do that take longer
than `make quick` has. ``book``: all others. ``slow`` comes on top: such tests run with ``--slow`` alone. ``-m library`` does
not even collect files of the others.

Tests that take over three quarters of a second, the list heavy.txt, take turns where the whole suite runs or, by its mark, the
library's part of it: each has its day of the week. With ``--slow`` all run, and so do those of a file or folder that is named.
`python book/chores.py adopt` writes the list.

What a run leaves in the checkout is named at its end, and where nobody edits, with ``$CI``, makes it fail. After a run that had
notebooks in it, how long each took is printed, and noted in build/execution_times.json.
"""

import ast
import datetime
import os
import subprocess
import zlib
from collections import Counter
from functools import cache
from itertools import chain
from pathlib import Path

import pytest
import torch
from browser import needs_chromium

from advlab import data, models, training

ROOT = Path(__file__).resolve().parents[1]
HEAVY, TURNS, LONG = ROOT / "tests" / "heavy.txt", 7, 0.75  # lines "seconds id"; days for all of them; seconds
BEFORE, LEFT = pytest.StashKey(), pytest.StashKey()  # files of the checkout
torch.set_num_threads(1)
collect_ignore = ["example_chapter"]  # test_example_chapter.py runs it in a copy of the house
os.environ.setdefault("ADVLAB_DAY", str(datetime.date.today().toordinal()))  # one day for all workers, at midnight too


def of_the_book():
    """What a test of the library does not import: the book's own code and scripts, and the helpers that look at pages."""
    scripts = [path.stem for folder in ("book", "tests") for path in (ROOT / folder).glob("*.py")]
    return {"labbook", "bench", *(name for name in scripts if not name.startswith("test_"))}


@cache
def kind_of(path):
    """Of a file that pytest collects: "library" or "book"."""
    if path.suffix != ".py" or path.parent.name != "tests":
        return "library" if path.suffix == ".py" and path.is_relative_to(ROOT / "advlab") else "book"
    nodes = list(ast.walk(ast.parse(path.read_text())))
    imported = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    imported |= {node.module or "" for node in nodes if isinstance(node, ast.ImportFrom)}
    return "book" if {name.partition(".")[0] for name in imported} & of_the_book() else "library"


def pytest_addoption(parser):
    parser.addoption("--slow", action="store_true", help="run the tests that are marked slow too: every slice, not the day's")


def pytest_ignore_collect(collection_path, config):
    if config.getoption("markexpr") == "library" and collection_path.is_file() and kind_of(collection_path) != "library":
        return True
    return None


def turns():
    """Of each test that takes its turn, the day on which it does, from 0 to TURNS - 1; the days take about the same time."""
    lines = HEAVY.read_text().splitlines() if HEAVY.exists() else []
    return {line.partition(" ")[2]: k % TURNS for k, line in enumerate(sorted(lines, key=lambda line: -float(line.split()[0])))}


def pytest_configure(config):
    if not hasattr(config, "workerinput"):  # the workers inherit it
        part = config.args_source is pytest.Config.ArgsSource.TESTPATHS or config.getoption("markexpr") == "library"
        os.environ["ADVLAB_TURNS"] = str(int(part and not config.getoption("--slow")))


def untracked():
    """Files of the checkout that git neither has nor ignores; none where there is no git."""
    asked = ["git", "ls-files", "--others", "--exclude-standard"]
    return set(subprocess.run(asked, cwd=ROOT, capture_output=True, text=True).stdout.splitlines())


def pytest_sessionstart(session):
    if not hasattr(session.config, "workerinput"):
        session.config.stash[BEFORE] = untracked()


@pytest.hookimpl(tryfirst=True)  # the summary comes after it
def pytest_sessionfinish(session):
    if not hasattr(session.config, "workerinput"):
        session.config.stash[LEFT] = sorted(untracked() - session.config.stash[BEFORE])
        if session.config.stash[LEFT] and os.environ.get("CI"):
            session.exitstatus = pytest.ExitCode.TESTS_FAILED


@pytest.hookimpl(tryfirst=True)  # before -m looks at the marks
def pytest_collection_modifyitems(config, items):
    for item in items:
        chromium = any(mark == needs_chromium.mark for mark in item.iter_markers("skipif"))
        own = item.get_closest_marker("book")
        item.add_marker("browser" if chromium else "book" if own else kind_of(item.path))
    if not config.getoption("--slow"):
        today = int(os.environ["ADVLAB_DAY"]) % TURNS
        turn = turns() if os.environ["ADVLAB_TURNS"] == "1" else {}
        slow = {item for item in items if item.get_closest_marker("slow")}
        shared = {item.nodeid.partition("[")[0] for item in slow}  # these are dealt out to days already
        left = {i for i in items if turn.get(i.nodeid, today) != today and i.nodeid.partition("[")[0] not in shared} | slow
        config.hook.pytest_deselected(items=list(left))
        items[:] = [item for item in items if item not in left]


@pytest.fixture(scope="module", autouse=True)
def one_browser_a_module():
    """Chromium starts for the first page of a module and ends with it."""
    yield
    import browser

    browser.close()


@pytest.fixture(autouse=True)
def one_seed_a_test(request):
    """What a test draws without a seed of its own depends on its name alone, and a failure comes back when it is run again."""
    torch.manual_seed(zlib.crc32(request.node.nodeid.encode()))


@pytest.fixture(scope="session")
def digits():
    """Sixty real digits with their labels."""
    return data.mnist("test", 60)


@pytest.fixture(scope="session")
def net():
    """A small convolutional network, trained here for some seconds: good on digits, weak under attack."""
    x, y = data.mnist("train", 6000)
    torch.manual_seed(0)
    model = models.stability_cnn()
    training.fit(model, x, y, epochs=2, optimizer=lambda w: torch.optim.Adam(w, 2e-3), progress=False)
    return model


@pytest.fixture(scope="session")
def photographs(tmp_path_factory):
    """Three cuts of each of scikit-learn's photographs, of a palace and of a daisy, in a folder for each synset of ImageNet."""
    from PIL import Image
    from sklearn.datasets import load_sample_image

    root = tmp_path_factory.mktemp("photographs")
    for name, synset in (("china.jpg", "n03877845"), ("flower.jpg", "n11939491")):
        (root / synset).mkdir()
        pixels = load_sample_image(name)
        for k, cut in enumerate((pixels, pixels[:, ::-1], pixels[20:-20, 60:-20])):
            Image.fromarray(cut.copy()).save(root / synset / f"{k}.png")
    return root


def pytest_terminal_summary(terminalreporter, config):
    """What the run left; and seconds of each notebook, the start of its kernel included; with xdist, of all workers."""
    if left := config.stash.get(LEFT, []):
        terminalreporter.section("left in the checkout")
        for name in left:
            terminalreporter.line(name)
    seconds, tests = Counter(), Counter()
    for report in chain.from_iterable(terminalreporter.stats.values()):
        path = Path(getattr(report, "nodeid", "").partition("::")[0])
        if path.suffix == ".ipynb":
            seconds[path.stem] += getattr(report, "duration", 0.0)  # deselected cells are no reports, and have none
        elif hasattr(report, "duration"):
            tests[report.nodeid] += report.duration
    if os.environ["ADVLAB_TURNS"] == "1":
        days = list(turns().values())
        today = days.count(int(os.environ["ADVLAB_DAY"]) % TURNS)
        terminalreporter.line(f"Of {len(days)} long tests it was the turn of {today} today; --slow runs all.")
    elif config.getoption("--slow") and config.args_source is pytest.Config.ArgsSource.TESTPATHS:
        long = "".join(f"{s:.1f} {name}\n" for name, s in tests.most_common() if s > LONG)
        (config.rootpath / "build" / "heavy.txt").write_text(long)
    if seconds:
        import chores

        chores.record(seconds, config.rootpath / "build" / "execution_times.json", "make test")
        terminalreporter.section("execution times of the notebooks")
        for name, s in sorted(seconds.items()):
            terminalreporter.line(f"{name:28}{s:7.0f} s")
        over = "" if seconds.total() < chores.LIMIT else f", OVER THE LIMIT of {chores.LIMIT} s"
        terminalreporter.line(f"{'together':28}{seconds.total():7.0f} s{over}")
