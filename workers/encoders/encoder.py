"""What an encoder is: pixels to embeddings, and class names into the same space. Nothing else knows D."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray


class ImageEncoder(Protocol):
    """Maps an image to an embedding a pixel."""

    @property
    def dimension(self) -> int:
        """D, the length of an embedding."""

    @property
    def title(self) -> str:
        """How the encoder is named to people; a stand-in says that it is one."""

    @property
    def preprocessing(self) -> Mapping[str, object]:
        """What becomes of a picture before and after the network, JSON-like; recorded beside its embeddings."""

    def embed_pixels(
        self, image: NDArray[np.uint8], rows: NDArray[np.int64], columns: NDArray[np.int64], size: tuple[int, int]
    ) -> NDArray[np.float32]:
        """Embeddings of some pixels of an image.

        Args:
            image: (H,W,3) RGB, at its full size.
            rows: (P,) row of each wanted pixel, in an image of `size`.
            columns: (P,) its column.
            size: width and height at which rows and columns are counted.

        Returns:
            (P,D) float32, not normalised.
        """


@runtime_checkable
class FileEncoder(ImageEncoder, Protocol):
    """An image encoder that decodes image files itself, as its authors feed it; decoders differ in the last bits."""

    def embed_encoded(
        self, content: bytes, rows: NDArray[np.int64], columns: NDArray[np.int64], size: tuple[int, int]
    ) -> NDArray[np.float32]:
        """`embed_pixels` of an image as it lies on disk.

        Raises:
            FrameInvalid: it cannot be decoded.
        """


class TextEncoder(Protocol):
    """Maps class names to embeddings."""

    @property
    def dimension(self) -> int:
        """D."""

    @property
    def about(self) -> Mapping[str, object]:
        """What is recorded beside its embeddings, JSON-like: which encoder, its weights' digest, prompts, D."""

    def embed_texts(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """(K,D) float32 of unit norm.

        Raises:
            UnknownClass: a text that this encoder does not know, with the nearest that it does.
        """
