"""The settings of one App, read and checked by pydantic-settings. Imported at launch only."""

from __future__ import annotations

import difflib
import os
import re
import tomllib
import warnings
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic import Field, ValidationError, create_model, field_validator
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    SettingsError,
    TomlConfigSettingsSource,
)

from dbos_events.config import CONNECTORS, DEFAULT_SCHEMA
from dbos_events.errors import ConfigurationError
from dbos_events.telemetry.log import logger

FILE_VARIABLE = "DBOS_EVENTS_SETTINGS"
DEFAULT_FILE = "dbos-events.toml"

_PREFIX = "DBOS_EVENTS_"
_OF_TESTS = (
    f"{_PREFIX}TEST_",
    f"{_PREFIX}REQUIRE_SERVERS",
    f"{_PREFIX}MODEL_MINUTES",
    f"{_PREFIX}CRASH_SEED",
)
"""Of this package's own tests."""

_DAY = 86_400.0
_YEAR = 366 * _DAY

_OTHER_NAMES = {
    "DBOS_SYSTEM_DATABASE_URL": "system_database_url",
    "DBOS__VMID": "executor_id",
    "DBOS__APPVERSION": "application_version",
    "DBOS_APP_NAME": "name",
}
"""Variables that programs for DBOS Transact are deployed with."""

_WITHOUT_EFFECT = frozenset({
    "admin_port", "run_admin_server", "conductor_key", "conductor_url", "conductor_executor_metadata",
    "conductor_metadata_only_mode", "transact_enterprise_key", "auto_upgrade", "auto_upgrade_interval_sec",
    "auto_upgrade_grace_sec", "sharding", "enable_patching", "sys_db_polling_concurrency", "db_engine_kwargs",
    "sys_db_idle_transaction_timeout_sec", "system_database_engine", "notification_listener_polling_interval_sec",
    "notification_coalesce_sec", "observability_query_timeout_sec", "scheduler_polling_interval_sec",
    "kafka_queue_polling_interval_sec", "console_log_level", "otlp_log_level", "enable_otlp",
    "otlp_traces_endpoints", "otlp_logs_endpoints", "otlp_attributes", "otel_attribute_format",
    "application_database_url", "database_url",
})  # fmt: skip


