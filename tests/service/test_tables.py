"""`vlglab tables`: what it asks for, what it follows, and what it prints beside the paper's figures."""

from __future__ import annotations

import re

import pytest
from typer.testing import CliRunner

from service import schemas
from service.cli import table_experiments, watching
from service.cli.entry import app
from service.client import Client
from tests.service.conftest import ADDRESS, Api
from tests.service.table_lab import LIVING, SCORES, Lab

# The paper's tables as its text has them, copied apart from the code: method, effort, supervision, test, val.
TABLE_1 = """
PointNet|>20 min|100%|41.1
TangentConv|>20 min|100%|52.8
MinkowskiNet|>20 min|100%|65.8
KPConv|>20 min|100%|67.1
PointTransformer|>20 min|100%|70.4
PointNetXt|>20 min|100%|70.5
DeepViewAgg|>20 min|100%|67.2
SemAffiNet|>20 min|100%|71.6
MPRM|<1 min|scene.|10.3
MIL-Trans|<1 min|scene.|12.9
WYPR|<1 min|scene.|22.3
MIT|<1 min|scene.|27.7
Ours|<1 min|scene.|45.3
"""
TABLE_2 = """
PointNet++|>20 min|100%|33.9|-
TangentConv|>20 min|100%|43.8|-
MinkowskiNet|>20 min|100%|73.6|72.2
KPConv|>20 min|100%|68.6|69.2
PointTransformer|>20 min|100%|-|70.6
PointNetXt|>20 min|100%|71.2|71.5
DeepViewAgg|>20 min|100%|-|71.0
SemAffiNet|>20 min|100%|74.9|-
MPRM|3 min|subcloud.|41.1|43.2
Kweon et al.|5 min|scene. + image.|47.4|49.6
MIL-Trans|<1 min|scene.|-|26.2
WYPR|<1 min|scene.|24.0|29.6
MIT|<1 min|scene.|31.7|35.8
Ours|<1 min|scene.|48.9|49.7
"""
TABLE_3 = {"(a)": 37.7, "(b) ESGS": 38.2, "(c) filtering": 42.6, "(d) ESGS, filtering, ESS": 45.3, "supervised": None}
TABLE_4 = {"offices -> homes": (13.4, 23.0), "homes -> offices": (33.3, 50.9)}
TABLE_5 = {
    "MinkUNet14A": 44.5, "MinkUNet18A": 45.3, "MinkUNet34A": 44.7, "adapter: transformer": 45.0, "adapter: MLP": 45.3,
}  # fmt: skip


