"""What the examples of webhooks share: a database that ends with the program, and headers for a client."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager

from dbos_events import DBOS
from dbos_events_webhooks import WebhookReceiver, WebhookRequest
from dbos_events_webhooks.testing import WebhookClient


@contextmanager
def receiving(hooks: WebhookReceiver) -> Iterator[WebhookClient]:
    """Launch what was declared on a temporary SQLite file; gives a client that signs as the providers do."""
    with tempfile.TemporaryDirectory() as folder:
        DBOS(config={"name": "example", "system_database_url": f"sqlite:///{folder}/example.sqlite"})
        DBOS.launch()
        try:
            yield WebhookClient(hooks)
            for workflow in DBOS.list_workflows():
                DBOS.retrieve_workflow(workflow.workflow_id).get_result()
        finally:
            DBOS.destroy()


def send_through(request: WebhookRequest) -> dict[str, str]:
    """The headers of a signed request, for an HTTP client."""
    return {name: value.decode("latin-1") for name, value in request.headers}
