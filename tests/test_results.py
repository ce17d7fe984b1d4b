"""The manifest: entries are complete and current, code versions notice code and nothing else, and prose holds no results."""

import dataclasses
import functools
import inspect
import json
import math
import os
import re
import subprocess
import sys
import textwrap

import pytest
import torch
from browser import ROOT
from scipy.stats import binomtest

from advlab import evaluate, models, zoo
from labbook import digest, entries, results, tables
from labbook.start_here import claims as start_here

CLAIMS = results.claims()
ENTRIES = [e for chapter in results.CHAPTERS for e in results.load(chapter, ROOT / "book" / "results").values()]


def test_claims_come_in_the_order_of_the_chapters_whichever_is_imported_first():
    order = "from labbook import results; print(*dict.fromkeys(c.chapter for c in results.claims()))"
    found = f"import labbook.random_mask.claims; {order}"
    said = subprocess.run([sys.executable, "-c", found], capture_output=True, text=True, check=True).stdout
    assert said.split() == list(results.CHAPTERS)


def test_every_claim_has_an_entry_and_every_entry_a_claim():
    assert {c.id for c in CLAIMS} == {e.id for e in ENTRIES}


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda e: e.id)
def test_no_entry_is_older_than_what_it_depends_on(entry):
    assert results.stale(entry) is None, f"run  {entry.command}"
    assert results.reworded(entry) == entry, "run  python -m labbook reproduce --stale"


