"""Trains the embedded model on rendered clips: one thread learns, a second one renders the next batch meanwhile.

    python -m tests.demo.training.train --minutes 120 --out DIR

Run the same command again to go on from DIR's last checkpoint; the minutes are those of training, not of one run.
`--natural SHARE` renders this share of the clips with natural textures, which need `pip install scikit-image
scikit-learn`; they ship the pictures. `--rate` is the peak learning rate; a trained model takes a lower one.

`--init FOLDER` starts from the weights of another checkpoint of the same shape, at any image size, and leaves out the
stage of single frames that random weights need. DIR/model is the model so far, ready for from_pretrained.

With glibc, OMP_NUM_THREADS=1 MALLOC_MMAP_THRESHOLD_=33554432 MALLOC_TRIM_THRESHOLD_=8589934592
MALLOC_TOP_PAD_=268435456 in the environment keeps freed tensors mapped: steps took 2 to 40 % less time, by shape.
"""

from __future__ import annotations

import argparse
import copy
import time
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import Sam2ImageProcessor, Sam2VideoModel, Sam2VideoProcessor, Sam2VideoVideoProcessor

from tests.demo.training.batches import Batch, make_batch
from tests.demo.training.config import tiny_config
from tests.demo.training.tracker import Decoded, Tracker

IMAGE_SIZE = 160
PEAK_RATE = 3e-4
FALL = 0.3  # of the time, at the end, in which the rate falls to nothing
SAVE_EVERY = 180.0  # seconds
# until this share of the time: clips, frames and rows of a step; every second step is a SINGLE one
STAGES = ((0.5, (5, 4, 2)), (0.9, (4, 7, 2)), (1.0, (3, 12, 2)))
SINGLE = (8, 1, 6)
WARM_UP_SHARE = 0.35  # of the time goes to single frames alone when weights start at random


