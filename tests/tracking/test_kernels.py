"""What the step computes in its own way equals what PyTorch computes."""

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from transformers.models.sam2.configuration_sam2 import Sam2HieraDetConfig
from transformers.models.sam2.modeling_sam2 import Sam2MultiScaleBlock

from pipeline.errors import ModelError
from pipeline.tracking.sam2.attention import attend
from pipeline.tracking.sam2.hiera import Block, _OwnKeys, _SharedKeys, pool
from pipeline.tracking.sam2.kernels import KERNELS, Kernel, KernelChoice
from pipeline.tracking.sam2.weights import Weights


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
    assert torch.equal(pool(part, stride), wanted)


@pytest.mark.parametrize("size", [(16, 16), (14, 11)], ids=["whole", "padded"])
@pytest.mark.parametrize("window", [8, 16])
@pytest.mark.parametrize(
    ("channels", "heads", "form"),
    [
        ((16, 16), 1, _SharedKeys),  # one map to queries
        ((16, 16), 2, _OwnKeys),
        ((16, 32), 2, _SharedKeys),  # pooled queries
        ((16, 32), 4, _SharedKeys),
        ((16, 32), 8, _OwnKeys),
    ],
)
def test_a_block_is_the_usual_one(
    channels: tuple[int, int], heads: int, form: type, window: int, size: tuple[int, int]
) -> None:
    torch.manual_seed(0)
    config = Sam2HieraDetConfig(
        hidden_size=16,
        blocks_per_stage=[1, 1, 1, 1],
        embed_dim_per_stage=[channels[0], channels[1], 64, 128],
        num_attention_heads_per_stage=[heads, heads, heads, heads],
        window_size_per_stage=[window] * 4,
        global_attention_blocks=[],
    )
    stage = int(channels[0] != channels[1])
    theirs = Sam2MultiScaleBlock(config, stage_idx=stage, block_idx=0, total_block_idx=stage).eval()
    for parameter in theirs.parameters():
        parameter.data.normal_(std=0.5)
    x = torch.randn(3, *size, channels[0])
    with torch.inference_mode():
        ours = Block(theirs, Weights(torch.float32))
        assert type(ours.attention) is form
        torch.testing.assert_close(ours(x), theirs(x), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", list(KERNELS))
def test_each_memory_kernel_gives_the_same_attention(name: str) -> None:
    torch.manual_seed(0)
    q, k, v = (torch.randn(3, 2, n, width) for n, width in ((20, 16), (48, 16), (48, 8)))
    torch.testing.assert_close(KERNELS[name](q, k, v), attend(q, k, v), rtol=1e-4, atol=1e-5)


def choice(seconds: dict[str, float], kernels: dict[str, Kernel]) -> KernelChoice:
    """A choice that measures kernels as taking these seconds."""

    def measure(call: Any) -> float:
        call()
        return seconds[call.func.__name__]

    return KernelChoice(measure, kernels, measured_from=0)


def test_the_fastest_memory_kernel_is_chosen_once_per_shape() -> None:
    measured: list[str] = []

    def seconds(call: Any) -> float:
        measured.append(call.func.__name__)
        return {"plain": 3.0, "padded": 1.0, "split": 2.0}[call.func.__name__]

    chosen = KernelChoice(seconds, measured_from=0)
    for keys in (64, 68, 100, 256):  # the first three count as one shape
        q, k, v = (torch.randn(1, 1, n, width) for n, width in ((20, 16), (keys, 16), (keys, 8)))
        torch.testing.assert_close(chosen(q, k, v), attend(q, k, v), rtol=1e-4, atol=1e-5)
    assert list(chosen.chosen.values()) == ["padded", "padded"]
    assert measured.count("plain") == 6
    small = KernelChoice(seconds)
    small(q, k, v)
    assert small.chosen == {}, "small shapes are not measured"


def test_a_memory_kernel_that_fails_is_replaced_by_the_plain_one(caplog: pytest.LogCaptureFixture) -> None:
    calls = 0

    def padded(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        nonlocal calls
        calls += 1
        if calls > 4:  # one to warm up, three measured
            raise RuntimeError("no kernel for this head width")
        return KERNELS["padded"](q, k, v)

    def split(*_: torch.Tensor) -> torch.Tensor:
        raise RuntimeError("not on this device")

    chosen = choice({"plain": 3.0, "padded": 1.0}, {"plain": KERNELS["plain"], "padded": padded, "split": split})
    q, k, v = (torch.randn(1, 1, n, width) for n, width in ((20, 16), (64, 16), (64, 8)))
    for _ in range(3):
        torch.testing.assert_close(chosen(q, k, v), attend(q, k, v), rtol=1e-4, atol=1e-5)
    assert list(chosen.chosen.values()) == ["plain"]
    assert "padded failed (no kernel for this head width); using plain" in caplog.text


def test_a_memory_kernel_can_be_forced() -> None:
    chosen = KernelChoice(lambda _: pytest.fail("nothing is measured"), measured_from=0)
    chosen.force("split")
    q, k, v = (torch.randn(1, 1, n, width) for n, width in ((20, 16), (64, 16), (64, 8)))
    torch.testing.assert_close(chosen(q, k, v), attend(q, k, v), rtol=1e-4, atol=1e-5)
    with pytest.raises(RuntimeError, match="66 keys do not divide into 4 parts"):
        chosen(q, F.pad(k, (0, 0, 0, 2)), F.pad(v, (0, 0, 0, 2)))
    with pytest.raises(ModelError, match=r"Invalid SAM2_CORPUS_ATTENTION \(fast\).*plain, padded, split"):
        chosen.force("fast")
