"""Proofs of verdicts: round trips, mutations, forgeries, and an exact oracle that shares no code with either side."""

import ast
import base64
import copy
import doctest
import hashlib
import json
import math
import random
import re
import subprocess
import sys
import zlib
from collections import Counter
from fractions import Fraction
from pathlib import Path

import exact
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file
from torch import nn

from advlab import __main__, data, models, verification, zoo
from advlab.verification import check as checker

MAGIC = b"advlab proof 1\n"
CHECKER = Path(checker.__file__)
PAGE = Path(__file__).resolve().parents[1] / "book" / "proofs.md"


def opened(proof):
    return json.loads(zlib.decompress(proof[len(MAGIC) :]))


def closed(document, resigned=False):
    """The file of a document; ``resigned`` by someone who changed the claim and knows how it is signed."""
    if resigned:
        document["claim_sha256"] = hashlib.sha256(json.dumps(document["claim"], sort_keys=True).encode()).hexdigest()
    return MAGIC + zlib.compress(json.dumps(document).encode())


def stored(net, folder, name="weights"):
    save_file({k: v.contiguous() for k, v in net.state_dict().items()}, folder / f"{name}.safetensors")
    return checker.Weights(folder / f"{name}.safetensors")


def plane(seed, scale=1.0):
    """Two inputs, hidden layers of 4 and 3, three classes; an input and a budget."""
    generator = torch.Generator().manual_seed(seed)
    net = nn.Sequential(nn.Linear(2, 4), nn.ReLU(), nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 3)).eval()
    with torch.no_grad():
        for p in net.parameters():
            p.copy_(scale * torch.randn(p.shape, generator=generator))
    x = torch.rand(2, generator=generator)
    return net, x, int(net(x[None]).argmax()), float(torch.rand((), generator=generator) * 0.5)


def truth(net, x, y, eps):
    """The least margin over the ball in [0, 1], a fraction."""
    low, high = (
        [min(max(Fraction(v) + sign * Fraction(eps), Fraction(0)), Fraction(1)) for v in x.tolist()] for sign in (-1, 1)
    )
    rows = [[Fraction((k == y) - (k == c)) for k in range(3)] for c in range(3) if c != y]
    return exact.least_margin(net, low, high, [(row, Fraction(0)) for row in rows])


def test_the_checker_is_short_and_needs_numpy_alone():
    tree, text = ast.parse(CHECKER.read_text()), CHECKER.read_text()
    imported = {a.name for n in ast.walk(tree) if isinstance(n, ast.Import) for a in n.names}
    imported |= {n.module for n in ast.walk(tree) if isinstance(n, ast.ImportFrom)}
    assert len(text.splitlines()) <= 300
    assert {name.partition(".")[0] for name in imported} - {"numpy"} <= set(sys.stdlib_module_names)


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 10**6), st.sampled_from([0.01, 1.0, 30.0]))
def test_what_is_proved_is_accepted_and_true(tmp_path_factory, seed, scale):
    net, x, y, eps = plane(seed, scale)
    verdict = verification.verify(net, x, y, eps, proof=True)
    assert verdict.grade == ("" if verdict.status == "unknown" else "proved")
    if verdict.status != "unknown":
        answer = checker.check(verdict.proof, stored(net, tmp_path_factory.mktemp("net")))
        assert answer.valid, answer.reason
        claim = answer.claim
        assert (claim["status"], claim["label"], claim["eps"], claim["margin"]) == (verdict.status, y, eps, 1e-6)
        assert base64.b64decode(claim["input"]["data"]) == x.numpy().tobytes()
        assert (truth(net, x, y, eps) > Fraction(1e-6)) == (verdict.status == "robust")


