"""docker-compose.yml and its Dockerfile against the code: no Docker engine runs here, so the files are read.

`faults` lists what does not fit; a unit at the end changes one thing at a time and sees that it is found.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, field, replace
from fnmatch import fnmatch
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import yaml

from service.client import DEFAULT_URL
from storage.settings import Settings
from tests.fixtures.postgres import find_binaries

ROOT = Path(__file__).resolve().parents[2]
FIELDS = frozenset(f"VLGLAB_{name.upper()}" for name in Settings.model_fields)
CLIENT = frozenset({"VLGLAB_API_TOKEN", "VLGLAB_URL"})
SECRET = re.compile(r"PASSWORD|SECRET|TOKEN|KEY")
GIVEN = re.compile(r"\$\{(\w+)(:-|:\?)?([^}]*)\}")


@dataclass(frozen=True)
class Stage:
    """One image of a Dockerfile, with what it takes over from the one that it is made from."""

    name: str
    env: Mapping[str, str] = field(default_factory=dict)
    args: frozenset[str] = frozenset()
    copied: tuple[str, ...] = ()
    runs: tuple[str, ...] = ()
    workdir: str = ""
    volumes: tuple[str, ...] = ()
    ports: tuple[int, ...] = ()
    user: str = ""
    command: tuple[str, ...] = ()


@dataclass(frozen=True)
class Files:
    """What is read."""

    compose: dict[str, Any]
    dockerfile: str
    fields: frozenset[str] = FIELDS
    extras: frozenset[str] = frozenset()
    docs: str = ""

    @property
    def stages(self) -> dict[str, Stage]:
        """Name -> image."""
        found: dict[str, Stage] = {}
        stage = Stage("")
        text = "\n".join(line for line in self.dockerfile.splitlines() if not line.startswith("#"))
        for line in text.replace("\\\n", " ").splitlines():
            verb, _, rest = line.strip().partition(" ")
            rest = rest.strip()
            if verb == "FROM":
                words = rest.split()
                stage = replace(found.get(words[0], Stage("")), name=words[2])
            elif verb == "ENV":
                stage = replace(stage, env={**stage.env, **dict(pair.split("=", 1) for pair in shlex.split(rest))})
            elif verb == "ARG":
                stage = replace(stage, args=stage.args | {rest.partition("=")[0]})
            elif verb == "COPY":
                stage = replace(stage, copied=(*stage.copied, *rest.split()[:-1]))
            elif verb == "RUN":
                stage = replace(stage, runs=(*stage.runs, rest))
            elif verb == "WORKDIR":
                stage = replace(stage, workdir=rest)
            elif verb == "VOLUME":
                stage = replace(stage, volumes=(*stage.volumes, rest))
            elif verb == "EXPOSE":
                stage = replace(stage, ports=(*stage.ports, int(rest)))
            elif verb == "USER":
                stage = replace(stage, user=rest)
            elif verb == "CMD":
                stage = replace(stage, command=tuple(json.loads(rest)))
            elif verb:
                raise AssertionError(f"the Dockerfile has {verb!r}, which this test does not read")
            found[stage.name] = stage
        return found

    @property
    def ours(self) -> dict[str, dict[str, Any]]:
        """The services that are built from the Dockerfile."""
        return {name: one for name, one in self.compose["services"].items() if "build" in one}


def read() -> Files:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    return Files(
        yaml.safe_load((ROOT / "docker-compose.yml").read_text()),
        (ROOT / "Dockerfile").read_text(),
        extras=frozenset(project["optional-dependencies"]),
        docs=(ROOT / "docs" / "operating.md").read_text(),
    )


def faults(files: Files) -> list[str]:
    """What in the files does not fit the code, a sentence each."""
    return [fault for look in (_variables, _ports, _paths, _builds, _secrets, _health) for fault in look(files)]


def _variables(files: Files) -> list[str]:
    """Every VLGLAB_ variable is a setting that takes its value; what the caller's environment gives is documented."""
    found = []
    for name, values in [*((s, one.env) for s, one in files.stages.items()), *_environments(files)]:
        unknown = {key for key in values if key.startswith("VLGLAB_")} - files.fields - CLIENT
        found += [f"{name}: {key} is no setting" for key in sorted(unknown)]
        known = {k.removeprefix("VLGLAB_").lower(): v for k, v in values.items() if k in files.fields}
        try:
            Settings(**{k: json.loads(v) if v.startswith("[") else v for k, v in known.items()})  # type: ignore[arg-type]
        except ValueError as error:
            found.append(f"{name}: its settings cannot be read: {error}")
    given = {match[0] for match in GIVEN.findall(json.dumps(files.compose))}
    found += [f"docs/operating.md does not say what {name} is" for name in sorted(given) if name not in files.docs]
    return found


