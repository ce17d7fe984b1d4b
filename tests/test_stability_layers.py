"""What the normal form reads: every layer and call against torch, and what it refuses, by its true cause."""

import math

import pytest
import torch
from torch import nn
from torch.nn import functional

from advlab import verification

IMAGE = (2, 6, 6)


class Calls(nn.Module):
    """A function of an image between a convolution and a linear layer, with constants of its own."""

    def __init__(self, function, size):
        super().__init__()
        self.function = function
        self.stem, self.head = nn.Conv2d(2, 4, 3, padding=1), nn.Linear(size, 3)
        self.register_buffer("mean", torch.tensor([0.1, -0.2, 0.3, 0.0]).view(1, 4, 1, 1))
        self.std = torch.tensor(0.3)  # no buffer
        self.weight = nn.Parameter(torch.linspace(-1, 1, 18).view(3, 6))
        self.slope = nn.Parameter(torch.tensor([0.1, 0.2, -0.3, 1.5]))

    def forward(self, x):
        return self.head(torch.flatten(self.function(self, self.stem(x)), 1))


LAYERS = {
    "leaky": nn.LeakyReLU(0.2),
    "steep": nn.LeakyReLU(1.5),
    "prelu": nn.PReLU(),
    "prelu by channel": nn.PReLU(4),
    "relu6": nn.ReLU6(),
    "hardtanh": nn.Hardtanh(-0.3, 0.4),
    "max pool": nn.MaxPool2d(2),
    "max pool of 3": nn.MaxPool2d(3, 2, padding=1),
    "max pool dilated": nn.MaxPool2d((2, 3), 1, dilation=(2, 1)),
    "max pool that fits": nn.MaxPool2d(2, ceil_mode=True),
    "zeros around": nn.ZeroPad2d((1, 0, 2, -1)),
    "shuffled": nn.PixelShuffle(2),
    "dropout of channels": nn.Dropout2d(),
    "unflattened": nn.Sequential(nn.Flatten(), nn.Unflatten(1, (2, 8, 9))),
}
CALLS = {
    "normalised": lambda m, x: functional.relu((x - m.mean) / m.std),
    "normalised by numbers": lambda m, x: ((x - 0.4) / 0.3).relu(),
    "number first": lambda m, x: torch.relu(1 - 2 * x),
    "difference": lambda m, x: x.relu() - (-x).clamp(min=0.1),
    "clamped": lambda m, x: x.clamp(-0.2, 0.3) + x.clamp_max(0.1) + torch.clip(x, max=0.2),
    "clamped to a point": lambda m, x: x + x.clamp(0.3, -0.2),
    "maximum": lambda m, x: torch.maximum(x, x.flip(2)) - torch.minimum(x, m.mean),
    "abs": lambda m, x: x.abs(),
    "leaky": lambda m, x: functional.leaky_relu(x, 0.3) + functional.prelu(x, m.slope),
    "relu6": lambda m, x: functional.relu6(4 * x) + functional.hardtanh(x, -0.1, 0.1),
    "max pool": lambda m, x: functional.max_pool2d(x, 2),
    "average": lambda m, x: functional.avg_pool2d(x, 2) + functional.adaptive_avg_pool2d(x, 1),
    "mean": lambda m, x: x.mean((2, 3)) + x.mean(dim=-1).sum(2),
    "view": lambda m, x: x.view(x.shape[0], -1).relu(),
    "reshape": lambda m, x: x.reshape(x.size(0), 2, 2, 36).permute(0, 3, 1, 2).relu(),
    "halves": lambda m, x: torch.cat([x[:, :2].relu(), x.chunk(2, 1)[1], x[:, :1, ::2].repeat(1, 1, 2, 1)], 1),
    "transposed": lambda m, x: x.transpose(2, 3).unsqueeze(1).squeeze(1).relu(),
    "padded": lambda m, x: functional.pad(x, (1, 2)).relu(),
    "stacked": lambda m, x: torch.stack([x, x.relu()], 1).unbind(1)[1],
    "linear": lambda m, x: functional.linear(x, m.weight, m.weight[:, 0]).relu() + x @ m.weight.T,
    "folded": lambda m, x: x * (m.slope.abs().sum() + 1) + m.mean.exp(),
    "idle dropout": lambda m, x: functional.dropout(x, 0.5, m.training).relu(),
}


def network(function):
    torch.manual_seed(0)
    probe = Calls(function, 1)
    size = function(probe, torch.zeros(1, 4, 6, 6)).flatten(1).shape[1]
    net = Calls(function, size).eval()
    with torch.no_grad():
        for p in net.parameters():
            p.mul_(2)
    return net


def check(net, shape=IMAGE):
    """The normal form is the network, and its verdicts hold on samples and at their witness."""
    form = verification.normal_form(net.double(), shape)
    torch.manual_seed(1)
    x = torch.rand(20, *shape, dtype=torch.float64)
    ours = torch.from_numpy(form(x.flatten(1).numpy()))
    torch.testing.assert_close(ours, net(x).detach(), rtol=1e-12, atol=1e-12)
    net.float()
    y, seen = int(ours[0].argmax()), set()
    for eps in (0.0, 0.01, 0.5):
        found = verification.verify(net, x[0].float(), y, eps, last_stage="alpha-crown")
        seen.add(found.status)
        if found.status == "robust":
            noise = (2 * torch.rand(200, *shape) - 1) * eps
            assert (net((x[0].float() + noise).clamp(0, 1)).argmax(1) == y).all()
    assert "robust" in seen


