"""A provider with its secrets: what verifies requests, and signs test events."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import secrets as chance
from collections.abc import Callable, Iterator
from typing import Any

from dbos_events.connect import Clock, SystemClock
from dbos_events.errors import ConfigurationError
from dbos_events.model.dataclass import dataclass, field, replace
from dbos_events_webhooks.judging import CONTENT_TYPES, Case, Judge, Judging, KeySource
from dbos_events_webhooks.keys import SHARED_FORMS, parse_signing_key
from dbos_events_webhooks.outcome import Outcome, Refusal, Refused
from dbos_events_webhooks.places import FirstOf, Header, Place
from dbos_events_webhooks.request import Headers, Text, WebhookRequest, pairs_of
from dbos_events_webhooks.rows import Row
from dbos_events_webhooks.schemes import Draft, OpenScheme
from dbos_events_webhooks.secret import Ask, Ring, Secret, SecretUses
from dbos_events_webhooks.threads import Threads, on_thread

LARGE = 256 * 1024
"""A body of more bytes is judged on a thread: to compute and to parse it takes longer than other requests may wait."""


@dataclass(frozen=True)
class Provider:
    """Verifies the requests of one provider with the secrets of one endpoint. `providers` makes it.

    Its only state is `uses`, when each secret was last used. Any number of threads and loops may share it.
    """

    row: Row
    source: KeySource = field(repr=False)
    signing: tuple[Secret, ...] = field(default=(), repr=False)
    judge: Judge | None = field(default=None, repr=False)
    clock: Clock = field(default_factory=SystemClock, repr=False, compare=False)
    uses: SecretUses = field(default_factory=SecretUses, repr=False, compare=False)

    def __post_init__(self) -> None:
        self.row.scheme.check()

    @property
    def name(self) -> str:
        return self.row.name

    def at(self, clock: Clock) -> Provider:
        """The same with another clock, such as one that a test moves."""
        return replace(self, clock=clock)

    def check_head(self, request: WebhookRequest, *, comes_at_once: bool = False) -> Refused | None:
        """Refuse by method and headers alone, before a server reads the body; None where it is worth reading.

        It looks at sizes, at what is sent twice, at the form of signature and timestamp, and at the clock.
        `verify` does all of this too. Where the body `comes_at_once`, signature and clock are left to it, unless secrets
        have to be looked up first.
        """
        try:
            self._case(request).check_head(signature=not (comes_at_once and isinstance(self.source, Ring)))
        except Refusal as refusal:
            return refusal.refused
        return None

    def verify(self, request: WebhookRequest) -> Outcome:
        """Tell whether a request is genuine: `Verified`, `Refused`, or the `Answer` of a handshake.

        No request makes it raise. Every secret is compared with every signature, in constant time.

        Raises:
            ConfigurationError: A function that was given for secrets, certificates or judging is async. Use
                `verify_async`.
        """
        return self._driven(self._case(request).judged())

    async def verify_async(
        self,
        request: WebhookRequest,
        *,
        lookup_seconds: float | None = None,
        head_is_checked: bool = False,
        threads: Threads | None = None,
    ) -> Outcome:
        """The same on an event loop, where the functions that were given may be async.

        A function that is not async is called on a thread, as is the judging of a large body, so that the loop goes on.
        A function that takes longer than `lookup_seconds` has failed. Where `check_head` was asked about this request
        before its body was read, `head_is_checked` spares the second look. `threads` are those of a receiver; without
        them each call of a function gets one of its own.
        """
        judging = self._case(request, head_is_checked=head_is_checked).judged()
        large = LARGE // 32 if self.row.decompress is not None else LARGE  # more may come out of it
        step = _on_thread if len(request.body) > large else _here
        try:
            ask = await step(judging.send, None)
            while not isinstance(ask, Ended):
                try:
                    async with asyncio.timeout(lookup_seconds):
                        given = await _asked(ask, threads)
                except Exception as error:  # noqa: BLE001 - the generator says what it means
                    ask = await step(judging.throw, error)
                else:
                    ask = await step(judging.send, given)
        except asyncio.CancelledError:
            with contextlib.suppress(ValueError):  # a thread is at it still
                judging.close()
            raise
        return ask.outcome

    def _driven(self, judging: Judging) -> Outcome:
        try:
            ask = next(judging)
            while True:
                try:
                    given = _called(ask)
                except Exception as error:  # noqa: BLE001 - the generator says what it means
                    ask = judging.throw(error)
                else:
                    self._check_sync(given, judging)
                    ask = judging.send(given)
        except StopIteration as done:
            return _outcome(done)

    def _check_sync(self, given: Any, judging: Judging) -> None:
        if not inspect.isawaitable(given):
            return
        if inspect.iscoroutine(given):
            given.close()
        judging.close()
        raise ConfigurationError(f"{self.row.title}: a function that was given is async. Use verify_async.")

    def _case(self, request: WebhookRequest, *, head_is_checked: bool = False) -> Case:
        now_ms = self.clock.now_ms()
        return Case(self.row, self.source, self.judge, self.uses, request, now_ms, head_is_checked)

    # ------------------------------------------------------------ test events

    def sign(
        self,
        body: bytes,
        *,
        id: str | None = None,  # noqa: A002 - the event's
        type: str | None = None,  # noqa: A002 - the event's
        headers: Headers = (),
        path: str = "/",
        query: Text = b"",
        signing_key: str | bytes | None = None,
    ) -> WebhookRequest:
        """A request as this provider sends it, signed at the clock's time, for tests and local development.

        `id` and `type` go into headers where this provider has them there, else they are in the body already.
        An id that is not given is made up. `signing_key` is the private key, for providers whose secret here is
        a public one.

        Raises:
            ConfigurationError: What is configured here cannot sign, and no key is given; or the provider could not
                send this body.
        """
        if not isinstance(body, bytes):
            raise TypeError(f"The body of a webhook request is bytes, but this is {body.__class__.__name__}.")
        name = id or f"msg_{chance.token_hex(12)}"
        given = tuple((key, value.decode("latin-1")) for key, value in pairs_of(headers))
        known = {key for key, _ in given}
        extra = (*given, *((key, value) for key, value in self._sent(name, type) if key not in known))
        wire = query if isinstance(query, bytes) else query.encode()
        draft = Draft(body, self.clock.now_ms(), name, wire, path, extra)
        try:
            signed = self.row.scheme.sign(draft, self._signing_key(signing_key))
        except Refusal as refusal:
            raise ConfigurationError(
                f"{self.row.title} could not send this body: {refusal.refused.detail}"
            ) from None
        return WebhookRequest.of(body, (*extra, *signed), path=path, query=wire)

    def _sent(self, name: str, kind: str | None) -> Iterator[tuple[str, str]]:
        yield "content-type", CONTENT_TYPES[self.row.media[0]]
        yield from self.row.sent
        for place, text in ((self.row.reading.key, name), (self.row.reading.type, kind)):
            header = _header(place)
            if header is not None and "*" not in header and text is not None:
                yield header.lower(), text

    def _signing_key(self, given: str | bytes | None) -> Any:
        form = self.row.scheme.key_form
        if given is not None:
            return parse_signing_key(given, form)
        if isinstance(self.row.scheme, OpenScheme):
            return None
        now_ms = self.clock.now_ms()
        valid = [secret for secret in self.signing if not secret.expired(now_ms)]
        if not valid or form not in SHARED_FORMS:
            raise ConfigurationError(
                f"{self.row.title}: what is configured here verifies, and cannot sign. Give signing_key=, the "
                "private key or the secret."
            )
        return parse_signing_key(valid[0].reveal(), form)


def _header(place: Place | None) -> str | None:
    first = place.places[0] if isinstance(place, FirstOf) else place
    return first.name if isinstance(first, Header) else None


@dataclass(frozen=True, slots=True)
class Ended:
    """What a generator returned: a StopIteration cannot come back from a thread."""

    outcome: Outcome


async def _here(step: Callable[[Any], Ask], value: Any) -> Ask | Ended:
    try:
        return step(value)
    except StopIteration as done:
        return Ended(done.value)


async def _on_thread(step: Callable[[Any], Ask], value: Any) -> Ask | Ended:
    def stepped() -> Ask | Ended:
        try:
            return step(value)
        except StopIteration as done:
            return Ended(done.value)

    return await asyncio.to_thread(stepped)


async def _asked(ask: Ask, threads: Threads | None) -> Any:
    function = ask.function
    called = (
        function if inspect.isfunction(function) or inspect.ismethod(function) else type(function).__call__
    )
    try:
        if inspect.iscoroutinefunction(called):
            return await function(ask.argument)
        given = await on_thread(threads, _called, ask)
        return await given if inspect.isawaitable(given) else given
    except Exception:
        raise
    except BaseException as error:
        task = asyncio.current_task()
        if isinstance(error, asyncio.CancelledError) and task is not None and task.cancelling():
            raise  # from outside, and not by the function
        raise _of(error) from error


def _called(ask: Ask) -> Any:
    try:
        return ask.function(ask.argument)
    except BaseException as error:
        if isinstance(error, Exception) and not isinstance(error, StopIteration):
            raise
        raise _of(error) from error


def _of(error: BaseException) -> RuntimeError:
    """What a function raised that would end more than its own request: no future takes it, or a loop ends by it."""
    return RuntimeError(f"It raised {type(error).__name__}.")


def _outcome(done: StopIteration) -> Outcome:
    outcome: Outcome = done.value
    return outcome