def _ports(files: Files) -> list[str]:
    """The port that the service listens on is the one that is published, exposed, asked and the settings' own."""
    service = files.compose["services"]["service"]
    command = service["command"]
    listens = int(command[command.index("--port") + 1])
    published = [int(one.rsplit(":", 1)[1]) for one in service["ports"]]
    others = {
        "published": published,
        "exposed": list(files.stages["service"].ports),
        "the settings' own": [Settings().port],
        "the client's own": [urlsplit(DEFAULT_URL).port],
    }
    found = [
        f"the port {got} is {what}, and {listens} is listened on" for what, got in others.items() if got != [listens]
    ]
    beyond = [one for one in service["ports"] if not one.startswith("127.0.0.1:")]
    return found + [f"the port {one} is open to other machines without TLS" for one in beyond]


def _paths(files: Files) -> list[str]:
    """What is copied exists; where things are mounted is where the settings and the image look for them."""
    found = []
    ignored = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if line and not line.startswith("#")]
    for name, stage in files.stages.items():
        for source in stage.copied:
            if source != "./" and not (ROOT / source).exists():
                found.append(f"{name}: {source} is copied and does not exist")
            found += [f"{name}: {source} is copied and ignored" for pattern in ignored if fnmatch(source, pattern)]
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    packages = [p.rstrip("*") for p in project["tool"]["setuptools"]["packages"]["find"]["include"]]
    needed = {
        *packages,
        "pyproject.toml",
        "constraints.txt",
        project["project"]["readme"],
        *project["project"]["license-files"],
    }
    for name, service in files.ours.items():
        stage = files.stages.get(service["build"]["target"], Stage(""))
        home = stage.env.get("VLGLAB_HOME")
        found += [f"{name}: {source} is not copied" for source in sorted(needed - set(stage.copied))]
        mounts = {one.split(":")[1]: one.split(":")[0] for one in service["volumes"]}
        values = service["environment"]
        if stage.workdir != home or home not in stage.volumes or home not in mounts:
            found.append(f"{name}: VLGLAB_HOME is {home}; WORKDIR, VOLUME and a mount are to be the same")
        if not any(f"chown {stage.user} {home}" in run for run in stage.runs):
            found.append(f"{name}: {home} does not belong to the user {stage.user!r}")
        looked_at = [*json.loads(values.get("VLGLAB_DATASET_ROOTS", "[]")), values.get("VLGLAB_WEIGHTS", home)]
        found += [f"{name}: nothing is mounted at {path}" for path in looked_at if path not in mounts]
        token = values.get("VLGLAB_FIRST_TOKEN")
        if token is not None and not token.startswith(f"{home}/"):
            found.append(f"{name}: the first token lies outside {home}")
        named = {source for source in mounts.values() if not source.startswith(".")}
        found += [f"{name}: {one} is no volume" for one in sorted(named - set(files.compose["volumes"]))]
    shared = {mounts["volumes"][0] for mounts in files.ours.values()}
    return found + ([] if len(shared) == 1 else ["the services do not share one home"])


