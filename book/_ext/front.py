"""The front page: a chapter's first live figure, and a card for each chapter. All of it is read from the notebooks.

```{live-figure} 00_start_here``` shows the figure, kernel-free; ```{chapter-cards}``` the cards: question, picture, what is
needed, minutes to read and try, minutes of exercises, seconds to run.
"""

import base64
import html
import io
import json
import re

import nbformat
from docutils import nodes
from manifest import ROOT, depends_on, reading, shown, unmarked
from nbformat import NotebookNode
from PIL import Image
from sphinx import addnodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

from labbook import exercises
from labbook.words import said

VIEW, STATE = (f"application/vnd.jupyter.widget-{what}+json" for what in ("view", "state"))
WIDE = 280  #: pixels of a card's picture


def outputs(notebook: NotebookNode) -> list[NotebookNode]:
    """What the code cells show, in order."""
    return [output for cell in notebook.cells for output in cell.get("outputs", []) if "data" in output]


def with_parts(states: dict, id: str) -> dict:
    """The states of a widget and of all that it refers to."""
    found, waiting = {}, [id]
    while waiting:
        id = waiting.pop()
        if id not in found:
            found[id] = states[id]
            waiting += re.findall(r"IPY_MODEL_(\w+)", json.dumps(states[id]))
    return found


def picture(notebook: NotebookNode) -> str:
    """The notebook's first picture, small, as an element of the page; empty where there is none. None of those that wait for
    a guess, which have the answer.
    """
    open_ = NotebookNode(cells=[cell for cell in notebook.cells if not re.search(r"^Guess\(", cell.source, re.M)])
    data = next((output.data["image/png"] for output in outputs(open_) if "image/png" in output.data), None)
    if data is None:
        return ""
    drawn = Image.open(io.BytesIO(base64.b64decode(data))).convert("RGB")
    drawn = drawn.resize((WIDE, round(drawn.height * WIDE / drawn.width)), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    drawn.quantize(12).save(buffer, "png", optimize=True)
    return f'<img alt="" src="data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}">'


def passport(notebook: NotebookNode) -> tuple[str, str, str]:
    """A chapter's title, its question and what it needs, from its first cell, in English or in Chinese.

    Raises ValueError where that has no passport.
    """
    text = notebook.cells[0].source
    title, _, question = re.sub(r"\s*[:：]\s*", ": ", text.splitlines()[0].lstrip("# "), count=1).partition(": ")
    asked = re.search(r"\*\*(?:The question\.|问题。)\*\* (.*)", text)
    needed = re.search(r"\*\*(?:You need|你需要)\*\* ?([^.;。；]*)", text)
    if asked is None or needed is None:
        raise ValueError(f"{title!r} has no passport with **The question.** and **You need**")
    if not question.endswith(("?", "？")):
        question = "".join(re.findall(r"[^.?。？]+(?:[.?](?!\S)\s*|[。？]|.$)", unmarked(asked[1]))[-2:]).strip()
    return unmarked(title), unmarked(question[0].upper() + question[1:]), unmarked(needed[1]).strip()


class LiveFigure(SphinxDirective):
    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        path = ROOT / "notebooks" / f"{self.arguments[0]}.ipynb"
        self.env.note_dependency(str(path))
        notebook = nbformat.read(path, 4)
        shown = next(output for output in outputs(notebook) if VIEW in output.data)
        states, id = notebook.metadata.widgets[STATE]["state"], shown.data[VIEW]["model_id"]
        id = (states[id]["state"].get("inside") or id).removeprefix("IPY_MODEL_")  # here nobody is asked to guess first
        state = json.dumps({"state": with_parts(states, id)}).replace("</", "<\\/")
        view = json.dumps(shown.data[VIEW] | {"model_id": id})
        made = f'<script type="{VIEW}">{view}</script><script type="{STATE}">{state}</script>'
        host = '<script defer src="../_static/live_host.js"></script>'
        return [nodes.raw("", f'<div class="advlab-front">{made}{host}</div>', format="html")]


class ChapterCards(SphinxDirective):
    def run(self) -> list[nodes.Node]:
        measured = json.loads(depends_on(self.env, "execution_times.json").read_text())
        cards, listed = [], nodes.bullet_list()
        for path in sorted((ROOT / "notebooks").glob("[0-9][0-9]_*.ipynb")):
            notebook = shown(self.env, path.stem)
            title, question, needed = passport(notebook)
            title = f"{int(path.stem[:2])}. {title}"
            read, run = reading(self.env, path.stem), measured[path.stem]["seconds"]
            tasks = sum(e.minutes for e in exercises.exercises(path.stem[3:]))
            times = said(f"{read} min to read and try, {tasks} min of exercises, {run} s to run")
            cards.append(
                f'<a class="advlab-card" href="../notebooks/{path.stem}.html">{picture(notebook)}'
                f"<strong>{html.escape(title)}</strong><span>{html.escape(question)}</span>"
                f"<small>{html.escape(said(f'{times}. Needs {needed}.'))}</small></a>"
            )
            to = {"refdomain": "std", "reftype": "doc", "refdoc": self.env.docname, "refexplicit": True, "refwarn": True}
            link = addnodes.pending_xref("", nodes.inline("", title), reftarget=f"/notebooks/{path.stem}", **to)
            listed += nodes.list_item("", nodes.paragraph("", "", link, nodes.Text(f": {question} ({times})")))
        paper = addnodes.only("", listed, expr="latex")
        return [nodes.raw("", f'<div class="advlab-cards">{"".join(cards)}</div>', format="html"), paper]


def setup(app: Sphinx) -> dict:
    app.add_directive("live-figure", LiveFigure)
    app.add_directive("chapter-cards", ChapterCards)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
