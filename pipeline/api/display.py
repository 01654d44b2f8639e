"""The progress of a run: a bar in a notebook or on a terminal, a log line every ten seconds elsewhere."""

import logging
import sys
import time
from types import TracebackType
from typing import TYPE_CHECKING, Any, Protocol

from rich.console import Console
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table

from pipeline.runs.summary import damage_text, failures_text
from pipeline.views.words import count, duration

if TYPE_CHECKING:  # only for types: importing it loads pyarrow before --help is shown
    from pipeline.runs.progress import Progress

log = logging.getLogger("label")

LINE_EVERY_S = 10.0
REFRESH_EVERY_S = 0.5
"""Seconds between two updates of a bar in a notebook."""


class Display(Protocol):
    """Shows the progress of a run; a context manager."""

    def __enter__(self) -> "Display": ...
    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...
    def update(self, progress: "Progress") -> None:
        """Show the progress."""


def display_for(*, shown: bool = True) -> Display:
    """The display for this process: a notebook's, a terminal's or log lines; none if not `shown`."""
    if not shown:
        return Lines(every_s=float("inf"))
    if in_notebook():
        return NotebookBar()
    console = Console(stderr=True, highlight=False, soft_wrap=True)
    return TerminalBar(console) if console.is_terminal else Lines()


def in_notebook() -> bool:
    """Whether this process is the kernel of a notebook."""
    shell = sys.modules.get("IPython")
    return shell is not None and type(shell.get_ipython()).__name__ == "ZMQInteractiveShell"


class Lines:
    """Writes the progress to the log every ten seconds."""

    def __init__(self, *, every_s: float = LINE_EVERY_S) -> None:
        self._every_s, self._shown = every_s, 0.0

    def __enter__(self) -> "Lines":
        return self

    def __exit__(self, *_: Any) -> None: ...

    def update(self, progress: "Progress") -> None:
        """Write a line if one is due."""
        if time.monotonic() - self._shown >= self._every_s:
            self._shown = time.monotonic()
            log.info(line(progress))


class TerminalBar:
    """Shows a bar and a line below it."""

    def __init__(self, console: Console) -> None:
        self._live = Live(console=console, refresh_per_second=4)

    def __enter__(self) -> "TerminalBar":
        self._live.__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        self._live.update("")
        self._live.__exit__(*error)

    def update(self, progress: "Progress") -> None:
        """Show the bar at its new length."""
        rows = Table.grid()
        rows.add_row(ProgressBar(100, 100 * progress.share, width=60))
        rows.add_row(line(progress))
        self._live.update(rows)


class NotebookBar:
    """Shows a bar in the output of a notebook's cell."""

    def __init__(self) -> None:
        from IPython.display import HTML, display

        self._html: Any = HTML
        self._handle: Any = display(HTML("starting"), display_id=True)
        self._shown = 0.0

    def __enter__(self) -> "NotebookBar":
        return self

    def __exit__(self, *_: Any) -> None: ...

    def update(self, progress: "Progress") -> None:
        """Show the bar at its new length, at most twice a second."""
        if time.monotonic() - self._shown >= REFRESH_EVERY_S or progress.state == "ended":
            self._shown = time.monotonic()
            bar = f'<progress max="1" value="{progress.share:.4f}" style="width:100%;max-width:40em"></progress>'
            self._handle.update(self._html(f"{bar}<br><small>{line(progress)}</small>"))


def line(progress: "Progress") -> str:
    """The progress in one line: phase, frames of all frames, videos, rate and the time that is left."""
    if progress.phase != "labelling":
        return progress.phase
    known = progress.frames <= progress.frames_expected
    parts = [f"{progress.frames:,.0f}{f' of about {progress.frames_expected:,.0f}' if known else ''} frames"]
    parts.append(f"{progress.done + sum(progress.failed.values())} of {count(progress.videos, 'video')}")
    if progress.rate:
        parts.append(f"{progress.rate:.1f} frames/s")
    parts += filter(
        None,
        (
            damage_text(progress.truncated, progress.damaged),
            failures_text(progress.failed_videos, progress.quarantined),
        ),
    )
    parts.append(count(progress.workers, "worker"))
    if known and progress.eta_s is not None:
        parts.append(f"{duration(progress.eta_s)} left")
    return ", ".join(parts)
