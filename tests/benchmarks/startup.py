"""Time from the command to the first tracked frame, and from the last label to the end, phase by phase.

    python -m tests.benchmarks.startup [CHECKOUT]

Labels clips of the demo with the embedded model on two actors, in a new process each time. With the folder of another
checkout of this repository, its runs alternate with those of this one. Times are seconds of the wall clock on a quiet
machine, and those between phases are noticed twice a second.
"""

import argparse
import itertools
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROUNDS = 3
PHASES = ("imports", "planning", "starting Ray", "loading the model", "first frame", "labelling", "publishing", "exit")

RUN = """
import time
def tell(what): print(what, time.time(), flush=True)
import sys
from jobs.command import start
def main(_):
    from pipeline.runs.config import RunConfig
    from pipeline.runs.run import label_corpus
    tell("imports")
    seen = set()
    def watch(progress):
        now = [progress.phase] + ["first frame"] * bool(progress.frames)
        for what in [what for what in now if what not in seen]:
            seen.add(what)
            tell(what)
    config = RunConfig(manifest=sys.argv[1], output=sys.argv[2], model="embedded", actors=2, sample=0.3)
    report = label_corpus(config, watch=watch)
    tell("end")
    return report.exit_code
start(main)
"""


def phases(checkout: Path, manifest: Path, output: Path) -> dict[str, float]:
    """Seconds of each phase of one run."""
    environment = os.environ | {"PYTHONPATH": str(checkout)}
    began = time.time()
    done = subprocess.run(
        [sys.executable, "-c", RUN, manifest, output], env=environment, capture_output=True, text=True, check=True
    )
    ended = time.time()
    at = {}
    for line in done.stdout.splitlines():
        what, _, when = line.rpartition(" ")
        at.setdefault(what, float(when))
    marks = [
        began,
        at["imports"],
        at["starting Ray"],
        at["loading the model"],
        at["labelling"],
        at["first frame"],
        at["publishing the labels"],
        at["end"],
        ended,
    ]
    return dict(zip(PHASES, (b - a for a, b in itertools.pairwise(marks)), strict=True))


def main() -> None:
    """Print the median of each phase, for this checkout and the other one."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkout", type=Path, nargs="?", help="folder of another checkout of this repository")
    other = parser.parse_args().checkout
    checkouts = {"this": Path(__file__).parents[2]} | ({"other": other.absolute()} if other else {})
    from pipeline.demo.corpus import make_corpus

    with tempfile.TemporaryDirectory() as folder:
        make_corpus(Path(folder, "corpus"))
        manifest, runs = Path(folder, "corpus/manifest.parquet"), {name: list[dict[str, float]]() for name in checkouts}
        for number in range(ROUNDS):
            for name, checkout in checkouts.items():
                runs[name].append(phases(checkout, manifest, Path(folder, f"{name}-{number}")))
    for name, times in runs.items():
        median = {phase: statistics.median(run[phase] for run in times) for phase in PHASES}
        first = sum(median[phase] for phase in PHASES[:5])
        last = median["publishing"] + median["exit"]
        told = ", ".join(f"{phase} {seconds:.1f}" for phase, seconds in median.items())
        print(f"{name}: {first:.1f} s to the first tracked frame, {last:.1f} s after the last label ({told})")


if __name__ == "__main__":
    main()
