"""A manifest for people to read."""

from collections.abc import Iterator

from pipeline.manifest.schema import Video
from pipeline.storage import redact


def describe(video: Video) -> Iterator[str]:
    """Its facts and prompts, a line each; hostile text cannot leave its line."""
    yield f"row {video.row}  {video.video_id!a}  {redact(video.video_uri)!a}"
    facts = {name: getattr(video, name) for name in ("start_s", "end_s", "video_version", "num_frames", "priority")}
    said = [f"{name} {value!r}" for name, value in (facts | dict(video.extra)).items() if value is not None]
    if said:
        yield f"    {', '.join(said)}"
    for prompt in video.prompts:
        when = f"frame {prompt.frame_index}" if prompt.time_s is None else f"{prompt.time_s:g} s"
        what = [f"({x:g}, {y:g}) {'in' if label else 'out'}" for x, y, label in prompt.points]
        if prompt.box:
            what.append(f"box ({', '.join(f'{side:g}' for side in prompt.box)})")
        if prompt.mask:
            (height, width), _ = prompt.mask
            what.append(f"mask {width} x {height}")
        name = f" {prompt.category!r}" if prompt.category else ""
        corrects = " corrects" if prompt.correct else ""
        yield f"    object {prompt.object_id}{name}, {when}{corrects}: {', '.join(what)}"
