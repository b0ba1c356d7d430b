"""`DBOS`: the surface that programs use, over one default App."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from dbos_events.api.surface import VERBS, BoundVerbs
from dbos_events.app import App
from dbos_events.bundled import DBOSConfig
from dbos_events.engine.context import CURRENT
from dbos_events.model.workflow import StepStatus
from dbos_events.telemetry.log import logger

_DEFAULT = App()


class _Context(type):
    """The properties of `DBOS` that tell where the running code stands."""

    @property
    def workflow_id(cls) -> str | None:
        """The id of the running workflow; None outside of workflows."""
        scope = CURRENT.get()
        return None if scope is None else scope.run.id

    @property
    def step_id(cls) -> int | None:
        """The number of the running step; None outside of steps."""
        scope = CURRENT.get()
        return scope.step.step_id if scope is not None and scope.step is not None else None

    @property
    def step_status(cls) -> StepStatus | None:
        """The attempt that the running step is in; None outside of steps."""
        scope = CURRENT.get()
        return None if scope is None else scope.step

    @property
    def idempotency_key(cls) -> str | None:
        """The key of the running step: hand it to whoever must not act twice. None outside of steps.

        `workflow:step`, with `#2` for the second call of that name; or what the step's `idempotency_key=` gave. It is
        the same in every attempt, retry, recovery and redrive, whatever other calls were put in or removed.
        """
        scope = CURRENT.get()
        if scope is None or scope.key is None:
            return None
        scope.key.asked = True
        return scope.key.text

    @property
    def logger(cls) -> logging.Logger:
        """The package's logger."""
        return logger

    @property
    def executor_id(cls) -> str:
        """The label of this process."""
        return _DEFAULT.launched.label

    @property
    def application_version(cls) -> str:
        """The version of the running code."""
        return _DEFAULT.core.version


class _OfDefault:
    """Stands for a verb of the default App until somebody asks for it."""

    __slots__ = ("name",)

    def __init__(self, name: str) -> None:
        self.name = name

    def __get__(self, instance: object, owner: type | None = None) -> Any:
        verb = getattr(_DEFAULT, self.name)
        setattr(DBOS, self.name, verb)
        return verb


class _DefaultVerbs(BoundVerbs):
    """What `DBOS` has of the default App.

    A base of it, for `unittest.mock` takes what stands in a class itself for the original, and makes no use of `__get__`.
    """


for _name in VERBS:
    setattr(_DefaultVerbs, _name, _OfDefault(_name))


class DBOS(_DefaultVerbs, metaclass=_Context):
    """The default App: `DBOS(config=...)`, decorators, `DBOS.launch()`.

    Decorators may run before the configuration is given; everything else needs `launch`. A second
    `DBOS(config=...)` before launch replaces the configuration.
    """

    def __init__(self, *, config: DBOSConfig | Mapping[str, Any] | None = None) -> None:
        if config is not None:
            _DEFAULT.configure(config)

    workflow = _DEFAULT.workflow
    step = _DEFAULT.step
    kafka_consumer = _DEFAULT.kafka_consumer

    launch = _DEFAULT.launch
    launch_async = _DEFAULT.launch_async
    destroy = _DEFAULT.destroy
    destroy_async = _DEFAULT.destroy_async
    health = _DEFAULT.health
    lifespan = _DEFAULT.lifespan


def default_app() -> App:
    """The App that `DBOS` is the facade of."""
    return _DEFAULT
