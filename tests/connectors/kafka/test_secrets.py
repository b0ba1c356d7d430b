"""Passwords and keys of Kafka and of the database reach no output: log, errors, probes, status, rows."""

import json
import subprocess
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import pytest

from tests.cli.service import PROGRAM, Service, clean_environment, eventually
from tests.conftest import unique_name
from tests.faults.broker import Broker
from tests.faults.rows import Rows
from tests.servers.kafka import create_topic
from tests.servers.kafka_secure import PLAIN_PASSWORD, PLAIN_USER, SecureKafkaServer

CONSUMER = """
from dbos_events import DBOS, KafkaMessage


@DBOS.kafka_consumer({{"group.protocol": "consumer", "sasl.password": {password!r}}}, [{topic!r}], name="on_order")
def on_order(message: KafkaMessage) -> None:
    pass
"""
DATABASE_PASSWORD = "one-of-the-secrets"
KEY_PASSWORD = "another-of-the-secrets"
WRONG_PASSWORD = "wrong-one-of-the-secrets"
SECRETS = (DATABASE_PASSWORD, KEY_PASSWORD, WRONG_PASSWORD, PLAIN_PASSWORD)


@pytest.fixture
def url(postgres_url: str) -> str:
    """The test's database, named with a password; the server of the tests takes any."""
    parts = urlsplit(postgres_url)
    if parts.password:
        pytest.skip("this server has a password of its own")
    return urlunsplit(
        parts._replace(netloc=f"{parts.username}:{DATABASE_PASSWORD}@{parts.netloc.split('@')[-1]}")
    )


@pytest.fixture
def topic(secure_kafka: SecureKafkaServer) -> str:
    name = unique_name("orders")
    create_topic(secure_kafka.bootstrap, name)
    return name


def rows_of(url: str) -> str:
    """Every row of every table."""
    rows = Rows(url)
    tables = rows.query(
        "SELECT table_name FROM information_schema.tables WHERE table_schema = 'dbos_events' ORDER BY 1"
    )
    return repr([rows.query(f"SELECT * FROM {{t}}{name}") for (name,) in tables])


def output_of(folder: Path, *arguments: str) -> str:
    done = subprocess.run(
        [PROGRAM, *arguments],
        cwd=folder,
        env=clean_environment(),
        capture_output=True,
        check=False,
        timeout=60,
    )
    return (done.stdout + done.stderr).decode()


def assert_no_secret(**outputs: str) -> None:
    leaks = [(name, secret) for name, text in outputs.items() for secret in SECRETS if secret in text]
    assert leaks == []


@pytest.mark.parametrize("password", [PLAIN_PASSWORD, WRONG_PASSWORD], ids=["right", "wrong"])
def test_a_service_that_says_all_it_can_says_no_secret(
    password: str, secure_kafka: SecureKafkaServer, topic: str, url: str, tmp_path: Path
) -> None:
    from confluent_kafka.admin._resource import ResourceType

    secure_kafka.allow(PLAIN_USER, ResourceType.TOPIC, topic)
    secure_kafka.allow(PLAIN_USER, ResourceType.GROUP, "secretive.on_order")
    Broker(secure_kafka.bootstrap).produce(topic, ["x"])
    (tmp_path / "consumers.py").write_text(CONSUMER.format(password=password, topic=topic))
    client = {
        "BOOTSTRAP_SERVERS": secure_kafka.sasl,
        "SECURITY_PROTOCOL": "SASL_PLAINTEXT",
        "SASL_MECHANISM": "PLAIN",
        "SASL_USERNAME": PLAIN_USER,
        "SSL_KEY_PASSWORD": KEY_PASSWORD,
        "DEBUG": "all",
    }
    environment = {f"DBOS_EVENTS_KAFKA__{key}": value for key, value in client.items()}
    arguments = (
        "consumers.py",
        "--database",
        url,
        "--name",
        "secretive",
        "--log-level",
        "debug",
        "--health-port",
        "0",
    )
    with Service(tmp_path, *arguments, **environment) as service:
        service.wait_for("Launched")
        if password == PLAIN_PASSWORD:
            eventually(lambda: Rows(url).succeeded() == 1, "the record is handled")
            probe = service.wait_until("/readyz", 200)
        else:
            service.wait_for("the broker refuses our credentials")
            probe = service.wait_until("/readyz", 503)
        status = output_of(tmp_path, "kafka", "status", "--database", url, "--all-applications")
        assert "on_order" in status
        service.process.terminate()
        assert service.ended() == 0
        log = json.dumps(service.log) + "".join(service.printed)
        assert len(service.log) > 50
        assert_no_secret(
            log=log, errors=service.errors, probe=json.dumps(probe), status=status, rows=rows_of(url)
        )


def test_a_database_that_refuses_us_is_named_without_its_password(tmp_path: Path) -> None:
    url = f"postgresql://me:{DATABASE_PASSWORD}@127.0.0.1:1/orders"
    (tmp_path / "consumers.py").write_text(CONSUMER.format(password=PLAIN_PASSWORD, topic="orders"))
    outputs = {
        "status": output_of(tmp_path, "kafka", "status", "--database", url),
        "list": output_of(tmp_path, "workflow", "list", "--database", url),
        "migrate": output_of(tmp_path, "migrate", "--database", url),
        "run": output_of(tmp_path, "run", "consumers.py", "--fail-fast", "--database", url),
    }
    assert {name for name, text in outputs.items() if "127.0.0.1" in text} == set(outputs)
    assert_no_secret(**outputs)
