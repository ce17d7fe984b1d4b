"""Chromium under Playwright, and a JupyterLab of its own, for the tests that look at what a reader sees."""

import contextlib
import functools
import html
import json
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest
from ipywidgets.embed import dependency_state

ROOT = Path(__file__).resolve().parents[1]
HTML = Path(os.environ.get("BOOK_HTML") or ROOT / "build" / "_build" / "html")
CHROMIUM = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")
FLAGS = [
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
]
needs_chromium = pytest.mark.skipif(not CHROMIUM, reason="no Chromium here: apt-get install chromium, or set CHROMIUM=PATH")


_running = contextlib.ExitStack()  # Playwright and its browser, while there is one


@functools.cache
def chromium():
    """A headless Chromium: one for all pages until :func:`close`."""
    from playwright.sync_api import sync_playwright

    playwright = _running.enter_context(sync_playwright())
    browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
    _running.callback(browser.close)
    return browser


def close():
    """Ends what :func:`chromium` started."""
    _running.close()
    chromium.cache_clear()


@contextlib.contextmanager
def page(**options):
    """A page of a Chromium, in a fresh context of its own; requests that leave the machine are refused.

    ``page.outside`` lists these, ``page.errors`` what the console reports and the requests that fail.
    """
    with chromium().new_context(**{"viewport": {"width": 1280, "height": 1000}} | options) as context:
        opened = context.new_page()
        opened.outside, opened.errors = [], []

        def route(request):
            url = request.request.url
            if url.startswith(("file:", "data:", "blob:", "http://127.0.0.1", "ws://127.0.0.1")):
                request.continue_()
            else:
                opened.outside.append(url)
                request.abort()

        context.route("**/*", route)
        opened.on("console", lambda message: opened.errors.append(message.text) if message.type == "error" else None)
        opened.on("pageerror", lambda error: opened.errors.append(str(error)))
        opened.on("requestfailed", lambda r: opened.errors.append(r.url) if r.failure == "net::ERR_FILE_NOT_FOUND" else None)
        yield opened


def all_pages():
    """The files of all pages of the built book, in English."""
    return sorted(p for p in HTML.rglob("*.html") if "_static" not in p.parts and p.relative_to(HTML).parts[0] != "zh")


def answered(p):
    """``p`` once every guess on it is answered by "show me", and the figures that waited for one are drawn."""
    p.evaluate(
        "() => document.querySelectorAll('.advlab-guess form:not([hidden]) button[type=button]').forEach((b) => b.click())"
    )
    p.wait_for_function(
        """() => !document.querySelector('.advlab-guess:not(.known), .advlab-guess [aria-busy]')
        && [...document.querySelectorAll('.advlab-live .verdict')].every((e) => e.textContent)"""
    )
    return p


def opened(p, path, guessed=True):
    """``p`` once it shows the page at ``path``: its live figures drawn, those behind guesses too, its formulas set."""
    p.goto(path.as_uri())
    p.wait_for_selector(".bd-article h1, #search-results", state="attached")  # index.html leads on to book/index.html
    p.wait_for_function(
        """() => document.querySelectorAll('script[type="application/vnd.jupyter.widget-view+json"]').length
        === document.querySelectorAll('.advlab-live:not(.advlab-live .advlab-live), .advlab-recorded').length
        && [...document.querySelectorAll('.advlab-live .verdict')].every((e) => e.textContent)"""
    )
    p.evaluate("async () => { await window.MathJax?.startup?.promise; }")
    return answered(p) if guessed else p


@contextlib.contextmanager
def jupyterlab(folder):
    """A JupyterLab on a free port of this machine, on a copy of the notebooks in ``folder``; yields an address to fill."""
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
    root = folder / "root"
    shutil.copytree(ROOT / "notebooks", root / "notebooks", ignore=shutil.ignore_patterns(".ipynb_checkpoints"))
    shutil.copytree(ROOT / "book" / "results", root / "book" / "results")
    names = ("CONFIG_DIR", "DATA_DIR", "RUNTIME_DIR")
    environment = dict(os.environ, IPYTHONDIR=str(folder / "ipython"), **{f"JUPYTER_{n}": str(folder / n) for n in names})
    settings = folder / "settings"
    environment |= {"JUPYTERLAB_SETTINGS_DIR": str(settings), "JUPYTERLAB_WORKSPACES_DIR": str(folder / "workspaces")}
    choices = {
        "apputils-extension/notification": {"fetchNews": "false", "checkForUpdates": False},
        "notebook-extension/tracker": {"windowingMode": "none"},  # keep every cell in the page
    }
    for name, value in choices.items():
        path = settings / "@jupyterlab" / f"{name}.jupyterlab-settings"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(value))
    command = [sys.executable, "-m", "jupyter", "lab", "--no-browser", "--allow-root", f"--port={port}", "--ip=127.0.0.1"]
    command += ["--IdentityProvider.token=t", f"--ServerApp.root_dir={root}", "--expose-app-in-browser"]
    with open(folder / "lab.log", "w") as log:
        server = subprocess.Popen(command, env=environment, stdout=log, stderr=subprocess.STDOUT)
    try:
        for _ in range(240):
            with contextlib.suppress(OSError):
                urllib.request.urlopen(f"http://127.0.0.1:{port}/api?token=t", timeout=2).close()
                break
            time.sleep(0.5)
        else:
            raise RuntimeError((folder / "lab.log").read_text())
        yield f"http://127.0.0.1:{port}/lab/tree/{{}}?token=t&reset"
    finally:
        server.terminate()
        server.wait(30)


def page_of(figures, folder):
    """The address of a page in ``folder`` with live ``figures``, name -> figure, run by the book's host."""
    state = dependency_state(list(figures.values()), drop_defaults=False)
    kind = "application/vnd.jupyter.widget"
    views = "".join(
        f'<p>{html.escape(name)}</p><script type="{kind}-view+json">{json.dumps({"model_id": f.model_id})}</script>'
        for name, f in figures.items()
    )
    stored = json.dumps({"state": state}).replace("</", "<\\/")
    host = (ROOT / "book" / "_static" / "live_host.js").as_uri()
    path = folder / "page.html"
    path.write_text(
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>figures</title><body>{views}'
        f'<script type="{kind}-state+json">{stored}</script><script src="{host}"></script></body></html>'
    )
    return path.as_uri()
