"""The group of commands, `dbos-events webhook`."""

from __future__ import annotations

import typer

from dbos_events_webhooks.commands import looking, sending
from dbos_events_webhooks.commands.options import examples

group = typer.Typer(
    help="Webhooks: endpoints, events, and requests signed for local development.",
    no_args_is_help=True,
    rich_markup_mode=None,
    add_completion=False,
)

group.command("routes", epilog=examples("dbos-events webhook routes billing.py"))(looking.routes)
group.command(
    "list",
    epilog=examples("dbos-events webhook list --since 1h", "dbos-events webhook list --status ERROR --json"),
)(looking.list_events)
group.command("show", epilog=examples("dbos-events webhook show 'webhook/billing.on_stripe/evt_1'"))(
    looking.show
)
group.command(
    "send",
    epilog=examples(
        "WEBHOOK_SECRET=whsec_test dbos-events webhook send stripe --to http://localhost:8000/stripe",
        "dbos-events webhook send github --secret s --type push --id 1 --body push.json --to http://localhost:8000/github",
    ),
)(sending.send)
group.command(
    "sign", epilog=examples('dbos-events webhook sign stripe --secret whsec_test --data \'{"id": "evt_1"}\'')
)(sending.sign)
group.command(
    "verify",
    epilog=examples(
        "dbos-events webhook verify stripe --secret whsec_... --headers came.txt --body came.json --at 2h"
    ),
)(sending.verify)
group.command(
    "replay",
    epilog=examples(
        "dbos-events webhook replay 'webhook/billing.on_stripe/evt_1'",
        "dbos-events webhook replay 'webhook/billing.on_stripe/evt_1' --to http://localhost:8000/stripe --secret whsec_test",
    ),
)(looking.replay)
group.command("providers")(sending.providers)
