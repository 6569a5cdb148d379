"""Every command of the command line, found by walking it: help, --json, and errors that leave stdout alone.

A command that speaks to the service is run against one that answers every route with the example of its documentation.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
import typer
from typer.testing import CliRunner, Result

from service import examples, schemas
from service.app import create_app
from service.cli.console import Shell
from service.cli.entry import app
from service.cli.scripting import Exit, exit_of
from service.client import NEVER, Client
from storage import errors
from storage.settings import Settings, settings
from tests.service.fake_api import refusal

LOCAL = ("config", "demo", "serve", "db ")
"""Commands, or beginnings of commands, that touch this machine and ask no service that runs already."""

ELSEWHERE = {
    "tables": "tests/service/test_tables.py",
    "datasets check": "tests/service/test_commands.py",
    "runs picture": "tests/service/test_pictures.py",
    "experiments events": "tests/service/test_cli.py",
}
"""Commands that need more than examples for an answer -> where their JSON is tested."""

GIVEN = {
    "role": "reader",
    "kind": "synthrooms",
    "number": "1",
    "step": "1",
    "splits": "test",
    "state": "failed",
    "values": "loss=1",
}
"""Values of parameters for which a word of no meaning will not do."""

FILES = {"runs submit": {"spec": {"stage": "embed_labels"}}, "experiments submit-plan": examples.RUN_LIST_REQUEST}
"""Commands that read a file -> what stands in it."""

MORE = {
    "runs delete": ["--yes"],
    "experiments delete": ["--yes"],
    "features diff": ["y"],
    "features gc": ["--yes"],
    "features delete": ["--yes"],
}
"""Commands -> what else they are given: what lets them ask nothing, or an argument that they need here."""


def walk(command: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    """Every command that does something, with its name."""
    below = getattr(command, "commands", None)
    if below is None:
        yield name, command
        return
    for word, child in below.items():
        yield from walk(child, f"{name} {word}".strip())


COMMANDS = dict(walk(typer.main.get_command(app)))
SPEAKING = [name for name in COMMANDS if not name.startswith(LOCAL)]
EVERY = pytest.mark.parametrize("name", COMMANDS)


def words(name: str, folder: Path, *more: str) -> list[str]:
    """A command with a value for each parameter that it needs."""
    given = name.split()
    for parameter in COMMANDS[name].params:
        if not parameter.required:
            continue
        if parameter.name == "file":
            path = folder / "asked.json"
            path.write_text(json.dumps(FILES[name]))
            value = str(path)
        else:
            value = GIVEN.get(parameter.name, "x")
        given += [value] if parameter.param_type_name == "argument" else [parameter.opts[0], value]
    return [*given, *MORE.get(name, []), *more]


@dataclass
class Examples:
    """A service that answers every route with its example; runs in them have ended well."""

    document: dict[str, Any]

    def answer(self, request: httpx.Request) -> httpx.Response:
        for path, methods in self.document["paths"].items():
            pattern = re.sub(r"\{\w+\}", "[^/]+", path)
            if re.fullmatch(pattern, request.url.path) and request.method.lower() in methods:
                return self._answered(request, methods[request.method.lower()]["responses"])
        raise AssertionError(f"the command asks for {request.method} {request.url.path}, which there is not")

    def _answered(self, request: httpx.Request, responses: dict[str, Any]) -> httpx.Response:
        status = "201" if "201" in responses else "200"
        ((kind, content),) = responses[status]["content"].items()
        if request.url.path.endswith("/events"):  # the one list whose last page is an empty one
            known = request.url.params["cursor"] != "0"
            return httpx.Response(200, json={"items": [] if known else [examples.EVENT], "next": "99"})
        if kind == "application/json":
            kinds = content["schema"].get("anyOf", [content["schema"]])
            usual = kinds["buckets" in request.url.params]  # whole runs, not chosen fields of them
            return httpx.Response(int(status), json=ended(self._example(usual)))
        if kind == "text/event-stream":
            return httpx.Response(200, text=f"{content['example']}id: 99\nevent: end\ndata: {{}}\n\n")
        text = content["example"].encode()
        rest = text[int(request.url.params.get("offset", 0)) :]
        return httpx.Response(200, content=rest, headers={"X-Next-Offset": str(len(text))})

    def _example(self, schema: dict[str, Any]) -> Any:
        if "$ref" not in schema:
            return [self._example(schema["items"])] if schema.get("type") == "array" else None
        name = schema["$ref"].rsplit("/", 1)[1]
        extra: Any = getattr(schemas, name).model_config.get("json_schema_extra", {})
        if "examples" in extra:
            return extra["examples"][0]
        fields = self.document["components"]["schemas"][name]["properties"]
        return {field: self._example(one) for field, one in fields.items()}


def ended(document: Any) -> Any:
    """An example in which every run has succeeded."""
    if isinstance(document, dict):
        state = {"state": "succeeded"} if document.get("state") in ("running", "queued") else {}
        return {name: ended(value) for name, value in document.items()} | state
    return [ended(item) for item in document] if isinstance(document, list) else document


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Examples:
    return Examples(create_app(Settings(home=tmp_path_factory.mktemp("home"))).openapi())


def run(arguments: list[str], transport: httpx.MockTransport) -> Result:
    with Client("http://lab.test", transport=transport, retries=NEVER) as client:
        return CliRunner().invoke(app, arguments, obj=Shell(client))


@EVERY
def test_every_command_and_every_option_of_it_says_what_it_does(name: str) -> None:
    command = COMMANDS[name]
    assert command.help and command.help.strip().endswith("."), f"`vlglab {name}` does not say what it does"
    for parameter in command.params:
        assert getattr(parameter, "help", None), f"`vlglab {name}` does not say what {parameter.opts[0]} is"
    result = CliRunner().invoke(app, [*name.split(), "--help"])
    assert result.exit_code == 0
    assert result.stdout


@EVERY
def test_every_command_prints_json_when_asked(name: str) -> None:
    options = [option for parameter in COMMANDS[name].params for option in parameter.opts]
    assert "--json" in options, f"`vlglab {name}` has no --json: see service/cli/scripting.py"


@pytest.mark.parametrize("name", [name for name in SPEAKING if name not in ELSEWHERE])
def test_with_json_nothing_but_json_is_printed(name: str, lab: Examples, tmp_path: Path) -> None:
    result = run(words(name, tmp_path, "--json"), httpx.MockTransport(lab.answer))
    assert result.exit_code == 0, result.output
    try:
        document = json.loads(result.stdout)
    except json.JSONDecodeError:
        document = [json.loads(line) for line in result.stdout.splitlines()]
        assert len(document) > 0
    assert document
    if name.endswith(("list", "recipes")):
        assert isinstance(document, list), "a list is an array"


@pytest.mark.parametrize("name", ["runs watch", "experiments watch", "runs events", "runs logs"])
def test_what_follows_prints_a_json_document_a_line(name: str, lab: Examples, tmp_path: Path) -> None:
    more = ["--follow"] if "watch" not in name else []
    result = run(words(name, tmp_path, "--json", *more), httpx.MockTransport(lab.answer))
    assert result.exit_code == 0, result.output
    assert all(isinstance(json.loads(line), dict) for line in result.stdout.splitlines())
    assert result.stdout


@pytest.mark.parametrize("name", SPEAKING)
@pytest.mark.parametrize("json_too", [(), ("--json",)], ids=["for people", "for scripts"])
def test_what_a_service_refuses_is_one_line_on_stderr(name: str, json_too: tuple[str, ...], tmp_path: Path) -> None:
    refused = refusal(403, "not_permitted", "got a token of a reader, this needs an admin's")
    arguments = words(name, tmp_path, *json_too)
    result = run(arguments, httpx.MockTransport(lambda _: refused))
    assert result.exit_code == Exit.REFUSED, result.output
    assert result.stdout == ""
    assert result.stderr == "vlglab: got a token of a reader, this needs an admin's [not_permitted]\n"


@pytest.mark.parametrize("name", [name for name in COMMANDS if name.startswith(LOCAL)])
def test_what_this_machine_cannot_do_is_one_line_on_stderr(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VLGLAB_SLOTS", "many")
    monkeypatch.setenv("VLGLAB_HOME", str(tmp_path))
    settings.cache_clear()
    more = ["--set", "nonsense"] if name == "demo" else []
    result = CliRunner().invoke(app, words(name, tmp_path, "--json", *more))
    settings.cache_clear()
    assert result.exit_code == Exit.USAGE, result.output
    assert result.stdout == ""
    (line,) = result.stderr.splitlines()
    assert line.startswith("vlglab: ") and line.endswith("[invalid_input]")


def test_commands_that_are_tested_elsewhere_are_commands() -> None:
    assert set(ELSEWHERE) <= set(COMMANDS)
    assert all((Path(__file__).resolve().parents[2] / path).exists() for path in ELSEWHERE.values())


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (errors.RunCancelled("x"), Exit.CONFLICT),
        (errors.SpecInvalid("x"), Exit.USAGE),
        (errors.DatasetInvalid("x"), Exit.USAGE),
        (errors.ServiceUnreachable("x"), Exit.UNREACHABLE),
        (errors.DatabaseError("x"), Exit.UNREACHABLE),
        (errors.TokenRefused("x"), Exit.REFUSED),
        (errors.NotPermitted("x"), Exit.REFUSED),
        (errors.PathNotAllowed("x"), Exit.REFUSED),
        (errors.SourceRefused("x"), Exit.REFUSED),
        (errors.NotFound("x"), Exit.NOT_FOUND),
        (errors.UnknownClass("x"), Exit.NOT_FOUND),
        (errors.NameTaken("x"), Exit.CONFLICT),
        (errors.KeyReused("x"), Exit.CONFLICT),
        (errors.WaitedTooLong("x"), Exit.NOT_IN_TIME),
        (errors.StoreCorrupt("x"), Exit.BROKEN),
        (errors.VlglabError("x"), Exit.BROKEN),
    ],
    ids=lambda value: value.code if isinstance(value, errors.VlglabError) else value.name,
)
def test_an_error_ends_a_command_with_the_status_of_its_kind(error: errors.VlglabError, status: Exit) -> None:
    assert exit_of(error) == status


def test_asking_too_often_is_no_fault_of_the_request() -> None:
    answer = refusal(429, "too_many_requests", "got more than 200 requests a second")
    result = run(["runs", "list"], httpx.MockTransport(lambda _: answer))
    assert result.exit_code == Exit.UNREACHABLE


def test_checking_a_dataset_prints_the_reports_as_json(lab: Examples) -> None:
    report = {"scene": "a1", "split": "train", "error": None, "warnings": ["no depth"]}

    def answer(request: httpx.Request) -> httpx.Response:
        if "/files/" in request.url.path:
            return httpx.Response(200, json=[report])
        done = lab.answer(request)
        run = {**examples.RUN, "state": "succeeded", "outputs": {"inspection": "K"}}
        if "/experiments" in request.url.path:
            return httpx.Response(200, json={**examples.EXPERIMENT, "runs": [run]})
        return done

    result = run(["datasets", "check", "offices", "--json"], httpx.MockTransport(answer))
    assert result.exit_code == Exit.FAILED, "a scene is warned of"
    assert json.loads(result.stdout) == [report]
