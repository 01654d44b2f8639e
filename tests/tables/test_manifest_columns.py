"""The videos table has the manifest's own columns and the time of publication."""

from pipeline.storage import Store
from pipeline.tables import publish
from tests.tables.corpora import commit, key, rows, want

A, B = key("A"), key("B")


def test_extra_columns_of_any_type_are_carried_through(local: Store) -> None:
    import datetime as dt

    extras = [
        {"site": "north", "Lens": 35, "when": dt.datetime(2026, 1, 2, tzinfo=dt.UTC), "tags": ["a", "b"]},
        {"site": 7, "lens": 50.0, "nested": {"a": [1, 2]}, "none": None},
        {"site": "south", "Lens": 1.5, "when": "later", "frames": "mine"},
    ]
    for at, extra in enumerate(extras):
        commit(local, f"v{at}", A, extra=extra)
        want(local, str(at), {f"v{at}": A})
        if at:
            publish(local)
    found = {row["video_id"]: row for row in rows(local, "videos")}
    assert [found[f"v{at}"]["site"] for at in range(3)] == ["north", None, "south"]
    assert found["v1"]["site_int64"] == 7
    assert [found[f"v{at}"]["Lens"] for at in range(3)] == [35, 50, None]
    assert found["v2"]["Lens_double"] == 1.5
    assert found["v0"]["tags"] == ["a", "b"]
    assert found["v1"]["nested"] == {"a": [1, 2]}
    assert found["v0"]["when"] == dt.datetime(2026, 1, 2, tzinfo=dt.UTC)
    assert found["v2"]["when_string"] == "later"
    assert found["v2"]["frames"] == 5
    assert found["v2"]["manifest_frames"] == "mine"
    assert "none" not in found["v1"]


def test_tables_say_when_they_were_published(local: Store) -> None:
    commit(local, "v", A)
    want(local, "1", {"v": A})
    publish(local)
    assert rows(local, "videos")[0]["published_at"] is not None
