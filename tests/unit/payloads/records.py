"""Records, and what a handler of one argument gets for them."""

from collections.abc import Callable
from typing import Any

from dbos_events import KafkaMessage, PayloadCodec
from dbos_events.engine.payload import Binding, bind
from dbos_events_kafka.message import KafkaMessages


def record(value: bytes | None, **fields: Any) -> KafkaMessage[bytes | None]:
    """A message at orders/0/17."""
    given: dict[str, Any] = {
        "headers": None,
        "key": b"k",
        "latency": None,
        "leader_epoch": 4,
        "offset": 17,
        "partition": 0,
        "timestamp": (1, 1_700_000_000_000),
        "topic": "orders",
        **fields,
    }
    return KafkaMessage(**given, value=value)


def binding(
    handler: Callable[..., Any],
    *,
    codec: PayloadCodec | None = None,
    when: Callable[..., Any] | None = None,
    **names: Any,
) -> Binding | None:
    """How the events of a consumer called `orders` are bound."""
    return bind("orders", handler, codec, when, names, KafkaMessages())


def argument(handler: Callable[..., Any], value: bytes | None, **options: Any) -> Any:
    """What the handler is called with for a record of this value."""
    bound = binding(handler, **options)
    message = record(value)
    return message if bound is None or bound.decode is None else bound.decode(message)
