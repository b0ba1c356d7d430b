"""docs/settings.md and docs/kafka.md tell every setting and every option, with its default."""

import inspect
import json
import re
from importlib.metadata import entry_points
from pathlib import Path
from typing import get_type_hints

import pytest

from dbos_events import App, DBOSConfig
from dbos_events.config import CONNECTORS
from dbos_events.model.event import ConsumerOptions
from dbos_events.settings import _OTHER_NAMES, _WITHOUT_EFFECT, Settings, read_settings
from dbos_events_kafka import advice
from dbos_events_kafka.rules import REFUSED, WARNED_OF
from dbos_events_kafka.settings import DEFAULTS, FORCED
from tests.documentation.pages import page, rows, section


def code(value: object) -> str:
    """A default as the page writes it; nothing where there is none."""
    if value is None or value == {}:
        return ""
    return f"`{value if isinstance(value, str) else json.dumps(value)}`"


def test_the_page_tells_every_setting_with_its_variable_default_and_meaning() -> None:
    expected = [
        [
            f"`{name}`",
            f"`DBOS_EVENTS_{name.upper()}`",
            code(field.get_default(call_default_factory=True)),
            str(field.description),
        ]
        for name, field in Settings.model_fields.items()
    ]

    assert rows(section(page("settings"), "## Every setting")) == expected


def test_the_page_tells_the_section_of_every_connector() -> None:
    names = sorted(
        entry.name for entry in entry_points(group=CONNECTORS) if entry.name not in {"folder", "spool"}
    )
    told = [cells[:2] for cells in rows(section(page("settings"), "## Sections of connectors"))]

    assert told == [[f"`{name}`", f"`DBOS_EVENTS_{name.upper()}`"] for name in names]


def test_the_page_tells_every_variable_of_another_name() -> None:
    expected = [[f"`{variable}`", f"`{name}`"] for variable, name in _OTHER_NAMES.items()]

    assert rows(section(page("settings"), "## Variables of other names")) == expected


def test_the_page_tells_every_key_without_effect() -> None:
    text = section(page("settings"), "## Keys without effect")

    assert set(re.findall(r"`(\w+)`", text)) == _WITHOUT_EFFECT


def test_the_configuration_type_has_every_setting() -> None:
    assert get_type_hints(DBOSConfig).keys() == {*Settings.model_fields, "kafka"}


def test_the_page_tells_every_option_of_a_consumer() -> None:
    told = {cells[0].strip("`"): cells[1] for cells in rows(section(page("kafka"), "## Options"))}
    parameters = inspect.signature(App.kafka_consumer).parameters

    assert list(told) == [name for name in parameters if name != "self"]
    for name in ("ordering", "on_failure", "on_regression"):
        assert told[name] == code(getattr(ConsumerOptions("", (), {}), name))


def test_the_page_tells_every_default_of_the_client() -> None:
    told = {cells[0]: cells[1] for cells in rows(section(page("kafka"), "### Defaults"))}

    assert told == {f"`{key}`": code(value) for key, value in DEFAULTS.items()}


def test_the_page_tells_what_is_forced_and_what_is_refused() -> None:
    told = {cells[0]: cells[1] for cells in rows(section(page("kafka"), "### Forced"))}

    assert told == {f"`{key}`": code(value) for key, value in FORCED.items()}
    assert keys_of("### Refused") == set(REFUSED)
    assert keys_of("### Warned of") == set(WARNED_OF)


def keys_of(heading: str) -> set[str]:
    return {
        key for cells in rows(section(page("kafka"), heading)) for key in re.findall(r"`([^`]+)`", cells[0])
    }


def test_the_page_tells_what_to_do_about_everything_that_a_consumer_may_say() -> None:
    table = rows(section(page("kafka"), "### A consumer does not become ready"))
    told = [cells[0].strip("`").strip(". ") for cells in table]
    said = {*advice._ADVICE.values(), *(text for _, text in advice._HINTS), advice._HANGS_UP}

    assert {text for text in said if not any(text.startswith(one) for one in told)} == set()


def test_arguments_win_over_the_environment_and_that_over_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "settings.toml"
    file.write_text('name = "file"\nlease_seconds = 5\nmax_in_flight = 7\n[kafka]\n"client.id" = "file"\n')
    monkeypatch.setenv("DBOS_EVENTS_SETTINGS", str(file))
    monkeypatch.setenv("DBOS_EVENTS_NAME", "environment")
    monkeypatch.setenv("DBOS_APP_NAME", "other-name")
    monkeypatch.setenv("DBOS_EVENTS_LEASE_SECONDS", "6")
    monkeypatch.setenv("DBOS_EVENTS_KAFKA__BOOTSTRAP_SERVERS", "environment:9092")

    settings = read_settings({"name": "argument"})

    assert settings.name == "argument"
    assert read_settings({}).name == "environment"
    assert settings.lease_seconds == 6
    assert settings.max_in_flight == 7
    assert settings.sys_db_pool_size == 20
    assert settings.section("kafka") == {"client.id": "file", "bootstrap_servers": "environment:9092"}
