"""One step of SAM3's tracker: SAM2's with another encoder."""

from pipeline.tracking.sam2.step import Sam2Stepper
from pipeline.tracking.sam3.encoder import Sam3Encoder
from pipeline.tracking.sam3.requirements import SAM3


class Sam3Stepper(Sam2Stepper):
    requirements = SAM3
    encoder = Sam3Encoder
