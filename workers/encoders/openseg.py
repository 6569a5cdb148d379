"""The OpenSeg encoder: pixel embeddings in CLIP's space, from the published TensorFlow SavedModel.

A frame's embeddings are 640 x 640 x 768 floats (1.26 GB). They never leave TensorFlow: the graph that makes them also
picks the wanted pixels, and only those come out. TensorFlow is imported when an encoder is made; nothing here loads
torch, so that the two need not share a GPU in one process. Knows no scene and no file but the model's.

Source: 3DSS-VLG section 3.1 with OpenScene's extraction, which the authors use: the encoded file goes in as it is, the
map is cropped by `image_info` and resized by nearest neighbour with aligned corners. We pick straight from the crop,
which gives the same values, and keep float32 where they round to float16.

Shape suffixes of locals: P wanted pixels, D embedding.
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from storage.errors import FrameInvalid
from workers.encoders.openseg_model import (
    IMAGE,
    INFO,
    MAPS,
    TEXT,
    OpenSegModel,
    Output,
    first_line,
    import_tensorflow,
    load_model,
)

TITLES: dict[Output, str] = {"region_pooled": "OpenSeg (region-pooled)", "per_pixel": "OpenSeg (per pixel)"}
"""How people meet it."""

_PLAIN = frozenset({"JPEG", "MPO", "PNG"})
"""Formats, in Pillow's names, whose files the model reads itself; MPO is a JPEG with more pictures behind it."""


class OpenSegEncoder:
    """OpenSeg from a local SavedModel; implements `ImageEncoder`, and takes encoded files too.

    Args:
        path: the folder of the SavedModel.
        output: 'region_pooled' averages each pixel's embedding over the regions that the model finds (the authors'
            choice); 'per_pixel' takes it as it is.
        threads: CPU threads an operation may use; None leaves TensorFlow's own choice.
        device: what the run was given; where that is a GPU, TensorFlow must see one.

    Raises:
        ExtraMissing: TensorFlow is not installed, or the run was given a GPU and it sees none.
        NotFound: no SavedModel lies at `path`.
        SpecInvalid: the model is another: its signature is not OpenSeg's.
        StoreCorrupt: the model cannot be loaded: a truncated, damaged or missing file.
    """

    def __init__(
        self, path: Path, output: Output = "region_pooled", threads: int | None = None, device: str = "cpu"
    ) -> None:
        self._model = load_model(path, threads, device)
        self._output = output
        self._tf = import_tensorflow()
        self._picked = _picking(self._tf, self._model, output)

    @property
    def dimension(self) -> int:
        """D as the model's signature says; 768 in the published one."""
        return self._model.dimension

    @property
    def title(self) -> str:
        """Names the model and which of its embeddings are taken."""
        return TITLES[self._output]

    @property
    def preprocessing(self) -> Mapping[str, object]:
        """Who decodes and resizes, which of the model's maps is taken, how it is cropped and read at pixels."""
        return {
            "decoded_by": "the model; what is no RGB JPEG or PNG is made an RGB PNG first",
            "resized": "by the model",
            "map": MAPS[self._output],
            "crop": f"rows 0 and 2 of {INFO} multiplied, truncated",
            "features_taken": "nearest, corners aligned",
        }

    def embed_pixels(
        self, image: NDArray[np.uint8], rows: NDArray[np.int64], columns: NDArray[np.int64], size: tuple[int, int]
    ) -> NDArray[np.float32]:
        """Embeddings (P,D) float32 of the pixels at `rows` and `columns` of an image of `size`; see `ImageEncoder`.

        The model reads encoded images, so this one is handed over as PNG, without loss. Where the image's own file is
        at hand, `embed_encoded` spares that, and leaves the decoding to the model as the authors do.

        Raises:
            FrameInvalid: the model refuses the image.
        """
        return self._pick(_png(Image.fromarray(image)) if len(rows) else b"", rows, columns, size)

    def embed_encoded(
        self, content: bytes, rows: NDArray[np.int64], columns: NDArray[np.int64], size: tuple[int, int]
    ) -> NDArray[np.float32]:
        """The same of an encoded image, as it lies on disk.

        JPEG and PNG in RGB go to the model byte for byte; anything else (grey, palette, alpha, other formats) is first
        made an RGB PNG, for the model takes three channels only.

        Args:
            content: the file's bytes.
            rows: (P,) row of each wanted pixel, in an image of `size`.
            columns: (P,) its column.
            size: width and height at which rows and columns are counted.

        Returns:
            (P,D) float32, not normalised.

        Raises:
            FrameInvalid: the image cannot be decoded, or the model refuses it.
        """
        return self._pick(_readable(content) if len(rows) else b"", rows, columns, size)

    def _pick(
        self, content: bytes, rows: NDArray[np.int64], columns: NDArray[np.int64], size: tuple[int, int]
    ) -> NDArray[np.float32]:
        if not len(rows):
            return np.zeros((0, self.dimension), np.float32)
        width, height = size
        tf = self._tf
        rows_P, columns_P = (tf.constant(np.asarray(places, np.int32)) for places in (rows, columns))
        try:
            picked_PD = self._picked(tf.constant(content), rows_P, columns_P, tf.constant([height, width], tf.int32))
        except tf.errors.InvalidArgumentError as error:
            raise FrameInvalid(
                f"OpenSeg cannot embed the image of {len(content)} bytes ({first_line(error)}); expected a whole "
                "JPEG or PNG; replace or remove the frame"
            ) from error
        embeddings_PD: NDArray[np.float32] = picked_PD.numpy()
        return embeddings_PD


