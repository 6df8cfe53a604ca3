"""Log: the outbox with gapless positions, and the consumers that read it.

Owns:       tables log_head, log_entry, log_consumer, log_parked, dead_letter, event_head, event.
Announces:  nothing; it carries what others announce.
May import: shapes, db, core.
Start with: model.py, then consume.py.
"""

from guilder.log.announce import announce
from guilder.log.consume import BATCH_MAX, Consumer, Handle
from guilder.log.model import TOPIC_ATTEMPTS, TOPIC_EVENTS, Entry, NewEvent, partition_of
from guilder.log.partitions import hold_partitions
from guilder.log.tidy import tidy_log

__all__ = [
    "BATCH_MAX",
    "TOPIC_ATTEMPTS",
    "TOPIC_EVENTS",
    "Consumer",
    "Entry",
    "Handle",
    "NewEvent",
    "announce",
    "hold_partitions",
    "partition_of",
    "tidy_log",
]
