"""Log: the outbox with gapless positions, and the consumers that read it.

Owns:       tables log_head, log_entry, log_consumer, log_parked, dead_letter, event_head, event, log_stream.
Announces:  nothing; it carries what others announce.
May import: shapes, config, db, core.
Start with: model.py, then port.py and consume.py; kafka/reader.py and kafka/relay.py for the log through Kafka.
"""

from guilder.log.announce import announce
from guilder.log.backlog import Backlog
from guilder.log.consume import BATCH_MAX, Consumer, Handle
from guilder.log.model import PARTITIONS, TOPIC_ATTEMPTS, TOPIC_EVENTS, Entry, NewEvent, partition_of
from guilder.log.outbox import Outbox
from guilder.log.partitions import hold_partitions
from guilder.log.port import Log, Reader
from guilder.log.tidy import tidy_log

__all__ = [
    "BATCH_MAX",
    "PARTITIONS",
    "TOPIC_ATTEMPTS",
    "TOPIC_EVENTS",
    "Backlog",
    "Consumer",
    "Entry",
    "Handle",
    "Log",
    "NewEvent",
    "Outbox",
    "Reader",
    "announce",
    "hold_partitions",
    "partition_of",
    "tidy_log",
]