def small(seed):
    """A network of every layer that proofs know, on images (2, 6, 6), with four classes."""
    torch.manual_seed(seed)
    first = nn.Sequential(models.HalvingConv2d(2, 4, 3, padding=0), models.Mask(torch.rand(4, 2, 2) < 0.8), nn.ReLU())
    second = nn.Conv2d(4, 3, (2, 1), stride=(1, 2), padding=(1, 2), bias=False)  # (3, 3, 3)
    layers = [second, models.MaskedReLU(torch.randint(-1, 2, (3, 3, 3))), nn.Dropout(), nn.Flatten(), nn.Linear(27, 6)]
    return nn.Sequential(first, *layers, models.MaskedReLU(torch.tensor([0, 0, 0, 1, -1, 0])), nn.Linear(6, 4)).eval()


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 10**6), st.sampled_from([0.02, 0.1, 0.3]), st.booleans())
def test_all_layers_make_the_round_trip(tmp_path_factory, seed, eps, double):
    net, x = small(seed), torch.rand(2, 6, 6)
    net, x = (net.double(), x.double() / 3) if double else (net, x)  # thirds are no float32
    y = int(net(x[None]).argmax())
    verdict = verification.verify(net, x, y, eps, proof=True)
    if verdict.status != "unknown":
        answer = checker.check(verdict.proof, stored(net, tmp_path_factory.mktemp("net")))
        assert answer.valid, answer.reason


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 10**6), st.floats(0.0, 0.5))
def test_bounds_of_the_checker_hold_at_samples(tmp_path_factory, seed, eps):
    """Its layers are torch's, and what it bounds stays within."""
    net = small(seed).double()
    weights = stored(net, tmp_path_factory.mktemp("net"))
    described = verification.proofs.describe(net, (2, 6, 6))
    built = checker.Network(weights, json.dumps([described["layers"], described["shape"]]))
    x = torch.rand(2, 6, 6, dtype=torch.float64)
    low, high = (x - eps).clamp(0, 1), (x + eps).clamp(0, 1)
    ranges = checker.Ranges(built, low.flatten().numpy(), high.flatten().numpy())
    for _ in range(20):
        point = low + (high - low) * torch.rand(2, 6, 6, dtype=torch.float64).round()
        z = point[None]
        at = iter(ranges.ends)
        for layer in (*net[0], *net[1:]):
            z = layer(z)
            if isinstance(layer, nn.Conv2d | nn.Linear):
                (lower, upper), values = next(at), z.detach().flatten().numpy()
                assert (lower <= values + 1e-9).all()
                assert (values <= upper + 1e-9).all()
        assert next(at, None) is None
    exactly = checker.Ranges(built, x.flatten().numpy(), x.flatten().numpy())
    assert np.allclose(exactly.ends[-1], net(x[None]).detach().numpy(), atol=1e-9)


# ------------------------------------------------------------------------------------------------- real digits


@pytest.fixture(scope="module")
def digit():
    """A digit whose proof needs splits, of chapter 3's network."""
    net, (x, y) = zoo.load("mnist_01_rs_pruned"), data.mnist("test", 1201)
    verdict = verification.verify(net, x[1200], int(y[1200]), 0.1, proof=True)
    assert (verdict.status, verdict.stage, verdict.grade) == ("robust", "branch and bound", "proved")
    assert len(verdict.proof) < 20_000
    return verdict.proof


@pytest.fixture(scope="module")
def weights():
    return checker.Weights(zoo.shipped() / "mnist_01_rs_pruned.safetensors")


def test_digits_make_the_round_trip(weights):
    net, (x, y) = zoo.load("mnist_01_rs_pruned"), data.mnist("test", 310)
    seen = Counter()
    for i in (0, 1, 2, 300, 303, 304, 307, 247):
        verdict = verification.verify(net, x[i], int(y[i]), 0.1, proof=True)
        answer = checker.check(verdict.proof, weights)
        assert answer.valid, answer.reason
        assert answer.claim["network"]["layers"][1] == {"op": "relu", "mask": "1.mask"}
        seen[verdict.status] += 1
    assert seen["robust"] >= 5
    assert seen["counterexample"] >= 1


def put(document, *keys, value):
    for key in keys[:-1]:
        document = document[key]
    document[keys[-1]] = value(document[keys[-1]]) if callable(value) else value


