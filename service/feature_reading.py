"""What a client reads of feature stores: lists, the story of one, two side by side. Part of `client.Client`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Unpack
from urllib.parse import quote

from service import schemas
from service.connection import Connection


class FeatureReading(Connection):
    """The calls that look at feature stores without touching them."""

    def features(self, **wanted: Unpack[schemas.FeatureWanted]) -> Iterator[schemas.Feature]:
        """Published embeddings that training code can read, newest first; each argument narrows the list."""
        given = {name: str(value) for name, value in wanted.items() if value is not None}
        return self._pages("/features", schemas.FeaturePage, given)

    def feature(self, key: str) -> schemas.FeatureDetail:
        """One feature store: how it was made, who reads it, whether it verifies.

        Raises:
            NotFound: there is none of that key.
        """
        return self._get(f"/features/{quote(key, safe='')}", schemas.FeatureDetail)

    def diff_features(
        self, left: str, right: str, *, scenes: int | None = None, rows: int | None = None
    ) -> schemas.FeatureDiff:
        """Two feature stores side by side, on a sample of at most so many scenes, and rows of each.

        Raises:
            NotFound: there is none of one of these keys.
            StoreCorrupt: one cannot be read.
        """
        sample = {"scenes": scenes, "rows": rows}
        given = {name: str(value) for name, value in sample.items() if value is not None}
        return self._get(f"/features/{quote(left, safe='')}/diff", schemas.FeatureDiff, {"with": right, **given})
