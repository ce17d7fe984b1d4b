"""The manifest: entries are complete and current, code versions notice code and nothing else, and prose holds no results."""

import dataclasses
import json
import re
import sys
import textwrap

import pytest
from browser import ROOT

from advlab import results

CLAIMS = results.claims()
ENTRIES = [e for chapter in results.CHAPTERS for e in results.load(chapter, ROOT / "book" / "results").values()]


def test_every_claim_has_an_entry_and_every_entry_a_claim():
    assert {c.id for c in CLAIMS} == {e.id for e in ENTRIES}


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda e: e.id)
def test_no_entry_is_older_than_what_it_depends_on(entry):
    assert results.stale(entry) is None, f"run  {entry.command}"
    assert results.reworded(entry) == entry, "run  python -m advlab reproduce --stale"


@pytest.mark.parametrize("claim", CLAIMS, ids=lambda c: c.id)
def test_each_recipe_runs_on_a_slice(claim):
    entry = results.measure(claim, n=8)
    assert entry.n == 8
    assert entry.value >= 0
    assert entry.code == results.code_version(claim.measure)
    assert set(entry.inputs) == set(claim.networks) != set()
    if entry.interval:
        assert entry.interval[0] <= entry.value <= entry.interval[1]


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A package of two modules, and how to change and load it again."""
    files = {
        "__init__": "",
        "low": 'def used(x):\n    """Doc."""\n    return x + 1  # why\n\ndef unused(x):\n    return x\n\nCONSTANT = 3\n',
        "top": "from . import low\nfrom .low import CONSTANT\n\n"
        "def helper(x):\n    return low.used(x)\n\ndef measure():\n    return helper(CONSTANT)\n",
    }
    (tmp_path / "pack").mkdir()
    monkeypatch.syspath_prepend(str(tmp_path))

    def version(**changes):
        for name, text in files.items():
            for old, new in changes.get(name, {}).items():
                assert old in text
                text = text.replace(old, new)
            (tmp_path / "pack" / f"{name}.py").write_text(text)
        for name in [m for m in sys.modules if m.partition(".")[0] == "pack"]:
            monkeypatch.delitem(sys.modules, name)
        results._module.cache_clear()
        import importlib

        importlib.invalidate_caches()
        return results.code_version(importlib.import_module("pack.top").measure)

    yield version
    results._module.cache_clear()


def test_the_code_version_follows_code_and_nothing_else(package):
    base = package()
    assert package() == base
    same = [
        {"low": {'"""Doc."""': '"""Other words,\n    on two lines."""'}},
        {"low": {"# why": "# because"}},
        {"low": {"x + 1": "x  +  1"}},
        {"low": {"def unused(x):\n    return x": "def unused(x):\n    return -x"}},
    ]
    other = [
        {"low": {"x + 1": "x + 2"}},
        {"low": {"CONSTANT = 3": "CONSTANT = 4"}},
        {"top": {"low.used(x)": "-low.used(x)"}},
        {"top": {"helper(CONSTANT)": "helper(2)"}},
    ]
    assert all(package(**change) == base for change in same)
    versions = [package(**change) for change in other]
    assert base not in versions
    assert len(set(versions)) == len(versions)


def test_the_real_claims_reach_the_real_attacks(monkeypatch):
    (pgd,) = (c for c in CLAIMS if c.id == "start_here.pgd")
    before = results.code_version(pgd.measure)
    definitions, _ = results._module("advlab.attacks", "advlab")
    text, reached = definitions["_project"]
    monkeypatch.setitem(definitions, "_project", (text + "#", reached))
    assert results.code_version(pgd.measure) != before
    (clean,) = (c for c in CLAIMS if c.id == "start_here.clean")
    monkeypatch.undo()
    assert results.code_version(pgd.measure) == before != results.code_version(clean.measure)


def test_staleness_is_seen():
    entry = ENTRIES[0]
    for change in ({"code": "0" * 16}, {"inputs": {"mnist_cnn7": "0"}}, {"id": "start_here.gone"}):
        assert results.stale(dataclasses.replace(entry, **change))


def test_entries_show_and_save_and_load(tmp_path):
    entry = dataclasses.replace(
        ENTRIES[0], value=0.98765, interval=(0.97, 0.995), n=1000, unit="%", digits=1, paper=None, where=None
    )
    assert entry.show() == "98.8\u00a0%"
    assert entry.show("interval") == "97.0 to 99.5"
    assert entry.show("paper") == "–"
    assert entry.show("full") == "98.8\u00a0% (n = 1,000, 95 % interval 97.0 to 99.5)"
    with pytest.raises(ValueError, match="not a part"):
        entry.show("colour")
    results.save([entry], tmp_path)
    results.save([ENTRIES[1]], tmp_path)
    assert list(results.load("start_here", tmp_path).values()) == [entry, ENTRIES[1]]
    json.loads((tmp_path / "start_here.json").read_text())
    assert results.load("start_here", tmp_path / "nowhere") == {}
    with pytest.raises(KeyError, match=r"start_here\.clean"):
        results.get("start_here.no_such")
    shown = results.table("start_here", [ENTRIES[0].id])
    assert ENTRIES[0].title in repr(shown)
    assert ENTRIES[0].show() in shown._repr_html_()


def test_bad_claims_are_refused():
    for id, options in [
        (CLAIMS[0].id, {}),
        ("nowhere.x", {}),
        ("start_here.x", {"tier": "huge"}),
        ("start_here.x", {"paper": 1.0}),
    ]:
        with pytest.raises(ValueError, match="claim"):
            results.claim(id, "t", **options)(lambda: results.Measurement(0.0))
    with pytest.raises(ValueError, match="no chapter"):
        results.claims("nowhere")


# ------------------------------------------------------------------------------------------ numbers in prose

RESULT = re.compile(r"(?<![\w.])\d+[.,]\d+\b|\b\d+(?:\.\d+)?\s?(?:%|percent\b|per cent\b)")


def prose(text):
    """The prose of a MyST page: without front matter, code, mathematics, roles, links, directives' options and comments."""
    text = re.sub(r"\A---.*?\n---\n", "", text, flags=re.S)
    text = re.sub(r"^(```|~~~).*?^\1", "", text, flags=re.S | re.M)
    text = re.sub(r"\$\$.*?\$\$|\$[^$\n]+\$|``.*?``|`[^`\n]+`", "", text, flags=re.S)
    text = re.sub(r"\]\([^)]*\)|https?://\S+|^:\w+:.*$", "", text, flags=re.M)
    return re.sub(r"(?<=\d),(?=\d{3}\b)", "", text)


