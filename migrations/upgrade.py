"""Brings a database's tables up to this version. Knows Alembic and the database, nothing of what rows mean.

Alembic is imported where it is needed: it takes a third of a second, and a service whose tables are up to date, or that
has none yet, needs none of it.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING

from sqlalchemy import Column, Connection, MetaData, String, Table, inspect

from storage.errors import DatabaseError, WrongRevision
from storage.records import revision
from storage.records.database import Database
from storage.records.tables import Base

if TYPE_CHECKING:
    from alembic.config import Config

HEAD = revision.REVISION
"""The revision of this version's tables: the last one in `versions`."""


def upgrade(url: str) -> str:
    """Runs the missing migrations, in one transaction under the writer's lock, and returns the revision.

    A database without one table gets those of this version at once, which are what all migrations make.

    Several processes may do it at once: one migrates, the others find nothing to do.

    Raises:
        DatabaseError: the database cannot be used.
        WrongRevision: it was migrated by a newer vlglab.
    """
    db = Database.open(url)
    try:
        if revision_of(db) != HEAD:
            with db.write() as session:
                connection = session.connection()
                if inspect(connection).get_table_names():
                    _migrate(connection, revision.of(session))
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
        return revision.of(session)


def check(db: Database) -> None:
    """Checks that a database's tables are those of this version.

    Raises:
        DatabaseError: the database cannot be used, or has no tables.
        WrongRevision: its tables are older or newer; says what to do.
    """
    found = revision_of(db)
    if found is None:
        raise DatabaseError(revision.refusal(None))
    if found != HEAD:
        raise WrongRevision(revision.refusal(found))


def configuration() -> Config:
    """Alembic's configuration, without an ini file."""
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent).replace("%", "%%"))
    return config


def _create(connection: Connection) -> None:
    """Makes this version's tables where there are none, and Alembic's own with their revision."""
    Base.metadata.create_all(connection, checkfirst=False)
    stamp = Table("alembic_version", MetaData(), Column("version_num", String(32), primary_key=True))
    stamp.create(connection)
    connection.execute(stamp.insert().values(version_num=HEAD))


def _migrate(connection: Connection, found: str | None) -> None:
    """Runs the missing migrations within a transaction, from the revision that was found.

    Raises:
        WrongRevision: the tables are at a revision that this version does not know.
    """
    from alembic import command
    from alembic.script import ScriptDirectory

    config = configuration()
    known = {script.revision for script in ScriptDirectory.from_config(config).walk_revisions()}
    if found is not None and found not in known:
        raise WrongRevision(
            f"the database's tables are at revision {found}, which this vlglab does not know; a newer one made them:"
            " install it, or use another VLGLAB_DATABASE_URL"
        )
    logging.getLogger("alembic.runtime.plugins").setLevel(logging.WARNING)  # one line a plugin says nothing to users
    config.attributes["connection"] = connection
    command.upgrade(config, "head")
