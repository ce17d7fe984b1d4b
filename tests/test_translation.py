"""The Chinese edition: messages, translations, drift, built pages; and that all but its words is the English book's."""

import hashlib
import html
import json
import re
import subprocess
import sys
import time

import pytest
from browser import HTML, ROOT, needs_chromium, page
from node import javascript, needs_node

import catalogue
import edition
import messages
import proofread
from labbook import exercises, words
from labbook.live import figure

KNOWN = catalogue.everything()
ROWS = [(name, row) for name, rows in KNOWN.items() for row in rows if row.text]
DOCUMENTS = {name: path for name, path in catalogue.documents().items() if name != "readme"}
CHAPTERS = {name: path.with_suffix(".ipynb") for name, path in DOCUMENTS.items() if path.parent.name == "notebooks"}
TEXT = """\
# A chapter

:::{admonition} Hint 1
:class: tip
Words with $x$ and a
:::

(fig-a)=
**Figure 1.1. A box.** More.

| head | $x$ |
| --- | --- |
| a cell | `code` |

1. An item

$$
x = \\text{words}
$$

```{code-cell} ipython3
print("none")
```

```python
# none
```

```{glossary}
term
  What it is.
```

{result}`start_here.clean`
"""


def digest(value):
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def test_messages_are_the_prose_and_nothing_else():
    found = list(messages.Reader().messages(TEXT))
    expected = ["A chapter", "Hint 1", "Words with $x$ and a", "**Figure 1.1. A box.** More.", "head", "a cell", "An item"]
    assert [m.text for m in found] == [*expected, "term", "What it is."]
    assert {m.context for m in found[1:]} == {"A chapter"}
    assert messages.replaced(TEXT, found, lambda m: m.text) == TEXT
    assert messages.replaced(TEXT, found, lambda m: "译").count("译") == len(found)


@pytest.mark.parametrize("name", DOCUMENTS)
def test_every_text_is_read_whole_and_put_together_again(name):
    reader = messages.Reader()
    texts = catalogue.texts(DOCUMENTS[name])
    assert all(messages.replaced(text, list(reader.messages(text)), lambda m: m.text) == text for text in texts)
    assert reader.headings
    assert set(catalogue.asked(DOCUMENTS[name])) or name.startswith("api/")


def test_a_translation_is_kept_word_for_word_or_dropped():
    known = [catalogue.Row("A", "One box.", "一个盒子。"), catalogue.Row("B", "One box.", "一箱。", ["why"])]
    known += [catalogue.Row("A", "See [Figure 1.2](#fig-a).", "见[图 1.2](#fig-a)。")]
    held = catalogue.Memory(known)
    assert held.row("B", "One box.") == known[1], "its own headings first"
    assert held.row("C", "One box.").text == "一个盒子。", "a paragraph may move"
    assert not held.row("A", "One box!").text
    assert held.row("A", "See [Figure 3.4](#fig-a).").text == "见[图 3.4](#fig-a)。", "dress counted again"
    assert not held.row("A", "See [Figure 1.2](#fig-b).").text


def test_a_file_is_written_and_read_as_it_is(tmp_path):
    rows = [catalogue.Row("A / B", 'A "quoted" \\alpha', "“引用” \\alpha", ["differs: numbers, since"]), catalogue.Row("", "C")]
    path = tmp_path / "x.po"
    assert catalogue.write(path, rows)
    assert not catalogue.write(path, rows)
    assert catalogue.read(path) == rows
    path.write_text(path.read_text().replace("msgctxt", "#, fuzzy\nmsgctxt", 1))
    with pytest.raises(ValueError, match="fuzzy"):
        catalogue.read(path)
    path.write_text('msgid "a\nmsgstr "b"\n')
    with pytest.raises(ValueError, match="no PO file"):
        catalogue.read(path)


def test_every_translation_has_what_its_english_has():
    assert ROWS
    assert not [(name, row.english, fault) for name, row in ROWS for fault in proofread.faults(row)]


