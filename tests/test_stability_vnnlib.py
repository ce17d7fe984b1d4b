"""Chapter 3: networks in ONNX against ONNX's own reference evaluator, properties in VNN-LIB, both verified together."""

import warnings

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator
from torch import nn

from advlab import verification
from advlab.verification import onnx_files


def save(path, nodes, constants, shape, outputs=3, kind=TensorProto.FLOAT, opset=15):
    """An ONNX file made by hand: nodes (operator, inputs, output, attributes) and named arrays."""
    graph = helper.make_graph(
        [helper.make_node(kind, inputs, [output], **attributes) for kind, inputs, output, attributes in nodes],
        "net",
        [helper.make_tensor_value_info("x", kind, [1, *shape])],
        [helper.make_tensor_value_info("y", kind, [1, outputs])],
        [numpy_helper.from_array(np.asarray(v, v.dtype), name) for name, v in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)])
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
        ([("Conv", ["x", "w"], "y", {"auto_pad": "SAME_UPPER"})], "pads in numbers"),
        ([("MaxPool", ["x"], "y", {"kernel_shape": [3, 3], "pads": [0, 0, 1, 1]})], "differ between sides"),
        ([("Reshape", ["x", "flat"], "y", {})], "Reshape"),
        ([("Transpose", ["x"], "y", {"perm": [1, 0, 2, 3]})], "mixes the images"),
        ([("Pad", ["x", "pads", "one"], "y", {})], "anything but zeros"),
        ([("MaxPool", ["x"], "y", {"kernel_shape": [4, 4], "strides": [4, 4], "ceil_mode": 1})], "ceil_mode"),
        ([("ReduceMean", ["x"], "y", {})], "mixes the images"),
        ([("Identity", ["w"], "y", {})], "does not depend on its input"),
        ([("MatMul", ["x", "x"], "y", {})], "constant"),
        ([("Div", ["one", "x"], "y", {})], "division"),
        ([("Gemm", ["x", "w"], "y", {"alpha": 2.0})], "alpha"),
    ],
)
def test_what_cannot_be_read_is_named(tmp_path, nodes, said):
    constants = {"w": normal(0, 1, 1, 3, 3), "flat": np.array([36]), "one": np.ones(1, np.float32)}
    constants["pads"] = np.array([0, 0, 1, 1, 0, 0, 1, 1])
    path = save(tmp_path / "net.onnx", nodes, constants, (1, 6, 6))
    with pytest.raises(TypeError, match=said):
        verification.normal_form(*verification.read_onnx(path))


def test_a_file_that_is_none_and_an_input_without_a_batch_are_named(tmp_path):
    path = tmp_path / "net.onnx"
    path.write_bytes(b"no network")
    with pytest.raises(ValueError, match=r"net.onnx is no network in ONNX"):
        verification.read_onnx(path)
    path.write_bytes(save(tmp_path / "whole.onnx", *PLAIN, (1, 6, 6)).read_bytes()[:-40])
    with pytest.raises(ValueError, match=r"net.onnx is no network in ONNX"):
        verification.read_onnx(path)
    with pytest.raises(FileNotFoundError):
        verification.read_onnx(tmp_path / "none.onnx")
    model = onnx.load(str(tmp_path / "whole.onnx"))
    for sizes, said in (([36], "uses Conv"), ([6, 6], "does not begin with a batch"), ([], "does not begin with a batch")):
        del model.graph.input[0].type.tensor_type.shape.dim[:]
        for size in sizes:
            model.graph.input[0].type.tensor_type.shape.dim.add().dim_value = size
        onnx.save(model, str(path))
        with pytest.raises(TypeError, match=said):
            verification.read_onnx(path)


def test_a_network_without_a_batch(tmp_path):
    """Of vectors: the weights on either side. A column of constants would make a matrix of them, and is refused."""
    nodes = [
        ("MatMul", ["w", "x"], "a", {}),
        ("Relu", ["a"], "b", {}),
        ("MatMul", ["b", "v"], "c", {}),
        ("Add", ["c", "d"], "y", {}),
    ]
    constants = {"w": normal(0, 5, 4), "v": normal(1, 5, 3), "d": normal(2, 3)}
    path = save(tmp_path / "net.onnx", nodes, constants, (4,))

    def without_batch():
        model = onnx.load(str(path))
        del model.graph.input[0].type.tensor_type.shape.dim[0]
        onnx.save(model, str(path))

    without_batch()
    net, shape = verification.read_onnx(path)
    x = np.random.default_rng(3).random(4).astype(np.float32)
    (expected,) = ReferenceEvaluator(str(path)).run(None, {"x": x})
    assert shape == (4,)
    np.testing.assert_allclose(verification.normal_form(net, shape)(x[None])[0], expected, rtol=1e-5)
    assert (
        verification.verify_files(path, specification(tmp_path / "p.vnnlib", x, int(expected.argmax()), 0)).status == "robust"
    )
    save(path, nodes, constants | {"d": normal(2, 3, 1)}, (4,))
    without_batch()
    with pytest.raises((TypeError, RuntimeError), match=r"shape|size|read as another"):
        verification.normal_form(*verification.read_onnx(path))


