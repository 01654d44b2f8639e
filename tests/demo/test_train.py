"""Training follows inference's rules, learns, and goes on where it stopped; the embedded model is its product."""

import numpy as np
import pytest
import torch
from transformers import Sam2VideoModel, Sam2VideoProcessor

from pipeline.demo.renderer import EVAL_SEEDS, render
from pipeline.tracking.modelfiles import EMBEDDED
from tests.demo.training import train
from tests.demo.training.batches import MEAN, STD, Batch, Prompt
from tests.demo.training.config import tiny_config
from tests.demo.training.tracker import Tracker
from tests.demo.training.train import IMAGE_SIZE, Training


@pytest.fixture(scope="module")
def embedded() -> Sam2VideoModel:
    return Sam2VideoModel.from_pretrained(EMBEDDED, dtype=torch.float32).eval()


@pytest.fixture
def small_steps(monkeypatch):
    monkeypatch.setattr(train, "SINGLE", (2, 1, 2))
    monkeypatch.setattr(train, "STAGES", ((1.0, (2, 3, 2)),))


def test_the_embedded_model_is_small_and_of_the_trained_shape(embedded):
    assert (EMBEDDED / "model.safetensors").stat().st_size <= 8_000_000
    wanted, got = tiny_config(IMAGE_SIZE), embedded.config
    assert got.image_size == wanted.image_size
    shapes = {name: tuple(weight.shape) for name, weight in Sam2VideoModel(wanted).state_dict().items()}
    assert {name: tuple(weight.shape) for name, weight in embedded.state_dict().items()} == shapes


@pytest.mark.parametrize("kind", ["click", "box", "mask"])
def test_training_gets_the_inputs_of_inference(embedded, kind):
    """The tracker's logits equal those of transformers' own loop, an object seen and hidden included."""
    size, length = IMAGE_SIZE, 9
    clip = render(EVAL_SEEDS + 2, frames=48, height=size, width=size, split="eval", times=range(0, 36, 4))
    mask = clip.mask(1)
    y, x = (int(values.mean()) for values in np.nonzero(mask[0]))
    session = Sam2VideoProcessor.from_pretrained(EMBEDDED).init_video_session(
        video=list(clip.frames), inference_device="cpu", dtype=torch.float32
    )
    pixels = (torch.from_numpy(clip.frames).permute(0, 3, 1, 2).float() / 255 - MEAN) / STD
    session.processed_frames = dict(enumerate(pixels))
    everything = slice(0, 1)
    if kind == "mask":
        session.add_mask_inputs(session.obj_id_to_idx(1), 0, torch.from_numpy(mask[:1])[None].float())
        prompt = Prompt(everything, masks=torch.from_numpy(mask[:1])[None].float())
    else:
        spots, labels = ([[x, y]], [1]) if kind == "click" else ([[x - 20, y - 20], [x + 20, y + 20]], [2, 3])
        points, label = torch.tensor(spots).float()[None, None], torch.tensor(labels, dtype=torch.int32)[None, None]
        session.add_point_inputs(session.obj_id_to_idx(1), 0, {"point_coords": points, "point_labels": label})
        prompt = Prompt(everything, points=points, labels=label)
    session.obj_with_new_inputs = [1]

    batch = Batch(
        pixels[None], torch.zeros(1, dtype=torch.long), torch.from_numpy(mask)[None].float(), {0: [prompt]}, 0
    )
    with torch.inference_mode():
        torch.manual_seed(0)
        decoded = Tracker(embedded, batch, trust=True).run()
        for t in range(length):
            theirs = embedded(session, frame_idx=t)
            ours = decoded[t][0]
            if t == 0 and kind == "mask":
                continue  # the mask itself is the output there
            assert ours.score.item() == pytest.approx(theirs.object_score_logits.item(), abs=0.1)
            if ours.score > 0:
                chosen = ours.masks[0, ours.ious[0].argmax()]
                away = (chosen - theirs.pred_masks[0, 0]).abs()
                assert away.mean() < 0.05  # inference keeps its memories in bfloat16


@pytest.mark.usefixtures("small_steps")
def test_steps_on_one_batch_lower_the_loss(tmp_path):
    training = Training(tmp_path, 64, minutes=60, init=None)
    losses = []
    for _ in range(9):
        training.steps = 199  # the step's number decides what the next one sees
        losses.append(training.step()[1]["loss"])
    losses = losses[1:]
    assert losses[-1] < 0.97 * losses[0]


@pytest.mark.usefixtures("small_steps")
def test_training_continues_from_its_checkpoint(tmp_path):
    first = Training(tmp_path, 64, minutes=60, init=None)
    for _ in range(2):
        first.step()
    first.save()
    again = Training(tmp_path, 64, minutes=60, init=None)
    assert (again.steps, again.seconds) == (2, first.seconds)
    for ours, theirs in zip(first.model.parameters(), again.model.parameters(), strict=True):
        assert torch.equal(ours, theirs)
    for ours, theirs in zip(first.optimisers, again.optimisers, strict=True):
        assert len(theirs.state) == len(ours.state) > 0
    model = Sam2VideoModel.from_pretrained(tmp_path / "model", dtype=torch.float32)
    assert model.config.image_size == Sam2VideoProcessor.from_pretrained(tmp_path / "model").target_size == 64


@pytest.mark.usefixtures("small_steps")
def test_weights_move_to_another_image_size(tmp_path, embedded):
    training = Training(tmp_path, 64, minutes=60, init=EMBEDDED)
    assert training.model.config.image_size == 64
    assert torch.equal(training.model.no_memory_embedding, embedded.no_memory_embedding)
    training.steps = 999
    kind, figures = training.step()
    assert kind == "3 frames"
    assert np.isfinite(figures["loss"])
