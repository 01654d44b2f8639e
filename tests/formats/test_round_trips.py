"""Export, import, evaluate: J&F is 1 where a format loses nothing, and as stated where it does."""

import shutil
from pathlib import Path

import pytest

from pipeline.formats.evaluate import evaluate, summarise
from pipeline.formats.export import export_labels
from pipeline.formats.location import Location
from pipeline.formats.opening import kind_of, open_masks
from pipeline.formats.registry import format_of
from pipeline.formats.sources import SelectedMasks
from pipeline.formats.split import Splits
from pipeline.storage import Store


def round_trip(labels, name: str, target: Path, **options):
    every = format_of(name).default_stride
    export_labels(
        labels.select(every=every), Store(target), format_of(name), splits=Splits.parse(["val=0.4"]), **options
    )
    found = open_masks(str(target))
    result = evaluate(found, SelectedMasks(labels.select(every=every)), protocol="all", workers=1)
    assert not result.problems
    assert not result.missing_videos
    assert result.extra_videos == 0
    return summarise(result)


@pytest.mark.parametrize("name", ["sav", "png", "coco", "youtube-vis", "cvat", "cvat-masks"])
def test_lossless_formats(labels, target: Path, name: str) -> None:
    assert round_trip(labels, name, target).overall.j_and_f == 1


@pytest.mark.parametrize("name", ["davis", "mots"])
def test_formats_without_overlap_are_lossless_where_nothing_overlaps(apart, target: Path, name: str) -> None:
    assert round_trip(apart, name, target).overall.j_and_f == 1


@pytest.mark.parametrize("name", ["davis", "mots"])
def test_where_objects_overlap_the_smaller_one_is_kept_whole(labels, target: Path, name: str) -> None:
    summary = round_trip(labels, name, target)
    by_name = {group.name: group for group in summary.by_category}
    assert 0.8 < summary.overall.j_and_f < 1
    assert by_name["object" if name == "mots" else "(none)"].j_and_f == 1


def test_polygons_through_centres_lose_pixels_between_pieces(labels, target: Path) -> None:
    summary = round_trip(labels, "yolo", target)
    by_name = {group.name: group for group in summary.by_category}
    assert by_name["cat"].j_and_f == 1
    assert 0.94 < by_name["dog"].j_and_f < 1  # a line leads from one piece to the other


@pytest.mark.parametrize(("name", "bound"), [("yolo", 0.93), ("cvat", 0.93)])
def test_simplified_polygons(apart, target: Path, name: str, bound: float) -> None:
    summary = round_trip(apart, name, target, tolerance=1.0)
    assert bound < summary.overall.j_and_f < 1


@pytest.mark.parametrize("name", ["sav", "davis", "png", "coco", "youtube-vis", "yolo", "mots", "cvat"])
def test_formats_are_recognised_also_without_the_record_of_the_export(apart, target: Path, name: str) -> None:
    export_labels(apart.select(every=format_of(name).default_stride), Store(target), format_of(name))
    kind = kind_of(Location.of(str(target)))
    shutil.rmtree(target / "_export")
    assert kind_of(Location.of(str(target))) == kind
