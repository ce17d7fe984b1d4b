"""What the verifier takes two networks for the same by, and what it refuses to read: in-place calls, what is no module."""

import copy
import warnings

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional
from torch.nn.utils import parametrize

from advlab import models, verification, zoo
from advlab.verification import prepared


def leaky(slope):
    """At 0.5 its logits are (0.5 - slope, 0)."""
    net = nn.Sequential(nn.Linear(1, 1), nn.LeakyReLU(slope), nn.Linear(1, 2)).eval()
    for p, value in zip(net.parameters(), ([[1.0]], [-1.5], [[1.0], [0.0]], [0.5, 0.0]), strict=True):
        p.data = torch.tensor(value)
    return net


class Scaled(nn.Module):
    def __init__(self, by):
        super().__init__()
        self.by = by

    def forward(self, weight):
        return weight * self.by[0]


def scaled(by):
    net = nn.Sequential(nn.Linear(4, 2), nn.Flatten())
    parametrize.register_parametrization(net[0], "weight", Scaled(by))
    return net.eval()


class Shifted(nn.Module):
    def __init__(self, shift):
        super().__init__()
        self.register_buffer("shift", shift)
        self.layer = nn.Linear(4, 2)

    def forward(self, x):
        return self.layer(torch.flatten(x + self.shift, 1))


def tied(last):
    """Three layers, of which the third has the weight of the first or of the second; or the very layer is used twice."""
    net = nn.Sequential(*(nn.Linear(2, 2) for _ in range(3)))
    net[2].weight = net[last].weight
    return net.eval()


def twice(last):
    first, second = nn.Linear(2, 2), nn.Linear(2, 2)
    return nn.Sequential(first, second, (first, second)[last]).eval()


PAIRS = {
    "slopes that are no Python floats": ([leaky(np.float32(s)) for s in (0.1, 0.9)], (1,)),
    "strides in a list": (
        [nn.Sequential(nn.MaxPool2d(1, s), nn.Flatten(), nn.Linear(4, 2)) for s in ([2, 2], [3, 3])],
        (1, 4, 4),
    ),
    "a buffer's shape": ([Shifted(torch.tensor([1.0, 5.0]).view(s)) for s in ((1, 2), (2, 1))], (2, 2)),
    "weights computed of a list": ([scaled([s]) for s in (1.0, 2.0)], (4,)),
    "which weight is used again": ([tied(k) for k in (0, 1)], (2,)),
    "which layer is used again": ([twice(k) for k in (0, 1)], (2,)),
}


@pytest.mark.parametrize(("nets", "shape"), PAIRS.values(), ids=list(PAIRS))
def test_networks_that_differ_are_never_taken_for_each_other(nets, shape):
    a, b = (net.eval() for net in nets)
    with torch.no_grad():
        for mine, other in zip(a.parameters(), b.parameters(), strict=True):
            other.copy_(mine)
    prepared.prepared_networks.clear()
    hashes = [verification.network_hash(net, shape) for net in (a, b)]
    assert hashes[0] != hashes[1]
    x = torch.rand(5, *shape)
    for net in (a, b):
        found = prepared.prepare(net, shape).form(x.flatten(1).numpy())
        np.testing.assert_allclose(found, net(x).detach().numpy(), rtol=1e-5, atol=1e-5)
    assert [verification.network_hash(copy.deepcopy(net), shape) for net in (a, b)] == hashes


def test_a_verdict_is_never_that_of_a_network_seen_before():
    x = torch.tensor([0.5])
    found = [verification.verify(leaky(np.float32(slope)), x, 0, 0.1).status for slope in (0.1, 0.9)]
    assert found == ["robust", "counterexample"]


def test_hashes_under_which_verdicts_are_stored_stay():
    expected = {"mnist_01_rs_pruned": "3f674dc79a1d9616", "mnist_adversarial": "a06f622892667200"}
    assert {name: verification.network_hash(zoo.load(name), (1, 28, 28))[:16] for name in expected} == expected