class Settings(BaseSettings):
    """Every setting, with its default. Variables are `DBOS_EVENTS_` and the name in capitals.

    A subclass of it has a section for each installed connector.
    """

    _sections: ClassVar[tuple[str, ...]] = ()

    model_config = SettingsConfigDict(
        env_prefix="DBOS_EVENTS_",
        env_nested_delimiter="__",
        extra="forbid",
        frozen=True,
        hide_input_in_errors=True,
    )

    name: str = Field(
        "dbos-events",
        description="The application: processes of one name share their work. Required on a server's database.",
    )
    system_database_url: str | None = Field(
        None,
        repr=False,  # it may hold a password
        description="postgresql://... or sqlite:///file; by default a SQLite file called after the application.",
    )
    dbos_system_schema: str = Field(DEFAULT_SCHEMA, description="PostgreSQL schema of the tables.")
    sys_db_pool_size: int = Field(20, ge=4, le=10_000, description="Connections at most.")
    run_migrations: bool = Field(True, description="Migrate at launch; False only checks the schema.")
    application_version: str | None = Field(None, description="By default a hash of the workflows' source.")
    on_old_version: Literal["replay", "wait"] = Field(
        "replay", description="Started work of a version that no live process has: replay it, or let it wait."
    )
    executor_id: str | None = Field(
        None, description="Label of this process. Set it only where each process has its own."
    )
    serializer: Literal["json", "pickle"] | Any = Field("json", description="How values are stored.")
    max_executor_threads: int = Field(64, ge=1, le=100_000, description="Sync workflows that run at a time.")
    log_level: str = Field("INFO", description="Level of `dbos-events run`.")
    use_listen_notify: bool = Field(True, description="Wake other processes by NOTIFY (PostgreSQL).")
    lease_seconds: float = Field(
        10.0, ge=1.0, le=_DAY, description="Silence after which a process may be declared dead."
    )
    park_after_seconds: float = Field(
        2.0, ge=0.0, le=_YEAR, description="Waits longer than this leave memory."
    )
    shutdown_timeout_seconds: float = Field(20.0, ge=0.0, le=_DAY, description="Bound of a graceful stop.")
    max_in_flight: int = Field(1000, ge=1, description="Workflows of queues that run here at once.")
    held_per_lane: int = Field(
        1_000_000,
        ge=1,
        description="Events that wait behind others of their lane, at most; then intake waits.",
    )
    held_per_consumer: int = Field(
        10_000_000, ge=1, description="The same over all lanes of one consumer and one topic."
    )
    sweep_after_seconds: float = Field(
        120.0,
        ge=1.0,
        le=_YEAR,
        description="How long a partition has no holder before another process runs what is left.",
    )
    callback_url: str | None = Field(
        None, description="Where callbacks reach the application from outside: `https://host/callbacks`."
    )
    tune_garbage_collector: bool = Field(
        True, description="Let Python look for reference cycles less often than by default."
    )

    @field_validator("name")
    @classmethod
    def _check_name(cls, name: str) -> str:
        if not is_name(name):
            raise ValueError("use letters, digits, _, . and -, beginning with a letter or digit")
        return name

    @field_validator("dbos_system_schema", "executor_id", "application_version")
    @classmethod
    def _check_storable(cls, text: str | None) -> str | None:
        if text and not (text.isprintable() and len(text.encode()) <= 255):
            raise ValueError("use at most 255 bytes of printable characters")
        return text

    @property
    def sections(self) -> dict[str, dict[str, Any]]:
        """The settings of connectors, by their names."""
        return {name: getattr(self, name) for name in self._sections}

    def section(self, connector: str) -> dict[str, Any]:
        """The settings of a connector."""
        return self.sections.get(connector, {})

    @property
    def database_url(self) -> str:
        """The URL to connect to; keep it out of logs."""
        return self.system_database_url or f"sqlite:///{self.database_file}"

    @property
    def database_file(self) -> str:
        """The SQLite file that is used where no URL is given."""
        return f"{self.name.replace('-', '_')}.sqlite"

    @property
    def lacks_name(self) -> bool:
        """Whether services on one server would take each other's work, since none of them says what it is called."""
        return "name" not in self.model_fields_set and not self.database_url.startswith("sqlite")

    def refuse_without_name(self) -> None:
        """Raise `ConfigurationError` where the application needs a name and has none."""
        if self.lacks_name:
            raise ConfigurationError(
                f"The application has no name, and every service without one on this database server would share its "
                f"work with it, and run it with other code. Say DBOS(config={{'name': 'orders', ...}}), or set "
                f"DBOS_EVENTS_NAME. If it ran without a name so far, call it {self.name!r} to go on with its work."
            )

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        file = Path(os.environ.get(FILE_VARIABLE, DEFAULT_FILE))
        return init_settings, env_settings, TomlConfigSettingsSource(settings_cls, toml_file=file)


def unknown_variables() -> list[str]:
    """One line for each variable of ours that is set and means nothing, with the nearest that does."""
    strange = _strange_variables()
    if not strange:
        return []
    known = [f"{_PREFIX}{name.upper()}" for name in (*Settings.model_fields, *_section_names())]
    known.append(FILE_VARIABLE)
    messages = []
    for variable, name in strange.items():
        if name in known:
            continue
        found = difflib.get_close_matches(name, known, 1, 0.6)
        rest = variable[len(name) :]
        hint = (
            f" Did you mean {found[0]}{rest}?" if found else " See docs/settings.md for those that there are."
        )
        messages.append(f"The environment variable {variable} is set and has no effect.{hint}")
    return messages


def _strange_variables() -> dict[str, str]:
    """Variables of ours that are no setting of every App, each with the name that it would set."""
    known = {f"{_PREFIX}{name.upper()}" for name in Settings.model_fields} | {FILE_VARIABLE}
    found = {variable: variable.partition("__")[0].upper() for variable in sorted(os.environ)}
    return {
        variable: name
        for variable, name in found.items()
        if variable.upper().startswith(_PREFIX) and name not in known and not name.startswith(_OF_TESTS)
    }


