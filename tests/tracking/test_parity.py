"""The engine gives what transformers' own loop gives for each object alone in a session of its own."""

import itertools

import pytest
import torch

from pipeline.errors import PromptError
from pipeline.tracking import Direction, Engine, MaskPostprocessor, TrackedObject
from pipeline.tracking.sam2.model import Sam2
from tests.tracking import compare, models, reference
from tests.tracking import videos as v

DIRECTIONS: tuple[Direction, ...] = ("forward", "backward", "both")


def mixed(frames: int) -> list[TrackedObject]:
    """Every kind of prompt, a refinement, a late object, an object first prompted on the last frame."""
    last = frames - 1
    made = [
        v.tracked(5, f0=v.prompt("click")),
        v.tracked(1, **{"f0": v.prompt("box"), f"f{last}": v.prompt("click")}),
        v.tracked(3, **{f"f{last // 2}": v.prompt("mask")}),
        v.tracked(2, **{f"f{last // 3}": v.prompt("clicks"), f"f{last // 3 + 1}": v.prompt("box+points")}),
        v.tracked(9, **{f"f{last}": v.prompt("click")}),
    ]
    return made if frames > 2 else made[:3:2]


@pytest.mark.parametrize(
    ("frames", "direction"), [(1, "both"), (2, "both"), (2, "backward"), (9, "backward"), (9, "forward"), (18, "both")]
)
def test_equals_transformers_on_videos_of_any_length(frames: int, direction: Direction) -> None:
    compare.to_transformers(models.random_model(1), v.video(frames), mixed(frames), direction).check()


def test_each_kind_of_prompt_and_an_empty_mask() -> None:
    objects = [v.tracked(n, f1=v.prompt(kind)) for n, kind in enumerate((*v.KINDS, "empty mask"))]
    compare.to_transformers(models.embedded(), v.video(4), objects, "both").check()


def test_an_absent_object_has_empty_masks() -> None:
    sam2 = models.random_sam2(models.small_config())
    with torch.no_grad():
        sam2.model.mask_decoder.pred_obj_score_head.proj_out.bias.fill_(-20.0)
    objects = [v.tracked(0, f0=v.prompt("click")), v.tracked(1, f0=v.prompt("mask"))]
    difference = compare.to_transformers(sam2, v.video(5), objects, "forward")
    difference.check()
    for frame in Engine(sam2).propagate(v.MemorySource(sam2, v.video(2)), objects):
        assert frame.logits[0].eq(-1024).all()
        assert not MaskPostprocessor().masks(frame.logits, height=9, width=9)[0].any()


@pytest.mark.parametrize(
    "changes",
    [
        {"max_cond_frame_num": 2},
        {"multimask_output_for_tracking": False},
        {"enable_temporal_pos_encoding_for_object_pointers": False},
        {"enable_occlusion_spatial_embedding": False},
        {"max_object_pointers_in_encoder": 4, "num_maskmem": 3},
        {"memory_attention_num_attention_heads": 2},
        {"sigmoid_scale_for_mem_enc": 10.0, "sigmoid_bias_for_mem_enc": -3.0},
        {"image_size": 160},
    ],
    ids=str,
)
def test_other_configurations_equal_transformers_too(changes: dict[str, object]) -> None:
    sam2 = models.random_model(1, **changes)
    objects = [
        v.tracked(0, **{f"f{t}": v.prompt("click") for t in (1, 2, 5, 6)}),
        v.tracked(1, f0=v.prompt("box")),
    ]
    compare.to_transformers(sam2, v.video(8), objects, "both").check()


def test_adding_objects_changes_no_other_object() -> None:
    sam2 = models.embedded()
    source = v.MemorySource(sam2, v.video(8))
    (first, *_) = objects = mixed(8)
    alone = list(Engine(sam2).propagate(source, [first]))
    together = list(Engine(sam2).propagate(source, objects))
    for a, b in zip(alone, together, strict=True):
        own = b.object_ids.index(first.object_id)
        assert torch.equal(a.logits[0] > 0, b.logits[own] > 0)
        assert abs(float(a.object_logit[0] - b.object_logit[own])) < 1e-3


def test_non_overlapping_equals_transformers() -> None:
    sam2 = models.embedded()
    video = v.video(3)
    objects = [v.tracked(0, f0=v.prompt("box")), v.tracked(1, f0=v.prompt("click"))]
    rows = reference.rows(sam2, video, objects, "forward")
    for frame in Engine(sam2).propagate(v.MemorySource(sam2, video), objects):
        t = frame.frame_index
        (expected,) = sam2.processor.post_process_masks(
            [torch.stack([rows[o, t].logits for o in (0, 1)])[:, None]],
            original_sizes=[[v.HEIGHT, v.WIDTH]],
            apply_non_overlapping_constraints=True,
        )
        made = MaskPostprocessor(non_overlapping=True).masks(frame.logits, height=v.HEIGHT, width=v.WIDTH)
        assert int((made != expected[:, 0]).sum()) <= 1
        assert not made.all(0).any()


def test_prompts_beyond_the_end_are_refused() -> None:
    sam2 = models.random_model(1)
    with pytest.raises(PromptError, match="frame 7"):
        next(Engine(sam2).propagate(v.MemorySource(sam2, v.video(3)), [v.tracked(0, f7=v.prompt("click"))]))


@pytest.mark.slow
@pytest.mark.parametrize("frames", [1, 2, 10, 15, 16, 17, 40, 70])
@pytest.mark.parametrize("model", ["random", "embedded"])
def test_everything_equals_transformers(model: str, frames: int) -> None:
    sam2: Sam2 = models.embedded() if model == "embedded" else models.random_model(1)
    total = compare.Difference()
    last = frames - 1
    eight = [
        v.tracked(n, **{f"f{min(n, last)}": v.prompt(kind)})
        for n, kind in zip(range(8), itertools.cycle(v.KINDS), strict=False)
    ]
    cases = [eight[:1], mixed(frames)[:3], mixed(frames), eight]
    for objects, direction in itertools.product(cases, DIRECTIONS):
        total += compare.to_transformers(sam2, v.video(frames, seed=frames), objects, direction)
    print(f"\n{model}, {frames} frames: {total}")
    total.check()


@pytest.mark.slow
def test_the_real_architecture_equals_transformers(shared) -> None:  # type: ignore[no-untyped-def]
    import av

    with av.open(str(shared / "videos" / "bedroom.mp4")) as container:
        video = [f.to_ndarray(format="rgb24") for f, _ in zip(container.decode(video=0), range(3), strict=False)]
    sam2 = models.random_sam2(models.tiny_config(1024))
    height, width = video[0].shape[:2]
    objects = [
        v.tracked(1, f0=v.prompt("click", height=height, width=width)),
        v.tracked(2, f1=v.prompt("box", height=height, width=width)),
    ]
    difference = compare.to_transformers(sam2, video, objects, "forward")
    print(f"\n{difference}")
    difference.check()
