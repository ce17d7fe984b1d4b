"""The picture of a table: what its cells say is what is drawn, and where a cell says no number nothing is."""

from dataclasses import replace

import pytest

from labbook import dots, results, tables
from labbook.feature_squeezing import tables as feature_squeezing

GRID = tables.Grid(
    "accuracy",
    ("clean", "attacked", "words"),
    (
        ("plain", (("98.0 %", "97.0 to 99.0", "97.5 %†"), ("3 %", "", "12 %"), ("no", "", ""))),
        ("masked", (("90 %", "85–95", ""), ("never", "", "40 %"), ("2 of 3", "", ""))),
    ),
)


@pytest.mark.parametrize(
    ("text", "value"),
    [("1,572\u00a0×", 1572.0), ("10^−8.6", -8.6), ("+1.5", 1.5), ("0 (proved)", None), ("", None), ("–", None), ("a 3", None)],
)
def test_a_cell_is_read_as_the_number_it_shows(text, value):
    assert dots.number(text) == value


def test_what_is_drawn_is_what_the_cells_say():
    labels, panels = tables._panels(GRID)
    assert (labels, [p.title for p in panels]) == (["plain", "masked"], ["clean", "attacked"])
    clean, attacked = dots.picture(labels, panels).axes
    ours = {(line.get_xdata()[0], line.get_ydata()[0]) for line in clean.lines if line.get_marker() == "o"}
    assert ours == {(98, 0), (90, 1)}
    assert {tuple(line.get_xdata()) for line in clean.lines if line.get_marker() == "None"} == {(97, 99), (85, 95)}
    theirs = {(line.get_xdata()[0], line.get_ydata()[0]) for line in attacked.lines if line.get_marker() == "D"}
    assert theirs == {(12, 0), (40, 1)}
    assert dots.counted(panels) == (3, 2, 1)
    assert clean.get_xlim() == (-4, 104)


def test_a_column_that_says_nothing_as_dots_is_in_the_table_alone():
    found = replace(GRID, undrawn=("clean",))
    assert [p.title for p in tables._panels(found)[1]] == ["attacked"]
    assert found._repr_html_() == GRID._repr_html_()
    assert "threshold" in feature_squeezing.detection_table("mnist").columns
    assert "threshold" not in [p.title for p in tables._panels(feature_squeezing.detection_table("mnist"))[1]]


def test_the_counts_are_those_of_the_manifest():
    entries = [e for e in results.load("start_here").values() if e.interval]
    found = tables.compared(tables.Table(tuple(entries)))
    both = [e for e in entries if e.paper is not None]
    within = sum(e.interval[0] <= e.paper <= e.interval[1] for e in both)
    assert found.alt.startswith(f"Numbers of ours with their 95 % intervals, {len(entries)}, {len(both)} of them")
    assert f"in our interval {within} times" in found.alt
    assert repr(found) == repr(found.table)


def test_a_table_without_numbers_is_refused():
    with pytest.raises(ValueError, match="no number to draw"):
        tables.compared(tables.Grid("x", ("a",), (("row", (("yes", "", ""),)),)))