def _builds(files: Files) -> list[str]:
    """Images are stages that install extras that there are; the host's has those of its encoders, and GPUs."""
    found = []
    for name, service in files.ours.items():
        build = service["build"]
        if build["target"] not in files.stages:
            return [f"{name}: the Dockerfile has no image {build['target']}"]
        stage = files.stages[build["target"]]
        found += [f"{name}: the image takes no {arg}" for arg in build.get("args", {}) if arg not in stage.args]
        installed = {e for run in stage.runs for text in re.findall(r'"\.\[([^]]*)]"', run) for e in text.split(",")}
        found += [f"{name}: {extra} is no extra" for extra in sorted(installed - files.extras)]
        wanted = {"postgres"} | ({"openseg-gpu", "text"} if name == "host" else set())
        found += [f"{name}: the extra {extra} is not installed" for extra in sorted(wanted - installed)]
        if any("+cpu" in run for run in stage.runs) or not any("-c constraints.txt" in run for run in stage.runs):
            found.append(f"{name}: torch is not the one that constraints.txt pins")
    devices = files.compose["services"]["host"].get("deploy", {}).get("resources", {}).get("reservations", {})
    if not any({"gpu", "utility"} <= set(device["capabilities"]) for device in devices.get("devices", [])):
        found.append("host: no GPU is reserved, or nvidia-smi (`utility`) is not there to find it")
    return found


def _secrets(files: Files) -> list[str]:
    """A secret comes from the caller's environment, which must have it; none stands in a file or in an URL."""
    found = []
    for name, values in _environments(files):
        for key, value in values.items():
            given = GIVEN.fullmatch(value)
            if SECRET.search(key) and not value.startswith("/") and (given is None or given.group(2) != ":?"):
                found.append(f"{name}: {key} stands in the file, or has a default")
            if re.search(r"://[^/@:]*:[^@]*@", value):
                found.append(f"{name}: {key} has a password in its URL")
    baked = [key for stage in files.stages.values() for key in (*stage.env, *stage.args) if SECRET.search(key)]
    return found + [f"the Dockerfile bakes {key} in" for key in baked]


def _health(files: Files) -> list[str]:
    """Every service has a health check that is a command, and is waited for by those that need it."""
    found = []
    for name, service in files.compose["services"].items():
        if service.get("healthcheck", {}).get("test", [""])[0] != "CMD":
            found.append(f"{name}: no health check")
        for needed, how in service.get("depends_on", {}).items():
            if needed not in files.compose["services"] or how != {"condition": "service_healthy"}:
                found.append(f"{name}: does not wait until {needed} is healthy")
    return found


def _environments(files: Files) -> list[tuple[str, dict[str, str]]]:
    return [(name, one.get("environment", {})) for name, one in files.compose["services"].items()]


def commands(files: Files) -> list[tuple[str, ...]]:
    """Every command that the files name."""
    services = files.compose["services"].values()
    named = [tuple(one["command"]) for one in services if "command" in one]
    named += [tuple(one["healthcheck"]["test"][1:]) for one in services]
    return sorted({*named, *(stage.command for stage in files.stages.values() if stage.command)})


def tried(command: Sequence[str], home: Path) -> subprocess.CompletedProcess[str]:
    """Runs a command with --help; one that only checks as it is."""
    program, *rest = command
    if program == "vlglab":
        words = [sys.executable, "-m", "service.cli.entry", *rest, "--help"]
    elif program == "python":
        words = [sys.executable, *rest, *([] if "--check" in rest else ["--help"])]
    else:
        binaries = find_binaries()
        if binaries is None:
            pytest.skip(f"PostgreSQL is not installed, so there is no {program} to run")
        words = [str(binaries / program), "--help"]  # which it takes alone
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "VLGLAB_HOME": str(home)}
    return subprocess.run(words, env=environment, capture_output=True, text=True, timeout=120, check=False)


def test_the_files_fit_the_code() -> None:
    assert faults(read()) == []


@pytest.mark.parametrize("command", commands(read()), ids=" ".join)
def test_the_commands_that_the_files_name_run(command: tuple[str, ...], tmp_path: Path) -> None:
    done = tried(command, tmp_path)
    if "--check" in command:
        assert done.returncode in (1, 2), "no host beats here, and it says so"
        assert "usage" not in done.stderr
    else:
        assert done.returncode == 0, done.stderr
        assert all(word in done.stdout for word in command if word.startswith("--"))