def raw(text, change, dtype=np.uint8):
    """Base64 text with its numbers changed."""
    values = np.frombuffer(base64.b64decode(text), dtype).copy()
    change(values)
    return base64.b64encode(values.tobytes()).decode()


def setting(place, value):
    return lambda values: values.__setitem__(place, value)


def first_tree(document):
    return next(m for m in document["evidence"]["margins"] if len(m["tree"]) > 1)


def reverse(text, kind):
    return raw(text, lambda v: v.__setitem__(slice(None), v[::-1].copy()), "<f8" if kind == "multipliers" else np.uint8)


def in_tree(name, value):
    return lambda document: put(first_tree(document), name, value=value)


CLAIM = "its SHA-256 differs"
#: name -> (change, is the claim signed anew, the reason that is given)
MUTATIONS = {
    "a pixel": (lambda d: put(d, "claim", "input", "data", value=lambda t: raw(t, setting(400, 0.5), "<f4")), False, CLAIM),
    "a pixel beyond 1": (
        lambda d: put(d, "claim", "input", "data", value=lambda t: raw(t, setting(400, 1.5), "<f4")),
        True,
        r"784 values in \[0, 1\]",
    ),
    "the whole image": (
        lambda d: put(d, "claim", "input", "data", value=lambda t: raw(t, setting(slice(None), 0.5), "<f4")),
        True,
        "is not above",
    ),
    "the label": (lambda d: put(d, "claim", "label", value=5), False, CLAIM),
    "the label, signed": (lambda d: put(d, "claim", "label", value=lambda y: (y + 3) % 10), True, "is not above|trees of no"),
    "a label that there is not": (lambda d: put(d, "claim", "label", value=10), True, "10 classes"),
    "the budget": (lambda d: put(d, "claim", "eps", value=0.11), False, CLAIM),
    "the budget, signed": (lambda d: put(d, "claim", "eps", value=0.2), True, "is not above"),
    "a budget of text": (lambda d: put(d, "claim", "eps", value="0.1"), True, "eps is 0.1"),
    "no budget": (lambda d: put(d, "claim", "eps", value=math.nan), True, "eps is nan"),
    "the margin": (lambda d: put(d, "claim", "margin", value=1e-5), False, CLAIM),
    "the margin, signed": (lambda d: put(d, "claim", "margin", value=1.0), True, "is not above 1"),
    "a margin below 0": (lambda d: put(d, "claim", "margin", value=-1.0), True, "the margin is"),
    "the status": (lambda d: put(d, "claim", "status", value="counterexample"), True, "image"),
    "no status": (lambda d: put(d, "claim", "status", value="fine"), True, "neither robust nor"),
    "the network's hash": (lambda d: put(d, "claim", "network", "sha256", value="0" * 64), True, "not those of the claim"),
    "a stride": (
        lambda d: put(d, "claim", "network", "layers", 0, "stride", value=[1, 1]),
        True,
        "does not fit|does not match",
    ),
    "a padding": (lambda d: put(d, "claim", "network", "layers", 0, "padding", value=[-1, 2]), True, "does not fit"),
    "a ReLU's mask": (lambda d: put(d, "claim", "network", "layers", 1, "mask", value="6.mask"), True, "does not fit"),
    "a layer's name": (lambda d: put(d, "claim", "network", "layers", 0, "weight", value="9.weight"), True, "9.weight"),
    "no stride": (lambda d: put(d, "claim", "network", "layers", 0, "stride", value=[0, 0]), True, "does not fit"),
    "a stride of text": (lambda d: put(d, "claim", "network", "layers", 0, "stride", value=["1", 1]), True, "does not fit"),
    "an unknown layer": (lambda d: put(d, "claim", "network", "layers", 1, "op", value="sigmoid"), True, "sigmoid"),
    "a last ReLU": (lambda d: d["claim"]["network"]["layers"].append({"op": "relu", "mask": None}), True, "does not end with"),
    "a dropped leaf": (lambda d: first_tree(d)["tree"].pop(), False, "forgets 1 of its cases"),
    "a leaf more": (lambda d: first_tree(d)["tree"].append(-1), False, "goes on after"),
    "no tree at all": (lambda d: d["evidence"]["margins"].clear(), False, "leaf 1 of 1: the bound .* is not above"),
    "a tree without splits": (in_tree("tree", [-1]), False, "other slopes or multipliers"),
    "two trees of one margin": (lambda d: d["evidence"]["margins"].append(first_tree(d)), False, "two of one"),
    "a tree of the label": (lambda d: put(first_tree(d), "class", value=d["claim"]["label"]), False, "of no margin"),
    "a split unit that is not listed": (in_tree("tree", lambda t: [10**6, *t[1:]]), False, "not listed"),
    "a unit split twice": (in_tree("tree", lambda t: [t[0], t[0], -1, *t[1:]]), False, "twice"),
    "a slope out of range": (in_tree("slopes", lambda t: raw(t, setting(3, 129))), False, "slope is out of range"),
    "a flipped sign": (
        in_tree("multipliers", lambda t: raw(t, setting(0, -0.5), "<f8")),
        False,
        "multiplier is out of range",
    ),
    "a multiplier that is none": (in_tree("multipliers", lambda t: raw(t, setting(0, np.nan), "<f8")), False, "multiplier is"),
    "an endless multiplier": (in_tree("multipliers", lambda t: raw(t, setting(0, np.inf), "<f8")), False, "multiplier is"),
    "a large multiplier": (in_tree("multipliers", lambda t: raw(t, setting(0, 1e30), "<f8")), False, "is not above"),
    "slopes of 0": (in_tree("slopes", lambda t: raw(t, setting(slice(None), 0))), False, "is not above"),
    "too few slopes": (in_tree("slopes", lambda t: t[:-4]), False, "other slopes"),
    "leaves that change places": (
        lambda d: [put(first_tree(d), k, value=lambda t, k=k: reverse(t, k)) for k in ("slopes", "multipliers")],
        False,
        "is not above",
    ),
    "a unit listed twice": (lambda d: put(d, "evidence", "units", 1, value=d["evidence"]["units"][0]), False, "listed twice"),
    "a unit that there is not": (lambda d: put(d, "evidence", "units", 0, value=[0, 10**6]), False, "is no ReLU"),
    "a layer that there is not": (lambda d: put(d, "evidence", "units", 0, value=[7, 0]), False, "is no ReLU"),
    "units of another layer": (
        lambda d: put(d, "evidence", "units", value=lambda u: [[k, i] for (k, _), (_, i) in zip(u, reversed(u), strict=True)]),
        False,
        "is no ReLU|twice|is not above",
    ),
    "no evidence": (lambda d: d.pop("evidence"), False, "cannot be read"),
}


