"""JupyterLab opens each chapter and runs one of them whole; figures answer, values reach the kernel, an exercise is checked."""

import re

import nbformat
import pytest
from browser import ROOT, answered, jupyterlab, needs_chromium, page

import dress

CHAPTERS = sorted(path.stem for path in (ROOT / "notebooks").glob("[0-9][0-9]_*.ipynb"))
VIEW = "application/vnd.jupyter.widget-view+json"
KERNEL = "window.jupyterapp.shell.currentWidget?.sessionContext?.session?.kernel"
IDLE = f"() => {KERNEL}?.status === 'idle'"
COUNTS = """() => window.jupyterapp.shell.currentWidget.content.widgets
  .filter((c) => c.model.type === 'code' && c.model.sharedModel.source.trim()).map((c) => c.model.executionCount)"""
FIRST_CODE = """const all = window.jupyterapp.shell.currentWidget.content;
  all.activeCellIndex = all.widgets.findIndex((cell) => cell.model.type === 'code');"""
DRAWN = """(f) => [f.querySelector('.verdict').textContent, ...[...f.querySelectorAll('canvas')].map((c) => c.toDataURL()),
  ...[...f.querySelectorAll('svg')].map((s) => s.innerHTML)].join('|')"""

pytestmark = needs_chromium


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    with jupyterlab(tmp_path_factory.mktemp("lab")) as address:
        yield address


@pytest.fixture
def chapter(lab):
    """A function that opens a chapter in JupyterLab, its kernel ready; the kernel ends with the test."""
    with page() as p:
        p.set_default_timeout(180_000)

        def at(name):
            p.goto(lab.format(f"notebooks/{name}.ipynb"))
            p.wait_for_selector(".jp-NotebookPanel .jp-Cell")
            p.wait_for_function(IDLE)
            return p

        yield at
        p.evaluate(f"async () => {{ await {KERNEL}?.shutdown(); }}")


def run(p, before=None):
    """Runs cells from clear outputs, all or those above a heading; each has run to its end, without an error."""
    p.evaluate(
        """(before) => { const all = window.jupyterapp.shell.currentWidget.content;
        all.activeCellIndex = all.widgets.findIndex((c) => c.model.sharedModel.source.includes(before)); }""",
        before or "# ",
    )
    for command in ("clear-all-cell-outputs", "run-all-above" if before else "run-all-cells"):
        p.evaluate(f"() => window.jupyterapp.commands.execute('notebook:{command}').then(() => null)")
    p.wait_for_function(IDLE)
    assert p.locator("[data-mime-type='application/vnd.jupyter.error']").count() == 0
    counts = [count for count in p.evaluate(COUNTS) if count is not None]
    assert counts == list(range(1, len(counts) + 1))
    return len(counts)


def a_figure_answers(p):
    """The first live figure with a slider, or else with a checkbox, shows something else after a key is pressed."""
    p.locator(".advlab-live .verdict").first.wait_for()
    answered(p)
    kind = "range" if p.locator(".advlab-live:not(.advlab-guess) input[type=range]").count() else "checkbox"
    figure = f".advlab-live:not(.advlab-guess):has(input[type={kind}])"
    p.locator(f"{figure} .verdict").first.wait_for()
    drawn = f"() => ({DRAWN})(document.querySelector('{figure}'))"
    before = p.evaluate(drawn)
    control = p.locator(f"{figure} input[type={kind}]").first
    if kind == "checkbox":
        control = p.locator(f"{figure} input[type={kind}]").last  # the strongest attack
    control.focus()
    at_the_end = control.evaluate("(e) => e.value === e.max")
    p.keyboard.press("Space" if kind == "checkbox" else "ArrowLeft" if at_the_end else "ArrowRight")
    p.wait_for_function(f"(before) => ({drawn})() !== before", arg=before)


@pytest.mark.parametrize("name", CHAPTERS[1:])
def test_a_chapter_opens_and_its_surprise_answers(name, chapter):
    """All its cells, as the notebook stores them; its first code cell runs, whose figure lives. nbval runs them all."""
    p = chapter(name)
    stored = [c for c in nbformat.read(ROOT / "notebooks" / f"{name}.ipynb", 4).cells if c.cell_type == "code"]
    assert p.evaluate(COUNTS) == [c.execution_count for c in stored]
    outputs = [[o for o in c.outputs if VIEW not in o.get("data", {})] for c in stored]  # figures wait for their cell
    assert p.locator(".jp-CodeCell:has(.jp-OutputArea-output)").count() >= sum(map(bool, outputs)) > 0
    assert p.locator("[data-mime-type='application/vnd.jupyter.error']").count() == 0
    p.evaluate(f"() => {{ {FIRST_CODE} }}")
    p.evaluate("() => window.jupyterapp.commands.execute('notebook:run-cell').then(() => null)")
    a_figure_answers(p)


