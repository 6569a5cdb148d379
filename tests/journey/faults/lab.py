"""A lab in processes of its own, for the fault test: what runs in it, what it is asked for, and what stands in it."""

from __future__ import annotations

import contextlib
import itertools
import random
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from sqlalchemy import select

from migrations.upgrade import upgrade
from service import schemas
from service.client import Client
from storage.artifacts.zarr_store import ZarrStore
from storage.errors import DatabaseError, ServiceUnreachable
from storage.labels import label_set
from storage.records.database import Database
from storage.records.states import FINAL
from storage.records.tables import ArtifactTableRow, AttemptRow, RunRow
from tests.fixtures.postgres import find_binaries, free_port, make_cluster, new_database
from tests.fixtures.waiting import wait_until
from tests.journey.conftest import TINY_ROOMS
from tests.journey.faults.processes import PAUSES, ROOT, Process, end_all, host, kill, service, start_until

T = TypeVar("T")
CLAIMING, RUNNING, STAGING, COMMITTING = "claiming", "running", "staging", "between rename and commit"
STATES = (CLAIMING, RUNNING, STAGING, COMMITTING)
STORE_BYTES = 256 << 20
"""Size of the disk that the store gets, where it gets one of its own."""
LEASE_S = 5.0
WAIT_S = 180.0
TINY = {"name": "tiny", "kind": "synthrooms", "label_set": "s3dis13", "options": TINY_ROOMS | {"points": 1500}}


