"""Defences beside masks: adversarial training, TRADES, dropout, stochastic pruning, JPEG."""

import functools

import cv2
import numpy as np
import pytest
import torch
from scipy.special import rel_entr
from torch import nn

from advlab import data, masking, models, training


@pytest.fixture(scope="module")
def images():
    return data.cifar10("train", 200, full=False)


@pytest.fixture
def net():
    torch.manual_seed(0)
    return models.resnet(8, 8).eval()


@pytest.mark.parametrize("transform", [masking.single_step, masking.trades_pairs])
def test_attacked_images_are_in_the_ball_around_augmented_ones(net, images, transform):
    x, y = (t[:20] for t in images)
    torch.manual_seed(3)
    augmented = training.flip_and_shift(net, x, y, 0.5, 4)
    torch.manual_seed(3)
    made = transform(net, x, y, 0.5, eps=8 / 255)
    attacked = made[:, 0] if transform is masking.trades_pairs else made
    if transform is masking.trades_pairs:
        assert torch.equal(made[:, 1], augmented)
    assert attacked.shape == x.shape
    assert 0 <= attacked.min() <= attacked.max() <= 1
    assert (attacked - augmented).abs().max() <= 8 / 255 + 1e-6
    with torch.no_grad():
        if transform is masking.single_step:
            before, after = (nn.functional.cross_entropy(net(t), y) for t in (augmented, attacked))
            assert after > before
        else:
            before, after = (net(t).softmax(1).numpy() for t in (augmented, attacked))
            noisy = net((augmented + 8 / 255 * torch.randn_like(augmented).sign()).clamp(0, 1)).softmax(1).numpy()
            assert rel_entr(before, after).sum() > rel_entr(before, noisy).sum()


def test_trades_loss_is_cross_entropy_and_a_divergence(net, images):
    x, y = (t[:16] for t in images)
    other = (x + 0.1 * torch.randn(x.shape, generator=torch.Generator().manual_seed(0))).clamp(0, 1)
    with torch.no_grad():
        same = masking.trades_loss(net, torch.stack([x, x], 1), y, beta=6.0)
        assert same == pytest.approx(nn.functional.cross_entropy(net(x), y).item(), abs=1e-5)
        p, q = (net(t).double().softmax(1).numpy() for t in (x, other))
        expected = -np.log(p[np.arange(16), y]).mean() + 3.0 * rel_entr(p, q).sum(1).mean()
        assert masking.trades_loss(net, torch.stack([other, x], 1), y, beta=3.0).item() == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("pair", [(masking.single_step, None), (masking.trades_pairs, masking.trades_loss)])
def test_training_with_each_makes_it_harder_to_attack_than_plain_training(images, pair):
    """On digits of two kinds, where minutes are not needed: a small convolution sees 3-channel digits."""
    from advlab.attacks import pgd

    x, y = data.mnist("train", 3000)
    few = y < 2
    x, y = nn.functional.pad(x[few], [2] * 4).repeat(1, 3, 1, 1), y[few]
    robust = {}
    for name in ("plain", "defended"):
        torch.manual_seed(0)
        model = nn.Sequential(nn.Conv2d(3, 8, 5, 4), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 49, 10))
        transform, loss = pair
        options = {} if name == "plain" else {"transform": functools.partial(transform, eps=0.15, pixels=1)}
        if name == "defended" and loss:
            options["loss"] = loss
        training.fit(model, x, y, epochs=6, optimizer=lambda w: torch.optim.Adam(w, 3e-3), progress=False, **options)
        attacked = pgd(model, x[:300], y[:300], eps=0.15, steps=20)
        with torch.no_grad():
            robust[name] = (model(attacked).argmax(1) == y[:300]).double().mean().item()
    assert robust["defended"] > robust["plain"] + 0.2, robust


def test_drop_block_drops_whole_squares_and_keeps_the_mean():
    torch.manual_seed(0)
    layer = masking.DropBlock(0.3, 3)
    x = torch.ones(50, 4, 16, 16)
    assert torch.equal(layer.eval()(x), x)
    out = layer.train()(x)
    gone = out == 0
    assert abs(gone[:, :, 2:-2, 2:-2].double().mean() - 0.3) < 0.02
    assert out.mean() == pytest.approx(1.0, abs=1e-5)
    windows = gone.float().unfold(2, 3, 1).unfold(3, 3, 1).amin((4, 5))  # a square that is gone as a whole
    covered = nn.functional.max_pool2d(nn.functional.pad(windows, [2] * 4), 3, 1).bool()
    assert torch.equal(covered, gone), "every value that is gone is in such a square"
    assert torch.equal(masking.DropBlock(0.0)(x), x)
    for bad in ((1.0, 3), (-0.1, 3), (0.1, 0), (0.1, 2.5)):
        with pytest.raises(ValueError, match="must be"):
            masking.DropBlock(*bad)


def test_stochastic_pruning_keeps_the_mean_and_the_large():
    torch.manual_seed(0)
    layer = masking.StochasticPruning(1.0).eval()
    x = torch.linspace(0.1, 4, 36).view(1, 1, 6, 6)
    out = torch.cat([layer(x.repeat(500, 1, 1, 1)) for _ in range(8)])
    assert (out.mean(0) - x[0]).abs().max() < 0.15
    kept = (out != 0).double().mean(0).flatten()
    p = (x / x.sum()).flatten().double()
    assert (kept - (1 - (1 - p) ** 36)).abs().max() < 0.03
    assert torch.equal(layer(torch.zeros(2, 3, 4, 4)), torch.zeros(2, 3, 4, 4))
    assert torch.equal(masking.StochasticPruning(1e9)(x), x), "so many draws take all"
    for bad in (0, np.nan, np.inf):
        with pytest.raises(ValueError, match="above 0"):
            masking.StochasticPruning(bad)


