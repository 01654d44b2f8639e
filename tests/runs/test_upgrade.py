"""An upgrade of the model from end to end: stage, evaluate, publish, go back; the next night leaves that alone."""

import json
import re
import shutil
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file

from jobs import evaluate, history, label, nightly, publish
from pipeline.storage import Store
from pipeline.tables.labelled import labelled_videos
from pipeline.tracking.modelfiles import EMBEDDED
from tests.clips import green, red, write_clip, write_manifest


def make_model(folder: Path, *, scale: float) -> str:
    """The embedded model with the weights of its mask decoder scaled."""
    shutil.copytree(EMBEDDED, folder)
    weights = load_file(folder / "model.safetensors")
    changed = {name: value * scale if name.startswith("mask_decoder") else value for name, value in weights.items()}
    save_file(changed, folder / "model.safetensors", metadata={"format": "pt"})
    return str(folder)


class Corpus:
    """Clips, their output, and the commands of an operator."""

    def __init__(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.folder, self.capsys = folder, capsys
        self.out = str(folder / "out")
        self.store = Store(self.out)
        self.rows: list[dict] = []

    def add_clip(self, name: str) -> None:
        uri = write_clip(self.folder / f"{name}.mp4", frames=3, seed=len(self.rows))
        self.rows.append({"video_id": name, "video_uri": uri, "prompts": [red(), green()]})
        write_manifest(self.folder / "manifest.parquet", self.rows)

    def label(self, model: str, *options: str) -> str:
        """Label all clips; returns the id of the run."""
        given = ["--manifest", str(self.folder / "manifest.parquet"), "--output", self.out, "--model", model]
        assert label.main([*given, "--actors", "1", *options]) == 0
        return self.store.list_dirs("runs")[-1]

    def night(self, model: str) -> dict:
        """Run a night as nightly.toml would; returns its report."""
        config = self.folder / "nightly.toml"
        config.write_text(
            f'manifests = ["{self.folder}/manifest.parquet"]\noutput = "{self.out}"\n[label]\n'
            f'model = "{model}"\nactors = 1\n'
        )
        assert nightly.main(["--config", str(config), "--night", "2026-11-30"]) == 0
        return json.loads((self.folder / "out/nights/2026-11-30/report.json").read_text())

    def publish(self, *options: str, code: int = 0) -> str:
        self.capsys.readouterr()
        assert publish.main([self.out, *options]) == code
        return self.capsys.readouterr().out

    def history(self) -> list[dict]:
        self.capsys.readouterr()
        assert history.main([self.out, "--json"]) == 0
        return [json.loads(line) for line in self.capsys.readouterr().out.splitlines()]

    def models(self) -> dict[str, str]:
        """For every published video, the first digits of its model's digest."""
        table = labelled_videos(self.store, ["video_id", "weights_digest"])
        return {row["video_id"]: row["weights_digest"][:8] for row in table.to_pylist()}


@pytest.mark.usefixtures("local_ray")
def test_an_upgrade_is_staged_evaluated_published_and_rolled_back(tmp_path, capsys):
    corpus = Corpus(tmp_path, capsys)
    one, two = make_model(tmp_path / "v1", scale=1.0), make_model(tmp_path / "v2", scale=1.25)
    corpus.add_clip("a")
    corpus.add_clip("b")
    first = corpus.label(one)
    before = corpus.models()
    staged = corpus.label(two, "--no-publish")
    assert corpus.models() == before

    would = corpus.publish("--run", staged, "--dry-run")
    assert f"2 would change: model changed (run {staged} instead of run {first})" in would
    assert corpus.models() == before
    sheets = tmp_path / "review"
    assert evaluate.main([corpus.out, "--staged", "--against", "published", "--review", str(sheets)]) == 0
    agreement = re.search(r"agreement in J&F (\d\.\d+) .* over 2 videos", capsys.readouterr().out)
    assert agreement
    assert float(agreement[1]) < 1  # the two models differ
    assert len(list(sheets.glob("sheets/*.png"))) == len(list(sheets.glob("against/sheets/*.png"))) == 2

    assert "published 2 videos" in corpus.publish("--run", staged)
    after = corpus.models()
    assert not set(after.values()) & set(before.values())
    assert [(row["what"], row["shows_run"], row["videos"], row["model"]) for row in corpus.history()] == [
        ("publish", first, 2, one),
        (f"run {staged} by hand", staged, 2, two),
    ]
    with pytest.raises(SystemExit, match="2"):
        publish.main([corpus.out, "--rollback", "--run", staged])

    assert "2 would go back: model changed" in corpus.publish("--rollback", "--dry-run")
    said = corpus.publish("--rollback")
    assert "rollback to publication 1 " in said
    assert "the parts of the labels that were replaced stay; no label is lost" in said
    assert f"a run with {one} and the same parameters goes on with them" in said
    assert corpus.models() == before
    assert "no label was replaced since the last rollback" in corpus.publish("--rollback")

    corpus.add_clip("c")
    report = corpus.night(two)  # the configuration still has the later model
    assert (report["labelled"], report["published"]["videos"]) == (1, 1)
    assert any(
        note.startswith("2 videos keep their pinned labels (rollback to publication 1 at") for note in report["notes"]
    )
    assert corpus.models() == before | {"c": after["a"]}
    newest = [(row["what"], row["shows_run"], row["videos"]) for row in corpus.history() if row["new"] == 1]
    assert newest[0] == ("publish", first, 2)

    report = corpus.night(one)  # the model of the rollback: its pins end
    assert (report["labelled"], report["notes"]) == (1, [])
    assert set(corpus.models().values()) == set(before.values())
    assert "pinned" not in corpus.publish("--dry-run")

    said = corpus.publish("--expire-parts", "0s")
    assert "ends the rollback to publication" in said
    assert "expired 6 parts" in said
    assert "have expired" in corpus_error(corpus, "--rollback")


def corpus_error(corpus: Corpus, *options: str) -> str:
    """What a refused publication says."""
    corpus.capsys.readouterr()
    assert publish.main([corpus.out, *options]) == 2
    return corpus.capsys.readouterr().err