@pytest.mark.parametrize("name", MUTATIONS)
def test_a_mutation_is_refused_for_its_reason(digit, weights, name):
    change, resigned, reason = MUTATIONS[name]
    document = opened(digit)
    assert checker.check(closed(document), weights).valid
    change(document)
    answer = checker.check(closed(document, resigned), weights)
    assert not answer.valid
    assert re.search(reason, answer.reason), answer.reason


def test_other_weights_are_refused(digit, tmp_path):
    """One weight by one unit in its last place; a file that is none; and one that says more than it has."""
    net = zoo.load("mnist_01_rs_pruned")
    assert checker.check(digit, stored(net, tmp_path)).valid, "written anew, the same tensors"
    with torch.no_grad():
        net[5].weight[0, 0] = net[5].weight[0, 0].nextafter(torch.tensor(1.0))
    assert "not those of the claim" in checker.check(digit, stored(net, tmp_path)).reason
    (tmp_path / "none").write_bytes(digit)
    assert not checker.check(digit, tmp_path / "none").valid
    whole = (tmp_path / "weights.safetensors").read_bytes()
    (tmp_path / "part").write_bytes(whole[:-4])
    assert "outside of the file" in checker.check(digit, tmp_path / "part").reason


@pytest.mark.parametrize(
    "header",
    [[], ["0.weight"], {"0.weight": None}, {"0.weight": {}}, {"0.weight": {"dtype": "F32", "shape": [1], "data_offsets": [0]}}],
)
def test_weights_that_are_none_are_named(digit, tmp_path, capsys, header):
    path, proof = tmp_path / "weights.safetensors", tmp_path / "one.proof"
    text = json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text)
    proof.write_bytes(digit)
    if header:
        with pytest.raises(ValueError, match=r"weights.safetensors holds no weights in safetensors"):
            checker.Weights(path)
        assert "holds no weights in safetensors" in checker.check(digit, path).reason
        assert __main__.main(["check", str(proof), "--weights", str(path)]) == 1
        assert "advlab: " in capsys.readouterr().err
    else:
        assert "not those of the claim" in checker.check(digit, path).reason
    path.write_bytes(b"")
    assert "holds no weights in safetensors" in checker.check(digit, path).reason


