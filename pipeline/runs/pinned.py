"""Videos of a run whose published labels are pinned to others, so that the run does not replace them."""

from collections import Counter
from collections.abc import Iterable, Mapping

from pipeline.labels.key import Parameters
from pipeline.runs.plan import Plan
from pipeline.storage import Store
from pipeline.tables.pins import Pin, read_pins, settings_of_runs
from pipeline.tables.wanted import in_force, staged_runs


def find_pinned(store: Store, plan: Plan, *, weights: str, parameters: Parameters) -> dict[str, Pin]:
    """The videos of a plan whose pinned label stays although the run wants another one, each with its pin.

    Args:
        store: the output.
        plan: of the run.
        weights: digest of the run's weights.
        parameters: of the run.
    """
    if not read_pins(store):
        return {}
    pinned, settings_of = in_force(store, without=staged_runs(store)).labels, settings_of_runs(store)
    settings = weights, parameters.to_json()
    rows = zip(plan.table["video_id"].to_pylist(), plan.table["label_key"].to_pylist(), strict=True)
    return {
        video_id: label.pin
        for video_id, key in rows
        if key is not None and (label := pinned.get(video_id)) and not label.accepts(key, settings, settings_of)
    }


def describe_pinned(pinned: Mapping[str, Pin], store: Store) -> Iterable[str]:
    """A line for each pin."""
    for pin, count in Counter(str(pin) for pin in pinned.values()).most_common():
        videos = "1 video keeps its pinned label" if count == 1 else f"{count} videos keep their pinned labels"
        yield f"{videos} ({pin}); python -m jobs.publish {store} --unpin ends that"
