"""The life of `dbos-events run`: import, launch and wait for the database, run, drain."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import threading
import time
from collections.abc import Mapping
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any

from dbos_events.cli.http import HttpServer
from dbos_events.cli.logs import set_level
from dbos_events.cli.output import one_line
from dbos_events.cli.probes import Answer, HealthServer
from dbos_events.cli.stopsignals import StopRequested, StopSignals
from dbos_events.cli.target import load_app, module_of
from dbos_events.connect.http import HttpSource
from dbos_events.errors import DBOSInitializationError, StorageUnavailable
from dbos_events.model.dataclass import dataclass, field
from dbos_events.settings import is_name, read_settings
from dbos_events.telemetry.log import Recurring, redact

if TYPE_CHECKING:
    from dbos_events.app import App
    from dbos_events.engine.run import Run

log = logging.getLogger("dbos_events.cli")

FIRST_PAUSE = 0.5
LONGEST_PAUSE = 5.0
LAUNCH_STOP_SECONDS = 5.0
"""How long a launch that is under way may take to notice that it is not wanted any more."""
EXIT_SECONDS = 2.0
HTTP_STOP_SECONDS = 3.0
COME_BACK_SECONDS = 1.0
"""So often the main thread comes back to the interpreter, which runs handlers of signals there."""
OVERTIME_SECONDS = 4.0
"""How much longer than its bound a stop may take before the process ends without it."""


@dataclass(frozen=True, slots=True)
class ServiceOptions:
    """What the command line asks for; `settings` win over those of the program."""

    target: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    log_level: str | None = None
    health_host: str = "0.0.0.0"  # noqa: S104 - probes come from outside of the container
    health_port: int | None = None
    fail_fast: bool = False
    http: str | None = None


class RunningService:
    """One run of the service, on the main thread; signals and the end of the launch come as happenings."""

    def __init__(self, options: ServiceOptions) -> None:
        self._options = options
        self._app: App | None = None
        self._launched = False
        self._draining = False
        self._problem = "importing the program"
        self._happenings: SimpleQueue[signal.Signals | BaseException | None] = SimpleQueue()
        self._unwanted = threading.Event()
        self._signals = StopSignals(self._happenings.put)
        self._http: HttpServer | None = None

    def run(self) -> None:
        """Run until a signal comes, then stop gracefully; a second signal ends the process at once.

        Raises:
            DBOSException: The service cannot start; the message is for the user.
        """
        with self._signals:
            probes = self._open_probes()
            try:
                self._http = None if self._options.http is None else HttpServer(self._options.http)
                self._run()
            except StopRequested:
                log.info("Stopped before anything was launched.")
            finally:
                if self._http is not None:
                    self._http.stop(HTTP_STOP_SECONDS)
                if probes is not None:
                    probes.stop()

    def _run(self) -> None:
        app = self._load()
        requested = self._launch(app)
        if requested is None:
            _announce(app)
            self._start_http(app)
            requested = self._next_signal()
        self._stop(app, requested)

    # -- signals ------------------------------------------------------------------------------

    def _next_signal(self) -> signal.Signals:
        while True:
            with contextlib.suppress(Empty):
                happening = self._happenings.get(timeout=COME_BACK_SECONDS)
                if isinstance(happening, signal.Signals):
                    return happening

    # -- starting -----------------------------------------------------------------------------

    def _open_probes(self) -> HealthServer | None:
        if self._options.health_port is None:
            return None
        host = self._options.health_host
        server = HealthServer(host, self._options.health_port, self.answer)
        server.start()
        log.info(
            "Health probes: http://%s:%d/livez and /readyz.", host, server.port, extra={"port": server.port}
        )
        return server

    def _start_http(self, app: App) -> None:
        if self._http is None:
            return
        sources = [source for source in app.launched.sources if isinstance(source, HttpSource)]
        addresses = [address for source in sources for address in source.addresses]
        if not addresses:
            raise DBOSInitializationError(
                f"{self._options.target} declares nothing that is asked over HTTP on the App that was launched, so there is "
                "nothing to serve with --http."
            )
        self._http.start(sources)
        log.info(
            "HTTP: http://%s:%d with %s.", self._http.host, self._http.port, ", ".join(addresses),
            extra={"port": self._http.port, "addresses": addresses},
        )  # fmt: skip

    def _load(self) -> App:
        self._signals.interrupts = True
        try:
            app = load_app(self._options.target)
        finally:
            self._signals.interrupts = False
        if not app.is_launched:
            app.configure(self._named({**app.config, **self._options.settings}))
        elif self._options.settings:
            raise DBOSInitializationError(
                f"{self._options.target} launches DBOS itself, so options that change its settings come too "
                "late. Leave DBOS.launch() to `dbos-events run`."
            )
        level = self._options.log_level or read_settings(app.config).log_level
        set_level(level)
        return app

    def _named(self, config: dict[str, Any]) -> dict[str, Any]:
        """The configuration; where it needs a name of the application and gives none, with that of the module."""
        name = module_of(self._options.target)
        if not read_settings(config).lacks_name or not is_name(name):
            return config
        log.info("The application has no name of its own, and is called %s after its module.", name)
        return {**config, "name": name}

    def _launch(self, app: App) -> signal.Signals | None:
        """Launch, on a thread of its own so that a signal is heard meanwhile; gives the signal that came."""
        self._problem = "launching"
        thread = threading.Thread(
            target=self._launch_when_possible, args=(app,), name="dbos-launch", daemon=True
        )
        thread.start()
        happening = self._happenings.get()
        if isinstance(happening, signal.Signals):
            self._unwanted.set()
            thread.join(LAUNCH_STOP_SECONDS)
            self._launched = not thread.is_alive() and app.is_launched
            return happening
        if happening is not None:
            raise happening
        self._app = app
        self._launched = True
        return None

    def _launch_when_possible(self, app: App) -> None:
        """Try until the database is there; whatever else goes wrong ends the service."""
        outage, refusal = Recurring(), Recurring(decision=True)
        pause = FIRST_PAUSE
        while not self._unwanted.is_set():
            try:
                app.launch()
            except StorageUnavailable as error:
                if self._options.fail_fast:
                    self._happenings.put(error)
                    return
                if error.refused:
                    self._problem = f"the database refuses this service: {one_line(error.message)}"
                    refusal.say(
                        "The database refuses this service, which is not an outage: %s It is asked again.",
                        one_line(error.message),
                    )
                else:
                    self._problem = f"waiting for the database: {one_line(error.message)}"
                    outage.say("Waiting for the database. %s", one_line(error.message))
            except BaseException as error:  # noqa: BLE001 - raised again by the main thread
                self._happenings.put(error)
                return
            else:
                refusal.over("The database lets this service in.")
                outage.over("The database answers.")
                self._happenings.put(None)
                return
            self._unwanted.wait(pause)
            pause = min(pause * 2, LONGEST_PAUSE)

    # -- health -------------------------------------------------------------------------------

    def answer(self) -> Answer:
        """What the probes say; a process that waits for its database is live, and not ready."""
        if self._draining:
            return Answer(True, False, ("draining",))
        if self._app is None:
            return Answer(True, False, (self._problem,))
        health = self._app.health()
        return Answer(health.live, health.ready, health.problems, health.notes)

    # -- stopping -----------------------------------------------------------------------------

    def _stop(self, app: App, requested: signal.Signals) -> None:
        self._draining = True
        if not self._launched:
            log.info("Stopped by %s before anything was launched.", requested.name)
            _exit_in_time()
            return
        seconds = app.launched.settings.shutdown_timeout_seconds
        running = list(app.core.runner.active.values())
        log.info(
            "%s: draining for at most %g s; running workflows: %d. A second signal stops at once.",
            requested.name,
            seconds,
            len(running),
            extra={"signal": requested.name, "running": len(running)},
        )
        self._destroy(app, seconds)
        left = sum(map(_goes_on_elsewhere, running))
        log.info(
            "Drained and stopped%s.",
            f"; {left} workflows had not finished and go on in another process, or at the next start"
            if left
            else "",
            extra={"unfinished": left},
        )
        _exit_in_time()

    def _destroy(self, app: App, seconds: float) -> None:
        """Stop the App on another thread: whatever holds that up, the process ends in time."""
        errors: list[BaseException] = []

        def destroy() -> None:
            try:
                app.destroy(workflow_completion_timeout_sec=seconds)
            except BaseException as error:  # noqa: BLE001 - raised again by the main thread
                errors.append(error)

        over = threading.Thread(target=destroy, name="dbos-destroy", daemon=True)
        over.start()
        end = time.monotonic() + seconds + OVERTIME_SECONDS
        while over.is_alive() and time.monotonic() < end:
            over.join(COME_BACK_SECONDS)
        if over.is_alive():
            log.error(
                "The process did not stop within its time, and ends. Other processes find it by its lease."
            )
            logging.shutdown()
            os._exit(0)
        if errors:
            raise errors[0]


def _announce(app: App) -> None:
    """Say what was launched, and what it does."""
    launched = app.launched
    settings, core = launched.settings, launched.core
    log.info(
        "Launched %s, version %s, as executor %d (%s) on %s.",
        settings.name,
        core.version,
        core.executor,
        launched.label,
        redact(settings.database_url.partition("?")[0]),
        extra={
            "application": settings.name,
            "version": core.version,
            "executor": core.executor,
            "label": launched.label,
            "consumers": [declaration.options.name for declaration in app.consumers],
            "queues": sorted(app.registry.queues),
        },
    )
    for declaration in app.consumers:
        options = declaration.options
        log.info(
            "Consumer %s reads %s, ordering %s.",
            options.name,
            ", ".join(options.topics),
            options.ordering,
            extra={"consumer": options.name, "topics": list(options.topics), "ordering": options.ordering},
        )


def _goes_on_elsewhere(run: Run) -> bool:
    return run.ending is None or run.ending.kind == "lost"


def _exit_in_time() -> None:
    """All that matters is durable: a thread of the program that does not end must not hold the process."""
    timer = threading.Timer(EXIT_SECONDS, os._exit, args=(0,))
    timer.daemon = True
    timer.start()
