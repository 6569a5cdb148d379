"""Pictures of SynthRooms with their labels, to learn from. Knows no network.

Noise of the sensor is as in the style; depth is not kept, for the encoder sees RGB alone.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from workers.scenes.rooms.cameras import viewpoints
from workers.scenes.rooms.domains import DomainName
from workers.scenes.rooms.render import render_view
from workers.scenes.rooms.room import make_room
from workers.scenes.rooms.styles import StyleName

SIZE = (320, 240)
"""Width and height of a picture."""

SEED = 10
"""Of the series of rooms that are learnt from."""

DOMAINS: tuple[DomainName, ...] = ("offices", "homes")
"""What is learnt from, in this order."""


@dataclass(frozen=True, slots=True, eq=False)
class Pictures:
    """Pictures and what they show."""

    images: NDArray[np.uint8]
    """(n,240,320,3) RGB."""
    labels: NDArray[np.int16]
    """(n,240,320) of the label set of the picture's domain; -1 has none."""
    domains: tuple[DomainName, ...]
    """n domains, one a picture."""


def take_pictures(
    style: StyleName,
    rooms: int,
    views: int,
    processes: int,
    cache: Path | None = None,
    domains: Sequence[DomainName] = DOMAINS,
) -> Pictures:
    """`views` pictures of each of `rooms` rooms of each domain, in one style.

    Args:
        style: the look of the rooms.
        rooms: how many of each domain.
        views: pictures a room.
        processes: how many render at a time.
        cache: an .npz file that is read where it exists, and written where not; None keeps nothing.
        domains: which, in the order of the pictures.

    Returns:
        len(domains) * rooms * views pictures; a cache gives what it was written with, whatever is asked for.
    """
    if cache is not None and cache.is_file():
        with np.load(cache) as kept:
            return Pictures(kept["images"], kept["labels"], tuple(kept["domains"].tolist()))
    wanted = [(domain, style, views, index) for domain, index in itertools.product(domains, range(rooms))]
    with ProcessPoolExecutor(processes) as pool:
        taken = list(pool.map(_pictures_of, *zip(*wanted, strict=True)))
    pictures = Pictures(
        np.concatenate([t.images for t in taken]),
        np.concatenate([t.labels for t in taken]),
        tuple(itertools.chain.from_iterable(t.domains for t in taken)),
    )
    if cache is not None:
        np.savez(cache, images=pictures.images, labels=pictures.labels, domains=np.array(pictures.domains))
    return pictures


def _pictures_of(domain: DomainName, style: StyleName, views: int, index: int) -> Pictures:
    room = make_room(domain, style, SEED, "train", index)
    cameras = viewpoints(room, views, room.rng("cameras"))
    seen = [render_view(room, camera, *SIZE, room.rng("picture", k)) for k, camera in enumerate(cameras)]
    images, labels = np.stack([view.rgb for view in seen]), np.stack([view.labels for view in seen])
    return Pictures(images, labels, (domain,) * views)