def test_a_share_is_of_as_many_as_its_code_asks_for():
    """The code version does not see a number that a claim was made with, such as its sample: it is compared here."""
    entries, asked = {e.id: e for e in ENTRIES}, {}
    for c in CLAIMS:
        n = inspect.signature(c.measure).parameters["n"].default
        if c.unit == "%" and isinstance(n, int) and c.id != "feature_squeezing.many_seeds_mnist":  # n of each attack's hits
            asked[c.id] = n
    assert len(asked) > 20
    assert {id: entries[id].n for id in asked} == asked


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A package of three modules, and how to change and load it again."""
    files = {
        "__init__": "",
        "low": 'def used(x):\n    """Doc."""\n    return x + 1  # why\n\ndef unused(x):\n    return x\n\nCONSTANT = 3\n',
        "there": "KEPT = 1\n",
        "top": "import functools\nfrom math import floor\nfrom warnings import warn\n"
        "from . import low\nfrom .low import CONSTANT\n\n"
        "def helper(x):\n    return low.used(x)\n\ndef twice(f):\n    return lambda: 2 * f()\n\n"
        'def wordy(x):\n    if x < 0:\n        raise ValueError("no")\n    warn("odd", stacklevel=2)\n    assert x, "none"\n'
        "    first = 1\n    second = 2\n    kept = floor(x)\n    shown = [k for k in (first, second)]\n"
        "    plus = lambda v: v + 1\n    return plus(kept) + len(shown)\n\n"
        "def measure():\n    return helper(CONSTANT) + wordy(1) if functools else 0\n",
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
        digest._module.cache_clear()
        import importlib

        importlib.invalidate_caches()
        return digest.code_version(importlib.import_module("pack.top").measure)

    yield version
    digest._module.cache_clear()


WORDS = {
    "docstring": {"low": {'"""Doc."""': '"""Other words,\n    on two lines."""'}},
    "comment": {"low": {"# why": "# because"}},
    "layout": {"low": {"x + 1": "x  +  1"}},
    "a definition that is not reached": {"low": {"def unused(x):\n    return x": "def unused(x):\n    return -x"}},
    "annotation": {"low": {"def used(x)": "def used(x: float) -> float"}, "top": {"def measure()": "def measure() -> float"}},
    "local name": {"top": {"kept = ": "stays = ", "(kept)": "(stays)"}},
    "name in a comprehension": {"top": {"[k for k in": "[each for each in"}},
    "name of a lambda's argument": {"top": {"lambda v: v": "lambda value: value"}},
    "message of an error": {"top": {'ValueError("no")': 'ValueError(f"{x} is not allowed")'}},
    "message of a warning": {"top": {'warn("odd", stacklevel=2)': 'warn("strange", UserWarning)'}},
    "message of an assertion": {"top": {'assert x, "none"': "assert x"}},
    "order of imports": {
        "top": {"from . import low\nfrom .low import CONSTANT\n": "from .low import CONSTANT\nfrom . import low\n"}
    },
    "an import inside": {
        "top": {"from .low import CONSTANT\n": "", "def measure():": "def measure():\n    from .low import CONSTANT"}
    },
    "a decorator that keeps": {"top": {"def measure": "@functools.cache\ndef measure"}},
    "annotated assignment": {"low": {"CONSTANT = 3": "CONSTANT: int = 3"}},
}
COMPUTED = {
    "operator": {"low": {"x + 1": "x - 1"}},
    "number": {"low": {"x + 1": "x + 2"}},
    "constant": {"low": {"CONSTANT = 3": "CONSTANT = 4"}},
    "sign": {"top": {"return low.used(x)": "return -low.used(x)"}},
    "argument": {"top": {"helper(CONSTANT)": "helper(2)"}},
    "which local": {"top": {"(kept)": "(x)"}},
    "condition": {"top": {"if x < 0": "if x <= 0"}},
    "kind of an error": {"top": {"ValueError": "TypeError"}},
    "default": {"top": {"def wordy(x)": "def wordy(x=1)"}},
    "name of a parameter": {"low": {"def used(x)": "def used(v)", "return x + 1": "return v + 1"}},
    "what another package's name means": {"top": {"from math import floor": "from math import ceil as floor"}},
    "a decorator that computes": {"top": {"def measure": "@twice\ndef measure"}},
    "order of statements": {"top": {"first = 1\n    second = 2": "second = 2\n    first = 1"}},
}


@pytest.mark.parametrize("what", WORDS)
def test_words_are_free(package, what):
    base = package()
    assert package() == base
    assert package(**WORDS[what]) == base


@pytest.mark.parametrize("what", COMPUTED)
def test_what_is_computed_counts(package, what):
    base = package()
    assert package(**COMPUTED[what]) != base


USED = 'def used(x):\n    """Doc."""\n    return x + 1  # why\n'
MOVES = {
    "its new module is imported": {
        "low": {"CONSTANT = 3\n": ""},
        "there": {"KEPT = 1": "CONSTANT = 3"},
        "top": {"from .low import": "from .there import"},
    },
    "its old module imports it": {"low": {USED: "from .there import used\n"}, "there": {"KEPT = 1\n": USED}},
    "its old module is a package": {"there": {"KEPT = 1": "CONSTANT = 3"}},
}


@pytest.mark.parametrize("how", MOVES)
def test_moving_a_definition_keeps_the_code_version_and_changing_it_does_not(package, tmp_path, how):
    base, moved = package(), MOVES[how]
    if "package" in how:  # it hides the low.py beside it
        (tmp_path / "pack" / "low").mkdir()
        (tmp_path / "pack" / "low" / "__init__.py").write_text("from ..there import CONSTANT\nfrom .deep import used\n")
        (tmp_path / "pack" / "low" / "deep.py").write_text(USED)
    assert package(**moved) == base
    (old, new), *_ = moved["there"].items()
    changed = new.replace("3", "4").replace("x + 1", "x + 2")
    assert package(**{**moved, "there": {old: changed}}) != base


def test_two_definitions_of_one_name_both_count(package):
    def version(first, second):
        both = "def helper(x):\n    return low.used(x) + there.used(x)\n"
        return package(
            top={"import low": "import low, there", "def helper(x):\n    return low.used(x)\n": both},
            low={"x + 1": first},
            there={"KEPT = 1\n": USED.replace("x + 1", second)},
        )

    assert len({version(first, second) for first in ("x", "-x") for second in ("x", "-x")}) == 3


def test_a_name_that_is_only_declared_or_assigned_is_not_reached(package):
    base = package()
    field = {"top": {"def helper(x):\n": "class Fields:\n    unused: int\n\ndef unused():\n    return 1\n\ndef helper(x):\n"}}
    read = {"top": {**field["top"], "return low.used(x)": "return low.used(x) or Fields"}}
    assert package(**field) == base
    version = package(**read)
    assert version != base
    read["top"]["return 1"] = "return 2"
    assert package(**read) == version, "the field of a class is not the function of its name"


def test_digests_stop_at_a_boundary(package, monkeypatch):
    base = package()
    change = {"low": {"x + 1": "x + 2"}}
    assert package(**change) != base
    monkeypatch.setattr(digest, "BOUNDARIES", {"pack.low:used"})
    assert package() == package(**change) != base


def changed(monkeypatch, module, name):
    """Change the code of a definition of advlab, as far as digests go."""
    definitions, *_ = digest._module(module, frozenset(digest.PACKAGES))
    text, reached = definitions[name]
    monkeypatch.setitem(definitions, name, (text + "#", reached))


def test_the_digest_of_a_claim_has_its_own_networks_and_no_others(monkeypatch):
    (c,) = (c for c in CLAIMS if c.id == "start_here.pgd")
    before = results.claim_version(c)
    for module, name in (("advlab.recipes", "RECIPES"), ("labbook.registry", "CHAPTERS"), ("advlab.zoo", "train")):
        changed(monkeypatch, module, name)
    other = dataclasses.replace(zoo.recipe("mnist_cnn7"), build=models.stability_cnn)
    monkeypatch.setitem(zoo.RECIPES, "of_another_chapter", other)
    assert results.claim_version(c) == before, "a recipe or a chapter is added"
    with monkeypatch.context() as m:
        changed(m, "advlab.models", "stability_cnn")
        assert results.claim_version(c) == before, "another's build is changed"
    for module, name in (("advlab.models", "mnist_cnn7"), ("advlab.models", "Normalize"), ("advlab.zoo", "load")):
        with monkeypatch.context() as m:
            changed(m, module, name)
            assert results.claim_version(c) != before, name
            entry = dataclasses.replace(ENTRIES[0], id=c.id, code=before, inputs=results.inputs(c))
            assert results.stale(entry) == "the code it depends on has changed since"
    assert results.stale(entry) is None


def test_the_build_of_a_network_is_a_function_or_a_partial_of_one(monkeypatch):
    (c,) = (c for c in CLAIMS if c.id == "start_here.pgd")

    def version(build):
        monkeypatch.setitem(zoo.RECIPES, "mnist_cnn7", dataclasses.replace(zoo.recipe("mnist_cnn7"), build=build))
        return results.claim_version(c)

    partial = functools.partial
    net = models.mnist_cnn7
    versions = [
        version(b) for b in (net, models.stability_cnn, partial(net, 0.5), partial(net, dropout=0.5), partial(net, 0.4))
    ]
    assert len(set(versions)) == len(versions)
    net = models.stability_cnn
    assert version(partial(net, size=32, channels=3)) == version(partial(partial(net, channels=3), size=32))
    for build in (lambda: net(), models.Normalize, functools.cache(net), partial(net, object()), partial(lambda: net())):
        with pytest.raises(ValueError, match="no code version: it must be a function"):
            version(build)


def test_the_real_claims_reach_the_real_attacks(monkeypatch):
    (pgd,) = (c for c in CLAIMS if c.id == "start_here.pgd")
    before = digest.code_version(pgd.measure)
    changed(monkeypatch, "advlab.attacks.steps", "project")
    assert digest.code_version(pgd.measure) != before
    (clean,) = (c for c in CLAIMS if c.id == "start_here.clean")
    monkeypatch.undo()
    assert digest.code_version(pgd.measure) == before != digest.code_version(clean.measure)


@pytest.fixture
def edited(monkeypatch):
    """Read the house's modules as if these edits had been made: file -> (text, other text)."""

    def edit(edits):
        def source(path):
            text = path.read_text()
            old, new = edits.get(str(path.relative_to(ROOT)), ("", ""))
            assert old in text, f"{path} has no {old!r} any more: edit something else"
            return text.replace(old, new) if old else text

        monkeypatch.setattr(digest, "_source", source)
        digest._module.cache_clear()

    yield edit
    digest._module.cache_clear()


