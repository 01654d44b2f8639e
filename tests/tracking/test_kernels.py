"""What the step computes in its own way equals what PyTorch computes."""

import pytest
import torch
import torch.nn.functional as F

from pipeline.tracking.attention import attend
from pipeline.tracking.encoder import _pool


@pytest.mark.parametrize(
    ("batch", "heads", "queries", "keys"),
    [
        (2, 4, 40, 7),  # few keys
        (2, 2, 100, 99),  # all heads at once
        (5, 2, 200, 500),  # two heads at once, and none is left over
        (3, 3, 200, 500),  # two heads at once, and one is left over
        (1, 2, 500, 600),  # one head at a time
        (1, 1, 130, 40_000),  # some queries of a head at a time
    ],
)
def test_attention_is_the_usual_one(batch: int, heads: int, queries: int, keys: int) -> None:
    torch.manual_seed(0)
    q, k, v = (torch.randn(batch, heads, n, width) for n, width in ((queries, 16), (keys, 16), (keys, 8)))
    padded = F.pad(v, (0, 8))  # the usual one wants values as wide as keys
    wanted = F.scaled_dot_product_attention(q.double(), k.double(), padded.double(), scale=1.0)[..., :8]
    torch.testing.assert_close(attend(q, k, v).double(), wanted, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("stride", [(2, 2), (1, 2), (3, 2)])
def test_pooling_is_the_usual_one(stride: tuple[int, int]) -> None:
    torch.manual_seed(0)
    part = torch.randn(2, 7, 10, 3, 5)[:, :, :, 1]  # as queries lie between keys and values
    wanted = F.max_pool2d(part.permute(0, 3, 1, 2), stride, stride).permute(0, 2, 3, 1)
    assert torch.equal(_pool(part, stride), wanted)
