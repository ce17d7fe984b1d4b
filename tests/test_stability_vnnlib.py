"""Chapter 3: networks in ONNX against ONNX's own reference evaluator, properties in VNN-LIB, both verified together."""

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator
from torch import nn

from advlab import verification


def save(path, nodes, constants, shape, outputs=3):
    """An ONNX file made by hand: nodes (operator, inputs, output, attributes) and named arrays."""
    graph = helper.make_graph(
        [helper.make_node(kind, inputs, [output], **attributes) for kind, inputs, output, attributes in nodes],
        "net",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, *shape])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, outputs])],
        [numpy_helper.from_array(np.asarray(v, v.dtype), name) for name, v in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 15)])
    model.ir_version = 8
    onnx.save(model, str(path))
    return path


def normal(seed, *shape):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


PLAIN = (
    [
        ("Sub", ["x", "mean"], "a", {}),
        ("Div", ["a", "std"], "b", {}),
        ("Conv", ["b", "w", "wb"], "c", {"pads": [1, 1, 1, 1], "strides": [2, 2], "kernel_shape": [3, 3]}),
        ("BatchNormalization", ["c", "s", "t", "m", "v"], "d", {"epsilon": 1e-3}),
        ("Relu", ["d"], "e", {}),
        ("Reshape", ["e", "to"], "f", {}),
        ("MatMul", ["f", "q"], "g", {}),
        ("Add", ["g", "qb"], "h", {}),
        ("Relu", ["h"], "i", {}),
        ("Gemm", ["i", "r", "rb"], "y", {"transB": 1}),
    ],
    {
        "mean": np.float32(0.4).reshape(1),
        "std": np.full((1, 1, 1, 1), 0.3, np.float32),
        "w": normal(0, 2, 1, 3, 3),
        "wb": normal(1, 2),
        "s": normal(2, 2),
        "t": normal(3, 2),
        "m": normal(4, 2),
        "v": np.abs(normal(5, 2)) + 0.1,
        "to": np.array([1, -1]),
        "q": normal(6, 18, 5),
        "qb": normal(7, 5),
        "r": normal(8, 3, 5),
        "rb": normal(9, 3),
    },
)
BRANCHED = (
    [
        ("Conv", ["x", "w"], "a", {"pads": [1, 1, 1, 1], "group": 1}),
        ("Relu", ["a"], "b", {}),
        ("Conv", ["b", "u"], "c", {"pads": [1, 1, 1, 1], "group": 2}),
        ("Add", ["c", "a"], "d", {}),
        ("Relu", ["d"], "e", {}),
        ("AveragePool", ["e"], "f", {"kernel_shape": [2, 2], "strides": [2, 2]}),
        ("GlobalAveragePool", ["f"], "g", {}),
        ("Flatten", ["g"], "h", {}),
        ("Mul", ["three", "h"], "i", {}),
        ("Sub", ["one", "i"], "j", {}),
        ("Gemm", ["j", "q"], "y", {}),
    ],
    {
        "w": normal(0, 2, 1, 3, 3),
        "u": normal(1, 2, 1, 3, 3),
        "three": np.full(1, 3, np.float32),
        "one": np.full(1, 1, np.float32),
        "q": normal(2, 2, 3),
    },
)


@pytest.mark.parametrize("parts", [PLAIN, BRANCHED], ids=["plain", "branched"])
def test_a_network_read_is_the_one_in_the_file(tmp_path, parts):
    path = save(tmp_path / "net.onnx", *parts, (1, 6, 6))
    net, shape = verification.read_onnx(path)
    assert shape == (1, 6, 6)
    x = np.random.default_rng(0).random((1, 1, 6, 6)).astype(np.float32)
    (expected,) = ReferenceEvaluator(str(path)).run(None, {"x": x})
    np.testing.assert_allclose(net(torch.from_numpy(x)).detach().numpy(), expected, rtol=1e-4, atol=1e-5)
    form = verification.normal_form(net, shape)
    np.testing.assert_allclose(form(x.reshape(1, -1)), expected, rtol=1e-4, atol=1e-5)
    y = int(expected.argmax())
    assert verification.verify(net, torch.from_numpy(x[0]), y, 0.0).status == "robust"
    assert verification.verify(net, torch.from_numpy(x[0]), y, 1e-4).status in ("robust", "counterexample")


def specification(path, x, y, eps, classes=3, form="one or"):
    lines = [f"(declare-const X_{i} Real)" for i in range(len(x))] + [f"(declare-const Y_{j} Real)" for j in range(classes)]
    lines += [
        f"(assert (<= X_{i} {min(v + eps, 1):.17g}))\n(assert (>= X_{i} {max(v - eps, 0):.17g})) ; a bound"
        for i, v in enumerate(x)
    ]
    others = [j for j in range(classes) if j != y]
    if form == "one or":
        lines.append(f"(assert (or {' '.join(f'(and (>= Y_{j} Y_{y}))' for j in others)}))")
    else:
        lines.append(f"(assert (or {' '.join(f'(<= (- (* 2 Y_{y}) (* 2.0 Y_{j})) (+ 0 0.0))' for j in others)}))")
    path.write_text("\n".join(lines))
    return path