def test_a_counterexample_must_be_one(tmp_path):
    tries = ((net, x, verification.verify(net, x, y, 0.3, proof=True)) for net, x, y, _ in map(plane, range(50)))
    net, x, found = next((net, x, v) for net, x, v in tries if v.status == "counterexample")
    weights = stored(net, tmp_path)
    assert checker.check(found.proof, weights).valid
    for image, eps, reason in (
        (x, None, "not shown to be misclassified"),
        (1 - x.round(), 0.01, "not within eps"),
        (x - 2, None, r"in \[0, 1\]"),
        (x[:1], None, "2 values"),
    ):
        document = opened(found.proof)
        put(document, "evidence", "image", "data", value=base64.b64encode(image.numpy().tobytes()).decode())
        put(document, "claim", "eps", value=lambda old, eps=eps: old if eps is None else eps)
        answer = checker.check(closed(document, resigned=True), weights)
        assert not answer.valid
        assert re.search(reason, answer.reason), answer.reason


# ------------------------------------------------------------------------------------ random mutations and forgeries


def places(value, path=()):
    """Where the numbers, texts and lists of a document are."""
    yield path
    for key in value if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ():
        yield from places(value[key], (*path, key))


def mutated(document, draw):
    """One thing of a document changed: a number, a letter, a byte in base64, an entry left out or twice."""
    path = draw.choice([p for p in places(document) if p])
    holder = document
    for key in path[:-1]:
        holder = holder[key]
    old = holder[path[-1]]
    if isinstance(old, list | dict) or draw.random() < 0.1:
        if isinstance(holder, list) and draw.random() < 0.5:
            holder.insert(path[-1], copy.deepcopy(old))
        else:
            del holder[path[-1]]
    elif isinstance(old, str) and path[-1] in ("data", "slopes", "multipliers") and old:
        place = draw.randrange(len(base64.b64decode(old)))
        holder[path[-1]] = raw(old, setting(place, draw.randrange(256)))
    elif isinstance(old, str):
        holder[path[-1]] = old[:-1] + draw.choice("abc0.")
    else:
        holder[path[-1]] = draw.choice([0, 1, -1, None, 0.5, 10**9, True, *([] if old is None else [old + 1, -old, old * 2])])
    return document


