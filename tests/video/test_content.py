"""One way from a URI to frames: files, zips and folders of images, on disks and in buckets."""

from pathlib import Path

import pytest

from pipeline.errors import StorageError, VideoError
from pipeline.storage import ChangedError, Store, source_versions
from pipeline.video.content import content_version, content_versions, open_uri
from tests.video.pictures import number_of, png, write_folder, write_zip

NAMES = [f"{index}.png" for index in range(12)]


def shown(uri: str, **options) -> list[int]:
    with open_uri(uri, **options) as (reader, _):
        return [number_of(frame.rgb) for frame in reader.forward()]


def test_folder_zip_and_segment_of_a_disk(tmp_path: Path):
    folder, packed = write_folder(tmp_path / "frames", NAMES), write_zip(tmp_path / "frames.zip", NAMES)
    for uri in (str(folder), f"{folder}/", f"file://{folder}", str(packed)):
        assert shown(uri) == list(range(12))
        assert shown(uri, fps=10.0, start_s=0.5, end_s=0.8) == [5, 6, 7]
    assert content_version(str(packed)) == source_versions([str(packed)])[0]
    assert content_version(str(folder)) == content_version(f"{folder}/")
    assert content_versions([str(tmp_path / "gone"), str(tmp_path / "gone/")]) == [None, None]


def test_another_version_than_planned_is_not_decoded(tmp_path: Path):
    folder = write_folder(tmp_path / "frames", NAMES)
    version = content_version(str(folder))
    assert version is not None
    assert shown(str(folder), planned_version=version.token()) == list(range(12))
    (folder / "3.png").write_bytes(b"broken")
    with pytest.raises(ChangedError, match="was replaced between planning and labelling"):
        shown(str(folder), planned_version=version.token())


def test_a_bucket_prefix_is_a_folder_with_or_without_a_slash(s3):
    store = Store(s3.uri)
    for number, name in enumerate(NAMES):
        store.put(f"frames/{name}", png(number))
    store.put("film.zip", b"PK")
    for uri in (f"{s3.uri}/frames", f"{s3.uri}/frames/"):
        assert shown(uri) == list(range(12))
    versions = content_versions([f"{s3.uri}/{name}" for name in ("frames", "frames/", "film.zip", "gone", "gone/")])
    assert versions[0] == versions[1]
    assert versions[2] == source_versions([f"{s3.uri}/film.zip"])[0]
    assert versions[3:] == [None, None]
    for name in ("gone", "gone/"):
        with pytest.raises(StorageError, match="cannot open"):
            shown(f"{s3.uri}/{name}")


def test_a_folder_without_pictures_names_a_subfolder_with_some(tmp_path: Path):
    (tmp_path / "empty").mkdir()
    write_folder(tmp_path / "nested" / "inside", NAMES)
    (tmp_path / "nested" / "notes.txt").write_text("mine")
    with pytest.raises(VideoError, match="holds no pictures \\(JPEG or PNG\\), and 0 other files") as caught:
        shown(str(tmp_path / "empty"))
    assert caught.value.failure_class == "no_video_stream"
    with pytest.raises(VideoError, match="no pictures itself, but 12 pictures one level down in inside/"):
        shown(str(tmp_path / "nested"))
    assert content_version(str(tmp_path / "empty")) is not None, "so that the worker says why"
