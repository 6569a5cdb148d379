"""Which designs of furniture a class of the offices has. Knows names and designs; knows no room."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from workers.scenes.rooms.maker import Maker, Piece
from workers.scenes.rooms.seats import armchair, four_legged_chair, office_chair, sofa, stool_with_back
from workers.scenes.rooms.shelves import bin_or_pot, bookcase, books_and_papers, cans_and_cups, carton, monitor
from workers.scenes.rooms.tables import desk_with_legs, desk_with_panels, low_table, round_table

Design = Callable[[Maker, str], Piece]
"""Makes a piece with the label and the finishes of a class."""

DESIGNS: Mapping[str, tuple[Design, ...]] = {
    "table": (desk_with_legs, desk_with_panels, round_table, low_table),
    "chair": (four_legged_chair, office_chair, stool_with_back),
    "sofa": (sofa, armchair),
    "bookcase": (bookcase,),
    "clutter": (carton, bin_or_pot, monitor, books_and_papers, cans_and_cups),
}
"""Class -> its designs; a style weighs them."""

FLOOR_CLUTTER: tuple[Design, ...] = (carton, bin_or_pot)
"""Things that stand on floors."""

TOP_CLUTTER: tuple[Design, ...] = (monitor, books_and_papers, cans_and_cups, carton)
"""Things that stand on tables and shelves."""


def furnish(make: Maker, class_name: str) -> Piece:
    """A piece of furniture of a class, its design drawn as the style weighs them."""
    designs = DESIGNS[class_name]
    weights = np.array(make.style.designs.get(class_name, (1.0,) * len(designs)), dtype=np.float64)
    return designs[int(make.rng.choice(len(designs), p=weights / weights.sum()))](make, class_name)
