"""Log lines for machines: one JSON object per line, with the ids of the run and of the video concerned.

The entry point of each process calls `setup_from_environment` once; library code only logs. The default is text.
"""

import json
import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import Any, Literal, TextIO, get_args

from pipeline.errors import UsageError

LogFormat = Literal["text", "json"]
VARIABLE = "SAM2_CORPUS_LOGS"

CHATTY = ("aiobotocore", "botocore", "fsspec", "httpx", "httpx2", "s3fs")
"""Libraries that log every request or credential at INFO."""

TEXT = "%(asctime)s %(levelname)s %(message)s"

_bound: ContextVar[dict[str, str] | None] = ContextVar("sam2_corpus_log_ids", default=None)


class JsonFormatter(logging.Formatter):
    """One JSON object a line: time, level, logger, message, the bound ids, and the traceback if there is one.

    Args:
        ids: ids that every line of this process carries, such as run_id and worker.
    """

    def __init__(self, ids: dict[str, str]) -> None:
        super().__init__()
        self._ids = ids

    def format(self, record: logging.LogRecord) -> str:
        """The log record as one line of valid JSON, for any message."""
        line: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
            **self._ids,
            **(_bound.get() or {}),
        }
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str)


def setup(log_format: LogFormat, *, stream: TextIO | None = None, **ids: str) -> None:
    """Send this process's log lines to `stream`, stderr when absent, replacing what was set up before.

    Args:
        log_format: text for people, JSON for a log collector.
        stream: where lines go.
        ids: ids that every JSON line carries, such as run_id and worker.
    """
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(JsonFormatter(ids) if log_format == "json" else logging.Formatter(TEXT, "%H:%M:%S"))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.INFO)
    for name in CHATTY:
        logging.getLogger(name).setLevel(logging.WARNING)


def setup_from_environment(**ids: str) -> None:
    """Set up logging by SAM2_CORPUS_LOGS: text (default) or json. For commands, and for workers at their start."""
    wanted = os.environ.get(VARIABLE, "text")
    if wanted not in get_args(LogFormat):
        raise UsageError(f"{VARIABLE} is {wanted!r}; allowed are {', '.join(get_args(LogFormat))}")
    setup("json" if wanted == "json" else "text", stream=None, **ids)


@contextmanager
def bound(**ids: str) -> Iterator[None]:
    """Within this block the JSON lines of this thread carry these ids too, such as video_id."""
    token = _bound.set({**(_bound.get() or {}), **ids})
    try:
        yield
    finally:
        _bound.reset(token)