@pytest.mark.parametrize(
    ("english", "chinese", "fault"),
    [
        ("By {eq}`eq-a` it is.", "由 {eq}`eq-b` 可知。", "roles"),
        ("Of $x$.", "关于 $y$。", "formulas"),
        ("See [it](a.md).", "见[它](b.md)。", "links"),
        ("There are 1,000.", "有 100 个。", "numbers"),
        ("In November 2026.", "2026 年 10 月。", "numbers"),
        ("**Bold.** Words.", "**粗体。**文字。", "marks"),
        ("Run `make`.", "运行 `make test`。", "code"),
        ("**Figure 1.1. A box.**", "**图 1.2. 一个盒子。**", "图 1.1"),
        ("Adversarial examples.", "对抗例子。", "glossary"),
        ("It is so.", "是这样的, 对。", "signs"),
        ("{1} of {2}", "{1}", "holes"),
    ],
)
def test_a_wrong_translation_is_found(english, chinese, fault):
    found = list(proofread.faults(catalogue.Row("", english, chinese)))
    assert any(fault in words for words in found), found
    excuse = ["differs: roles, formulas, links, numbers, marks, code, signs, holes, since", "glossary: adversarial example"]
    if "图" not in fault:
        assert not list(proofread.faults(catalogue.Row("", english, chinese, excuse)))


def test_the_glossary_has_each_term_once():
    terms = [english for english, _, _ in proofread.glossary()]
    assert len(terms) == len(set(terms)) >= 60


@pytest.mark.parametrize("name", CHAPTERS)
def test_code_outputs_and_widgets_are_those_of_the_english_notebook(name):
    english = json.loads(CHAPTERS[name].read_text())
    chinese = edition.Edition(known=KNOWN).notebook(name, english)
    assert digest(english["metadata"]) == digest(chinese["metadata"])
    assert len(english["cells"]) == len(chinese["cells"])
    for before, after in zip(english["cells"], chinese["cells"], strict=True):
        plain = "source" if before["cell_type"] == "markdown" else None
        assert digest({k: v for k, v in before.items() if k != plain}) == digest({k: v for k, v in after.items() if k != plain})


def test_one_changed_paragraph_is_one_in_english_marked_and_listed():
    """As if all were translated: then an English paragraph changes, and a heading."""
    path = DOCUMENTS["00"]
    known = {"00": [catalogue.Row(context, text, f"译文{k}") for k, (context, text) in enumerate(catalogue.asked(path))]}
    notebook = json.loads(path.with_suffix(".ipynb").read_text())
    whole = edition.Edition(known=known)
    before = whole.notebook("00", notebook)
    assert whole.parts[0].left == []

    def lines(of):
        return "\n".join("".join(c["source"]) for c in of["cells"] if c["cell_type"] == "markdown").split("\n")

    for old, new in (("That gap is what this book is about.", "That gap is it."), ("## A surprise first", "## A surprise")):
        cells = [c | {"source": [line.replace(old, new) for line in c["source"]]} for c in notebook["cells"]]
        changed = edition.Edition(known=known)
        after = changed.notebook("00", notebook | {"cells": cells})
        (left,) = changed.parts[0].left
        assert new.lstrip("# ") in left
        (other,) = [b for a, b in zip(lines(before), lines(after), strict=True) if a != b]
        assert other.endswith(left + edition.MARK)
        assert left[:100] in "\n".join(edition.leftovers(changed.parts))
        assert left in edition.listing(changed.parts)
        assert "100 %" not in edition.coverage(changed.parts)


