"""Publishing over a network that loses requests and answers: delta-rs gives up on some, and we must not."""

from collections import Counter

import pytest

from pipeline.storage import Store
from pipeline.tables import optimize, publish
from pipeline.tables.maintenance import delete_videos
from tests.fixtures_s3 import S3
from tests.proxy import Proxy, Trouble
from tests.tables.corpora import check, commit, key, want

A, B = key("A"), key("B")


@pytest.mark.parametrize("trouble", ["refused", "reset", "lost answer"])
def test_the_first_try_of_every_commit_may_fail(trouble: Trouble, s3: S3, monkeypatch: pytest.MonkeyPatch) -> None:
    tries: Counter[str] = Counter()

    def first_tries(request: str) -> Trouble | None:
        tries[request] += 1
        return trouble if request.startswith("PUT ") and "_delta_log" in request and tries[request] == 1 else None

    with Proxy(s3.endpoint, trouble=first_tries) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.endpoint)
        store = Store(f"{s3.uri}/out")
        keys = {f"v{i}": A for i in range(4)}
        for video_id in keys:
            commit(store, video_id, A)
        want(store, "1", keys)
        assert publish(store).mask_rows == 40
        check(store, keys)
        commit(store, "v2", B)
        want(store, "2", {"v2": B})
        publish(store)
        commit(store, "v9", B)
        want(store, "3", {"v9": B})
        publish(store)
        keys |= {"v2": B, "v9": B}
        check(store, keys)
        assert [(done.files_before > 1, done.files_after) for done in optimize(store)] == [(True, 1)] * 3
        check(store, keys)
        assert delete_videos(store, ["v1"]) == 10
        assert proxy.troubles[trouble] >= 15  # three tables: created, written thrice, optimized, deleted from
