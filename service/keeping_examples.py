"""One example of each thing that keeps the disk under control, as `examples` has the others. Data only."""

from __future__ import annotations

from typing import Any

Example = dict[str, Any]

_KEY = "776dfdc38a522d133e196166e91de0d8"
_AT = "2026-01-31T12:00:00Z"
_NETWORK = "1f0a77c2be904de1a2b3c4d5e6f70819"

POLICY_REQUEST: Example = {"quota_bytes": 2000000000000, "unused_days": 180}
POLICY: Example = {
    "quota_bytes": 2000000000000,
    "unused_days": 180,
    "expiring": ["embeddings"],
    "grace_s": 604800,
    "set_by": "ada",
    "set_at": _AT,
}
USAGE: Example = {
    "num_artifacts": 2,
    "num_bytes": 1850000000000,
    "shared_bytes": 120000000,
    "by_kind": [{"name": "embeddings", "num_artifacts": 2, "num_bytes": 1850000000000}],
    "by_dataset": [{"name": "offices", "num_artifacts": 2, "num_bytes": 1850000000000}],
    "by_owner": [{"name": "ada", "num_artifacts": 2, "num_bytes": 1850000000000}],
    "largest": [{"key": _KEY, "kind": "embeddings", "dataset": "offices", "owner": "ada", "num_bytes": 1700000000000}],
    "pinned_bytes": 1700000000000,
    "marked_bytes": 0,
    "reclaimable_bytes": 150000000000,
    "num_staged": 1,
    "staged_bytes": 230000000,
    "free_bytes": 800000000000,
    "disk_bytes": 4000000000000,
    "quota_bytes": 2000000000000,
    "fill": "nearly_full",
    "warning": "the store holds 1,850,000,000,000 of the 2,000,000,000,000 bytes of its quota; at 2,000,000,000,000 new"
    " runs wait: see `vlglab features usage`",
}
PIN_REQUEST: Example = {"reason": "what the paper's Table 1 was made from", "until": "2027-01-31T12:00:00Z"}
PIN: Example = {
    "artifact_key": _KEY,
    "owner": "ada",
    "reason": "what the paper's Table 1 was made from",
    "until": "2027-01-31T12:00:00Z",
    "created_at": _AT,
}
READ_LEASE_REQUEST: Example = {"seconds": 600}
READ_LEASE: Example = {
    "id": "l0199f2a4c0de0b2c",
    "artifact_key": _KEY,
    "owner": "eve",
    "until": "2026-01-31T12:10:00Z",
    "created_at": _AT,
}
COLLECTION: Example = {
    "dry_run": False,
    "marked": [
        {
            "what": "artifact",
            "id": _KEY,
            "code": "unreferenced",
            "why": "the run that computed it was deleted, and no other gives or reads it",
            "num_bytes": 180000000,
            "due_at": "2026-02-07T12:00:00Z",
        }
    ],
    "removed": [],
    "unmarked": 0,
    "num_staged": 1,
    "staged_bytes": 7200000,
    "removed_bytes": 7200000,
}
REMOVAL: Example = {
    "dry_run": False,
    "experiment": None,
    "runs": ["r0199f2a4c0de5e1a"],
    "removed": [{"key": _NETWORK, "kind": "checkpoint", "num_parts": 1, "num_bytes": 43000000, "shared_parts": 0}],
    "kept": [{"key": _KEY, "kind": "labels", "num_bytes": 90000, "why": "an input of the run r0199f2a4c0dd2b3c"}],
    "due_at": "2026-02-07T12:00:00Z",
    "num_bytes": 43000000,
}
