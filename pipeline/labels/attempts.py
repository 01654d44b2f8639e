"""Failed tries: their causes, who is charged for them, and how many a video has."""

from dataclasses import dataclass

NODE = "node"
"""The cause that charges nobody: a node that was lost or drained."""

POISONED = {"cuda": 2}
"""Causes after which a worker is good for nothing: after an error other than out of memory, CUDA fails for ever."""

ALONE = {**POISONED, "killed": 2, "oom": 2, "deadline": 2, "hang": 2, "crash": 2}
"""Causes that end or endanger a worker: tried again alone, so that it can neither hurt nor suffer from neighbours."""

ATTEMPTS = {**ALONE, "exception": 2, "storage": 3}
"""How often a video may fail by a cause before it goes to quarantine; once by any other (it will fail again)."""


@dataclass(frozen=True)
class Attempt:
    """One failed try: its cause, what was said, where and when (seconds since the epoch)."""

    cause: str
    message: str
    traceback: str
    worker: str
    at: float
