"""Identities of fast, crossing, entering and leaving things from a noisy detector, with the embedded tracker.

    python -m tests.benchmarks.association [--looks 1 0.5 0.25] [--scenes 32] [--each]

Compares three ways to label `tests.scenes` and prints IDF1, HOTA, masklets per thing and id switches of each: the
manifest of `from-detections --refine every --confirm-score 0`, `jobs.label --detections`, and the true box of each
thing on the first look that can see it. The detector misses 10 % of the things, invents one in seven looks, and its
boxes are 4 % off.
"""

from __future__ import annotations

import argparse

from pipeline.tracking.model import load
from tests.scenes import labelling
from tests.scenes.detections import detect
from tests.scenes.metrics import Frame, figures
from tests.scenes.scene import SCENES, make_scene

METHODS: dict[str, labelling.Method] = {
    "from-detections": labelling.from_manifest,
    "--detections": labelling.from_detections,
    "true box": labelling.from_true_box,
}


def main() -> None:
    """Prints a line for each interval between looks and method."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--looks", type=float, nargs="+", default=[1, 0.5, 0.25], help="seconds between looks")
    parser.add_argument("--scenes", type=int, default=SCENES)
    parser.add_argument("--each", action="store_true", help="also print the figures of each scene")
    options = parser.parse_args()
    sam2 = load("embedded", device="cpu")
    found: dict[tuple[float, str], list[list[Frame]]] = {}
    for number in range(options.scenes):
        scene = make_scene(number)
        for every_s in options.looks:
            detections = detect(scene, scene.name, every_s)
            for name, method in METHODS.items():
                one = labelling.score(scene, method(sam2, scene, detections, every_s))
                found.setdefault((every_s, name), []).append(one)
                if options.each:
                    _print(f"{scene.name}, {every_s:g} s, {name}", [one])
    for (every_s, name), videos in found.items():
        _print(f"a look each {every_s:g} s, {name}", videos)


def _print(title: str, videos: list[list[Frame]]) -> None:
    all_of = figures(videos)
    print(
        f"{title}: IDF1 {all_of.idf1:.3f}, HOTA {all_of.hota:.3f}, {all_of.ids_per_thing:.2f} masklets a thing, "
        f"{all_of.switches} switches, {all_of.things} things",
        flush=True,
    )


if __name__ == "__main__":
    main()
