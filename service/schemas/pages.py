"""Pages, and how answers are configured."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Generic, TypeVar

from pydantic import BaseModel, ConfigDict, Field

T = TypeVar("T")


def gives(example: Mapping[str, Any]) -> ConfigDict:
    """Configuration of an answer: read from a record's attributes, with its example."""
    return ConfigDict(from_attributes=True, json_schema_extra={"examples": [dict(example)]})


class Page(BaseModel, Generic[T]):
    """Some of a list, and the cursor of the next page."""

    items: list[T]
    next: str | None = Field(None, description="Pass it as `cursor` for the next page; null on the last.")
