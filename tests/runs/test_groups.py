"""Groups of workers: options, predicted memory, and a run on a real Ray of two nodes with labels."""

import re
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import ray
from ray.cluster_utils import Cluster

from jobs import label as job
from pipeline.errors import UsageError
from pipeline.runs.config import RunConfig
from pipeline.runs.groups import WorkerGroup, describe_groups, smallest_groups, sorted_groups
from pipeline.runs.labelling import join_cluster
from pipeline.runs.run import label_corpus
from pipeline.runs.stops import StopConditions
from pipeline.workers.address import PoolError
from tests.clips import red, write_manifest
from tests.workers.simulated import NodeLabeler

GIVEN = {"manifest": "m", "output": "o", "model": "embedded"}


def test_groups_are_read_from_the_command_line_and_from_toml(tmp_path: Path) -> None:
    texts = ["name=large,gpus=1,label=ray.io/accelerator-type=H200,memory=141", "name=small,memory=24,lanes=2,actors=3"]
    options = [f"--{name}={value}" for name, value in GIVEN.items()]
    config, _, _ = job.read_options([*options, *(f"--worker-group={text}" for text in texts)])
    large, small = config.worker_group
    assert (large.label, large.gpus, large.actors) == ("ray.io/accelerator-type=H200", 1.0, None)
    assert (small.label, small.lanes, small.actors) == (None, 2, 3)
    assert sorted_groups(config.worker_group) == (small, large)
    (tmp_path / "run.toml").write_text(f"worker-group = {texts}\n")
    assert job.read_options([*options, f"--config={tmp_path}/run.toml"])[0] == config


@pytest.mark.parametrize(
    ("groups", "said"),
    [
        (["gpus=1"], "has no name; begin it with name="),
        (["name=a,gpu=1"], "not understood at 'gpu=1'; .* the names name, label, gpus, actors, lanes, memory"),
        (["name=a,name=b"], "not understood at 'name=b'"),
        (["name=a,gpus=one"], "a value that is no number"),
        (["name=a,gpus=2"], "gpus of worker group 'a' is 2.0; allowed: 0 to 1"),
        (["name=a,label=large"], "label of worker group 'a' is 'large'; allowed: KEY=VALUE"),
        (["name=a", "name=a"], "two worker groups are named 'a'"),
        (["name=a,memory=8", "name=b"], "worker group 'b' has no memory=GIB, but others have"),
        (["name=a", "--actors=2"], "--actors is 2; allowed: none beside --worker-group"),
        (["name=a", "--gpus-per-actor=1"], "--gpus-per-actor is 1.0; allowed: none beside --worker-group"),
    ],
)
def test_wrong_groups_are_named(groups: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    options = [f"--{name}={value}" for name, value in GIVEN.items()]
    options += [each if each.startswith("--") else f"--worker-group={each}" for each in groups]
    with pytest.raises((UsageError, SystemExit)) as error:
        job.read_options(options)
    text = str(error.value) + capsys.readouterr().err
    assert re.search(said, " ".join(text.split()))


def test_many_objects_need_the_larger_group_and_the_plan_says_so() -> None:
    groups = (WorkerGroup(name="small", memory=8), WorkerGroup(name="large", memory=80))
    objects = np.array([1, 100, 200, 9000])
    places = smallest_groups(groups, objects)
    assert places is not None
    assert places.tolist() == [0, 0, 1, 1]
    assert list(describe_groups(groups, objects)) == [
        "worker group small gets 2 of 4 pending videos: the others need more than 8 GiB by their number of objects"
    ]
    assert smallest_groups((WorkerGroup(name="a"), WorkerGroup(name="b")), objects) is None


@pytest.mark.usefixtures("local_ray")
def test_a_label_that_a_local_ray_cannot_have_is_an_error() -> None:
    config = RunConfig(**GIVEN, worker_group=(WorkerGroup(name="a", label="kind=large"),))
    with pytest.raises(PoolError, match="a local Ray has no nodes with the label kind=large"):
        join_cluster(config, StopConditions(config))


@pytest.mark.slow
def test_on_two_labelled_nodes_each_group_labels_what_fits_it(tmp_path: Path) -> None:
    rows = [{"video_id": f"v{n:02}", "video_uri": str(tmp_path / "clip"), "num_frames": 100 - n} for n in range(40)]
    (tmp_path / "clip").write_bytes(b"not opened here")
    for n, row in enumerate(rows):
        row["prompts"] = [red(object_id=i) for i in range(200 if n in (20, 30) else 1)]
        row["memory"] = int(n == 39)
    manifest = write_manifest(tmp_path / "m.parquet", rows)
    (tmp_path / "out" / "runs").mkdir(parents=True)
    who = tmp_path / "who"
    who.mkdir()
    ray.shutdown()
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0})
    for kind in ("small", "large"):
        cluster.add_node(num_cpus=1, labels={"kind": kind})
    try:
        config = RunConfig(
            manifest=manifest,
            output=str(tmp_path / "out"),
            model="embedded",
            address=cluster.address,
            publish=False,
            cpus_per_actor=1,
            worker_group=tuple(
                WorkerGroup.parse(f"name={kind},gpus=0,actors=1,label=kind={kind},memory={memory}")
                for kind, memory in (("small", 8), ("large", 80))
            ),
        )
        report = label_corpus(config, load_labeler=NodeLabeler(who))
        assert report.labelled == 40
        assert report.failures == []
        tries = [path.name.split("~") for path in who.iterdir()]
        by_kind = {kind: {video for video, at, _ in tries if at == kind} for kind in ("small", "large")}
        assert Counter(video for video, _, _ in tries) == Counter({row["video_id"]: 1 for row in rows}) + Counter(
            {"v39": 1}
        )
        assert by_kind["small"] & by_kind["large"] == {"v39"}, "it ran out of memory on the small node"
        assert {"v20", "v30"} <= by_kind["large"], "200 objects do not fit the small group"
        assert min(len(videos) for videos in by_kind.values()) >= 5, "both take a share"
        assert "v00" in by_kind["large"], "the most expensive one"
        assert any("worker group small gets 38 of 40" in note for note in report.notes)
    finally:
        ray.shutdown()
        cluster.shutdown()
