"""Chapter 3: interval bounds, the RS loss, L1 by use, and the training that joins them."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from advlab import models, stability, verification, zoo
from advlab.stability import losses
from advlab.stability.bounds import interval_margins


def small(seed=0):
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Conv2d(1, 3, 3, stride=2, padding=1),
        nn.ReLU(),
        nn.Sequential(nn.Flatten(), nn.Linear(27, 7)),
        nn.ReLU(),
        nn.Linear(7, 4),
    ).double()


def preactivations(net, x):
    """The inputs of each ReLU and the logits, by hooks: no code of the bounds."""
    seen = []
    handles = [m.register_forward_pre_hook(lambda _, i: seen.append(i[0])) for m in net.modules() if isinstance(m, nn.ReLU)]
    logits = net(x)
    for handle in handles:
        handle.remove()
    return [*seen, logits]


@settings(deadline=None, max_examples=25)
@given(st.integers(0, 10**6), st.floats(0, 0.7))
def test_no_input_of_the_ball_leaves_the_bounds(seed, eps):
    net = small(seed)
    generator = torch.Generator().manual_seed(seed)
    x = torch.rand(2, 1, 6, 6, generator=generator, dtype=torch.float64)
    bounds = stability.interval_bounds(net, x, eps)
    signs = torch.randint(-1, 2, (200, 2, 1, 6, 6), generator=generator)  # corners and faces of the ball
    for moved in (x + eps * signs.double()).clamp(0, 1):
        for values, (low, high) in zip(preactivations(net, moved), bounds, strict=True):
            assert values.shape == low.shape
            assert (values >= low - 1e-12).all()
            assert (values <= high + 1e-12).all()


def test_bounds_of_one_layer_are_reached():
    """With no ReLU in between interval arithmetic is exact: the corner of the box that each logit asks for reaches it."""
    torch.manual_seed(1)
    net = nn.Sequential(nn.Flatten(), nn.Linear(5, 3)).double()
    x = torch.rand(1, 5, dtype=torch.float64)
    ((low, high),) = stability.interval_bounds(net, x, 0.3)
    weight, bias = net[1].weight.detach().numpy(), net[1].bias.detach().numpy()
    ends = np.clip([x[0] - 0.3, x[0] + 0.3], 0, 1)
    greatest = np.where(weight > 0, ends[1], ends[0])
    np.testing.assert_allclose(high[0].detach(), (weight * greatest).sum(1) + bias, rtol=1e-12)
    assert torch.equal(low, stability.interval_bounds(net, x, 0.3)[0][0])
    inner = stability.interval_bounds(net, x, 0.1)[0]
    assert (inner[0] > low).all()
    assert (inner[1] < high).all()


def test_the_halving_convolution_is_the_ordinary_one():
    torch.manual_seed(0)
    for shape, kernel in (((2, 3, 10, 12), 5), ((1, 3, 9, 8), 5), ((3, 3, 8, 8), 4)):
        layer = models.HalvingConv2d(3, 5, kernel, padding=2).double()
        x = torch.rand(shape, dtype=torch.float64, requires_grad=True)
        expected = nn.functional.conv2d(x, layer.weight, layer.bias, stride=2, padding=2)
        assert torch.allclose(layer(x), expected, atol=1e-14)
        ours, theirs = (torch.autograd.grad((v**2).sum(), [x, layer.weight]) for v in (layer(x), expected))
        assert all(torch.allclose(a, b, atol=1e-12) for a, b in zip(ours, theirs, strict=True))
    with pytest.raises(ValueError, match="even"):
        models.HalvingConv2d(1, 1, 3, padding=1)


def test_bounds_do_not_depend_on_whether_gradients_are_kept():
    """Without gradients the halving convolution goes the ordinary way."""
    torch.manual_seed(0)
    net, x = models.stability_cnn().eval(), torch.rand(5, 1, 28, 28)
    with_gradients = stability.interval_bounds(net, x, 0.1)
    with torch.no_grad():
        without = stability.interval_bounds(net, x, 0.1)
    assert with_gradients[-1][0].requires_grad
    assert not without[-1][0].requires_grad
    for (a, b), (c, d) in zip(with_gradients, without, strict=True):
        torch.testing.assert_close(a, c, atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(b, d, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("method", ["improved", "crown"])
def test_bounds_in_float64_begin_with_a_box_in_float64(method):
    """float32(x) - eps, rounded to float32, would be another box."""
    net = nn.Sequential(nn.Linear(1, 1), nn.ReLU(), nn.Linear(1, 1)).eval()
    with torch.no_grad():
        net[0].weight.fill_(1.0)
        net[0].bias.zero_()
    x = torch.tensor([[0.7]])
    low, high = stability.interval_bounds(net, x, 0.1, method)[0]
    assert (low.item(), high.item()) == pytest.approx((x.double().item() - 0.1, x.double().item() + 0.1), abs=1e-15)


def test_rs_loss_is_its_formula():
    low = torch.tensor([[[[-1.0, 2.0]], [[-3.0, -1.0]]]])  # (1, 2, 1, 2)
    high = torch.tensor([[[[1.0, 3.0]], [[0.0, 2.0]]]])
    logits = (torch.full((1, 10), -9.0), torch.full((1, 10), 9.0))
    each = -np.tanh([1 - 1, 1 + 6, 1 + 0, 1 - 2])
    assert float(stability.rs_loss([(low, high), logits])) == pytest.approx(each.sum(), rel=1e-6)
    assert float(stability.rs_loss([(low, high), logits], reduction="mean")) == pytest.approx(each.sum() / 2, rel=1e-6)
    flat = [(low.flatten(1), high.flatten(1)), logits]
    assert float(stability.rs_loss(flat, reduction="mean")) == pytest.approx(each.sum(), rel=1e-6)
    twice = [(low.expand(2, -1, -1, -1), high.expand(2, -1, -1, -1)), logits]
    assert float(stability.rs_loss(twice)) == pytest.approx(each.sum(), rel=1e-6)
    with pytest.raises(ValueError, match="reduction"):
        stability.rs_loss(flat, reduction="max")


def dense(layer, shape):
    """The matrix of a convolution: its response to each input on its own."""
    with torch.no_grad():
        units = torch.eye(int(np.prod(shape)), dtype=layer.weight.dtype).view(-1, *shape)
        return (layer(units) - layer(torch.zeros_like(units))).flatten(1).T


def test_sparsity_loss_is_the_l1_norm_of_the_dense_network_without_a_border():
    net = small()
    expected = 9 * net[0].weight.abs().sum() + net[2][1].weight.abs().sum()
    assert torch.allclose(stability.sparsity_loss(net), expected)
    assert torch.allclose(stability.sparsity_loss(net, (1, 6, 6)), expected)
    unpadded = nn.Sequential(nn.Conv2d(2, 3, 3, stride=2), nn.ReLU(), nn.Flatten(), nn.Linear(27, 2)).double()
    assert torch.allclose(stability.sparsity_loss(unpadded), dense(unpadded[0], (2, 7, 7)).abs().sum())
    paper = models.stability_cnn()
    expected = 196 * paper[0].weight.abs().sum() + 49 * paper[2].weight.abs().sum() + paper[5].weight.abs().sum()
    assert torch.allclose(stability.sparsity_loss(paper), expected)
    with pytest.raises(ValueError, match="shape"):
        stability.sparsity_loss(nn.Sequential(nn.Conv2d(1, 1, 3), nn.ReLU(), nn.Conv2d(1, 1, 3)))


def test_bad_networks_and_budgets_are_named():
    with pytest.raises(TypeError, match="Sequential"):
        stability.interval_bounds(nn.Linear(2, 2), torch.zeros(1, 2), 0.1)
    with pytest.raises(TypeError, match="Tanh"):
        stability.interval_bounds(nn.Sequential(nn.Linear(2, 2), nn.Tanh()), torch.zeros(1, 2), 0.1)
    with pytest.raises(ValueError, match="eps"):
        stability.interval_bounds(small(), torch.zeros(1, 1, 6, 6), -0.1)
    with pytest.raises(ValueError, match="method"):
        stability.interval_bounds(small(), torch.zeros(1, 1, 6, 6), 0.1, method="exact")


METHODS = pytest.mark.parametrize("method", ["naive", "improved", "crown"])


@METHODS
def test_images_that_are_none_are_refused(method):
    """Outside of [0, 1] the clipped ball would be a point, and every unit stable."""
    net, x = small().eval(), torch.rand(2, 1, 6, 6, dtype=torch.float64)
    hole = x.clone()
    hole[1, 0, 2, 3] = np.nan
    for bad, error in ((255 * x, ValueError), (hole, ValueError), ((255 * x).byte(), TypeError), (x[0, 0, 0], ValueError)):
        for ask in (stability.interval_bounds, stability.count_units):
            with pytest.raises(error, match=r"x must lie in|\[0, 1\]|it must be a batch"):
                ask(net, bad, 0.1, method)
    for eps, error in ((np.nan, ValueError), ("0.1", TypeError)):
        with pytest.raises(error, match="eps is"):
            stability.interval_bounds(net, x, eps, method)


@METHODS
def test_inputs_with_a_graph_and_no_inputs_have_bounds(method):
    net, x = small().eval(), torch.rand(2, 1, 6, 6, dtype=torch.float64)
    plain, graph = (stability.interval_bounds(net, t, 0.1, method) for t in (x, x.clone().requires_grad_()))
    assert all(torch.equal(a, b) for pair, other in zip(plain, graph, strict=True) for a, b in zip(pair, other, strict=True))
    assert stability.count_units(net, x, 0.1, method) == stability.count_units(net, x.clone().requires_grad_(), 0.1, method)
    empty = stability.interval_bounds(net, x[:0], 0.1, method)
    assert [low.flatten(1).shape for low, _ in empty] == [(0, 27), (0, 7), (0, 4)]


def test_a_channel_that_is_turned_round_has_its_bounds_in_order():
    net = nn.Sequential(models.Normalize([0.5, 0.5], [-0.25, 0.25]), nn.Flatten(), nn.Linear(8, 3)).double()
    x = torch.rand(2, 2, 2, 2, dtype=torch.float64)
    low, high = stability.interval_bounds(net, x, 0.1)[-1]
    corners = (x + 0.1 * (2.0 * torch.randint(2, (300, *x.shape)).double() - 1)).clamp(0, 1)
    for logits in map(net, corners):
        assert (logits >= low - 1e-12).all()
        assert (logits <= high + 1e-12).all()
    y = torch.tensor([0, 2])
    margins = interval_margins(net, x, y, 0.1)
    for logits in map(net, corners):
        assert (logits.gather(1, y[:, None]) - logits >= margins - 1e-12).all()


def test_dropout_has_no_bounds_while_it_drops():
    net, x = nn.Sequential(nn.Linear(4, 5), nn.ReLU(), nn.Dropout(), nn.Linear(5, 3)), torch.rand(2, 4)
    for ask in (stability.interval_bounds, lambda net, x, eps: interval_margins(net, x, torch.tensor([0, 1]), eps)):
        with pytest.raises(ValueError, match=r"dropout in training mode.*net\.eval\(\)"):
            ask(net.train(), x, 0.1)
        ask(net.eval(), x, 0.1)
    assert stability.sparsity_loss(net.train()) == net[0].weight.abs().sum(), "weights have a norm all the same"


@pytest.mark.parametrize("y", [[-1, 0], [0, 4], [0, 1, 2], [0.0, 1.0]])
def test_margins_of_labels_that_are_none_are_refused(y):
    with pytest.raises((ValueError, TypeError), match=r"y (?:ranges from|has the shape|is torch)"):
        interval_margins(small(), torch.rand(2, 1, 6, 6, dtype=torch.float64), torch.tensor(y), 0.1)


def test_losses_of_nothing_are_refused():
    for bounds in ([], stability.interval_bounds(small(), torch.rand(0, 1, 6, 6).double(), 0.1)):
        with pytest.raises(ValueError, match="no bounds"):
            stability.rs_loss(bounds)
    with pytest.raises(ValueError, match="no linear layer"):
        stability.sparsity_loss(nn.Sequential(nn.ReLU()))


def test_training_pairs_and_loss():
    net = small().float().eval()
    x, y = torch.rand(5, 1, 6, 6), torch.randint(4, (5,))
    for done, budget in ((0.0, 0.01), (0.25, 0.055), (0.5, 0.1), (1.0, 0.1)):
        pairs = losses.pgd_pairs(net, x, y, done, eps=0.1, step_size=0.03)
        assert torch.equal(pairs[:, 1], x)
        assert (pairs[:, 0] - x).abs().max() == pytest.approx(budget, rel=1e-4)
    whole = losses.stability_loss(net, pairs, y, eps=0.1, l1=2.0, rs=3.0)
    bounds = stability.interval_bounds(net, x, 0.1)
    parts = nn.functional.cross_entropy(net(pairs[:, 0]), y), stability.sparsity_loss(net), stability.rs_loss(bounds, "mean")
    assert torch.allclose(whole, parts[0] + 2 * parts[1] + 3 * parts[2])
    assert torch.allclose(losses.stability_loss(net, pairs, y, eps=0.1), parts[0])


def test_a_recipe_of_the_paper_trains_on_a_slice(tmp_path):
    path = zoo.train("mnist_01_rs", tmp_path, epochs=1, n=320, progress=False)
    net = zoo.load("mnist_01_rs", path.parent)
    untrained = models.stability_cnn()
    x = torch.rand(20, 1, 28, 28, generator=torch.Generator().manual_seed(0))
    assert len(list(stability.interval_bounds(net, x, 0.1))) == 4
    assert sum(int(u.sum()) for u in stability.unstable(stability.interval_bounds(untrained, x, 0.1))) > 0
    assert zoo.card("mnist_01_rs", tmp_path)["epochs"] == 1


def test_recipes_that_prune_start_with_the_trained_network(tmp_path):
    zoo.train("mnist_01_l1", tmp_path, epochs=1, n=256, progress=False)
    for name in ("mnist_01_l1_small", "mnist_01_l1_pruned"):
        zoo.train(name, tmp_path, n=256, progress=False)
    first, small, pruned = (zoo.load(f"mnist_01_l1{end}", tmp_path) for end in ("", "_small", "_pruned"))
    assert zoo.card("mnist_01_l1_small", tmp_path)["start"]["sha256"] == zoo.card("mnist_01_l1", tmp_path)["sha256"]
    expected = stability.prune_small_weights(first)
    for key, value in expected.state_dict().items():
        assert torch.equal(small.state_dict()[key], value)
        assert torch.equal(pruned.state_dict()[key], value)
    assert not torch.equal(small[5].weight, first[5].weight)
    masks = [layer.mask for layer in pruned if isinstance(layer, models.MaskedReLU)]
    assert [tuple(m.shape) for m in masks] == [(16, 14, 14), (32, 7, 7), (100,)]
    assert all(bool((m != 0).any()) for m in masks[:2])


def test_small_weights_go_and_the_rest_stays():
    net = small()
    pruned = stability.prune_small_weights(net, 0.05)
    for old, new, last in ((net[0], pruned[0], False), (net[2][1], pruned[2][1], False), (net[4], pruned[4], True)):
        expected = old.weight if last else torch.where(old.weight.abs() < 0.05, 0.0, old.weight)
        assert torch.equal(new.weight, expected)
        assert torch.equal(new.bias, old.bias)
    assert (net[2][1].weight.abs() < 0.05).any(), "the network itself keeps them"
    assert (net[2][1].weight == 0).sum() == 0
    for threshold in (-1.0, np.nan, np.inf):
        with pytest.raises(ValueError, match="threshold"):
            stability.prune_small_weights(net, threshold)


def test_relus_that_hardly_switch_become_linear_or_zero():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(3, 40), nn.ReLU(), nn.Linear(40, 2)).eval()
    with torch.no_grad():
        net[0].bias.copy_(torch.linspace(-1.5, 1.5, 40))
    x = torch.rand(500, 3)
    pruned = stability.prune_relus(net, x, 0.1, batch_size=64)
    share = (net[0](x) > 0).double().mean(0)
    mask = pruned[1].mask
    assert torch.equal(mask == 1, share >= 0.9)
    assert torch.equal(mask == -1, share <= 0.1)
    assert {-1, 0, 1} == set(mask.tolist())
    z = net[0](x).detach()
    expected = torch.where(mask == 0, z.clamp_min(0), torch.where(mask == 1, z, 0.0))
    assert torch.allclose(pruned(x), net[2](expected), atol=1e-6)
    assert torch.equal(stability.prune_relus(net, x, 0.0)(x), net(x)), "units that never switch on x change nothing there"
    for bad in (-0.1, 0.5):
        with pytest.raises(ValueError, match="fraction"):
            stability.prune_relus(net, x, bad)
    with pytest.raises(ValueError, match="no inputs"):
        stability.prune_relus(net, x[:0])
    for bad in (255 * x, x * np.nan):
        with pytest.raises(ValueError, match=r"in \[0, 1\]"):
            stability.prune_relus(net, bad)
    with pytest.raises(ValueError, match="batch_size is 0"):
        stability.prune_relus(net, x, batch_size=0)


def test_pruning_leaves_a_network_in_training_mode_as_it_was():
    """And counts as the network computes afterwards, in eval mode."""
    torch.manual_seed(0)
    net, x = nn.Sequential(nn.Linear(3, 40), nn.BatchNorm1d(40), nn.ReLU(), nn.Linear(40, 2)), torch.rand(100, 3)
    before = {name: value.clone() for name, value in net.state_dict().items()}
    pruned = stability.prune_relus(net, x, 0.3)
    assert net.training
    assert pruned.training
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    assert torch.equal(pruned[2].mask, stability.prune_relus(net.eval(), x, 0.3)[2].mask)


def test_pruned_networks_have_bounds_a_normal_form_and_verdicts():
    torch.manual_seed(1)
    net = nn.Sequential(nn.Flatten(), nn.Linear(9, 30), nn.ReLU(), nn.Linear(30, 3)).eval()
    x = torch.rand(200, 1, 3, 3)
    pruned = stability.prune_relus(net, x, 0.3)
    assert 0 < int((pruned[2].mask == 0).sum()) < 30
    form = verification.normal_form(pruned, (1, 3, 3))
    assert form.hidden[0].units == int((pruned[2].mask == 0).sum())
    np.testing.assert_allclose(form(x.double().flatten(1).numpy()), pruned(x).detach().numpy(), atol=1e-5)
    low, high = stability.interval_bounds(pruned, x[:4], 0.1)[-1]
    for _ in range(50):
        logits = pruned((x[:4] + 0.1 * (2 * torch.rand(4, 1, 3, 3) - 1)).clamp(0, 1))
        assert (logits >= low - 1e-5).all()
        assert (logits <= high + 1e-5).all()
    y = int(pruned(x[:1]).argmax())
    assert verification.verify(pruned, x[0], y, 0.0).status == "robust"
    assert verification.verify(pruned, x[0], y, 1.0).status == "counterexample"


@METHODS
def test_units_are_counted_and_constant_ones_named(method):
    net = small().eval()
    with torch.no_grad():
        net[0].weight[1] = 0  # 9 constant units
        net[2][1].weight[:, :9] = 0
        net[2][1].weight[4, 18:] = 0  # reads constant units only
    x = torch.rand(6, 1, 6, 6, dtype=torch.float64)
    counts = stability.count_units(net, x, 0.1, method)
    assert counts.units == (27, 7)
    assert counts.constant == (9, 1)
    for k in range(2):
        whole = counts.unstable[k] + counts.active[k] + counts.inactive[k] + counts.constant[k]
        assert whole == pytest.approx(counts.units[k])
    bounds = stability.unstable(stability.interval_bounds(net, x, 0.1, method))
    assert sum(counts.unstable) == pytest.approx(sum(float(u.flatten(1).sum(1).double().mean()) for u in bounds))
    assert counts.share_unstable == pytest.approx(sum(counts.unstable) / 34)
    assert counts.share_unstable_of_live == pytest.approx(sum(counts.unstable) / 24)
    assert stability.count_units(net, x, 0.0, method).unstable == (0.0, 0.0)
    with pytest.raises(ValueError, match="method"):
        stability.count_units(net, x, 0.1, "exact")
    with pytest.raises(ValueError, match="no inputs"):
        stability.count_units(net, x[:0], 0.1)
