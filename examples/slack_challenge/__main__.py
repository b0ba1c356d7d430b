"""Messages of Slack: its challenge is answered, its three seconds are kept, and its retries start nothing.

python -m examples.slack_challenge
"""

from __future__ import annotations

from dbos_events import DBOS
from dbos_events_webhooks import WebhookEvent, WebhookReceiver, providers
from examples.webhooks import receiving

hooks = WebhookReceiver()


@DBOS.step()
def summarize(text: str) -> str:
    return text.upper()  # in truth, a minute of work: the request was answered long before


@hooks.webhook("/slack", provider=providers.slack(signing_secret="example"))  # noqa: S106
def on_message(event: WebhookEvent) -> None:
    print(f"summary: {summarize(event.data['event']['text'])}")


def main() -> None:
    with receiving(hooks) as slack:
        asked = slack.send("/slack", {"type": "url_verification", "challenge": "3eZbrw1a"})
        print(f"challenge: {asked.status} {asked.body.decode()}")
        message = {"type": "event_callback", "event_id": "Ev1", "event": {"type": "message", "text": "hello"}}
        print(f"message: {slack.send('/slack', message).json['status']}")
        retry = slack.send("/slack", message, headers={"x-slack-retry-num": "1"})
        print(f"retry: {retry.json['status']}")
        print(f"forged: {slack.send('/slack', message, tamper='signature').status}")


if __name__ == "__main__":
    main()