# ------------------------------------------------------------------ sections of connectors


def _section_names() -> tuple[str, ...]:
    """The installed connectors; one whose name means something else in the settings has no section."""
    from importlib.metadata import entry_points

    names = sorted({entry.name for entry in entry_points(group=CONNECTORS)})
    return tuple(name for name in names if _may_be_section(name))


def _may_be_section(name: str) -> bool:
    taken = name in Settings.model_fields or hasattr(Settings, name)
    return name.isidentifier() and not name.startswith(("_", "model_")) and not taken


def _model(config: dict[str, Any]) -> type[Settings]:
    """Settings with a section for each connector: looked for where something was said that may be meant for one."""
    file = Path(os.environ.get(FILE_VARIABLE, DEFAULT_FILE))
    if config.keys() <= Settings.model_fields.keys() and not _strange_variables() and not file.exists():
        return Settings
    return _with_sections(_section_names())


@lru_cache(maxsize=8)
def _with_sections(names: tuple[str, ...]) -> type[Settings]:
    fields: dict[str, Any] = {
        name: (dict[str, Any], Field(default_factory=dict, repr=False)) for name in names
    }
    made = create_model("Settings", __base__=Settings, **fields)
    made._sections = names  # noqa: SLF001 - of the class that is made here
    return made


def _problem(error: Any, model: type[Settings]) -> str:
    """What is wrong with one setting, without its value."""
    place = ".".join(map(str, error["loc"]))
    if error["type"] != "extra_forbidden":
        return f"{place}: {error['msg']}"
    found = difflib.get_close_matches(place, model.model_fields, 1, 0.6)
    if found:
        return f"{place}: there is no such setting. Did you mean {found[0]}?"
    if not isinstance(error["input"], Mapping):
        return f"{place}: there is no such setting; docs/settings.md has those that there are"
    return f"{place}: there is no such setting, and no installed connector is called so"


def _tell_unknown() -> None:
    for message in unknown_variables():
        _say_once(message)


@lru_cache(maxsize=64)
def _say_once(message: str) -> None:
    logger.warning("%s", message)


def is_name(name: str) -> bool:
    """Whether an application may be called so."""
    return re.fullmatch(r"[a-zA-Z0-9][a-zA-Z0-9_.-]{0,255}", name) is not None


def read_settings(config: dict[str, Any]) -> Settings:
    """Settings from arguments, environment and file.

    Raises:
        ConfigurationError: Names each wrong key, what it was set to excepted.
    """
    odd: list[object] = [key for key in config if type(key) is not str]
    if odd:
        raise ConfigurationError(f"The configuration is not usable. The key {odd[0]!r} is no text.")
    named = os.environ.get(FILE_VARIABLE)
    if named and not Path(named).is_file():
        raise ConfigurationError(f"{FILE_VARIABLE} names {named}, which is not a file.")
    _tell_unknown()
    given = {key: value for key, value in config.items() if value is not None}
    for key in sorted(_WITHOUT_EFFECT & given.keys()):
        warnings.warn(f"The config key {key!r} has no effect in dbos_events.", stacklevel=3)
        del given[key]
    for variable, key in _OTHER_NAMES.items():
        if key not in given and os.environ.get(variable) and not os.environ.get(f"DBOS_EVENTS_{key.upper()}"):
            given[key] = os.environ[variable]
    model = _model(given)
    try:
        return model(**given)
    except ValidationError as error:
        problems = "; ".join(_problem(item, model) for item in error.errors())
        raise ConfigurationError(f"The configuration is not usable. {problems}") from None
    except SettingsError as error:
        # It says which variable, and its cause quotes nothing of the value.
        raise ConfigurationError(f"The configuration is not usable. {error}: it has to be JSON.") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"The settings file {named or DEFAULT_FILE} is not TOML: {error}.") from None
    except OSError as error:
        why = error.strerror
        raise ConfigurationError(
            f"The settings file {named or DEFAULT_FILE} cannot be read: {why}."
        ) from None
