"""A worker's memory does not grow with the length of a video."""

import subprocess
import sys

import pytest

from tests.clips import green, red, write_clip, write_manifest

LABEL = """
import resource, sys
from pipeline import model
from pipeline.labeler import Labeler
from pipeline.manifest import read_manifest
from pipeline.plan import Parameters
from pipeline.store import Storage, open_source
from pipeline.task import LabelerSettings, Task

output, manifest = sys.argv[1:]
settings = LabelerSettings(
    output=output, storage=Storage(), model="embedded", revision=None, weights_digest=model.resolve("embedded").digest,
    device="cpu", threads=1, lanes=1, parameters=Parameters(), on_damaged="fail", checkpoint_every_s=1e9, run_id="run",
)
video = read_manifest(manifest).video(0)
file, version = open_source(video.video_uri)
file.close()
labeler = Labeler(settings)
labeler.label(Task(video=video, label_key="k", version=version.token(), prompts_digest="", attempt=1, isolate=False))
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
