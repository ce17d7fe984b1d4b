"""What the house tells others to do: every command in its pages and workflows exists, and its forms are well formed."""

import re
import subprocess

import pytest
import yaml
from browser import ROOT

GITHUB = ROOT / ".github"
WORKFLOWS = sorted((GITHUB / "workflows").glob("*.yml"))
FORMS = sorted(p for p in (GITHUB / "ISSUE_TEMPLATE").glob("*.yml") if p.stem != "config")
PAGES = [*ROOT.glob("*.md"), *(ROOT / ".ci").iterdir(), *GITHUB.rglob("*.*ml"), *GITHUB.rglob("*.md")]
TARGETS = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), flags=re.M))


def code(text):
    """What a page shows as code, (fenced, inline) each."""
    return re.findall(r"```.*?\n(.*?)```|`([^`\n]+)`", text, flags=re.S)


def commands(path):
    text = path.read_text()
    return "\n".join(a or b for a, b in code(text)) if path.suffix == ".md" else re.sub(r"^ *#.*", "", text, flags=re.M)


def missing(words):
    """What the commands in ``words`` name and the checkout lacks: make's targets, files, modules that are run."""
    made = re.findall(r"\bmake ((?:[a-z]+(?= |$|`)|[A-Z]+=\S+| )+)", words, flags=re.M)
    found = {f"make {word}" for line in made for word in line.split() if "=" not in word and word not in TARGETS}
    named = r"(?<![\w./-])((?:\.ci|book|tests|notebooks|advlab|bench)/[\w./-]+|[a-z-]+\.txt|environment\.yml)"
    roots = (ROOT, ROOT / "tests" / "example_chapter")  # CONTRIBUTING walks through the example
    names = {name.rstrip("/.") for name in re.findall(named, words) if not re.search(r"[A-Z]{4}", name)}  # NAME, CHAPTER
    found |= {name for name in names if not any((root / name).exists() for root in roots)}
    for name in re.findall(r"python -m ((?:advlab|labbook|bench)(?:\.\w+)*)", words):
        ways = [root / name.replace(".", "/") for root in (ROOT, ROOT / "book")]
        found |= (
            {f"python -m {name}"} if not any(w.with_suffix(".py").exists() or list(w.glob("__*__.py")) for w in ways) else set()
        )
    return found


def test_the_search_finds_what_is_missing():
    words = "make nosuch\nmake book TORCH=cuda\npython book/nosuch.py\npip install -r requirements-torch.txt\nx/book/y.py"
    assert missing(words) == {"make nosuch", "book/nosuch.py"}
    assert missing("git clone . ../fresh && make test WHEELS=wheels also") == {"make also"}
    assert missing("python -m bench.attacks, python -m bench.nosuch") == {"python -m bench.nosuch"}


@pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_command_that_is_named_exists(path):
    assert missing(commands(path)) == set()


TOLD = [
    *(ROOT / "notebooks").glob("*.md"),
    *(ROOT / "book").rglob("*.md"),
    *ROOT.glob("*.md"),
    *(p for folder in ("advlab", "book", "bench") for p in (ROOT / folder).rglob("*.py")),
]


def unknown(text):
    """Networks and rows that commands in the text name and that there are not; NAME, ROW and the like are for the reader."""
    from advlab import zoo
    from labbook.adversarial_spheres.million_claims import STEMS
    from labbook.relu_stability.trainings import ABLATION, ROWS

    ways = {
        r"advlab (?:train|verify) ([a-z]+_\w+)(?![\w.:/])": {*zoo.names()},
        r"labbook trainings (\w+_\w+)": {*ROWS, *ABLATION, *STEMS},
        r"bench\.\w+ --network ([a-z]+_\w+)": {*zoo.names()},
    }
    return {name for pattern, there_are in ways.items() for name in re.findall(pattern, text) if name not in there_are}