def test_no_random_mutation_changes_the_claim_and_is_accepted(tmp_path):
    """A thousand. What is accepted has the claim as it was: another slope or multiplier is another proof of it."""
    draw, tried, accepted = random.Random(0), 0, Counter()
    for seed in range(400):
        net, x, y, eps = plane(seed)
        proof = verification.verify(net, x, y, 2 * eps, proof=True).proof
        if not opened(proof)["evidence"].get("margins"):
            continue
        weights = stored(net, tmp_path)
        for _ in range(50):
            if draw.random() < 0.4:
                place = draw.randrange(len(proof))
                changed = proof[:place] + bytes([proof[place] ^ 1 << draw.randrange(8)]) + proof[place + 1 :]
            else:
                changed = closed(mutated(opened(proof), draw))
            answer = checker.check(changed, weights)
            tried += 1
            if answer.valid:
                new, old = opened(changed), opened(proof)
                assert new["claim"] == old["claim"]
                accepted["as it was" if new == old else "another proof"] += 1
            else:
                assert answer.reason
        if tried >= 1000:
            break
    assert tried >= 1000
    assert accepted["another proof"] < 300, "most are refused"


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 10**6), st.data())
def test_a_forged_claim_is_accepted_only_where_it_is_true(tmp_path_factory, seed, drawn):
    """Any claim, signed, with any complete tree, slopes and multipliers: what is accepted is true, by the exact minimum."""
    net, x, y, eps = plane(seed)
    folder = tmp_path_factory.mktemp("net")
    weights = stored(net, folder)
    document = opened(verification.verify(net, x, y, 0.0, proof=True).proof)
    draw = random.Random(drawn.draw(st.integers(0, 10**6)))
    least = truth(net, x, y, eps)
    margin = draw.choice([1e-6, 1e-3, max(float(least), 0) * draw.uniform(0.9, 1.1) + 1e-9])
    document["claim"] |= {"eps": eps, "margin": margin, "label": y, "status": "robust"}
    units = [[k, i] for k, n in enumerate((4, 3)) for i in range(n)]

    def tree(path):
        if len(path) == 7 or draw.random() < 0.3:
            leaves.append(path)
            return [-1]
        unit = draw.choice([u for u in range(7) if u not in path])
        return [unit, *tree([*path, unit]), *tree([*path, unit])]

    margins = []
    for c in {0, 1, 2} - {y}:
        leaves = []
        shape = tree([])
        slopes = np.array([draw.choice([0, 64, 128]) for _ in range(7 * len(leaves))], np.uint8)
        weight = np.array([draw.expovariate(1.0) * draw.choice([0, 1]) for path in leaves for _ in path], "<f8")
        coded = [base64.b64encode(v.tobytes()).decode() for v in (slopes, weight)]
        margins.append({"class": c, "tree": shape, "slopes": coded[0], "multipliers": coded[1]})
    for found in (margins, margins[:1], []):
        document["evidence"] = {"units": units, "margins": found}
        if checker.check(closed(document, resigned=True), weights).valid:
            assert least > Fraction(margin)


def test_forgeries_are_also_accepted(tmp_path):
    """So that the test above is not empty: with a budget of 0 a proof is easy, and any tree will do."""
    net, x, y, _ = plane(1)
    document = opened(verification.verify(net, x, y, 0.0, proof=True).proof)
    for eps in (0.0, 1e-4):
        put(document, "claim", "eps", value=eps)
        assert checker.check(closed(document, resigned=True), stored(net, tmp_path)).valid


# ---------------------------------------------------------------------------------------------- what people call


def test_other_networks_are_refused_by_name():
    """Those that end with a ReLU tie at 0 for many weights, and are unknown then: one whose logits are apart is taken."""
    x = torch.rand(1, 4, 4)
    ends = nn.Sequential(nn.Flatten(), nn.Linear(16, 2), nn.ReLU())
    nn.init.constant_(ends[1].bias, 5.0)
    for net, name in (
        (nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Flatten(), nn.Linear(8, 2)), "layer 1, a BatchNorm2d"),
        (nn.Sequential(nn.MaxPool2d(2), nn.Flatten(), nn.Linear(4, 2)), "layer 0, a MaxPool2d"),
        (nn.Sequential(nn.Conv2d(1, 2, 3, dilation=2, padding=1), nn.Flatten(), nn.Linear(8, 2)), "layer 0, a Conv2d"),
        (ends, "ends with a linear layer"),
    ):
        assert verification.verify(net.eval(), x, 0, 0.0).status != "unknown"
        with pytest.raises(TypeError, match=name):
            verification.verify(net.eval(), x, 0, 0.0, proof=True)


