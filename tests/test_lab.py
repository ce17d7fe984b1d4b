"""JupyterLab opens chapter 0 and runs it; the live figure answers, and its values reach the kernel."""

from browser import jupyterlab, needs_chromium, page

KERNEL = "window.jupyterapp.shell.currentWidget?.sessionContext?.session?.kernel"
IDLE = f"() => {KERNEL}?.status === 'idle'"


@needs_chromium
def test_chapter_0_runs_and_its_figures_answer(tmp_path):
    with jupyterlab(tmp_path) as address, page() as p:
        p.set_default_timeout(180_000)
        p.goto(address.format("notebooks/00_start_here.ipynb"))
        p.wait_for_selector(".jp-NotebookPanel .jp-Cell")
        p.wait_for_function(IDLE)
        for command in ("notebook:clear-all-cell-outputs", "notebook:run-all-cells"):
            p.evaluate(f"() => window.jupyterapp.commands.execute('{command}').then(() => null)")
        p.wait_for_selector(".widget-slider")
        p.wait_for_selector(".widget-html img")  # the last figure of the notebook, drawn by the kernel
        p.wait_for_function(IDLE)
        assert p.locator("[data-mime-type='application/vnd.jupyter.error']").count() == 0

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

        ask = "import gc; from advlab.live import DigitAttack as D; "
        ask += "f = [o for o in gc.get_objects() if isinstance(o, D)][-1]; print(f.method, f.eps, len(f.probabilities))"
        said = p.evaluate(
            f"""async () => {{ let said = ''; const asked = {KERNEL}.requestExecute({{code: `{ask}`}});
            asked.onIOPub = (m) => {{ if (m.content.name === 'stdout') said += m.content.text; }};
            await asked.done; return said; }}"""
        )
        assert said.split() == ["pgd", "0.3", "10"]