def test_every_network_that_a_command_names_has_a_recipe():
    assert unknown("`python -m advlab train mnist_02_rs` and python -m labbook trainings mnist_03_fast") == {"mnist_02_rs"}
    assert unknown("python -m bench.proofs --network mnist_03_rs_pruned; advlab verify mine.py:net") == {"mnist_03_rs_pruned"}
    found = {str(path.relative_to(ROOT)): names for path in TOLD if (names := unknown(path.read_text()))}
    assert not found


def test_the_two_commands_of_the_readme_come_first():
    readme = (ROOT / "README.md").read_text()
    first = re.search(r"```sh\n(.*?)```", readme, flags=re.S)[1]
    assert re.findall(r"^make (\w+)", first, flags=re.M) == ["book", "test"]
    assert set(re.findall(r"`make (\w+)`", readme)) <= TARGETS


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_a_workflow_is_well_formed(path):
    workflow = yaml.safe_load(path.read_text())
    assert workflow["name"] == path.stem
    assert workflow["permissions"] == {"contents": "read"}
    assert workflow[True], "YAML 1.1 reads the key  on  as true"
    for job in workflow["jobs"].values():
        assert job["timeout-minutes"] <= 120
        assert all(("uses" in step) != ("run" in step) for step in job["steps"])
        assert job["steps"][0]["uses"].startswith("actions/checkout@")
        for step in job["steps"]:
            done = subprocess.run(["bash", "-n"], input=step.get("run", ""), capture_output=True, text=True)
            assert done.returncode == 0, done.stderr
            for name, value in re.findall(r"\b([A-Z]+)=(\w+)", step.get("run", "")):
                assert f"\n{name} ?=" in (ROOT / "Makefile").read_text(), (name, value)


def test_the_workflows_cover_what_contributing_says():
    runs = {p.stem: str([j["steps"] for j in yaml.safe_load(p.read_text())["jobs"].values()]) for p in WORKFLOWS}
    assert set(runs) == {"quick", "all", "lowest", "links"}
    assert "make quick" in runs["quick"]
    assert ".ci/run" in runs["all"]
    assert "--resolution lowest-direct" in runs["lowest"]
    assert "--builder linkcheck" in runs["links"]
    (job,) = yaml.safe_load((GITHUB / "workflows" / "all.yml").read_text())["jobs"].values()
    oldest = re.search(r'requires-python = ">=(.+)"', (ROOT / "pyproject.toml").read_text())[1]
    assert job["strategy"]["matrix"]["python"][0] == oldest


@pytest.mark.parametrize("path", FORMS, ids=lambda path: path.stem)
def test_a_form_is_well_formed(path):
    form = yaml.safe_load(path.read_text())
    assert set(form) == {"name", "description", "labels", "body"}
    ids = [part["id"] for part in form["body"]]
    assert len(ids) == len(set(ids)) >= 3
    for part in form["body"]:
        assert part["type"] in ("input", "textarea")
        assert part["attributes"]["label"]


def test_the_forms_ask_for_what_is_needed():
    asked = {path.stem: path.read_text() for path in FORMS}
    assert set(asked) == {"bug", "statement", "number"}
    for word in ("command", "expected", "seen", "versions"):
        assert f"id: {word}\n" in asked["bug"]


def test_a_diff_of_a_notebook_is_one_line():
    command = ["git", "check-attr", "diff", "linguist-generated", "merge", "--", "notebooks/00_start_here.ipynb"]
    said = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert [line.split(": ")[1:] for line in said.splitlines()] == [
        ["diff", "unset"],
        ["linguist-generated", "set"],
        ["merge", "unset"],
    ]
    empty = subprocess.run(["git", "hash-object", "-t", "tree", "--stdin"], input="", capture_output=True, text=True, cwd=ROOT)
    command = ["git", "diff", empty.stdout.strip(), "--", "notebooks/00_start_here.ipynb"]
    shown = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert [line for line in shown.splitlines() if line.startswith(("Binary", "+{"))] == [
        "Binary files /dev/null and b/notebooks/00_start_here.ipynb differ"
    ]
