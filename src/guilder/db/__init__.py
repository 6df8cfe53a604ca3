"""Database: the embedded PostgreSQL server, pools, transactions, the coalescer, leases, migrations.

Owns:       tables installation, alembic_version (and sender, in sender.py).
Announces:  nothing.
May import: security, config, shapes, core.
Start with: pool.py, then batch.py, then embedded.py.

asyncpg has its one home here; other rooms take `Connection` and `Record` from this package. Alembic is imported by
migrate.py only, and migrate.py only by those who migrate (it costs 280 ms and 50 MB).
"""

from guilder.db.batch import Coalescer
from guilder.db.connection import Connection, Record
from guilder.db.errors import Again, UniqueViolation, constraint_of
from guilder.db.listen import Listener
from guilder.db.pool import Database
from guilder.db.text import storable

__all__ = ["Again", "Coalescer", "Connection", "Database", "Listener", "Record", "UniqueViolation", "constraint_of", "storable"]