class Constants(nn.Module):
    """A forward that makes tensors."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(3, 3)

    def forward(self, x):
        return self.layer(x - torch.tensor([0.5, 0.4, 0.3])) * torch.tensor(2.0) + torch.tensor([0.5, 0.4, 0.3])


def test_a_network_is_left_as_it_was_and_read_once():
    net, x = Constants().eval(), torch.rand(3)
    before, y = dict(vars(net)), int(net(x[None]).argmax())
    prepared.prepared_networks.clear()
    for _ in range(3):
        assert verification.verify(net, x, y, 0.0).status == "robust"
    assert vars(net) == before
    assert len(prepared.prepared_networks) == 1
    np.testing.assert_allclose(verification.normal_form(net, (3,))(x[None].numpy()), net(x[None]).detach().numpy(), rtol=1e-5)


# ---------------------------------------------------------------------------------------------- changes in place


class Calls(nn.Module):
    """A function between two linear layers."""

    def __init__(self, function, size):
        super().__init__()
        self.function, self.first, self.last = function, nn.Linear(4, 4), nn.Linear(size, 3)
        self.relu, self.dropout = nn.ReLU(inplace=True), nn.Dropout(inplace=True)
        self.register_buffer("shift", torch.ones(1, 4))

    def forward(self, x):
        return self.last(self.function(self, x, self.first(x)))


def dropped(function):
    """The function as a statement: its value is not used, but what it did is."""

    def whole(m, x, h):
        function(m, h)
        return h

    return whole


def added(m, x, h):
    before = h
    h += 1
    return torch.cat([before, h], 1)


def sized(m, x, h):
    n = whole = h.shape[1]
    n *= 1
    return h.view(-1, whole).relu_()


def summed(m, x, h):
    h += x
    h -= 0.3
    h *= 2
    h /= 3
    return m.relu(h)


AGAIN = {
    "a layer": lambda m, x, h: torch.cat([m.relu(h), h], 1),
    "a method": lambda m, x, h: torch.cat([h.relu_(), h], 1),
    "a statement": dropped(lambda m, h: h.clamp_(0, 1)),
    "a layer as a statement": dropped(lambda m, h: m.relu(h)),
    "a function": lambda m, x, h: torch.cat([functional.relu(h, inplace=True), h], 1),
    "a function by place": lambda m, x, h: torch.cat([functional.leaky_relu(h, 0.1, True), h], 1),
    "a function's own name": lambda m, x, h: torch.cat([torch.relu_(h), h], 1),
    "a sum": added,
    "a view": lambda m, x, h: torch.cat([h.view(-1, 2, 2).relu_().flatten(1), h], 1),
    "a part": dropped(lambda m, h: h[:, :2].relu_()),
    "one of two parts": dropped(lambda m, h: h.chunk(2, 1)[0].relu_()),
    "what is contiguous": lambda m, x, h: torch.cat([h.contiguous().relu_(), h], 1),
    "what dropout leaves": lambda m, x, h: torch.cat([m.dropout(h).relu_(), h], 1),
    "a value, by its view": lambda m, x, h: (lambda part: torch.cat([m.relu(h), part], 1))(h[:, 1:]),
    "the input": lambda m, x, h: m.relu(x),
    "the input's view": lambda m, x, h: x.view(-1, 2, 2).clamp_(0.1).flatten(1),
    "a buffer": lambda m, x, h: h + m.shift.mul_(h),
}
ONCE = {
    "a layer": lambda m, x, h: m.relu(h),
    "a chain": lambda m, x, h: functional.hardtanh(h.relu_().mul_(2).view(-1, 2, 2), 0, 1, True).flatten(1),
    "sums": summed,
    "a copy": lambda m, x, h: torch.cat([m.relu(h.clone()), h], 1),
    "what was joined": lambda m, x, h: m.relu(torch.cat([h, x], 1)) + torch.cat([x, h], 1),
    "a sum of two": lambda m, x, h: torch.cat([m.relu(h + x), h], 1),
    "idle dropout": lambda m, x, h: torch.cat([m.dropout(h), h, m.dropout(x)], 1),
    "sizes": sized,
    "views before": lambda m, x, h: m.relu(h.view(-1, 2, 2)).flatten(1),
}


def calls(function):
    probe = Calls(function, 1)
    size = function(probe, torch.zeros(1, 4), torch.zeros(1, 4)).shape[1]
    torch.manual_seed(0)
    return Calls(function, size).eval()


@pytest.mark.parametrize("function", AGAIN.values(), ids=list(AGAIN))
def test_a_change_in_place_of_what_is_used_again_is_refused_by_name(function):
    for ask in (verification.normal_form, verification.network_hash):
        with pytest.raises(TypeError, match=r"(layer relu, a ReLU,|the call of \w+) changes .* in place"):
            ask(calls(function), (4,))


@pytest.mark.parametrize("function", ONCE.values(), ids=list(ONCE))
def test_a_change_in_place_of_what_is_not_used_again_is_read(function):
    net = calls(function).double()
    x = torch.randn(20, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    form = verification.normal_form(net, (4,))
    np.testing.assert_allclose(form(x.numpy()), net(x.clone()).detach().numpy(), rtol=1e-12, atol=1e-12)


def test_layers_in_a_row_may_change_in_place():
    x = torch.rand(1, 4, 4)
    for between in (nn.ReLU(inplace=True), nn.Sequential(nn.Flatten(), nn.ReLU6(True), nn.Dropout(0.5, True))):
        net = nn.Sequential(nn.Conv2d(1, 2, 3), between, nn.Flatten(), nn.Linear(8, 3)).eval()
        assert verification.verify(net, x, int(net(x[None]).argmax()), 0.0).status == "robust"
    with pytest.raises(TypeError, match=r"layer 1, a ReLU, changes .*, the network's input, in place"):
        verification.verify(nn.Sequential(nn.Flatten(), nn.ReLU(True), nn.Linear(16, 3)).eval(), x, 0, 0.0)
    with pytest.raises(TypeError, match="writes into"):
        verification.normal_form(calls(lambda m, x, h: torch.cat([h, x], 1, out=torch.cat([x, x], 1))), (4,))


# ---------------------------------------------------------------------------------------------- layers and modules


def flat(*layers, size=12):
    torch.manual_seed(0)
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(size, 2)).eval()


@pytest.mark.parametrize(
    ("net", "shape"),
    [
        (flat(models.Normalize([0.5], [0.25])), (3, 2, 2)),
        (flat(nn.Conv2d(1, 3, 1), models.Mask(torch.tensor([[True, False], [True, True]]))), (1, 2, 2)),
        (flat(nn.Conv2d(1, 3, 1), models.MaskedReLU(torch.tensor([[1, 0], [-1, 0]]))), (1, 2, 2)),
        (flat(nn.MaxPool2d([2, 2]), size=4), (1, 4, 4)),
        (flat(nn.MaxPool2d([2, 2], [1, 1], [1, 1], [2, 1]), size=20), (1, 4, 4)),
        (flat(nn.AvgPool2d([2, 2], [1, 2]), nn.AdaptiveAvgPool2d([1, 1]), size=1), (1, 4, 4)),
    ],
    ids=["normalised alike", "mask for all channels", "units for all channels", "pool", "pool of lists", "means"],
)
def test_what_is_broadcast_or_given_in_lists_is_read(net, shape):
    x = torch.randn(8, *shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    form = verification.normal_form(net.double(), shape)
    np.testing.assert_allclose(form(x.flatten(1).numpy()), net(x).detach().numpy(), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(
    ("layer", "shape"),
    [
        (models.Normalize([0.5, 0.4, 0.3], [1.0, 1.0, 1.0]), (1, 2, 2)),
        (models.Normalize([0.5], [1.0]), (3,)),
        (models.Mask(torch.ones(3, 2, 2)), (1, 2, 2)),
        (models.MaskedReLU(torch.zeros(3, 2, 2)), (1, 2, 2)),
        (nn.BatchNorm2d(3), (1, 2, 2)),
        (nn.AvgPool2d(2), (4,)),
    ],
    ids=["normalised", "normalised vectors", "mask", "units", "norm", "pool"],
)
def test_what_does_not_fit_is_refused_by_its_shape(layer, shape):
    with pytest.raises(TypeError, match="meets"):
        verification.normal_form(flat(layer), shape)


def test_batch_norm_of_other_dimensions_is_refused():
    with pytest.raises(TypeError, match=r"fit|expected 4D"):
        verification.verify(nn.Sequential(nn.BatchNorm2d(3), nn.Linear(3, 2)).eval(), torch.rand(3), 0, 0.1)


@pytest.mark.filterwarnings("ignore:.*jit.*:DeprecationWarning")
def test_what_is_no_module_is_refused():
    x, plain = torch.rand(3), nn.Linear(3, 3).eval()
    with warnings.catch_warnings(action="ignore"):
        compiled = torch.jit.trace(plain, x[None])
    for net, said in (
        (lambda v: plain(v), "is a function"),
        (compiled, "torch.jit"),
        (nn.Sequential(compiled, plain), "layer 0 is"),
    ):
        for ask in (
            lambda net: verification.verify(net, x, 0, 0.1),
            lambda net: verification.verify_property(net, x, x, torch.eye(3), torch.zeros(3)),
            lambda net: verification.verify_dataset(net, x[None], torch.tensor([0]), 0.1, progress=False),
            lambda net: verification.normal_form(net, (3,)),
            lambda net: verification.network_hash(net, (3,)),
        ):
            with pytest.raises(TypeError, match=said):
                ask(net.eval() if isinstance(net, nn.Module) else net)
