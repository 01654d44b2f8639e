"""Masks drawn over their video, as a film and as a contact sheet."""

from pipeline.views.preview.draw import color_of
from pipeline.views.preview.film import contact_sheet, save_sheet, write_film
from pipeline.views.preview.labelled import LabelledVideo, load_videos

__all__ = ["LabelledVideo", "color_of", "contact_sheet", "load_videos", "save_sheet", "write_film"]
