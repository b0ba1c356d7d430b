"""What the engine has to know of the messages of a connector, to decode them into what a handler takes."""

from __future__ import annotations

from typing import Any, Protocol, TypeAlias

Message: TypeAlias = Any
"""A message of the connector that an event came through; each connector has its own class."""


class MessageType(Protocol):
    """The messages of one connector: what handlers get who take the event whole, with its value decoded or not.

    A message is made of what is stored of an event, and is the same whenever that is read again. Where it has a true
    attribute `reads_values`, a message that nothing was put into shows a value that it has read itself, and not the bytes.
    """

    @property
    def form(self) -> type:
        """The class that a handler annotates its argument with, generic over the value: `Message[Order]`."""
        ...

    def value(self, message: Any, /) -> bytes | None:
        """The bytes that the value is decoded from; None where the event has none."""
        ...

    def with_value(self, message: Any, value: Any, /) -> Any:
        """The message with `value` in the place of its bytes."""
        ...

    def place(self, message: Any, /) -> str:
        """Where the event came from, in errors: short, and without any of its content."""
        ...
