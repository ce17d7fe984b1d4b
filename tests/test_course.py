"""The page for teachers: its minutes are the exercises' and the notebooks' own."""

import html
import json
import re

import pytest
from browser import HTML, ROOT

from labbook import exercises


@pytest.fixture(scope="module")
def page():
    return html.unescape((HTML / "book" / "teaching.html").read_text())


def cells(row):
    return [re.sub("<[^>]+>", "", cell).strip() for cell in re.findall(r"<td.*?>(.*?)</td>", row, flags=re.S)]


def test_the_plan_has_each_chapter_with_its_times(page):
    rows = [cells(row) for row in page.split("<tr")]
    measured = json.loads((ROOT / "book" / "results" / "execution_times.json").read_text())
    for path in (ROOT / "notebooks").glob("[0-9][0-9]_*.ipynb"):
        (row,) = (row for row in rows if row and row[0].startswith(f"{int(path.stem[:2])}. "))
        twin = path.with_suffix(".md").read_text().split("---", 2)[2]
        cells_of = re.findall(r"^```\{code-cell\}.*?^```$", twin, flags=re.M | re.S)
        prose = re.sub(r"^```\{code-cell\}.*?^```$|^\+\+\+.*$|^(:{3,})\{solution\}.*?^\1$", "", twin, flags=re.M | re.S)
        prose = re.sub(r"^:::\{admonition\} Hint .*?^:::$", "", prose, flags=re.M | re.S)
        opened = "\n".join(cell for cell in cells_of if "hide-input" not in cell)
        code = [line for line in opened.splitlines() if line.strip() and not re.match("```|:tags:", line)]
        stored = json.loads(path.read_text())["cells"]
        live = sum("widget-view" in json.dumps([o.get("data", {}) for o in cell.get("outputs", [])]) for cell in stored)
        assert abs(int(row[1].split()[0]) - (len(prose.split()) / 180 + len(code) * 5 / 60 + live)) < 1.5
        if path.stem in measured:
            assert row[2] == f"{measured[path.stem]['seconds']} s"
        own = [e.minutes for e in exercises.exercises() if e.chapter == path.stem[3:]]
        assert row[3].startswith(f"{sum(own)} min (" if own else "–")


def test_every_exercise_is_listed_with_its_name(page):
    rows = [cells(row) for row in page.split("<tr")]
    for e in exercises.exercises():
        (row,) = (row for row in rows if row and row[-1] == e.id)
        assert row[2:4] == [e.level, f"{e.minutes} min"]


def test_sums_of_minutes(page):
    week = next(cells(row) for row in page.split("<tr") if "2, Feature Squeezing" in row and row.count("<td") == 4)
    assert week[3] == f"{sum(e.minutes for e in exercises.exercises('feature_squeezing'))} minutes"
    easy = [e.minutes for e in exercises.exercises("start_here") if e.level == "easy"]
    assert f"{sum(easy)} minutes of easy exercises" in page
