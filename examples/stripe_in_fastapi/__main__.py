"""Payments that Stripe tells of, in a FastAPI app: each is booked once, however often Stripe sends it.

Deployed, it is `uvicorn payments:app`. Here a client in the process sends what Stripe would send.

    python -m examples.stripe_in_fastapi
"""

from __future__ import annotations

import tempfile

import httpx
from fastapi import FastAPI
from pydantic import BaseModel

from dbos_events import DBOS
from dbos_events_webhooks import WebhookEvent, WebhookReceiver, providers
from dbos_events_webhooks.testing import WebhookClient
from examples.webhooks import send_through

hooks = WebhookReceiver()
ledger: dict[str, int] = {}


class Payment(BaseModel):
    """What the handler reads of a payment."""

    id: str
    amount: int


@DBOS.step()
def book(payment: str, amount: int) -> None:
    ledger[payment] = ledger.get(payment, 0) + amount


@hooks.webhook(
    "/stripe",
    provider=providers.stripe(secret="whsec_example"),  # noqa: S106 - a real one comes from the environment
    when=lambda event: event.type == "payment.succeeded",
)
def on_payment(event: WebhookEvent[Payment]) -> None:
    book(event.data.id, event.data.amount)
    print(f"booked {event.data.amount} for {event.data.id}")


app = FastAPI(lifespan=hooks.lifespan)
app.include_router(hooks.router, prefix="/hooks")


@app.get("/ledger")
def read_ledger() -> dict[str, int]:
    return ledger


async def main() -> None:
    sign = WebhookClient(hooks).sign
    transport = httpx.ASGITransport(app)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=transport, base_url="http://example") as client,
    ):
        payment = sign("/stripe", {"id": "evt_1", "type": "payment.succeeded", "amount": 500})
        other = sign("/stripe", {"id": "evt_2", "type": "payment.created", "amount": 500})
        for name, request in (("first", payment), ("again", payment), ("another kind", other)):
            answer = await client.post("/hooks/stripe", content=request.body, headers=send_through(request))
            print(f"{name}: {answer.status_code} {answer.json()['status']}")
        forged = {**send_through(payment), "stripe-signature": "t=1,v1=00"}
        answer = await client.post("/hooks/stripe", content=payment.body, headers=forged)
        print(f"forged: {answer.status_code}")
        for workflow in await DBOS.list_workflows_async():
            handle = await DBOS.retrieve_workflow_async(workflow.workflow_id)
            await handle.get_result()
        print("ledger:", (await client.get("/ledger")).json())


if __name__ == "__main__":
    import asyncio

    with tempfile.TemporaryDirectory() as folder:
        DBOS(config={"name": "payments", "system_database_url": f"sqlite:///{folder}/payments.sqlite"})
        asyncio.run(main())
