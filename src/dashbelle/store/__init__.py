"""The database: connect, migrate, transact, read; knows no table and no row's meaning."""

from dashbelle.store.database import Store, back_up
from dashbelle.store.failures import StoreUnavailable
from dashbelle.store.moments import UtcTime

__all__ = ["Store", "StoreUnavailable", "UtcTime", "back_up"]
