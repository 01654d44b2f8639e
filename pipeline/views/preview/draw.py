"""Drawing masks, scores and prompts into a frame."""

import colorsys
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

from pipeline.manifest import Dot, Rectangle, Region, marks_of
from pipeline.masks import rle

Rgb = npt.NDArray[np.uint8]
OPACITY = 0.45


def color_of(object_id: int) -> tuple[int, int, int]:
    """An object's colour, red, green and blue: the same in every picture, and unlike those of neighbouring ids."""
    hue = (0.58 + object_id * 0.6180339887) % 1
    lightness = (0.58, 0.48, 0.68)[object_id % 3]
    red, green, blue = colorsys.hls_to_rgb(hue, lightness, 0.85)
    return round(red * 255), round(green * 255), round(blue * 255)


def draw_frame(
    rgb: Rgb,
    rows: Sequence[Mapping[str, Any]],
    prompts: Sequence[Mapping[str, Any]] = (),
    *,
    caption: str = "",
    names: Mapping[int, str] | None = None,
) -> Rgb:
    """A copy of a frame (H, W, 3) with its mask rows and prompts drawn.

    Where masks lie on each other, their colours alternate in stripes, so that each is visible.

    Args:
        caption: a line at the bottom.
        names: a category by object id.
    """
    present = [row for row in rows if row["is_present"]]
    masks = [(row["object_id"], rle.decode(row["counts"], (row["height"], row["width"]))) for row in present]
    untracked = [prompt for prompt in prompts if all(prompt["object_id"] != object_id for object_id, _ in masks)]
    masks += [
        (prompt["object_id"], rle.decode(mark.counts, mark.size))
        for prompt in untracked
        for mark in marks_of(prompt)
        if isinstance(mark, Region) and tuple(mark.size) == rgb.shape[:2]
    ]
    unit = max(min(rgb.shape[:2]) / 240, 1.0)
    image = Image.fromarray(_painted(rgb, masks, unit))
    pen = ImageDraw.Draw(image, "RGBA")
    for prompt in prompts:
        _draw_prompt(pen, prompt, unit)
    taken: list[tuple[float, float, float, float]] = []
    for row in present:
        label = _label(row["object_id"], names)
        if row["predicted_iou"] is not None:
            label += f" {row['predicted_iou']:.2f}"
        color = color_of(row["object_id"])
        taken.append(_tag(pen, label, (row["x_min"], row["y_min"]), color, unit, rgb.shape[1], taken))
    for prompt in untracked:
        x, y = _corner(prompt, unit)
        if 0 <= x < rgb.shape[1] and 0 <= y < rgb.shape[0]:
            label, color = _label(prompt["object_id"], names), color_of(prompt["object_id"])
            taken.append(_tag(pen, label, (x, y), color, unit, rgb.shape[1], taken))
    absent = [str(row["object_id"]) for row in rows if not row["is_present"]]
    caption = caption + (f"  absent: {', '.join(absent)}" if absent else "")
    if caption:
        font = font_of(round(10 * unit))
        box = pen.textbbox((4 * unit, 0), caption, font=font)
        top = rgb.shape[0] - (box[3] - box[1]) - 7 * unit
        pen.rectangle((0, top, rgb.shape[1], rgb.shape[0]), fill=(0, 0, 0, 150))
        pen.text((4 * unit, top + 3 * unit - box[1]), caption, font=font, fill="white")
    return np.asarray(image)


