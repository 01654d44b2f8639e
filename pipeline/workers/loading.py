"""The worker's entry: builds the labeler in the worker's process."""

from pipeline.workers.actor import Labels
from pipeline.workers.task import LabelerSettings


def load_labeler(settings: LabelerSettings) -> Labels:
    """The labeler of a worker. Imported here, because the driver needs neither torch nor a model."""
    from pipeline.workers.labeler import Labeler

    return Labeler(settings)