def test_better_words_make_no_number_stale(edited):
    edited(
        {
            "advlab/checks.py": ("eps is {eps}; a budget is", "the budget is {eps}, but must be"),
            "advlab/squeezing/squeezers.py": ("-> Tensor:", '-> "Tensor | None":'),
            "advlab/verification/search.py": ("_Node] = []", "object] = []"),
            "advlab/verification/reduced.py": ("mover", "helper_of_this_loop"),
            "advlab/spheres/geometry.py": ("Guarantee:", "What is guaranteed:"),
            "book/labbook/start_here/claims.py": ('    "Clean accuracy', '    "Accuracy on clean images'),
        }
    )
    stored = {e.id: e.code for e in ENTRIES}
    assert [c.id for c in CLAIMS if results.claim_version(c) != stored[c.id]] == []


@pytest.mark.parametrize(
    ("file", "old", "new", "claim", "other"),
    [
        ("advlab/attacks/losses.py", "amax(1) - own", "amax(1) + own", "start_here.pgd", "start_here.clean"),
        (
            "advlab/squeezing/squeezers.py",
            "2 ** int(bits) - 1",
            "2 ** int(bits)",
            "feature_squeezing.detected_mnist_1bit",
            "start_here.pgd",
        ),
        ("advlab/verification/search.py", "> deadline", ">= deadline", "relu_stability.rs_provable", "start_here.pgd"),
        ("advlab/masking/masks.py", "round(drop *", "int(drop *", "random_mask.50_redrawn", "start_here.clean"),
        ("advlab/models.py", "nn.Linear(1024, 200)", "nn.Linear(1024, 201)", "start_here.clean", "relu_stability.rs_test"),
    ],
)
def test_a_computed_line_makes_its_numbers_stale(edited, file, old, new, claim, other):
    edited({file: (old, new)})
    stored = {e.id: e.code for e in ENTRIES}
    changed = [c.id for c in CLAIMS if c.id in (claim, other) and results.claim_version(c) != stored[c.id]]
    assert changed == [claim]


