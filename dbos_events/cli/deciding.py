"""What operators decide about the consumers of a log and their positions."""

from __future__ import annotations

from typing import Annotated

import typer

from dbos_events.cli.database import opened
from dbos_events.cli.options import Application, Database, Schema
from dbos_events.cli.output import fail, say

Consumer = Annotated[str, typer.Argument(metavar="CONSUMER", help="Its name, as `{group} status` shows it.")]
Topic = Annotated[str, typer.Argument(metavar="TOPIC")]
Partition = Annotated[int, typer.Argument(metavar="PARTITION", min=0)]


def adopt_cluster(
    consumer: Consumer,
    go_on: Annotated[
        bool,
        typer.Option("--continue", help="The topics have the same offsets here: go on at the watermarks."),
    ] = False,
    restart: Annotated[
        bool,
        typer.Option(
            "--restart", help="Other topics: begin at the group's committed offsets, or at the first record."
        ),
    ] = False,
    application: Application = None,
    database: Database = None,
    schema: Schema = None,
) -> None:
    """Let a consumer read another cluster, which it has met and does not read by itself.

    A running service goes on within a second.
    """
    if go_on == restart:
        fail("give one of --continue and --restart", code=2)
    with opened(database, schema, application) as control:
        cluster = control.positions.adopt_cluster(consumer, "continue" if go_on else "restart")
    say(f"{consumer} reads the cluster {cluster} from now on.")


def resolve_truncation(
    consumer: Consumer,
    topic: Topic,
    partition: Partition,
    from_offset: Annotated[
        int | None,
        typer.Option("--from-offset", metavar="N", min=0, help="The first offset that holds another record."),
    ] = None,
    application: Application = None,
    database: Database = None,
    schema: Schema = None,
) -> None:
    """Read a partition on whose log was cut and written anew, as a new branch.

    What is read from there has ids of its own. What was taken in before, from offsets that hold other
    records now, stays as it is. Without --from-offset reading begins where the log was found to differ.
    """
    with opened(database, schema, application) as control:
        decided = control.positions.resolve_truncation(consumer, topic, partition, from_offset)
    say(f"{topic}[{partition}] is read from {decided.next_offset} as incarnation {decided.incarnation}.")


def resolve_regression(
    consumer: Consumer,
    topic: Topic,
    partition: Partition,
    replay: Annotated[bool, typer.Option("--replay", help="Read the events between again.")] = False,
    skip: Annotated[
        bool, typer.Option("--skip", help="Go on at {system}'s offset; a gap is recorded.")
    ] = False,
    application: Application = None,
    database: Database = None,
    schema: Schema = None,
) -> None:
    """Read a partition on that was halted because the database went back behind {system}'s committed offset."""
    if replay == skip:
        fail("give one of --replay and --skip", code=2)
    with opened(database, schema, application) as control:
        decided = control.positions.resolve_regression(consumer, topic, partition, skip=skip)
    say(f"{topic}[{partition}] is read from {decided.next_offset}.")


def adopt_watermark(
    consumer: Consumer,
    from_group: Annotated[str, typer.Option("--from-group", metavar="OLD")],
    to_group: Annotated[str, typer.Option("--to-group", metavar="NEW")],
    application: Application = None,
    database: Database = None,
    schema: Schema = None,
) -> None:
    """Have a consumer go on under another group, where it stands: nothing is read again.

    Its processes have to be stopped. The ids of its events go on naming the group that it began with.
    """
    with opened(database, schema, application) as control:
        control.positions.adopt_watermark(consumer, from_group, to_group)
    say(f"{consumer} reads with the group {to_group} from now on.")


def rename_consumer(
    consumer: Consumer,
    to_name: Annotated[str, typer.Argument(metavar="NEW")],
    application: Application = None,
    database: Database = None,
    schema: Schema = None,
) -> None:
    """Give a consumer another name; it goes on where it stands. Its processes have to be stopped.

    A group that was called after the consumer is called after the new name.
    """
    with opened(database, schema, application) as control:
        group_id = control.positions.rename_consumer(consumer, to_name)
    say(f"{consumer} is called {to_name} from now on and reads with the group {group_id}.")


def clear_alarms(
    consumer: Consumer,
    application: Application = None,
    database: Database = None,
    schema: Schema = None,
) -> None:
    """Take what was read and understood out of `{group} status`; halted partitions stay halted."""
    with opened(database, schema, application) as control:
        count = control.positions.clear_alarms(consumer)
    print(f"{count} {'alarm' if count == 1 else 'alarms'} cleared.")