class Training:
    """Everything a checkpoint holds: the weights, the optimisers, the step and the time spent."""

    def __init__(
        self,
        folder: Path,
        image_size: int,
        minutes: float,
        init: Path | None,
        *,
        natural: float = 0.0,
        rate: float = PEAK_RATE,
    ) -> None:
        self.folder, self.image_size, self.minutes, self.from_scratch = folder, image_size, minutes, init is None
        self.natural, self.rate = natural, rate
        config = tiny_config(image_size)
        if init is None:
            torch.manual_seed(0)
            self.model = Sam2VideoModel(config)
        else:
            self.model = Sam2VideoModel.from_pretrained(init, config=config, dtype=torch.float32)
        self.model.train()
        self.optimisers = _optimisers(self.model)
        self.steps, self.seconds = 0, 0.0
        if self._state.exists():
            state = torch.load(self._state, weights_only=True)
            self.model.load_state_dict(state["model"])
            for optimiser, saved in zip(self.optimisers, state["optimisers"], strict=True):
                optimiser.load_state_dict(saved)
            self.steps, self.seconds, self.from_scratch = state["steps"], state["seconds"], state["from_scratch"]
        self._renderer = ThreadPoolExecutor(1, "renderer", torch.set_num_threads, (1,))
        self._ahead = self._order(self.steps)

    @property
    def _state(self) -> Path:
        return self.folder / "checkpoint.pt"

    @property
    def done(self) -> float:
        """Share of the time that is over."""
        return self.seconds / 60 / self.minutes

    def step(self) -> tuple[str, dict[str, float]]:
        """One optimiser step; its kind and figures. What step n sees depends on n and the stage alone."""
        start = time.monotonic()
        batch = self._ahead.result()
        torch.manual_seed(self.steps)
        decoded = Tracker(self.model, batch, trust=bool(torch.rand(()) < 0.7)).run()
        total, figures = loss(decoded, batch, balance=max(0.15, 1 - 3 * self.done) if self.from_scratch else 0.15)

        self.model.zero_grad()
        self._ahead = self._order(self.steps + 1)  # now, because backward needs no interpreter
        total.backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        rate = self.rate * min(1.0, (self.steps + 1) / 100, max(0.01, (1 - self.done) / FALL))
        for optimiser in self.optimisers:
            for group in optimiser.param_groups:
                group["lr"] = rate
            optimiser.step()
        self.steps += 1
        self.seconds += time.monotonic() - start
        return f"{batch.pixels.shape[1]} frames", figures

    def _order(self, step: int) -> Future[Batch]:
        clips, frames, rows = self._shape(step)
        rng = np.random.default_rng([1, step])
        shape = {"clips": clips, "frames": frames, "rows": rows, "size": self.image_size}
        return self._renderer.submit(make_batch, rng, **shape, natural=self.natural)

    def _shape(self, step: int) -> tuple[int, int, int]:
        if step % 2 == 1 or (self.from_scratch and self.done < WARM_UP_SHARE):
            return SINGLE
        return next(shape for until, shape in STAGES if self.done < until or until == 1.0)

    def save(self) -> None:
        """Writes the checkpoint and the model folder; a kill in between leaves the last checkpoint whole."""
        self.folder.mkdir(parents=True, exist_ok=True)
        copy.deepcopy(self.model).half().save_pretrained(self.folder / "model")
        size = {"height": self.image_size, "width": self.image_size}
        mask_size = {"height": self.image_size // 4, "width": self.image_size // 4}
        Sam2VideoProcessor(
            image_processor=Sam2ImageProcessor(size=size, mask_size=mask_size),
            video_processor=Sam2VideoVideoProcessor(size=size),
            target_size=self.image_size,
        ).save_pretrained(self.folder / "model")
        state = {
            "model": self.model.state_dict(),
            "optimisers": [optimiser.state_dict() for optimiser in self.optimisers],
            "steps": self.steps,
            "seconds": self.seconds,
            "from_scratch": self.from_scratch,
        }
        part = self._state.with_suffix(".part")
        torch.save(state, part)
        part.replace(self._state)


def _optimisers(model: torch.nn.Module) -> list[torch.optim.Optimizer]:
    """Muon for the matrices of linear layers, and AdamW for all else."""
    named = dict(model.named_parameters())
    matrices = {name for name, p in named.items() if p.ndim == 2 and min(p.shape) >= 32 and "embed" not in name}
    others = [p for name, p in named.items() if name not in matrices]
    return [
        torch.optim.AdamW(others, lr=0.0, weight_decay=1e-2, betas=(0.9, 0.98)),
        torch.optim.Muon(
            [named[name] for name in sorted(matrices)], lr=0.0, weight_decay=1e-2, adjust_lr_fn="match_rms_adamw"
        ),
    ]


def loss(decoded: dict[int, list[Decoded]], batch: Batch, *, balance: float) -> tuple[Tensor, dict[str, float]]:
    """Mean over frames, and figures of the masks the model chose.

    `balance` blends class-balanced cross entropy, without which random weights collapse to empty masks, into plain one.
    """
    total = torch.zeros(())
    chosen: list[Tensor] = []
    hits: list[Tensor] = []
    for t, blocks in decoded.items():
        # Soft truth at half the resolution says where inside a cell the border runs, at a quarter of the cost.
        truth = F.avg_pool2d(batch.truth[:, t], 2)
        for block in blocks:
            one, iou, present = _block_loss(block, truth[block.rows], balance)
            total = total + one * len(block.ious) / len(truth) / len(decoded)
            chosen.append(iou[present])
            hits.append((block.score > 0) == present)
    figures = {"loss": total, "IoU": torch.cat(chosen).mean(), "presence": torch.cat(hits).float().mean()}
    return total, {name: value.item() for name, value in figures.items()}


def _block_loss(block: Decoded, truth: Tensor, balance: float) -> tuple[Tensor, Tensor, Tensor]:
    logits = F.interpolate(block.masks, size=truth.shape[-2:], mode="bilinear")
    goal = truth[:, None].expand_as(logits)
    cross = F.binary_cross_entropy_with_logits(logits, goal, reduction="none")
    likely = logits.sigmoid()
    inside = (cross * goal).sum((2, 3)) / goal.sum((2, 3)).clamp(min=1)
    outside = (cross * (1 - goal)).sum((2, 3)) / (1 - goal).sum((2, 3)).clamp(min=1)
    dice = 1 - (2 * (likely * goal).sum((2, 3)) + 1) / (likely.sum((2, 3)) + goal.sum((2, 3)) + 1)
    each = 3 * (balance * (inside + outside) / 2 + (1 - balance) * cross.mean((2, 3))) + dice
    with torch.no_grad():
        hard, real = logits > 0, goal > 0.5
        true_iou = (hard & real).sum((2, 3)) / (hard | real).sum((2, 3)).clamp(min=1)
    present, rows = truth.flatten(1).any(1), torch.arange(len(truth))
    shown = present.float()
    masks = 0.8 * each.min(1).values + 0.2 * each.mean(1)
    ious = (block.ious - true_iou).square().mean(1)
    presence = F.binary_cross_entropy_with_logits(block.score, shown)
    # Where the object is hidden any mask is wrong, whatever its score says.
    empty = cross.mean((1, 2, 3))
    total = (masks * shown + 2 * empty * (1 - shown)).mean() + 2 * (ious * shown).mean() + presence
    return total, true_iou[rows, block.ious.argmax(1)], present


def main() -> None:
    """Trains until the minutes are spent, saving every few minutes and printing a line each 50 steps."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=120, help="training time in all (default 120)")
    parser.add_argument("--out", type=Path, required=True, help="folder of the checkpoint and of the model")
    parser.add_argument("--init", type=Path, help="model folder whose weights to start from")
    parser.add_argument("--natural", type=float, default=0.0, help="share of clips with natural textures (default 0)")
    parser.add_argument("--rate", type=float, default=PEAK_RATE, help=f"peak learning rate (default {PEAK_RATE:g})")
    options = parser.parse_args()
    torch.set_num_threads(1)
    training = Training(
        options.out, IMAGE_SIZE, options.minutes, options.init, natural=options.natural, rate=options.rate
    )
    saved, recent = time.monotonic(), dict[str, list[dict[str, float]]]()
    while training.done < 1:
        kind, figures = training.step()
        recent.setdefault(kind, []).append(figures)
        if training.steps % 50 == 0:
            parts = []
            for name, rows in recent.items():
                means = (f"{key} {np.nanmean([row[key] for row in rows]):.3f}" for key in rows[0])
                parts.append(f"{name}: {', '.join(means)}")
            print(f"{training.seconds / 60:.1f} min, step {training.steps}; {'; '.join(parts)}", flush=True)
            recent.clear()
        if time.monotonic() - saved > SAVE_EVERY:
            training.save()
            saved = time.monotonic()
    training.save()


if __name__ == "__main__":
    main()
