"""A worker's memory does not grow with the length of a video."""

import subprocess
import sys

import pytest

from tests.clips import green, red, write_clip, write_manifest

LABEL = """
import resource, sys
from pipeline.workers.labeler import Labeler
from pipeline.manifest import read_manifest
from tests.labelling import settings, task_of

output, manifest = sys.argv[1:]
Labeler(settings(output)).label(task_of(read_manifest(manifest).video(0)))
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
"""


def peak_mib(tmp_path, frames):
    """Peak resident memory of a process that labels one video of so many frames."""
    path = tmp_path / f"{frames}.mp4"
    rows = [{"video_id": "v", "video_uri": write_clip(path, frames=frames), "prompts": [red(), green(1)]}]
    manifest = write_manifest(tmp_path / f"{frames}.parquet", rows)
    command = [sys.executable, "-c", LABEL, str(tmp_path / f"out-{frames}"), manifest]
    return float(subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()[-1])


@pytest.mark.slow
def test_peak_memory_of_2000_frames_is_that_of_200(tmp_path):
    few, many = peak_mib(tmp_path, 200), peak_mib(tmp_path, 2000)
    print(f"peak RSS: {few:.0f} MiB for 200 frames, {many:.0f} MiB for 2,000")
    assert many - few <= 30