RELU, FLAT = nn.ReLU(), nn.Flatten()
#: Layers in an order, or of a shape, that the checker does not take: (layers, shape of an input, what is named).
NOT_THERE = {
    "a ReLU first": ([RELU, nn.Linear(3, 3)], (3,), "layer 0, a ReLU"),
    "two ReLUs": ([nn.Linear(3, 4), RELU, nn.Sequential(RELU), nn.Linear(4, 3)], (3,), "layer 2.0, a ReLU"),
    "a ReLU after flattening one": ([nn.Conv2d(1, 2, 1), RELU, FLAT, RELU, nn.Linear(8, 3)], (1, 2, 2), "layer 3, a ReLU"),
    "a mask after a ReLU": ([nn.Linear(3, 4), RELU, models.Mask(torch.ones(4)), nn.Linear(4, 3)], (3,), "layer 2, a Mask"),
    "a mask first": ([models.Mask(torch.ones(3)), nn.Linear(3, 3)], (3,), "layer 0, a Mask"),
    "a ReLU after a masked one": (
        [nn.Linear(3, 4), models.MaskedReLU(torch.tensor([1, 0, -1, 0])), RELU, nn.Linear(4, 3)],
        (3,),
        "layer 2, a ReLU",
    ),
    "a linear layer of rows": ([nn.Linear(2, 2), FLAT, RELU, nn.Linear(4, 3)], (2, 2), "layer 0, a Linear"),
    "weights that are computed": (
        [nn.utils.parametrizations.weight_norm(nn.Linear(3, 4)), RELU, nn.Linear(4, 3)],
        (3,),
        "layer 0, a .*computes its 0.weight",
    ),
    "one mask for all units": ([nn.Linear(3, 4), models.MaskedReLU(torch.zeros(1)), nn.Linear(4, 3)], (3,), "1 values.* 4"),
    "weights beyond the checker's": ([nn.Linear(3, 3).double().requires_grad_(False)], (3,), "layer 0, a Linear.*beyond"),
}


@pytest.mark.parametrize(("layers", "shape", "said"), NOT_THERE.values(), ids=list(NOT_THERE))
def test_what_the_checker_would_refuse_is_refused_before_there_is_a_proof(tmp_path, layers, shape, said):
    net, x = nn.Sequential(*copy.deepcopy(layers)).eval(), torch.rand(shape, generator=torch.Generator().manual_seed(0))
    if "beyond" in said:
        net[0].weight[0, 0] = 1e70
    y = int(net(x[None].to(next(net.parameters()).dtype)).argmax())
    with pytest.raises(TypeError, match=said):
        verification.verify(net, x, y, 0.0, proof=True)
    with pytest.raises(TypeError, match=said):
        verification.verify_dataset(net, x[None], [y], 0.0, proofs=tmp_path / "proofs", progress=False)
    assert not (tmp_path / "proofs").exists()


