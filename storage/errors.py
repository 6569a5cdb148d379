"""The error tree. Every error that a user can meet has a stable code.

    VlglabError
    ├── InvalidInput (ValueError)        what was asked for cannot be done
    │   ├── SpecInvalid                  a field, recipe, stage or reference is wrong
    │   ├── UnknownName                  a name that nothing carries, with the nearest that exist
    │   │   └── UnknownClass             a class name that the text table does not know
    │   ├── PathNotAllowed               a path outside the allowed roots
    │   ├── ExportInvalid                a file that is no whole export of a database
    │   └── DatasetInvalid               a dataset, or one of its scenes, cannot be read
    │       ├── FrameInvalid             one frame: corrupt image, missing pose, wrong size
    │       └── NothingVisible           no point of a scene is visible in any frame
    ├── NotFound (LookupError)           no such run, experiment, dataset, artifact or file
    ├── Conflict                         the state forbids it
    │   ├── IllegalMove                  a run cannot go from this state to that one
    │   ├── NameTaken                    something else has this name already
    │   ├── InUse                        what is to be deleted is needed by a run, a person or an artifact
    │   ├── KeyReused                    an Idempotency-Key that was used for another request
    │   ├── KeySpent                     an Idempotency-Key whose request made something that was deleted since
    │   └── QuotaExceeded                the store's quota has no room for what is brought in
    ├── AccessDenied                     the caller may not do this
    │   ├── TokenRefused                 no token, or one that is unknown, expired or revoked
    │   └── NotPermitted                 the token's role or owner does not cover it
    ├── StoreError                       what lies in the store cannot be used
    │   ├── StoreCorrupt                 a digest, checksum, shape or file is wrong
    │   ├── FormatTooNew                 written by a newer vlglab
    │   ├── StoreUnwritable              read-only, full, or not allowed: nothing can be changed in it
    │   ├── StoreUnreachable             it lies on object storage, which does not answer
    │   └── PointOrderMismatch           embeddings or labels belong to other points
    ├── DatabaseError                    the database cannot be used as it is
    │   └── WrongRevision                its tables are older or newer than this code
    ├── RunStopped                       not a fault: a run was told to stop
    │   ├── RunCancelled                 somebody cancelled it
    │   ├── PartGone                     what it counted on was deleted meanwhile: it begins again
    │   └── LeaseLost                    another worker may hold it now: nothing may be written
    ├── TimeLimitReached                 a run took longer than its submitter allowed
    ├── TrainingFailed                   a loss that is not finite, an empty batch
    ├── SourceRefused                    where an artifact is pulled from, this caller gets nothing
    ├── SourceUnreachable                where an artifact is pulled from, nothing answers
    ├── ServiceUnreachable               (client) nothing answers there
    ├── WaitedTooLong (TimeoutError)     (client) what was waited for has not ended in time
    └── ExtraMissing (ImportError)       an optional library is not installed

This module imports nothing of vlglab.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager


class VlglabError(Exception):
    """Root of every error that vlglab raises on purpose.

    The message says what was got, what was expected and what to do; `code` is stable and is what programs test.
    """

    code = "vlglab_error"
    status = 500

    def __init__(self, message: str, *, scene: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.scene = scene


class InvalidInput(VlglabError, ValueError):
    """What was asked for cannot be done as asked."""

    code = "invalid_input"
    status = 422


class SpecInvalid(InvalidInput):
    """A spec, recipe, field or reference between runs is wrong."""

    code = "spec_invalid"


class UnknownName(InvalidInput):
    """A name that nothing carries; the message lists the nearest that exist."""

    code = "unknown_name"

    @classmethod
    def among(cls, what: str, got: str, known: Iterable[str]) -> UnknownName:
        """An error for `got`, naming up to five of `known` nearest to it (all of them where none is near)."""
        names = sorted(known)
        nearest = difflib.get_close_matches(got, names, n=5, cutoff=0.4) or names[:20]
        return cls(f"got the {what} {got!r}, which is not known; the nearest known are: {', '.join(nearest) or 'none'}")


class UnknownClass(UnknownName):
    """A class name that the text table does not know."""

    code = "unknown_class"


class PathNotAllowed(InvalidInput):
    """A path outside the roots that the settings allow."""

    code = "path_not_allowed"
    status = 403


class ExportInvalid(InvalidInput):
    """A file that is no whole export of a database: truncated, changed, or never one."""

    code = "export_invalid"


class DatasetInvalid(InvalidInput):
    """A dataset, or one of its scenes, cannot be read."""

    code = "dataset_invalid"


class FrameInvalid(DatasetInvalid):
    """One frame cannot be used: a corrupt image, a missing pose, a depth map of another size."""

    code = "frame_invalid"


class NothingVisible(DatasetInvalid):
    """No point of a scene is visible in any of its frames."""

    code = "nothing_visible"


class NotFound(VlglabError, LookupError):
    """No such run, experiment, dataset, artifact or file."""

    code = "not_found"
    status = 404


class Conflict(VlglabError):
    """The present state forbids what was asked."""

    code = "conflict"
    status = 409


class IllegalMove(Conflict):
    """A run cannot go from the state it is in to the one asked for."""

    code = "illegal_move"


class NameTaken(Conflict):
    """Something else has this name already."""

    code = "name_taken"


class InUse(Conflict):
    """What was to be deleted is needed by a run, a person or another artifact."""

    code = "in_use"


class KeyReused(Conflict):
    """An Idempotency-Key was used before, for another request."""

    code = "key_reused"


class KeySpent(Conflict):
    """An Idempotency-Key was used before, and what was made then has been deleted."""

    code = "key_spent"


class QuotaExceeded(Conflict):
    """The store's quota has no room for what is brought in."""

    code = "quota_exceeded"


