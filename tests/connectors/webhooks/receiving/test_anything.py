"""Properties of a receiver with an endpoint of every provider: whatever is sent, also by a genuine sender."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dbos_events.errors import ConfigurationError, UndecodablePayload
from dbos_events_webhooks import WebhookEvent, WebhookReceiver, WebhookRequest
from dbos_events_webhooks.testing import WebhookClient
from tests.connectors.webhooks.hostile import bodies, every_provider, requests, signed
from tests.connectors.webhooks.receiving.fakes import MESSAGES, MemoryApp, MemoryInbox

PROVIDERS = every_provider()


@pytest.fixture(scope="module")
def hooks() -> WebhookReceiver:
    made = WebhookReceiver(MemoryApp())
    for name, provider in PROVIDERS.items():

        @made.webhook(f"/{name}/{{tenant}}", provider=provider, name=name)
        def handler(event: WebhookEvent) -> None: ...

    return made


quick = settings(max_examples=150, deadline=None)


@quick
@given(name=st.sampled_from(sorted(PROVIDERS)), request=requests(), tenant=st.text(min_size=1, max_size=8))
def test_whatever_is_sent_is_answered_and_never_with_a_5xx(
    hooks: WebhookReceiver, name: str, request: WebhookRequest, tenant: str
) -> None:
    hooks.app.launch()
    path = f"/{name}/" + "".join(f"%{byte:02x}" for byte in tenant.encode("utf-8", "surrogatepass"))
    sent = WebhookClient(hooks).send_request(replace(request, path=path))
    assert 200 <= sent.status < 500
    assert sent.status not in (301, 302, 307)


@quick
@given(name=st.sampled_from(sorted(PROVIDERS)), body=bodies())
def test_whatever_a_genuine_sender_sends_can_be_stored_and_read_again(
    hooks: WebhookReceiver, name: str, body: bytes
) -> None:
    try:
        request = signed(PROVIDERS[name], body)
    except ConfigurationError:  # it could not send that
        return
    inbox: MemoryInbox = hooks.app.launch()
    sent = WebhookClient(hooks).send_request(replace(request, path=f"/{name}/t"))
    assert 200 <= sent.status < 500
    for event in inbox.taken:
        assert event.event_id
        assert event.event_id.isascii()
        message = MESSAGES.of(event, "w")
        assert message == MESSAGES.of(event, "w")
        with suppress(UndecodablePayload):
            _ = message.data
        with suppress(UndecodablePayload):
            assert isinstance(MESSAGES.value(message), bytes)