ALLOWED = re.compile(r"CC BY(-SA)? \d\.\d|Python 3\.\d+|95 %")  # licences, versions, the level of every interval


def typed_results(text):
    """Decimal numbers and percentages in prose. A setting, such as a budget, is written as mathematics or as code."""
    return [m for line in prose(text).splitlines() for m in RESULT.findall(ALLOWED.sub("", line))]


PAGES = [p for p in [*ROOT.glob("notebooks/*.md"), *ROOT.glob("book/**/*.md"), ROOT / "README.md"] if "build" not in p.parts]


@pytest.mark.parametrize("path", PAGES, ids=lambda p: p.name)
def test_no_result_is_typed_into_prose(path):
    assert typed_results(path.read_text()) == []


def test_a_typed_result_would_be_found():
    for bad in (
        "the accuracy is 99.43 %.",
        "Robust accuracy fell to 12%",
        "a median of 1.34 in l2",
        "about 45 percent",
        "| FGSM | 0.46 |",
    ):
        assert typed_results(textwrap.dedent(bad)), bad
    for good in (
        "$\\epsilon = 0.3$",
        "`eps=0.1`",
        "in 500 dimensions",
        "10,000 digits",
        "{result}`start_here.clean`",
        "CC BY-SA 3.0",
    ):
        assert not typed_results(good), good