class AccessDenied(VlglabError):
    """The caller may not do this."""

    code = "access_denied"
    status = 403


class TokenRefused(AccessDenied):
    """No token was given, or one that is unknown, expired or revoked."""

    code = "token_refused"
    status = 401


class NotPermitted(AccessDenied):
    """The token's role does not cover it, or it belongs to somebody else."""

    code = "not_permitted"


class StoreError(VlglabError):
    """What lies in the store cannot be used."""

    code = "store_error"


class StoreCorrupt(StoreError):
    """A digest, a checksum, a shape or a file in the store is wrong."""

    code = "store_corrupt"


class FormatTooNew(StoreError):
    """An artifact was written by a newer vlglab than this one."""

    code = "format_too_new"
    status = 409


class StoreUnwritable(StoreError):
    """The store cannot be changed: its disk is read-only or full, or its folder belongs to somebody else."""

    code = "store_unwritable"
    status = 507


class StoreUnreachable(StoreError):
    """The store lies on object storage, and that does not answer or refuses."""

    code = "store_unreachable"
    status = 503


class PointOrderMismatch(StoreError):
    """Embeddings or labels belong to another point cloud, or to the same points in another order."""

    code = "point_order_mismatch"


class DatabaseError(VlglabError):
    """The database cannot be used as it is: a network file system, a newer or unmigrated schema."""

    code = "database_error"
    status = 503


class WrongRevision(DatabaseError):
    """The database's tables are older or newer than this code."""

    code = "wrong_revision"


class RunStopped(VlglabError):
    """Not a fault: a run was told to stop."""

    code = "run_stopped"
    status = 409


class RunCancelled(RunStopped):
    """Somebody cancelled the run."""

    code = "cancelled"


class PartGone(RunStopped):
    """Something published that the run counted on was deleted meanwhile; it begins again."""

    code = "part_gone"


class LeaseLost(RunStopped):
    """The run's lease is gone; another worker may hold it, so this one may write nothing more."""

    code = "lease_lost"


class TimeLimitReached(VlglabError):
    """A run took longer than whoever submitted it allowed."""

    code = "time_limit"


class TrainingFailed(VlglabError):
    """Training cannot go on: a loss that is not finite, a scene without a single target."""

    code = "training_failed"


class SourceRefused(VlglabError):
    """The place that an artifact is pulled from wants another token, or leads elsewhere."""

    code = "source_refused"
    status = 502
    wants_token = False
    """True where another token may open it; what has no listing says the same of what it does not hold."""


class SourceUnreachable(VlglabError):
    """Nothing answers at the place that an artifact is pulled from, or it breaks off again and again."""

    code = "source_unreachable"
    status = 502


class ServiceUnreachable(VlglabError):
    """Nothing answers at the address of the service."""

    code = "service_unreachable"
    status = 503


class WaitedTooLong(VlglabError, TimeoutError):
    """What was waited for has not ended in the time that was given; it goes on."""

    code = "waited_too_long"
    status = 504


class ExtraMissing(VlglabError, ImportError):
    """An optional library is not installed; the message names the extra to install."""

    code = "extra_missing"


@contextmanager
def naming_scene(scene: str) -> Iterator[None]:
    """Gives the errors of a block the scene that it works on, where they name none; "" is no scene."""
    try:
        yield
    except VlglabError as error:
        error.scene = error.scene or scene or None
        raise
