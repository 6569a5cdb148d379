"""Where things live: the deployment's settings, from VLGLAB_* variables, read once a process.

Experiments are configured by `storage.specs`, never here.
"""

from __future__ import annotations

import ipaddress
from functools import lru_cache
from pathlib import Path

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

from storage.log_format import LogFormat

S3 = "s3://"


class Settings(BaseSettings):
    """Deployment settings; each field is the environment variable VLGLAB_<FIELD>."""

    model_config = SettingsConfigDict(env_prefix="VLGLAB_", frozen=True, extra="ignore")

    home: Path = Field(Path("~/.vlglab"), description="Everything the program writes lies under it.")
    database_url: str = Field("", description="SQLAlchemy URL; default sqlite:///HOME/vlglab.db.")
    store_url: str = Field(
        "",
        description="Where artifacts lie: file://FOLDER, default file://HOME/store, or s3://BUCKET/PREFIX (extra `s3`;"
        " endpoint and credentials in AWS_* variables).",
    )
    copies_gb: float = Field(
        100,
        ge=0,
        description="GB (10^9 bytes) that the copies of a store on object storage may take under HOME/store, on each"
        " machine; those nobody opened for longest go first, 0 keeps all.",
    )
    dataset_roots: list[Path] = Field(
        default_factory=list,
        description="JSON list of folders under which datasets may be registered; HOME/datasets is always allowed.",
    )
    weights: Path | None = Field(
        None, description="Folder with the weights of OpenSeg and of text encoders; default HOME/weights."
    )
    host: str = Field("127.0.0.1", description="Address the service listens on.")
    require_tokens: bool = Field(
        False, description="Ask for a token on loopback too; beyond loopback one is always asked for."
    )
    allow_anyone: bool = Field(
        False, description="Ask nobody for a token, wherever it listens: whoever reaches it may do everything."
    )
    first_token: Path | None = Field(
        None, description="File that `serve` writes an admin's token to where tokens are required and no admin has one."
    )
    max_body_bytes: int = Field(4 << 20, ge=1024, description="Largest body of a request, bytes.")
    requests_per_s: float = Field(
        200, ge=0, description="Requests a second that one caller may make in the long run; 0 sets no limit."
    )
    port: int = Field(8765, ge=0, le=65535, description="Port the service listens on; 0 takes a free one.")
    slots: int = Field(2, ge=1, le=64, description="Runs a worker host runs at once when it has no GPU.")
    gpus: str = Field(
        "auto", description="GPU indices of this host, such as 0,1; 'auto' looks for them, empty means none."
    )
    memory_gb: float = Field(
        0,
        ge=0,
        description="GB of memory (10^9 bytes) that runs of this host may ask for together; 0 takes the machine's.",
    )
    stages: str = Field(
        "",
        description="Stages of which a host takes runs, such as extract,verify; empty: all. Some must take the others.",
    )
    threads: int = Field(0, ge=0, description="CPU threads a run may use; 0 takes the number of cores.")
    lease_s: float = Field(
        15.0, gt=0, le=120, description="Seconds a run's lease lasts without a heartbeat; at most 120."
    )
    heartbeat_s: float = Field(1.0, gt=0, description="Seconds between a run's heartbeats.")
    tick_s: float = Field(
        0.2, gt=0, description="Seconds between two looks of the planner, or of a host, at the table."
    )
    log_format: LogFormat = Field(
        "text", description="How service, hosts and workers log on stderr: text, or json, one object a line."
    )
    max_attempts: int = Field(3, ge=1, description="Attempts a run gets when its workers are lost.")

    pull_hosts: list[str] = Field(
        default_factory=list,
        description="JSON list of hosts that artifacts may be pulled from: names, addresses, networks, as of"
        " VLGLAB_WEBHOOK_HOSTS; empty allows none.",
    )
    pull_tokens: Path | None = Field(
        None,
        description="File of the tokens that sources are shown, on every worker's machine: a JSON object, HOST:PORT ->"
        " token.",
    )

    webhook_hosts: list[str] = Field(
        default_factory=lambda: ["*"],
        description='JSON list of hosts that webhooks may reach: names, addresses, networks. "*" in a name stands for'
        " anything, and never for a private address, which must be listed.",
    )
    webhook_key: Path | None = Field(
        None, description="File of the key that webhooks are signed with, made where it is missing; HOME/webhook.key."
    )
    webhook_tries: int = Field(8, ge=1, le=20, description="How often a message to a webhook is sent at most.")
    webhook_backoff_s: float = Field(
        5.0, gt=0, description="Seconds before a message is sent again; each next pause is four times as long, to 6 h."
    )
    webhook_timeout_s: float = Field(10.0, gt=0, le=60, description="Seconds that a webhook's receiver has to answer.")

    @property
    def home_path(self) -> Path:
        """HOME, expanded and absolute."""
        return self.home.expanduser().resolve()

    @property
    def resolved_database_url(self) -> str:
        """The database's URL with its default filled in."""
        return self.database_url or f"sqlite:///{self.home_path / 'vlglab.db'}"

    @property
    def store_path(self) -> Path:
        """The local directory of the store; of one on object storage, that of logs, checkpoints and copies.

        Raises:
            ValueError: the store's URL is neither file:// nor s3://.
        """
        if not self.store_url or self.store_url.startswith(S3):
            return self.home_path / "store"
        if not self.store_url.startswith("file://"):
            raise ValueError(f"got VLGLAB_STORE_URL={self.store_url!r}, expected file://FOLDER or s3://BUCKET/PREFIX")
        return Path(self.store_url.removeprefix("file://")).expanduser().resolve()

    @property
    def store_address(self) -> str:
        """The store's URL with its default filled in."""
        return self.store_url if self.store_url.startswith(S3) else self.store_path.as_uri()

    @property
    def weights_path(self) -> Path:
        """The folder of encoders' weights, absolute."""
        return (self.weights.expanduser() if self.weights else self.home_path / "weights").resolve()

    @property
    def webhook_key_path(self) -> Path:
        """The file of the key that webhooks are signed with, absolute."""
        return (self.webhook_key.expanduser() if self.webhook_key else self.home_path / "webhook.key").resolve()

    @property
    def tokens_required(self) -> bool:
        """Whether callers must show a token: wherever other machines reach it, unless anyone may do everything."""
        return not self.allow_anyone and (self.require_tokens or not is_loopback(self.host))

    @property
    def allowed_roots(self) -> tuple[Path, ...]:
        """Folders under which a dataset may lie, absolute and resolved."""
        return (self.home_path / "datasets", *(root.expanduser().resolve() for root in self.dataset_roots))


@lru_cache(maxsize=256)
def is_loopback(host: str) -> bool:
    """Whether a host's name or address means this machine, whatever a name server says."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


@lru_cache(maxsize=1)
def settings() -> Settings:
    """This process's settings."""
    return Settings()
