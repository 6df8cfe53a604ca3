"""Kafka as the log: a copy of the outbox that consumers read instead of it, and what makes and mends that copy.

PostgreSQL is the truth. Kafka is believed about nothing but speed: what it has not brought, has lost or never got is read
from the outbox, what it brings twice or late is known by its position, and what is not of this outbox's stream is nobody's.

Owns:       no table; the relay's positions are rows of log's.
Announces:  nothing.
May import: the rest of log, config, db, core.
Start with: reader.py, then relay.py.
"""