SAID = [
    ("{1} of {2} digits", "{2} 个数字中的 {1} 个"),
    ("It is right.", "读对了。"),
    ("random signs", "随机正负号"),
    ("ε = {1}, {2}: the network reads {3} ({4}).", "ε = {1}，{2}：网络读作 {3}（{4}）。"),
    ("{#1} to {#2}", "{#1} 至 {#2}"),
    ("accuracy", "准确率"),
]
HEARD = {
    "ε = 0.1, random signs: the network reads 3 (99 %). It is right.": "ε = 0.1，随机正负号：网络读作 3（99 %）。读对了。",
    " It is right. ": " 读对了。 ",
    "Random signs, PGD: 0.1 to 0.2": "随机正负号，PGD: 0.1 至 0.2",
    "It is right. It is odd.": "读对了。It is odd.",
    "changed to another": "changed to another",
    "MNIST: accuracy": "MNIST：准确率",
    "3 of 10 digits": "10 个数字中的 3 个",
    "nothing known": "nothing known",
    "12 %": "12 %",
}


def test_words_are_said_whole_or_sentence_by_sentence():
    table = words.Words(SAID)
    assert {text: table.said(text) for text in HEARD} == HEARD


@needs_node
def test_the_page_says_what_python_says(tmp_path):
    script = (catalogue.FOLDER / "static" / "words.js").read_text() + "\nexport const table = globalThis.advlabTable;"
    found = javascript(tmp_path, script, "(([rows, texts]) => texts.map(figure.table(rows).say))(a)", [SAID, list(HEARD)])
    assert found == list(HEARD.values())


def test_a_row_by_hand_lives_as_long_as_its_english():
    import strings

    row = catalogue.Row("by hand", "{1} on {#2} pixels", "{1}，涂了 {#2} 个像素")
    dead = catalogue.Row("by hand", "{1} on {#2} squares of paper", "")
    assert strings.by_hand("live/00", [row, dead], []) == [row]
    assert strings.by_hand("live/00", [row], [row]) == []


def test_a_check_explains_itself_in_chinese(monkeypatch):
    assert exercises.check("start_here.l2_step", lambda net, x, y, eps: x[:1]).message.startswith("Return the moved")
    monkeypatch.setenv("ADVLAB_LANG", "zh")
    assert "形状" in exercises.check("start_here.l2_step", lambda net, x, y, eps: x[:1]).message
    monkeypatch.setattr(figure, "spoken", figure.spoken.__wrapped__)
    (script,) = figure.spoken()
    assert "advlab-words" in script


def test_the_lab_keeps_what_its_reader_wrote(tmp_path):
    edition.lab(tmp_path)
    path = tmp_path / "notebooks" / "00_start_here.ipynb"
    assert path.with_suffix(".md").exists()
    assert "问题" in path.read_text()
    own = path.read_text().replace("raise NotImplementedError", "return 1", 1)
    path.write_text(own)
    edition.lab(tmp_path)
    assert path.read_text() == own


def test_the_readme_has_the_same_commands_links_and_numbers():
    english, chinese = ((ROOT / name).read_text() for name in ("README.md", "README.zh.md"))
    blocks = re.compile(r"^```.*?^```", re.M | re.S)
    assert blocks.findall(english) == blocks.findall(chinese)
    assert chinese == catalogue.readme()
    mine, theirs = (proofread.parts(blocks.sub("", text)) for text in (english, chinese))
    mine["links"]["](README.zh.md)"] -= 1
    theirs["links"]["](README.md)"] -= 1
    assert all(+mine[kind] == +theirs[kind] for kind in ("links", "code"))


