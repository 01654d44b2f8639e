"""A corpus under every fault at once: at the end each video is labelled once or in quarantine with the right class."""

import random
from collections import Counter
from functools import partial

import pytest

from pipeline.labels.failures import read_failures
from pipeline.storage import Store
from pipeline.tables.doctor import examine
from pipeline.tables.query import open_labels
from tests.clips import green, red, write_clip, write_manifest
from tests.proxy import Proxy
from tests.runs.chaos import Settings, crash, start, tries, wait_for
from tests.s3 import BUCKET, SeaweedFS
from tests.tracking.models import random_model_folder

pytestmark = pytest.mark.slow

SEED = 20261122
VIDEOS = 200
ONCE = ("exception", "memory", "reset", "kill", "exit", "segfault", "hang")
ALWAYS = {"exception": "exception", "memory": "oom", "kill": "killed", "hang": "deadline"}
DRIVER_DEATHS = 3


@pytest.fixture
def corpus(tmp_path):
    """Many rows over a few clips, some of them troubled, some hopeless; and what becomes of the hopeless ones."""
    rng = random.Random(SEED)
    clips = [write_clip(tmp_path / f"{i}.mp4", frames=4 + i, seed=i) for i in range(4)]
    (tmp_path / "text.mp4").write_text("not a video")
    rows, faults, classes = [], {}, {}
    fates = ["not a video", "prompt", "missing", *(f"always {fault}" for fault in ALWAYS), *ONCE, *ONCE]
    fates += ["none"] * (VIDEOS - len(fates))
    rng.shuffle(fates)
    for number, fate in enumerate(fates):
        name = f"v{number:03}"
        row = {"video_id": name, "video_uri": rng.choice(clips), "prompts": [red(), green(1)]}
        if fate == "not a video":
            row["video_uri"], classes[name] = str(tmp_path / "text.mp4"), "not_a_video"
        elif fate == "missing":
            row["video_uri"], classes[name] = str(tmp_path / "nowhere.mp4"), "storage"
        elif fate == "prompt":
            row["prompts"], classes[name] = [red(99)], "prompt"
        elif fate.startswith("always"):
            fault = fate.partition(" ")[2]
            faults[name], classes[name] = [fault] * 20, ALWAYS[fault]
        elif fate != "none":
            faults[name] = [fate]
        rows.append(row)
    return rows, faults, classes


def settings(manifest, output, model, faults):
    config = {
        "manifest": manifest,
        "output": output,
        "model": model,
        "actors": 2,
        "cpus_per_actor": 0.5,
        "lanes": 1,
        "deadline_floor_s": 20.0,
        "checkpoint_every_s": 1.0,
    }
    return Settings(config=config, faults=faults)


def labels(output):
    with open_labels(output) as found:
        rows = found.sql("SELECT * EXCLUDE (label_key) FROM masks ORDER BY video_id, object_id, frame_index").fetchall()
        return rows, [name for (name,) in found.sql("SELECT video_id FROM videos ORDER BY 1").fetchall()]


def tried(folder, times):
    return sum(tries(folder).values()) >= times


def test_chaos_on_s3_ends_as_a_calm_run_does(tmp_path, corpus, monkeypatch):
    """Workers that fail, drivers that are killed, a proxy that refuses and resets, a server that crashes."""
    rows, faults, classes = corpus
    model = random_model_folder(tmp_path / "model")
    manifest = write_manifest(tmp_path / "manifest.parquet", rows)
    rng, trouble = random.Random(SEED), random.Random(SEED + 1)
    server = SeaweedFS(tmp_path / "seaweedfs")
    server.start()
    for name, value in server.env().items():
        monkeypatch.setenv(name, value)
    troubled, folder, deaths = f"s3://{BUCKET}/troubled", tmp_path / "run", 0

    def unlucky(_):
        return trouble.choices([None, "refused", "reset", "lost answer"], [94, 2, 2, 2])[0]

    try:
        with Proxy(server.endpoint, trouble=unlucky) as proxy:
            given = settings(manifest, troubled, model, faults)
            code = None
            while code not in (0, 3):
                target = rng.randint(10, 40) + (sum(tries(folder).values()) if deaths else 0)
                driver = start(folder, given, env={"AWS_ENDPOINT_URL": proxy.endpoint})
                if deaths < DRIVER_DEATHS:
                    wait_for(partial(tried, folder, target), driver)
                    deaths += 1
                    if deaths == 2:
                        server.kill()
                        server.start()
                        wait_for(partial(tried, folder, target + 10), driver)
                    crash(driver)
                code = driver.wait(2400)
                assert code in (0, 3, -9)
        store = Store(troubled)
        left = examine(store, repair=True)
        assert examine(store) == []
        assert {failure.video_id: failure.failure_class for failure in read_failures(store)} == classes
        troubled_rows, troubled_videos = labels(troubled)
    finally:
        if driver.poll() is None:
            crash(driver)
        server.kill()
    counts = Counter(tries(folder))
    print(
        f"{deaths} drivers killed, {dict(proxy.troubles)} of {proxy.requests.total()} requests, "
        f"{counts.total()} tries of {len(counts)} videos, the doctor mended {len(left)}: {left}"
    )

    calm = str(tmp_path / "calm")
    kept = write_manifest(tmp_path / "calm.parquet", [row for row in rows if row["video_id"] not in classes])
    assert start(tmp_path / "calm run", settings(kept, calm, model, {})).wait(1200) == 0
    calm_rows, calm_videos = labels(calm)
    assert troubled_videos == calm_videos
    assert len(calm_videos) == VIDEOS - len(classes)
    assert troubled_rows == calm_rows
    assert set(Counter(row[:3] for row in troubled_rows).values()) == {1}