def _painted(rgb: Rgb, masks: Sequence[tuple[int, rle.Mask]], unit: float) -> Rgb:
    """The frame with masks tinted and outlined; later masks take alternate stripes of those below them."""
    canvas = rgb.astype(np.float32)
    for opacity, shape_of in ((OPACITY, lambda mask: mask), (1.0, _outline)):
        below = np.zeros(rgb.shape[:2], np.uint8)
        for object_id, mask in masks:
            shape = own = shape_of(mask)
            if (shape & (below > 0)).any():
                y, x = np.ogrid[: rgb.shape[0], : rgb.shape[1]]
                own = shape & ((y + x) // max(round(3 * unit), 3) % (below + 1) == below)
            canvas[own] = rgb[own] * (1 - opacity) + np.array(color_of(object_id), np.float32) * opacity
            below[shape] += 1
    return np.asarray(canvas.round(), np.uint8)


def _label(object_id: int, names: Mapping[int, str] | None) -> str:
    name = (names or {}).get(object_id)
    return f"{object_id}" + (f" {_plain(name)}" if name else "")


def _corner(prompt: Mapping[str, Any], unit: float) -> tuple[float, float]:
    """Where the label of a prompt belongs: the top left of its first mark."""
    match marks_of(prompt)[:1]:
        case [Rectangle(x_min, y_min, _, _)]:
            return x_min, y_min
        case [Dot(x, y, _)]:
            return x + 6 * unit, y
        case [Region(size, counts)]:
            x_min, y_min, *_ = rle.bbox(counts, size) or (0, 0)
            return x_min, y_min
    return 0.0, 0.0


def _draw_prompt(pen: ImageDraw.ImageDraw, prompt: Mapping[str, Any], unit: float) -> None:
    color = color_of(prompt["object_id"])
    for mark in marks_of(prompt):
        match mark:
            case Rectangle(x_min, y_min, x_max, y_max):
                corners = (x_min, y_min, x_max - 1, y_max - 1)
                pen.rectangle(corners, outline="black", width=max(2, round(2 * unit)) + 1)
                pen.rectangle(corners, outline=color, width=max(1, round(unit)) + 1)
            case Region(size, counts):
                for y, x in np.argwhere(_outline(rle.decode(counts, size)))[::3].tolist():
                    pen.rectangle((x, y, x + 1, y + 1), fill="white")
            case Dot(x, y, positive):
                _draw_dot(pen, x, y, color, unit, positive=positive)


def _draw_dot(
    pen: ImageDraw.ImageDraw, x: float, y: float, color: tuple[int, int, int], unit: float, *, positive: bool
) -> None:
    """A disc with a plus on the object, a minus off it."""
    size, line = 4.5 * unit, max(1, round(1.2 * unit))
    pen.ellipse((x - size, y - size, x + size, y + size), fill=color, outline="white", width=max(1, round(unit)))
    arm = size * 0.55
    pen.line((x - arm, y, x + arm, y), fill="white", width=line)
    if positive:
        pen.line((x, y - arm, x, y + arm), fill="white", width=line)


def _tag(
    pen: ImageDraw.ImageDraw,
    text: str,
    at: tuple[float, float],
    color: tuple[int, int, int],
    unit: float,
    frame_width: int,
    taken: Sequence[tuple[float, float, float, float]],
) -> tuple[float, float, float, float]:
    """Draw a label above a box, or lower where another label is; returns the label's rectangle."""
    font = font_of(round(9 * unit))
    left, top, right, bottom = pen.textbbox((0, 0), text, font=font)
    width, height = right - left + 6 * unit, bottom - top + 5 * unit
    x, y = max(0.0, min(float(at[0]), frame_width - width)), max(0.0, at[1] - height)
    while any(x < b[2] and b[0] < x + width and y < b[3] and b[1] < y + height for b in taken):
        y += height
    pen.rectangle((x, y, x + width, y + height), fill=color)
    ink = "black" if 0.3 * color[0] + 0.59 * color[1] + 0.11 * color[2] > 130 else "white"
    pen.text((x + 3 * unit - left, y + 2.5 * unit - top), text, font=font, fill=ink)
    return x, y, x + width, y + height


def _outline(mask: rle.Mask) -> rle.Mask:
    """Pixels of a mask next to a pixel outside it or at the frame's edge."""
    inner = np.zeros_like(mask)
    inner[1:-1, 1:-1] = mask[1:-1, :-2] & mask[1:-1, 2:] & mask[:-2, 1:-1] & mask[2:, 1:-1]
    return mask & ~inner


def _plain(text: str) -> str:
    return "".join(c if c.isprintable() else "?" for c in text)[:24]


@cache
def font_of(size: int) -> Any:
    """Pillow's built-in font at this size."""
    return ImageFont.load_default(max(size, 9))
