"""Setting glibc to keep the memory of freed frames."""

import ctypes
import logging

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
_log = logging.getLogger(__name__)


def keep_freed_memory(*, up_to_bytes: int = 128 << 20) -> bool:
    """Make glibc keep up to `up_to_bytes` of freed memory in this process; returns whether it does.

    By default glibc unmaps the buffer of each RGB frame when it is freed, and the next one is faulted in page by page:
    450 faults, or 1 ms, for a 720p frame that takes 4 ms to decode. Returns False where there is no glibc.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError):
        _log.info("no mallopt in this C library: each frame may cost page faults")
        return False
    # 32 MiB is the largest mmap threshold that glibc accepts; larger buffers (8K) are always mapped.
    return bool(mallopt(_M_TRIM_THRESHOLD, up_to_bytes)) and bool(mallopt(_M_MMAP_THRESHOLD, 32 << 20))
