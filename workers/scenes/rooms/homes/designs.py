"""Which designs of furniture a class of the homes has. Knows names and designs; knows no room.

Chairs, sofas, tables and bookshelves are those of the offices, so that what one domain teaches of them can be seen in
the other.
"""

from __future__ import annotations

from collections.abc import Mapping

from workers.scenes.rooms.furniture import Design
from workers.scenes.rooms.homes.basins import bathtub, pedestal_sink, toilet_with_tank, wall_hung_toilet
from workers.scenes.rooms.homes.beds import basket, bed, bench, ottoman
from workers.scenes.rooms.homes.cabinets import chest_of_drawers, desk_with_hutch, sideboard, tall_cupboard, wardrobe
from workers.scenes.rooms.homes.hangings import shower_corner
from workers.scenes.rooms.homes.kitchen import fridge_freezer, small_refrigerator
from workers.scenes.rooms.maker import Maker, Piece
from workers.scenes.rooms.seats import armchair, four_legged_chair, office_chair, sofa, stool_with_back
from workers.scenes.rooms.shelves import bin_or_pot, bookcase, books_and_papers, cans_and_cups, carton, monitor
from workers.scenes.rooms.tables import desk_with_legs, desk_with_panels, low_table, round_table

DESIGNS: Mapping[str, tuple[Design, ...]] = {
    "cabinet": (wardrobe, chest_of_drawers, sideboard, tall_cupboard),
    "bed": (bed,),
    "chair": (four_legged_chair, four_legged_chair, office_chair, stool_with_back),
    "sofa": (sofa, sofa, armchair),
    "table": (desk_with_legs, round_table, low_table),
    "bookshelf": (bookcase,),
    "desk": (desk_with_panels, desk_with_hutch, desk_with_legs),
    "refrigerator": (fridge_freezer, fridge_freezer, small_refrigerator),
    "shower curtain": (shower_corner,),
    "toilet": (toilet_with_tank, toilet_with_tank, wall_hung_toilet),
    "sink": (pedestal_sink,),
    "bathtub": (bathtub,),
    "otherfurniture": (ottoman, basket, bench, bin_or_pot),
}
"""Class -> its designs, each as likely as the others; what is not here is built in or hung where `layout` says."""

SMALL_THINGS: tuple[Design, ...] = (monitor, books_and_papers, cans_and_cups, carton)
"""Things without a class that stand on furniture."""


def furnish(make: Maker, class_name: str) -> Piece:
    """A piece of furniture of a class."""
    designs = DESIGNS[class_name]
    return designs[int(make.rng.integers(len(designs)))](make, class_name)
