"""POST /experiments and POST /runs: what is taken, and what is refused with which words."""

from __future__ import annotations

from typing import Any

import pytest

from storage.labels import S3DIS13

Json = dict[str, Any]

EXTRACT = {"stage": "extract"}
INGEST = {"stage": "ingest", "label_set": "s3dis13"}
OTHER_TEXT = [
    {"spec": INGEST, "dataset": "offices"},
    {"spec": {"stage": "embed_labels", "label_set": "scannet20"}},
    {
        "spec": {"stage": "supervise"},
        "inputs": {
            "scenes": {"run": "ingest", "output": "scenes"},
            "ground_truth": {"run": "ingest", "output": "ground_truth"},
            "text_embeddings": {"run": "embed_labels", "output": "text_embeddings"},
        },
    },
]


def recipe(**changes: Any) -> Json:
    return {"recipe": "3dss-vlg", "preset": "demo", "dataset": "offices", **changes}


def test_a_recipe_becomes_an_experiment_with_its_runs(api: Any, offices: str) -> None:
    made = api.post("/experiments", recipe(seed=3, name="mine", overrides={"distill.voxel_m": 0.04}))
    assert (made["name"], made["recipe"], made["preset"], made["dataset"]) == ("mine", "3dss-vlg", "demo", offices)
    assert made["request"]["overrides"] == {"distill.voxel_m": 0.04}
    names = [run["name"] for run in made["runs"]]
    assert names[:3] == ["ingest", "embed_labels", "extract"]
    assert names[-2:] == ["evaluate", "report"]
    distill = next(run for run in made["runs"] if run["name"] == "distill")
    assert (distill["spec"]["voxel_m"], distill["seed"]) == (0.04, 3)
    ingest = made["runs"][0]
    assert distill["inputs"]["scenes"] == {"run_id": ingest["id"], "output": "scenes", "artifact_key": None}
    assert api.get(f"/experiments/{made['id']}")["runs"][0]["id"] == ingest["id"]
    assert [e["id"] for e in api.get("/experiments")["items"]] == [made["id"]]


def test_a_dataset_without_held_out_rooms_predicts_what_it_trains_on(api: Any) -> None:
    api.post("/datasets", {"name": "offices", "kind": "synthrooms", "options": {"test_rooms": 0}})
    made = api.post("/experiments", recipe())
    assert next(r for r in made["runs"] if r["name"] == "predict")["spec"]["splits"] == ["train"]


def test_runs_can_be_given_one_by_one(api: Any, offices: str) -> None:
    body = {
        "name": "by hand",
        "runs": [
            {"name": "rooms", "spec": {"stage": "ingest", "label_set": "s3dis13"}, "dataset": offices},
            {
                "spec": {"stage": "extract"},
                "inputs": {"scenes": {"run": "rooms", "output": "scenes"}},
                "dataset": offices,
            },
        ],
    }
    made = api.post("/experiments", body)
    assert [run["name"] for run in made["runs"]] == ["rooms", "extract"]
    assert (made["recipe"], made["dataset"]) == ("", "")
    more = api.post(
        "/runs",
        {
            "spec": {"stage": "extract", "splits": ["train"]},
            "inputs": {"scenes": {"run": made["runs"][0]["id"], "output": "scenes"}},
            "dataset": offices,
            "priority": 5,
        },
    )
    assert (more["name"], more["priority"], more["experiment_id"]) == ("extract", 5, None)


