"""Labels from Python: masks as arrays, frames, overlays and cards, and what is said of labels that are not there."""

import numpy as np
import pytest

from pipeline import open_labels
from pipeline.errors import UsageError
from pipeline.views.preview import color_of
from tests.clips import HEIGHT, WIDTH
from tests.views.conftest import BIG, HOSTILE, output  # noqa: F401 - a fixture


@pytest.fixture
def labels(output):  # noqa: F811
    with open_labels(output) as opened:
        yield opened


def test_a_mask_is_an_array_of_the_displayed_frame(labels):
    mask = labels.mask("calm", 1, 3)
    expected = np.zeros((HEIGHT, WIDTH), bool)
    expected[8:30, 9:31] = True
    np.testing.assert_array_equal(mask, expected)


def test_frames_come_with_the_masks_of_every_object(labels):
    frames = list(labels.frames("calm"))
    assert [frame.index for frame in frames] == list(range(8))
    assert [frame.time_s for frame in frames] == pytest.approx([t / 10 for t in range(8)])
    assert frames[3].rgb.shape == (HEIGHT, WIDTH, 3)
    assert set(frames[3].masks) == {1, BIG}
    np.testing.assert_array_equal(frames[3].masks[1], labels.mask("calm", 1, 3))
    red, green = frames[3].rgb[frames[3].masks[1]].mean(0), frames[3].rgb[frames[3].masks[BIG]].mean(0)
    assert red[0] > 200 > green[0]


def test_an_overlay_is_the_frame_with_its_masks_drawn(labels):
    picture = np.asarray(labels.overlay("calm", 3)).astype(int)
    frame = next(frame for frame in labels.frames("calm") if frame.index == 3)
    assert picture.shape == frame.rgb.shape

    def distance_to_ink(pixels):
        return np.abs(pixels[frame.masks[1]].astype(int) - color_of(1)).mean()

    assert distance_to_ink(picture) < 0.8 * distance_to_ink(frame.rgb)


@pytest.mark.parametrize(
    ("video_id", "object_id", "frame", "said"),
    [
        ("clam", 1, 0, "video 'clam' has no published labels"),
        ("calm", 2, 0, f"video 'calm' has no object 2; it has 1, {BIG}"),
        ("calm", 1, 8, "video 'calm' has no label of object 1 on frame 8; its labels cover frames 0 to 7"),
    ],
)
def test_missing_labels_are_named_with_what_there_is(labels, video_id, object_id, frame, said):
    with pytest.raises(UsageError) as caught:
        labels.mask(video_id, object_id, frame)
    assert str(caught.value) == said


def test_an_overlay_of_a_frame_without_labels_is_refused(labels):
    with pytest.raises(UsageError, match="no label on frame 9; its labels cover frames 0 to 7"):
        labels.overlay("calm", 9)


def test_the_card_counts_the_labels_and_escapes_names(labels):
    page = labels._repr_html_()
    assert "3 videos, 24 frames" in page
    assert "<script>" not in page
    assert "&lt;/script&gt;" in page
    assert HOSTILE not in page