def test_a_layer_whose_matrix_the_checker_does_not_hold_is_refused(monkeypatch):
    net = nn.Sequential(nn.Conv2d(1, 2, 3, stride=2, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(8, 3)).eval()
    for entries, fits in (
        (2 * 2 * 2 * 1 * 6 * 6, True),
        (2 * 2 * 2 * 1 * 6 * 6 - 1, False),
    ):  # a checker's matrix, with its pads
        monkeypatch.setattr(verification.proofs, "LARGEST", entries)
        if fits:
            assert len(verification.proofs.describe(net, (1, 4, 4))["layers"]) == 4
        else:
            with pytest.raises(TypeError, match="layer 0, a Conv2d: its matrix"):
                verification.proofs.describe(net, (1, 4, 4))


def test_a_verdict_of_the_solver_alone_is_graded_so(monkeypatch):
    unknown = verification.search.Found("unknown", -1.0)
    monkeypatch.setattr(verification.verifier, "branch_and_bound", lambda *_, **__: unknown)
    net, (x, y) = zoo.load("mnist_01_rs_pruned"), data.mnist("test", 1201)
    verdict = verification.verify(net, x[1200], int(y[1200]), 0.1, proof=True)
    assert (verdict.status, verdict.stage, verdict.grade, verdict.proof) == ("robust", "mixed-integer", "solved", None)
    assert verification.verify(net, x[0], int(y[0]), 0.1).grade == ""


def test_the_checker_runs_without_torch(digit, weights, tmp_path):
    """As a script, where torch and advlab cannot be imported; its status says what it found."""
    path = zoo.shipped() / "mnist_01_rs_pruned.safetensors"
    blocked = "import sys, runpy; sys.modules.update(torch=None, advlab=None, safetensors=None); sys.argv = sys.argv[1:]; "
    code = blocked + "runpy.run_path(sys.argv[0], run_name='__main__')"
    bad = opened(digit)
    first_tree(bad)["tree"].pop()
    for proof, status, said in ((digit, 0, "valid: robust"), (closed(bad), 1, "NOT VALID: the tree forgets 1 of its cases")):
        (tmp_path / "one.proof").write_bytes(proof)
        run = [sys.executable, "-c", code, str(CHECKER), str(tmp_path / "one.proof"), str(path)]
        done = subprocess.run(run, capture_output=True, text=True)
        assert (done.returncode, done.stdout.startswith(said)) == (status, True), done.stdout + done.stderr
    assert subprocess.run([sys.executable, "-c", code, str(CHECKER)], capture_output=True).returncode == 1


def test_a_folder_of_proofs(tmp_path, capsys):
    """Written with the verdicts, kept with a store, made again where one is missing; checked by a command."""
    net, (x, y) = zoo.load("mnist_01_rs_pruned"), data.mnist("test", 1201)
    chosen, folder = [0, 1, 247, 1200], tmp_path / "proofs"

    def verdicts():
        options = {"store": tmp_path / "verdicts.sqlite", "proofs": folder, "progress": False}
        return verification.verify_dataset(net, x[chosen], y[chosen], 0.1, **options)

    found = verdicts()
    files = sorted(map(str, folder.glob("*.proof")))
    assert sorted(v.proof for v in found.verdicts) == sorted(Path(file).read_bytes() for file in files)
    assert found.grades == {("robust", "proved"): 3, ("counterexample", "proved"): 1}
    Path(files[2]).unlink()
    assert verdicts().grades == found.grades
    assert Path(files[2]).exists()
    assert __main__.main(["check", *files]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "4 of 4 proofs are valid"
    Path(files[0]).write_bytes(Path(files[0]).read_bytes()[:-7])
    assert __main__.main(["check", *files]) == 1
    said = capsys.readouterr().out
    assert "NOT VALID: the proof or the weights cannot be read" in said
    assert said.splitlines()[-1] == "3 of 4 proofs are valid"
    assert __main__.main(["check", files[1], "--weights", str(zoo.shipped() / "mnist_01_rs.safetensors")]) == 1
    assert "not those of the claim" in capsys.readouterr().out
    assert __main__.main(["check", files[1], "--weights", files[1]]) == 1
    assert "advlab: " in capsys.readouterr().err


def test_a_store_keeps_the_grade(tmp_path, monkeypatch):
    """What only the solver supports is not asked again for its proof."""
    verdict = verification.Verdict("robust", "mixed-integer", 1e-6, 1.0, asked=True)
    monkeypatch.setattr(verification.dataset, "verify", lambda *_, **__: verdict)
    net, (x, y) = zoo.load("mnist_01_rs_pruned"), data.mnist("test", 1)
    options = {"store": tmp_path / "verdicts.sqlite", "proofs": tmp_path / "proofs", "progress": False}
    assert verification.verify_dataset(net, x, y, 0.1, **options).grades == {("robust", "solved"): 1}
    monkeypatch.setattr(verification.dataset, "verify", None)
    assert verification.verify_dataset(net, x, y, 0.1, **options).grades == {("robust", "solved"): 1}


def test_the_page_says_what_stands_in_a_file(digit, capsys):
    """Each key, and each layer, that a proof has; and its examples run."""

    def keys(value):
        inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
        return {*(value if isinstance(value, dict) else ()), *(key for v in inner for key in keys(v))}

    document = opened(digit)
    words = set(re.findall(r"`(\w+)`", PAGE.read_text()))
    assert keys(document) | {layer["op"] for layer in document["claim"]["network"]["layers"]} <= words
    failed, tried = doctest.testfile(str(PAGE), module_relative=False)
    assert tried > 3
    assert not failed, capsys.readouterr().out
