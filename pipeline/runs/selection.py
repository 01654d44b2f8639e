"""The rows of a manifest that a run labels: those below allowed prefixes, in its sample and its shard."""

import hashlib
import os
from pathlib import Path
from urllib.parse import unquote

import numpy as np

from pipeline.manifest import Manifest
from pipeline.manifest.bad_rows import clip, refuse_rows
from pipeline.runs.config import RunConfig
from pipeline.storage.uris import local_path


def allowed_videos(manifest: Manifest, config: RunConfig) -> Manifest:
    """The manifest without rows whose video_uri is below none of the allowed prefixes.

    Raises:
        ManifestError: There are such rows, and bad rows are not to be left out.
    """
    if not config.allow_uri:
        return manifest
    uris = manifest.table["video_uri"].to_pylist()
    inside = np.array([any(is_under(uri, prefix) for prefix in config.allow_uri) for uri in uris], bool)
    rule = f"the manifest may name videos under {', '.join(config.allow_uri)} only (--allow-uri)"
    bad = [
        manifest.bad_row(i, column="video_uri", value=clip(uris[i]), rule=rule)
        for i in np.flatnonzero(~inside).tolist()
    ]
    if bad and config.on_bad_row == "fail":
        refuse_rows(bad)
    return manifest.select(inside, bad=bad)


def is_under(uri: str, prefix: str) -> bool:
    """Whether a URI is below a prefix, after resolving '..' and symbolic links."""
    path, root = local_path(uri), local_path(prefix)
    if path is not None:
        return root is not None and Path(os.path.realpath(path)).is_relative_to(os.path.realpath(root))
    if ".." in unquote(uri).split("/"):
        return False
    return uri == prefix or uri.startswith(prefix.rstrip("/") + "/")


def selected_videos(manifest: Manifest, config: RunConfig) -> Manifest:
    """The requested sample or shard of the manifest, by a hash of the video ids: the same videos every time."""
    if config.sample is None and config.shard is None:
        return manifest
    ids = manifest.table["video_id"].to_pylist()
    hashes = np.array([int.from_bytes(hashlib.sha256(b"sample" + i.encode()).digest()[:8]) for i in ids], np.uint64)
    keep = np.ones(len(ids), bool)
    if config.sample is not None:
        keep &= hashes / 2.0**64 < config.sample
    if config.shard is not None:
        part, parts = config.shard
        keep &= hashes % np.uint64(parts) == part - 1
    return manifest.select(keep)
