"""Trains the embedded detector on rendered frames in one thread.

    python -m tests.demo.training.detector --minutes 25 --init FOLDER --out DIR

Run the same command again to continue from DIR's last checkpoint; the minutes are those of training, not of one run.
DIR/model is the exponential moving average of the weights, ready for from_pretrained.

It has one category. With the outlines as categories, 26 minutes of this recipe found 92 % of the things of held-out
seeds at a score of 0.2, but named 13 % of them rightly and had 18 false boxes a frame; its weights are the start here.
"""

from __future__ import annotations

import argparse
import copy
import math
import time
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torchvision.ops import box_convert, generalized_box_iou_loss, sigmoid_focal_loss
from transformers import RTDetrImageProcessor, RTDetrResNetConfig, RTDetrV2Config, RTDetrV2ForObjectDetection

from pipeline.demo.clicks import tight_box
from pipeline.demo.renderer import EVAL_SEEDS, Clip, render

CATEGORIES = ("shape",)
IMAGE_SIZE, FIRST_SIZE = 96, 64
FIRST_SHARE = 0.75  # of the time is spent on the smaller images: no weight depends on the size
DENSE_SHARE = 0.6  # of the time until the dense loss has faded out
BATCH, MOMENTS = 16, 8  # frames of a step, frames of a clip
PEAK_RATE, WARM_UP = 1e-3, 60
DECAY = 0.995  # of the moving average
SAVE_EVERY = 120.0  # seconds
MIN_AREA = 0.004  # share of the frame that an object shows to be a target

Boxes = NDArray[np.float64]


def detector_config() -> RTDetrV2Config:
    """An RT-DETR v2 of one million parameters."""
    widths, width = [32, 64, 96, 128], 64
    return RTDetrV2Config(
        backbone_config=RTDetrResNetConfig(
            embedding_size=widths[0],
            hidden_sizes=widths,
            depths=[1, 1, 1, 1],
            layer_type="basic",
            out_features=["stage2", "stage3", "stage4"],
        ),
        freeze_backbone_batch_norms=False,
        encoder_in_channels=widths[1:],
        encoder_hidden_dim=width,
        encoder_ffn_dim=2 * width,
        encoder_attention_heads=4,
        hidden_expansion=0.5,
        d_model=width,
        decoder_in_channels=[width] * 3,
        decoder_ffn_dim=2 * width,
        decoder_layers=2,
        decoder_attention_heads=4,
        num_queries=20,
        num_denoising=16,
        id2label=dict(enumerate(CATEGORIES)),
        label2id={name: i for i, name in enumerate(CATEGORIES)},
    )


def make_batch(rng: np.random.Generator, size: int) -> tuple[Tensor, list[dict[str, Tensor]]]:
    """Pixels (BATCH, 3, size, size) in 0..1, and targets: class_labels (n,), boxes (n, 4) as x y w h in shares."""
    pixels: list[Tensor] = []
    targets: list[dict[str, Tensor]] = []
    while len(pixels) < BATCH:
        height, width = (round(size * rng.uniform(1, 1.4)) for _ in range(2))
        times = [float(t) for t in rng.uniform(0, 47, MOMENTS)]
        clip = render(int(rng.integers(EVAL_SEEDS)), frames=48, height=height, width=width, split="all", times=times)
        for t in range(MOMENTS):
            frame, labels, boxes = _augment(rng, clip, t)
            image = Image.fromarray(frame).resize((size, size), Image.Resampling.BILINEAR)
            pixels.append(torch.from_numpy(np.array(image)).permute(2, 0, 1).float() / 255)
            targets.append({"class_labels": torch.from_numpy(labels), "boxes": torch.from_numpy(boxes).float()})
    return torch.stack(pixels).to(memory_format=torch.channels_last), targets


def _augment(rng: np.random.Generator, clip: Clip, t: int) -> tuple[NDArray[np.uint8], NDArray[np.int64], Boxes]:
    """A frame cropped, mirrored and recoloured at random, its categories and its boxes."""
    frame, ids = clip.frames[t], clip.ids[t]
    if rng.random() < 0.4:
        height, width = (int(n * rng.uniform(0.6, 1)) for n in ids.shape)
        top, left = (int(rng.integers(n - m + 1)) for n, m in zip(ids.shape, (height, width), strict=True))
        frame, ids = frame[top : top + height, left : left + width], ids[top : top + height, left : left + width]
    if rng.random() < 0.5:
        frame, ids = frame[:, ::-1], ids[:, ::-1]
    frame = frame[..., rng.permutation(3)]
    height, width = ids.shape
    labels: list[int] = []
    boxes: list[tuple[float, float, float, float]] = []
    for i in range(1, len(clip.objects) + 1):
        mask = ids == i
        if mask.mean() >= MIN_AREA:
            x_min, y_min, x_max, y_max = tight_box(mask)
            labels.append(0)
            centre = (x_min + x_max) / 2 / width, (y_min + y_max) / 2 / height
            boxes.append((*centre, (x_max - x_min) / width, (y_max - y_min) / height))
    return np.ascontiguousarray(frame), np.array(labels, np.int64), np.array(boxes, np.float64).reshape(-1, 4)


