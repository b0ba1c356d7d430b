"""`dbos-events run`: a service starts, waits for its database, answers probes, and stops in order."""

import os
import pty
import signal
import subprocess
from pathlib import Path

import pytest

from dbos_events import App
from tests.cli.conftest import Program
from tests.cli.service import PROGRAM, SECONDS, Service, clean_environment, eventually
from tests.servers import PostgresServer


def status_of(database_url: str, workflow_id: str) -> str | None:
    """How the workflow stands; asked without running anything."""
    with App({"system_database_url": database_url, "name": "onlooker"}) as app:
        found = app.get_workflow_status(workflow_id)
    return None if found is None else found.status


# ------------------------------------------------------------------ running and stopping


def test_a_service_takes_up_work_and_sigterm_lets_it_finish(program: Program, database_url: str) -> None:
    workflow = program.leave_unfinished(database_url)
    with Service(program.folder, "program.py", "--database", database_url, "--health-port", "0") as service:
        eventually(program.began.exists, "the workflow runs")
        service.process.terminate()
        service.wait_for("SIGTERM: draining")

        assert service.probe("/readyz") == (
            503,
            {"live": True, "ready": False, "problems": ["draining"], "notes": []},
        )
        assert service.probe("/livez")[0] == 200
        program.let_go()

        assert service.ended() == 0
        assert service.log[-1]["extra"] == {"unfinished": 0}
        assert service.errors == ""
    assert status_of(database_url, workflow) == "SUCCESS"


def test_what_does_not_finish_in_time_is_left_for_the_next_process(program: Program, sqlite_url: str) -> None:
    workflow = program.leave_unfinished(sqlite_url)
    limit = {"DBOS_EVENTS_SHUTDOWN_TIMEOUT_SECONDS": "0.1"}
    with Service(program.folder, "program.py", "--database", sqlite_url, **limit) as service:
        eventually(program.began.exists, "the workflow runs")
        service.process.terminate()

        assert service.ended() == 0
        assert service.log[-1]["extra"] == {"unfinished": 1}
    assert status_of(sqlite_url, workflow) == "PENDING"

    program.let_go()
    with Service(program.folder, "program.py", "--database", sqlite_url) as service:
        eventually(lambda: status_of(sqlite_url, workflow) == "SUCCESS", "the next process finishes it")


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_second_signal_stops_at_once(
    program: Program, sqlite_url: str, number: signal.Signals, code: int
) -> None:
    workflow = program.leave_unfinished(sqlite_url)
    with Service(program.folder, "program.py", "--database", sqlite_url) as service:
        eventually(program.began.exists, "the workflow runs")
        service.process.send_signal(number)
        service.wait_for("draining")
        eventually(lambda: service.signalled(number), "it ends")

        assert service.ended() == code
        assert "second signal" in service.errors
    assert status_of(sqlite_url, workflow) == "PENDING"


def test_a_signal_that_a_wrapper_sends_twice_is_one_signal(program: Program, sqlite_url: str) -> None:
    with Service(program.folder, "program.py", "--database", sqlite_url) as service:
        service.wait_for("Launched")
        service.process.terminate()
        service.process.terminate()
        assert service.ended() == 0
        assert service.errors == ""


def test_a_program_that_launches_by_itself_is_run_as_it_is(program: Program, sqlite_url: str) -> None:
    text = f"DBOS(config={{'name': 'own', 'system_database_url': {sqlite_url!r}}})\nDBOS.launch()\n"
    (program.folder / "own.py").write_text(f"from program import DBOS\n{text}")
    with Service(program.folder, "own", "--health-port", "0") as service:
        assert service.wait_for("Launched own")["extra"]["application"] == "own"
        service.wait_until("/readyz", 200)
        service.process.terminate()
        assert service.ended() == 0


def test_options_win_over_the_program_and_this_over_the_environment(
    program: Program, sqlite_url: str
) -> None:
    text = "app = App({'name': 'written', 'system_database_url': 'sqlite:///written.sqlite'})\n"
    (program.folder / "apps.py").write_text(f"from dbos_events import App\n{text}")
    arguments = ("apps:app", "--database", sqlite_url)
    with Service(program.folder, *arguments, DBOS_EVENTS_NAME="environment") as service:
        service.wait_for("Launched written,")
        service.process.terminate()
        assert service.ended() == 0
    assert not (program.folder / "written.sqlite").exists()


def test_on_a_server_an_application_without_a_name_is_called_after_its_module(
    program: Program, postgres_url: str
) -> None:
    with Service(program.folder, "program.py", "--database", postgres_url) as service:
        assert service.wait_for("Launched program,")["extra"]["application"] == "program"
        service.process.terminate()
        assert service.ended() == 0


# ------------------------------------------------------------------ the database is down


def test_a_service_waits_for_its_database_and_is_live_meanwhile(
    program: Program, postgres_server: PostgresServer
) -> None:
    database_url = postgres_server.create_database("waited_for")
    postgres_server.stop()
    arguments = ("program.py", "--database", database_url, "--health-port", "0")
    with Service(program.folder, *arguments, DBOS_EVENTS_LEASE_SECONDS="1") as service:
        service.wait_for("Waiting for the database")
        assert service.probe("/livez")[0] == 200
        code, body = service.probe("/readyz")
        assert code == 503
        assert "waiting for the database" in body["problems"][0]

        postgres_server.start()
        service.wait_for("The database answers.")
        service.wait_until("/readyz", 200)
        said = [record for record in service.log if "Waiting for the database" in record["message"]]
        assert len(said) <= 2  # tried often, said seldom

        postgres_server.kill()
        assert "database" in service.wait_until("/readyz", 503)["problems"][0]
        assert service.probe("/livez")[0] == 200
        postgres_server.start()
        service.wait_until("/readyz", 200)

        service.process.terminate()
        assert service.ended() == 0


