"""What several test files need: a small trained network, real digits, and one thread for small batches.

After a run that had notebooks in it, how long each took is printed, and noted in build/execution_times.json.
"""

from collections import Counter
from itertools import chain
from pathlib import Path

import pytest
import torch

from advlab import data, models, training

torch.set_num_threads(1)
collect_ignore = ["example_chapter"]  # test_example_chapter.py runs it in a copy of the house


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


def pytest_terminal_summary(terminalreporter, config):
    """Seconds of each notebook, the start of its kernel included; with xdist, of all workers."""
    import chores

    seconds = Counter()
    for report in chain.from_iterable(terminalreporter.stats.values()):
        path = Path(getattr(report, "nodeid", "").partition("::")[0])
        if path.suffix == ".ipynb":
            seconds[path.stem] += report.duration
    if seconds:
        chores.record(seconds, config.rootpath / "build" / "execution_times.json", "make test")
        terminalreporter.section("execution times of the notebooks")
        for name, s in sorted(seconds.items()):
            terminalreporter.line(f"{name:28}{s:7.0f} s")
        over = "" if seconds.total() < chores.LIMIT else f", OVER THE LIMIT of {chores.LIMIT} s"
        terminalreporter.line(f"{'together':28}{seconds.total():7.0f} s{over}")
