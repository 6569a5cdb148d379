"""The demo: a service of its own, one experiment over HTTP, and what came of it. Speaks only HTTP to the service."""

from __future__ import annotations

import json
import re
import shlex
import signal
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from rich.console import Console

from service import schemas
from service.cli import run_table, scores
from service.cli.local_service import LocalService
from service.cli.scripting import Exit, show_json
from service.cli.watching import follow, runs_of
from service.client import Client
from storage.errors import DatasetInvalid, InvalidInput

RECIPE = "3dss-vlg"
LOG_LINES = 25
"""Lines of a failed run's log that are shown."""


@dataclass(frozen=True)
class DemoOptions:
    """What the demo is run on, and where."""

    home: Path | None = None
    """None makes a new one under ~/.vlglab."""
    data: Path | None = None
    """A folder of posed RGB-D frames; None takes SynthRooms offices."""
    label_set: str = "scannet20"
    """The label set of `data`."""
    seed: int = 0
    overrides: dict[str, object] = field(default_factory=dict)
    keep_serving: bool = False
    as_json: bool = False
    """Print the experiment and its scores as JSON; what people read goes to the console all the same."""


def run_demo(options: DemoOptions, console: Console) -> int:
    """Runs the demo and returns its exit status: 0 only where every run succeeded or was cached, 130 where stopped."""
    home = _home(options)
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _interrupt)
    try:
        return _run(options, home, console)
    except KeyboardInterrupt:
        _fact(
            console, "\nStopped", f"what was computed stays in {home}; --home {shlex.quote(str(home))} goes on from it"
        )
        return Exit.INTERRUPTED


def _run(options: DemoOptions, home: Path, console: Console) -> int:
    """The demo, in its home."""
    began = time.monotonic()
    dataset = dataset_request(options)
    roots = [] if options.data is None else [options.data.resolve()]
    with LocalService(home, roots) as service, service.client() as client:
        _fact(console, "Service", f"{service.url} (its documentation: {service.url}/docs)")
        _fact(console, "Home", str(home))
        client.add_dataset(dataset)
        experiment = client.submit(experiment_request(options, dataset.name))
        what = "SynthRooms offices" if options.data is None else f"the capture {options.data}"
        _fact(console, "Running", f"{RECIPE} on {what}, experiment {experiment.id}\n")

        def fetch() -> Sequence[schemas.Run]:
            service.check()
            service.check_hosts(client)
            return runs_of(client, experiment.id)

        runs = follow(fetch, console)
        if options.as_json:
            scored = client.experiment_evaluations(experiment.id)
            show_json({"home": str(home), "experiment": client.experiment(experiment.id), "evaluations": scored})
        if any(run.state not in run_table.GOOD for run in runs):
            show_failures(console, client, runs)
            _fact(console, "\nHome", f"{home} (--home {shlex.quote(str(home))} goes on from what is there)")
            return Exit.FAILED
        show_results(console, client, experiment.id, runs, home)
        show_costs(console, list(client.hosts(alive=True)), time.monotonic() - began)
        allowed = [f"VLGLAB_DATASET_ROOTS={shlex.quote(json.dumps([str(root) for root in roots]))}"] if roots else []
        words = [f"VLGLAB_HOME={shlex.quote(str(home))}", *allowed, shlex.quote(_shown_command()), "serve"]
        _fact(console, "Serve again", " ".join(words))
        if options.keep_serving:
            _fact(console, "Serving", f"at {service.url} until Ctrl-C")
            service.wait()
    return 0


def experiment_request(options: DemoOptions, dataset: str) -> schemas.ExperimentRequest:
    """What the demo submits."""
    return schemas.ExperimentRequest(
        recipe=RECIPE,
        preset="demo" if options.data is None else "demo-capture",
        dataset=dataset,
        overrides=options.overrides,
        seed=options.seed,
        name="demo",
    )