def test_a_service_that_waits_for_its_database_stops_when_asked(program: Program) -> None:
    with Service(
        program.folder, "program.py", "--database", "postgresql://me:secret@127.0.0.1:1/none"
    ) as service:
        service.wait_for("Waiting for the database")
        service.process.terminate()
        assert service.ended() == 0
        assert "before anything was launched" in service.log[-1]["message"]


def test_fail_fast_exits_when_the_database_does_not_answer(program: Program) -> None:
    database_url = "postgresql://me:secret@127.0.0.1:1/none"
    with Service(program.folder, "program.py", "--database", database_url, "--fail-fast") as service:
        assert service.ended() == 1
        assert service.errors.startswith("dbos-events: The database cannot be reached")
        assert service.errors.count("\n") == 1
        assert "secret" not in service.errors


# ------------------------------------------------------------------ a start that fails


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("raise KeyError('PRICE')", "it.py cannot be imported: KeyError: 'PRICE' (it.py, line 1)"),
        ("x = 1", "it.py registers nothing with DBOS"),
        ("from program import DBOS\nDBOS(config={'nam': 'x'})", "The configuration is not usable. nam:"),
        (
            "from program import DBOS\nDBOS(config={'system_database_url': 'mysql://x/y'})",
            "must be PostgreSQL or SQLite, not 'mysql'",
        ),
    ],
)
def test_a_program_that_cannot_start_is_told_why_in_one_line(
    program: Program, text: str, message: str
) -> None:
    (program.folder / "it.py").write_text(text)
    with Service(program.folder, "it.py") as service:
        assert service.ended() == 1
        assert message in service.errors
        assert service.errors.count("\n") == 1


def test_debug_shows_the_traceback(program: Program) -> None:
    (program.folder / "it.py").write_text("raise KeyError('PRICE')")
    with Service(program.folder, "it.py", "--debug") as service:
        assert service.ended() == 1
        assert "Traceback (most recent call last)" in service.errors


def test_wrong_usage_is_code_2(program: Program) -> None:
    with Service(program.folder) as service:
        assert service.ended() == 2


# ------------------------------------------------------------------ the log


def test_the_log_is_json_lines_with_the_programs_own_records_in_it(program: Program, sqlite_url: str) -> None:
    said = "logging.getLogger('shop').warning('two\\nlines', extra={'order': 7})"
    (program.folder / "said.py").write_text(f"import logging\nfrom program import *\n{said}\n")
    with Service(program.folder, "said.py", "--database", sqlite_url) as service:
        service.wait_for("Launched")
        record = service.wait_for("two\nlines")
        service.process.terminate()
        assert service.ended() == 0
    assert record["level"] == "WARNING"
    assert record["logger"] == "shop"
    assert record["extra"] == {"order": 7}
    assert not service.printed
    assert not [record for record in service.log if record["logger"].startswith("alembic")]


def test_log_level_is_an_option_and_a_setting(program: Program, sqlite_url: str) -> None:
    arguments = ("program.py", "--database", sqlite_url, "--health-port", "0")
    for more in ({"DBOS_EVENTS_LOG_LEVEL": "debug"}, {}):
        options = () if more else ("--log-level", "debug")
        with Service(program.folder, *arguments, *options, **more) as service:
            service.wait_until("/readyz", 200)
            service.process.terminate()
            assert service.ended() == 0
        assert "DEBUG" in {record["level"] for record in service.log}


def test_on_a_terminal_the_log_is_for_people(program: Program, sqlite_url: str) -> None:
    ours, theirs = pty.openpty()
    command = [PROGRAM, "run", "program.py", "--database", sqlite_url]
    process = subprocess.Popen(
        command,
        cwd=program.folder,
        env=clean_environment(),
        stdin=subprocess.DEVNULL,
        stdout=theirs,
        stderr=theirs,
    )
    os.close(theirs)
    try:
        text = read_until(ours, "Launched dbos-events")
        process.terminate()
        text += read_until(ours, "Drained and stopped.")
        assert process.wait(SECONDS) == 0
    finally:
        process.kill()
        process.wait()
        os.close(ours)
    assert "INFO" in text
    assert '"message"' not in text


def read_until(terminal: int, text: str) -> str:
    """What is printed on the terminal, up to this text."""
    printed = ""
    while text not in printed:
        printed += os.read(terminal, 4096).decode()
    return printed


def test_a_second_service_on_the_same_port_is_told_so(program: Program, sqlite_url: str) -> None:
    arguments = ("program.py", "--database", sqlite_url, "--health-host", "127.0.0.1", "--health-port")
    with Service(program.folder, *arguments, "0") as service:
        port = service.wait_for("Health probes")["extra"]["port"]
        other = Path(program.folder / "other")
        other.mkdir()
        (other / "program.py").write_text((program.folder / "program.py").read_text())
        with Service(other, *arguments, str(port)) as second:
            assert second.ended() == 1
            assert f"cannot listen on 127.0.0.1:{port}" in second.errors