@pytest.fixture(autouse=True)
def _brisk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Looks at the service without waiting between two looks."""
    monkeypatch.setattr(watching.time, "sleep", lambda _seconds: None)


def rows_of(transcribed: str) -> list[list[str]]:
    """Method, effort, supervision, test and val of a table, `-` where the paper has none, in our spelling."""
    found = []
    for line in transcribed.strip().splitlines():
        method, effort, supervision, *figures = line.split("|")
        name = "3DSS-VLG (paper)" if method == "Ours" else method
        spelt = re.sub(r"^([<>])(?=\d)", r"\1 ", effort)
        found.append([name, spelt, supervision.replace(".", ""), *figures])
    return found


def row_of(printed: str, label: str) -> list[str]:
    """The cells of the row that begins with a label and two blanks."""
    line = next(line for line in printed.splitlines() if line.startswith(f"{label}  "))
    return re.split(r" {2,}", line.strip())


# -- what is asked for, and what is followed


def test_table_3_prints_mean_and_deviation_of_its_seeds_beside_the_paper_s() -> None:
    lab = Lab(SCORES)
    status, out = lab.run("3", "--dataset", "offices", "--seeds", "3", "--preset", "demo")
    assert status == 0, out
    assert row_of(out, "(b) ESGS")[1:3] == ["38.2", "26.0 ± 1.0"]
    assert row_of(out, "(d) ESGS, filtering, ESS")[1:3] == ["45.3", "41.0 ± 1.0"]
    assert row_of(out, "supervised")[1:3] == ["-", "71.0 ± 1.0"]
    assert row_of(out, "(a)")[4] == "70.0 ± 0.0", "the mean without clutter, over the classes that occur"
    recipes = {"ablation-a", "ablation-b", "ablation-c", "3dss-vlg", "supervised"}
    assert sorted((b["recipe"], b["seed"]) for b in lab.asked) == sorted((r, s) for r in recipes for s in range(3))
    assert {b["preset"] for b in lab.asked} == {"demo"}


def test_what_has_ended_is_asked_for_again_so_that_no_old_score_is_printed() -> None:
    lab = Lab(SCORES)
    assert row_of(lab.run("3", "--dataset", "offices")[1], "(a)")[2] == "20.0"
    lab.scores = {**SCORES, "ablation-a": 0.21}  # a stage's algorithm was raised, a preset or the raw data has changed
    status, out = lab.run("3", "--dataset", "offices")
    assert status == 0 and row_of(out, "(a)")[2] == "21.0"
    assert len(lab.asked) == 10
    assert row_of(out, "(a)")[-1] == f"e{5:019}-evaluate", "the run that is printed is the new experiment's"


@pytest.mark.parametrize("state", LIVING)
def test_what_an_earlier_command_left_in_progress_is_followed_before_it_is_asked_for_again(state: str) -> None:
    lab = Lab(SCORES)
    lab.gone_after = 2
    status, out = lab.run("3", "--dataset", "offices")
    assert status == 3 and "service_unreachable" in out and len(lab.experiments) == 2
    for experiment in lab.experiments.values():
        experiment["state"] = experiment["runs"][0]["state"] = state
    lab.gone_after = None
    status, out = lab.run("3", "--dataset", "offices")
    assert status == 0, out
    recipes = [body["recipe"] for body in lab.asked]
    assert recipes[:2] == ["ablation-a", "ablation-b"], "submitted by the killed command"
    assert recipes[2:5] == ["ablation-c", "3dss-vlg", "supervised"], "what was missing"
    assert recipes[5:] == ["ablation-a", "ablation-b"], "what was left, once it had ended: cached where nothing changed"


def test_what_is_in_progress_for_others_is_left_alone() -> None:
    lab = Lab(SCORES)
    lab.gone_after = 1
    lab.run("3", "--dataset", "offices", "--preset", "demo")
    lab.gone_after = None
    assert lab.run("3", "--dataset", "offices")[0] == 0
    assert [body["preset"] for body in lab.asked] == ["demo", *["paper"] * 5]
    assert next(iter(lab.experiments.values()))["state"] in LIVING, "nobody followed it"


@pytest.mark.parametrize("end", ["failed", "cancelled"])
def test_an_experiment_that_ends_badly_leaves_its_row_without_a_score_and_is_asked_for_anew_by_the_next(
    end: str,
) -> None:
    lab = Lab(SCORES)
    lab.ends = {"ablation-b": end}
    status, out = lab.run("3", "--dataset", "offices")
    assert status == 1 and f"vlglab experiments show e{1:019}" in out
    assert row_of(out, "(a)")[1:3] == ["37.7", "20.0"], "the other rows are printed"
    assert row_of(out, "(b) ESGS")[1:] == ["38.2", "-", "-", "-", f"e{1:019} failed"]
    lab.ends = {}
    assert lab.run("3", "--dataset", "offices")[0] == 0
    again = [e["state"] for e in lab.experiments.values() if e["recipe"] == "ablation-b"]
    assert again == [end, "succeeded"]


def test_one_left_in_progress_that_ends_badly_ends_the_command() -> None:
    lab = Lab(SCORES)
    lab.gone_after = 2
    lab.run("3", "--dataset", "offices")
    lab.gone_after, lab.ends = None, {"ablation-a": "failed"}
    status, out = lab.run("3", "--dataset", "offices")
    assert status == 1 and f"vlglab experiments show e{0:019}" in out
    assert row_of(out, "(a)")[2] == "-" and row_of(out, "(c) filtering")[2] == "30.0"


def test_a_training_of_table_4_that_ends_badly_leaves_both_ways_without_that_seed() -> None:
    lab = Lab(SCORES)
    lab.ends_of = {("homes", 1): "failed"}
    status, out = lab.run("4", "--dataset", "offices", "--target", "homes", "--seeds", "2")
    assert status == 1
    failed = next(e["id"] for e in lab.experiments.values() if e["dataset"] == "homes" and e["state"] == "failed")
    for label in TABLE_4:
        assert row_of(out, label)[3] == "12.0" and row_of(out, label)[-1].endswith(f"{failed} failed")
    assert sum("runs" in body for body in lab.asked) == 2, "seed 0 alone is moved, both ways"


def test_rows_that_are_not_scored_on_the_same_points_are_told() -> None:
    lab = Lab(SCORES)
    assert "not scored on the same points" not in lab.run("3", "--dataset", "offices")[1]
    lab.points = {"ablation-c": 7}
    status, out = lab.run("3", "--dataset", "offices")
    assert status == 0 and "not scored on the same points" in out and "(c) filtering: 7" in out


def test_table_5_changes_one_field_a_row_and_shares_the_row_of_the_paper_s_own_choice() -> None:
    lab = Lab(SCORES)
    status, out = lab.run("5", "--dataset", "offices")
    assert status == 0, out
    assert [body["overrides"] for body in lab.asked] == [
        {"distill.network.arch": "MinkUNet14A"},
        {},
        {"distill.network.arch": "MinkUNet34A"},
        {"specialize.adapter.kind": "transformer"},
    ]
    assert row_of(out, "adapter: MLP")[-1] == row_of(out, "MinkUNet18A")[-1]


def test_table_4_predicts_the_other_dataset_by_its_own_text_and_the_first_one_s_network() -> None:
    lab = Lab(SCORES)
    status, out = lab.run("4", "--dataset", "offices", "--target", "homes", "--seeds", "2")
    assert status == 0, out
    assert [body.get("dataset") for body in lab.asked] == ["offices", "offices", "homes", "homes", *[None] * 4]
    predict, evaluate = lab.asked[5]["runs"]
    assert {port: source["artifact"] for port, source in predict["inputs"].items()} == {
        "scenes": "scenes of homes 1",
        "network": "network of offices 1",
        "text_embeddings": "text_embeddings of homes 1",
    }
    assert evaluate["inputs"]["ground_truth"] == {"artifact": "ground_truth of homes 1"}
    assert evaluate["inputs"]["predictions.moved"] == {"run": "predict", "output": "labels"}
    assert row_of(out, "offices -> homes")[3] == "12.0 ± 0.0"


def test_table_4_follows_and_asks_anew_for_what_it_moved_too() -> None:
    lab = Lab(SCORES)
    lab.gone_after = 3
    assert lab.run("4", "--dataset", "offices", "--target", "homes")[0] == 3
    left = list(lab.experiments.values())[2]
    assert "runs" in left["request"] and left["state"] in LIVING
    lab.gone_after, lab.scores = None, {**SCORES, "": 0.13}
    status, out = lab.run("4", "--dataset", "offices", "--target", "homes")
    assert status == 0, out
    assert left["state"] == "succeeded" and row_of(out, "offices -> homes")[3] == "13.0"
    assert sum("runs" in body for body in lab.asked) == 3, "the one that was left, and both anew"


def test_the_service_s_own_record_of_a_request_is_known_again(api: Api, offices: str) -> None:
    recipe = schemas.ExperimentRequest(recipe="cam", dataset=offices, overrides={"distill.voxel_m": 0.5}, name="mine")
    listed = schemas.RunListRequest(
        name="by hand", runs=[schemas.RunRequest(name="words", spec={"stage": "embed_labels", "label_set": "s3dis13"})]
    )

    with Client(ADDRESS, transport=api.transport()) as client:
        made = {client.submit(recipe).id, client.submit(listed).id}
        assert set(table_experiments.in_progress(client).values()) == made
        asked = {table_experiments.asks_for(one.model_copy(update={"name": "other"})) for one in (recipe, listed)}
        assert set(table_experiments.in_progress(client)) == asked
        for one in made:
            client.cancel_experiment(one)
        assert table_experiments.in_progress(client) == {}


# -- what is changed


def test_the_encoder_is_chosen_for_every_row_and_the_row_s_own_change_stays() -> None:
    lab = Lab(SCORES)
    assert lab.run("5", "--dataset", "offices", "--encoder", "openseg")[0] == 0
    assert all(body["overrides"]["extract.encoder.name"] == "openseg" for body in lab.asked)
    assert all(body["overrides"]["embed_labels.encoder.name"] == "clip" for body in lab.asked)
    assert lab.asked[0]["overrides"]["distill.network.arch"] == "MinkUNet14A"


def test_a_set_field_is_changed_in_every_row_that_has_the_run() -> None:
    lab = Lab(SCORES)
    status, out = lab.run(
        "3", "--dataset", "offices", "--set", "extract.lifting.width=640", "--set", "specialize.adapter.alpha=0.9"
    )
    assert status == 0, out
    changed = {body["recipe"]: body["overrides"] for body in lab.asked}
    assert all(overrides["extract.lifting.width"] == 640 for overrides in changed.values())
    assert {r for r, overrides in changed.items() if "specialize.adapter.alpha" in overrides} == {"3dss-vlg"}
    assert "specialize.adapter.alpha=0.9" in out


def test_a_submission_is_of_every_row_s_own_prediction_and_of_scannet_s_classes_alone() -> None:
    lab = Lab(SCORES)
    status, out = lab.run("2", "--dataset", "homes", "--submission")
    assert status == 0, out
    submitted = {body["recipe"]: body["overrides"]["report.submission"] for body in lab.asked}
    assert submitted == {"supervised": "supervised", "cam": "ours", "3dss-vlg": "ours"}
    lab = Lab(SCORES)
    status, out = lab.run("1", "--dataset", "offices", "--submission")
    assert status == 2 and "takes labels of scannet20" in out and not lab.asked


def test_a_row_that_lifts_pictures_is_refused_where_there_are_none() -> None:
    lab = Lab(SCORES)
    status, out = lab.run("1", "--dataset", "lidar", "--encoder", "openseg")
    assert status == 2 and "has none" in out and not lab.asked, "3dss-vlg lifts pictures"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("4", "--dataset", "offices"), "--target"),
        (("3", "--dataset", "offices", "--target", "homes"), "no --target"),
        (("4", "--dataset", "offices", "--target", "sheds"), "no dataset sheds"),
        (("4", "--dataset", "offices", "--target", "offices"), "two datasets, got offices twice"),
        (("3", "--dataset", "offices", "--preset", "papper"), "papper"),
        (("3", "--dataset", "offices", "--encoder", "opensegg"), "opensegg"),
        (("3", "--dataset", "offices", "--set", "distil.voxel_m=0.1"), "distil.*distill"),
        (("3", "--dataset", "offices", "--set", "specialize.voxels=0.1"), "specialize.voxels"),
        (("3", "--dataset", "offices", "--set", "supervise.voxel_m=-1"), "voxel_m"),
        (("3", "--dataset", "offices", "--set", "distill.voxel_m"), "NAME=VALUE"),
        (("2", "--dataset", "homes", "--set", "report.submission=ours"), "say --submission"),
        (("5", "--dataset", "offices", "--set", "distill.network.arch=MinkUNet14A"), "what the rows .* differ in"),
        (
            ("5", "--dataset", "offices", "--set", 'distill.network={"arch":"MinkUNet14A"}'),
            "what the rows .* differ in",
        ),
    ],
)
def test_wrong_questions_are_refused_before_anything_is_submitted(arguments: tuple[str, ...], said: str) -> None:
    lab = Lab(SCORES)
    status, out = lab.run(*arguments)
    assert status == (5 if "[not_found]" in out or "[unknown_name]" in out else 2) and re.search(said, out), out
    assert not lab.asked


# -- what is printed


@pytest.mark.parametrize(("number", "transcribed"), [("1", TABLE_1), ("2", TABLE_2)])
def test_tables_1_and_2_hold_every_published_row_as_the_paper_has_it(number: str, transcribed: str) -> None:
    lab = Lab(SCORES)
    rows = rows_of(transcribed)
    status, out = lab.run(number, "--dataset", "offices")
    assert status == 0, out
    assert [row_of(out, row[0]) for row in rows] == rows
    document = lab.document(number, "--dataset", "offices")
    figures = [[None if f == "-" else float(f) for f in row[3:]] for row in rows]
    assert document["published"] == [
        {"method": m, "effort": e, "supervision": s, "test": test, "val": val[0] if val else None}
        for (m, e, s, *_), (test, *val) in zip(rows, figures, strict=True)
    ]


@pytest.mark.parametrize(
    ("number", "paper"),
    [
        ("1", {"MinkowskiNet (ours)": (65.8, None), "CAM (ours)": (None, None), "3DSS-VLG (ours)": (45.3, None)}),
        ("2", {"MinkowskiNet (ours)": (72.2, 73.6), "CAM (ours)": (None, None), "3DSS-VLG (ours)": (49.7, 48.9)}),
    ],
)
def test_our_rows_of_tables_1_and_2_have_the_paper_s_figure_and_all_of_ours(
    number: str, paper: dict[str, tuple[float | None, float | None]]
) -> None:
    lab = Lab(SCORES)
    rows = {row["label"]: row for row in lab.document(number, "--dataset", "offices")["rows"]}
    assert {label: (row["paper"], row["paper_test"]) for label, row in rows.items()} == paper
    bound = ("> 20 min", "100%")
    assert (rows["MinkowskiNet (ours)"]["effort"], rows["MinkowskiNet (ours)"]["supervision"]) == bound
    assert (rows["3DSS-VLG (ours)"]["effort"], rows["3DSS-VLG (ours)"]["supervision"]) == ("< 1 min", "scene")
    _, out = lab.run(number, "--dataset", "offices")
    for label, score in (("MinkowskiNet (ours)", "70.0"), ("CAM (ours)", "15.0"), ("3DSS-VLG (ours)", "40.0")):
        val, test = (("-" if figure is None else str(figure)) for figure in paper[label])
        cells = row_of(out, label)
        assert cells[3:-1] == [*([test] if number == "2" else []), val, score, "75.0", "70.0"], cells


@pytest.mark.parametrize(("number", "paper"), [("3", TABLE_3), ("5", TABLE_5)])
def test_tables_3_and_5_have_the_paper_s_figure_in_every_row(number: str, paper: dict[str, float | None]) -> None:
    lab = Lab(SCORES)
    document = lab.document(number, "--dataset", "offices")
    assert {row["label"]: row["paper"] for row in document["rows"]} == paper
    _, out = lab.run(number, "--dataset", "offices")
    assert {label: row_of(out, label)[1] for label in paper} == {
        label: "-" if figure is None else str(figure) for label, figure in paper.items()
    }


def test_table_4_has_the_paper_s_miou_and_macc_both_ways() -> None:
    lab = Lab(SCORES)
    document = lab.document("4", "--dataset", "offices", "--target", "homes")
    assert {row["label"]: (row["paper"], row["paper_macc"]) for row in document["rows"]} == TABLE_4
    _, out = lab.run("4", "--dataset", "offices", "--target", "homes")
    assert {label: tuple(map(float, row_of(out, label)[1:3])) for label in TABLE_4} == TABLE_4
    assert row_of(out, "offices -> homes")[3:6] == ["12.0", "75.0", "70.0"]


def test_json_holds_every_seed_s_score_and_run_and_how_they_were_made() -> None:
    lab = Lab(SCORES)
    document = lab.document("3", "--dataset", "offices", "--seeds", "2", "--set", "distill.voxel_m=0.1")
    rows = {row["label"]: row for row in document["rows"]}
    assert rows["(a)"]["miou"] == pytest.approx([0.2, 0.21])
    assert len(set(rows["(a)"]["runs"])) == 2 and len(set(rows["(a)"]["experiments"])) == 2
    assert rows["(a)"]["without_clutter"] == pytest.approx([0.7, 0.7])
    about = {name: document[name] for name in ("table", "dataset", "preset", "encoder", "overrides", "published")}
    assert about == {
        "table": 3, "dataset": "offices", "preset": "paper", "encoder": "mini", "overrides": {"distill.voxel_m": 0.1},
        "published": [],
    }  # fmt: skip


def test_the_stand_in_says_that_it_is_one() -> None:
    got = CliRunner().invoke(app, ["tables", "--help"], env={"COLUMNS": "200"})
    assert "stand-in" in got.stdout
    assert "a stand-in" in Lab(SCORES).run("3", "--dataset", "offices")[1]
    assert "a stand-in" not in Lab(SCORES).run("3", "--dataset", "offices", "--encoder", "openseg")[1]
