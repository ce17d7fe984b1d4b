"""What a network is made of, against NumPy, SciPy and networks whose answers are known."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from advlab import data, models, stability
from labbook.relu_stability import structure


@pytest.fixture
def net():
    torch.manual_seed(0)
    return models.stability_cnn().eval()


def test_activations_are_those_of_the_network(net):
    x = torch.rand(7, 1, 28, 28)
    found = structure.activations(net, x, batch_size=3)
    assert [tuple(f.shape) for f in found] == [(7, 16, 14, 14), (7, 32, 7, 7), (7, 100)]
    torch.testing.assert_close(net[7](found[2]), net(x))
    assert all(bool((f >= 0).all()) for f in found)


def test_live_channels_are_those_that_move(net):
    """Cut filters out, and see which channels move when the input does."""
    with torch.no_grad():
        net[0].weight[3:] = 0
        net[2].weight[:, :3][5:] = 0  # channels 5 and later see dead channels only
        net[5].weight[40:] = 0
    moved = []
    pairs = zip(*(structure.activations(net, x) for x in (torch.zeros(1, 1, 28, 28), torch.rand(200, 1, 28, 28))), strict=True)
    for still, values in pairs:
        moved.append(int(((values - still).abs() > 1e-5).transpose(0, 1).flatten(1).any(1).sum()))
    found = structure.live_channels(net, (1, 28, 28))
    assert found == [3, 5, 40]
    assert all(m <= f for m, f in zip(moved, found, strict=True)), "nothing that moves is called constant"


def test_behaviour_is_what_the_units_do(net):
    with torch.no_grad():
        net[0].weight[0] = 0
        net[0].bias[1], net[0].bias[2] = 9.0, -9.0
    x = data.mnist(n=50)[0]
    found = structure.behaviour(net, x)
    for k, values in enumerate(structure.activations(net, x)):
        total = found.constant[k] + found.on[k] + found.off[k] + found.switching[k]
        assert total == values[0].numel()
        varies = ((values > 0).any(0) & ~(values > 0).all(0)).sum()
        assert found.switching[k] == varies, "a constant unit does not switch"
    assert found.constant[0] == 196
    assert found.on[0] >= 196 <= found.off[0]
    with pytest.raises(ValueError, match="no inputs"):
        structure.behaviour(net, x[:0])


def test_switched_counts_signs(net):
    x, other = data.mnist(n=6)[0], torch.rand(6, 1, 28, 28)
    assert structure.switched(net, x, x) == [0, 0, 0]
    by_hand = ((net[:2](x) > 0) ^ (net[:2](other) > 0)).sum() / 6
    assert structure.switched(net, x, other)[0] == pytest.approx(float(by_hand))
    with pytest.raises(ValueError, match="one shape"):
        structure.switched(net, x, other[:3])


def test_pruned_relus_are_refused_where_units_are_counted(net):
    x = data.mnist(n=100)[0]
    pruned = stability.prune_relus(net, x)
    for call in (lambda: structure.behaviour(pruned, x), lambda: structure.live_channels(pruned, (1, 28, 28))):
        with pytest.raises(TypeError, match="pruned"):
            call()
    assert len(structure.activations(pruned, x)) == 3


def test_kernel_energy():
    """A single tap has all frequencies alike; a constant kernel is low, an alternating one high; no kernel has no share."""
    tap, flat, board = torch.zeros(3, 1, 5, 5)
    tap[0, 2, 2] = -3.0
    flat[:] = 1.0
    board[0] = torch.tensor([[(-1.0) ** (i + j) for j in range(5)] for i in range(5)])
    found = structure.kernel_energy_below(torch.stack([tap, flat, board, torch.zeros(1, 5, 5)]))
    frequency = np.fft.fftfreq(32)
    assert found[0] == pytest.approx((np.abs(frequency) < 0.25).mean() ** 2)
    assert found[1] > 0.8
    assert found[2] < 0.1
    assert np.isnan(found[3])
    weight = torch.randn(2, 3, 5, 5)
    assert structure.kernel_energy_below(weight, cutoff=1.1) == pytest.approx(1)
    energy = (weight.numpy() ** 2).sum((1, 2, 3))  # Parseval
    assert (np.abs(np.fft.fft2(weight.numpy(), (32, 32))) ** 2).sum((1, 2, 3)) / 1024 == pytest.approx(energy, rel=1e-5)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 1000), st.floats(-0.8, 0.8))
def test_the_slant_of_a_sheared_stroke_grows_by_the_shear(seed, shear):
    """Moving each row sideways by shear * row adds shear to the slant, and leaves the ink as it is."""
    g = torch.Generator().manual_seed(seed)
    rows = torch.arange(28) - 13.5
    centre = 13.5 + 2 * torch.rand(28, generator=g)

    def draw(amount):
        place = centre + amount * rows
        return (
            torch.exp(-0.5 * (torch.arange(28)[None] - place[:, None]) ** 2)[None, None] * (rows.abs() < 7)[None, None, :, None]
        )

    ink, slant = structure.stroke(torch.cat([draw(0.0), draw(shear)])).unbind(1)
    assert slant[1] - slant[0] == pytest.approx(shear, abs=0.02)
    assert ink[0] == pytest.approx(float(ink[1]), rel=0.01)


def test_stroke_of_empty_and_flat_images():
    x = torch.zeros(2, 1, 28, 28)
    x[1, 0, 4] = 1.0
    found = structure.stroke(x)
    assert found[0].tolist() == pytest.approx([0.0, 0.0])
    assert found[1].tolist() == pytest.approx([1 / 28, 0.0])


def test_probes_read_what_is_there():
    """From the input a linear map reads all pixels and the ink; a layer that passes nothing on tells nothing."""
    x, y = data.mnist(n=900)
    blind = nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU(), nn.Flatten(), nn.Linear(2 * 26 * 26, 10)).eval()
    with torch.no_grad():
        blind[0].weight.zero_()
    found = structure.probe(blind, x, y, fit=600)
    assert found.layer == ("input", "ReLU 1")
    assert found.image[0] > 0.85
    assert found.ink[0] > 0.99
    assert found.digit[0] > 0.7
    assert found.digit[1] < 0.2
    assert found.image[1] == pytest.approx(0, abs=0.02)
    copy = nn.Sequential(nn.Conv2d(1, 1, 1), nn.ReLU(), nn.Flatten(), nn.Linear(784, 10)).eval()
    with torch.no_grad():
        copy[0].weight.fill_(1.0)
        copy[0].bias.zero_()
    same = structure.probe(copy, x, y, fit=600)
    for column in (same.digit, same.ink, same.slant, same.image):
        assert column[0] == pytest.approx(column[1])
    features = x[:600].flatten(1).double().numpy()
    centred, targets = features - features.mean(0), structure.stroke(x)[:600, 1].numpy()
    weights = np.linalg.solve(centred.T @ centred + np.eye(784), centred.T @ (targets - targets.mean()))
    left = (x[600:].flatten(1).double().numpy() - features.mean(0)) @ weights + targets.mean()
    truth = structure.stroke(x)[600:, 1].numpy()
    assert found.slant[0] == pytest.approx(1 - ((left - truth) ** 2).sum() / ((truth - truth.mean()) ** 2).sum(), rel=1e-6)
    with pytest.raises(ValueError, match="both sides"):
        structure.probe(blind, x, y, fit=900)
