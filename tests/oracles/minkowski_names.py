"""Names and shapes of every tensor of MinkowskiEngine's MinkUNets, written out from design.md; imports nothing of ours.

Legend: widths are those after the four levels down and the four up; joined those after each skip is joined.
"""

from __future__ import annotations

from collections.abc import Iterator

Shapes = dict[str, tuple[int, ...]]

WIDTHS = {
    "MinkUNet14A": (32, 64, 128, 256, 128, 128, 96, 96),
    "MinkUNet18A": (32, 64, 128, 256, 128, 128, 96, 96),
    "MinkUNet34A": (32, 64, 128, 256, 256, 128, 64, 64),
}
JOINED = {
    "MinkUNet14A": (128 + 128, 128 + 64, 96 + 32, 96 + 32),
    "MinkUNet18A": (128 + 128, 128 + 64, 96 + 32, 96 + 32),
    "MinkUNet34A": (256 + 128, 128 + 64, 64 + 32, 64 + 32),
}
BLOCKS = {
    "MinkUNet14A": (1, 1, 1, 1, 1, 1, 1, 1),
    "MinkUNet18A": (2, 2, 2, 2, 2, 2, 2, 2),
    "MinkUNet34A": (2, 3, 4, 6, 2, 2, 2, 2),
}
DOWN = ("conv1p1s2", "conv2p2s2", "conv3p4s2", "conv4p8s2")
UP = ("convtr4p16s2", "convtr5p8s2", "convtr6p4s2", "convtr7p2s2")
BUFFERS = ("running_mean", "running_var", "num_batches_tracked")


def tensors(arch: str, in_channels: int, dimension: int) -> Shapes:
    """Every tensor of the state dict, in order, batch norm's statistics included."""
    return dict(_tensors(arch, in_channels, dimension))


def parameters(arch: str, in_channels: int, dimension: int) -> Shapes:
    """Every parameter, in order."""
    return {n: s for n, s in _tensors(arch, in_channels, dimension) if n.rsplit(".", 1)[1] not in BUFFERS}


def _tensors(arch: str, in_channels: int, dimension: int) -> Iterator[tuple[str, tuple[int, ...]]]:
    widths, joined, blocks = WIDTHS[arch], JOINED[arch], BLOCKS[arch]
    yield "conv0p1s1.kernel", (5 * 5 * 5, in_channels, 32)
    yield from _norm("bn0", 32)
    before = 32
    for i in range(4):
        yield f"{DOWN[i]}.kernel", (2 * 2 * 2, before, before)
        yield from _norm(f"bn{i + 1}", before)
        yield from _block(f"block{i + 1}", before, widths[i], blocks[i])
        before = widths[i]
    for i in range(4):
        yield f"{UP[i]}.kernel", (2 * 2 * 2, before, widths[4 + i])
        yield from _norm(f"bntr{i + 4}", widths[4 + i])
        yield from _block(f"block{i + 5}", joined[i], widths[4 + i], blocks[4 + i])
        before = widths[4 + i]
    yield "final.kernel", (before, dimension)
    yield "final.bias", (1, dimension)


def _norm(name: str, width: int) -> Iterator[tuple[str, tuple[int, ...]]]:
    for parameter in ("weight", "bias", "running_mean", "running_var"):
        yield f"{name}.bn.{parameter}", (width,)
    yield f"{name}.bn.num_batches_tracked", ()


def _block(name: str, before: int, width: int, count: int) -> Iterator[tuple[str, tuple[int, ...]]]:
    for i in range(count):
        first = before if i == 0 else width
        yield f"{name}.{i}.conv1.kernel", (3 * 3 * 3, first, width)
        yield from _norm(f"{name}.{i}.norm1", width)
        yield f"{name}.{i}.conv2.kernel", (3 * 3 * 3, width, width)
        yield from _norm(f"{name}.{i}.norm2", width)
        if first != width:
            yield f"{name}.{i}.downsample.0.kernel", (first, width)
            yield from _norm(f"{name}.{i}.downsample.1", width)