def test_staleness_is_seen():
    c = CLAIMS[0]
    entry = dataclasses.replace(ENTRIES[0], id=c.id, code=results.claim_version(c), inputs=results.inputs(c))
    assert results.stale(entry) is None
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


def test_a_log10_is_shown_as_a_power_of_ten():
    entry = dataclasses.replace(
        ENTRIES[0], value=-8.654, interval=(-8.84, -8.5), n=None, unit="log10", digits=1, paper=-12, where="x"
    )
    assert entry.show() == "10^−8.7"
    assert entry.show("interval") == "10^−8.8 to 10^−8.5"
    assert entry.show("paper") == "10^−12.0"
    assert dataclasses.replace(entry, value=0.5).show() == "10^0.5"
    assert dataclasses.replace(entry, digits=2).show("full") == "10^−8.65 (95 % interval 10^−8.84 to 10^−8.50)"
    proved = dataclasses.replace(entry, value=-math.inf, interval=(-math.inf, -8.5))
    assert proved.show() == "0 (proved)"
    assert proved.show("interval") == "0 to 10^−8.5", "the end of an interval is no proof"


def strictly(constant):
    raise AssertionError(f"{constant} is not JSON")


def test_a_series_is_kept_and_comes_back(tmp_path):
    claim = dataclasses.replace(CLAIMS[0], measure=lambda: entries.Measurement(-math.inf, series=series), networks=())
    series = {"steps": [1, 2, 3, 4], "error": [1 / 3, math.nan, math.inf, -math.inf]}
    with pytest.MonkeyPatch.context() as m:
        m.setattr(results, "claim_version", lambda _: "0")  # of a claim without a module
        entry = results.measure(claim)
        series = {"steps": [1, 2], "error": [0.5]}
        with pytest.raises(ValueError, match=r"must have one length; they have .*2.*1"):
            results.measure(claim)
    assert entry.series["error"][0] == 0.3333333333
    results.save([entry], tmp_path)
    text = (tmp_path / "start_here.json").read_text()
    assert '"error": [ 0.3333333333, "nan", "inf", "-inf" ]' in text, "a column is one line"
    json.loads(text, parse_constant=strictly)
    (back,) = results.load("start_here", tmp_path).values()
    assert math.isnan(back.series["error"].pop(1))
    entry.series["error"].pop(1)
    assert back == entry
    assert back.series == {"steps": [1, 2, 3, 4], "error": [0.3333333333, math.inf, -math.inf]}
    assert back.show() == entry.show()