def test_a_file_that_is_read_as_another_function_is_refused(tmp_path, monkeypatch):
    """As with an operator whose meaning depends on the version: here one that forgets its slope."""
    nodes = [("Flatten", ["x"], "a", {}), ("LeakyRelu", ["a"], "b", {"alpha": 0.5}), ("Gemm", ["b", "w"], "y", {})]
    path = save(tmp_path / "net.onnx", nodes, {"w": normal(0, 36, 3)}, (1, 6, 6))
    assert verification.read_onnx(path)[1] == (1, 6, 6)
    forgets = lambda build, names, _: build.layer(nn.LeakyReLU(0.01), names[0])  # noqa: E731
    monkeypatch.setitem(onnx_files._OPERATORS, "LeakyRelu", forgets)
    with pytest.raises(TypeError, match="another function than ONNX's reference"):
        verification.read_onnx(path)


def test_a_property_of_another_size_is_named(tmp_path):
    path = save(tmp_path / "net.onnx", *PLAIN, (1, 6, 6))
    for inputs, classes in ((35, 3), (36, 4)):
        spec = specification(tmp_path / "p.vnnlib", np.full(inputs, 0.5), 0, 0.1, classes)
        with pytest.raises(ValueError, match=rf"\({inputs}, {classes}\), and .* has \(36, 3\)"):
            verification.verify_files(path, spec)


STEPS = {
    "leaky": [("LeakyRelu", ["c"], "d", {"alpha": 0.2})],
    "prelu": [("PRelu", ["c", "slopes"], "d", {})],
    "clip": [("Clip", ["c", "low", "high"], "d", {})],
    "clip from below": [("Clip", ["c", "low"], "d", {})],
    "max": [("Max", ["c", "low", "b"], "d", {})],
    "min": [("Min", ["c", "b"], "d", {})],
    "difference": [("Sub", ["c", "b"], "d", {})],
    "negative": [("Neg", ["c"], "e", {}), ("Abs", ["e"], "d", {})],
    "max pool": [("MaxPool", ["c"], "d", {"kernel_shape": [2, 2], "strides": [2, 2]})],
    "max pool with pads": [("MaxPool", ["c"], "d", {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1, 1, 1, 1]})],
    "concat": [("Concat", ["c", "b"], "d", {"axis": 1})],
    "transpose": [("Transpose", ["c"], "d", {"perm": [0, 2, 3, 1]})],
    "convolution with uneven pads": [("Conv", ["c", "u"], "d", {"pads": [0, 1, 1, 2], "kernel_shape": [2, 2]})],
    "weights and columns": [("MatMul", ["square", "c"], "d", {})],
    "pad": [("Pad", ["c", "pads"], "d", {})],
    "slice": [("Slice", ["c", "starts", "ends", "axes"], "d", {})],
    "reshape": [("Reshape", ["c", "to4"], "e", {}), ("Transpose", ["e"], "d", {"perm": [0, 3, 2, 1]})],
    "reshape that copies": [("Reshape", ["c", "copy"], "d", {})],
    "squeeze": [("Unsqueeze", ["c", "one"], "e", {}), ("Squeeze", ["e", "one"], "d", {})],
    "mean": [("ReduceMean", ["c"], "d", {"axes": [2, 3], "keepdims": 0})],
    "folded": [("Identity", ["low"], "e", {}), ("Mul", ["e", "high"], "f", {}), ("Add", ["c", "f"], "d", {})],
    "flat by axis": [("Flatten", ["c"], "d", {"axis": 1})],
}


