"""The README as a newcomer follows it: the demo, a second time, and every block of code."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from pipeline.tables.query import open_labels

README = (Path(__file__).parents[1] / "README.md").read_text()


def blocks(language):
    return re.findall(rf"^```{language}\n(.*?)^```", README, re.MULTILINE | re.DOTALL)


def run(command, folder):
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    return subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=600, check=False
    )


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    """A folder where the demo has run."""
    folder = tmp_path_factory.mktemp("readme")
    done = run([sys.executable, "-m", "jobs.demo"], folder)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder, done.stdout


def test_the_demo_labels_its_corpus_and_runs_a_query(demo):
    _, text = demo
    assert "labelled 10 of 10 pending videos" in text
    assert "leave-and-return" in text
    assert "tables masks, masklets and videos are in" in text


def test_the_demo_finds_the_objects_of_its_videos_without_prompts(demo):
    folder, text = demo
    assert text.count("labelled 10 of 10 pending videos") == 2
    with open_labels(folder / "demo/found") as labels:
        found = dict(labels.sql("SELECT video_id, count(*) FROM masklets GROUP BY 1").fetchall())
    true = pq.read_table(folder / "demo/corpus/truth.parquet", filters=[("area", ">", 0)]).to_pandas()
    objects = true.groupby("video_id")["object_id"].nunique()
    assert len(found) == len(objects) == 10
    assert sum(abs(found[f"{name}.mp4"] - count) for name, count in objects.items()) <= 4


def test_a_second_demo_has_nothing_to_do(demo):
    folder, _ = demo
    again = run([sys.executable, "-m", "jobs.demo"], folder)
    assert again.returncode == 0
    assert "nothing pending" in again.stdout


@pytest.mark.parametrize("code", blocks("python"), ids=lambda code: code.splitlines()[0])
def test_python_blocks_run(demo, code):
    done = run([sys.executable, "-W", "error", "-c", code], demo[0])
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("code", blocks("sh"), ids=lambda code: code.split()[2])
def test_shell_blocks_run(demo, code):
    done = run(["bash", "-euc", code], demo[0])
    assert done.returncode == 0, done.stdout + done.stderr
    assert "one-click" in done.stdout


def test_the_manifest_of_the_readme_is_valid(demo):
    folder, _ = demo
    run([sys.executable, "-c", blocks("python")[0]], folder)
    done = run([sys.executable, "-m", "jobs.manifest", "validate", "manifest.parquet"], folder)
    assert done.returncode == 0, done.stdout + done.stderr
