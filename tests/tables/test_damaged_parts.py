"""Parts that cannot be read do not stop the publication of others."""

from collections import Counter

import pytest

from pipeline.storage import Access, Storage, Store, part_path
from pipeline.tables import publish
from tests.fixtures_s3 import S3
from tests.proxy import Proxy, Trouble
from tests.tables.corpora import check, commit, key, make_part, want

A, B = key("A"), key("B")


@pytest.mark.parametrize("harm", ["truncated", "not parquet", "other video", "gone", "rows"])
def test_a_damaged_part_does_not_stop_the_others(local: Store, harm: str) -> None:
    keys = {"a": A, "bad": A, "c": A}
    for video_id in keys:
        commit(local, video_id, A, frames=50)
    path, data = part_path("bad", A), make_part("bad", A, frames=50)
    if harm == "rows":
        data = data[:4] + bytes(byte ^ 0xFF for byte in data[4:600]) + data[600:]
    elif harm == "other video":
        data = make_part("a", A)
    else:
        data = {"truncated": data[:-100], "not parquet": b"hello", "gone": b""}[harm]
    local.put(path, data)
    want(local, "1", keys)
    if harm == "gone":
        local.delete(path)
    done = publish(local)
    assert done.videos == 2
    assert [part.video_id for part in done.unreadable] == ([] if harm == "gone" else ["bad"])
    assert done.waiting == (1 if harm == "gone" else 0)
    check(local, {"a": A, "c": A}, frames=50)
    local.put(path, make_part("bad", A, frames=50))
    assert publish(local).videos == 1
    check(local, keys, frames=50)


@pytest.mark.parametrize("good", [0, 1])
def test_a_part_that_the_storage_refuses_is_published_later(good: int, s3: S3) -> None:
    """Neither its footer nor, where that was read, its rows."""
    store, path, seen = Store(f"{s3.uri}/out"), part_path("away", A), Counter[str]()
    for video_id in ("away", "v"):
        commit(store, video_id, A)
    want(store, "1", {"away": A, "v": A})

    def trouble(request: str) -> Trouble | None:
        asked = request.startswith("GET ") and path in request
        seen[path] += asked
        return "refused" if asked and seen[path] > good else None

    with Proxy(s3.endpoint, trouble=trouble) as proxy:
        access = Storage(((store.uri, Access(endpoint=proxy.endpoint)),))
        done = publish(Store(store.uri, storage=access, retry_budget_s=0.1))
    (part,) = done.unreadable
    assert "SlowDown" in part.reason
    assert "damaged" not in part.reason
    check(store, {"v": A})
    assert publish(store).videos == 1
    check(store, {"away": A, "v": A})
