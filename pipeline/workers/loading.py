"""The entry point of a worker: builds the labeler in the worker's process."""

from pipeline.workers.actor import LabelerProtocol
from pipeline.workers.task import LabelerSettings


def load_labeler(settings: LabelerSettings) -> LabelerProtocol:
    """The labeler or detector of a worker; imports torch here, because the driver does not need it."""
    if settings.detection:
        from pipeline.workers.detection import DetectionWorker

        return DetectionWorker(settings, settings.detection)
    from pipeline.workers.labeler import Labeler

    return Labeler(settings)
