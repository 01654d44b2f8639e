"""Objects that are decided while tracking, on three of the scenes; `tests.benchmarks.association` has all of them."""

from functools import cache

from pipeline.tracking.model import load
from tests.scenes import labelling
from tests.scenes.detections import detect
from tests.scenes.metrics import Figures, figures
from tests.scenes.scene import make_scene

NUMBERS = (0, 2, 3)
EVERY_S = 0.5


@cache
def figures_of(method: labelling.Method) -> Figures:
    sam2 = load("embedded", device="cpu")
    scenes = [make_scene(number) for number in NUMBERS]
    found = figures([labelling.score(s, method(sam2, s, detect(s, s.name, EVERY_S), EVERY_S)) for s in scenes])
    print(f"{method.__name__}: {found}")
    return found


def test_a_thing_has_one_masklet() -> None:
    assert figures_of(labelling.from_detections).ids_per_thing < 1.3


def test_identities_are_at_least_those_of_true_boxes() -> None:
    """The true box of each thing on the first look that can see it, against all looks of a noisy detector."""
    ours, true = (figures_of(method) for method in (labelling.from_detections, labelling.from_true_box))
    assert true.ids_per_thing == 1
    assert ours.idf1 >= true.idf1
    assert ours.hota >= true.hota


def test_linking_boxes_before_tracking_makes_more_masklets() -> None:
    ours, linked = (figures_of(method) for method in (labelling.from_detections, labelling.from_manifest))
    assert ours.ids_per_thing < linked.ids_per_thing
    assert ours.idf1 > linked.idf1
