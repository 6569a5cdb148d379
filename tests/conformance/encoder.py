"""What every encoder must do; an encoder's test module subclasses these suites and returns its own."""

from __future__ import annotations

import json
from collections.abc import Sequence

import numpy as np
import pytest
from numpy.typing import NDArray

from storage.errors import UnknownClass
from storage.labels import LABEL_SETS
from workers.encoders.encoder import ImageEncoder, TextEncoder


def picture(width: int = 320, height: int = 240, seed: int = 0) -> NDArray[np.uint8]:
    """(height,width,3) blocks of random colours with smooth shading: edges and flat parts, as pictures have."""
    rng = np.random.default_rng(seed)
    blocks = rng.integers(30, 200, (6, 8, 3))
    rows, columns = np.arange(height) * 6 // height, np.arange(width) * 8 // width
    shade = np.linspace(0, 50, width)[None, :, None] + np.zeros((height, 1, 1))
    return (blocks[rows][:, columns] + shade).astype(np.uint8)


def grid(width: int, height: int, step: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Rows and columns of every `step`-th pixel."""
    rows, columns = np.meshgrid(np.arange(0, height, step), np.arange(0, width, step), indexing="ij")
    return rows.ravel(), columns.ravel()


def cosines(one: NDArray[np.float32], other: NDArray[np.float32]) -> NDArray[np.float64]:
    """(P,) cosines between rows."""
    norms = np.linalg.norm(one, axis=1) * np.linalg.norm(other, axis=1)
    likeness: NDArray[np.float64] = np.einsum("pd,pd->p", one.astype(np.float64), other.astype(np.float64)) / norms
    return likeness


class ImageEncoderConformance:
    """Inherit, and return the encoder from `encoder`."""

    @pytest.fixture
    def encoder(self) -> ImageEncoder:
        """The encoder under test."""
        raise NotImplementedError

    def test_gives_a_finite_float32_row_of_its_dimension_a_pixel(self, encoder: ImageEncoder) -> None:
        embedded = encoder.embed_pixels(picture(), np.array([0, 239, 17]), np.array([0, 319, 200]), (320, 240))
        assert embedded.shape == (3, encoder.dimension)
        assert embedded.dtype == np.float32
        assert np.isfinite(embedded).all()
        assert (np.linalg.norm(embedded, axis=1) > 0).all()

    def test_says_what_becomes_of_a_picture_in_what_json_can_hold(self, encoder: ImageEncoder) -> None:
        said = dict(encoder.preprocessing)
        assert said["decoded_by"] and json.loads(json.dumps(said)) == said

    def test_no_pixels_give_no_rows(self, encoder: ImageEncoder) -> None:
        none = np.zeros(0, np.int64)
        assert encoder.embed_pixels(picture(), none, none, (320, 240)).shape == (0, encoder.dimension)

    def test_equal_input_gives_equal_output(self, encoder: ImageEncoder) -> None:
        rows, columns = grid(320, 240, 16)
        image = picture(seed=1)
        before = image.copy()
        first = encoder.embed_pixels(image, rows, columns, (320, 240))
        assert np.array_equal(image, before), "the caller's image was changed"
        assert np.array_equal(first, encoder.embed_pixels(image, rows, columns, (320, 240)))

    def test_a_pixel_s_row_does_not_depend_on_which_others_are_wanted_nor_on_their_order(
        self, encoder: ImageEncoder
    ) -> None:
        rows, columns = grid(320, 240, 16)
        every = encoder.embed_pixels(picture(), rows, columns, (320, 240))
        order = np.random.default_rng(0).permutation(len(rows))[:50]
        some = encoder.embed_pixels(picture(), rows[order], columns[order], (320, 240))
        assert np.allclose(some, every[order], rtol=0, atol=1e-4 * np.abs(every).max())

    def test_another_picture_gives_other_embeddings(self, encoder: ImageEncoder) -> None:
        rows, columns = grid(320, 240, 16)
        one, other = (encoder.embed_pixels(picture(seed=s), rows, columns, (320, 240)) for s in (0, 1))
        assert np.median(cosines(one, other)) < 0.999

    def test_embeddings_follow_the_picture_when_it_is_mirrored(self, encoder: ImageEncoder) -> None:
        rows, columns = grid(320, 240, 8)
        upright = encoder.embed_pixels(picture(), rows, columns, (320, 240))
        image = np.ascontiguousarray(picture()[:, ::-1])
        followed = encoder.embed_pixels(image, rows, 319 - columns, (320, 240))
        swapped = encoder.embed_pixels(image, rows, columns, (320, 240))
        assert np.median(cosines(upright, followed)) > np.median(cosines(upright, swapped)) + 0.02

    def test_rows_and_columns_are_counted_in_the_given_size_whatever_the_image_s_own(
        self, encoder: ImageEncoder
    ) -> None:
        rows, columns = grid(320, 240, 16)
        image = picture()
        reference = encoder.embed_pixels(image, rows, columns, (320, 240))
        # the same places, counted in a picture twice as fine: a pixel of 320 x 240 covers four of 640 x 480
        corners = [
            encoder.embed_pixels(image, 2 * rows + down, 2 * columns + right, (640, 480))
            for down in (0, 1)
            for right in (0, 1)
        ]
        assert np.median(cosines(np.mean(corners, axis=0), reference)) > 0.999
        # the same picture, twice as large
        large = image.repeat(2, axis=0).repeat(2, axis=1)
        enlarged = encoder.embed_pixels(large, rows, columns, (320, 240))
        assert np.median(cosines(enlarged, reference)) > 0.95

    @pytest.mark.parametrize("size", [(320, 240), (1296, 968), (1080, 1080), (100, 75)])
    def test_takes_images_of_any_size(self, encoder: ImageEncoder, size: tuple[int, int]) -> None:
        rows, columns = grid(320, 240, 32)
        assert np.isfinite(encoder.embed_pixels(picture(*size), rows, columns, (320, 240))).all()

    def test_has_a_title(self, encoder: ImageEncoder) -> None:
        assert encoder.title.strip()


class TextEncoderConformance:
    """Inherit, and return the encoder from `encoder`."""

    @pytest.fixture
    def encoder(self) -> TextEncoder:
        """The encoder under test."""
        raise NotImplementedError

    @pytest.mark.parametrize("classes", [s.classes for s in LABEL_SETS.values()], ids=list(LABEL_SETS))
    def test_embeds_every_label_set_in_unit_norm(self, encoder: TextEncoder, classes: Sequence[str]) -> None:
        embedded = encoder.embed_texts(classes)
        assert embedded.shape == (len(classes), encoder.dimension)
        assert embedded.dtype == np.float32
        assert np.allclose(np.linalg.norm(embedded.astype(np.float64), axis=1), 1.0, atol=1e-6)

    @pytest.mark.parametrize("classes", [s.classes for s in LABEL_SETS.values()], ids=list(LABEL_SETS))
    def test_tells_the_classes_of_a_label_set_apart(self, encoder: TextEncoder, classes: Sequence[str]) -> None:
        embedded = encoder.embed_texts(classes)
        likeness = embedded @ embedded.T - 2 * np.eye(len(classes))
        assert likeness.max() < 0.95

    def test_keeps_the_order_and_repeats(self, encoder: TextEncoder) -> None:
        one = encoder.embed_texts(["wall", "floor", "wall"])
        other = encoder.embed_texts(["floor", "wall"])
        assert np.array_equal(one, other[[1, 0, 1]])

    def test_no_texts_give_no_rows(self, encoder: TextEncoder) -> None:
        assert encoder.embed_texts([]).shape == (0, encoder.dimension)

    def test_likens_what_means_alike(self, encoder: TextEncoder) -> None:
        sofa, couch, floor = encoder.embed_texts(["sofa", "couch", "floor"])
        assert sofa @ couch > sofa @ floor


class ClosedVocabularyConformance(TextEncoderConformance):
    """For a text encoder that knows a list of words and no others."""

    def test_an_unknown_word_is_refused_with_the_nearest_known(self, encoder: TextEncoder) -> None:
        with pytest.raises(UnknownClass, match=r"'bookcas'.*bookcase") as caught:
            encoder.embed_texts(["wall", "bookcas"])
        assert caught.value.code == "unknown_class"
