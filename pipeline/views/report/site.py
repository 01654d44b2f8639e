"""Write the site video by video, in memory bounded by the longest one."""

import itertools
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa

from pipeline.errors import CorpusError, UsageError
from pipeline.manifest import prompts_from_json
from pipeline.storage import Storage
from pipeline.tables.query import Labels
from pipeline.views.pages import asset, render
from pipeline.views.report.numbers import read_numbers, tiles
from pipeline.views.report.pictures import is_playable, link_to, write_pictures
from pipeline.views.report.videos import list_videos, page_data, read_chunks

Clips = Literal["auto", "link", "copy", "none"]
PromptRecords = Sequence[Mapping[str, Any]]
Correct = Callable[[str, PromptRecords], PromptRecords]
CARDS = 60
SCRIPTS = ("index.js", *(f"{name}.js" for name in ("masks", "plot", "marks", "prompts", "correct", "video")))
GENERATOR = b'content="sam2-corpus"'
"""In the first page of every report."""
OLDER_REPORT = b"SAM 2 labels, "
"""In the first page of reports that name no generator."""


@dataclass(frozen=True, kw_only=True)
class Report:
    """Result of writing a report."""

    videos: int
    thumbnails: int
    bytes: int
    copies: int
    """Clips that were copied into the report."""
    copied_bytes: int
    unreadable: tuple[str, ...]
    """Why some videos have no picture."""


