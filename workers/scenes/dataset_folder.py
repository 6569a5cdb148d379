"""A dataset's folder: that it is there, and the lists of names in it.

    test.txt    optional: ids of the held-out scenes, one a line

Knows text files; knows no point and no frame.
"""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from storage.errors import DatasetInvalid, UnknownName
from storage.specs.parts import Split

TEST_LIST = "test.txt"


def check_there(root: Path) -> None:
    """Checks that a dataset's folder is one.

    Raises:
        DatasetInvalid: it is not.
    """
    if not root.is_dir():
        raise DatasetInvalid(f"got the dataset folder {root}, which does not exist or is no folder")


def read_names(root: Path, name: str) -> list[str]:
    """The names that a text file lists, one a line, in its order; empty lines and outer spaces do not count.

    Args:
        root: the dataset's folder.
        name: the file, relative to it.

    Raises:
        DatasetInvalid: the file cannot be read as text.
    """
    try:
        text = (root / name).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise DatasetInvalid(f"{name} of {root.name} cannot be read as text ({error})") from error
    return [line.strip() for line in text.splitlines() if line.strip()]


def splits_of(root: Path, scenes: Collection[str]) -> dict[str, Split]:
    """Scene -> its split: those that `test.txt` lists are held out, all others train.

    Args:
        root: the dataset's folder.
        scenes: ids of the scenes in it.

    Raises:
        DatasetInvalid: `test.txt` cannot be read as text.
        UnknownName: it lists a scene that is not there.
    """
    held_out = read_names(root, TEST_LIST) if (root / TEST_LIST).is_file() else []
    for name in held_out:
        if name not in scenes:
            raise UnknownName.among(f"scene in {TEST_LIST} of {root.name}", name, scenes)
    return {name: "test" if name in held_out else "train" for name in scenes}
