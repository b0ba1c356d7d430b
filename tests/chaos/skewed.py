"""The clock of a host whose time is wrong."""

from dbos_events.clock import SystemClock


class SkewedClock(SystemClock):
    """As the machine's own, some seconds ahead."""

    def __init__(self, seconds: float) -> None:
        self._ms = round(seconds * 1000)

    def now_ms(self) -> int:
        return super().now_ms() + self._ms