@pytest.mark.parametrize(
    ("body", "code", "said"),
    [
        (recipe(recipe="3dss-vgl"), "unknown_name", "nearest known are: 3dss-vlg"),
        (recipe(preset="dmeo"), "unknown_name", "demo"),
        (recipe(dataset="ofices"), "unknown_name", "offices"),
        (recipe(overrides={"distil.voxel_m": 1}), "unknown_name", "distill"),
        (recipe(overrides={"distill.voxel": 1}), "spec_invalid", "no such field"),
        (recipe(overrides={"distill.training.optimiser.learning_rate": -0.1}), "spec_invalid", "learning_rate"),
        (recipe(overrides={"embed_labels.class_names": ["wall"]}), "spec_invalid", "13 classes"),
        (recipe(overrides={"embed_labels.label_set": "scannet20"}), "spec_invalid", "text_embeddings of scannet20"),
        (recipe(overrides={"ingest.label_set": "scannet20"}), "spec_invalid", "scenes of scannet20"),
        ({"name": "x", "runs": OTHER_TEXT}, "spec_invalid", "run 'supervise': the inputs"),
        (recipe(overrides={"embed_labels.class_names": ["bokcase"] * 13}), "unknown_class", "bookcase"),
        (recipe(presett="demo"), "request_invalid", "presett: this field is not known here"),
        (recipe(seed=-1), "request_invalid", "seed"),
        ({"recipe": "3dss-vlg"}, "request_invalid", "dataset: Field required"),
        ({}, "request_invalid", "recipe: Field required"),
        ([], "request_invalid", ""),
        ({"name": "x", "runs": []}, "request_invalid", "runs"),
        (
            {"name": "x", "runs": [{"spec": INGEST}], "recipe": "a"},
            "request_invalid",
            "recipe: this field is not known",
        ),
        ({"name": "x", "runs": [{"spec": {"stage": "ingst"}}]}, "unknown_name", "ingest"),
        ({"name": "x", "runs": [{"spec": {}}]}, "unknown_name", "stage"),
        ({"name": "x", "runs": [{"spec": INGEST}]}, "spec_invalid", "name one in 'dataset'"),
        ({"name": "x", "runs": [{"spec": {**INGEST, "voxl": 1}, "dataset": "offices"}]}, "spec_invalid", "voxl"),
        ({"name": "x", "runs": [{"spec": EXTRACT, "dataset": "offices"}]}, "spec_invalid", "misses its input scenes"),
        (
            {"name": "x", "runs": [{"spec": INGEST, "dataset": "offices", "inputs": {"scenes": {"run": "a"}}}]},
            "request_invalid",
            "runs.0.inputs.scenes",
        ),
    ],
)
def test_what_cannot_be_done_is_refused_and_writes_nothing(
    api: Any, offices: str, body: Any, code: str, said: str
) -> None:
    problem = api.post("/experiments", body, status=422)
    assert problem["code"] == code
    assert said in problem["detail"]
    assert api.get("/runs")["items"] == []
    assert api.get("/experiments")["items"] == []


def test_an_invalid_spec_names_its_fields(api: Any, offices: str) -> None:
    body = {"spec": {"stage": "ingest", "label_set": "s3dis14", "fusion": {"voxel_m": -1}}, "dataset": offices}
    problem = api.post("/runs", body, status=422)
    assert {fault["field"] for fault in problem["errors"]} == {"ingest.label_set", "ingest.fusion.voxel_m"}


def test_an_input_that_is_not_there(api: Any, offices: str) -> None:
    body = {"spec": EXTRACT, "dataset": offices, "inputs": {"scenes": {"artifact": "f" * 32}}}
    assert api.post("/runs", body, status=404)["code"] == "not_found"
    body["inputs"] = {"scenes": {"run": "r404", "output": "scenes"}}
    assert api.post("/runs", body, status=404)["code"] == "not_found"


def test_words_of_the_table_are_taken(api: Any) -> None:
    words = list(S3DIS13.classes)
    words[10] = "bookshelf"
    spec = {"stage": "embed_labels", "label_set": "s3dis13", "class_names": words}
    assert api.post("/runs", {"spec": spec})["spec"]["class_names"][10] == "bookshelf"


def test_a_body_that_is_no_json(api: Any) -> None:
    answer = api.http.post("/api/v1/experiments", content=b"{", headers={"Content-Type": "application/json"})
    assert answer.status_code == 422
    assert api.problem(answer)["code"] == "request_invalid"


def test_an_unknown_route_and_method(api: Any) -> None:
    assert api.problem(api.http.get("/api/v1/nothing"))["code"] == "not_found"
    answer = api.http.delete("/api/v1/runs")
    assert answer.status_code == 405
    assert api.problem(answer)["code"] == "method_not_allowed"
    assert answer.headers["allow"]


