"""The rules of association, on masks that are boxes: what begins, what is repaired, and what ends."""

import numpy as np
import pyarrow as pa
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pipeline.detection import GIVEN
from pipeline.detection.association import Associator
from pipeline.detection.links import Links
from pipeline.detection.looks import Detection, Look, looks_of
from pipeline.detection.matching import best_matches, overlaps
from pipeline.detection.thresholds import Association
from pipeline.manifest.kinds import SIDES
from pipeline.tracking.objects import TrackedFrame

SIZE = (100, 100)


def detection(x, y=10.0, side=20.0, category="car", score=0.6, track_id=None):
    box = (float(x), float(y), float(x + side), float(y + side))
    return Detection(box=box, category=category, score=score, track_id=track_id)


def associate(looks, masks=None, *, estimates=None, frames_per_s=1, **settings):
    """Decide on each look.

    `masks` gives each object's tracked box on a frame, by default its last prompt's; `estimates` the model's estimate
    of the IoU of the masks on a frame, by default 0.9.
    """
    held = {}

    def masks_of(frame):
        drawn = np.zeros((len(frame.object_ids), *SIZE), bool)
        for n, object_id in enumerate(frame.object_ids):
            box = (masks or {}).get((object_id, frame.frame_index), held[object_id])
            if box is not None:
                drawn[n, int(box[1]) : int(box[3]), int(box[0]) : int(box[2])] = True
        return drawn, [(estimates or {}).get(frame.frame_index, 0.9)] * len(drawn)

    associator = Associator(
        looks, Association(**settings), size=SIZE, masks_of=masks_of, time_of=lambda t: t / frames_per_s
    )
    live, decisions = [], {}
    last_of_shots = [cut - 1 for cut in settings.get("cuts", ())]
    for frame in sorted({*last_of_shots, *(look.frame for look in looks)}):
        assert associator.looks_at(frame)
        tracked = TrackedFrame(
            frame_index=frame,
            object_ids=tuple(live),
            is_prompted=(False,) * len(live),
            logits=torch.empty(0),
            object_logit=torch.empty(0),
            predicted_iou=torch.empty(0),
        )
        decision = associator.decide(frame, tracked if live else None)
        decisions[frame] = (sorted(decision.prompts), sorted(decision.ended))
        held |= {object_id: tuple(prompt.box.tolist()) for object_id, prompt in decision.prompts.items()}
        live = sorted({*live, *decision.prompts} - set(decision.ended))
    return associator, decisions


def looks(*detections):
    return [Look(frame=10 * n, detections=tuple(some)) for n, some in enumerate(detections)]


def whys(associator):
    return [(p["object_id"], p["frame_index"], p["why"]) for p in associator.prompts]


def test_two_looks_that_agree_begin_an_object_at_the_first():
    associator, _ = associate(looks([detection(10)], [detection(13)]))
    assert whys(associator) == [(1, 0, "start")]


def test_one_look_begins_an_object_at_a_high_score_alone():
    assert whys(associate(looks([detection(10, score=0.9)]))[0]) == [(1, 0, "start")]
    associator, _ = associate(looks([detection(10, score=0.7)], []))
    assert whys(associator) == []
    assert associator.dropped == {"unconfirmed": 1}


def test_categories_are_kept_apart():
    both = [detection(10), detection(12, category="person")]
    associator, _ = associate(looks(both, both))
    assert [(p["object_id"], p["category"]) for p in associator.prompts] == [(1, "car")]
    far = [detection(10), detection(60, category="person")]
    associator, _ = associate(looks(far, far))
    assert [(p["object_id"], p["category"]) for p in associator.prompts] == [(1, "car"), (2, "person")]


def test_a_poor_overlap_is_repaired_and_a_good_one_is_not():
    seen = looks([detection(10)], [detection(20)], [detection(22)])
    associator, _ = associate(seen, {(1, 10): (10, 10, 30, 30)})
    assert whys(associator) == [(1, 0, "start"), (1, 10, "repair")]


def test_an_object_whose_mask_is_elsewhere_is_repaired_by_a_linked_detection():
    seen = looks([detection(10)], [detection(16)], [detection(20)])
    associator, _ = associate(seen, {(1, 10): (60, 60, 80, 80)})
    assert whys(associator) == [(1, 0, "start"), (1, 10, "found again")]


def test_an_absent_object_is_found_again_where_detections_continue():
    seen = looks([detection(10)], [detection(14)], [detection(18)])
    associator, _ = associate(seen, {(1, 10): None})
    assert whys(associator) == [(1, 0, "start"), (1, 10, "found again")]


def test_two_objects_whose_masks_are_on_one_thing_are_separated():
    seen = looks(*[[detection(10 + 2 * n), detection(60 - 2 * n)] for n in range(3)])
    on_one = {(1, 10): (58, 10, 78, 30), (2, 10): (58, 10, 78, 30)}
    associator, _ = associate(seen, on_one)
    assert whys(associator)[2:] == [(1, 10, "found again")]


