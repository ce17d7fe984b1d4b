"""The page "Bring your network", followed by a reader: each block of Python as it stands, one after the other."""

import re
import shlex
import warnings

import matplotlib
import pytest
from browser import ROOT

from advlab.__main__ import main

PAGE = (ROOT / "book" / "bring_your_network.md").read_text()


@pytest.fixture(scope="module")
def followed(tmp_path_factory):
    """The names that a reader has at the end, and what was printed."""
    matplotlib.use("Agg")
    printed, names = [], {}
    with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings():
        warnings.filterwarnings("ignore", module="torch.onnx")  # torch's, of its older exporter
        warnings.filterwarnings("ignore", category=DeprecationWarning)
        patch.chdir(tmp_path_factory.mktemp("reader"))
        names["print"] = lambda *parts: printed.append(" ".join(map(str, parts)))
        for number, block in enumerate(re.findall(r"^```python\n(.*?)^```", PAGE, re.S | re.M)):
            exec(compile(block, f"block {number} of the page", "exec"), names)
    yield names, printed
    names["plt"].close("all")


def test_bounds_proofs_and_attacks_are_in_order(followed):
    names, printed = followed
    assert names["bounded"].provable <= names["exact"].provable <= names["exact"].upper <= names["attacked"].accuracy
    curves = [names[name] for name in ("certified", "proved", "not_broken", "attacks_leave")]
    for at_one_budget in zip(*curves, strict=True):
        assert list(at_one_budget) == sorted(at_one_budget)
    for curve in curves:
        assert curve == sorted(curve, reverse=True), "a curve falls"
    assert curves[-1][0] == names["attacked"].clean
    assert not names["attacked"].flags
    assert printed[0].startswith("proved by bounds alone")


def test_the_smallest_budget_is_between_a_proof_and_a_witness(followed):
    names, _ = followed
    bracket, net, x, y = (names[name] for name in ("bracket", "net", "x", "y"))
    assert 0.1 < bracket.proved < bracket.broken <= bracket.proved + 0.4
    assert int(net(bracket.witness[None]).argmax()) != int(y[0])
    assert float((bracket.witness - x[0]).abs().max()) <= bracket.broken + 1e-7


def test_normalisation_inside_is_that_outside_and_the_file_is_the_network(followed):
    names, printed = followed
    assert float(printed[-3]) < 1e-5
    assert printed[-2] == "['0.127', '0.129', '0.120']"
    assert (names["shape"], [layer.units for layer in names["form"].hidden]) == ((3, 8, 8), [16])


def test_the_commands_of_the_page_are_those_that_there_are(capsys):
    lines = re.findall(r"^python -m advlab (.*)$", PAGE, re.M)
    assert len(lines) == 3
    for line in lines:
        code = None
        try:
            code = main(shlex.split(line))
        except SystemExit as stop:
            code = stop.code
        said = capsys.readouterr().err
        assert code in (1, 2)
        assert "unrecognized" not in said
        assert re.search("photos|NET.onnx|SPEC", said), "what is missing is the reader's own files"


def test_flags_and_pages_that_the_symptoms_name_exist():
    for flag in re.findall(r"\(flags/([\w-]+)\.md\)", PAGE):
        assert (ROOT / "book" / "flags" / f"{flag}.md").is_file(), flag
