"""Labelling from Python: the same run as that of `jobs.label`, on tables in memory and on a Ray that already runs."""

import difflib
from collections.abc import Callable, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any, TypeAlias

from pipeline.api.display import display_for
from pipeline.detection.sources.reading import Reading
from pipeline.errors import UsageError
from pipeline.labels.key import Parameters
from pipeline.manifest import Manifest, read_manifest
from pipeline.runs.config import READING_NAMES, RunConfig
from pipeline.runs.prepare import Prepared, prepare
from pipeline.runs.progress import Progress, RunReport
from pipeline.runs.run import label_corpus

Table: TypeAlias = Any
"""A table of pyarrow, pandas or polars."""

IN_MEMORY = "table in memory"
"""The manifest's name in the records of a run whose manifest has no path."""

_PARAMETERS = [each.name for each in fields(Parameters)]
_OPTIONS = [each.name for each in fields(RunConfig) if each.name not in ("manifest", "output", "model", "parameters")]


def label(
    manifest: str | Path | Manifest | Table,
    output: str | Path,
    *,
    model: str,
    prompts: str | Path | Table | None = None,
    progress: bool | Callable[[Progress], None] = True,
    **options: Any,
) -> RunReport:
    """Label the pending videos of a manifest and publish the labels; returns the run's report.

    Uses the Ray that `ray.init` has connected to, else that of `address`, else starts a local one.

    Args:
        manifest: path or fsspec URL; or a table with columns video_id, video_uri and prompts; or what `read_manifest`
            returned.
        output: folder or fsspec URL of the labels.
        model: hub id such as facebook/sam2.1-hiera-tiny, a folder, or embedded (a toy model).
        prompts: flat table of prompts instead of the column prompts: one row per video, object and frame.
        progress: whether to show a progress bar (notebook or terminal), or a function that gets the progress about
            twice a second.
        options: fields of `RunConfig`, such as actors, device, sample or budget_gpu_hours, of `Parameters`, such as
            direction, dtype or mask_threshold, and of `Reading`, which says how `detections` are read: coco_images,
            name_pattern, first_frame, names, map (a dict of categories by name) and size (height, width).

    Raises:
        UsageError: An option is unknown or not allowed, or the manifest or the model cannot be used.
        StorageError: The output cannot be written.
        PoolError: Ray cannot be reached, or workers cannot start.
    """
    config, read = _configure(manifest, output, model=model, prompts=prompts, options=options)
    if callable(progress):
        return label_corpus(config, watch=progress, manifest=read)
    with display_for(shown=progress) as display:
        return label_corpus(config, watch=display.update, manifest=read)


def plan(
    manifest: str | Path | Manifest | Table,
    output: str | Path,
    *,
    model: str,
    prompts: str | Path | Table | None = None,
    **options: Any,
) -> Prepared:
    """Compare a manifest with the labels at the output; returns what `label` with the same arguments would do.

    Raises:
        UsageError: As for `label`.
        StorageError: The manifest or the output cannot be read.
    """
    config, read = _configure(manifest, output, model=model, prompts=prompts, options=options)
    return prepare(config, manifest=read)


def _configure(
    manifest: str | Path | Manifest | Table,
    output: str | Path,
    *,
    model: str,
    prompts: str | Path | Table | None,
    options: Mapping[str, Any],
) -> tuple[RunConfig, Manifest | None]:
    """The configuration, and the manifest if it has no path of its own."""
    allowed = [*_OPTIONS, *_PARAMETERS, *READING_NAMES]
    for name in options:
        if name not in allowed:
            near = difflib.get_close_matches(name, allowed, n=1)
            hint = f"; did you mean {near[0]}?" if near else ""
            raise UsageError(f"label has no option {name!r}{hint} (allowed: {', '.join(allowed)})")
    settings = {name: value for name, value in options.items() if name in _OPTIONS}
    if read := {name: value for name, value in options.items() if name in READING_NAMES}:
        settings["reading"] = Reading(**{**read, "map": tuple(dict(read.get("map", ())).items())})
    config = RunConfig(
        manifest=str(manifest) if isinstance(manifest, str | Path) else IN_MEMORY,
        output=str(output),
        model=model,
        prompts=str(prompts) if isinstance(prompts, str | Path) else None,
        parameters=Parameters(**{name: value for name, value in options.items() if name in _PARAMETERS}),
        **settings,
    )
    if isinstance(manifest, Manifest):
        if prompts is not None:
            raise UsageError("prompts are given twice: give them to read_manifest, or give label the manifest's table")
        return config, manifest
    if isinstance(manifest, str | Path) and (prompts is None or isinstance(prompts, str | Path)):
        return config, None
    return config, read_manifest(manifest, prompts=prompts, detections=config.detections, on_bad_row=config.on_bad_row)
