"""Scenes and their noisy detector are the same on every machine, and have what their names promise."""

import numpy as np
import pytest

from tests.scenes.detections import detect
from tests.scenes.scene import FRAMES, HEIGHT, KINDS, MIN_AREA, SCENES, WIDTH, make_scene


@pytest.mark.parametrize("number", [2, 5])
def test_a_scene_depends_on_its_number_alone(number: int) -> None:
    one, other = make_scene(number), make_scene(number)
    assert one.frames.shape == (FRAMES, HEIGHT, WIDTH, 3)
    assert np.array_equal(one.frames, other.frames)
    assert np.array_equal(one.ids, other.ids)
    assert not np.array_equal(one.frames, make_scene(number + 8).frames)


def test_things_enter_leave_and_hide_each_other() -> None:
    entered = left = 0
    for number in range(len(KINDS) * 2):
        scene = make_scene(number)
        for mask in scene.masks().values():
            shown = mask.any((1, 2))
            entered += not shown[0]
            left += not shown[-1]
    assert SCENES >= 30
    assert entered >= 24
    assert left >= 24


def test_the_detector_misses_invents_and_looks_regularly() -> None:
    seen = found = invented = 0
    for number in (0, 2, 4, 6):
        scene = make_scene(number)
        table = detect(scene, scene.name, 0.25)
        assert sorted(set(table["frame_index"].to_pylist())) == list(range(0, FRAMES, 3))
        for row in table.to_pylist():
            if row["box"]:
                found += row["score"] > 0.7
                invented += row["score"] < 0.5
        seen += sum(int((mask[::3].mean((1, 2)) >= MIN_AREA).sum()) for mask in scene.masks().values())
    assert 0.4 * seen < found < 0.7 * seen  # of those found, 28 in 48 have a score above 0.7
    assert invented > 0
