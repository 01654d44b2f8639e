"""Is doubt worth something? Doubt of the embedded model's labels against their true J&F, masklet by masklet.

    python -m tests.benchmarks.doubt [--clips 100] [--folder KEPT] [--fit]

Calibration (`--fit`) sees only rendered clips from the training split (its outlines, textures and motions); the table
is about held-out clips, which have outlines, textures, motions and sizes that no training clip has. Each object is
prompted on frame 0 by one click, by its box (every third clip) or by its mask (every sixth).
"""

import argparse
import tempfile
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
import torch

from pipeline.demo import corpus
from pipeline.formats.evaluate import j_and_f
from pipeline.labels import read_part
from pipeline.labels.measures.doubt import REASONS, WEIGHTS, doubt_of, signals_of
from pipeline.manifest import read_manifest
from pipeline.storage import part_path
from pipeline.workers.labeler import Labeler
from tests.labelling import settings, task_of

CALIBRATION_SEEDS = 700_000_000
Floats = npt.NDArray[np.float64]


def label(folder: Path, manifests: dict[str, Path]) -> list[tuple[str, Path]]:
    """Labels in this process, each clip with one kind of prompt; those of an earlier call are kept."""
    torch.set_num_threads(1)
    labeler, found = Labeler(settings(folder / "out", on_damaged="label", check_drift=True)), []
    read = {kind: read_manifest(str(path)) for kind, path in manifests.items()}
    for i in range(len(read["click"])):
        kind = "mask" if i % 6 == 5 else "box" if i % 3 == 2 else "click"
        video = read[kind].video(i)
        labeler.label(task_of(video, label_key=kind))
        found.append((kind, folder / "out" / part_path(video.video_id, kind)))
    return found


def measure(folder: Path, parts: list[tuple[str, Path]]) -> tuple[Floats, Floats, list[str]]:
    """Signals (n, signals), true J&F (n,) of each masklet over its frames that no prompt marks, and its prompt."""
    truth = pq.read_table(folder / "truth.parquet").to_pylist()
    true = {(row["video_id"], row["object_id"], row["frame_index"]): row["counts"] for row in truth}
    signals, scores, kinds = [], [], []
    for kind, path in parts:
        masks = read_part(path).masks
        for object_id in sorted(set(masks["object_id"].to_pylist())):
            rows = masks.filter(pa.compute.field("object_id") == object_id)
            held = signals_of(rows, pixels=rows["height"][0].as_py() * rows["width"][0].as_py())
            signals.append([held[name] for name in WEIGHTS])
            frames = [
                j_and_f(
                    true[row["video_id"], object_id, row["frame_index"]], row["counts"], (row["height"], row["width"])
                )
                for row in rows.select(
                    ["video_id", "frame_index", "counts", "height", "width", "is_prompted"]
                ).to_pylist()
                if not row["is_prompted"]
            ]
            scores.append(float(np.mean(frames)))
            kinds.append(kind)
    return np.array(signals), np.array(scores), kinds


def spearman(a: Floats, b: Floats) -> float:
    """Rank correlation, ties at their mean rank."""
    from scipy.stats import spearmanr

    return float(spearmanr(a, b).statistic) if np.ptp(a) and np.ptp(b) else float("nan")


PRIOR = {"low_iou": 0.3, "unstable": 0.3, "whole_frame": 0.3, "merged": 0.3, "swap": 0.3, "border": 0.06, "drift": 0.3}
HOLD = 0.1
"""How strongly weights are held near PRIOR (0.15 for other signals), by cross-validation within the training split."""


def fit(signals: Floats, scores: Floats) -> dict[str, float]:
    """Weights, none negative, that make 1 - exp(-weights . signals) come close to 1 - J&F."""
    from scipy.optimize import minimize

    prior = np.array([PRIOR.get(name, 0.15) for name in WEIGHTS])

    def loss(weights: Floats) -> float:
        error = 1 - np.exp(-signals @ weights) - (1 - scores)
        return float((error**2).mean() + HOLD * ((weights - prior) ** 2).mean())

    best = minimize(loss, prior + 0.01, bounds=[(0, 4)] * len(prior), method="L-BFGS-B")
    return dict(zip(WEIGHTS, best.x.round(2).tolist(), strict=True))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clips", type=int, default=100)
    parser.add_argument("--frames", type=int, default=48)
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--fit", action="store_true", help="also find weights, on clips of the training split")
    args = parser.parse_args()
    folder = args.folder or Path(tempfile.mkdtemp(prefix="doubt-"))
    if args.fit:
        where = folder / "calibration"
        made = {kind: where / f"manifest-{kind}.parquet" for kind in corpus.PROMPTS}
        if not (where / "truth.parquet").exists():
            made = corpus.prompted_corpus(
                where, "calibration", CALIBRATION_SEEDS, split="train", clips=args.clips, frames=args.frames
            )
        signals, scores, _ = measure(where, label(where, made))
        print(f"weights from {len(scores)} masklets of the training split: {fit(signals, scores)}")
    where = folder / "held-out"
    made = {kind: where / f"manifest-{kind}.parquet" for kind in corpus.PROMPTS}
    if not made["mask"].exists():
        made = corpus.held_out_corpus(where, clips=args.clips, frames=args.frames)
    report(*measure(where, label(where, made)))


def report(signals: Floats, scores: Floats, kinds: list[str]) -> None:
    """The tables."""
    weights = np.array(list(WEIGHTS.values()))
    doubt = np.array([doubt_of(dict(zip(WEIGHTS, row, strict=True)))[0] for row in signals.tolist()])
    bad = scores < 0.5
    print(f"\n{len(scores)} held-out masklets: {kinds.count('click')} clicks, {kinds.count('box')} boxes, ", end="")
    print(f"{kinds.count('mask')} masks; mean J&F {scores.mean():.3f}; {bad.sum()} below 0.5")
    print(f"Spearman of doubt with J&F: {-spearman(doubt, scores):.3f} (required 0.6)")
    first_pass = (signals * weights)[:, np.array(list(WEIGHTS)) != "drift"].sum(1)
    worst = np.argsort(-first_pass, kind="stable")[: max(1, round(0.1 * len(scores)))]
    print(f"without --check-drift: {spearman(first_pass, 1 - scores):.3f}, ", end="")
    print(f"the worst 10% finding {int(bad[worst].sum())} of {bad.sum()}")
    order = np.argsort(-doubt, kind="stable")
    print("\nreviewed   found below 0.5   mean J&F there")
    for share in (0.05, 0.1, 0.2, 0.3, 0.5):
        worst = order[: max(1, round(share * len(order)))]
        found = int(bad[worst].sum())
        print(
            f"{share:7.0%}    {found:4} of {bad.sum()} ({found / max(bad.sum(), 1):4.0%})   {scores[worst].mean():.3f}"
        )
    print(f"\n{'reason':<66}{'weight':>7}{'share':>8}{'alone':>8}{'without':>9}")
    parts = signals * weights
    for at, name in enumerate(WEIGHTS):
        kept = np.arange(len(weights)) != at
        without = spearman(parts[:, kept].sum(1), 1 - scores)
        share = parts[:, at].sum() / parts.sum()
        alone = spearman(signals[:, at], 1 - scores)
        print(f"{REASONS[name]:<66}{weights[at]:7.2f}{share:8.0%}{alone:8.2f}{without:9.2f}")
    print("share: of all doubt; alone: Spearman of that signal by itself; without: Spearman of doubt without it")


if __name__ == "__main__":
    main()