@pytest.mark.parametrize("layer", LAYERS.values(), ids=list(LAYERS))
def test_layers_are_read(layer):
    torch.manual_seed(0)
    stem = nn.Conv2d(2, 4, 3, padding=1)
    size = layer.eval()(stem(torch.zeros(1, *IMAGE))).flatten(1).shape[1]
    check(nn.Sequential(stem, layer, nn.Flatten(), nn.Linear(size, 3)).eval())


@pytest.mark.parametrize("function", CALLS.values(), ids=list(CALLS))
def test_calls_are_read(function):
    check(network(function))


@pytest.mark.parametrize(
    ("function", "said"),
    [
        (lambda m, x: x * x, "product of two computed"),
        (lambda m, x: m.std / (x + 9), "division by a computed"),
        (lambda m, x: x.view(-1, 4, 6, 6).flip(0), "mixes the images"),
        (lambda m, x: x.mean((0, 2)), "mixes the images"),
        (lambda m, x: functional.pad(x, (1, 1), value=1.0), "anything but zeros"),
        (lambda m, x: torch.cat([x, torch.ones(2, 1, 6, 6)], 1), "constants beside"),
        (lambda m, x: functional.dropout(x, 0.5, True), "dropout that is at work"),
        (lambda m, x: x + torch.ones(5), "meets the shape"),
        (lambda m, x: torch.add(x, x, alpha=2), "two branches"),
        (lambda m, x: x.sigmoid(), "sigmoid"),
        (lambda m, x: functional.max_pool2d(x, 2, 2, 0, 1, False, True)[0], "indices"),
        (lambda m, x: functional.max_pool2d(x, 4, ceil_mode=True), "ceil_mode"),
    ],
)
def test_what_is_no_such_function_is_refused_by_its_name(function, said):
    with pytest.raises(TypeError, match=said):
        verification.normal_form(Calls(function, 1).eval(), IMAGE)


def test_constants_of_a_forward_count_in_the_hash():
    net, other = (network(CALLS["normalised"]) for _ in range(2))
    assert verification.network_hash(net, IMAGE) == verification.network_hash(other, IMAGE)
    other.std = torch.tensor(0.31)
    assert verification.network_hash(net, IMAGE) != verification.network_hash(other, IMAGE)


def test_a_max_pool_is_decided_exactly():
    """max(x1, .., x4) < c on a box: the bound is met, from both sides."""
    net = nn.Sequential(nn.MaxPool2d(2), nn.Flatten()).double().eval()
    low, high = torch.zeros(1, 2, 2).double(), torch.tensor([[[0.2, 0.5], [0.3, 0.1]]]).double()
    rows = -torch.ones(1, 1)
    found = [verification.verify_property(net, low, high, rows, torch.tensor([c])).status for c in (0.501, 0.499)]
    assert found == ["robust", "counterexample"]


def partly(layer):
    net = nn.Sequential(nn.Linear(2, 2), layer).eval()
    layer.train()
    return net


def norm(**settings):
    layer = nn.BatchNorm1d(2)
    for name, value in settings.items():
        setattr(layer, name, value) if name == "eps" else getattr(layer, name).fill_(value)
    return nn.Sequential(layer, nn.Linear(2, 2)).eval()


@pytest.mark.parametrize(
    ("net", "x", "error", "said"),
    [
        (nn.Linear(2, 1).eval(), torch.rand(2), ValueError, "1 logit.*verify_property"),
        (norm(running_var=math.nan), torch.rand(2), ValueError, "not finite: 0.running_var"),
        (norm(running_mean=math.inf), torch.rand(2), ValueError, "not finite: 0.running_mean"),
        (norm(running_var=0.0, eps=0.0), torch.rand(2), ValueError, "running variance that is not above 0"),
        (norm(running_var=-1.0), torch.rand(2), ValueError, "running variance that is not above 0"),
        (partly(nn.BatchNorm1d(2)), torch.rand(2), ValueError, "layer 1 is in training mode"),
        (partly(nn.Dropout()), torch.rand(2), ValueError, "layer 1 is in training mode"),
        (nn.Linear(2, 2).bfloat16().eval(), torch.rand(2), TypeError, "bfloat16.*net.float"),
        (nn.Linear(2, 2).eval(), torch.rand(2).bfloat16(), ValueError, "x is torch.bfloat16"),
        (nn.Linear(2, 2).eval(), torch.rand(2).half(), ValueError, "x is torch.float16"),
        (nn.Sequential(nn.Flatten(0), nn.Linear(2, 2)).eval(), torch.rand(2), TypeError, "mixes the images"),
    ],
)
def test_errors_name_the_cause(net, x, error, said):
    with pytest.raises(error, match=said):
        verification.verify(net, x, 0, 0.1)


def test_a_batch_norm_without_variance_is_read_while_it_has_an_eps():
    check(norm(running_var=0.0), (2,))
