"""Three brokers: a leader that dies, too few for an acknowledgement, all data lost. And one that asks who we are."""

import asyncio
import datetime
import ipaddress
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from guilder.config import KafkaSettings, WrongSetting
from guilder.core.errors import Unavailable
from guilder.db import Database
from guilder.log.kafka.client import check_settings, describe_topics, ensure_topics
from guilder.log.manage import copy_again
from kafka.brokers import Cluster
from kafka_world import KafkaWorld, kafka_world
from log_world import log_world

pytestmark = [pytest.mark.slow, pytest.mark.needs("kafka of its own")]

KEYS = [f"k{number}" for number in range(12)]
PASSWORD = "a-password-of-tests"


@pytest.fixture(scope="module")
def three(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A cluster of three."""
    cluster = Cluster(tmp_path_factory.mktemp("three") / "cluster", brokers=3)
    cluster.start()
    yield cluster
    cluster.stop()


async def written(world: KafkaWorld, first: int, last: int) -> list[bytes]:
    """Append so numbered entries."""
    await world.log.append(*((KEYS[number % len(KEYS)], str(number).encode()) for number in range(first, last)))
    return [str(number).encode() for number in range(first, last)]


async def each_once(world: KafkaWorld, expected: list[bytes]) -> None:
    """Everything is handled, once, and in the order of its key."""
    await world.log.drain()
    for number, key in enumerate(KEYS):
        assert await world.log.handled(key) == [one for one in expected if int(one) % len(KEYS) == number]


@pytest.mark.timeout(400)
async def test_whatever_a_cluster_of_three_loses_nothing_is_lost(database: str, db: Database, three: Cluster):
    """One broker killed: the leaders move. Two: nothing is acknowledged, and consumers go on. All data: it is rebuilt."""
    async with kafka_world(database, db, three.bootstrap, topics="three") as world:
        expected = await written(world, 0, 60)
        await world.copied()
        await each_once(world, expected)

        three.brokers[0].kill()
        expected += await written(world, 60, 120)
        await world.copied()
        await each_once(world, expected)

        three.brokers[1].kill()
        expected += await written(world, 120, 180)
        with pytest.raises(Unavailable):
            await world.copy()
        await each_once(world, expected)

        await asyncio.to_thread(three.start)
        expected += await written(world, 180, 240)
        await world.copied()
        await each_once(world, expected)

        await asyncio.to_thread(three.lose_everything)
        await asyncio.to_thread(three.start)
        expected += await written(world, 240, 300)
        await ensure_topics(world.settings)
        await copy_again(world.log.db, world.log.ids)
        await world.copied()
        await each_once(world, expected)
        heads = {row["partition"]: row["head"] for row in await world.log.db.fetch("SELECT partition, head FROM log_head WHERE topic = 2")}
        assert {p: sorted(set(found)) for p, found in (await world.positions()).items()} == {p: list(range(1, h + 1)) for p, h in heads.items()}
        assert "3 brokers" in await describe_topics(world.settings)
        assert "2 or more copies in sync" in await describe_topics(world.settings) or "3 or more" in await describe_topics(world.settings)


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    """A broker that speaks TLS with whom it knows; its address and its certificate."""
    folder = tmp_path_factory.mktemp("guarded")
    keystore, certificate = self_signed(folder)
    cluster = Cluster(folder / "cluster")
    address = cluster.secure(keystore=keystore, password=PASSWORD)
    cluster.start()
    yield address, certificate
    cluster.stop()


def self_signed(folder: Path) -> tuple[Path, Path]:
    """A key with its certificate for 127.0.0.1, and the certificate alone."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "broker")])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key()).serial_number(1)
        .not_valid_before(now - datetime.timedelta(days=1)).not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )  # fmt: skip
    pem = certificate.public_bytes(serialization.Encoding.PEM)
    private = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    (folder / "broker.pem").write_bytes(private + pem)
    (folder / "certificate.pem").write_bytes(pem)
    return folder / "broker.pem", folder / "certificate.pem"


def asked(guarded: tuple[str, Path], password: str) -> KafkaSettings:
    """The settings as an operator gives them."""
    address, certificate = guarded
    settings = KafkaSettings.load({
        "GUILDER_KAFKA_BOOTSTRAP": address, "GUILDER_KAFKA_SECURITY_PROTOCOL": "SASL_SSL", "GUILDER_KAFKA_SASL_MECHANISM": "PLAIN",
        "GUILDER_KAFKA_SASL_USERNAME": "guilder", "GUILDER_KAFKA_SASL_PASSWORD": password, "GUILDER_KAFKA_SSL_CA_LOCATION": str(certificate),
    })  # fmt: skip
    assert settings is not None
    check_settings(settings)
    return settings


async def test_tls_and_a_password_are_what_the_cluster_asks_for(database: str, db: Database, guarded: tuple[str, Path]):
    """With both it answers; with a wrong password it does not, and consumers read the outbox."""
    async with log_world(database, db, asked(guarded, "wrong"), relayed=False) as log:
        with pytest.raises(Unavailable):
            await ensure_topics(asked(guarded, "wrong"))
        await log.append(("a", b"a0"))
        await log.drain()
        assert await log.handled() == [b"a0"]
        right = asked(guarded, PASSWORD)
        await ensure_topics(right)
        assert "1 of 1 partitions" in await describe_topics(right)


def test_a_setting_that_the_client_does_not_know_is_refused_before_anything_starts():
    """By its name."""
    settings = KafkaSettings.load({"GUILDER_KAFKA_BOOTSTRAP": "127.0.0.1:9", "GUILDER_KAFKA_SSL_NONSENSE": "1"})
    assert settings is not None
    with pytest.raises(WrongSetting, match=r"ssl\.nonsense"):
        check_settings(settings)