def test_an_object_that_is_absent_and_unseen_ends():
    seen = looks([detection(10, score=0.9)], [], [], [])
    absent = {(1, t): None for t in (10, 20, 30)}
    associator, decisions = associate(seen, absent, retire_after_s=20)
    assert decisions[20] == ([], [1])
    assert associator.prompts[0]["until_frame"] == 21
    _, decisions = associate(seen, absent, retire_after_s=None)
    assert decisions[30] == ([], [])


def test_an_object_that_no_look_sees_stays_while_its_mask_does():
    _, decisions = associate(looks([detection(10, score=0.9)], *[[] for _ in range(9)]), retire_after_s=20)
    assert decisions[90] == ([], [])


def test_an_object_whose_mask_is_doubted_ends_where_no_look_sees_it_and_is_found_again():
    seen = looks([detection(10, score=0.9)], [], [], [detection(12)], [detection(13)])
    associator, decisions = associate(seen, estimates={10: 0.3}, retire_after_s=None)
    assert decisions[10] == ([], [1])
    assert whys(associator) == [(1, 0, "start"), (1, 30, "found again")]
    assert [p.get("until_frame") for p in associator.prompts] == [11, None]


def test_a_doubted_object_goes_on_if_the_next_look_sees_it():
    associator, decisions = associate(looks([detection(10)], [], [detection(12)]), estimates={10: 0.3})
    assert decisions[10] == ([], [])
    assert whys(associator) == [(1, 0, "start")]


def test_an_object_whose_mask_moves_onto_another_one_ends():
    seen = looks([detection(10, score=0.9), detection(60)], [detection(60)], [detection(61)])
    _, decisions = associate(seen, {(1, 10): (58, 10, 78, 30), (1, 20): (58, 10, 78, 30)})
    assert decisions[10] == ([], [1])


def test_a_thing_far_from_an_ended_object_is_another_one():
    seen = looks([detection(2, score=0.9)], [], [detection(76)], [detection(78)])
    associator, _ = associate(seen, estimates={10: 0.3}, retire_after_s=None)
    assert whys(associator) == [(1, 0, "start"), (2, 20, "start")]


def test_caps_are_kept_and_counted():
    many = [detection(25 * n, y) for n in range(3) for y in (5.0, 55.0)]
    associator, _ = associate(looks(many, many), max_objects=4)
    assert len(whys(associator)) == 4
    associator, _ = associate(looks(many, many), max_objects_per_frame=2)
    assert len(whys(associator)) == 2
    assert associator.dropped["max_objects_per_frame"] >= 4


def test_no_object_begins_on_a_tracked_one_or_on_another_start():
    doubled = [detection(10, score=0.9), detection(11, score=0.85)]
    associator, _ = associate(looks(doubled, doubled))
    assert len(whys(associator)) == 1
    assert associator.dropped["on_an_object"] == 2


def test_a_link_is_sure_only_where_no_other_detection_could_be_meant():
    alone = Links(looks([detection(10), detection(60, category="bus")], [detection(16), detection(58, category="bus")]))
    assert alone.is_sure(1, 0)
    assert alone.is_sure(1, 1)
    two = Links(looks([detection(10), detection(50)], [detection(26), detection(36)]))
    assert two.earlier(1, 0) is not None
    assert not two.is_sure(1, 0)


def test_detections_are_linked_over_a_missed_look():
    links = Links(looks([detection(10)], [], [detection(16)]))
    assert links.agrees(0, 0)
    assert links.earlier(2, 0) == (0, 0)


BOX = st.tuples(*[st.integers(0, 40)] * 2, *[st.integers(1, 30)] * 2).map(
    lambda b: (b[0], b[1], b[0] + b[2], b[1] + b[3])
)


@given(st.lists(BOX, max_size=6), st.lists(BOX, max_size=6))
def test_overlaps_equal_those_of_drawn_boxes(a, b):
    iou, contained = overlaps(*(np.array(some, np.float64).reshape(-1, 4) for some in (a, b)))
    for n, one in enumerate(a):
        for m, other in enumerate(b):
            masks = np.zeros((2, 80, 80), bool)
            for mask, (x, y, x2, y2) in zip(masks, (one, other), strict=True):
                mask[y:y2, x:x2] = True
            shared, areas = (masks[0] & masks[1]).sum(), masks.sum(axis=(1, 2))
            assert iou[n, m] == pytest.approx(shared / (areas.sum() - shared))
            assert contained[n, m] == pytest.approx(shared / areas.min())