@pytest.fixture(scope="module")
def chinese():
    """The folder of the built Chinese book, brought to what the PO files have now; a warning would end the build."""
    assert (HTML / "book" / "index.html").exists(), "run `make book` first"
    start = time.perf_counter()
    done = subprocess.run([sys.executable, ROOT / "book" / "edition.py", "book"], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stdout + done.stderr
    print(f"{done.stdout}make book-zh took {time.perf_counter() - start:.0f} s")
    return HTML / "zh"


def both(chinese):
    """Pages that there are in both languages: path, English text, Chinese text."""
    for path in sorted(chinese.rglob("*.html")):
        name = path.relative_to(chinese)
        if (HTML / name).exists() and "_static" not in name.parts and len(name.parts) > 1:
            yield name, (HTML / name).read_text(), path.read_text()


def test_every_page_is_there_in_chinese_with_a_switch(chinese):
    seen = list(both(chinese))
    assert len(seen) >= len(DOCUMENTS)
    for name, english, other in seen:
        assert '<html lang="zh-CN"' in other
        (there,) = re.findall(r'<a class="advlab-language btn" href="([^"]+)"', english)
        (back,) = re.findall(r'<a class="advlab-language btn" href="([^"]+)"', other)
        assert (HTML / name.parent / there).resolve() == (chinese / name).resolve()
        assert (chinese / name.parent / back).resolve() == (HTML / name).resolve()


def test_every_link_of_the_chinese_pages_leads_somewhere(chinese):
    broken = []
    for path in sorted(p for p in chinese.rglob("*.html") if "_static" not in p.parts):
        text = path.read_text()
        assert not re.findall(r'<(?:script|link|img|iframe)[^>]*?(?:src|href)="(?:https?:)?//[^"]+"', text), path
        for href in re.findall(r'<a[^>]+href="([^"]+)"', text):
            target, _, fragment = href.partition("#")
            to = (path.parent / target).resolve() if target else path
            if not re.match(r"[a-z]+:", href) and (not to.exists() or (fragment and f'id="{fragment}"' not in to.read_text())):
                broken.append(f"{path.name} -> {href}")
    assert not broken


def test_sections_figures_and_widgets_are_the_same(chinese):
    widgets = re.compile(r'<script type="application/vnd\.jupyter\.widget-(?:state|view)\+json">.*?</script>', re.S)
    for name, english, other in both(chinese):
        sections = [re.findall(r'<section[^>]*\bid="([^"]+)"', text) for text in (english, other)]
        assert sections[0] == sections[1], name
        assert widgets.findall(english) == widgets.findall(other), name
        pictures = [re.findall(r'src="([^"]*_images/[^"]+)"', text) for text in (english, other)]
        assert pictures[0] == pictures[1], name
    for path in (HTML / "_images").iterdir():
        digests = {hashlib.sha256((folder / "_images" / path.name).read_bytes()).hexdigest() for folder in (HTML, chinese)}
        assert len(digests) == 1, path.name


def test_the_front_page_says_how_much_is_translated(chinese):
    index = html.unescape((chinese / "book" / "index.html").read_text())
    assert re.search(r"译文覆盖率：\d+ 条中的 \d+ 条（[\d.]+ %）", index)
    assert "advlab-english" in (chinese / "book" / "translation.html").read_text()


def test_pages_stay_light(chinese):
    assert (chinese / "book" / "index.html").stat().st_size < 1.2e6
    assert all(path.stat().st_size < 3e6 for path in (chinese / "notebooks").glob("*.html"))


@needs_chromium
def test_a_figure_speaks_chinese_and_a_word_is_found(chinese):
    with page() as p:
        p.goto((chinese / "book" / "index.html").as_uri())
        p.wait_for_function("() => document.querySelector('.advlab-digit-attack .verdict')?.textContent.includes('读对了')")
        p.locator(".advlab-digit-attack").get_by_role("combobox", name="改动").select_option("pgd")
        p.wait_for_function("() => document.querySelector('.advlab-digit-attack .verdict').textContent.includes('十步')")
        assert not p.outside
        assert not p.errors
        p.goto((chinese / "search.html").as_uri() + "?q=威胁模型")
        p.wait_for_selector("#search-results li a[href*='00_start_here']")
        p.goto((chinese / "notebooks" / "00_start_here.html").as_uri() + "#a-surprise-first")
        p.locator("a.advlab-language").first.click()
        p.wait_for_url("**/html/notebooks/00_start_here.html#a-surprise-first")
