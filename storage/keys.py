"""Names that are derived, never chosen: digests, artifact keys, scene keys, run ids.

Equal inputs give equal keys on any machine, so a lab computes nothing twice. Knows no file system and no database.
"""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import blake3
import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from storage.specs.spec import StageSpec

KEY_LENGTH = 32
"""Hexadecimal digits of a key: 128 bits of BLAKE3."""


def canonical_json(value: object) -> str:
    """`value` as JSON with sorted keys and no spaces: equal values give equal text. NaN and infinity are refused."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def digest(value: object) -> str:
    """The digest of a JSON-like value, KEY_LENGTH hexadecimal digits.

    Examples:
        >>> digest({"a": 1, "b": 2}) == digest({"b": 2, "a": 1})
        True
    """
    return digest_bytes(canonical_json(value).encode())


def digest_bytes(content: bytes | memoryview) -> str:
    """The BLAKE3 digest of some bytes, KEY_LENGTH hexadecimal digits."""
    return blake3.blake3(content).hexdigest()[:KEY_LENGTH]


def point_order(points: NDArray[np.float32]) -> str:
    """A digest of a point cloud's coordinates in their order; (N,3) f32 metres.

    Everything stored per point carries it, so that embeddings can never be read against other points.
    """
    return digest_bytes(np.ascontiguousarray(points, dtype="<f4").tobytes())


def artifact_key(spec: StageSpec, output: str, inputs: Mapping[str, str]) -> str:
    """The key of what a stage writes: a digest of (stage, output, algorithm version, spec, input digests).

    Args:
        spec: the stage's spec, without paths.
        output: name of the output port.
        inputs: input port -> artifact key, or content digest for what lies outside the store.
    """
    return digest(
        {
            "stage": spec.stage,
            "output": output,
            "algorithm": spec.algorithm,
            "spec": spec.keyed(),
            "inputs": dict(inputs),
        }
    )


def scene_key(spec: StageSpec, output: str, scene_inputs: Mapping[str, str]) -> str:
    """The key of one scene of a scene-wise output, from that scene's inputs alone: one more room computes one more.

    Fields that only choose among scenes (`StageSpec.scene_choosing`) do not enter it.
    """
    fields = {k: v for k, v in spec.keyed().items() if k not in spec.scene_choosing}
    return digest(
        {
            "scene_of": spec.stage,
            "output": output,
            "algorithm": spec.algorithm,
            "spec": fields,
            "inputs": dict(scene_inputs),
        }
    )


def new_id(prefix: str, moment: datetime | None = None) -> str:
    """A new id that sorts by creation time (to the millisecond): prefix, 12 hex digits of time, 8 of chance.

    Args:
        prefix: what it is an id of.
        moment: when the thing is made, by the database's time; None takes this machine's.
    """
    start = f"{prefix}{time.time_ns() // 1_000_000:012x}" if moment is None else id_at(prefix, moment)
    return start + secrets.token_hex(4)


def id_at(prefix: str, moment: datetime) -> str:
    """How the ids begin of what was made at a moment; it sorts before each of them and after all earlier ones.

    Examples:
        >>> id_at("r", datetime(2026, 1, 31, tzinfo=UTC))
        'r019c11597000'
    """
    milliseconds = (moment - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(milliseconds=1)
    return f"{prefix}{max(0, milliseconds):012x}"


def new_token() -> str:
    """A new fencing token: 128 random bits in hexadecimal."""
    return secrets.token_hex(16)
