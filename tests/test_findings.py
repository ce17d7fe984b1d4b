"""The page of what the book found: each finding has its numbers from the manifest, its evidence and its limits."""

import datetime
import math
import re

from browser import ROOT

import chores
from labbook import results

TEXT = (ROOT / "book" / "findings.md").read_text()
FINDINGS = {part.partition("\n")[0]: part for part in TEXT.split("\n### ")[1:]}


def test_each_finding_has_a_result_with_numbers_evidence_and_limits():
    assert len(FINDINGS) >= 10
    for title, text in FINDINGS.items():
        parts = re.findall(r"^\*\*(Result|Evidence|Limits|Prior work)\.\*\* \S", text, re.M)
        assert parts == ["Result", "Evidence", "Limits", "Prior work"], title
        result, _, rest = text.partition("**Evidence.**")
        numbers = re.findall(r"\{result\}`([\w.]+)", result)
        assert numbers, title
        assert re.search(r"\.\./notebooks/0\d_\w+\.ipynb", rest), title


def test_each_chapter_of_a_paper_has_a_finding_and_every_number_is_measured():
    ids = set(re.findall(r"\{result\}`([\w.]+)", TEXT))
    assert {id.partition(".")[0] for id in ids} >= set(results.CHAPTERS) - {"start_here"}
    for id, part in re.findall(r"\{result\}`([\w.]+) ?(\w*)`", TEXT):
        entry = results.get(id)
        assert math.isfinite(entry.value) or (entry.unit, entry.value) == ("log10", -math.inf), f"{id} was not measured"
        assert entry.show(part or "value") != "–", f"{id} has no {part}"


def test_each_section_it_names_exists():
    links = re.findall(r"\.\./notebooks/(\w+)\.ipynb\)([^\n]*)", TEXT)
    assert len(links) >= len(FINDINGS)
    assert sum(bool(re.search(r"\*[^*]+\*", rest)) for _, rest in links) > len(FINDINGS) / 2, "most name a section"
    for notebook, rest in links:
        headings = re.findall(r"^#+ (.*)$", (ROOT / "notebooks" / f"{notebook}.md").read_text(), re.M)
        for named in re.findall(r"\*([^*]+)\*", rest):
            assert any(h.startswith(named) for h in headings), (notebook, named)


def test_each_finding_says_what_was_known_before_where_and_when_we_looked():
    for title, text in FINDINGS.items():
        prior = text.partition("**Prior work.** ")[2]
        assert len(re.findall(r"\((?:19|20)\d\d", prior)) + prior.count("Luo et al.") + prior.count("Gilmer et al.") >= 1, title
        day, words = re.search(r"\*Looked on (\d{4}-\d\d-\d\d): (.+)\.\*", prior).groups()
        assert datetime.date.fromisoformat(day) <= datetime.date.today(), title
        assert re.findall(r'"[^"]{10,}"', words), f"{title}: the words that were searched for"
    for page in (TEXT, (ROOT / "book" / "index.md").read_text(), *(p.read_text() for p in (ROOT / "notebooks").glob("*.md"))):
        assert not re.search(r"not seen elsewhere|nobody (?:has|had)|for the first time|find only here", page)


def test_a_record_older_than_a_year_is_named():
    text = "### A\n\n*Looked on 2025-01-02: x.*\n\n### B\n\n*Looked on 2026-06-01: y.*\n"
    assert chores.old_records(text, datetime.date(2026, 11, 27)) == ["A (2025-01-02)"]
