"""Failure records: what a damaged one costs."""

import logging

import pytest

from pipeline.labels.failures import Attempt, failure_of, read_failures, write_failure
from pipeline.storage import Store


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b'{"video_id": "a"}', b"\xff", b'{"new_field": 1}'])
def test_a_damaged_failure_record_is_ignored_with_a_warning(tmp_path, caplog, data):
    store = Store(tmp_path)
    attempt = Attempt(cause="decode", message="m", traceback="", worker="w", at=0.0)
    kept, damaged = (
        failure_of([attempt], video_id=name, label_key=key * 64, run_id="r") for name, key in (("a", "1"), ("b", "2"))
    )
    for failure in (kept, damaged):
        write_failure(store, failure)
    store.put(damaged.path, data)
    with caplog.at_level(logging.WARNING):
        assert [failure.video_id for failure in read_failures(store)] == ["a"]
    assert damaged.path in caplog.text