def dataset_request(options: DemoOptions) -> schemas.DatasetRequest:
    """What the demo registers.

    Raises:
        DatasetInvalid: `data` is no folder.
    """
    if options.data is None:
        return schemas.DatasetRequest(name="offices", kind="synthrooms", path=None, label_set="s3dis13", options={})
    if not options.data.is_dir():
        raise DatasetInvalid(f"got --data {options.data}, which is no folder; give one with color, depth and pose")
    name = re.sub(r"[^a-z0-9-]+", "-", options.data.resolve().name.lower()).strip("-") or "capture"
    return schemas.DatasetRequest(
        name=name,
        kind="rgbd",
        path=str(options.data.resolve()),
        label_set=options.label_set,
        options={},
    )


def show_failures(console: Console, client: Client, runs: Sequence[schemas.Run]) -> None:
    """Prints why runs failed, with the end of their logs."""
    for run in runs:
        if run.state == "failed" or (run.state == "cancelled" and run.reason_code != "input_failed"):
            scene = f" (scene {run.scene})" if run.scene else ""
            console.print(f"\n{run.name} {run.state}{scene}: {run.reason}", style="bold red", markup=False)
            text, _ = client.logs(run.id)
            for line in text.splitlines()[-LOG_LINES:]:
                console.print(f"  {line}", markup=False, highlight=False, soft_wrap=True)


def show_results(console: Console, client: Client, experiment_id: str, runs: Sequence[schemas.Run], home: Path) -> None:
    """Prints the scores, fetches the picture, and says where everything lies."""
    by_name = {run.name: run for run in runs}
    evaluations = client.experiment_evaluations(experiment_id)
    console.print()
    if (statement := scores.without_scores(evaluations)) is not None:
        console.print(f"No scores: {statement}.".replace("..", "."), markup=False, soft_wrap=True)
        console.print("The network was trained on the same room that it then predicted: none was held out.")
    else:
        console.print(scores.summary_table(evaluations))
        console.print(scores.class_table(evaluations))
        console.print(
            "On the held-out rooms. All points: an uncovered point takes the class of the nearest covered one."
        )
    features = client.artifact(by_name["extract"].outputs["embeddings"])
    title = features.attributes.get("encoder_title", "the mini encoder, a stand-in")
    _fact(console, "2D model", f"{title}\n")
    files = client.run_files(by_name["report"].id)
    for file in files:
        if file.name.endswith(".png"):
            _fact(console, "Picture", str(client.download(file.artifact_key, file.name, home / "demo.png")))
            break
    clouds = [file for file in files if file.name.endswith(".ply")]
    if clouds:
        _fact(console, "Clouds", f"{Path(clouds[0].path).parent} ({len(clouds)} coloured PLY files)")
    _fact(console, "Store", str(home / "store"))
    _fact(console, "Runs", str(home / "vlglab.db"))


def show_costs(console: Console, hosts: Sequence[schemas.Host], elapsed_s: float) -> None:
    """Prints how long it took and how much memory its worker processes held together at most."""
    peak = sum(host.peak_rss_bytes for host in hosts)
    _fact(console, "Took", run_table.duration(elapsed_s))
    _fact(console, "Peak memory", f"{run_table.size(peak)}, all worker processes alive at once")


def _fact(console: Console, name: str, value: str) -> None:
    """One line of the summary; never broken, so that paths can be copied."""
    console.print(f"{name:<12} {value}", markup=False, highlight=False, soft_wrap=True)


def _home(options: DemoOptions) -> Path:
    """The demo's home, made.

    Raises:
        InvalidInput: it is a file, or cannot be made.
    """
    stamp = datetime.now().astimezone().strftime("%Y%m%d-%H%M%S")
    home = (options.home or Path("~/.vlglab") / f"demo-{stamp}").expanduser().resolve()
    try:
        home.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InvalidInput(f"got the home {home}, which cannot be made ({error}); give another with --home") from error
    return home


def _shown_command() -> str:
    """This installation's `vlglab`, relative to the working directory where it lies under it."""
    script = Path(sys.executable).with_name("vlglab")
    return str(script.relative_to(Path.cwd())) if script.is_relative_to(Path.cwd()) else str(script)


def _interrupt(*_: object) -> None:
    """SIGTERM, and the terminal's end, stop the demo as Ctrl-C does."""
    raise KeyboardInterrupt