@pytest.mark.parametrize(
    "command",
    [("vlglab", "serve", "--no-hosts"), ("vlglab", "helth"), ("python", "-m", "workers", "hosts")],
    ids=" ".join,
)
def test_a_command_that_there_is_not_is_found(command: tuple[str, ...], tmp_path: Path) -> None:
    assert tried(command, tmp_path).returncode != 0


def changed(path: str, value: Any) -> Callable[[Files], Files]:
    """The files with another value, or none (None), at a path such as services.host.command."""

    def change(files: Files) -> Files:
        compose = deepcopy(files.compose)
        *parents, last = path.split(".")
        place = compose
        for parent in parents:
            place = place[parent]
        if value is None:
            del place[last]
        else:
            place[last] = value
        return replace(files, compose=compose)

    return change


def rewritten(old: str, new: str) -> Callable[[Files], Files]:
    """The files with another text in the Dockerfile."""

    def change(files: Files) -> Files:
        assert old in files.dockerfile
        return replace(files, dockerfile=files.dockerfile.replace(old, new))

    return change


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda files: replace(files, fields=files.fields - {"VLGLAB_FIRST_TOKEN"}), "FIRST_TOKEN is no setting"),
        (lambda files: replace(files, fields=files.fields - {"VLGLAB_HOME"}), "VLGLAB_HOME is no setting"),
        (lambda files: replace(files, extras=files.extras - {"text"}), "text is no extra"),
        (lambda files: replace(files, docs=""), "docs/operating.md does not say what VLGLAB_DB_PASSWORD is"),
        (changed("services.service.environment.VLGLAB_SLOTS", "many"), "cannot be read"),
        (changed("services.service.environment.VLGLAB_ROOTS", "[]"), "VLGLAB_ROOTS is no setting"),
        (changed("services.service.ports", ["127.0.0.1:8765:8766"]), "[8766] is published"),
        (changed("services.service.ports", ["8765:8765"]), "open to other machines"),
        (rewritten("EXPOSE 8765", "EXPOSE 80"), "[80] is exposed"),
        (changed("services.host.volumes", ["lab:/lab", "./datasets:/datasets", "./weights:/weights"]), "VLGLAB_HOME"),
        (changed("services.host.environment.VLGLAB_WEIGHTS", "/models"), "nothing is mounted at /models"),
        (changed("volumes", {"database": None}), "lab is no volume"),
        (rewritten("COPY storage storage", "COPY stores stores"), "stores is copied and does not exist"),
        (rewritten("COPY migrations migrations\n", ""), "migrations is not copied"),
        (rewritten("WORKDIR /var/lib/vlglab", "WORKDIR /srv"), "WORKDIR"),
        (rewritten("openseg-gpu,postgres,text", "postgres"), "the extra openseg-gpu is not installed"),
        (changed("services.host.build.target", "gpu"), "no image gpu"),
        (changed("services.host.deploy", None), "no GPU is reserved"),
        (changed("services.host.healthcheck", None), "host: no health check"),
        (changed("services.host.depends_on", {"api": {"condition": "service_healthy"}}), "does not wait until api"),
        (changed("services.database.environment.POSTGRES_PASSWORD", "${VLGLAB_DB_PASSWORD:-vlglab}"), "has a default"),
        (changed("services.database.environment.POSTGRES_PASSWORD", "vlglab"), "stands in the file"),
        (changed("services.host.environment.VLGLAB_DATABASE_URL", "postgresql://a:b@c/d"), "a password in its URL"),
        (rewritten("ENV PYTHONUNBUFFERED=1", "ENV PGPASSWORD=x"), "bakes PGPASSWORD in"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_found(change: Callable[[Files], Files], said: str) -> None:
    assert any(said in fault for fault in faults(change(read()))), faults(change(read()))
