"""What every table is made of: the root of the models, points in time, JSON and large ids. Knows no table."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from sqlalchemy import JSON, BigInteger, DateTime, Dialect, Integer, String, TypeDecorator
from sqlalchemy.orm import DeclarativeBase

BigId = BigInteger().with_variant(Integer, "sqlite")
Json = dict[str, Any]


class UtcDateTime(TypeDecorator[datetime]):
    """A point in time: timestamptz on PostgreSQL, naive UTC text on SQLite, always an aware UTC datetime in Python."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """To the database: aware values only, turned to UTC."""
        if value is None:
            return None
        moment = value.astimezone(UTC)
        return moment.replace(tzinfo=None) if dialect.name == "sqlite" else moment

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:  # noqa: ARG002
        """From the database: aware, UTC."""
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


class Base(DeclarativeBase):
    """Root of the models; its metadata is what migrations are checked against."""

    type_annotation_map = {  # noqa: RUF012
        datetime: UtcDateTime(),
        Json: JSON(none_as_null=True),
        list[Any]: JSON(none_as_null=True),
        str: String(),
    }
