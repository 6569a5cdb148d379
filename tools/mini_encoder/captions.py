"""The words that pictures of a domain are captioned with, and words that it does not show. Knows no picture.

Every word is one of `storage/words.txt`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor
from torch.nn import functional

from workers.encoders.table_text import TableTextEncoder
from workers.scenes.rooms.domains import DomainName, domain_named

SYNONYMS: Mapping[DomainName, Mapping[str, tuple[str, ...]]] = {
    "offices": {
        "ceiling": ("roof", "ceiling light"),
        "floor": ("floor tile", "carpet"),
        "wall": ("wallpaper", "partition"),
        "beam": ("truss", "structure"),
        "column": ("pillar", "support"),
        "window": ("window frame", "glass"),
        "door": ("closet door", "door frame"),
        "table": ("desk", "meeting table"),
        "chair": ("office chair", "seat"),
        "sofa": ("couch", "loveseat"),
        "bookcase": ("bookshelf", "shelves"),
        "board": ("whiteboard", "bulletin board"),
        "clutter": ("object", "storage bin"),
    },
    "homes": {
        "wall": ("wallpaper", "partition"),
        "floor": ("floor tile", "carpet"),
        "cabinet": ("cupboard", "chest of drawers"),
        "bed": ("mattress", "headboard"),
        "chair": ("dining chair", "seat"),
        "sofa": ("couch", "loveseat"),
        "table": ("dining table", "coffee table"),
        "door": ("closet door", "door frame"),
        "window": ("window frame", "glass"),
        "bookshelf": ("bookcase", "shelves"),
        "picture": ("painting", "poster"),
        "counter": ("kitchen counter", "countertop"),
        "desk": (),
        "curtain": ("drapes", "cloth"),
        "refrigerator": (),
        "shower curtain": ("shower", "shower door"),
        "toilet": ("toilet seat", "urinal"),
        "sink": ("faucet", "tap"),
        "bathtub": (),
        "otherfurniture": ("furniture", "object"),
    },
}
"""Class -> words that pictures of it are also captioned with, as web captions vary; without any, its own name."""

DISTRACTORS: Mapping[DomainName, tuple[str, ...]] = {
    "offices": (
        "bed", "curtain", "bathtub", "toilet", "refrigerator", "lamp", "person", "sink", "stairs", "picture",
    ),
    "homes": (
        "beam", "column", "board", "elevator", "person", "stairs", "fireplace", "piano", "bicycle", "washing machine",
    ),
}  # fmt: skip
"""Words that no picture of the domain shows, so that its embeddings keep clear of them."""


@dataclass(frozen=True, slots=True, eq=False)
class Words:
    """Embeddings of the words that the loss of a domain's pictures is over; K classes, D = 384, unit norm."""

    classes: Tensor
    """(K,D), in the order of the label set."""
    synonyms: Tensor
    """(K,D), the mean of each class's synonyms."""
    distractors: Tensor
    """(X,D)."""


@cache
def words_of(domain: DomainName) -> Words:
    """The words of a domain."""
    text = TableTextEncoder()
    names = domain_named(domain).label_set.classes
    synonyms = [torch.from_numpy(text.embed_texts(SYNONYMS[domain][c] or (c,))).mean(0) for c in names]
    return Words(
        torch.from_numpy(text.embed_texts(names)),
        functional.normalize(torch.stack(synonyms), dim=1),
        torch.from_numpy(text.embed_texts(DISTRACTORS[domain])),
    )
