"""Masks drawn over their video, as a film and as a contact sheet; prompts drawn before there are masks."""

from pipeline.views.preview.draw import color_of
from pipeline.views.preview.film import contact_sheet, write_film
from pipeline.views.preview.labelled import LabelledVideo, load_videos, worst_frame
from pipeline.views.preview.names import file_names
from pipeline.views.preview.prompts import prompt_sheet
from pipeline.views.preview.sheet import save_sheet

__all__ = [
    "LabelledVideo",
    "color_of",
    "contact_sheet",
    "file_names",
    "load_videos",
    "prompt_sheet",
    "save_sheet",
    "worst_frame",
    "write_film",
]
