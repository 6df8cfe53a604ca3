"""What a process has of Kafka: the log read through it, and the role `relay`. Its client is imported only where it is wanted (15 MB)."""

from contextlib import AsyncExitStack
from typing import Final

from guilder.config import Settings, WrongSetting
from guilder.core.clock import Clock
from guilder.db import Database, Listener
from guilder.db.sender import Sender
from guilder.log import TOPIC_ATTEMPTS, Log
from guilder.payments.execute import CHANNEL
from guilder.role import Context, until_told

APP_ROLE: Final = "guilder_app"
# Beyond the sixteen, and only with Kafka: one for everything, and the listener's.
RELAY_POOL: Final = 1


def check(settings: Settings) -> None:
    """Whether Kafka's client takes the settings that are for it; without Kafka it does nothing. Raises WrongSetting."""
    if settings.kafka is not None:
        from guilder.log.kafka.client import check_settings

        check_settings(settings.kafka)


def log(settings: Settings, db: Database, clock: Clock) -> Log | None:
    """The log that is read through Kafka; None where there is none."""
    if settings.kafka is None:
        return None
    from guilder.log.kafka.reader import KafkaLog

    return KafkaLog(db, clock, settings.kafka)


async def relay(settings: Settings, context: Context) -> None:
    """Copies the outbox to Kafka; there is one only with Kafka. Raises WrongSetting."""
    if settings.kafka is None or settings.database_url is None:
        raise WrongSetting("the relay copies the log to Kafka: set GUILDER_DATABASE_URL and GUILDER_KAFKA_BOOTSTRAP")
    from guilder.log.kafka.relay import RELAY_ROLE, Relay

    async with AsyncExitStack() as stack:
        db = await Database.connect(settings.database_url, role=APP_ROLE, max_size=RELAY_POOL, name="relay")
        stack.push_async_callback(db.close)
        sender = Sender(db, context.clock, context.ids, role=RELAY_ROLE, lost=lambda _before: context.leave_word(sender.id))
        await sender.start(context.predecessor)
        stack.push_async_callback(sender.close)
        context.leave_word(sender.id)
        working = Relay(db, context.ids, settings.kafka, sender=lambda: (sender.id, sender.epoch))
        stack.push_async_callback(working.close)
        attempts = working.lanes[TOPIC_ATTEMPTS]
        listener = Listener(db.dsn, [CHANNEL], lambda _channel, _payload: attempts.wake(), role=APP_ROLE, name="relay")
        await listener.start()
        stack.push_async_callback(listener.close)
        context.ready()
        await until_told(context, working.run())