def dense_loss(classes: Tensor, boxes: Tensor, targets: list[dict[str, Tensor]], size: int) -> Tensor:
    """Loss of every encoder location whose centre lies in the middle of a box, as in FCOS (arXiv:1904.01355).

    RT-DETR's own loss has one location per object to learn from; at the start of training this one has many.
    """
    sides = [size // stride for stride in (8, 16, 32)]
    grids = [torch.stack(torch.meshgrid(*[(torch.arange(n) + 0.5) / n] * 2, indexing="xy"), -1) for n in sides]
    centres = torch.cat([grid.reshape(-1, 2) for grid in grids])
    goal, wanted, chosen = torch.zeros_like(classes), [], []
    for i, target in enumerate(targets):
        box = target["boxes"]
        if len(box) == 0:
            continue
        inside = ((centres[:, None] - box[:, :2]).abs() < 0.3 * box[:, 2:]).all(-1)
        area = torch.where(inside, box[:, 2:].prod(-1), torch.inf)
        at = torch.nonzero(inside.any(1))[:, 0]
        owner = area.argmin(1)[at]
        goal[i, at, target["class_labels"][owner]] = 1
        wanted.append(box[owner])
        chosen.append(boxes[i, at].sigmoid())
    count = max(1, sum(len(part) for part in wanted))
    focal = sigmoid_focal_loss(classes, goal, reduction="sum")
    if not wanted:
        return focal / count
    ours, theirs = torch.cat(chosen), torch.cat(wanted)
    giou = generalized_box_iou_loss(
        box_convert(ours, "cxcywh", "xyxy"), box_convert(theirs, "cxcywh", "xyxy"), reduction="sum"
    )
    return (focal + 5 * (ours - theirs).abs().sum() + 2 * giou) / count


class Training:
    """Everything a checkpoint holds: weights, their average, optimiser, step and the time spent."""

    def __init__(self, folder: Path, minutes: float, init: Path | None = None) -> None:
        self.folder, self.minutes = folder, minutes
        torch.manual_seed(0)
        model = RTDetrV2ForObjectDetection(detector_config())
        if init:
            model = model.from_pretrained(init, config=model.config, dtype=torch.float32, ignore_mismatched_sizes=True)
        self.model = model.train().to(memory_format=torch.channels_last)
        self.average = copy.deepcopy(self.model).eval()
        self.optimiser = torch.optim.AdamW(self.model.parameters(), lr=0.0, weight_decay=1e-3)
        self.steps, self.seconds = 0, 0.0
        if self._state.exists():
            state = torch.load(self._state, weights_only=True)
            self.model.load_state_dict(state["model"])
            self.average.load_state_dict(state["average"])
            self.optimiser.load_state_dict(state["optimiser"])
            self.steps, self.seconds = state["steps"], state["seconds"]

    @property
    def _state(self) -> Path:
        return self.folder / "checkpoint.pt"

    @property
    def done(self) -> float:
        """Share of the time that is over."""
        return self.seconds / 60 / self.minutes

    def step(self) -> float:
        """One optimiser step; its loss."""
        start = time.thread_time()
        size = FIRST_SIZE if self.done < FIRST_SHARE else IMAGE_SIZE
        pixels, targets = make_batch(np.random.default_rng([2, self.steps]), size)
        torch.manual_seed(self.steps)
        out = self.model(pixel_values=pixels, labels=targets)
        loss = out.loss
        if self.done < DENSE_SHARE:
            dense = dense_loss(out.enc_outputs_class, out.enc_outputs_coord_logits, targets, size)
            loss = loss + 2 * (1 - self.done / DENSE_SHARE) * dense
        self.model.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        rate = PEAK_RATE * min(1.0, (self.steps + 1) / WARM_UP) * max(0.01, math.cos(min(1.0, self.done) * math.pi / 2))
        for group in self.optimiser.param_groups:
            group["lr"] = rate
        self.optimiser.step()
        self.steps += 1
        decay = min(DECAY, (1 + self.steps) / (10 + self.steps))
        with torch.no_grad():
            for ours, new in zip(self.average.state_dict().values(), self.model.state_dict().values(), strict=True):
                if ours.is_floating_point():
                    ours.lerp_(new, 1 - decay)
        self.seconds += time.thread_time() - start
        return loss.item()

    def save(self) -> None:
        """Writes the checkpoint and the model folder; a kill in between leaves the last checkpoint whole."""
        self.folder.mkdir(parents=True, exist_ok=True)
        copy.deepcopy(self.average).half().save_pretrained(self.folder / "model")
        size = {"height": IMAGE_SIZE, "width": IMAGE_SIZE}
        RTDetrImageProcessor(size=size, do_normalize=False).save_pretrained(self.folder / "model")
        state = {
            "model": self.model.state_dict(),
            "average": self.average.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "steps": self.steps,
            "seconds": self.seconds,
        }
        part = self._state.with_suffix(".part")
        torch.save(state, part)
        part.replace(self._state)


def main() -> None:
    """Trains until the minutes are spent, saving every few minutes and printing a line each 50 steps."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=60, help="training time in all (default 60)")
    parser.add_argument("--init", type=Path, help="model whose weights are the start, those of its categories left out")
    parser.add_argument("--out", type=Path, required=True, help="folder of the checkpoint and of the model")
    options = parser.parse_args()
    torch.set_num_threads(1)
    training = Training(options.out, options.minutes, options.init)
    saved, losses = time.monotonic(), list[float]()
    while training.done < 1:
        losses.append(training.step())
        if training.steps % 50 == 0:
            print(f"{training.seconds / 60:.1f} min, step {training.steps}: loss {np.mean(losses):.2f}", flush=True)
            losses.clear()
        if time.monotonic() - saved > SAVE_EVERY:
            training.save()
            saved = time.monotonic()
    training.save()


if __name__ == "__main__":
    main()
