"""`vlglab features diff --from`: a store of one's own beside another lab's, of which a sample is read over HTTP."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from service import remote_stores
from service.cli.console import Shell
from service.cli.entry import app
from service.cli.scripting import Exit
from service.client import Client
from storage.artifacts import admission
from storage.artifacts.manifests import encode_artifact
from storage.artifacts.zarr_store import ZarrStore
from storage.errors import VlglabError
from storage.settings import settings
from storage.targets import Sources
from tests.fixtures.lab_artifact import KEY, ROWS, publish
from tests.fixtures.lab_source import LabSource, lab_source
from tests.service.fake_api import FakeApi
from tests.service.test_features_cli import vlglab


@pytest.fixture(autouse=True)
def _allowed(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("VLGLAB_PULL_HOSTS", '["127.0.0.1"]')
    settings.cache_clear()
    yield
    settings.cache_clear()


@pytest.fixture
def here(tmp_path: Path) -> Path:
    publish(ZarrStore(tmp_path / "here"))
    return tmp_path / "here"


@pytest.fixture
def source(tmp_path: Path) -> Iterator[LabSource]:
    publish(ZarrStore(tmp_path / "there"), factor=1 + 2.0**-11)
    with lab_source(tmp_path / "there") as serving:
        yield serving


def diff(here: Path, source: LabSource, *more: str) -> tuple[int, Any]:
    code, out = vlglab(
        FakeApi({}), "features", "diff", KEY, "--from", source.url, "--store", str(here), "--json", *more
    )
    return code, json.loads(out) if out else None


@pytest.mark.parametrize("under", ["", "/api/v1/store"])
def test_a_sample_is_compared_and_little_more_of_it_is_read(here: Path, source: LabSource, under: str) -> None:
    source.under = under
    code, found = diff(here, source, "--scenes", "2", "--rows", "512")
    assert (code, found["verdict"], found["num_common"], len(found["not_read"])) == (0, "rounding", 3, 1)
    assert [one["num_rows"] for one in found["compared"]] == [512, 512]
    pieces = [asked for path, asked in source.asked if "/embeddings/c/" in path]
    assert 1 < len(pieces) <= 2 * 4 + 2 and all(asked is not None for asked in pieces)
    assert not any("/views/" in path for path, _ in source.asked)


@pytest.mark.parametrize(
    ("other", "factor", "status", "verdict"),
    [(KEY, 1.0, 0, "same"), ("b0" * 16, 1.0, 0, "rounding"), ("b0" * 16, 1.02, Exit.FAILED, "different")],
)
def test_the_status_says_whether_they_agree(
    here: Path, tmp_path: Path, other: str, factor: float, status: int, verdict: str
) -> None:
    publish(ZarrStore(tmp_path / "there"), other, factor)
    with lab_source(tmp_path / "there") as source:
        code, found = diff(here, source, other)
        assert (code, found["verdict"], found["right"]) == (status, verdict, other)
        assert any("/embeddings/" in path for path, _ in source.asked) == (verdict != "same")


def test_both_sides_may_be_services(here: Path, source: LabSource) -> None:
    """Ours is asked for its files too, with the token of whoever asks."""
    with lab_source(here) as ours, Client(ours.url, token="mine") as client:
        ours.under, ours.token = "/api/v1/store", "mine"
        arguments = ["features", "diff", KEY, "--from", source.url, "--rows", "256", "--json"]
        done = CliRunner().invoke(app, arguments, obj=Shell(client))
        assert done.exit_code == 0, done.output
        assert json.loads(done.stdout)["verdict"] == "rounding"
        assert all(path.startswith("/api/v1/store/") for path, _ in ours.asked)


def test_the_token_of_the_source_is_that_of_a_pull(
    here: Path, source: LabSource, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source.token = "theirs"
    assert diff(here, source)[0] == Exit.REFUSED
    tokens = tmp_path / "tokens.json"
    tokens.write_text(json.dumps({f"127.0.0.1:{source.port}": "theirs"}))
    monkeypatch.setenv("VLGLAB_PULL_TOKENS", str(tokens))
    settings.cache_clear()
    assert diff(here, source)[0] == 0


def said(here: Path, source: LabSource, more: str = "") -> str:
    """What a comparison that cannot be made says."""
    with pytest.raises(VlglabError) as caught:
        remote_stores.compare_with(here, source.url, (KEY, more or KEY), Sources(("127.0.0.1",)), rows=256)
    return f"{caught.value.code}: {caught.value}"


def test_what_cannot_be_done_is_refused_in_words(here: Path, source: LabSource) -> None:
    source.ranges = False
    assert said(here, source).startswith("source_refused") and "pull" in said(here, source)
    source.ranges = True
    source.redirect = "http://elsewhere.example.org/"
    assert "source_refused" in said(here, source) and "elsewhere.example.org" in said(here, source)
    source.redirect = None
    assert said(here, source, "ee" * 16).startswith("not_found")
    source.token = "theirs"
    assert "VLGLAB_PULL_TOKENS" in said(here, source)
    source.token = None
    source.problems = {"/embeddings/c/0/0": ("store_corrupt", "its part is gone")}
    assert said(here, source).startswith("store_corrupt: its part is gone")


def test_a_host_that_is_not_allowed_is_not_reached(
    here: Path, source: LabSource, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VLGLAB_PULL_HOSTS", '["lab.example.org"]')
    settings.cache_clear()
    assert diff(here, source) == (Exit.USAGE, None)
    assert source.asked == []


def test_a_source_that_does_not_answer_is_said_to_be_away(here: Path, tmp_path: Path) -> None:
    with lab_source(tmp_path) as source:
        pass
    assert said(here, source).startswith("source_unreachable")


def test_no_more_is_read_than_a_comparison_may(here: Path, source: LabSource, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote_stores, "MOST_BYTES", 10_000)
    assert "--rows" in said(here, source)
    assert sum(1 for path, _ in source.asked if "/c/" in path) == 0


@pytest.mark.parametrize("lie", ["another key", "a part's key", "a page", "longer"])
def test_a_source_that_lies_is_refused(
    here: Path, source: LabSource, monkeypatch: pytest.MonkeyPatch, lie: str
) -> None:
    store = ZarrStore(source.root)
    path, manifest = store.artifact_path(KEY), store.manifest(KEY)
    assert manifest is not None
    if lie == "another key":
        path.write_bytes(encode_artifact(replace(manifest, key="ff" * 16)))
    elif lie == "a part's key":
        parts = tuple(replace(part, key="../../../../etc") for part in manifest.parts)
        path.write_bytes(encode_artifact(replace(manifest, parts=parts)))
    elif lie == "a page":
        path.write_text("<html>log in</html>")
    else:
        monkeypatch.setattr(remote_stores, "MOST_MANIFEST_BYTES", 100)
    expected = "not_found" if lie == "a page" else "store_corrupt"
    assert said(here, source).startswith(expected)
    assert not any("etc" in asked for asked, _ in source.asked)


@pytest.mark.parametrize(
    "lie",
    [
        {"spec": [1]},
        {"attributes": "none"},
        {"inputs": {"scenes": 1}},
        {"scene": ["room_a"]},
        {"digest": 3},
        {"key": 3},
        {"points": float("inf")},
    ],
    ids=lambda lie: next(iter(lie)),
)
def test_a_manifest_of_other_types_is_refused(here: Path, source: LabSource, lie: dict[str, Any]) -> None:
    path = ZarrStore(source.root).artifact_path(KEY)
    document = json.loads(path.read_text())
    (document if lie.keys() <= {"spec", "attributes", "inputs"} else document["parts"][0]).update(lie)
    path.write_text(json.dumps(document))
    assert said(here, source).startswith("store_corrupt")


@pytest.mark.parametrize("index", [np.zeros(ROWS, np.int64), np.arange(ROWS + 1)], ids=["one point", "a row more"])
def test_rows_that_are_of_no_point_are_not_compared(
    here: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, index: np.ndarray[Any, Any]
) -> None:
    with monkeypatch.context() as unchecked:
        unchecked.setattr(admission, "check_complete", lambda *_: None)
        unchecked.setattr(np, "arange", lambda _: index)
        publish(ZarrStore(tmp_path / "there"), factor=1.02)
    with lab_source(tmp_path / "there") as source:
        assert said(here, source).startswith("store_corrupt")


def test_what_another_lab_wrote_commands_no_terminal(here: Path, source: LabSource) -> None:
    path = ZarrStore(source.root).artifact_path(KEY)
    document = json.loads(path.read_text())
    document["attributes"]["colour"] = "\x1b[31mred"
    path.write_text(json.dumps(document))
    _, out = vlglab(FakeApi({}), "features", "diff", KEY, "--from", source.url, "--store", str(here), "--rows", "256")
    assert "\\x1b[31mred" in out and "\x1b" not in out


@pytest.mark.parametrize(
    "arguments", [["--store", "HERE", "--store", "HERE"], ["--scenes", "0"]], ids=["two folders", "no scene"]
)
def test_options_that_say_nothing_together(here: Path, source: LabSource, arguments: list[str]) -> None:
    given = [str(here) if word == "HERE" else word for word in arguments]
    code, _ = vlglab(FakeApi({}), "features", "diff", KEY, "--from", source.url, *given)
    assert code == Exit.USAGE
