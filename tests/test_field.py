"""The field as of one day: the file is well formed, each chapter shows its part, and age is noticed."""

import datetime
import re

import pytest
from browser import ROOT

import chores
from labbook import field
from labbook.registry import CHAPTERS

pytestmark = pytest.mark.book
TEXT = field.FILE.read_text()


def twin(chapter):
    (path,) = (ROOT / "notebooks").glob(f"??_{chapter}.md")
    return path.read_text()


@pytest.mark.parametrize("chapter", CHAPTERS)
def test_each_chapter_ends_with_the_field_as_of_the_files_month(chapter):
    day = field.field()["date"]
    text = twin(chapter)
    assert f"## The field as of {day:%B %Y}\n" in text
    assert text.index("## The field as of") < text.index("## Summary")
    assert text.count(f'field.table("{chapter}")') == 1


def test_the_table_of_a_chapter_holds_its_records_and_nothing_of_others():
    everything = field.field()["record"]
    assert sum(len(field.table(chapter).rows) for chapter in CHAPTERS) == len(everything)
    for chapter in CHAPTERS:
        shown = field.table(chapter)
        own = [r for r in everything if r["chapter"] == chapter]
        assert {row[:3] for row in shown.rows} == {(r["what"], r["value"], r["who"]) for r in own}
        assert [row[3] for row in shown.rows] == sorted((str(r["when"]) for r in own), reverse=True)
        assert shown._repr_html_().count("<tr>") == len(own) + 1
    with pytest.raises(ValueError, match="no record of 'nowhere'"):
        field.table("nowhere")


def test_nothing_is_from_memory():
    assert not re.search(r"memory|probably|~|\?", TEXT.partition("date =")[2])
    assert {r["how"] for r in field.field()["record"]} <= set(field.HOW)


@pytest.mark.parametrize(
    ("wrong", "right", "words"),
    [
        (f"date = {field.field()['date']}", f'date = "{field.field()["date"]}"', "must be a day"),
        ('how = "read"', 'how = "memory"', "how one of read, abstract"),
        ('chapter = "start_here"', 'chapter = "elsewhere"', "a chapter"),
        ("when = 2024", "when = 2027", "not after the file's date"),
        ("when = 2024\n", "", "it must have chapter"),
    ],
)
def test_a_file_that_is_not_as_it_says_is_refused(wrong, right, words):
    assert wrong in TEXT
    with pytest.raises(ValueError, match=words):
        field.read(TEXT.replace(wrong, right, 1))


def test_the_check_warns_after_nine_months(monkeypatch, capsys):
    for days, warned in ((200, False), (280, True)):
        day = datetime.date.today() - datetime.timedelta(days=days)
        monkeypatch.setattr(field, "field", lambda day=day: {"date": day})
        chores.check([])
        assert ("book/field.toml: look again" in capsys.readouterr().out) == warned
