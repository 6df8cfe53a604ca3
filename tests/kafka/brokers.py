"""A real Apache Kafka in KRaft mode on loopback, of one broker or three, fetched with Maven and run by Java 17."""

import base64
import fcntl
import os
import re
import shutil
import signal
import socket
import subprocess
import time
import uuid
from contextlib import suppress
from pathlib import Path
from typing import Any

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

# For a listener that asks for a name and a password over TLS.
SECURED = """
listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller},SASL_SSL://127.0.0.1:{secured}
advertised.listeners=PLAINTEXT://127.0.0.1:{port},SASL_SSL://127.0.0.1:{secured}
listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT,SASL_SSL:SASL_SSL
sasl.enabled.mechanisms=PLAIN
listener.name.sasl_ssl.plain.sasl.jaas.config=org.apache.kafka.common.security.plain.PlainLoginModule required user_guilder="{password}";
ssl.keystore.type=PEM
ssl.keystore.location={keystore}
"""

HERE = Path(__file__).resolve().parent
JARS = HERE / "target" / "lib"
READY = JARS / "complete"
JAVA_LEAST = 17
FETCH_SECONDS_MAX = 300.0
START_SECONDS_MAX = 90.0
STOP_SECONDS_MAX = 20.0
# A broker of ours holds a few thousand small messages.
JVM = ("-Xms64m", "-Xmx192m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-XX:CICompilerCount=1", "-Xshare:auto")

SETTINGS = """
process.roles=broker,controller
node.id={node}
controller.quorum.voters={voters}
controller.listener.names=CONTROLLER
inter.broker.listener.name=PLAINTEXT
listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller}
advertised.listeners=PLAINTEXT://127.0.0.1:{port}
listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT
log.dirs={folder}
auto.create.topics.enable=false
group.initial.rebalance.delay.ms=0
default.replication.factor={replicas}
min.insync.replicas={insync}
offsets.topic.num.partitions=4
offsets.topic.replication.factor={replicas}
transaction.state.log.num.partitions=1
transaction.state.log.replication.factor={replicas}
transaction.state.log.min.isr={insync}
unclean.leader.election.enable=false
delete.topic.enable=true
log.cleaner.dedupe.buffer.size=4194304
num.network.threads=2
num.io.threads=2
num.replica.fetchers=1
broker.heartbeat.interval.ms=500
broker.session.timeout.ms=3000
controller.quorum.election.timeout.ms=1000
controller.quorum.fetch.timeout.ms=2000
replica.lag.time.max.ms=4000
"""


def can_run() -> bool:
    """Whether this machine has, or can have, brokers: Java 17 or newer, and the jars or the Maven to fetch them."""
    return _java_is_new_enough() and (READY.exists() or (shutil.which("mvn") is not None and _fetch()))


def _java_is_new_enough() -> bool:
    if shutil.which("java") is None:
        return False
    said = subprocess.run(["java", "-version"], capture_output=True, text=True, check=False).stderr
    found = re.search(r'version "(\d+)', said)
    return found is not None and int(found[1]) >= JAVA_LEAST