@pytest.mark.parametrize("kind", [np.float32, np.float64])
@pytest.mark.parametrize("steps", STEPS.values(), ids=list(STEPS))
def test_operators_are_those_of_the_reference(tmp_path, steps, kind):
    """Between a convolution and a matrix product whose weight is transposed, as exporters leave it."""
    constants = {
        "w": normal(0, 4, 1, 3, 3).astype(kind),
        "slopes": np.array([0.1, 0.5, -0.2, 1.5], kind).reshape(4, 1, 1),
        "low": np.array(-0.3, kind),
        "high": np.array(0.4, kind),
        "pads": np.array([0, 0, 1, 0, 0, 0, 2, 1]),
        "starts": np.array([1, 0]),
        "ends": np.array([3, 5]),
        "axes": np.array([1, 2]),
        "to4": np.array([1, 6, -1, 3]),
        "copy": np.array([0, 0, -1]),
        "one": np.array([1]),
        "u": normal(2, 2, 4, 2, 2).astype(kind),
        "square": normal(3, 6, 6).astype(kind),
    }
    conv = {"pads": [1, 1, 1, 1], "kernel_shape": [3, 3]}
    nodes = [("Conv", ["x", "w"], "c", conv), ("Relu", ["c"], "b", {}), *steps, ("Flatten", ["d"], "flat", {})]
    x = np.random.default_rng(0).random((1, 1, 6, 6)).astype(kind)
    dtype = {np.float32: TensorProto.FLOAT, np.float64: TensorProto.DOUBLE}[kind]
    before = save(tmp_path / "before.onnx", nodes, constants, (1, 6, 6), kind=dtype)
    model = onnx.load(str(before))
    model.graph.output[0].name = "flat"
    (flat,) = ReferenceEvaluator(model).run(None, {"x": x})
    constants["q"] = normal(1, 3, flat.shape[1]).astype(kind)
    nodes += [("Transpose", ["q"], "qt", {"perm": [1, 0]}), ("MatMul", ["flat", "qt"], "y", {})]
    path = save(tmp_path / "net.onnx", nodes, constants, (1, 6, 6), kind=dtype)
    net, shape = verification.read_onnx(path)
    (expected,) = ReferenceEvaluator(str(path)).run(None, {"x": x})
    near = 1e-5 if kind is np.float32 else 1e-13
    assert {v.dtype for v in net.state_dict().values() if v.is_floating_point()} <= {torch.from_numpy(x).dtype}
    np.testing.assert_allclose(net(torch.from_numpy(x)).detach().numpy(), expected, rtol=near, atol=near)
    np.testing.assert_allclose(verification.normal_form(net, shape)(x.reshape(1, -1)), expected, rtol=near, atol=near)
    assert verification.verify(net, torch.from_numpy(x[0]), int(expected.argmax()), 0.0).status == "robust"


def test_weights_in_float64_keep_their_values(tmp_path):
    """The output relu(1000.00003 x) on [0, 1], which float32 would make 1000: unsafe is y >= 1000.000015."""
    nodes = [("Gemm", ["x", "w", "b"], "a", {}), ("Relu", ["a"], "c", {}), ("MatMul", ["c", "v"], "y", {})]
    constants = {"w": np.array([[1000.00003]]), "b": np.zeros(1), "v": np.ones((1, 1))}
    path = save(tmp_path / "net.onnx", nodes, constants, (1,), 1, TensorProto.DOUBLE)
    text = "(declare-const X_0 Real)(declare-const Y_0 Real)(assert (>= X_0 0))(assert (<= X_0 1))(assert (>= Y_0 {}))"
    found = []
    for limit in ("1000.000015", "1000.000045"):
        (tmp_path / "p.vnnlib").write_text(text.format(limit))
        found.append(verification.verify_files(path, tmp_path / "p.vnnlib").status)
    assert found == ["counterexample", "robust"]


