"""The renderer is a pure function, its truth is true, and evaluation has what training lacks."""

import numpy as np
import pytest

from pipeline.demo import shapes
from pipeline.demo.clicks import deepest, depth, tight_box
from pipeline.demo.renderer import COLOUR_DISTANCE, EVAL_SEEDS, Clip, render


def clip(seed: int, split: str = "train", frames: int = 6) -> Clip:
    return render(seed, frames=frames, height=96, width=128, split=split)


@pytest.mark.parametrize(("seed", "split"), [(3, "train"), (EVAL_SEEDS + 3, "eval")])
def test_a_seed_gives_one_clip(seed, split):
    first, again, other = clip(seed, split), clip(seed, split), clip(seed + 1, split)
    assert (first.frames == again.frames).all()
    assert (first.ids == again.ids).all()
    assert (first.frames != other.frames).any()
    assert first.frames.shape == (6, 96, 128, 3)


def test_moments_are_those_of_the_whole_clip():
    whole = clip(5)
    some = render(5, frames=6, height=96, width=128, times=[4, 1])
    assert (some.frames == whole.frames[[4, 1]]).all()
    assert (some.ids == whole.ids[[4, 1]]).all()


@pytest.mark.parametrize("number", range(8))
def test_pixels_have_the_colours_of_the_truth(number):
    seen = clip(EVAL_SEEDS + number, "eval", frames=2)
    colours = seen.frames.astype(float)
    for i, thing in enumerate(seen.objects, 1):
        ends = thing.colours
        mix = ends[0] + (ends[1] - ends[0]) * np.linspace(0, 1, 9)[:, None]
        away = np.linalg.norm(colours[..., None, :] - mix, axis=-1).min(-1)
        for t in range(2):
            mask = seen.mask(i)[t]
            assert (away[t][depth(mask) > 2] < COLOUR_DISTANCE / 2).all()
            assert (away[t][depth(~mask) > 2] > COLOUR_DISTANCE / 2).all()


def test_things_leave_and_return():
    gone_and_back = 0
    for seed in range(8):
        ids = render(seed, frames=48, height=96, width=128, times=range(0, 48, 4)).ids
        for i in range(1, ids.max() + 1):
            visible = (ids == i).any((1, 2))
            gone_and_back += bool(visible[0] and visible[-1] and not visible.all())
    assert gone_and_back >= 2


def test_seeds_of_evaluation_are_refused_in_training_and_the_other_way():
    with pytest.raises(ValueError, match="is not for 'train'"):
        clip(EVAL_SEEDS)
    with pytest.raises(ValueError, match="is not for 'eval'"):
        clip(EVAL_SEEDS - 1, "eval")


def test_evaluation_has_outlines_textures_and_motions_that_training_lacks():
    def kinds(start: int, split: str) -> set[str]:
        scenes = (render(start + n, frames=1, height=32, width=32, split=split) for n in range(60))
        return {kind for scene in scenes for o in scene.objects for kind in (o.outline, o.texture, o.motion)}

    trained = set(shapes.TRAIN_OUTLINES + shapes.TRAIN_TEXTURES + shapes.TRAIN_MOTIONS)
    held_out = set(shapes.EVAL_OUTLINES + shapes.EVAL_TEXTURES + shapes.EVAL_MOTIONS)
    assert not trained & held_out
    assert kinds(0, "train") == trained
    assert kinds(EVAL_SEEDS, "eval") == trained | held_out


def test_a_click_is_deep_inside_and_a_box_is_tight():
    mask = np.zeros((40, 60), bool)
    mask[10:31, 20:41] = True
    assert deepest(mask) == (30, 20)
    assert tight_box(mask) == (20, 10, 41, 31)
    assert depth(mask).max() == 11
    assert depth(np.ones((5, 5), bool))[0, 0] == 1