def test_what_is_wanted_of_runs_is_recorded_and_lists_are_narrowed_by_it(api: Any, offices: str) -> None:
    wishes = {"tags": ["sweep-3", "first"], "notes": "half the voxels", "priority": 7, "time_limit_s": 60}
    made = api.post("/experiments", recipe(**wishes))
    for run in made["runs"]:
        assert run["tags"] == ["first", "sweep-3"]
        assert (run["notes"], run["priority"], run["time_limit_s"]) == ("half the voxels", 7, 60)
    by_hand = {"spec": INGEST, "dataset": offices, "tags": ["mine"], "priority": 3}
    several = {"name": "x", "runs": [by_hand, {"spec": INGEST, "dataset": offices, "name": "b"}], "tags": ["all"]}
    first, second = api.post("/experiments", {**several, "priority": 1, "notes": "n"})["runs"]
    assert (first["tags"], first["priority"], first["notes"]) == (["all", "mine"], 3, "n")
    assert (second["tags"], second["priority"]) == (["all"], 1)
    assert {run["id"] for run in api.get("/runs", tag="all")["items"]} == {first["id"], second["id"]}
    assert [run["id"] for run in api.get("/runs", tag="all", limit=1)["items"]] == [second["id"]]
    page = api.get("/runs", tag="all", limit=1)
    assert [run["id"] for run in api.get("/runs", tag="all", cursor=page["next"])["items"]] == [first["id"]]
    assert [run["id"] for run in api.get("/runs", tag="mine", stage="ingest")["items"]] == [first["id"]]
    assert api.get("/runs", tag="nobody's")["items"] == api.get("/runs", owner="eve")["items"] == []
    for wrong in ({"tags": ["a b"]}, {"tags": ["a"] * 21}, {"priority": 1001}, {"time_limit_s": 0}, {"notes": 1}):
        api.post("/experiments", recipe(**wrong), status=422)


def test_what_is_wanted_of_a_run_changes_no_key(api: Any, offices: str) -> None:
    plain, wanted = (api.post("/experiments", recipe(**wishes)) for wishes in ({}, {"tags": ["t"], "notes": "n"}))
    assert [r["spec_digest"] for r in plain["runs"]] == [r["spec_digest"] for r in wanted["runs"]]


def test_an_idempotency_key_makes_a_submission_once(api: Any, offices: str) -> None:
    def send(path: str, body: Any, key: str) -> Any:
        return api.http.post("/api/v1" + path, json=body, headers={"Idempotency-Key": key})

    body = recipe(tags=["t"])
    first, again = (send("/experiments", body, "sweep-3") for _ in range(2))
    assert (first.status_code, again.status_code) == (201, 200)
    assert [r["id"] for r in first.json()["runs"]] == [r["id"] for r in again.json()["runs"]]
    other = send("/experiments", recipe(tags=["u"]), "sweep-3")
    assert (other.status_code, other.json()["code"]) == (409, "key_reused")
    run = {"spec": INGEST, "dataset": offices}
    assert [send("/runs", run, "one").status_code for _ in range(2)] == [201, 200]
    assert send("/runs", run, "two").status_code == 201
    assert send("/experiments", body, "one").status_code == 409, "a key is of one request, whatever its path"
    for wrong in ("", "a b", "x" * 201):
        assert send("/runs", run, wrong).status_code == 422


def test_a_key_whose_run_or_experiment_was_deleted_is_spent(api: Any, offices: str) -> None:
    """Nothing is made again for whoever only sends a request twice; a new key makes it."""
    run = {"spec": INGEST, "dataset": offices}
    source = api.post("/runs", run)["id"]
    bodies = {"/runs": run, "/experiments": recipe(), f"/runs/{source}/rerun": {"notes": "again"}}
    for number, (path, body) in enumerate(bodies.items()):

        def send(key: str, path: str = path, body: Any = body) -> Any:
            return api.http.post("/api/v1" + path, json=body, headers={"Idempotency-Key": key})

        made = send(f"k{number}").json()["id"]
        where = f"/{'experiments' if 'runs' not in path else 'runs'}/{made}"
        api.post(f"{where}/cancel", status=200)
        assert api.http.delete("/api/v1" + where).status_code == 200
        again = send(f"k{number}")
        assert again.status_code == 409
        problem = api.problem(again)
        assert problem["code"] == "key_spent" and made in problem["detail"] and "take a new key" in problem["detail"]
        assert send(f"n{number}").status_code == 201
