"""What several test files need: a small trained network, real digits, and one thread for small batches."""

import pytest
import torch

from advlab import data, models, training

torch.set_num_threads(1)


@pytest.fixture(scope="session")
def digits():
    """Sixty real digits with their labels."""
    return data.mnist("test", 60)


@pytest.fixture(scope="session")
def net():
    """A small convolutional network, trained here for some seconds: good on digits, weak under attack."""
    x, y = data.mnist("train", 6000)
    torch.manual_seed(0)
    model = models.stability_cnn()
    training.fit(model, x, y, epochs=2, optimizer=lambda w: torch.optim.Adam(w, 2e-3), progress=False)
    return model
