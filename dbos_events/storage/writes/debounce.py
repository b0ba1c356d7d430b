"""A call that is debounced: it joins the run that is put off, or opens the next one (docs/protocol.md, rule 23)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, TypeAlias

from dbos_events.model.dataclass import dataclass
from dbos_events.storage.writes.answers import Debounced
from dbos_events.storage.writes.start import NewWorkflow
from dbos_events.storage.writes.write import Change

if TYPE_CHECKING:
    from dbos_events.storage.database import Tx
    from dbos_events.storage.writes.member import Batch

Keep: TypeAlias = Literal["first", "last", "all"]

GATHERED = "debounced"
"""The codec of an input that consists of the calls, each of which stands in a row of its own."""


@dataclass(slots=True)
class Bounce(Change):
    """One call. `new` is the workflow to start where no run of the key is put off; `call_id` is never used twice.

    `limit_ms` says how long the run can be put off at most, from its first call on; `keep` which calls the run gets.
    """

    key: str
    period_ms: int
    limit_ms: int | None
    keep: Keep
    call_id: int
    new: NewWorkflow


class Bounces:
    """Writes calls in the order of their keys, so that two batches with the same keys do not wait for each other."""

    def write(self, batch: Batch) -> None:
        found = batch.changes(Bounce)
        for number, write, bounce in sorted(found, key=lambda one: (one[2].new.name, one[2].key, one[0])):
            workflow_id = add_call(batch.tx, batch.executor, bounce)
            batch.results[number] = Debounced(workflow_id)
            if write.checkpoint is not None:
                batch.tx.run(
                    "name_child",
                    workflow_id=write.workflow_id,
                    generation=write.generation,
                    step=write.checkpoint.step,
                    write_id=write.checkpoint.write_id,
                    child=workflow_id,
                )


def add_call(tx: Tx, executor: int, bounce: Bounce) -> str:
    """Add a call to the run that is put off, or open the next one; gives the run's id."""
    new = bounce.new
    place = {"application": new.application, "name": new.name, "key": bounce.key}
    tx.run("insert_debounce", **place)
    window = tx.run("lock_debounce", **place)[0]
    known = tx.one("find_call", call_id=bounce.call_id)
    if known is not None:
        return str(known.workflow_id)
    run = window.workflow_id
    pushed = run is not None and tx.run(
        "push_window", workflow_id=run, limit_at=window.limit_at, period_ms=bounce.period_ms
    )
    number = window.calls
    if pushed:
        tx.run("count_call", **place)
        if bounce.keep == "last":
            tx.run("replace_input", workflow_id=run, codec=new.codec, input=new.input)
    else:
        if run is not None:
            tx.run("forget_members", workflow_id=run)
        run, number = new.id, 0
        _start(tx, executor, bounce)
        tx.run("open_window", **place, workflow_id=run, limit_ms=bounce.limit_ms)
    kept = (new.codec, new.input) if bounce.keep == "all" else (None, None)
    tx.run(
        "insert_member",
        call_id=bounce.call_id,
        workflow_id=run,
        number=number,
        codec=kept[0],
        input=kept[1],
    )
    return str(run)


def _start(tx: Tx, executor: int, bounce: Bounce) -> None:
    new = bounce.new
    tx.change("insert_starts", tx.rows("insert_starts", [(new,)]), executor=executor)
    codec, text = (GATHERED, None) if bounce.keep == "all" else (new.codec, new.input)
    tx.change("insert_payloads", [{"workflow_id": new.id, "codec": codec, "input": text}])
