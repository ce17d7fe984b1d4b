"""bench/benchmarks.py on a folder made here: what is decided, wrong and refused is counted as such."""

import json
import re

import numpy as np
import onnx
import pytest
from browser import HTML, ROOT
from onnx import TensorProto, helper, numpy_helper

from bench import benchmarks

TEXT = "(declare-const X_0 Real)(declare-const Y_0 Real)(assert (>= X_0 -1))(assert (<= X_0 2))(assert (>= Y_0 {}))"


@pytest.fixture
def folder(tmp_path):
    """The function relu(x), which is at most 2 on [-1, 2], and a network of a sine, which nobody reads."""
    for name, kind in (("relu", "Relu"), ("sine", "Sin")):
        nodes = [helper.make_node(kind, ["x"], ["a"]), helper.make_node("MatMul", ["a", "w"], ["y"])]
        ends = [helper.make_tensor_value_info(v, TensorProto.FLOAT, [1, 1]) for v in "xy"]
        graph = helper.make_graph(nodes, "net", ends[:1], ends[1:], [numpy_helper.from_array(np.ones((1, 1), np.float32), "w")])
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 15)])
        model.ir_version = 8
        onnx.save(model, str(tmp_path / f"{name}.onnx"))
    for limit in ("1.9", "2.1"):
        (tmp_path / f"{limit}.vnnlib").write_text(TEXT.format(limit))
    return tmp_path


def index(folder, *rows):
    keys = ("id", "onnx", "vnnlib", "truth", "best_s")
    known = [dict(zip(keys, row, strict=True)) | {"family": row[0][0]} for row in rows]
    (folder / "index.json").write_text(json.dumps({"instances": known}))


def test_answers_are_counted(folder, capsys):
    index(
        folder,
        ("a1", "relu.onnx", "1.9.vnnlib", "sat", 0.5),
        ("a2", "relu.onnx", "2.1.vnnlib", "unsat", None),
        ("b1", "sine.onnx", "2.1.vnnlib", "unsat", 7.0),
    )
    assert benchmarks.main([str(folder), "--json", str(folder / "found.json")]) == 0
    told = capsys.readouterr().out
    assert "| a | 2 | 0 | 0 | 0 |" in told
    assert "| b | 0 | 0 | 1 | 0 |" in told
    assert "sine.onnx uses Sin, which has no normal form" in told
    assert str(folder) not in told
    written = json.loads((folder / "found.json").read_text())
    assert set(written["made"]) == {"date", "version", "limit", "machine"}
    assert [(one["outcome"], one["said"]) for one in written["instances"]] == [
        ("decided", "sat"),
        ("decided", "unsat"),
        ("refused", "refused"),
    ]


@pytest.mark.parametrize(("limit", "truth"), [("1.9", "unsat"), ("2.1", "sat")])
def test_a_wrong_answer_is_told_and_is_the_exit_status(folder, capsys, limit, truth):
    index(folder, ("a1", "relu.onnx", f"{limit}.vnnlib", truth, None))
    assert benchmarks.main([str(folder)]) == 1
    assert "| all | 0 | 0 | 0 | 1 |" in capsys.readouterr().out


def test_the_list_of_the_competition_and_a_part_of_it(folder, capsys):
    (folder / "instances.csv").write_text("relu.onnx,1.9.vnnlib,116\nrelu.onnx,2.1.vnnlib,116\n")
    assert benchmarks.main([str(folder), "--only", "2.1"]) == 0
    assert "| all | 1 | 0 | 0 | 0 |" in capsys.readouterr().out


def test_a_folder_without_a_list_is_named(tmp_path):
    with pytest.raises(ValueError, match=r"neither an index\.json nor an instances\.csv"):
        benchmarks.instances(tmp_path)


def test_the_page_says_what_was_found():
    """Counts from the file, by a sum of our own; nothing wrong; the families add up to the groups."""
    found = json.loads((ROOT / "book" / "results" / "benchmarks.json").read_text())["instances"]
    page = re.sub(r"<[^>]+>", " ", (HTML / "book" / "benchmarks.html").read_text())
    words = ("Of", ", ", "were decided,", "stayed unknown,", "were refused, and")
    said = re.search("".join(f"{re.escape(word.strip())}\\s+(\\d+)\\s*" for word in words) + "were wrong", page)
    counts = [sum(one["outcome"] == outcome for one in found) for outcome in ("decided", "unknown", "refused", "wrong")]
    assert [int(number) for number in said.groups()] == [len(found), *counts]
    assert counts[3] == 0
    assert all(one["said"] == one["truth"] for one in found if one["outcome"] == "decided")
    for one in found:
        assert (one["outcome"] == "decided") or one["id"] in page


def test_the_page_on_proofs_says_what_all_proofs_cost():
    """Counts add up, none is refused, and the page has them; at most one in two hundred rests on the solver's word."""
    found = json.loads((ROOT / "book" / "results" / "proofs.json").read_text())
    counts = found["verdicts"]
    assert sum(counts.values()) == found["images"] == 10_000
    assert found["refused"] == 0
    assert counts["robust solved"] <= 0.005 * found["images"]
    assert found["check"]["sum"] < 3600
    assert found["ratio"]["sum"] < 1.5
    page = " ".join(re.sub(r"<[^>]+>", "", (HTML / "book" / "proofs.html").read_text()).split())
    checked = counts["robust proved"] + counts["counterexample proved"]
    assert f"{counts['robust proved']:,} are robust with a proof, and for {counts['robust solved']} more" in page
    assert f"read {checked:,} proofs, those of counterexamples among them, and refused 0" in page
