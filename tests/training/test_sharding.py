"""Models that PyTorch replicates or shards: their plain forward, their whole states."""

import pytest
import torch


@pytest.mark.parametrize(("kind", "size"), [("plain", 1), ("ddp", 2), ("fsdp", 2), ("fsdp", 4)])
def test_the_local_model_computes_what_the_plain_one_does_on_each_rank_alone_and_leaves_no_trace(ranks, kind, size):
    ended = ranks(size, call=("check_local_model", kind))
    assert ended.codes == [0] * size, ended.logs


@pytest.mark.parametrize(("kind", "size"), [("fsdp", 2), ("ddp", 2), ("plain", 1)])
def test_a_saved_state_goes_on_alike_on_any_number_of_ranks(ranks, tmp_path, kind, size):
    path = tmp_path / "state"
    assert ranks(size, call=("states", kind, path, "save")).codes == [0] * size
    saved = torch.load(path)
    assert [tuple(value.shape) for value in saved["model"].values()] == [
        (7, 256), (7,), (7, 7), (7,), (2, 7), (2,),
    ]  # fmt: skip
    assert all(type(value) is torch.Tensor for value in saved["model"].values())
    expected = torch.load(f"{path}-save-{size}-0.pt")
    for other, other_size in (("plain", 1), ("fsdp", 4), ("ddp", 2)):
        ended = ranks(other_size, call=("states", other, path, "load"))
        assert ended.codes == [0] * other_size, ended.logs
        for rank in range(other_size):
            found = torch.load(f"{path}-load-{other_size}-{rank}.pt")
            assert found.keys() == expected.keys()
            for name, value in found.items():
                torch.testing.assert_close(value, expected[name], rtol=0, atol=0)


def test_all_ranks_start_with_the_weights_and_buffers_of_rank_zero(ranks, tmp_path):
    assert ranks(2, call=("shared_weights", tmp_path / "weights")).codes == [0, 0]
    first, second = (torch.load(tmp_path / f"weights-{rank}.pt") for rank in range(2))
    for name, value in first.items():
        assert torch.equal(value, second[name])
    torch.manual_seed(0)
    assert torch.equal(first["0.weight"], torch.nn.Linear(3, 2).weight)