def test_networks_with_dropout_have_it_where_masks_are_and_are_plain_in_eval_mode(images):
    x = images[0][:4]
    masked = [n for n, m in masking.masked_resnet(18, 4).named_modules() if isinstance(m, models.Mask)]
    torch.manual_seed(0)
    plain = models.resnet(18, 4).eval()
    for kind, layer in (("element", nn.Dropout), ("channel", nn.Dropout2d), ("block", masking.DropBlock)):
        torch.manual_seed(0)
        net = masking.dropout_resnet(18, 4, 0.5, kind=kind)
        assert [n for n, m in net.named_modules() if isinstance(m, layer)] == masked
        with torch.no_grad():
            assert not torch.allclose(net.train()(x), net(x))
        torch.manual_seed(0)
        fresh = masking.dropout_resnet(18, 4, 0.5, kind=kind).eval()
        with torch.no_grad():
            assert torch.allclose(fresh(x), plain(x), atol=1e-6)
    with pytest.raises(ValueError, match="kind is"):
        masking.dropout_resnet(8, 4, kind="tile")


def test_random_pruning_is_inserted_after_the_stem_and_each_block(net, images):
    pruned = masking.pruned_at_random(net)
    assert sum(isinstance(m, masking.StochasticPruning) for m in pruned.modules()) == 1 + 3
    with torch.no_grad():
        assert not torch.equal(pruned(images[0][:2]), pruned(images[0][:2]))
        many = masking.pruned_at_random(net, draws=1000.0)
        assert torch.allclose(many(images[0][:2]), net(images[0][:2]), atol=1e-2)


@pytest.mark.parametrize("quality", [20, 75, 95])
def test_jpeg_is_near_opencvs(images, quality):
    x = images[0][:8]
    ours = masking.jpeg(x, quality)
    for image, mine in zip(x, ours, strict=True):
        bgr = (image * 255).round().byte().movedim(0, 2).numpy()[:, :, ::-1]
        theirs = cv2.imdecode(cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, quality])[1], cv2.IMREAD_COLOR)
        apart = np.abs(theirs[:, :, ::-1].astype(float) - 255 * mine.movedim(0, 2).numpy())
        assert apart.mean() < 2, apart.mean()
    assert (masking.jpeg(x, 95) - x).abs().mean() < (masking.jpeg(x, 20) - x).abs().mean()
    assert masking.jpeg(x[:0]).shape == x[:0].shape


def test_jpeg_has_the_gradient_of_the_identity_and_refuses_other_images(images):
    x = images[0][:2].clone().requires_grad_()
    layer = masking.Jpeg(50)
    out = layer(x)
    assert torch.equal(out, masking.jpeg(x, 50))
    weight = torch.randn(out.shape, generator=torch.Generator().manual_seed(0))
    assert torch.equal(torch.autograd.grad((out * weight).sum(), x)[0], weight)
    with pytest.raises(ValueError, match="colour images"):
        masking.jpeg(torch.zeros(1, 1, 8, 8))
    for quality in (100, 50.5, np.nan):
        for make in (masking.Jpeg, functools.partial(masking.jpeg, x)):
            with pytest.raises(ValueError, match="whole number from 1 to 95"):
                make(quality)
    for bad, error in ((255 * x, ValueError), (x * np.nan, ValueError), ((255 * x).byte(), TypeError)):
        with pytest.raises(error, match=r"\[0, 1\]"):
            masking.jpeg(bad)


def test_a_network_that_is_told_positions_is_not_symmetric_and_a_plain_one_is(images):
    x = images[0][:4]
    torch.manual_seed(0)
    told, plain = masking.coordinate_resnet(8, 8).eval(), models.resnet(8, 8).eval()
    assert told.stem[0][0](x).shape == (4, 5, 32, 32)
    places = masking.Coordinates()(torch.zeros(1, 1, 3, 5))
    assert places[0, 1, :, 0].tolist() == [-1, 0, 1]
    assert places[0, 2, 0].tolist() == [-1, -0.5, 0, 0.5, 1]

    def moved(net):  # by two, far from the border, which padding tells apart
        stem = net.normalize, net.stem
        with torch.no_grad():
            before, after = (stem[1](stem[0](t))[:, :, 8:-8, 8:-8] for t in (x, x.roll((2, 2), (2, 3))))
            shifted = stem[1](stem[0](x))[:, :, 6:-10, 6:-10]
        return ((after - shifted).abs().max() / before.abs().max()).item()

    assert moved(plain) < 1e-5 < 1e-2 < moved(told)


def test_a_network_that_is_told_positions_is_the_plain_one_but_for_two_channels():
    with torch.device("meta"):
        told, plain = ([p.shape for p in net.parameters()] for net in (masking.coordinate_resnet(), models.resnet()))
    assert told[0] == (64, 5, 3, 3), "the paper's width"
    assert (told[0][0], *told[1:]) == (plain[0][0], *plain[1:])
