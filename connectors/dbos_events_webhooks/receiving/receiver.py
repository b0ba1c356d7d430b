"""`WebhookReceiver`: endpoints whose handlers are durable workflows, as an ASGI app."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import replace
from typing import Any, Literal, Protocol, TypeVar, cast
from urllib.parse import unquote

from dbos_events.connect import Inbox, PushHost, PushOptions, default_host, logger
from dbos_events.errors import ConfigurationError, RegistrationError
from dbos_events.model.event import Breaker, OnFailure, PayloadCodec, Retry
from dbos_events_webhooks.changes import Options, changed_row
from dbos_events_webhooks.decompressing import Coding, Decompress
from dbos_events_webhooks.outcome import Answer
from dbos_events_webhooks.places import Body, Place
from dbos_events_webhooks.provider import Provider
from dbos_events_webhooks.receiving import answers
from dbos_events_webhooks.receiving.bodies import Receive
from dbos_events_webhooks.receiving.callbacks import MAX_BODY, CallbackEndpoint
from dbos_events_webhooks.receiving.endpoint import Endpoint
from dbos_events_webhooks.receiving.limits import Limits
from dbos_events_webhooks.receiving.ordering import ordering_of
from dbos_events_webhooks.receiving.paths import Paths, checked_path, path_in
from dbos_events_webhooks.receiving.rates import RateLimit
from dbos_events_webhooks.receiving.replies import Reply, checked_reply
from dbos_events_webhooks.receiving.serving import Scope, Service
from dbos_events_webhooks.request import Headers, Text, WebhookRequest

F = TypeVar("F", bound=Callable[..., Any])

CONNECTOR = "webhooks"
_BREAKER = Breaker()


class Host(PushHost, Protocol):
    """An App, or `DBOS`."""

    def launch(self) -> None: ...

    def destroy(self) -> None: ...


class WebhookReceiver:
    """Receives webhooks: verifies each request, and starts a durable workflow for each of its events, exactly once.

    It is an ASGI app: run it alone, mount it, or take its `router` into another app. A request is answered when its
    events are durable, and never waits for a handler.

    Args:
        app: The App whose workflows the handlers are; the one behind `DBOS` by default.
        limits: Bounds of requests, for all endpoints.
    """

    def __init__(self, app: Any = None, *, limits: Limits | None = None) -> None:
        self.app: Any = default_host() if app is None or isinstance(app, type) else app
        self.endpoints: list[Endpoint] = []
        self._paths: Paths[Endpoint] = Paths()
        self._limits = limits
        self._service = Service(limits or Limits())
        self._callbacks: CallbackEndpoint | None = None

    # -- declaring ----------------------------------------------------------------------------

    def webhook(  # noqa: PLR0913 - the options of one declaration
        self,
        path: str,
        *,
        provider: Provider | None = None,
        name: str | None = None,
        key: Place | None = None,
        split: str | Body | tuple[str, ...] | None = None,
        decompress: Decompress | Coding | tuple[Coding, ...] | None = None,
        reply: Reply = None,
        rate: RateLimit | None = None,
        on_invalid: Literal["quarantine", "reject"] = "quarantine",
        ordering_key: Place | None = None,
        when: Callable[[Any], bool] | None = None,
        queue: str | None = None,
        retries: Retry | None = None,
        on_failure: OnFailure = "quarantine",
        breaker: Breaker | None = _BREAKER,
        codec: PayloadCodec | None = None,
        max_body: int | None = None,
        max_in_flight: int = 1000,
        remembered_seconds: float | None = None,
        retired: bool = False,
    ) -> Callable[[F], F]:
        """Run the function as a durable workflow for each event that comes to `path`, exactly once.

        What its argument is annotated with says what it gets: `WebhookEvent`, `WebhookEvent[Order]`, or the content alone
        (`order: Order`). An event that does not fit is put into quarantine, and the sender hears success: to send it
        again would not help.

        Several functions on one path each run for each event, started in one transaction; the first one names the
        provider and what belongs to the path (`key`, `split`, `max_body`, `decompress`, `reply`, `rate`), and the others
        need not.

        Args:
            path: `/stripe`, or `/t/{tenant}/erp` with parameters. Two tenants never share an id.
            provider: The sender, with its secrets: `providers.stripe(secret=...)`.
            name: The consumer's name, in ids, the database and the command line; the function's by default. Keep it
                when the function is renamed, or events that come again would start anew.
            key: What tells an event from all others, where it is not as the provider says.
            split: The list in the content whose items are events.
            decompress: Which compressed bodies are taken: "gzip", "deflate", or `Decompress(...)`. The signature is over
                the bytes that arrived, unless that says otherwise. No more than `max_body` comes out of one.
            reply: What the sender hears instead of our own words, once its events are durable: text, bytes, a mapping
                (as JSON), an `Answer`, or a function (sync or async) of the first event. The function is called again
                for a duplicate, and its result is stored nowhere. Where it fails, the sender hears our own words.
            rate: How many requests are taken in; the others get 429.
            on_invalid: "quarantine": content that does not fit what the handler takes is kept, and its sender hears
                success. "reject": it is answered with 422, and nothing of its request is stored.
            ordering_key: Events with the same value there run one after the other, in the order of their arrival. A
                function gets the event, or its content where its argument is annotated with a type.
            when: Which events start a workflow; called as a function of `ordering_key`. The others are counted.
            queue: Enqueue the workflows; any process that serves the queue runs them.
            retries: How often, and with what pauses, an event whose handler fails is tried again.
            on_failure: "quarantine": a failed event is put aside; "record": it ends as ERROR.
            breaker: When nothing more is taken in because the handler fails; None: never. Senders get 429 then.
            codec: Makes values of contents that are neither JSON nor a form.
            max_body: The largest body in bytes, where it is not as the provider's row says.
            max_in_flight: Events that run in this process at once. More are taken in, and wait in the database.
            remembered_seconds: How long an id is known: an event that comes again within it starts nothing (90 days).
            retired: Answer 410, so that the sender stops.

        Raises:
            RegistrationError: An option is wrong, or does not fit to what the path has already.
        """
        _check(path, on_invalid)
        given = {"key": key, "split": split, "max_body": max_body, "decompress": decompress}
        changes = cast(Options, {name: value for name, value in given.items() if value is not None})

        def decorate(function: F) -> F:
            endpoint = self._endpoint(path, provider, changes, retired=retired)
            endpoint.say(checked_reply(path, reply), rate)
            options = PushOptions(
                name=name,
                ordering_key=None if ordering_key is None else ordering_of(path, ordering_key),
                when=when,
                codec=codec,
                queue_name=queue,
                max_in_flight=max_in_flight,
                retries=retries,
                on_failure=on_failure,
                breaker=breaker,
                addresses=(path,),
                config={"receiver": self, "endpoint": endpoint, "rejects": on_invalid == "reject"},
                namespace=sys._getframe(1).f_locals,  # noqa: SLF001 - models are often declared beside the handler
            )
            if remembered_seconds is not None:
                options = replace(options, remembered_seconds=remembered_seconds)
            return cast(PushHost, self.app).pushed_consumer(CONNECTOR, options)(function)

        return decorate

    def _endpoint(self, path: str, provider: Provider | None, changes: Options, *, retired: bool) -> Endpoint:
        known = next((each for each in self.endpoints if each.path == path), None)
        if known is None:
            if provider is None:
                raise RegistrationError(
                    f"The endpoint {path} has no provider: say who sends there and with which secret, as in "
                    "provider=providers.stripe(secret=...)."
                )
            known = Endpoint(path, _changed(provider, changes), provider, retired=retired)
            self.endpoints.append(known)
            self._paths.add(path, known)
        elif (provider is not None and provider is not known.given) or (
            changes and _changed(known.given, changes).row != known.provider.row
        ):
            raise RegistrationError(
                f"Two handlers of {path} differ in provider, key, split, max_body or decompress, which belong to the path. "
                "Say them once, or give one of the handlers another path."
            )
        return known

    def callbacks(self, path: str = "/callbacks", *, max_body: int = MAX_BODY) -> None:
        """Answer the URLs of `DBOS.callback` at `PATH/{token}`: the setting `callback_url` is its address from outside.

        POST only: the first one in time counts, 200; a later one is answered as it was; after the deadline 410.
        """
        base = checked_path(path).rstrip("/")
        if "{" in base:
            raise RegistrationError(f"The path of callbacks has no parameters, and this is {path!r}.")
        self._callbacks = CallbackEndpoint(self.app, base, self._service.load, max_body)

    def _token_in(self, path: str) -> str | None:
        if self._callbacks is None or not path.startswith(f"{self._callbacks.path}/"):
            return None
        token = path[len(self._callbacks.path) + 1 :].rstrip("/")
        return token if token and "/" not in token else None

    def has(self, path: str) -> bool:
        """Whether there is something at this path."""
        return self._paths.find(path) is not None or self._token_in(path) is not None

    # -- running ------------------------------------------------------------------------------

    def open(self, inbox: Inbox, settings: Mapping[str, Any] | None = None) -> None:
        """Take events in from now on: the App is launched. `settings` are limits where the program gives none.

        Raises:
            ConfigurationError: A setting is not one of them, or cannot be used.
        """
        if self._limits is None and settings is not None:
            self._service.use(Limits.of_settings(settings))
        for endpoint in self.endpoints:
            mine = {
                consumer: options.config
                for consumer, options in inbox.consumers.items()
                if options.config.get("endpoint") is endpoint
            }
            endpoint.consumers = list(mine)
            endpoint.rejecting = frozenset(name for name, config in mine.items() if config.get("rejects"))
        self._service.open(inbox)

    def pause(self) -> None:
        """Take nothing more in: requests get 503, and their senders try elsewhere, or later."""
        self._service.draining = True

    def close(self, seconds: float = 0.0) -> None:
        """Forget the App, once what is at work has been answered, and after `seconds` in any case."""
        self.pause()
        self._service.load.wait_empty(seconds)
        self._service.close()

    @property
    def is_open(self) -> bool:
        """Whether requests are taken in."""
        return self._service.inbox is not None and not self._service.draining

    @property
    def requests(self) -> int:
        """How many requests are at work now."""
        return self._service.load.requests

    def find(self, path: str) -> tuple[Endpoint, Mapping[str, str]] | None:
        """The endpoint that a path means, with its parameters."""
        return self._paths.find(path)

    async def __call__(self, scope: Scope, receive: Receive, send: answers.Send) -> None:
        """ASGI: `http`, and `lifespan` where it runs alone."""
        if scope["type"] == "lifespan":
            await self._run_lifespan(receive, send)
            return
        if scope["type"] != "http":
            await send({"type": "websocket.close", "code": 1000})
            return
        path = path_in(scope)
        found = self._paths.find(path)
        if found is None and (token := self._token_in(path)) is not None and self._callbacks is not None:
            await self._callbacks.serve(token, scope, receive, send)
            return
        if found is None:
            http1 = str(scope.get("http_version", "1.1")).startswith("1")
            await answers.send_answer(answers.NOT_FOUND, send, close=http1)
            return
        await self._service.serve(found[0], found[1], scope, receive, send)

    def receive(self, method: str, path: str, headers: Headers, body: bytes, *, query: Text = b"") -> Answer:
        """Answer one request that another HTTP framework has read: verified, and its events durable, as over ASGI.

        `path` is that of an endpoint, percent-encoded as in the URL; `body` are the bytes that arrived. Send `status`,
        `headers` and `body` of what it gives. No request makes it raise.

        Raises:
            ConfigurationError: A function that was given for secrets is async. Use `receive_async`.
            DBOSException: It blocks, and was called on a running loop. Use `receive_async`.
            TypeError: The body is not bytes.
        """
        found = self._found(WebhookRequest.of(body, headers, method=method, path=path, query=query))
        return answers.NOT_FOUND if found is None else self._service.receive(*found)

    async def receive_async(
        self, method: str, path: str, headers: Headers, body: bytes, *, query: Text = b""
    ) -> Answer:
        """As `receive`, on a running loop."""
        found = self._found(WebhookRequest.of(body, headers, method=method, path=path, query=query))
        return answers.NOT_FOUND if found is None else await self._service.receive_async(*found)

    def _found(self, request: WebhookRequest) -> tuple[Endpoint, WebhookRequest] | None:
        found = self._paths.find(unquote(request.path))
        return None if found is None else (found[0], replace(request, path_params=dict(found[1])))

    async def _run_lifespan(self, receive: Receive, send: answers.Send) -> None:
        await receive()
        try:
            launched = await self._launch()
        except BaseException as error:
            await send({"type": "lifespan.startup.failed", "message": f"{type(error).__name__}: {error}"})
            raise
        await send({"type": "lifespan.startup.complete"})
        await receive()
        if launched:
            await self._stop()
        await send({"type": "lifespan.shutdown.complete"})

    @contextlib.asynccontextmanager
    async def lifespan(self, _application: Any = None) -> AsyncIterator[None]:
        """Launch the App with the outer app, and stop it with it: `FastAPI(lifespan=hooks.lifespan)`.

        An App that is launched already is left as it is.
        """
        launched = await self._launch()
        try:
            yield
        finally:
            if launched:
                await self._stop()

    def wrap_lifespan(
        self, own: Callable[[Any], contextlib.AbstractAsyncContextManager[Any]]
    ) -> Callable[[Any], contextlib.AbstractAsyncContextManager[Any]]:
        """A lifespan of yours with ours around it: `FastAPI(lifespan=hooks.wrap_lifespan(own))`."""

        @contextlib.asynccontextmanager
        async def both(application: Any) -> AsyncIterator[Any]:
            async with self.lifespan(application), own(application) as state:
                yield state

        return both

    async def _launch(self) -> bool:
        """Launch the App where it is not; gives whether it was done here."""
        if self.is_open or getattr(self.app, "is_launched", False):
            return False  # whoever launched it stops it
        await self.app.launch_async()
        if self.endpoints and not self.is_open:
            logger.warning(
                "A webhook receiver was started, and none of its endpoints is declared on the App that was launched."
            )
        return True

    async def _stop(self) -> None:
        self.pause()
        await self.app.destroy_async()

    # -- routes -------------------------------------------------------------------------------

    @property
    def routes(self) -> list[Any]:
        """A route for each endpoint: `Starlette(routes=[*hooks.routes, ...])`. Needs Starlette."""
        from dbos_events_webhooks.receiving.routing import routes_of

        return list(routes_of(self))

    @property
    def router(self) -> Any:
        """A router of FastAPI, where that is installed, else of Starlette: `app.include_router(hooks.router)`."""
        from dbos_events_webhooks.receiving.routing import router_of

        return router_of(self)

    def at(self, endpoint: Endpoint) -> Callable[[Scope, Receive, answers.Send], Any]:
        """An ASGI app that is this endpoint, under whatever path a router gives it."""

        async def serve(scope: Scope, receive: Receive, send: answers.Send) -> None:
            params = {key: str(value) for key, value in (scope.get("path_params") or {}).items()}
            await self._service.serve(endpoint, params, scope, receive, send)

        return serve

    @property
    def callback_paths(self) -> tuple[str, ...]:
        """The routes of callbacks, where they are answered."""
        if self._callbacks is None:
            return ()
        path = f"{self._callbacks.path}/{{token}}"
        return path, f"{path}/"  # a redirect would be taken for a failure

    async def callback_app(self, scope: Scope, receive: Receive, send: answers.Send) -> None:
        """An ASGI app that is the route of callbacks, under whatever path a router gives it."""
        assert self._callbacks is not None  # noqa: S101 - else there is no such route
        await self._callbacks.serve(str(scope["path_params"]["token"]), scope, receive, send)

    def counts(self) -> dict[str, dict[str, int]]:
        """What became of requests and events in this process, by the endpoint's path."""
        counted = {endpoint.path: dict(endpoint.counts) for endpoint in self.endpoints}
        if self._callbacks is not None:
            counted[self._callbacks.path] = dict(self._callbacks.counts)
        return counted


def _check(path: str, on_invalid: str) -> None:
    checked_path(path)
    if on_invalid not in ("quarantine", "reject"):
        raise RegistrationError(f"on_invalid of {path} is 'quarantine' or 'reject', and not {on_invalid!r}.")


def _changed(provider: Provider, changes: Options) -> Provider:
    if not isinstance(provider, Provider):
        raise ConfigurationError(
            "provider= is what a function of `providers` makes, as providers.github(secret=...), and this is of type "
            f"{type(provider).__name__}."
        )
    return replace(provider, row=changed_row(provider.row, changes)) if changes else provider
