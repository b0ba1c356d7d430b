"""Tables on terminals of 80, 100, 120 and 200 columns: they fit, and what is copied from them is whole."""

import json
import os
import pty
import subprocess
from pathlib import Path

import pytest

from dbos_events.cli.output import age
from dbos_events.cli.partitions import COLUMNS
from dbos_events.cli.tables import Column, lines_of, width_of
from tests.cli.service import PROGRAM, clean_environment

ID = "kafka/shop.on_order_of_the_whole_shop/orders-of-the-north/1/11/1234567890"
QUARANTINE = (
    Column("ID"),
    Column("CONSUMER", rank=3),
    Column("REASON"),
    Column("SINCE", rank=2),
    Column("ERROR", text=True, rank=1),
)
EVENTS = [
    [
        ID,
        "on_order",
        "attempts-exhausted",
        "2026-11-29T10:00:00Z",
        "TimeoutError: the bank did not answer in 30 s",
    ],
    [f"{ID}9", "on_order", "undecodable", "2026-11-29T10:00:01Z", "UndecodablePayload: " + "x" * 60],
]
PARTITIONS = [
    [
        *(
            "on_order",
            "shop.on_order",
            "orders",
            "0",
            "no process",
            "shop-7f9c-1:4711 (not alive)",
            "1234567890",
        ),
        *("-", "-", "12", "1500", "1500", "3h07m", "2", "0", "0"),
    ]
]


@pytest.mark.parametrize("width", [80, 100, 120, 200])
def test_no_line_is_wider_than_the_terminal_and_ids_are_whole(width: int) -> None:
    lines = lines_of(QUARANTINE, EVENTS, width)

    assert max(map(width_of, lines)) <= width
    for event in EVENTS:
        assert sum(event[0] in line.split() for line in lines) == 1, "an id can be copied from one line"
        assert any(event[2] in line.split() for line in lines), "what matters most is never left out"


@pytest.mark.parametrize("width", [80, 100, 120, 200])
def test_numbers_of_the_status_are_whole_and_what_matters_most_stays(width: int) -> None:
    lines = lines_of(COLUMNS[:-1], PARTITIONS, width)

    assert max(map(width_of, lines)) <= width
    words = " ".join(lines)
    for title in ("CONSUMER", "TOPIC", "PARTITION", "STATE", "LAG", "QUARANTINED"):
        assert title in words.split(" (not shown")[0]
    assert "no process" in words
    for left_out in lines[-1].removeprefix("(not shown: ").partition(";")[0].split(", "):
        assert width < 200 or left_out not in {column.title for column in COLUMNS}


def test_at_80_columns_texts_are_left_out_before_states_are() -> None:
    assert lines_of(COLUMNS[:-1], PARTITIONS, 80) == [
        "CONSUMER  TOPIC   PARTITION  STATE       LAG  WAITING  OLDEST  QUARANTINED",
        "on_order  orders  0          no process  -    1500     3h07m   2",
        "(not shown: GROUP, HOLDER, WATERMARK, END, IN FLIGHT, HELD, FILTERED, EXPIRED;",
        "--json has all)",
    ]


def test_a_text_is_folded_between_words() -> None:
    columns = (Column("ID"), Column("ERROR", text=True))
    assert lines_of(columns, [["a-1", "the bank did not answer within 30 s"]], 30) == [
        "ID   ERROR",
        "a-1  the bank did not answer",
        "     within 30 s",
    ]


def test_what_does_not_fit_stands_below_each_other() -> None:
    columns = (Column("ID"), Column("STATE"))
    rows = [["i" * 50, "reading"], ["j" * 70, "waiting"]]
    assert lines_of(columns, rows, 60) == [
        f"ID     {'i' * 50}",
        "STATE  reading",
        "",
        "ID",
        "j" * 70,
        "STATE  waiting",
    ]


def test_states_are_coloured_and_take_no_more_room() -> None:
    columns = (Column("STATE", coloured=True), Column("LAG"))
    assert lines_of(columns, [["reading", "1"], ["odd", "2"]], 80, coloured=True)[1:] == [
        "\x1b[32mreading\x1b[0m  1",
        "odd      2",
    ]


def test_wide_letters_count_twice() -> None:
    lines = lines_of((Column("NAME"), Column("LAG")), [["注文", "1"], ["order", "2"]], 80)
    assert [width_of(line.removesuffix(line.split()[-1])) for line in lines] == [7, 7, 7]


@pytest.mark.parametrize(
    ("milliseconds", "shown"),
    [
        (None, None),
        (-5, "0s"),
        (59_999, "59s"),
        (61_000, "1m01s"),
        (7_260_000, "2h01m"),
        (90_000_000, "1d01h"),
    ],
)
def test_an_age_is_short(milliseconds: int | None, shown: str | None) -> None:
    assert age(milliseconds) == shown


# ------------------------------------------------------------------ on a terminal


def on_terminal(columns: int, folder: Path, *arguments: str, **environment: str) -> str:
    """What a command prints on a terminal of this width."""
    ours, theirs = pty.openpty()
    with subprocess.Popen(
        [PROGRAM, *arguments],
        cwd=folder,
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        env={**clean_environment(COLUMNS=str(columns), TERM="xterm"), **environment},
    ):
        os.close(theirs)
        printed = b""
        while True:
            try:
                part = os.read(ours, 65536)
            except OSError:  # the other end is closed
                break
            if not part:
                break
            printed += part
    os.close(ours)
    return printed.decode().replace("\r\n", "\n")


@pytest.mark.parametrize("width", [80, 100, 120, 200])
def test_an_id_of_a_listed_workflow_can_be_copied_from_a_terminal(width: int, tmp_path: Path) -> None:
    (tmp_path / "program.py").write_text(LONG_ID)
    done = subprocess.run(
        [PROGRAM.replace("dbos-events", "python"), "program.py"],
        cwd=tmp_path,
        env=clean_environment(),
        capture_output=True,
        text=True,
        check=True,
    )
    wanted = json.loads(done.stdout)

    printed = on_terminal(width, tmp_path, "workflow", "list", "--database", "sqlite:///shop.sqlite")
    assert wanted in printed.split()
    shown = on_terminal(width, tmp_path, "workflow", "get", wanted, "--database", "sqlite:///shop.sqlite")
    assert "ERROR" in shown


LONG_ID = """
import json
from dbos_events import DBOS, SetWorkflowID

@DBOS.workflow()
def fails():
    raise ValueError("a sentence that has to be folded where there is too little room for it")

DBOS(config={"name": "shop"})
DBOS.launch()
name = "kafka/shop.on_order_of_the_whole_shop/orders-of-the-north/1/11/1234567890"
with SetWorkflowID(name):
    try:
        fails()
    except ValueError:
        print(json.dumps(name))
DBOS.destroy()
"""