@dataclass
class Lab:
    """Everything of one fault test."""

    folder: Path
    chance: random.Random
    variables: dict[str, str]
    database: Process | None
    control: Process
    db: Database
    own_disk: bool
    """Whether the store lies on a small disk of its own, that can be filled."""
    workers: Process
    url: str
    waves: Iterator[int] = field(default_factory=itertools.count)

    @property
    def store(self) -> ZarrStore:
        return ZarrStore(self.folder / "store")

    # ---- work

    def top_up(self, waves: int = 2) -> None:
        """Sees to it that there is work: submits experiments until this many waves wait or run."""
        live = [run for run in self.attempts_and_runs()[1] if run.state not in FINAL]
        for _ in range(max(0, waves - len(live) // 4)):
            self.submit()

    def submit(self) -> None:
        """Submits one wave: six real stages over three small rooms, none of which was computed before."""
        number = next(self.waves)
        words = list(label_set("s3dis13").classes)
        self.chance.shuffle(words)
        scenes, truth = _output("ingest", "scenes"), _output("ingest", "ground_truth")
        embeddings, labels = _output("extract", "embeddings"), _output("pseudo_label", "labels")
        text = _output("embed_labels", "text_embeddings")
        optimiser = {"learning_rate": 0.003, "epochs": 1, "batch_size": 2, "schedule": {"kind": "step"}}
        lifting = {"width": 160, "height": 120, "depth_tolerance": 0.25, "border_px": 4}
        runs = [
            _run("ingest", {"label_set": "s3dis13", "fusion": {"voxel_m": 0.05 + number * 1e-5}}, dataset="tiny"),
            _run("embed_labels", {"label_set": "s3dis13", "class_names": words}),
            _run("extract", {"lifting": lifting}, {"scenes": scenes}, dataset="tiny"),
            _run(
                "pseudo_label",
                {"splits": ["train", "test"], "filtering": False},
                {"scenes": scenes, "embeddings": embeddings, "text_embeddings": text},
            ),
            _run(
                "specialize",
                {"optimiser": optimiser, "points_per_scene": 200, "seed": number},
                {"embeddings": embeddings, "labels": labels, "text_embeddings": text},
            ),
            _run("evaluate", {}, {"scenes": scenes, "ground_truth": truth, "predictions.ours": labels}),
        ]
        body = schemas.RunListRequest(name=f"wave {number}", runs=runs)
        self.ask(lambda client: client.submit(body, idempotency_key=f"wave-{number}"))

    def ask(self, question: Callable[[Client], T]) -> T:
        """Asks the service, again while it does not answer."""
        answers: list[T] = []

        def asked() -> bool:
            with contextlib.suppress(ServiceUnreachable, DatabaseError), Client(self.url) as client:
                answers.append(question(client))
            return bool(answers)

        wait_until(asked, WAIT_S)
        return answers[0]

    # ---- what stands in the records and in the store

    def attempts_and_runs(self) -> tuple[list[AttemptRow], list[RunRow]]:
        """Every attempt and every run, once the database answers."""
        found: list[tuple[list[AttemptRow], list[RunRow]]] = []

        def look() -> bool:
            with contextlib.suppress(DatabaseError), self.db.read() as session:
                attempts = list(session.scalars(select(AttemptRow).order_by(AttemptRow.claimed_at)))
                found.append((attempts, list(session.scalars(select(RunRow).order_by(RunRow.id)))))
            return bool(found)

        wait_until(look, WAIT_S)
        return found[0]

    def recorded(self) -> dict[str, ArtifactTableRow]:
        """Key -> row of every artifact that is visible."""
        with self.db.read() as session:
            return {row.key: row for row in session.scalars(select(ArtifactTableRow))}

    def living(self) -> list[AttemptRow]:
        """The attempts that hold a run now."""
        return [attempt for attempt in self.attempts_and_runs()[0] if attempt.state == "running"]

    def state_of(self, attempt: AttemptRow) -> str:
        """Where an attempt stands, read off the records and the store."""
        if attempt.pid is None:
            return CLAIMING
        if set(self.store.artifacts()) - set(self.recorded()) and not self.staged(attempt):
            return COMMITTING
        return STAGING if self.staged(attempt) else RUNNING

    def staged(self, attempt: AttemptRow) -> bool:
        """Whether it has something staged."""
        return attempt.token in self.store.staged()

    # ---- faults

    def reach(self, point: str) -> int:
        """Waits until a process stands at a point; returns its id. It stands there until `go_on`."""
        self.top_up()
        (self.folder / "pauses" / "armed" / point).touch()
        found: list[int] = []

        def there() -> bool:
            self.revive()
            found.extend(int(path.name.rsplit("@", 1)[1]) for path in self.reached())
            return bool(found)

        wait_until(there, WAIT_S)
        return found[0]

    def reached(self) -> list[Path]:
        return list((self.folder / "pauses" / "reached").iterdir())

    def go_on(self) -> None:
        """Lets every process that waits at a point go on."""
        for path in self.reached():
            path.unlink(missing_ok=True)

    def revive(self) -> None:
        """Starts again what was killed."""
        if self.database is not None and self.database.ended():
            start_until(self.database, self._database_answers)
        for process in (self.control, self.workers):
            if process.ended():
                process.start()

    def fill_disk(self) -> Callable[[], None]:
        """Fills the store's disk; returns what frees it. Without a disk of its own, writing an array fails as if."""
        filler = self.folder / ("store/filler" if self.own_disk else "pauses/full")
        with filler.open("wb") as file, contextlib.suppress(OSError):
            while self.own_disk:
                file.write(bytes(1 << 20))
                file.flush()
        return lambda: filler.unlink()

    def _database_answers(self) -> bool:
        try:
            self.db.now()
        except DatabaseError:
            return False
        return True


def _output(run: str, output: str) -> schemas.InputRequest:
    return schemas.InputRequest(run=run, output=output)


def _run(
    stage: str,
    spec: dict[str, object],
    inputs: dict[str, schemas.InputRequest] | None = None,
    dataset: str | None = None,
) -> schemas.RunRequest:
    return schemas.RunRequest(name=stage, spec={"stage": stage, **spec}, inputs=inputs or {}, dataset=dataset)


@contextlib.contextmanager
def lab(kind: str, chance: random.Random) -> Iterator[Lab]:
    """A lab on SQLite or PostgreSQL, in a folder of its own; nothing of it is left afterwards."""
    folder = Path(tempfile.mkdtemp(prefix="vlglab-faults-", dir="/tmp"))
    for name in ("home", "store", "pauses/armed", "pauses/reached"):
        (folder / name).mkdir(parents=True)
    own_disk = _mount(folder / "store")
    database, url = _postgres(folder) if kind == "postgres" else (None, f"sqlite:///{folder / 'home' / 'vlglab.db'}")
    opened = _lab(folder, chance, url, database, own_disk)
    try:
        upgrade(url)
        opened.revive()
        opened.ask(lambda client: client.add_dataset(schemas.DatasetRequest(**TINY)))
        yield opened
    finally:
        end_all(folder / "pauses")
        opened.db.close()
        for process in filter(None, (opened.control, opened.workers, database)):
            process.kill(children=True)
        if own_disk:
            subprocess.run(["umount", str(folder / "store")], check=True)
        shutil.rmtree(folder, ignore_errors=True)


def _lab(folder: Path, chance: random.Random, url: str, database: Process | None, own_disk: bool) -> Lab:
    """The lab with its control plane and its host, which have not been started."""
    port = free_port()
    variables = {
        "VLGLAB_HOME": str(folder / "home"),
        "VLGLAB_STORE_URL": f"file://{folder / 'store'}",
        "VLGLAB_DATABASE_URL": url,
        "VLGLAB_THREADS": "1",
        "VLGLAB_SLOTS": "2",
        "VLGLAB_GPUS": "",
        "VLGLAB_LEASE_S": str(LEASE_S),
        "VLGLAB_HEARTBEAT_S": "0.5",
        "VLGLAB_MAX_ATTEMPTS": "1000",
        "FAULTS_FOLDER": str(folder / "pauses"),
        "PYTHONPATH": f"{PAUSES}:{ROOT}",
        "PYTHONUNBUFFERED": "1",
    }
    return Lab(
        folder, chance, variables, database, service(folder / "home", port, variables), Database.open(url), own_disk,
        host(folder / "home", variables), f"http://127.0.0.1:{port}",
    )  # fmt: skip


def _mount(folder: Path) -> bool:
    """Puts a small disk of its own under a folder; False where this user may not."""
    size = f"size={STORE_BYTES}"
    return subprocess.run(["mount", "-t", "tmpfs", "-o", size, "tmpfs", str(folder)], check=False).returncode == 0


def _postgres(folder: Path) -> tuple[Process, str]:
    """A PostgreSQL server of the lab's own, and the URL of an empty database."""
    import psycopg

    binaries = find_binaries()
    assert binaries is not None
    data = folder / "postgres"
    data.mkdir()
    folder.chmod(0o755)
    command, account, port = make_cluster(binaries, data)
    (folder / "postgres.log").touch()
    process = Process(command, folder / "postgres.log", {}, account)
    server = f"postgresql://vlglab@127.0.0.1:{port}/"

    def answers() -> bool:
        try:
            psycopg.connect(f"{server}postgres", connect_timeout=5).close()
        except psycopg.OperationalError:
            return False
        return True

    start_until(process, answers)
    return process, new_database(server)


def stop(pid: int) -> None:
    """Holds a process as it is, heartbeat and all."""
    kill(pid, signal.SIGSTOP)


def resume(pid: int) -> None:
    """Lets a held process go on."""
    kill(pid, signal.SIGCONT)