def test_a_list_on_one_line_leaves_the_words_alone(tmp_path):
    entry = dataclasses.replace(ENTRIES[0], note="in [\n   0, 1 ] and [  a ]", title="[\n", flags=("zero-gradient", "[  ]"))
    results.save([entry], tmp_path)
    assert list(results.load("start_here", tmp_path).values()) == [entry]


def test_entries_from_before_flags_and_series_still_load(tmp_path):
    results.save([ENTRIES[0]], tmp_path)
    path = tmp_path / "start_here.json"
    (old,) = json.loads(path.read_text())
    del old["flags"], old["series"]
    path.write_text(json.dumps([old]))
    (entry,) = results.load("start_here", tmp_path).values()
    assert entry == dataclasses.replace(ENTRIES[0], flags=(), series={})


FLAGGED = dataclasses.replace(ENTRIES[0], flags=("zero-gradient", "randomised"), id="start_here.fgsm")


def test_flags_are_shown_where_there_are_any():
    plain = tables.Table((ENTRIES[0],))
    assert "flags" not in plain.head
    table = tables.Table((ENTRIES[0], FLAGGED))
    lines = repr(table).splitlines()
    assert lines[0].endswith("flags")
    assert lines[2].endswith("zero-gradient, randomised")
    assert len(lines) == 3
    assert table._repr_html_().count("zero-gradient, randomised") == 1
    assert "<th>flags</th><th>note</th>" in table._repr_html_()
    assert all(len(row) == len(table.head) for row in table.rows())


def test_the_flags_of_an_attack_reach_its_measurement(monkeypatch):
    found = evaluate.RobustAccuracy(0.5, (0.1, 0.9), 8, 1.0, (evaluate.Flag("randomised", ""),), torch.ones(8), torch.ones(8))
    monkeypatch.setattr(evaluate, "robust_accuracy", lambda *_, eps: found)
    assert start_here.fgsm(n=8).flags == ("randomised",)


def test_random_signs_differ_from_batch_to_batch():
    x, generator = torch.full((4, 1, 28, 28), 0.5), torch.Generator().manual_seed(0)
    first, second = (
        start_here.random_signs(torch.nn.Identity(), x, torch.zeros(4), eps=0.2, generator=generator) for _ in "ab"
    )
    assert not torch.equal(first, second)
    assert torch.equal(first, start_here.random_signs(torch.nn.Identity(), x, x, eps=0.2, generator=generator.manual_seed(0)))
    assert torch.allclose((first - x).abs(), torch.tensor(0.2))


