"""Each installed connector has a section of the settings under its name."""

import warnings
from pathlib import Path

import pytest

from dbos_events.connect import find_connector
from dbos_events.errors import ConfigurationError
from dbos_events.settings import FILE_VARIABLE, Settings, _may_be_section, read_settings, unknown_variables


@pytest.fixture(autouse=True)
def nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder without a settings file."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv(FILE_VARIABLE, raising=False)
    return tmp_path


def refusal(config: dict[str, object]) -> str:
    with pytest.raises(ConfigurationError) as refused:
        read_settings(config)
    return refused.value.message


@pytest.mark.parametrize("name", ["kafka", "webhooks"])
def test_a_section_comes_from_arguments_environment_and_file(
    name: str, nowhere: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (nowhere / "dbos-events.toml").write_text(f"[{name}]\nfile = 1\nvariable = 1\nargument = 1\n")
    monkeypatch.setenv(f"DBOS_EVENTS_{name.upper()}__VARIABLE", "2")
    monkeypatch.setenv(f"DBOS_EVENTS_{name.upper()}__ARGUMENT", "2")

    settings = read_settings({name: {"argument": 3}})

    assert settings.section(name) == {"file": 1, "variable": "2", "argument": 3}
    assert settings.sections[name] == settings.section(name)
    assert isinstance(settings, Settings)


def test_a_variable_alone_makes_a_section(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DBOS_EVENTS_KAFKA", '{"client.id": "x"}')
    assert read_settings({}).section("kafka") == {"client.id": "x"}
    assert unknown_variables() == []


def test_a_section_of_which_nothing_is_said_is_empty() -> None:
    assert read_settings({}).section("kafka") == {}
    assert read_settings({"kafka": {}}).section("webhooks") == {}


def test_what_is_no_section_is_not_given_as_one() -> None:
    assert read_settings({"name": "shop"}).section("name") == {}


@pytest.mark.parametrize(
    ("key", "said"),
    [
        ("kafak", "kafak: there is no such setting. Did you mean kafka?"),
        ("webhook", "webhook: there is no such setting. Did you mean webhooks?"),
        ("leaseseconds", "leaseseconds: there is no such setting. Did you mean lease_seconds?"),
        ("pulsar", "pulsar: there is no such setting, and no installed connector is called so"),
    ],
)
def test_an_unknown_section_is_refused_with_what_was_probably_meant(key: str, said: str) -> None:
    assert said in refusal({key: {"password": "hunter"}})
    assert "hunter" not in refusal({key: {"password": "hunter"}})


def test_an_unknown_key_is_refused_with_the_page_that_has_them() -> None:
    assert "xyzzy: there is no such setting; docs/settings.md has" in refusal({"xyzzy": 1})


def test_a_variable_of_an_unknown_section_is_told_with_the_nearest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DBOS_EVENTS_KAFAK__BOOTSTRAP_SERVERS", "x")
    (message,) = unknown_variables()
    assert message.endswith("Did you mean DBOS_EVENTS_KAFKA__BOOTSTRAP_SERVERS?")


def test_a_section_that_is_no_mapping_is_refused_by_its_name() -> None:
    assert "webhooks: Input should be a valid dictionary" in refusal({"webhooks": "x"})


def test_a_key_of_the_peer_stays_one_without_effect() -> None:
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        read_settings({"kafka_queue_polling_interval_sec": 1.0})
    assert "has no effect" in str(told[0].message)


@pytest.mark.parametrize(
    "name", ["name", "section", "database_url", "model_config", "_own", "two words", "copy"]
)
def test_a_connector_whose_name_means_something_else_has_no_section(name: str) -> None:
    assert not _may_be_section(name)
    assert _may_be_section("pulse")


def test_webhooks_refuse_a_section_since_they_have_no_settings() -> None:
    open_source = find_connector("webhooks").open_source
    with pytest.raises(ConfigurationError, match=r"webhooks\.max_body: webhooks have no settings"):
        open_source(None, {"max_body": 5})  # type: ignore[arg-type]
