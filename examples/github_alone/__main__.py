"""Pushes that GitHub tells of, without any framework: `dbos-events run builds.py --http :8000` is all it takes.

GitHub does not sign the id of a delivery. A captured request that is sent again under another id starts nothing.

    python -m examples.github_alone
"""

from __future__ import annotations

from dataclasses import replace

from dbos_events import DBOS
from dbos_events_webhooks import Body, WebhookEvent, WebhookReceiver, providers
from examples.webhooks import receiving

hooks = WebhookReceiver()


@DBOS.step()
def build(repository: str, commit: str) -> str:
    return f"{repository} at {commit}"


@hooks.webhook(
    "/github",
    provider=providers.github(secret="example"),  # noqa: S106 - a real one comes from the environment
    when=lambda event: event.type == "push",
    ordering_key=Body("repository"),  # one build of a repository at a time, in the order of the pushes
)
def on_push(event: WebhookEvent) -> None:
    print(f"built {build(event.data['repository'], event.data['after'])}")


def main() -> None:
    with receiving(hooks) as github:
        for number in (1, 2):
            push = {"repository": "shop", "after": f"c{number}"}
            sent = github.send("/github", push, id=f"delivery-{number}", type="push")
            print(f"push {number}: {sent.status} {sent.json['status']}")
        star = github.send("/github", {"action": "created"}, id="delivery-3", type="star")
        print(f"star: {star.status} {star.json['status']}")
        stolen = replace(
            sent.request,
            headers=tuple(
                (name, b"delivery-9" if name == "x-github-delivery" else value)
                for name, value in sent.request.headers
            ),
        )
        print(f"replayed under another id: {github.send_request(stolen).json['status']}")


if __name__ == "__main__":
    main()