def test_what_torch_exports_is_read(tmp_path):
    """Two equal biases: the exporter keeps one, and makes the other an Identity of it."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Flatten(), nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 5), nn.ReLU(), nn.Linear(5, 3)).eval()
    with torch.no_grad():
        net[3].bias.copy_(net[1].bias)
    x = torch.rand(1, 2, 3)
    with warnings.catch_warnings(action="ignore"):  # torch's, of its older exporter
        torch.onnx.export(net, (x,), str(tmp_path / "net.onnx"), dynamo=False)
    assert "Identity" in {node.op_type for node in onnx.load(str(tmp_path / "net.onnx")).graph.node}
    read, shape = verification.read_onnx(tmp_path / "net.onnx")
    assert shape == (2, 3)
    torch.testing.assert_close(read(x), net(x))


def test_conjunctions_of_conditions_are_decided(tmp_path):
    """Unsafe where all of a way's conditions hold: logits (x, 1 - x, 0.2), as in ACAS Xu's properties of least scores."""
    nodes = [("Gemm", ["x", "w", "b"], "a", {"transB": 1}), ("Relu", ["a"], "y", {})]
    weights = {"w": np.array([[1], [-1], [0]], np.float32), "b": np.array([0, 1, 0.25], np.float32)}
    path = save(tmp_path / "net.onnx", nodes, weights, (1,), 3)
    head = "".join(f"(declare-const {v} Real)" for v in ("X_0", "Y_0", "Y_1", "Y_2"))
    head += "(assert (>= X_0 0))(assert (<= X_0 {}))"
    cases = {
        "(assert (<= Y_0 Y_1))(assert (<= Y_0 Y_2))": (1, "counterexample"),
        "(assert (>= Y_0 Y_1))(assert (>= Y_2 Y_1))": (0.74, "robust"),
        "(assert (and (>= Y_0 Y_1) (>= Y_2 Y_1)))": (0.76, "counterexample"),
        "(assert (or (and (>= Y_0 Y_1) (>= Y_2 Y_0)) (>= Y_0 0.9)))": (0.89, "robust"),
        "(assert (or (and (>= Y_0 Y_1) (>= Y_2 Y_0)) (>= Y_0 0.91)))": (0.92, "counterexample"),
        "(assert (or (and (>= Y_0 Y_1) (>= Y_2 Y_0)) (and (>= Y_0 0.4) (<= Y_0 0.45) (<= Y_1 0.5))))": (1, "robust"),
    }
    for text, (end, status) in cases.items():
        spec = tmp_path / "p.vnnlib"
        spec.write_text(head.format(end) + text)
        found = verification.verify_files(path, spec)
        assert found.status == status, text
        if status == "counterexample":
            assert 0 <= float(found.witness) <= end


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
        ("(declare-const X_0 Int)(declare-const Y_0 Real)", ValueError, r"holds \(declare-const X_0 Int\)"),
        ("(declare-const X_0 Real)(declare-const Z_0 Real)", ValueError, r"holds \(declare-const Z_0 Real\)"),
        ("(declare-const X_0 Real)(declare-const Y_0 Real)(declare-fun X_1 () Real)", ValueError, "holds .declare-fun X_1"),
    ],
)
def test_a_property_that_cannot_be_read_is_named(tmp_path, text, error, said):
    path = tmp_path / "p.vnnlib"
    path.write_text(text)
    with pytest.raises(error, match=f"p.vnnlib .*{said}"):
        verification.read_vnnlib(path)


PLANE = "".join(f"(declare-const {name} Real)" for name in ("X_0", "X_1", "Y_0"))
PLANE += "".join(f"(assert (>= X_{i} 0))(assert (<= X_{i} 1))" for i in (0, 1))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("(assert (>= X_2 5))", "uses X_2, which is neither declared"),
        ("(assert (>= Y_1 5))", "uses Y_1, which is neither declared"),
        ("(assert (>= Y_0 5) (<= Y_0 3))", "an assert of 2 conditions"),
        ("(assert (>= Y_0 5))(assume (>= Y_0 3))", r"holds \(assume \(>= Y_0 3\)\)"),
        ("(assert (>= Y_0 5)) word", "holds word"),
        ("(assert (>= Y_0 5))(assert (>= X_0 nan))", "uses nan, .*finite number"),
        ("(assert (>= Y_0 1e400))", "uses 1e400, .*finite number"),
        ("(assert (>= Y_0 1_0))", "uses 1_0, .*finite number"),
        ("(assert (>= Y_0 five))", "uses five, "),
        ("(assert)", "an assert of 0 conditions"),
        ("()", r"holds \(\)"),
        ("(assert ())", r"holds \(\) where a condition"),
        ("(assert Y_0)", "holds Y_0 where a condition"),
        ("(assert ((and)))", r"holds \(\(and\)\) where a condition"),
        ("(assert (and))", "joins nothing"),
        ("(assert (or))", "joins nothing"),
        ("(assert (>= Y_0))", r"holds \(>= Y_0\); >= is known between two terms"),
        ("(assert (>= Y_0 5 6))", "between two terms"),
        ("(assert (>= Y_0 ()))", r"holds \(\), which is no term"),
        ("(assert (>= Y_0 (+)))", r"holds \(\+\), which is no term"),
        (f"(assert (>= Y_0 (* {'Y_0 ' * 1000})))", r"holds|affine"),
    ],
)
def test_what_stands_in_a_property_is_read_or_refused(tmp_path, text, said):
    """Nothing is skipped: a condition that is not read would be one that is not verified."""
    path = tmp_path / "p.vnnlib"
    path.write_text(PLANE + text)
    with pytest.raises((ValueError, TypeError), match=f"p.vnnlib .*{said}") as caught:
        verification.read_vnnlib(path)
    assert len(str(caught.value)) < 300 + len(str(path))


def test_comments_and_what_is_for_a_solver_are_passed_over(tmp_path):
    path = tmp_path / "p.vnnlib"
    plain = PLANE + "(assert (>= Y_0 +5.0e0))"
    path.write_bytes(f"\ufeff(set-logic QF_LRA) {plain}(check-sat) ;".encode() + b" \xe9 in Latin-1\r\n")
    (found,) = verification.read_vnnlib(path)
    assert (found.low.tolist(), found.high.tolist(), found.rows.tolist()) == ([0, 0], [1, 1], [[-1]])
    assert found.const.tolist() == [5]


def plane(path):
    """One output of two inputs, their sum."""
    return save(path, [("Gemm", ["x", "w"], "y", {"transB": 1})], {"w": np.ones((1, 2), np.float32)}, (2,), 1)


def test_a_property_of_no_input_is_refused(tmp_path):
    """Of several boxes one may be empty."""
    net, path = plane(tmp_path / "net.onnx"), tmp_path / "p.vnnlib"
    path.write_text(PLANE + "(assert (>= X_0 2))(assert (>= Y_0 5))")
    with pytest.raises(ValueError, match=r"p.vnnlib is about no input"):
        verification.verify_files(net, path)
    path.write_text(PLANE + "(assert (or (and (>= X_0 2) (>= Y_0 0)) (>= Y_0 5)))")
    assert verification.verify_files(net, path).status == "robust"


@pytest.mark.parametrize("limit", [-1, 0, float("nan"), None, "1"])
def test_a_time_limit_that_is_none_is_refused_for_files_too(tmp_path, limit):
    net, path = plane(tmp_path / "net.onnx"), tmp_path / "p.vnnlib"
    path.write_text(PLANE + "(assert (>= Y_0 5))")
    with pytest.raises(ValueError, match="time_limit is"):
        verification.verify_files(net, path, time_limit=limit)


@pytest.mark.parametrize("shape", [(2,), (2, 3), (2, 3, 3), (2, 3, 3, 2)])
def test_batch_norm_is_read_in_any_number_of_dimensions(tmp_path, shape):
    nodes = [("BatchNormalization", ["x", "s", "t", "m", "v"], "a", {"epsilon": 1e-3}), ("Flatten", ["a"], "y", {})]
    constants = {name: np.abs(normal(seed, 2)) + 0.1 for seed, name in enumerate("stmv")}
    path = save(tmp_path / "net.onnx", nodes, constants, shape, int(np.prod(shape)))
    net, found = verification.read_onnx(path)
    x = np.random.default_rng(0).random((1, *shape)).astype(np.float32)
    (expected,) = ReferenceEvaluator(str(path)).run(None, {"x": x})
    assert found == shape
    np.testing.assert_allclose(net(torch.from_numpy(x)).detach().numpy(), expected, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(verification.normal_form(net, shape)(x.reshape(1, -1)), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("slopes", "said"),
    [((2, 3, 3), "PRelu with slopes of the shape"), ((3,), "as it was read, does not take"), ((1, 3, 1), "read")],
)
def test_slopes_by_position_are_refused(tmp_path, slopes, said):
    nodes = [("PRelu", ["x", "p"], "a", {}), ("Flatten", ["a"], "y", {})]
    path = save(tmp_path / "net.onnx", nodes, {"p": normal(0, *slopes)}, (2, 3, 3), 18)
    with pytest.raises(TypeError, match=said):
        verification.read_onnx(path)


def test_a_file_with_nothing_in_it_is_no_network(tmp_path):
    (tmp_path / "net.onnx").write_bytes(b"")
    with pytest.raises(ValueError, match=r"net.onnx is no network in ONNX"):
        verification.read_onnx(tmp_path / "net.onnx")


def test_bad_properties_are_named():
    net = nn.Sequential(nn.Linear(2, 2), nn.ReLU(), nn.Linear(2, 2)).eval()
    low, rows, const = torch.zeros(2), torch.eye(2), torch.zeros(2)
    with pytest.raises(ValueError, match="low <= high"):
        verification.verify_property(net, low, low - 1, rows, const)
    with pytest.raises(ValueError, match="finite"):
        verification.verify_property(net, low, low + torch.inf, rows, const)
    with pytest.raises(ValueError, match="rows"):
        verification.verify_property(net, low, low + 1, rows[:, :1], const)
