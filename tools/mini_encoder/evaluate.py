"""Scores an image encoder as the method meets it: its pixels on the points of rooms of the style it never saw.

    python -m tools.mini_encoder.evaluate [--domain homes]

A projection of its own, plain and small, so that the score does not hang on the product's lifting.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from storage.specs.parts import Split
from workers.encoders.encoder import ImageEncoder
from workers.encoders.mini import MiniEncoder
from workers.encoders.table_text import TableTextEncoder
from workers.scenes.rooms.cameras import viewpoints
from workers.scenes.rooms.domains import DOMAINS, DomainName, domain_named
from workers.scenes.rooms.render import Camera, View, render_view
from workers.scenes.rooms.room import make_room
from workers.scenes.rooms.styles import StyleName
from workers.scenes.rooms.surface import sample_surface

SIZE = (320, 240)
VIEWS = 8
POINTS = 30_000
BORDER = 10
TOLERANCE = 0.25
"""Share of the depth by which a visible point may lie off the depth map, as in the lifting stage."""


@dataclass(frozen=True, slots=True, eq=False)
class Scores:
    """Confusion matrices (K,K) over a domain's K classes, truth by prediction: two of points, one of pixels."""

    classes: tuple[str, ...]
    """Their names."""
    plain: NDArray[np.int64]
    filtered: NDArray[np.int64]
    pixels: NDArray[np.int64]
    covered: float
    seconds_a_frame: float


def score_rooms(
    encoder: ImageEncoder,
    domain: DomainName = "offices",
    style: StyleName = "site",
    seed: int = 1001,
    rooms: int = 10,
    split: Split = "test",
) -> Scores:
    """Scores of 2D projection, with text alone and filtered by the classes of each room.

    The default rooms are of another seed than any demo's, so that choosing an encoder by them tunes nothing to those.
    """
    classes = domain_named(domain).label_set.classes
    text = TableTextEncoder().embed_texts(classes)
    confusions = [np.zeros((len(classes), len(classes)), np.int64) for _ in range(3)]
    covered, seconds = [], 0.0
    for index in range(rooms):
        room = make_room(domain, style, seed, split, index)
        points = sample_surface(room, POINTS, room.rng("points"))
        total, views = np.zeros((POINTS, encoder.dimension), np.float32), np.zeros(POINTS, np.int64)
        for k, camera in enumerate(viewpoints(room, VIEWS, room.rng("cameras"))):
            view = render_view(room, camera, *SIZE, room.rng("picture", k))
            at, rows, columns = visible(points.points_m, camera, view)
            started = time.perf_counter()
            embedded = encoder.embed_pixels(view.rgb, rows, columns, SIZE)
            seconds += time.perf_counter() - started
            total[at] += embedded
            views[at] += 1
            confusions[2] += _confusion(view.labels[rows, columns], (embedded @ text.T).argmax(1), len(classes))
        seen = views > 0
        covered.append(seen.mean())
        logits = total[seen] @ text.T
        truth = points.labels[seen]
        confusions[0] += _confusion(truth, logits.argmax(1), len(classes))
        logits[:, ~np.isin(np.arange(len(classes)), points.labels)] = -np.inf
        confusions[1] += _confusion(truth, logits.argmax(1), len(classes))
    plain, filtered, pixels = confusions
    return Scores(classes, plain, filtered, pixels, float(np.mean(covered)), seconds / (rooms * VIEWS))


def visible(
    points_m: NDArray[np.float32], camera: Camera, view: View
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Numbers, rows and columns of the points that a view shows."""
    k = camera.intrinsics(*SIZE)
    inside = (points_m - camera.camera_to_world[:3, 3]) @ camera.camera_to_world[:3, :3]
    z = np.maximum(inside[:, 2], 1e-6)
    columns = np.round(inside[:, 0] / z * k[0, 0] + k[0, 2]).astype(np.int64)
    rows = np.round(inside[:, 1] / z * k[1, 1] + k[1, 2]).astype(np.int64)
    framed = (columns >= BORDER) & (columns < SIZE[0] - BORDER) & (rows >= BORDER) & (rows < SIZE[1] - BORDER)
    at = np.flatnonzero(framed & (inside[:, 2] > 0.05))
    depth = view.depth_m[rows[at], columns[at]]
    at = at[(depth > 0) & (np.abs(z[at] - depth) <= TOLERANCE * depth)]
    return at, rows[at], columns[at]


def iou(confusion: NDArray[np.int64]) -> NDArray[np.float64]:
    """IoU of each class, NaN where neither truth nor prediction has it."""
    hit = np.diag(confusion)
    union = confusion.sum(0) + confusion.sum(1) - hit
    with np.errstate(invalid="ignore"):
        return np.where(union > 0, hit / union, np.nan)


def print_scores(scores: Scores) -> None:
    """Prints IoU of each class and their mean, in percent, for pixels, text alone, and filtered projection."""
    columns = [iou(c) * 100 for c in (scores.pixels, scores.plain, scores.filtered)]
    print(f"{'class':<15}{'pixels':>9}{'text':>9}{'filtered':>10}")
    for name, *values in zip((*scores.classes, "mIoU"), *[(*c, np.nanmean(c)) for c in columns], strict=True):
        print(f"{name:<15}{values[0]:>9.1f}{values[1]:>9.1f}{values[2]:>10.1f}")
    accuracy = [np.diag(c).sum() / c.sum() * 100 for c in (scores.pixels, scores.plain, scores.filtered)]
    print(f"{'accuracy':<15}{accuracy[0]:>9.1f}{accuracy[1]:>9.1f}{accuracy[2]:>10.1f}")
    print(f"covered {scores.covered * 100:.1f} %, {scores.seconds_a_frame:.3f} s a frame")


def print_errors(scores: Scores) -> None:
    """Prints what text alone takes the points of each class for: the three commonest other classes, in percent."""
    for name, row in zip(scores.classes, scores.plain, strict=True):
        others = [k for k in np.argsort(-row, kind="stable") if row[k] and scores.classes[k] != name][:3]
        if row.sum():
            taken = ", ".join(f"{scores.classes[k]} {row[k] / row.sum() * 100:.0f} %" for k in others)
            print(f"{name} taken for {taken or 'nothing else'}")


def _confusion(truth: NDArray[np.integer], prediction: NDArray[np.integer], classes: int) -> NDArray[np.int64]:
    keep = truth >= 0
    flat = truth[keep].astype(np.int64) * classes + prediction[keep]
    return np.bincount(flat, minlength=classes**2).reshape(classes, classes)


def main() -> None:
    """Prints the scores of the shipped encoder, or of another file of weights."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--weights", type=Path, help="a file of weights; default the shipped one")
    parser.add_argument("--domain", choices=tuple(DOMAINS), default="offices")
    parser.add_argument("--style", choices=("site", "studio"), default="site")
    parser.add_argument("--seed", type=int, default=1001)
    parser.add_argument("--rooms", type=int, default=10)
    parser.add_argument("--split", choices=("train", "test"), default="test")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--errors", action="store_true", help="also what each class is taken for")
    options = parser.parse_args()
    encoder = MiniEncoder(options.threads, path=options.weights)
    scores = score_rooms(encoder, options.domain, options.style, options.seed, options.rooms, options.split)
    print_scores(scores)
    if options.errors:
        print_errors(scores)


if __name__ == "__main__":
    main()