@given(st.integers(0, 5), st.integers(0, 5), st.integers(0, 2**32 - 1))
def test_matches_are_one_to_one_and_of_the_best_total(rows, columns, seed):
    scores = np.random.default_rng(seed).random((rows, columns)).round(2)
    found = best_matches(scores, least=0.3)
    assert len({r for r, _ in found}) == len({c for _, c in found}) == len(found)
    assert all(scores[pair] >= 0.3 for pair in found)
    greedy = 0.0
    left = scores.copy()
    while left.size and left.max() >= 0.3:
        r, c = np.unravel_index(left.argmax(), left.shape)
        greedy += left[r, c]
        left[r], left[:, c] = 0, 0
    assert sum(scores[pair] for pair in found) >= greedy - 1e-9


@given(st.permutations(range(4)))
def test_decisions_do_not_depend_on_the_order_of_objects_in_the_table(order):
    there = [detection(25 * n, score=0.9 - n / 100) for n in range(4)]
    shuffled = sorted((there[n] for n in order), key=lambda d: -d.score)
    assert whys(associate(looks(shuffled, shuffled))[0]) == whys(associate(looks(there, there))[0])


def test_an_identity_begins_one_object_whose_id_it_is():
    seen = looks([detection(10, score=0.1, track_id="9")], [], [detection(70, score=0.1, track_id="9")])
    associator, _ = associate(seen)
    assert whys(associator) == [(9, 0, "start"), (9, 20, "found again")]


def test_identities_keep_objects_apart_where_their_boxes_swap():
    seen = looks(
        [detection(10, track_id="1"), detection(60, track_id="2")],
        [detection(60, track_id="1"), detection(10, track_id="2")],
    )
    associator, _ = associate(seen)
    assert whys(associator) == [(1, 0, "start"), (2, 0, "start"), (1, 10, "found again"), (2, 10, "found again")]


def test_an_identity_begins_on_the_mask_of_another_one():
    seen = looks([detection(10, track_id="1")], [detection(10, track_id="1"), detection(12, track_id="2")])
    assert whys(associate(seen)[0]) == [(1, 0, "start"), (2, 10, "start")]


def test_an_identity_joins_an_object_that_began_without_one():
    seen = looks([detection(10, score=0.9)], [detection(11, track_id="5")], [detection(70, track_id="5")])
    associator, _ = associate(seen)
    assert whys(associator) == [(6, 0, "start"), (6, 20, "found again")]
    assert associator.prompts[-1]["track_id"] == "5"


def test_no_object_ends_before_the_last_look_at_its_identity():
    seen = looks([detection(10, track_id="1")], *[[] for _ in range(5)], [detection(50, track_id="1")], [], [])
    nowhere = {(1, frame): None for frame in range(10, 60, 10)} | {(1, 70): None, (1, 80): None}
    associator, decisions = associate(seen, nowhere, retire_after_s=20)
    assert whys(associator) == [(1, 0, "start"), (1, 60, "found again")]
    assert decisions[80] == ([], [1])
    gone, _ = associate(looks([detection(10, score=0.9)], *[[] for _ in range(5)]), nowhere, retire_after_s=20)
    assert gone.prompts[0]["until_frame"] == 21


def test_identities_that_are_text_are_numbered_and_kept_with_the_prompts():
    seen = looks([detection(10, track_id="cat"), detection(60, track_id="dog")])
    associator, _ = associate(seen)
    assert [(p["object_id"], p["track_id"]) for p in associator.prompts] == [(1, "cat"), (2, "dog")]


def test_a_restored_associator_knows_the_identities():
    seen = looks([detection(10, track_id="4")], [detection(60, track_id="4")])
    first, _ = associate(seen[:1])
    again = Associator(
        seen, Association(), size=SIZE, masks_of=lambda _: (np.zeros((1, *SIZE), bool), [0.9]), time_of=float
    )
    again.restore(first.state())
    tracked = TrackedFrame(
        frame_index=10,
        object_ids=(4,),
        is_prompted=(False,),
        logits=torch.empty(0),
        object_logit=torch.empty(0),
        predicted_iou=torch.empty(0),
    )
    assert list(again.decide(10, tracked).prompts) == [4]


def test_an_identity_has_one_category_and_one_detection_a_look():
    rows = [
        {"video_id": "v", "frame_index": t, "time_s": None, "box": dict(zip(SIDES, box, strict=True)), "mask": None}
        | {"category": category, "score": score, "track_id": "3"}
        for t, box, category, score in (
            (0, (1.0, 1.0, 9.0, 9.0), "truck", 0.9),
            (1, (1.0, 1.0, 9.0, 9.0), "car", 0.5),
            (2, (1.0, 1.0, 9.0, 9.0), "car", 0.5),
            (2, (4.0, 1.0, 9.0, 9.0), "car", 0.4),
        )
    ]
    table = pa.Table.from_pylist(rows, schema=GIVEN)
    found, dropped = looks_of(table, size=SIZE, index_at=lambda _: [], settings=Association(classes=("car",)))
    assert [(d.category, d.score) for look in found for d in look.detections] == [
        ("car", pytest.approx(0.9)),
        ("car", 0.5),
        ("car", 0.5),
    ]
    assert dropped == {"repeated_identity": 1}
