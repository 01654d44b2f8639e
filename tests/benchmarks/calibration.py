"""Predicted against real: `jobs.calibrate`, then a labelling run of the demo's corpus, in turn.

    python -m tests.benchmarks.calibration [--rounds 3] [--seconds 20]

The prediction is that of `jobs.label --dry-run` by the calibration of the same round. The real time is from the first
video's start to the last part's commit: an estimate is without the start of Ray and of the actors, and without
publication. Both use two actors with one thread each. Other work on the machine slows each of the two at another time,
so look at the median.
"""

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median

from pipeline.demo.corpus import make_corpus
from pipeline.labels import read_part
from pipeline.runs.config import RunConfig
from pipeline.runs.prepare import prepare

ACTORS = 2


def run(command: str) -> None:
    done = subprocess.run([sys.executable, "-m", *command.split()], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def real_s(output: Path) -> float:
    """Seconds from the start of the first video to the end of the last, as the parts tell."""
    found = [read_part(path).video.to_pylist()[0] for path in (output / "parts").rglob("*.parquet")]
    ends = [row["committed_at"].timestamp() for row in found]
    return max(ends) - min(end - row["total_s"] for end, row in zip(ends, found, strict=True))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=20)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make_corpus(folder / "corpus")
        manifest, ratios = folder / "corpus" / "manifest.parquet", []
        for n in range(args.rounds):
            file, output = folder / f"calibration{n}.json", folder / f"labels{n}"
            run(
                f"jobs.calibrate --model embedded --device cpu --manifest {manifest} --objects 1 3 --actors {ACTORS} "
                f"--seconds {args.seconds} --output {file}"
            )
            config = RunConfig(
                manifest=str(manifest), output=str(output), model="embedded", actors=ACTORS, calibration=str(file)
            )
            estimate = prepare(config).estimate
            assert estimate
            run(f"jobs.label --manifest {manifest} --output {output} --model embedded --device cpu --actors {ACTORS} "
                "--no-publish")  # fmt: skip
            real = real_s(output)
            ratios.append(estimate.seconds / real)
            print(f"predicted {estimate.seconds:.1f} s, real {real:.1f} s: {ratios[-1]:.2f}", flush=True)
        print(f"median {median(ratios):.2f} (wanted 0.8 to 1.2)")


if __name__ == "__main__":
    main()
