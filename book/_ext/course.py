"""A teacher's numbers: what a chapter and its exercises take, computed.

{minutes}`read:00_start_here + exercises:start_here:easy` is a sum of minutes: to read a notebook and try it (as the role
``reading`` counts), or for a chapter's exercises, all or of one level. ```{course-plan}``` is a table of chapters;
```{exercise-list}``` of all exercises.
"""

import json
import re
from pathlib import Path

from docutils import nodes
from manifest import ROOT, depends_on, grid, reading, shown, unmarked
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from sphinx.util.docutils import SphinxDirective, SphinxRole

from labbook import exercises
from labbook.words import said


def notebooks() -> list[Path]:
    """The chapters; their appendices, 03a_..., are no part of a course."""
    return sorted((ROOT / "notebooks").glob("[0-9][0-9]_*.ipynb"))


def solving(chapter: str, level: str | None = None) -> int:
    """Minutes for the exercises of a chapter. Raises ValueError where there are none."""
    found = [e.minutes for e in exercises.exercises(chapter) if level in (None, e.level)]
    if not found:
        raise ValueError(f"{chapter!r} has no exercises{f' of the level {level!r}' if level else ''}")
    return sum(found)


def minutes(env: BuildEnvironment, term: str) -> int:
    kind, name, *level = term.strip().split(":")
    if kind not in ("read", "exercises"):
        raise ValueError(f"{term!r} is not read:NOTEBOOK or exercises:CHAPTER[:LEVEL]")
    return reading(env, name) if kind == "read" else solving(name, *level)


class Minutes(SphinxRole):
    def run(self) -> tuple[list[nodes.Node], list[nodes.system_message]]:
        try:
            total = sum(minutes(self.env, term) for term in self.text.split("+"))
        except (ValueError, FileNotFoundError) as e:
            return [], [self.inliner.reporter.warning(str(e), line=self.lineno)]
        return [nodes.Text(said(f"{total} minutes"))], []


class CoursePlan(SphinxDirective):
    def run(self) -> list[nodes.Node]:
        measured = json.loads(depends_on(self.env, "execution_times.json").read_text())
        rows = []
        for path in notebooks():
            heading = shown(self.env, path.stem).cells[0].source.splitlines()[0].lstrip("# ")
            title = re.split("[:：]", unmarked(heading))[0]
            chapter = path.stem[3:]
            own = exercises.exercises(chapter) if chapter in exercises.CHAPTERS else []
            levels = ", ".join(said(f"{n} {v}") for v in exercises.LEVELS if (n := sum(e.level == v for e in own)))
            run = f"{measured[path.stem]['seconds']} s" if path.stem in measured else "–"
            done = f"{sum(e.minutes for e in own)} min ({levels})" if own else "–"
            rows.append((f"{int(path.stem[:2])}. {title}", f"{reading(self.env, path.stem)} min", run, done))
        return [grid(("chapter", "to read and try", "to run all cells", "exercises"), rows)]


class ExerciseList(SphinxDirective):
    def run(self) -> list[nodes.Node]:
        number = {path.stem[3:]: str(int(path.stem[:2])) for path in notebooks()}
        rows = [(number.get(e.chapter, "–"), e.title, e.level, f"{e.minutes} min", e.id) for e in exercises.exercises()]
        return [grid(("chapter", "exercise", "level", "time", "name for check"), rows)]


def setup(app: Sphinx) -> dict:
    app.add_role("minutes", Minutes())
    app.add_directive("course-plan", CoursePlan)
    app.add_directive("exercise-list", ExerciseList)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
