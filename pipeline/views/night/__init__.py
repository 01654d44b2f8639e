"""The page of a night, drawn from its record."""

from pipeline.views.night.page import render
from pipeline.views.night.pictures import Picture, doubtful_pictures
from pipeline.views.night.summary import Night, verdict

__all__ = ["Night", "Picture", "doubtful_pictures", "render", "verdict"]
