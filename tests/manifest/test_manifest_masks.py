"""The check of a whole batch of masks against the decoder that reads one."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.errors import RleError
from pipeline.manifest.masks import run_totals
from pipeline.masks import rle

COUNTS = st.one_of(
    st.builds(
        lambda bits, width: rle.encode(np.array(bits[: len(bits) // width * width], bool).reshape(1, -1, width))[0],
        st.lists(st.booleans(), min_size=12, max_size=120),
        st.integers(1, 12),
    ),
    st.text(st.characters(min_codepoint=40, max_codepoint=120), min_size=1, max_size=12),
    st.sampled_from(["PPPPPP1", "PPPPPPP1", "`n_n_n0", "0", "OO", "<"]),
)


@settings(max_examples=50)
@given(st.lists(COUNTS, min_size=1, max_size=8))
def test_batches_are_read_as_single_masks(texts: list[str]) -> None:
    covered, inside = run_totals([np.frombuffer(text.encode(), np.uint8) for text in texts])
    for i, text in enumerate(texts):
        try:
            runs = rle.parse(text)
        except RleError:
            assert covered[i] == inside[i] == -1
        else:
            assert (covered[i], inside[i]) == (runs.sum(), runs[1::2].sum())


@pytest.mark.parametrize("shape", [(1, 1), (480, 640), (7, 3)])
def test_areas(shape: tuple[int, int]) -> None:
    masks = np.random.default_rng(0).random((5, *shape)) < np.linspace(0, 1, 5)[:, None, None]
    covered, inside = run_totals([np.frombuffer(text.encode(), np.uint8) for text in rle.encode(masks)])
    assert covered.tolist() == [masks[0].size] * 5
    assert inside.tolist() == masks.sum((1, 2)).tolist()