def test_pages_link_each_flag_to_its_page(tmp_path):
    source, manifest = tmp_path / "source", tmp_path / "results"
    manifest.mkdir()
    results.save([ENTRIES[0], FLAGGED], manifest)
    (source / "book" / "flags").mkdir(parents=True)
    for flag in FLAGGED.flags:
        (source / "book" / "flags" / f"{flag}.rst").write_text(f":orphan:\n\nFlag {flag}\n===========================\n")
    role = ":result:`start_here.fgsm%s`"
    page = "Page\n====\n\nA {}, b {}, c :result:`start_here.clean`.\n\n.. results-table:: start_here\n"
    (source / "index.rst").write_text(page.format(role % "", role % " n"))
    environment = os.environ | {"PYTHONPATH": f"{ROOT}/book/_ext:{ROOT}", "ADVLAB_RESULTS": str(manifest)}
    sphinx = [sys.executable, "-m", "sphinx", "-C", "-D", "extensions=manifest", "-b", "html", "-q", "-W", "-E"]
    done = subprocess.run([*sphinx, str(source), str(tmp_path / "out")], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    html = (tmp_path / "out" / "index.html").read_text()
    link = '<a class="reference internal" href="book/flags/{0}.html"><span class="doc">{0}</span></a>'.format
    links = ", ".join(link(flag) for flag in FLAGGED.flags)
    assert f"(flagged: {links})" in html
    assert html.count("(flagged:") == 2, "the role and the table; neither with n nor with a value that has none"
    assert f"(flagged: {links})</p></td>" in html
    (source / "book" / "flags" / "randomised.rst").unlink()
    done = subprocess.run([*sphinx, str(source), str(tmp_path / "out")], env=environment, capture_output=True, text=True)
    assert done.returncode != 0
    assert "book/flags/randomised" in done.stderr


def test_bad_claims_are_refused():
    for id, options in [
        (CLAIMS[0].id, {}),
        ("nowhere.x", {}),
        ("start_here.x", {"tier": "huge"}),
        ("start_here.x", {"paper": 1.0}),
    ]:
        with pytest.raises(ValueError, match="claim"):
            results.claim(id, "t", **options)(lambda: entries.Measurement(0.0))
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
NUMBERS = re.compile(r"(?:Figure|Table) [\dA-Z]+\.\d+|^:enumerator: [\dA-Z]+\.\d+$", re.M)  # written by the chore


def typed_results(text):
    """Decimal numbers and percentages in prose. A setting, such as a budget, is written as mathematics or as code."""
    return [m for line in prose(text).splitlines() for m in RESULT.findall(NUMBERS.sub("", ALLOWED.sub("", line)))]


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


#: Percentages that are means or medians of a number an image, with an interval over the n images.
MEANS = {
    "feature_squeezing.confidence_mnist",
    "feature_squeezing.confidence_cifar10",
    "feature_squeezing.confidence_mobilenet",
    "feature_squeezing.confidence_lite0",
    "feature_squeezing.random_cutoff_mnist",
}


@pytest.mark.parametrize("chapter", results.CHAPTERS)
def test_an_interval_is_over_the_n_beside_it_or_says_over_what(chapter):
    """A share of n has the exact interval of n trials; any other interval names what it is over, in the place of n."""
    for entry in results.load(chapter).values():
        if entry.unit != "%" or entry.interval is None or not entry.n or entry.over or entry.id in MEANS:
            continue
        k = round(entry.value * entry.n)
        low, high = binomtest(k, entry.n).proportion_ci(method="exact")
        assert entry.value == pytest.approx(k / entry.n, abs=1e-9), entry.id
        assert entry.interval == pytest.approx((low, high), abs=1e-9), entry.id


def test_what_an_interval_is_over_stands_in_the_place_of_n():
    entry = results.get("random_mask.arm_element")
    assert entry.show("n") == "3 trainings"
    assert "3 trainings" in entry.show("full")
    assert f"{entry.n:,}" not in entry.show("full")


def test_no_page_quotes_from_memory_and_a_dagger_marks_what_is_unconfirmed():
    pages = [*(ROOT / "book").glob("*.md"), *(ROOT / "notebooks").glob("*.md"), *(ROOT / "book" / "results").glob("*.json")]
    for page in pages:
        found = re.search(r"from memory|remembered|not confirmed", page.read_text())
        assert not found, f"{page.name}: {found[0]}"
    marked = [e for e in ENTRIES if e.where and e.where.endswith(entries.UNCONFIRMED)]
    assert all(e.show("paper").endswith(entries.UNCONFIRMED) for e in marked)
    assert {e.id.partition(".")[0] for e in marked} == {"adversarial_spheres", "relu_stability"}
    shown = tables.Grid("x", ("a",), (("row", (("1", "", f"2{entries.UNCONFIRMED}"),)),))._repr_html_()
    assert "†: unconfirmed." in shown
    assert "Italic" not in tables.Grid("x", ("a",), (("row", (("1", "", ""),)),))._repr_html_(), "no paper's number"
