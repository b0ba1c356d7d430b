"""Compressed bodies, where an endpoint takes them: no more comes out than the endpoint's largest body, nor than a ratio."""

from __future__ import annotations

import zlib
from typing import Literal

from dbos_events.errors import ConfigurationError
from dbos_events.model.dataclass import dataclass
from dbos_events_webhooks.outcome import Reason, refuse

_WINDOWS = {"gzip": 31, "deflate": 15}
SMALL = 64 * 1024
"""The ratio does not count below it: a short text may repeat itself."""

Coding = Literal["gzip", "deflate"]


@dataclass(frozen=True, slots=True)
class Decompress:
    """Which compressed bodies an endpoint takes.

    Args:
        codings: Values of `Content-Encoding`: "gzip", "deflate", or both.
        signed: What the sender signs. "compressed": the bytes that it sends, so that nothing is decompressed before it is
            known to be genuine. "plain": the content, which something compressed afterwards.
        max_ratio: How many bytes may come out for each that came in; more is 413.

    Raises:
        ConfigurationError: A coding is unknown, or the ratio is not above 0.
    """

    codings: tuple[Coding, ...] | Coding = ("gzip", "deflate")
    signed: Literal["compressed", "plain"] = "compressed"
    max_ratio: int = 100

    def __post_init__(self) -> None:
        several = (self.codings,) if isinstance(self.codings, str) else tuple(self.codings)
        odd: list[object] = [each for each in several if each not in _WINDOWS]
        if odd or not several:
            raise ConfigurationError(
                f"decompress is {' or '.join(map(repr, _WINDOWS))}, several of them, or Decompress(...), and not {odd!r}."
            )
        if self.signed not in ("compressed", "plain"):
            raise ConfigurationError(
                f"Decompress: signed is 'compressed' or 'plain', and not {self.signed!r}."
            )
        if self.max_ratio <= 0:
            raise ConfigurationError(f"Decompress: max_ratio is {self.max_ratio!r}. It has to be above 0.")
        object.__setattr__(self, "codings", several)

    def plain(self, body: bytes, coding: str, most: int) -> bytes:
        """The content of a body in one of the codings.

        Raises:
            Refusal: It is not in that coding, ends early, has something behind its end, or is too large.
        """
        limit = min(most, max(SMALL, self.max_ratio * len(body)))
        reader = zlib.decompressobj(_WINDOWS[coding])
        try:
            made = reader.decompress(body, limit + 1)
        except zlib.error as error:
            raise refuse(Reason.MALFORMED_ENCODING, f"The body is not {coding}.") from error
        if len(made) > limit:
            raise refuse(
                Reason.BODY_TOO_LARGE, f"More than {limit} bytes come out of the {len(body)} of the body."
            )
        if not reader.eof or reader.unused_data:
            raise refuse(
                Reason.MALFORMED_ENCODING, f"The {coding} of the body ends early, or before the body does."
            )
        return made


def decompress_of(given: Decompress | Coding | tuple[Coding, ...] | None) -> Decompress | None:
    """What was said of an endpoint, in its long form."""
    return given if given is None or isinstance(given, Decompress) else Decompress(given)
