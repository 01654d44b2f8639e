"""Labels as a static site: numbers and a gallery on one page, and a page per video that plays it with its masks.

    FOLDER/index.html          numbers, failures, distributions, the most doubtful videos, and a list of all of them
    FOLDER/video.html#N        the N-th video: clip, masks, area and score over time
    FOLDER/data/videos.js      the list; data/N.js the labels of one video
    FOLDER/thumbs/N.jpg        the most doubtful videos' worst frames
    FOLDER/clips/N.mp4         small copies of the clips, where asked for

Pages load only files beside them, by script tags, since browsers refuse other requests on file://. Values from labels
are JSON or escaped, and are shown as text.
"""

from pipeline.views.report.site import Report, write_report

__all__ = ["Report", "write_report"]
