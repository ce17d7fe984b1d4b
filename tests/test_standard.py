"""What every reader of this field expects is in the chapters, runs as it stands there, and does what the text says."""

import time

import jupytext
import pytest
from browser import ROOT

from advlab import attacks, data, evaluate, zoo

pytestmark = pytest.mark.book


def cell(notebook, words):
    """The source of the one code cell of a chapter that has these words."""
    cells = jupytext.read(ROOT / "notebooks" / f"{notebook}.md").cells
    (found,) = (c.source for c in cells if c.cell_type == "code" and words in c.source)
    return found


def test_adversarial_training_as_the_reader_runs_it():
    """Under a CPU minute, within the fifteen lines that were promised, and a gain that no draw of images explains."""
    x, y = data.mnist("test", 1000)
    names = {"net": zoo.load("mnist_cnn7"), "x": x, "y": y}
    exec("import torch\nfrom advlab import attacks, data, evaluate, models", names)
    for words in ("def my_fgsm", "def my_pgd", "def adversarial_training"):
        exec(cell("00_start_here", words), names)
    body = cell("00_start_here", "def adversarial_training").split("def adversarial_training")[1].splitlines()
    assert len(body) <= 15
    x, y = x[:500], y[:500]
    seconds, kept, clean = {}, {}, {}
    for eps in (0.0, 0.1):
        begin = time.process_time()
        net = names["adversarial_training"](eps)
        seconds[eps] = time.process_time() - begin
        attacked = attacks.pgd(net, x, y, eps=0.1, steps=20, random_start=False)
        kept[eps] = int((evaluate.predict(net, attacked) == y).sum())
        clean[eps] = float((evaluate.predict(net, x) == y).double().mean())
    assert max(seconds.values()) < 60
    low, high = (evaluate.clopper_pearson(kept[eps], len(x), 0.999) for eps in (0.1, 0.0))
    assert low[0] > high[1] + 0.3
    assert clean[0.1] > clean[0.0] - 0.03, "on digits it is nearly free at this budget"
