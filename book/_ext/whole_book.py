"""`jupyter-book build .` and `jupyter-book build book` build what `make book` builds.

Pages stand in book/ and in notebooks/, so the source is the checkout, and the book's own files are book/_config.yml and
book/_toc.yml. Jupyter Book looks for both in the folder that it is given: for the checkout it finds two that lead here,
and from book/ it would not see the notebooks. Either way it then goes on as if it had been told everything.
"""

from pathlib import Path
from typing import Any

from jupyter_book.config import get_final_config
from sphinx.application import Sphinx

ROOT = Path(__file__).resolve().parents[2]


def setup(app: Sphinx) -> dict:
    source, told = Path(app.srcdir), app.config.overrides
    if source == ROOT / "book" or (source == ROOT and Path(told["external_toc_path"]) == ROOT / "_toc.yml"):
        asked = {name: told[name] for name in ("nitpicky",) if name in told}
        toc = {"external_toc_path": str(ROOT / "book" / "_toc.yml"), "latex_individualpages": False}
        whole: dict[str, Any]
        whole, _ = get_final_config(user_yaml=ROOT / "book" / "_config.yml", cli_config=toc | asked, sourcedir=ROOT)
        app.srcdir = app.confdir = type(app.srcdir)(ROOT)
        extensions = whole.pop("extensions")
        told.clear()
        told.update(whole)
        for extension in extensions:
            app.setup_extension(extension)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
