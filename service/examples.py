"""One example of each thing that the API takes or gives, for its documentation. Data only; a test validates them."""

from __future__ import annotations

from typing import Any

Example = dict[str, Any]

_RUN = "r0199f2a4c0de5e1a"
_EXPERIMENT = "e0199f2a4c0d97c21"
_KEY = "776dfdc38a522d133e196166e91de0d8"
_AT = "2026-01-31T12:00:00Z"
_NETWORK = "1f0a77c2be904de1a2b3c4d5e6f70819"

HEALTH: Example = {"status": "ok", "version": "0.1.0"}
READY: Example = {"status": "ok", "schema_revision": "0016"}
VERSION: Example = {
    "version": "0.1.0",
    "commit": "9b1deb4d3b7d4bad9bdd2b0d7b3dcb6d1f2a3c4d",
    "dirty": False,
    "api": "v1",
    "store": "file:///home/lab/.vlglab/store",
}
PROBLEM: Example = {
    "type": "urn:vlglab:problem:unknown_name",
    "title": "A name that nothing carries",
    "status": 422,
    "code": "unknown_name",
    "detail": "got the recipe '3dss-vgl', which is not known; the nearest known are: 3dss-vlg",
    "instance": "/api/v1/experiments",
    "scene": None,
    "errors": [],
}
DATASET_REQUEST: Example = {
    "name": "offices",
    "kind": "synthrooms",
    "label_set": "s3dis13",
    "options": {"seed": 0, "train_rooms": 20, "test_rooms": 5},
}
DATASET: Example = {
    "name": "offices",
    "kind": "synthrooms",
    "path": "/home/lab/.vlglab/datasets/synthrooms-5f0c1d2e3a4b5c6d7e8f901234567890",
    "label_set": "s3dis13",
    "splits": ["train", "test"],
    "options": {"domain": "offices", "seed": 0, "train_rooms": 20, "test_rooms": 5, "points": 30000},
    "created_at": _AT,
}
EXPERIMENT_REQUEST: Example = {
    "recipe": "3dss-vlg",
    "preset": "demo",
    "dataset": "offices",
    "overrides": {"distill.voxel_m": 0.04},
    "seed": 0,
    "tags": ["first-look"],
    "name": "first look",
}
RUN_REQUEST: Example = {
    "name": "predict",
    "spec": {"stage": "predict", "splits": ["test"]},
    "inputs": {
        "scenes": {"run": _RUN, "output": "scenes"},
        "network": {"artifact": _NETWORK},
        "text_embeddings": {"artifact": _KEY},
    },
}
RUN_LIST_REQUEST: Example = {
    "name": "by hand",
    "runs": [
        {"name": "ingest", "spec": {"stage": "ingest", "label_set": "s3dis13"}, "dataset": "offices"},
        {
            "name": "extract",
            "spec": {"stage": "extract"},
            "inputs": {"scenes": {"run": "ingest", "output": "scenes"}},
            "dataset": "offices",
        },
    ],
}
RUN: Example = {
    "id": _RUN,
    "experiment_id": _EXPERIMENT,
    "name": "distill",
    "stage": "distill",
    "dataset": None,
    "spec": {"stage": "distill", "voxel_m": 0.05, "seed": 0},
    "spec_digest": "0f7d2c3b4a5968778695a4b3c2d1e0ff",
    "key": _KEY,
    "state": "running",
    "reason_code": None,
    "reason": None,
    "scene": None,
    "progress": {"unit": "epoch", "done": 3, "total": 4, "loss": 0.31, "eta_s": 21.5},
    "seed": 0,
    "attempt": 1,
    "priority": 0,
    "created_at": _AT,
    "started_at": _AT,
    "ended_at": None,
    "host": "laptop",
    "device": "cpu",
    "code": {"version": "0.1.0", "commit": "9b1deb4d3b7d4bad9bdd2b0d7b3dcb6d1f2a3c4d", "dirty": False},
    "environment": {"python": "3.11.9", "packages": {"torch": "2.13.0"}},
    "inputs": {"scenes": {"run_id": "r0199f2a4c0dd2b3c", "output": "scenes", "artifact_key": _KEY}},
    "outputs": {},
    "cancel_requested": False,
    "peak_rss_bytes": 1200000000,
    "owner": "ada",
    "tags": ["first-look"],
    "notes": "half the voxels",
    "time_limit_s": 7200,
    "gpus": 1,
    "memory_gb": 16,
    "rerun_of": None,
    "waiting_for": None,
}
RUN_PART: Example = {"id": _RUN}
ATTEMPT: Example = {
    "number": 1,
    "state": "lost",
    "host_id": "h0199f2a4c0d11111",
    "host": "laptop",
    "gpus": [0],
    "pid": 4711,
    "claimed_at": _AT,
    "ended_at": _AT,
    "reason": "its process has ended without a word",
}
LINEAGE: Example = {
    "run_id": _RUN,
    "runs": [
        {
            "id": "r0199f2a4c0dd2b3c", "name": "ingest", "stage": "ingest", "state": "succeeded",
            "experiment_id": _EXPERIMENT, "distance": -1,
        },
        {
            "id": _RUN, "name": "distill", "stage": "distill", "state": "running",
            "experiment_id": _EXPERIMENT, "distance": 0,
        },
    ],
    "artifacts": [
        {"key": _KEY, "kind": "scenes", "output": "scenes", "run_id": "r0199f2a4c0dd2b3c", "num_bytes": 12000000}
    ],
    "links": [
        {
            "source_id": "r0199f2a4c0dd2b3c", "output": "scenes", "artifact_key": _KEY,
            "run_id": _RUN, "port": "scenes",
        }
    ],
    "whole": True,
}  # fmt: skip
_OTHER = "r0199f2a5b1c07d2e"
_COMPARED: Example = {
    "name": "distill", "stage": "distill", "state": "succeeded", "experiment_id": _EXPERIMENT, "dataset": None,
    "owner": "ada", "tags": [], "created_at": _AT, "started_at": _AT, "ended_at": _AT,
}  # fmt: skip
COMPARISON: Example = {
    "runs": [{"id": _RUN, **_COMPARED}, {"id": _OTHER, **_COMPARED}],
    "spec": {"voxel_m": {_RUN: 0.05, _OTHER: 0.02}},
    "metrics": {"loss": {_RUN: 0.31, _OTHER: 0.28}},
    "evaluations": [
        {
            "run_id": _RUN, "evaluated_by": "r0199f2a6000c1d2e", "prediction": "ours", "subset": "all", "miou": 0.5,
            "macc": 0.75, "iou": {"wall": 0.6, "floor": 0.4},
        }
    ],
}  # fmt: skip
EXPERIMENT: Example = {
    "id": _EXPERIMENT,
    "name": "first look",
    "recipe": "3dss-vlg",
    "preset": "demo",
    "dataset": "offices",
    "request": EXPERIMENT_REQUEST,
    "state": "running",
    "states": {"succeeded": 4, "running": 1, "queued": 5},
    "created_at": _AT,
    "owner": "ada",
}
PROMETHEUS = '# HELP vlglab_runs Runs by state.\n# TYPE vlglab_runs gauge\nvlglab_runs{state="running"} 2.0\n'
TOKEN_SECRET = "vlglab_Kq3x0V7l5m1JYw2cT8bN4sRzHfE6uAoPdXgMiLtBvCk"  # noqa: S105 - belongs to no service
TOKEN_REQUEST: Example = {"owner": "ada", "role": "submitter", "days": 90}
TOKEN: Example = {
    "id": "t0199f2a4c0de5e1a",
    "owner": "ada",
    "role": "submitter",
    "created_at": _AT,
    "expires_at": "2026-05-01T12:00:00Z",
    "revoked_at": None,
    "last_used_at": None,
}
WEBHOOK_SECRET = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD3c0H2BnV6nM="  # noqa: S105 - belongs to no service
WEBHOOK_REQUEST: Example = {"url": "https://hooks.example.org/vlglab", "states": ["failed"]}
WEBHOOK: Example = {
    "id": "w0199f2a4c0de5e1a",
    "url": "https://hooks.example.org/vlglab",
    "states": ["failed"],
    "owner": "ada",
    "signable": True,
    "created_at": _AT,
    "removed_at": None,
}
DELIVERY: Example = {
    "id": "d0199f2a4c0de5e1a",
    "webhook_id": "w0199f2a4c0de5e1a",
    "run_id": _RUN,
    "run_state": "failed",
    "state": "waiting",
    "tries": 2,
    "due_at": _AT,
    "status": 503,
    "error": "it answered 503",
    "created_at": _AT,
    "ended_at": None,
}
WHO_AM_I: Example = {"name": "ada", "role": "submitter"}
EXTERNAL_REQUEST: Example = {
    "name": "my-trainer",
    "spec": {"stage": "external", "parameters": {"learning_rate": 0.003, "backbone": "resnet50"}},
    "tags": ["baseline"],
    "lease_s": 300,
}
START_REQUEST: Example = {"lease_s": 300}
BEAT_REQUEST: Example = {"attempt": 1, "progress": {"unit": "epoch", "done": 3, "total": 40, "loss": 0.31}}
FINISH_REQUEST: Example = {"attempt": 1, "state": "failed", "reason": "the loss is not finite"}
METRIC_BATCH: Example = {
    "attempt": 1,
    "steps": [40, 41, 42],
    "columns": {"loss": [0.31, 0.30, None], "lr": [0.003, 0.003, 0.0021]},
}
METRIC_BATCH_OF_SERIES: Example = {
    "series": {"loss": {"steps": [40, 41], "values": [0.31, 0.30]}, "miou": {"steps": [40], "values": [0.52]}}
}
METRIC_BATCH_OF_POINTS: Example = {"points": [{"name": "loss", "step": 40, "value": 0.31}]}
HELD: Example = {"run_id": _RUN, "attempt": 1, "lease_until": _AT}
METRIC_CHART: Example = {
    "first": 0,
    "last": 19999,
    "width": 10000,
    "series": [
        {
            "name": "loss",
            "num_points": 20000,
            "first_step": [0, 10000],
            "last_step": [9999, 19999],
            "count": [10000, 10000],
            "first": [2.31, 0.41],
            "min": [0.4, 0.29],
            "max": [2.4, 0.43],
            "last": [0.42, 0.31],
        }
    ],
}
METRIC: Example = {"name": "loss", "step": 40, "value": 0.31, "at": _AT}
EVENT: Example = {
    "id": 17,
    "run_id": _RUN,
    "at": _AT,
    "kind": "state",
    "state": "running",
    "attempt": 1,
    "message": "attempt 1 claimed",
}
EVALUATION: Example = {
    "run_id": _RUN,
    "run_name": "evaluate",
    "artifact_key": _KEY,
    "prediction": "ours",
    "subset": "covered",
    "miou": 0.5,
    "macc": 0.75,
    "num_points": 8,
    "classes": [
        {"name": "wall", "iou": 0.5, "accuracy": 1.0, "num_points": 4},
        {"name": "floor", "iou": 0.5, "accuracy": 0.5, "num_points": 4},
    ],
    "confusion": [[4, 0], [2, 2]],
    "note": None,
}
FILE: Example = {
    "artifact_key": _KEY,
    "output": "figures",
    "scene": "",
    "name": "segmentation.png",
    "num_bytes": 481516,
    "url": f"/api/v1/artifacts/{_KEY}/files/segmentation.png",
    "path": f"/home/lab/.vlglab/store/parts/77/{_KEY}/files/segmentation.png",
}
ARTIFACT: Example = {
    "key": _KEY,
    "kind": "embeddings",
    "stage": "extract",
    "output": "embeddings",
    "run_id": _RUN,
    "manifest_digest": "3a" * 32,
    "num_bytes": 180000000,
    "num_scenes": 25,
    "num_points": 750000,
    "attributes": {"dimension": 384, "encoder_title": "mini encoder (a stand-in)", "dataset": "offices"},
    "created_at": _AT,
}
FEATURE: Example = {
    "key": _KEY, "kind": "embeddings", "stage": "extract", "output": "embeddings", "run_id": _RUN, "owner": "ada",
    "manifest_digest": "3a" * 32, "dataset": "offices", "splits": {"train": 20, "test": 5}, "encoder": "mini",
    "encoder_title": "mini encoder (a stand-in)", "weights_digest": "0123456789abcdef0123456789abcdef",
    "lifting": {"width": 320, "height": 240, "depth_tolerance": 0.25, "border_px": 10}, "dimension": 384,
    "dtype": "float16", "num_scenes": 25, "num_points": 750000, "num_covered": 600000, "coverage": 0.8,
    "num_bytes": 468000000, "created_at": _AT, "verified_at": _AT, "verified_by": "r0199f2a5b1c07d2e",
    "num_faults": 0, "fault": None,
}  # fmt: skip
FEATURE_DETAIL: Example = {
    **FEATURE,
    "spec": {"stage": "extract", "encoder": {"name": "mini"}, "splits": ["train", "test"]},
    "inputs": {"scenes": _NETWORK},
    "pulled_from": {"source": "http://lab.example.org:8765", "artifact": _KEY},
    "users": [
        {"run_id": _RUN, "name": "d", "stage": "distill", "state": "running", "owner": "ada", "port": "embeddings"}
    ],
    "num_users": 1,
}  # fmt: skip
FEATURE_DIFF: Example = {
    "left": _KEY,
    "right": _NETWORK,
    "verdict": "different",
    "differences": [{"name": "spec.lifting.width", "left": 320, "right": 640}],
    "num_common": 25,
    "only_left": [],
    "only_right": ["office_1_25"],
    "same": [],
    "other_order": ["office_1_03"],
    "not_read": ["office_1_07"],
    "compared": [
        {
            "scene": "office_1_00", "num_common": 24000, "num_left": 24100, "num_right": 24050, "num_rows": 2048,
            "least": 0.41, "mean": 0.97, "steps": 96.5, "steps_allowed": 1.0,
        }
    ],
    "cosines": {
        "num_rows": 2048, "least": 0.41, "mean": 0.97,
        "percentiles": {"1": 0.71, "5": 0.85, "25": 0.96, "50": 0.98, "75": 0.99, "95": 0.998},
    },
    "limits": {"scenes": 8, "rows": 2048, "num_bytes": 1000000000},
}  # fmt: skip
PART: Example = {"scene": "office_1_00", "key": _KEY, "digest": "5c" * 32, "num_points": 30000, "num_bytes": 7200000}
ARTIFACT_DETAIL: Example = {**ARTIFACT, "inputs": {"scenes": _NETWORK}, "parts": [PART], "files": []}
HOST: Example = {
    "id": "h0199f2a4c0d11111",
    "name": "laptop",
    "pid": 4242,
    "slots": 2,
    "gpus": [],
    "alive": True,
    "registered_at": _AT,
    "heartbeat_at": _AT,
    "retired_at": None,
    "rss_bytes": 900000000,
    "peak_rss_bytes": 2100000000,
    "memory_gb": 16.4,
    "stages": [],
    "mode": "active",
}
RECIPE: Example = {
    "name": "3dss-vlg",
    "presets": ["paper", "authors_code", "demo", "demo-capture"],
    "doc": "The paper's method and its two 2D rows.",
}
STAGE: Example = {
    "stage": "predict",
    "doc": "Segments scenes by the 3D network and text alone (section 3.4).",
    "inputs": {"scenes": {"kind": "scenes", "required": True, "many": False}},
    "outputs": {"labels": "labels"},
    "needs_dataset": False,
    "uses_gpu": True,
    "spec_schema": {"type": "object", "title": "Predict"},
}
PLANNED_WORK: Example = {
    "name": "distill",
    "stage": "distill",
    "dataset": None,
    "outlook": "compute",
    "why": "not published yet",
    "outputs": {"network": _NETWORK},
    "estimate": {"seconds": 151.5, "num_bytes": 43000000, "past_runs": 7, "alike": "spec"},
}
DRY_RUN: Example = {
    "runs": [PLANNED_WORK],
    "num_to_compute": 1,
    "seconds": 151.5,
    "num_bytes": 43000000,
    "num_without_estimate": 0,
}
RERUN_REQUEST: Example = {"changes": {"training.optimiser.epochs": 8, "voxel_m": 0.04}, "tags": ["finer"]}
LOG = "2026-01-31 12:00:00 INFO vlglab.run: epoch 3 of 4\n"
