"""The OpenSeg encoder: the conformance suite, pixels against a numpy oracle, one trace, and nothing whole comes out."""

from __future__ import annotations

import io
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from storage.errors import FrameInvalid
from tests.conformance.encoder import ImageEncoderConformance, grid, picture
from tests.fixtures import openseg_model as fixture
from workers.encoders.encoder import ImageEncoder
from workers.encoders.openseg import OpenSegEncoder, _nearest
from workers.encoders.openseg_model import Output

pytestmark = pytest.mark.slow

SIZE = (320, 240)
OUTPUTS: tuple[Output, ...] = get_args(Output)


@pytest.fixture(scope="module")
def tf() -> Any:
    return pytest.importorskip("tensorflow", reason="needs TensorFlow: pip install vlglab[openseg]")


@pytest.fixture(scope="module")
def folder(tf: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("openseg") / "exported_model"
    fixture.write_model(path)
    return path


@pytest.fixture(scope="module")
def encoders(folder: Path) -> dict[Output, OpenSegEncoder]:
    return {output: OpenSegEncoder(folder, output) for output in OUTPUTS}


class TestOpenSegEncoder(ImageEncoderConformance):
    @pytest.fixture
    def encoder(self, encoders: dict[Output, OpenSegEncoder]) -> ImageEncoder:
        return encoders["per_pixel"]


def noise(width: int, height: int) -> NDArray[np.uint8]:
    return np.random.default_rng(width).integers(0, 256, (height, width, 3), dtype=np.uint8)


def crop_of(image: NDArray[np.uint8]) -> tuple[int, int]:
    """Height and width of the picture within the map: sizes times scales in single precision, cut to whole pixels."""
    size = np.array(image.shape[:2], np.float32)
    scaled = np.round(size * (np.float32(fixture.EDGE) / size).min())
    height, width = (size * (scaled / size)).astype(int)
    return int(height), int(width)


def resized_then_picked(
    full: NDArray[np.float64], crop: tuple[int, int], rows: NDArray[np.int64], columns: NDArray[np.int64]
) -> NDArray[np.float64]:
    """The authors' way: crop the map, resize all of it to `SIZE` by nearest neighbour, corners aligned, then pick."""
    width, height = SIZE
    down = np.floor(np.arange(height) * (crop[0] - 1) / (height - 1) + 0.5).astype(int)
    right = np.floor(np.arange(width) * (crop[1] - 1) / (width - 1) + 0.5).astype(int)
    return full[: crop[0], : crop[1]][down][:, right][rows, columns]


# ---------------------------------------------------------------------------------------------------------- its values


@pytest.mark.parametrize("output", OUTPUTS)
@pytest.mark.parametrize("shape", [(640, 480), (480, 640), (1296, 968), (100, 75), (500, 333), (64, 64)], ids=str)
def test_pixels_are_those_of_the_cropped_and_resized_map(
    encoders: dict[Output, OpenSegEncoder], shape: tuple[int, int], output: Output
) -> None:
    image = noise(*shape)
    rows, columns = (index.ravel() for index in np.indices((SIZE[1], SIZE[0])))
    got = encoders[output].embed_pixels(image, rows, columns, SIZE)
    full = fixture.expected_maps(image)[output]
    np.testing.assert_allclose(got, resized_then_picked(full, crop_of(image), rows, columns), atol=1e-3)


def test_the_two_outputs_differ_and_region_pooling_is_the_default(
    folder: Path, encoders: dict[Output, OpenSegEncoder]
) -> None:
    rows, columns = grid(*SIZE, 16)
    pooled, per_pixel = (encoders[output].embed_pixels(noise(*SIZE), rows, columns, SIZE) for output in OUTPUTS)
    assert np.abs(pooled - per_pixel).max() > 0.1
    default = OpenSegEncoder(folder)
    assert np.array_equal(default.embed_pixels(noise(*SIZE), rows, columns, SIZE), pooled)
    assert default.title == encoders["region_pooled"].title == "OpenSeg (region-pooled)"
    assert encoders["per_pixel"].title == "OpenSeg (per pixel)"


def test_nearest_is_tensorflow_s_own_at_every_size(tf: Any) -> None:
    for size in (1, 2, 3, 75, 101, 240, 320, 641):
        for cropped in (1, 2, 3, 160, 425, 478, 480, 640):
            whole = tf.reshape(tf.range(cropped, dtype=tf.float32), (1, cropped, 1, 1))
            resized = tf.compat.v1.image.resize_nearest_neighbor(whole, (size, 1), align_corners=True)
            got = _nearest(tf, tf.range(size), tf.constant(size), tf.constant(cropped))
            assert np.array_equal(got.numpy(), resized.numpy().ravel()), (size, cropped)


def test_a_model_of_tensorflow_1_gives_the_same(
    tf: Any, tmp_path: Path, encoders: dict[Output, OpenSegEncoder]
) -> None:
    fixture.write_frozen_style_model(tmp_path / "old")
    rows, columns = grid(*SIZE, 8)
    old = OpenSegEncoder(tmp_path / "old")
    assert old.dimension == 8
    got = old.embed_pixels(picture(), rows, columns, SIZE)
    np.testing.assert_allclose(got, encoders["region_pooled"].embed_pixels(picture(), rows, columns, SIZE), atol=1e-5)


# ------------------------------------------------------------------------------------------------- what never comes out


@pytest.mark.parametrize("output", OUTPUTS)
def test_the_graph_gives_the_wanted_pixels_and_nothing_else(
    encoders: dict[Output, OpenSegEncoder], output: Output
) -> None:
    traced = encoders[output]._picked.get_concrete_function()
    assert [tuple(tensor.shape) for tensor in traced.outputs] == [(None, 8)]


def test_frames_with_other_numbers_of_points_share_one_trace(folder: Path) -> None:
    encoder = OpenSegEncoder(folder)
    for count, shape in ((1, SIZE), (7, (75, 100)), (5000, (640, 480)), (0, SIZE), (33, (480, 640))):
        places = np.zeros(count, np.int64)
        assert encoder.embed_pixels(noise(*shape), places, places, SIZE).shape == (count, 8)
    assert encoder._picked.experimental_get_tracing_count() == 1


def test_torch_is_never_imported(folder: Path) -> None:
    program = (
        "import sys; from pathlib import Path; import numpy as np\n"
        "from workers.encoders.openseg import OpenSegEncoder\n"
        f"encoder = OpenSegEncoder(Path({str(folder)!r}), threads=1)\n"
        "some = np.arange(5); image = np.zeros((24, 32, 3), np.uint8)\n"
        "assert encoder.embed_pixels(image, some, some, (32, 24)).shape == (5, 8)\n"
        "assert 'tensorflow' in sys.modules and 'torch' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=120)


# -------------------------------------------------------------------------------------------------------- encoded files


def encoded(image: NDArray[np.uint8], form: str, **options: Any) -> bytes:
    content = io.BytesIO()
    Image.fromarray(image).save(content, form, **options)
    return content.getvalue()


def test_a_jpeg_goes_in_as_it_is_and_is_decoded_by_the_model(tf: Any, encoders: dict[Output, OpenSegEncoder]) -> None:
    content = encoded(picture(640, 480), "JPEG", quality=90)
    rows, columns = grid(*SIZE, 4)
    encoder = encoders["per_pixel"]
    decoded = tf.image.decode_jpeg(content).numpy()
    got = encoder.embed_encoded(content, rows, columns, SIZE)
    assert np.array_equal(got, encoder.embed_pixels(decoded, rows, columns, SIZE))
    assert got.shape == (len(rows), 8)
    assert encoder.embed_encoded(content, rows[:0], columns[:0], SIZE).shape == (0, 8)


def _palette(image: NDArray[np.uint8]) -> bytes:
    content = io.BytesIO()
    Image.fromarray(image).quantize(16).save(content, "PNG")
    return content.getvalue()


@pytest.mark.parametrize(
    "written",
    [
        lambda image: encoded(image, "PNG"),
        lambda image: encoded(image, "BMP"),
        lambda image: encoded(image[..., 0], "JPEG"),
        lambda image: encoded(np.dstack([image, image[..., 0]]), "PNG"),
        lambda image: encoded(image, "PNG", transparency=(0, 0, 0)),
        _palette,
    ],
    ids=["png", "bmp", "grey jpeg", "alpha", "transparent colour", "palette"],
)
def test_other_files_reach_the_model_as_three_channels(
    encoders: dict[Output, OpenSegEncoder], written: Callable[[NDArray[np.uint8]], bytes]
) -> None:
    content = written(picture())
    rows, columns = grid(*SIZE, 16)
    image = np.asarray(Image.open(io.BytesIO(content)).convert("RGB"))
    encoder = encoders["per_pixel"]
    got = encoder.embed_encoded(content, rows, columns, SIZE)
    np.testing.assert_allclose(got, encoder.embed_pixels(image, rows, columns, SIZE), atol=1e-6)


@pytest.mark.parametrize("content", [b"", b"no image", encoded(picture(), "JPEG")[:900]], ids=["empty", "text", "cut"])
def test_a_file_that_cannot_be_decoded_is_refused(encoders: dict[Output, OpenSegEncoder], content: bytes) -> None:
    place = np.zeros(1, np.int64)
    with pytest.raises(FrameInvalid, match=f"{len(content)} bytes.*replace or remove the frame"):
        encoders["region_pooled"].embed_encoded(content, place, place, SIZE)
