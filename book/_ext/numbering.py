"""Chapters, theorems, exercises and equations have the numbers that the chore wrote into the notebooks (book/dress.py).

A chapter's number is its notebook's; what a directive's ``:enumerator:`` says is checked against what Sphinx counts. A
paragraph that is a caption, ``**Figure 3.1. ...**``, looks like one, and points to what it is of.
"""

import re
import sys
from pathlib import Path
from typing import Any

from docutils import nodes
from docutils.parsers.rst import directives
from sphinx import addnodes
from sphinx.application import Sphinx
from sphinx.directives.patches import MathDirective
from sphinx.environment import BuildEnvironment
from sphinx.transforms import SphinxTransform
from sphinx.transforms.post_transforms import SphinxPostTransform
from sphinx.util import logging
from sphinx_exercise.directive import ExerciseDirective
from sphinx_external_toc.collectors import TocTreeCollectorWithStyles as Collector
from sphinx_proof.directive import ElementDirective

sys.path.append(str(Path(__file__).resolve().parents[1]))

import dress

LOGGER = logging.getLogger(__name__)
CAPTION = re.compile(r"(?:(Figure|图)|Table|表) [\dA-Z]+\.\d+(?:\. ?|。)")
NUMBERED = (ElementDirective, ExerciseDirective, MathDirective)


def chapter(docname: str) -> str | None:
    """A chapter's number; None for a page that is none."""
    folder, _, stem = docname.rpartition("/")
    return dress.chapter_number(stem) if folder == "notebooks" else None


def number_chapters(env: BuildEnvironment) -> None:
    """What a numbered toctree would say, with the chapters' own numbers: in the sidebar, in titles, in front of counts."""
    for docname, toc in env.tocs.items():
        if number := chapter(docname):
            title, *sections = toc.findall(nodes.reference)
            own: Any = {"": (number,)} | {section["anchorname"]: () for section in sections}  # "2A" is a number, too
            env.toc_secnumbers[docname] = own
            env.titles[docname]["secnumber"] = title["secnumber"] = (number,)


def remembering(directive: Any) -> Any:
    """The ``run`` of a directive that also notes, on the node that it makes, the number that the source gives it."""
    plain = directive.run

    def run(self: Any) -> list[nodes.Node]:
        made = plain(self)
        for node in made:
            if isinstance(node, nodes.Element) and not isinstance(node, nodes.target) and "enumerator" in self.options:
                node["enumerator"] = self.options["enumerator"]
        return made

    return run


def check(app: Sphinx, env: BuildEnvironment) -> None:
    """A warning where a number in the source is not the one that the page shows: the chore was not run."""
    for docname, kinds in env.toc_fignumbers.items():
        counted = {id: ".".join(map(str, number)) for ids in kinds.values() for id, number in ids.items()}
        for node in env.get_doctree(docname).findall(nodes.Element):
            told = node.get("enumerator")
            if told and told not in [counted.get(id) for id in node["ids"]]:
                LOGGER.warning("%s is numbered %s here: python book/chores.py dress", node["ids"], told, location=docname)


class Captions(SphinxTransform):
    """A caption is known by its first words."""

    default_priority = 500

    def apply(self, **_: Any) -> None:
        for paragraph in self.document.findall(nodes.paragraph):
            first = next((child for child in paragraph.children if child.astext()), None)
            if isinstance(first, nodes.strong) and (found := CAPTION.match(first.astext())):
                paragraph["classes"] += ["advlab-caption", "figure" if found[1] else "table"]


class OnPaper(SphinxPostTransform):
    """LaTeX counts by itself; it is told the numbers of chapters and equations."""

    default_priority = 4
    builders = ("latex",)

    def run(self, **_: Any) -> None:
        for math in list(self.document.findall(nodes.math_block)):
            if number := math.get("enumerator"):
                label = rf"\label{{equation:{math['docname']}:{math['label']}}}"
                body = rf"\begin{{equation}}{label}\tag{{{number}}}\begin{{split}}{math.astext()}\end{{split}}\end{{equation}}"
                math.replace_self(nodes.raw("", body, format="latex"))
        starts: list[Any] = list(self.document.findall(addnodes.start_of_file))
        for start in starts:
            if (number := chapter(start["docname"])) and number.isdigit():
                start.insert(0, nodes.raw("", rf"\setcounter{{chapter}}{{{int(number) - 1}}}", format="latex"))


def setup(app: Sphinx) -> dict:
    for directive in NUMBERED:
        directive.option_spec = {**(directive.option_spec or {}), "enumerator": directives.unchanged_required}
        directive.run = remembering(directive)
    plain = Collector.assign_section_numbers

    def assign(self: Collector, env: BuildEnvironment) -> list[str]:
        rewrite = plain(self, env)
        number_chapters(env)
        return rewrite

    Collector.assign_section_numbers = assign
    app.connect("env-check-consistency", check)
    app.add_transform(Captions)
    app.add_post_transform(OnPaper)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
