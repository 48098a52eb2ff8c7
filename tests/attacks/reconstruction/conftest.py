import pytest
import torch
from chests import chests

from reticent.training.noise import SeededSource

torch.set_num_threads(1)


@pytest.fixture
def source():
    return SeededSource(7)


@pytest.fixture(scope="session")
def public():
    """Made-up radiographs of people outside every attacked batch, (4000, 1, 28, 28)."""
    return chests(4000, seed=0)[0]


@pytest.fixture(scope="session")
def patients():
    """Images (1000, 1, 28, 28) and labels of those who are attacked."""
    return chests(1000, seed=1)
