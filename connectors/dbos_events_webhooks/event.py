"""`WebhookEvent`: what a handler gets."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Generic, cast

from typing_extensions import TypeVar

from dbos_events.model.dataclass import dataclass, field, replace
from dbos_events_webhooks.content import Content

D_co = TypeVar("D_co", covariant=True, default=Any)

_AS_SENT: Any = object()


@dataclass(frozen=True, slots=True, kw_only=True)
class WebhookEvent(Generic[D_co]):
    """One event of a verified request. Its `repr` shows no content.

    Annotate a handler's argument with `WebhookEvent[Order]` and `data` is validated as `Order`; with
    `WebhookEvent[bytes]` it is bytes; with `WebhookEvent`, what the content type says: JSON values, the fields of
    a form, or bytes.

    Args:
        id: The event's id within its endpoint: the sender's, else a digest of what was received.
        type: The sender's word for the kind of event, or None.
        content: The bytes of the event, and how they are read.
        endpoint: The path that it came to, as it was declared.
        provider: The provider's name.
        path_params: Those of the path, such as the tenant.
        headers: What the request came with, in lower case, without those that prove where it comes from.
        received_at: When it was taken in, in UTC.
        occurred_at: When the sender says that it happened, or None.
        attempt: The sender's number of this attempt, from 1, where the sender says it (Slack), else None. It is that of
            the attempt that was taken in.
        id_trusted: Whether the id lies inside what is signed.
        type_trusted: Whether the type lies inside what is signed; route by one that does not with care.
        context: What stood around an item that was split off, from the outside in, where it has at most 64 KiB.
        attributes: The attributes of a CloudEvent.
        workflow_id: The id of the workflow that it starts; empty in `when` and `ordering_key`.
    """

    id: str
    type: str | None = None
    content: Content = field(repr=False)
    endpoint: str
    provider: str
    path_params: Mapping[str, str] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    received_at: datetime
    occurred_at: datetime | None = None
    attempt: int | None = None
    id_trusted: bool = False
    type_trusted: bool = False
    context: tuple[Any, ...] = field(default=(), repr=False)
    attributes: Mapping[str, Any] = field(default_factory=dict, repr=False)
    workflow_id: str = ""
    decoded: Any = field(default=_AS_SENT, repr=False)

    @property
    def data(self) -> D_co:
        """The content.

        Raises:
            UndecodablePayload: It cannot be read; `raw` has the bytes.
        """
        return cast(D_co, self.content.value if self.decoded is _AS_SENT else self.decoded)

    @property
    def raw(self) -> bytes:
        """The bytes of this event: the body, or the JSON of one item of it."""
        return self.content.raw

    def with_data(self, data: Any) -> WebhookEvent[Any]:
        """The same event with its content decoded."""
        return replace(self, decoded=data)
