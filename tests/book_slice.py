"""A few pages of the book, built aside under the book's own configuration, for tests of what `make book` does not show."""

import subprocess
import sys
from pathlib import Path

import yaml
from browser import ROOT


def build(folder, pages, builder="html", change=lambda config: None):
    """Build ``pages`` (the first is the root) into ``folder``; ``change`` may change the configuration.

    Returns the folder of the result and the warnings, a line each, without those of links to pages that were left out.
    """
    config = yaml.safe_load((ROOT / "book" / "_config.yml").read_text())
    extensions = config["sphinx"]["local_extensions"]
    config["sphinx"]["local_extensions"] = {name: str(ROOT / "book" / where) for name, where in extensions.items()}
    change(config)
    (folder / "_config.yml").write_text(yaml.safe_dump(config))
    toc = {"format": "jb-book", "root": pages[0], "chapters": [{"file": page} for page in pages[1:]]}
    (folder / "_toc.yml").write_text(yaml.safe_dump(toc))
    command = [Path(sys.executable).with_name("jupyter-book"), "build", ROOT, "-q", "--builder", builder]
    command += ["--config", folder / "_config.yml", "--toc", folder / "_toc.yml", "--path-output", folder]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    left_out = ("myst.xref_missing", "unknown document")
    return folder / "_build" / builder, [w for w in done.stderr.splitlines() if not any(words in w for words in left_out)]
