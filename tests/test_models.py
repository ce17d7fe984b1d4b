"""Architectures against the sizes that the papers publish."""

import numpy as np
import pytest
import torch
from torch import nn

from advlab import data, models


def parameters(net):
    return sum(p.numel() for p in net.parameters())


def relus(net, shape):
    """How many ReLU units see one input."""
    count = [0]
    for m in net.modules():
        if isinstance(m, nn.ReLU):
            m.register_forward_hook(lambda m, i, o: count.__setitem__(0, count[0] + o[0].numel()))
    with torch.no_grad():
        net.eval()(torch.rand(1, *shape))
    return count[0]


def test_published_sizes():
    assert parameters(models.mnist_cnn7()) == 312_202  # models/README.md of the authors' code
    assert parameters(models.densenet()) == 1_019_722  # likewise
    assert parameters(models.resnet()) == 11_173_962  # the usual CIFAR ResNet-18
    assert parameters(models.resnet(50)) == 23_520_842  # the usual CIFAR ResNet-50
    assert parameters(models.resnet(20, 16)) == 269_722 + 2_752  # He et al.'s 0.27 million, and shortcuts with weights
    assert relus(models.stability_cnn(), (1, 28, 28)) == 3136 + 1568 + 100
    assert relus(models.stability_cnn(3, 32), (3, 32, 32)) == 4096 + 2048 + 100


@pytest.mark.parametrize(
    ("build", "shape"),
    [
        (models.mnist_cnn7, (1, 28, 28)),
        (models.stability_cnn, (1, 28, 28)),
        (models.densenet, (3, 32, 32)),
        (lambda: models.resnet(18, 8), (3, 32, 32)),
        (lambda: models.resnet(50, 4), (3, 32, 32)),
        (lambda: models.resnet(8, (4, 6, 8, 10)), (3, 32, 32)),
        (models.cifar_cnn, (3, 32, 32)),
    ],
)
def test_images_to_logits_with_a_gradient(build, shape):
    net = build().eval()
    x = torch.rand(3, *shape, requires_grad=True)
    logits = net(x)
    assert logits.shape == (3, 10)
    assert torch.autograd.grad(logits.sum(), x)[0].abs().sum() > 0
    assert torch.allclose(net(x[1:2]), logits[1:2], atol=1e-5), "examples of a batch must not mix in eval mode"


def test_whitening_makes_patches_white():
    torch.manual_seed(0)
    net, x = models.cifar_cnn(), data.cifar10("train", 300, full=False)[0]
    assert not net[1].weight.requires_grad
    models.whiten_first_layer(net, x)
    with torch.no_grad():
        answers = net[1](net[0](x)).transpose(0, 1).flatten(1).double().numpy()  # (24, patches)
    covariance = np.cov(answers[:12])
    variances = np.diag(covariance)
    assert (variances[-6:] > 0.95).all(), "the strong directions have variance 1"
    assert (variances < 1.01).all()
    np.testing.assert_allclose(covariance - np.diag(variances), 0, atol=0.02)
    np.testing.assert_allclose(answers[12:], -answers[:12], atol=1e-5)


def test_sphere_network_and_normalisation():
    assert models.sphere_relu(20, 30)(torch.rand(4, 20)).shape == (4,)
    layer = models.Normalize((0.5, 0.0), (2.0, 1.0))
    x = torch.rand(2, 2, 3, 3)
    assert torch.allclose(layer(x)[:, 0], (x[:, 0] - 0.5) / 2)
    assert torch.equal(layer(x)[:, 1], x[:, 1])
    assert "0.5" in repr(layer)
    with pytest.raises(ValueError, match="depth"):
        models.densenet(41)
