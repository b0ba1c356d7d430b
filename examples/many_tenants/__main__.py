"""Many tenants behind one path, each with a secret of its own that may be replaced without a gap.

python -m examples.many_tenants
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from dbos_events import DBOS
from dbos_events_webhooks import (
    Body,
    Header,
    Secret,
    WebhookEvent,
    WebhookReceiver,
    WebhookRequest,
    providers,
)
from examples.webhooks import receiving

hooks = WebhookReceiver()

SECRETS: dict[str, list[Secret]] = {
    "acme": [
        Secret("acme-new", name="acme 2030"),
        Secret("acme-old", name="acme 2029", expires_at=datetime.now(UTC) + timedelta(days=7)),
    ],
    "globex": [Secret("globex-secret", name="globex")],
}


def secrets_of(request: WebhookRequest) -> list[Secret]:
    """The secrets of the tenant in the path; a KeyError means that there is nobody of that name."""
    return SECRETS[request.path_params["tenant"]]


@DBOS.step()
def file_order(tenant: str, order: str) -> None:
    print(f"filed {order} of {tenant}")


@hooks.webhook(
    "/t/{tenant}/erp",
    provider=providers.hmac(
        secret=secrets_of,
        header="x-sig",
        signed="{timestamp}.{body}",
        timestamp=Header("x-ts", "s"),
        key=Body("order.id"),
        split="orders",
    ),
    ordering_key=Body("order.account"),
)
def on_order(event: WebhookEvent) -> None:
    file_order(event.path_params["tenant"], event.data["order"]["id"])


def main() -> None:
    batch = {"orders": [{"order": {"id": f"o-{number}", "account": "a"}} for number in (1, 2)]}
    with receiving(hooks) as sender:
        for tenant, secret in (("acme", "acme-old"), ("globex", "globex-secret"), ("acme", "globex-secret")):
            sent = sender.send(f"/t/{tenant}/erp", batch, signing_key=secret)
            print(f"{tenant} with {secret}: {sent.status}")
        print(f"nobody: {sender.send('/t/nobody/erp', batch, signing_key='x').status}")
    used = hooks.endpoints[0].provider.uses.last_used_ms()
    print("secrets that were used:", ", ".join(sorted(used)))


if __name__ == "__main__":
    main()