@pytest.mark.parametrize("form", ["one or", "affine"])
def test_files_get_the_verdicts_of_the_network(tmp_path, form):
    path = save(tmp_path / "net.onnx", *PLAIN, (1, 6, 6))
    net, shape = verification.read_onnx(path)
    x = np.random.default_rng(3).random(36).astype(np.float32).astype(float)
    inside = torch.from_numpy(x).view(shape)
    y = int(net(inside[None].float()).argmax())
    seen = set()
    for eps in (0.003, 0.03, 0.3):
        found = verification.verify_files(path, specification(tmp_path / "p.vnnlib", x, y, eps, form=form))
        assert found.status == verification.verify(net, inside, y, eps).status
        seen.add(found.status)
        if found.status == "counterexample":
            assert (found.witness.flatten() - torch.from_numpy(x)).abs().max() <= eps + 1e-12
            assert int(net.double()(found.witness[None]).argmax()) != y
            net.float()
    assert seen == {"robust", "counterexample"}


def test_boxes_outside_of_the_unit_cube_and_several_boxes(tmp_path):
    """Y = relu(x) - relu(-x) = x: the property Y_0 > -2 holds on [-1, 3], and fails where a box reaches -2."""
    nodes = [("Gemm", ["x", "w"], "a", {"transB": 1}), ("Relu", ["a"], "b", {}), ("Gemm", ["b", "v"], "y", {"transB": 1})]
    weights = {"w": np.array([[1], [-1]], np.float32), "v": np.array([[1, -1]], np.float32)}
    path = save(tmp_path / "net.onnx", nodes, weights, (1,), 1)
    head = "(declare-const X_0 Real)(declare-const Y_0 Real)"
    text = "(assert (or (and (>= X_0 -1) (<= X_0 3) (<= Y_0 -2)) (and (>= X_0 {}) (<= X_0 7) (<= Y_0 -2))))"
    spec = tmp_path / "p.vnnlib"
    spec.write_text(head + text.format(5))
    assert len(verification.read_vnnlib(spec)) == 2
    assert verification.verify_files(path, spec).status == "robust"
    assert 0 < verification.verify_files(path, spec).bound <= 1
    spec.write_text(head + text.format(-3))
    found = verification.verify_files(path, spec)
    assert found.status == "counterexample"
    assert -3 <= float(found.witness) < -2


@pytest.mark.parametrize(
    ("nodes", "said"),
    [
        ([("Sigmoid", ["x"], "y", {})], "Sigmoid"),
        ([("Mul", ["x", "x"], "y", {})], "Mul of two"),
        ([("Conv", ["x", "w"], "y", {"pads": [0, 0, 1, 1]})], "pads"),
        ([("Reshape", ["x", "to"], "y", {})], "Reshape"),
        ([("MatMul", ["x", "x"], "y", {})], "constant"),
        ([("Div", ["one", "x"], "y", {})], "division"),
        ([("Gemm", ["x", "w"], "y", {"alpha": 2.0})], "alpha"),
    ],
)
def test_what_cannot_be_read_is_named(tmp_path, nodes, said):
    constants = {"w": normal(0, 1, 1, 3, 3), "to": np.array([1, 2, 18]), "one": np.ones(1, np.float32)}
    with pytest.raises(TypeError, match=said):
        verification.read_onnx(save(tmp_path / "net.onnx", nodes, constants, (1, 6, 6)))


@pytest.mark.parametrize(
    ("text", "error", "said"),
    [
        ("", ValueError, "declares"),
        ("(declare-const X_0 Real)(declare-const Y_0 Real)(assert (<= X_0 1))", TypeError, "0 conditions"),
        (
            "(declare-const X_0 Real)(declare-const Y_0 Real)(assert (<= X_0 1))(assert (<= Y_0 1))",
            ValueError,
            "without a bound",
        ),
        ("(declare-const X_0 Real)(declare-const Y_0 Real)(assert (<= X_0 Y_0))", TypeError, "relates"),
        ("(declare-const X_0 Real)(declare-const Y_0 Real)(assert (= X_0 1))", TypeError, "uses ="),
        ("(declare-const X_0 Real)(declare-const Y_0 Real)(assert (<= (* X_0 X_0) 1))", TypeError, "affine"),
        ("(declare-const X_0 Real)(declare-const Y_0 Real)(assert (<= X_0 1)", ValueError, "open"),
        ("(declare-const X_0 Real)(declare-const Y_0 Real))", ValueError, "closes"),
    ],
)
def test_a_property_that_cannot_be_read_is_named(tmp_path, text, error, said):
    path = tmp_path / "p.vnnlib"
    path.write_text(text)
    with pytest.raises(error, match=said):
        verification.read_vnnlib(path)


def test_bad_properties_are_named():
    net = nn.Sequential(nn.Linear(2, 2), nn.ReLU(), nn.Linear(2, 2)).eval()
    low, rows, const = torch.zeros(2), torch.eye(2), torch.zeros(2)
    with pytest.raises(ValueError, match="low <= high"):
        verification.verify_property(net, low, low - 1, rows, const)
    with pytest.raises(ValueError, match="finite"):
        verification.verify_property(net, low, low + torch.inf, rows, const)
    with pytest.raises(ValueError, match="rows"):
        verification.verify_property(net, low, low + 1, rows[:, :1], const)