def _picking(tf: ModuleType, model: OpenSegModel, output: Output) -> Any:
    """A function of TensorFlow from (content, rows (P,), columns (P,), (height, width)) to (P,D), traced here once.

    P is left open in its signature, so that frames that see other numbers of points share the one trace.
    """

    def pick(content: Any, rows_P: Any, columns_P: Any, size: Any) -> Any:
        outputs = model.signature(**{IMAGE: content, TEXT: tf.zeros((1, 1, model.dimension))})
        maps, info = outputs[MAPS[output]], outputs[INFO]
        # truncated, not rounded, as the authors do: at 500 x 333 pixels that is one row less
        crop = tf.cast(info[0] * info[2], tf.int32)
        sound = (
            tf.debugging.assert_positive(crop, "the model's image_info leaves nothing of its map"),
            tf.debugging.assert_less_equal(crop, tf.shape(maps)[1:3], "the model's image_info exceeds its map"),
        )
        with tf.control_dependencies(sound):
            places = [_nearest(tf, at_P, size[i], crop[i]) for i, at_P in enumerate((rows_P, columns_P))]
        return tf.gather_nd(maps, tf.stack([tf.zeros_like(rows_P), *places], axis=1))

    places, pair = tf.TensorSpec((None,), tf.int32), tf.TensorSpec((2,), tf.int32)
    function = tf.function(pick, input_signature=[tf.TensorSpec((), tf.string), places, places, pair])
    function.get_concrete_function()
    return function


def _nearest(tf: ModuleType, at_P: Any, size: Any, cropped: Any) -> Any:
    """Where `at_P`, counted in `size` pixels, lies in `cropped` ones: nearest neighbour with aligned corners."""
    wide, narrow = tf.cast(size, tf.float32), tf.cast(cropped, tf.float32)
    scale = tf.where(size > 1, (narrow - 1.0) / tf.maximum(wide - 1.0, 1.0), narrow / wide)
    return tf.clip_by_value(tf.cast(tf.floor(tf.cast(at_P, tf.float32) * scale + 0.5), tf.int32), 0, cropped - 1)


def _readable(content: bytes) -> bytes:
    """`content` if the model can read it, else the same picture as an RGB PNG."""
    try:
        picture = Image.open(io.BytesIO(content))
        if picture.format in _PLAIN and picture.mode == "RGB" and "transparency" not in picture.info:
            return content
        return _png(picture.convert("RGB"))
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise FrameInvalid(
            f"a colour image of {len(content)} bytes that cannot be decoded ({error}); replace or remove the frame"
        ) from error


def _png(picture: Image.Image) -> bytes:
    content = io.BytesIO()
    picture.save(content, "PNG", compress_level=1)
    return content.getvalue()
