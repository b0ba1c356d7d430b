"""Settings that cannot be used are refused with the setting's name, and without its value."""

import subprocess
import sys
import traceback
from pathlib import Path
from typing import Any

import pytest

from dbos_events import App
from dbos_events.clock import SystemClock
from dbos_events.errors import ConfigurationError, DBOSException
from dbos_events.settings import FILE_VARIABLE, read_settings
from dbos_events.storage.opening import open_storage
from dbos_events.telemetry.log import redact

SECRET = "hunter"
FORMS = (
    "postgresql://me:{}@127.0.0.1:1/shop",
    "postgresql://127.0.0.1:1/shop?user=me&password={}",
    "postgresql://me:{}@/shop?host=127.0.0.1&port=1",
    "postgresql+psycopg2://me:{}@127.0.0.1:1/shop",
    "postgresql://me:{}@127.0.0.1:port/shop",
    "postgresql://me:{}/shop",
    "postgresql:/me:{}@127.0.0.1/shop",
    "mysql://me:{}@127.0.0.1/shop",
    "me:{}@127.0.0.1/shop",
    "host=127.0.0.1 password={} dbname=shop",
)
PASSWORDS = (
    "hunter%40two", "hunter@two@x", "x@hunter@y", "hunter/two", "hunter:two", "two:hunter", "hunter?two", "hunter#two",
    "hunter'two", 'hunter"two', "hunter two", "hunterü€", "hunter%zz", "hunter%00", "hunter[two]", "hunter\ntwo",
    "hunter\\two", "hunter%", "hunter,two", "hunter;two",
)  # fmt: skip


@pytest.fixture(autouse=True)
def nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder without a settings file."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv(FILE_VARIABLE, raising=False)
    return tmp_path


def refusal(config: Any) -> str:
    with pytest.raises(ConfigurationError) as refused:
        read_settings(config)
    shown = "".join(traceback.format_exception_only(refused.value))
    assert SECRET not in shown
    assert refused.value.__cause__ is None
    assert refused.value.__suppress_context__ or refused.value.__context__ is None
    return refused.value.message


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("name", "a b"), ("name", 5), ("name", "n" * 300), ("system_database_url", 5), ("sys_db_pool_size", SECRET),
        ("sys_db_pool_size", 2**70), ("lease_seconds", float("nan")), ("lease_seconds", float("inf")),
        ("lease_seconds", 1e300), ("park_after_seconds", float("inf")), ("shutdown_timeout_seconds", float("inf")),
        ("sweep_after_seconds", "soon"), ("max_executor_threads", 2**40), ("kafka", SECRET), ("kafka", [SECRET]),
        ("kafka", {1: SECRET}), ("on_old_version", "guess"), ("dbos_system_schema", "a\0b"),
        ("dbos_system_schema", "s" * 300), ("executor_id", "\ud800"), ("application_version", "a\nb"),
        ("no_such_setting", SECRET),
    ],
)  # fmt: skip
def test_a_wrong_value_is_refused_by_the_name_of_its_setting(setting: str, value: object) -> None:
    assert setting in refusal({setting: value})


def test_a_key_that_is_no_text_is_refused() -> None:
    assert "The key 7 is no text" in refusal({7: SECRET})


@pytest.mark.parametrize("config", ["name=shop", 5, [("name", "shop")]])
def test_a_configuration_that_is_no_mapping_is_refused_where_it_is_given(config: Any) -> None:
    with pytest.raises(ConfigurationError, match="a mapping of settings, not of type"):
        App(config)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"[kafka\nx=", "not TOML"),
        (b'name = "\xff"', "not TOML"),
        (b'name = "a\0b"', "not TOML"),
        (b'system_database_url = "postgresql://me:hunter@h/d', "not TOML"),
        (b"name = 'a'\nname = 'b'", "not TOML"),
        (b"\xef\xbb\xbfname = 'x'", "not TOML"),
        (b"name = 5\n[kafka]\n'sasl.password' = 'hunter'", "name: "),
        (b"[surprise]\npassword = 'hunter'", "surprise: "),
        (b"kafka = ['hunter']", "kafka: "),
    ],
)
def test_a_broken_settings_file_is_named(
    content: bytes, said: str, nowhere: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = nowhere / "broken.toml"
    file.write_bytes(content)
    monkeypatch.setenv(FILE_VARIABLE, str(file))
    message = refusal({})
    assert said in message
    assert said != "not TOML" or str(file) in message


def test_a_settings_file_that_is_a_folder_is_named(nowhere: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(FILE_VARIABLE, str(nowhere))
    assert f"{nowhere}, which is not a file" in refusal({})


@pytest.mark.parametrize("value", ["{hunter", "hunter", '["hunter"]'])
def test_a_variable_that_is_no_json_is_named(value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DBOS_EVENTS_KAFKA", value)
    assert "kafka" in refusal({})


def test_settings_that_are_shown_hold_no_secret() -> None:
    settings = read_settings({
        "system_database_url": f"postgresql://me:{SECRET}@host/shop", "kafka": {"sasl.password": SECRET}
    })  # fmt: skip
    assert SECRET not in f"{settings} {settings!r}"


def connect(url: str) -> None:
    open_storage(url, schema="s", clock=SystemClock()).now_ms()


@pytest.mark.parametrize("password", PASSWORDS)
@pytest.mark.parametrize("form", FORMS)
def test_no_part_of_a_database_url_that_fails_is_shown(form: str, password: str) -> None:
    with pytest.raises(DBOSException) as failed:
        connect(form.format(password))
    assert SECRET not in str(failed.value)
    assert SECRET not in redact("".join(traceback.format_exception(failed.value)))


@pytest.mark.parametrize("password", [one for one in PASSWORDS if " " not in one and "\n" not in one])
def test_a_password_is_taken_out_of_a_text_whole(password: str) -> None:
    assert SECRET not in redact(f"cannot reach postgresql://me:{password}@127.0.0.1:1/shop now")


@pytest.mark.parametrize(
    "text",
    [
        "password=hunter", "sasl.password: hunter", "{'sasl.password': 'hunter'}", '{"password": "hun\\"ter hunter"}',
        "password='hunter two, three' host=x", 'client_secret = "hunter"', "?sslpassword=hunter&x=1", "token=hunter;",
    ],
)  # fmt: skip
def test_secret_settings_are_taken_out_of_a_text(text: str) -> None:
    assert SECRET not in redact(text)


def test_what_is_no_secret_stays() -> None:
    text = "kafka/shop.on_order/orders/1/0/17 failed at http://host:80/path: user@example.org"
    assert redact(text) == text


@pytest.mark.parametrize("missing", ["psycopg", "psycopg.pq"])
def test_postgresql_without_psycopg_says_what_to_install(missing: str) -> None:
    # In a process of its own, since here it is loaded.
    program = (
        f"import sys; sys.modules[{missing!r}] = None\n"
        "from dbos_events.clock import SystemClock\n"
        "from dbos_events.errors import ConfigurationError\n"
        "from dbos_events.storage.opening import open_storage\n"
        "try:\n"
        "    open_storage('postgresql://user@host/name', schema='x', clock=SystemClock())\n"
        "except ConfigurationError as error:\n"
        "    print(error)\n"
    )
    said = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    assert said.startswith("PostgreSQL needs psycopg 3, which cannot be loaded here (")
    assert said.endswith("Install it with: pip install 'psycopg[binary]>=3.2'\n")