def write_report(
    labels: Labels,
    folder: Path,
    *,
    title: str,
    run_id: str | None = None,
    thumbnails: int = 200,
    clips: Clips = "auto",
    storage: Storage | None = None,
    correct: Correct = lambda _video_id, prompts: prompts,
    announce: Callable[[int, int], None] = lambda _clips, _frames: None,
    watch: Callable[[int, int], None] = lambda _done, _all: None,
) -> Report:
    """Write the report of a whole output, or of the videos that one run labelled.

    Args:
        labels: the published labels.
        folder: a local folder; files of an earlier report in it are replaced.
        title: heading of the first page.
        run_id: only videos that this run labelled.
        thumbnails: number of most doubtful videos that get a picture; each costs opening its video.
        clips: `link` plays videos from their source (a browser plays https and files on its own machine), `copy`
            writes small H.264 copies of the videos that get a picture, `auto` copies those of them whose source
            browsers cannot load or play and links the others, `none` shows masks alone.
        storage: how sources are read.
        correct: makes the current prompts of a video, by its id, from those that its labels were made with.
        announce: called with the number of clips to be copied, if any, and that of their frames, before they are.
        watch: called with the number of videos done and the number of all.

    Raises:
        UsageError: The folder holds files that are not a report's under names that a report uses.
    """
    videos = list_videos(labels, run_id)
    _claim_folder(folder)
    by_doubt = sorted(range(len(videos)), key=lambda n: (-(videos[n]["doubt"] or 0), n))
    after = dict(itertools.pairwise(by_doubt))
    site = _Site(
        labels, folder, clips=clips, storage=storage, pictured=frozenset(by_doubt[:thumbnails]), correct=correct
    )
    if copied := [videos[n] for n in site.pictured if site.source_of(videos[n])[1]]:
        announce(len(copied), sum(video["frames"] or 0 for video in copied))
    for name in ("data", "thumbs"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    rows: list[dict[str, Any]] = [{} for _ in videos]
    done = 0
    for numbers, masklets, masks in read_chunks(labels, videos):
        for n in numbers:
            video_id = videos[n]["video_id"]
            rows[n] = site.write_video(
                n, videos[n], masklets.get(video_id, []), masks.get(video_id), following=after.get(n)
            )
            done += 1
            watch(done, len(videos))
    site.write_index(
        title if run_id is None else f"{title}, run {run_id}", rows, [rows[n] for n in by_doubt[:CARDS]], run_id=run_id
    )
    site.written += sum(path.stat().st_size for name in ("thumbs", "clips") for path in (folder / name).glob("*"))
    return Report(
        videos=len(videos),
        thumbnails=sum(bool(row["thumb"]) for row in rows),
        bytes=site.written,
        copies=len(site.copied),
        copied_bytes=sum((folder / clip).stat().st_size for clip in site.copied),
        unreadable=tuple(site.unreadable),
    )


@dataclass
class _Site:
    """The folder that is written to."""

    labels: Labels
    folder: Path
    _: KW_ONLY
    clips: Clips
    storage: Storage | None
    pictured: frozenset[int]
    """Positions of the videos that get a picture."""
    correct: Correct
    copied: list[str] = field(default_factory=list)
    """Addresses of copied clips."""
    unreadable: list[str] = field(default_factory=list)
    written: int = 0
    """Bytes of pages and data so far."""

    def write_video(
        self,
        n: int,
        video: dict[str, Any],
        masklets: list[dict[str, Any]],
        masks: pa.Table | None,
        *,
        following: int | None,
    ) -> dict[str, Any]:
        """Write the data and pictures of the n-th video; returns its row of the list of videos.

        `following` is the position of the next less doubtful video.
        """
        doubted = max(masklets, key=lambda row: row.get("doubt") or 0, default={})
        prompts = self.correct(video["video_id"], prompts_from_json(video["prompts"]))
        page = page_data(video, masklets, masks, prompts)
        source, copy = self.source_of(video)
        thumb = False
        if n in self.pictured:
            worst = {each["id"]: each["worst"] for each in page["objects"]}
            index = worst.get(str(doubted.get("object_id")), 0)
            try:
                copied = write_pictures(self.labels, video, index, self.folder, n, copy=copy, storage=self.storage)
                thumb, source = True, copied or source
                self.copied += [copied] if copied else []
            except (CorpusError, OSError) as error:
                self.unreadable.append(f"{video['video_id']!r}: {error}")
        self.write(f"data/{n}.js", f"show({_json({**page, 'source': source, 'next': following})})\n")
        return {
            "n": n, "id": video["video_id"], "doubt": video["doubt"], "frames": video["frames"],
            "objects": len(masklets), "why": (doubted.get("reasons") or [])[:3], "thumb": thumb,
        }  # fmt: skip

    def source_of(self, video: dict[str, Any]) -> tuple[str | None, bool]:
        """The address of the video's source, if the page is to play it, and whether to copy the clip instead."""
        if self.clips in ("none", "copy"):
            return None, self.clips == "copy"
        link = link_to(str(video["uri"]), self.folder)
        if self.clips == "auto" and (link is None or not is_playable(video)):
            return None, True
        return link, False

    def write_index(
        self, title: str, rows: list[dict[str, Any]], worst: list[dict[str, Any]], *, run_id: str | None
    ) -> None:
        """Write the first page, the list of videos, the page that shows any one video, and their scripts."""
        numbers = read_numbers(self.labels, run_id=run_id)
        when = datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")
        self.write("data/videos.js", f"list({_json([list(row.values()) for row in rows])})\n")
        self.write(
            "index.html",
            render("index.html", title=title, when=when, numbers=numbers, tiles=tiles(numbers), worst=worst),
        )
        self.write("video.html", render("video.html"))
        for name in SCRIPTS:
            self.write(name, asset(name))

    def write(self, path: str, text: str) -> None:
        """Write a text file below the folder."""
        data = text.encode("utf-8", "backslashreplace")
        (self.folder / path).write_bytes(data)
        self.written += len(data)


def _claim_folder(folder: Path) -> None:
    """Write a first page for the time until the report is complete, which marks the folder as a report's.

    Raises:
        UsageError: The folder holds what a report would overwrite, and its first page is not a report's.
    """
    page = folder / "index.html"
    if page.exists():
        if not page.is_file() or not any(mark in page.read_bytes() for mark in (GENERATOR, OLDER_REPORT)):
            raise UsageError(f"{page} is not a report of this project; choose another --folder")
        return
    for name in ("video.html", *SCRIPTS, "data", "thumbs", "clips"):
        if (folder / name).exists():
            raise UsageError(f"{folder / name} is not of a report of this project; choose another --folder")
    folder.mkdir(parents=True, exist_ok=True)
    page.write_bytes(b'<!doctype html><meta name="generator" ' + GENERATOR + b"><p>This report is not complete.\n")


def _json(value: Any) -> str:
    """JSON without characters that could end a script element."""
    text = json.dumps(value, separators=(",", ":"), allow_nan=False)
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")