def test_a_chapter_runs_whole(chapter):
    name = "05_all_against_all"
    p = chapter(name)
    cells = nbformat.read(ROOT / "notebooks" / f"{name}.ipynb", 4).cells
    assert run(p) == sum(c.cell_type == "code" and bool(c.source.strip()) for c in cells)
    a_figure_answers(p)


def test_figures_and_their_kernel_hear_each_other(chapter):
    p = chapter("00_start_here")
    assert run(p, "## Build it: training on the worst case") > 8
    a_figure_answers(p)

    figure = p.locator(".advlab-digit-attack").last
    figure.get_by_role("combobox", name="change").select_option("pgd")
    figure.get_by_label("budget ε").fill("0.3")
    p.wait_for_function("() => document.querySelector('.advlab-digit-attack .verdict.broken')")

    recorded = "() => document.querySelector('.widget-html img').src"
    before = p.evaluate(recorded)
    handle = p.locator(".widget-slider .noUi-handle").last
    handle.focus()
    p.keyboard.press("ArrowRight")
    p.wait_for_function(f"before => ({recorded})() !== before", arg=before)

    ask = "import gc; from labbook.live import DigitAttack as D; "
    ask += "f = [o for o in gc.get_objects() if isinstance(o, D)][-1]; print(f.method, f.eps, len(f.probabilities))"
    said = p.evaluate(
        f"""async () => {{ let said = ''; const asked = {KERNEL}.requestExecute({{code: `{ask}`}});
        asked.onIOPub = (m) => {{ if (m.content.name === 'stdout') said += m.content.text; }};
        await asked.done; return said; }}"""
    )
    assert said.split() == ["pgd", "0.3", "10"]


def test_an_exercise_is_solved_in_the_notebook(chapter):
    """A wrong answer is explained, the solution passes: typed into the cell of the exercise, and run."""
    asked = 'exercises.check("start_here.l2_step", l2_step)'
    text = (ROOT / "notebooks" / "00_start_here.md").read_text()
    solution = re.search(r":::\{solution\} ex-l2\n.*?```python\n(.*?)\n\nassert", text, flags=re.S)[1].rstrip()
    right, wrong = (
        f"{answer}\n\n\n{asked}" for answer in (solution, solution.replace("g / length[:, None, None, None]", "g.sign()"))
    )
    assert wrong != right
    p = chapter("00_start_here")
    cell = p.locator(".jp-CodeCell", has_text=asked)

    def answer(code):
        cell.locator(".cm-content").click()
        p.keyboard.press("Control+a")
        p.keyboard.insert_text(code)
        p.keyboard.press("Control+Enter")

    answer(wrong)
    cell.locator(".advlab-check.wrong").wait_for()
    assert "the step of the other ball" in cell.locator(".advlab-check").inner_text()
    answer(right)
    cell.locator(".advlab-check.solved").wait_for()
    assert "all checks pass" in cell.locator(".advlab-check").inner_text()


def test_jupyterlab_shows_the_numbers_of_the_book(chapter):
    """Of theorems, equations, exercises and figures, and of the references to them."""
    name = "03_relu_stability"
    numbers = dress.Numbers(dress.chapter_number(name))
    source = (ROOT / "notebooks" / f"{name}.md").read_text()
    numbers.numbered(source)
    p = chapter(name)
    last = re.findall(r"^:::\{exercise\} (.*)", source, flags=re.M)[-1]
    p.locator(".jp-MarkdownOutput, .myst").get_by_text(last).first.wait_for()
    text = p.locator(".jp-NotebookPanel").inner_text().replace("\u00a0", " ")
    for label, words in numbers.labels.items():
        assert words in text, label
    asked = [numbers.labels[label] for label in re.findall(r"\{prf:ref\}`([\w-]+)`", source)]
    assert all(text.count(words) > asked.count(words) for words in set(asked))
