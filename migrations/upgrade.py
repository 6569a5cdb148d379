"""Brings a database's tables up to this version. Knows Alembic and the database, nothing of what rows mean.

Alembic is imported where it is needed: it takes a third of a second, and a service whose tables are up to date, or that
has none yet, needs none of it.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING

from sqlalchemy import Column, Connection, MetaData, String, Table, inspect, text

from storage.errors import DatabaseError
from storage.records.database import Database
from storage.records.tables import Base

if TYPE_CHECKING:
    from alembic.config import Config

HEAD = "0008"
"""The revision of this version's tables: the last one in `versions`."""


def upgrade(url: str) -> str:
    """Runs the missing migrations, in one transaction under the writer's lock, and returns the revision.

    A database without one table gets those of this version at once, which are what all migrations make.

    Several processes may do it at once: one migrates, the others find nothing to do.

    Raises:
        DatabaseError: the database cannot be used, or was migrated by a newer vlglab.
    """
    db = Database.open(url)
    try:
        if revision_of(db) != HEAD:
            with db.write() as session:
                connection = session.connection()
                if inspect(connection).get_table_names():
                    _migrate(connection)
                else:
                    _create(connection)
    finally:
        db.close()
    return HEAD


def current(url: str) -> str | None:
    """The revision of a database's tables; None where it has none yet.

    Raises:
        DatabaseError: the database cannot be used.
    """
    db = Database.open(url)
    try:
        return revision_of(db)
    finally:
        db.close()


def revision_of(db: Database) -> str | None:
    """The revision of an open database's tables; None where it has none yet.

    Raises:
        DatabaseError: the database cannot be used.
    """
    with db.read() as session:
        return _revision(session.connection())


def check(db: Database) -> None:
    """Checks that a database's tables are those of this version.

    Raises:
        DatabaseError: they are older, newer or missing; says what to do.
    """
    found = revision_of(db)
    if found != HEAD:
        raise DatabaseError(
            f"the database's tables are at revision {found or 'none'}, this vlglab needs {HEAD};"
            " run `vlglab db upgrade`, or the newer vlglab that made them"
        )


def configuration() -> Config:
    """Alembic's configuration, without an ini file."""
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent).replace("%", "%%"))
    return config


def _revision(connection: Connection) -> str | None:
    """What Alembic has written down, if it has."""
    if not inspect(connection).has_table("alembic_version"):
        return None
    found = connection.scalar(text("SELECT version_num FROM alembic_version"))
    return None if found is None else str(found)


def _create(connection: Connection) -> None:
    """Makes this version's tables where there are none, and Alembic's own with their revision."""
    Base.metadata.create_all(connection, checkfirst=False)
    stamp = Table("alembic_version", MetaData(), Column("version_num", String(32), primary_key=True))
    stamp.create(connection)
    connection.execute(stamp.insert().values(version_num=HEAD))


def _migrate(connection: Connection) -> None:
    """Runs the missing migrations within a transaction.

    Raises:
        DatabaseError: the tables are at a revision that this version does not know.
    """
    from alembic import command
    from alembic.script import ScriptDirectory

    config = configuration()
    found = _revision(connection)
    known = {script.revision for script in ScriptDirectory.from_config(config).walk_revisions()}
    if found is not None and found not in known:
        raise DatabaseError(
            f"the database's tables are at revision {found}, which this vlglab does not know; a newer one made them:"
            " install it, or use another VLGLAB_DATABASE_URL"
        )
    logging.getLogger("alembic.runtime.plugins").setLevel(logging.WARNING)  # one line a plugin says nothing to users
    config.attributes["connection"] = connection
    command.upgrade(config, "head")