def _fetch() -> bool:
    """Fetch the jars, once for all workers; False when Maven could not."""
    JARS.parent.mkdir(exist_ok=True)
    with (JARS.parent / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if READY.exists():
            return True
        command = ["mvn", "-q", "-B", "-f", str(HERE / "pom.xml"), "dependency:copy-dependencies", f"-DoutputDirectory={JARS}", "-DincludeScope=runtime"]
        try:
            done = subprocess.run(command, capture_output=True, check=False, timeout=FETCH_SECONDS_MAX)
        except subprocess.TimeoutExpired:
            return False
        if done.returncode == 0:
            READY.touch()
        return done.returncode == 0


def free_port() -> int:
    """A port of loopback that nobody listens on."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port: int = one.getsockname()[1]
        return port


class Broker:
    """One node: broker and controller in one process."""

    def __init__(self, folder: Path, settings: str, cluster: str, ports: dict[str, int]) -> None:
        self.folder = folder
        self.settings = settings
        self.ports = ports
        self._file = folder / "server.properties"
        self._cluster = cluster
        self.process: subprocess.Popen[bytes] | None = None
        folder.mkdir(parents=True)

    def format(self) -> None:
        """Prepare the data folder for this cluster."""
        self._file.write_text(self.settings)
        self._java("kafka.tools.StorageTool", "format", "-t", self._cluster, "-c", str(self._file)).wait()

    def start(self) -> None:
        """Start the process; it serves some seconds later."""
        self.process = self._java("kafka.Kafka", str(self._file))

    def kill(self) -> None:
        """End it as a power cut would."""
        self._end(signal.SIGKILL)

    def stop(self) -> None:
        """Have it end in good order."""
        self._end(signal.SIGTERM)

    def _end(self, number: int) -> None:
        if self.process is not None:
            self.process.send_signal(number)
            try:
                self.process.wait(STOP_SECONDS_MAX)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
            self.process = None

    def _java(self, main: str, *arguments: str) -> subprocess.Popen[bytes]:
        with (self.folder / "output").open("ab") as output:
            return subprocess.Popen(
                ["java", *JVM, "-cp", f"{JARS}/*", main, *arguments], stdin=subprocess.DEVNULL, stdout=output, stderr=output, cwd=self.folder,
            )


class Cluster:
    """So many brokers on free ports, with data of their own."""

    def __init__(self, folder: Path, brokers: int = 1) -> None:
        ports = [(free_port(), free_port()) for _ in range(brokers)]
        voters = ",".join(f"{node}@127.0.0.1:{controller}" for node, (_, controller) in enumerate(ports, 1))
        # Its first letter is never a dash, which the tools would take for an option.
        cluster = "K" + base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")[1:]
        replicas = min(3, brokers)
        self.bootstrap = ",".join(f"127.0.0.1:{port}" for port, _ in ports)
        self.folder = folder
        self._cluster = cluster
        self.brokers = [
            Broker(
                folder / f"broker{node}",
                SETTINGS.format(
                    node=node, voters=voters, port=port, controller=controller, folder=folder / f"broker{node}" / "data",
                    replicas=replicas, insync=max(1, replicas - 1),
                ),
                cluster,
                {"port": port, "controller": controller},
            )
            for node, (port, controller) in enumerate(ports, 1)
        ]  # fmt: skip

    def secure(self, *, keystore: Path, password: str) -> str:
        """Before the start: a listener over TLS for the user `guilder`; returns its address.

        Args:
            keystore: key and certificate of the broker, in PEM.
        """
        port = free_port()
        for one in self.brokers:
            one.settings += SECURED.format(**one.ports, secured=port, keystore=keystore, password=password)
        return f"127.0.0.1:{port}"

    def start(self) -> None:
        """Format what is new, start all, and wait until each serves."""
        formatting = [one for one in self.brokers if not (one.folder / "data").exists()]
        for one in formatting:
            one.format()
        for one in self.brokers:
            if one.process is None:
                one.start()
        self.wait_until_served()

    def wait_until_served(self, brokers: int | None = None) -> None:
        """Return when so many brokers, all unless told otherwise, are known to the cluster."""
        wanted = len(self.brokers) if brokers is None else brokers
        quiet: dict[str, Any] = {"bootstrap.servers": self.bootstrap, "log_level": 0, "error_cb": lambda _error: None}
        admin = AdminClient(quiet)
        began = time.monotonic()
        while True:
            with suppress(KafkaException):
                if len(admin.list_topics(timeout=2).brokers) >= wanted:
                    return
            if time.monotonic() - began > START_SECONDS_MAX:
                raise TimeoutError((self.brokers[0].folder / "output").read_text()[-2000:])
            time.sleep(0.05)

    def stop(self) -> None:
        """End all, at once: nothing of a test is worth an orderly end."""
        for one in self.brokers:
            one.kill()

    def lose_everything(self) -> None:
        """Delete what every broker has stored; `start` begins a new, empty cluster in its place."""
        self.stop()
        for one in self.brokers:
            shutil.rmtree(one.folder / "data")


def bootstrap_of_the_environment() -> str | None:
    """The brokers that somebody gave us."""
    return os.environ.get("KAFKA_BOOTSTRAP") or None
