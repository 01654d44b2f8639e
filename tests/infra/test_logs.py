"""JSON log lines: one object a line, whatever is logged, with the ids of the run and the video."""

import io
import json
import logging
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from pipeline import logs
from pipeline.errors import UsageError


@pytest.fixture
def stream() -> Iterator[io.StringIO]:
    root = logging.getLogger()
    before, level = root.handlers[:], root.level
    yield io.StringIO()
    root.handlers[:], root.level = before, level


def lines(stream: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_lines_carry_the_ids_of_the_process_and_of_the_block(stream: io.StringIO) -> None:
    logs.setup("json", stream=stream, run_id="r1", worker="w0")
    log = logging.getLogger("pipeline.test")
    with logs.bound(video_id="v1"):
        log.warning("slow: %d s", 3)
    log.info("done")
    inside, after = lines(stream)
    assert inside["message"] == "slow: 3 s"
    assert (inside["level"], inside["logger"]) == ("WARNING", "pipeline.test")
    assert (inside["run_id"], inside["worker"], inside["video_id"]) == ("r1", "w0", "v1")
    assert "video_id" not in after
    assert after["time"].endswith("+00:00")


def test_a_video_id_cannot_forge_a_line(stream: io.StringIO) -> None:
    logs.setup("json", stream=stream)
    with logs.bound(video_id='v"\n{"level": "CRITICAL"}'):
        logging.getLogger("x").info("line one\nline two")
    (line,) = lines(stream)
    assert line["message"] == "line one\nline two"
    assert line["level"] == "INFO"


def test_tracebacks_stay_on_the_line(stream: io.StringIO) -> None:
    logs.setup("json", stream=stream)
    try:
        raise ValueError("broken")
    except ValueError:
        logging.getLogger("x").exception("failed")
    (line,) = lines(stream)
    assert line["traceback"].endswith("ValueError: broken")


def test_threads_do_not_mix_their_videos(stream: io.StringIO) -> None:
    logs.setup("json", stream=stream)
    barrier = threading.Barrier(2)

    def label(video: str) -> None:
        with logs.bound(video_id=video):
            barrier.wait(60)
            logging.getLogger("x").info(video)

    threads = [threading.Thread(target=label, args=(video,)) for video in ("a", "b")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(line["message"] == line["video_id"] for line in lines(stream))


def test_text_is_for_people(stream: io.StringIO) -> None:
    logs.setup("text", stream=stream, run_id="r1")
    logging.getLogger("x").info("hello")
    assert stream.getvalue().endswith(" INFO hello\n")


def test_the_environment_chooses(stream: io.StringIO, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(logs.VARIABLE, "json")
    monkeypatch.setattr(logs.sys, "stderr", stream)
    logs.setup_from_environment(run_id="r1")
    logging.getLogger("x").info("hello")
    assert lines(stream)[0]["run_id"] == "r1"
    monkeypatch.setenv(logs.VARIABLE, "yaml")
    with pytest.raises(UsageError, match="SAM2_CORPUS_LOGS is 'yaml'; allowed are text, json"):
        logs.setup_from_environment()


def test_setting_up_twice_does_not_double_lines(stream: io.StringIO) -> None:
    logs.setup("json", stream=stream)
    logs.setup("json", stream=stream)
    logging.getLogger("x").info("once")
    assert len(lines(stream)) == 1
