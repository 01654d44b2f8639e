"""Finding, checking and loading models."""

import json
import shutil
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from pipeline.errors import ModelError
from pipeline.tracking import model, modelfiles


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    copied = tmp_path / "a model"
    shutil.copytree(modelfiles.EMBEDDED, copied)
    return copied


def change_config(folder: Path, **changes: object) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_the_embedded_model_loads_in_fp32() -> None:
    sam2 = model.load("embedded", device="cpu")
    assert {p.dtype for p in sam2.model.parameters()} == {torch.float32}
    assert not sam2.model.training
    assert sam2.image_size == sam2.model.config.image_size
    assert sam2.digest == modelfiles.resolve("embedded").digest


@pytest.mark.parametrize("size", [(90, 140), (240, 320), (321, 241), (160, 160), (720, 1280)])
def test_preprocessing_is_the_processors_bit_by_bit(size: tuple[int, int]) -> None:
    sam2 = model.load("embedded", device="cpu")
    video = np.random.default_rng(0).integers(0, 256, (2, *size, 3), dtype=np.uint8)
    session = sam2.processor.init_video_session(video=list(video))
    table = sam2.pixel_values()
    for frame, expected in zip(video, session.processed_frames.values(), strict=True):
        for same in (frame, frame[:, ::-1][:, ::-1]):
            resized = sam2.resize(same)
            assert resized.dtype == torch.uint8
            pixels = torch.stack([table[c][resized[..., c].int()] for c in range(3)])
            assert torch.equal(pixels, expected)


def test_the_digest_is_the_weights_not_the_name(folder: Path) -> None:
    digest = modelfiles.resolve("embedded").digest
    assert modelfiles.resolve(str(folder)).digest == digest
    change_config(folder, transformers_version="9.9", dtype="float64", architectures=None)
    assert modelfiles.resolve(str(folder)).digest == digest


def test_the_digest_follows_weights_and_settings(folder: Path) -> None:
    digests = {modelfiles.resolve("embedded").digest}
    change_config(folder, num_maskmem=5)
    digests.add(modelfiles.resolve(str(folder)).digest)
    weights = load_file(folder / "model.safetensors")
    weights["no_object_pointer"] += 1
    save_file(weights, folder / "model.safetensors")
    digests.add(modelfiles.resolve(str(folder)).digest)
    processor = json.loads((folder / "processor_config.json").read_text())
    processor["video_processor"]["image_mean"] = [0.5, 0.5, 0.5]
    (folder / "processor_config.json").write_text(json.dumps(processor))
    digests.add(modelfiles.resolve(str(folder)).digest)
    assert len(digests) == 4


def test_sharded_weights_have_the_same_digest(folder: Path) -> None:
    weights = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    names = sorted(weights)
    for n, part in enumerate((names[::2], names[1::2])):
        save_file({name: weights[name] for name in part}, folder / f"model-0000{n}-of-00002.safetensors")
    assert modelfiles.resolve(str(folder)).digest == modelfiles.resolve("embedded").digest


def test_wrong_models_are_refused_with_an_explanation(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"No model folder at /no/such/folder; a model is `embedded`, a folder"):
        modelfiles.resolve("/no/such/folder")
    with pytest.raises(ModelError, match=r"no config\.json"):
        modelfiles.resolve(str(tmp_path))
    with pytest.raises(ModelError, match=r"Invalid device \(tpu\)"):
        model.load("embedded", device="tpu")
    change_config(folder, model_type="bert")
    with pytest.raises(ModelError, match=r"model_type 'bert'"):
        model.load(str(folder))
    change_config(folder, model_type="sam2_video")
    weights = load_file(folder / "model.safetensors")
    del weights["no_object_pointer"]
    save_file(weights, folder / "model.safetensors")
    with pytest.raises(ModelError, match=r"lacks 1 weights .* no_object_pointer"):
        model.load(str(folder), device="cpu")
    (folder / "model.safetensors").write_bytes(b"nothing")
    with pytest.raises(ModelError, match="cannot read the weights"):
        modelfiles.resolve(str(folder))
    (folder / "model.safetensors").unlink()
    with pytest.raises(ModelError, match="pickled weights are not loaded"):
        modelfiles.resolve(str(folder))
    (folder / "config.json").write_text("{")
    with pytest.raises(ModelError, match="not readable JSON"):
        modelfiles.resolve(str(folder))


def test_an_edgetam_model_without_timm_names_the_package(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    change_config(folder, model_type="edgetam_video")
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(ModelError, match=r"encoder is in the package timm.*pip install 'sam2-corpus\[edgetam\]'"):
        model.load(str(folder), device="cpu")


def test_a_hub_that_does_not_answer_is_given_up_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", lambda *_, **__: time.sleep(60))
    monkeypatch.setattr(
        huggingface_hub, "snapshot_download", _raise(huggingface_hub.errors.LocalEntryNotFoundError("not here"))
    )
    started = time.monotonic()
    with pytest.raises(ModelError, match=r"facebook/nothing is no local folder.*within 0\.5 s"):
        modelfiles.resolve("facebook/nothing", timeout_s=0.5)
    assert time.monotonic() - started < 30


def test_a_cached_model_is_used_if_the_hub_is_unreachable(
    monkeypatch: pytest.MonkeyPatch, folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    import huggingface_hub

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", _raise(OSError("no network")))
    monkeypatch.setattr(huggingface_hub, "snapshot_download", lambda *_, **__: str(folder))
    assert modelfiles.resolve("facebook/something").folder == folder
    assert "using the cached copy" in caplog.text


def _raise(error: Exception):  # type: ignore[no-untyped-def]
    def call(*_: object, **__: object) -> None:
        raise error

    return call
