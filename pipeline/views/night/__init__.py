"""The page of a night, drawn from its record."""

from pipeline.views.night.page import render
from pipeline.views.night.summary import Night, Picture, verdict

__all__ = ["Night", "Picture", "render", "verdict"]
