"""What goes wrong with a database, told apart: its own failures, and faults of the commands that it was given."""

from __future__ import annotations

import sqlite3

from sqlalchemy.exc import DataError, DBAPIError, IntegrityError, ProgrammingError

STORAGE = (DBAPIError, sqlite3.Error)
"""`prepare` of an engine raises sqlite3's own errors: SQLAlchemy does not wrap them."""
_COMMANDS_FAULT = (IntegrityError, ProgrammingError, DataError)


class StoreUnavailable(Exception):
    """The database cannot be opened, read or written. Its text is one line."""


def outward(error: Exception) -> Exception:
    """StoreUnavailable for the database's own failures; a command's fault (a duplicate, a bug) stays what it is."""
    storage = isinstance(error, STORAGE) and not isinstance(error, _COMMANDS_FAULT)
    return failure(error) if storage else error


def failure(error: Exception, what: str = "the database failed") -> StoreUnavailable:
    """`error` as one line."""
    if isinstance(error, StoreUnavailable):
        return error
    reason = error.orig if isinstance(error, DBAPIError) else error
    return StoreUnavailable(f"{what}: {str(reason).partition(chr(10))[0]}")
