"""Scenarios of what expires: an event that is too late, a publication that nobody sees."""

from datetime import UTC, datetime

from dbos_events import ExpiredPublication, KafkaMessage
from tests.crashes.outcome import End
from tests.crashes.scenarios import begin, scenario
from tests.crashes.world import Play, World

LONG_AGO = datetime(2020, 1, 1, tzinfo=UTC)


@scenario(
    {
        "0/0": End("EXPIRED"),
        "0/0/expired": End("SUCCESS", "a0", ("told", "told again")),
    },
    log={0: (b"a0",)},
    children={"0/0": 1},
)
def late_events(world: World) -> Play:
    """An event is too late, and a workflow of its own does something about it."""
    told, again = world.step("told"), world.step("told again")

    def late(message: KafkaMessage) -> str:
        told()
        world.app.sleep(60)
        again()
        assert isinstance(message.value, bytes)
        return message.value.decode()

    @world.app.kafka_consumer(None, "orders", name="shop", expires=lambda _: LONG_AGO, on_expired=late)
    def handle(message: KafkaMessage) -> None:
        raise AssertionError(message)

    def play() -> None:
        world.receive()
        world.advance(300)

    return play


@scenario(
    {
        "publisher": End("SUCCESS"),
        "expired publication": End("SUCCESS", ["payment", "1", 12], ("told",)),
    }
)
def expired_publications(world: World) -> Play:
    """One that a workflow has published and nobody sees."""
    told = world.step("told")

    @world.app.workflow(name="returned")
    def returned(expired: ExpiredPublication) -> list[object]:
        told()
        return [expired.name, expired.key, expired.value]

    @world.app.workflow(name="publisher")
    def publisher() -> None:
        world.app.publish("payment", "1", 12, ttl_seconds=100, on_expired=returned)

    def play() -> None:
        begin(world, "publisher", world.app.start_workflow, publisher)
        world.advance(300)

    return play
