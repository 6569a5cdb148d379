"""Pictures of point clouds, and coloured PLY files. NumPy and Pillow only; knows no store.

A cloud is drawn from a corner above, the ceiling and the two nearest walls cut away, with a depth buffer.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from storage.labels import IGNORE, IGNORE_COLOUR, Colour, LabelSet

PANEL = (520, 420)
"""Width and height of one panel, pixels."""
BACKGROUND = 255
NO_CLASS = "no class (no frame saw it, or nobody labelled it)"
"""What the legend says of points without a class: 2D rows leave those out that no frame saw."""
ELEVATION = np.deg2rad(38)
AZIMUTH = np.deg2rad(225)


def colour_labels(labels: NDArray[np.int16], classes: LabelSet) -> NDArray[np.uint8]:
    """(N,3) display colours of (N,) labels."""
    palette = np.array([*classes.palette, IGNORE_COLOUR], np.uint8)
    return palette[np.where(labels == IGNORE, len(classes.palette), labels)]


def cut_open(points_m: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Points to draw so that one looks into a room: all but the ceiling and the walls on the viewer's side."""
    low, high = np.percentile(points_m, [0.5, 99.5], axis=0)
    below = points_m[:, 2] < high[2] - 0.25
    on_floor = points_m[:, 2] < low[2] + 0.15
    away = (points_m[:, 0] > low[0] + 0.15) & (points_m[:, 1] > low[1] + 0.15)
    keep: NDArray[np.bool_] = below & (away | on_floor)
    return keep


def draw_cloud(
    points_m: NDArray[np.float32], colours: NDArray[np.uint8], size: tuple[int, int] = PANEL
) -> NDArray[np.uint8]:
    """A picture (H,W,3) of a cloud in oblique orthographic view, nearer points before farther ones.

    Args:
        points_m: (N,3) metres, z up.
        colours: (N,3).
        size: width and height, pixels.
    """
    width, height = size
    image = np.full((height, width, 3), BACKGROUND, np.uint8)
    if not len(points_m):
        return image
    centred = points_m - (points_m.min(axis=0) + points_m.max(axis=0)) / 2
    right = np.array([-np.sin(AZIMUTH), np.cos(AZIMUTH), 0])
    towards = np.array([np.cos(AZIMUTH) * np.cos(ELEVATION), np.sin(AZIMUTH) * np.cos(ELEVATION), np.sin(ELEVATION)])
    up = np.cross(towards, right)
    view = centred @ np.stack([right, up, towards], axis=1)
    extent = np.abs(view[:, :2]).max(axis=0) * 2
    scale = 0.96 * min(width / max(extent[0], 1e-6), height / max(extent[1], 1e-6))
    column = np.rint(view[:, 0] * scale + width / 2).astype(int)
    row = np.rint(height / 2 - view[:, 1] * scale).astype(int)
    radius = max(1, int(np.ceil(scale * _spacing(points_m) * 0.6)))
    order = np.argsort(view[:, 2], kind="stable")
    rank = np.empty(len(order), np.int64)
    rank[order] = np.arange(len(order))
    nearest = np.full((height, width), -1, np.int64)
    for dy in range(-radius, radius + 1):
        for dx in range(-radius, radius + 1):
            _splat(nearest, column + dx, row + dy, rank)
    image[nearest >= 0] = colours[order[nearest[nearest >= 0]]]
    return image


def _spacing(points_m: NDArray[np.float32]) -> float:
    """About how far apart neighbouring points lie, metres, taking the cloud for a surface of its box's size."""
    size = np.ptp(points_m, axis=0).astype(float)
    area = 2 * (size[0] * size[1] + size[1] * size[2] + size[2] * size[0])
    return float(np.sqrt(area / len(points_m)))


def _splat(
    nearest: NDArray[np.int64], column: NDArray[np.int_], row: NDArray[np.int_], rank: NDArray[np.int64]
) -> None:
    """Marks one pixel a point with the rank of the nearest point drawn there; ranks grow towards the viewer."""
    height, width = nearest.shape
    inside = (column >= 0) & (column < width) & (row >= 0) & (row < height)
    np.maximum.at(nearest, (row[inside], column[inside]), rank[inside])


def legend(labels: Collection[int], classes: LabelSet) -> list[tuple[str, Colour]]:
    """What the colours of some labels mean, classes in the label set's order; IGNORE, where it is among them, last."""
    shown = [(classes.classes[k], classes.palette[k]) for k in sorted(set(labels) - {IGNORE})]
    return [*shown, (NO_CLASS, IGNORE_COLOUR)] if IGNORE in labels else shown


def panels(
    rows: Sequence[tuple[str, Sequence[NDArray[np.uint8]]]],
    titles: Sequence[str],
    explained: Sequence[tuple[str, Colour]],
) -> Image.Image:
    """Rows of panels under their titles, with a legend of the colours shown. Source: Fig. 4.

    Args:
        rows: a name and its pictures, one a title.
        titles: over the columns.
        explained: what a colour means, and the colour; from `legend`.
    """
    font, small = ImageFont.load_default(18), ImageFont.load_default(14)
    width, height = PANEL
    top, bottom = 34, 40
    sheet = Image.new("RGB", (width * len(titles), top + height * len(rows) + bottom), (255, 255, 255))
    draw = ImageDraw.Draw(sheet)
    for i, title in enumerate(titles):
        draw.text((i * width + width // 2, top // 2), title, fill=(20, 20, 20), font=font, anchor="mm")
    for j, (name, pictures) in enumerate(rows):
        for i, picture in enumerate(pictures):
            sheet.paste(Image.fromarray(picture), (i * width, top + j * height))
        draw.text((8, top + j * height + 6), name, fill=(90, 90, 90), font=small)
    x = 12.0
    for name, colour in explained:
        draw.rectangle((x, sheet.height - 27, x + 14, sheet.height - 13), fill=colour)
        draw.text((x + 20, sheet.height - 20), name, fill=(20, 20, 20), font=small, anchor="lm")
        x += 34 + draw.textlength(name, font=small)
    return sheet


def write_ply(path: Path, points_m: NDArray[np.float32], colours: NDArray[np.uint8]) -> None:
    """Writes a binary little-endian PLY point cloud with colours; any viewer opens it."""
    vertices = np.empty(
        len(points_m), [("x", "<f4"), ("y", "<f4"), ("z", "<f4"), ("red", "u1"), ("green", "u1"), ("blue", "u1")]
    )
    for i, axis in enumerate("xyz"):
        vertices[axis] = points_m[:, i]
    for i, channel in enumerate(("red", "green", "blue")):
        vertices[channel] = colours[:, i]
    header = "".join(
        ["ply\nformat binary_little_endian 1.0\n", f"element vertex {len(points_m)}\n"]
        + [f"property float {axis}\n" for axis in "xyz"]
        + [f"property uchar {channel}\n" for channel in ("red", "green", "blue")]
        + ["end_header\n"]
    )
    with path.open("wb") as file:
        file.write(header.encode("ascii"))
        file.write(vertices.tobytes())
