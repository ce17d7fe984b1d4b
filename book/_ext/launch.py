"""Buttons on a chapter's page that open it on Binder and Colab, where the project has a public address on GitHub.

The address is [project.urls] Repository in pyproject.toml (``launch_repository`` in the configuration overrides it). The
buttons are plain links: a page asks nobody for anything until a reader presses one.
"""

import sys
from pathlib import Path
from urllib.parse import quote

from sphinx.application import Sphinx
from sphinx.util import logging

sys.path.append(str(Path(__file__).resolve().parents[1]))

import colab
from labbook.words import said

GITHUB = "https://github.com/"


def links(repository: str, page: str) -> dict[str, str]:
    """Where a chapter opens, by service. ``repository`` is "OWNER/NAME", ``page`` a notebook's path without its ending."""
    notebook = quote(f"{page}.ipynb")
    return {
        "Binder": f"https://mybinder.org/v2/gh/{repository}/main?urlpath=lab/tree/{notebook}",
        "Colab": f"https://colab.research.google.com/github/{repository}/blob/colab/{Path(notebook).name}",
    }


def add_buttons(app: Sphinx, page: str, template: str, context: dict, doctree: object) -> None:
    address = app.config.launch_repository or ""
    if not page.startswith("notebooks/") or not address.startswith(GITHUB):
        return
    buttons = [
        {"type": "link", "text": name, "tooltip": said(f"Open this chapter on {name}"), "url": url, "icon": "fas fa-rocket"}
        for name, url in links(address.removeprefix(GITHUB), page).items()
    ]
    group = {"type": "group", "tooltip": said("Run this chapter elsewhere"), "icon": "fas fa-rocket", "label": "launch-buttons"}
    context.setdefault("header_buttons", []).insert(0, group | {"buttons": buttons})


def check(app: Sphinx, config: object) -> None:
    address = app.config.launch_repository
    if address and not address.startswith(GITHUB):
        logging.getLogger(__name__).warning("Binder and Colab need an address on GitHub; this is %s", address)


def setup(app: Sphinx) -> dict:
    app.add_config_value("launch_repository", colab.repository(), "html")
    app.connect("config-inited", check)
    app.connect("html-page-context", add_buttons, priority=600)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
