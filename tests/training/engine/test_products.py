"""Matrix products by either library: the same to rounding, and by one of them where runs must repeat."""

import pytest
import torch

from reticent.training.engine import products, strategy

torch.manual_seed(0)
CASES = {
    "two axes": (torch.randn(7, 5), torch.randn(5, 3)),
    "turned": (torch.randn(5, 7).T, torch.randn(3, 5).T),
    "stacks": (torch.randn(4, 7, 5), torch.randn(4, 5, 3)),
    "stacks of groups, turned": (torch.randn(2, 3, 5, 7).mT, torch.randn(2, 3, 3, 5).mT),
    "no row": (torch.randn(0, 5), torch.randn(5, 3)),
    "nothing to add up": (torch.randn(7, 0), torch.randn(0, 3)),
    "every second column": (torch.randn(4, 7, 10)[..., ::2], torch.randn(4, 5, 3)),
    "every second of both": (torch.randn(7, 5), torch.randn(10, 6)[::2, ::2]),
    "some columns": (torch.randn(7, 9)[:, :5], torch.randn(5, 9)[:, 4:7]),
    "equal columns": (torch.randn(7, 1).expand(7, 5), torch.randn(5, 3)),
    "equal rows": (torch.randn(5).expand(7, 5), torch.randn(3).expand(5, 3)),
}


@pytest.fixture(params=[False, True], ids=["MKL", "oneDNN"])
def library(request, monkeypatch):
    if request.param and not torch.backends.mkldnn.is_available():
        pytest.skip("this PyTorch is built without oneDNN")
    monkeypatch.setattr(products, "_seconds", lambda way, *_: 0.0 if (way is products._onednn) == request.param else 1)
    monkeypatch.setattr(products, "_ONEDNN_FASTER", {})
    return request.param


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("biased", [False, True])
def test_products_are_those_of_double_precision(library, case, biased):
    a, b = CASES[case]
    bias = torch.randn(b.shape[-1]) if biased and a.ndim == 2 else None
    expected = a.double() @ b.double() + (0 if bias is None else bias.double())
    found = products.product(a, b, bias)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found.double(), expected, rtol=1e-5, atol=1e-5)
    if a.numel() and b.numel():
        assert list(products._ONEDNN_FASTER.values()) == [library]


def test_a_fixed_strategy_multiplies_as_torch_does(library):
    torch.manual_seed(0)
    a, b = torch.randn(65, 192), torch.randn(192, 48)
    with strategy("rule"):
        assert torch.equal(products.product(a, b), a @ b)
    assert not products._ONEDNN_FASTER
