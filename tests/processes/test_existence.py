"""Rule 1: a process is gone only when that is sure; what cannot be read may exist."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from dbos_events.runtime import identity
from dbos_events.runtime.identity import ProcessIdentity, still_exists, this_process

ROOT = Path(__file__).parents[2]
SLEEPER = [sys.executable, "-c", "import sys; print('up', flush=True); sys.stdin.read()"]
HERE = this_process()

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells of other processes")


@pytest.fixture
def process() -> Iterator["subprocess.Popen[str]"]:
    with subprocess.Popen(SLEEPER, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "up\n"
        yield child
        child.kill()


def identity_of(child: "subprocess.Popen[str]") -> ProcessIdentity:
    """As the child would write it down itself."""
    stat = Path(f"/proc/{child.pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    return replace(HERE, pid=child.pid, started=stat[19])


@pytest.fixture
def hidden(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """/proc as `hidepid=2` makes it: nobody's entries but our own."""
    (tmp_path / "self").symlink_to(str(os.getpid()))
    (tmp_path / str(os.getpid())).symlink_to(f"/proc/{os.getpid()}")
    (tmp_path / "sys").symlink_to("/proc/sys")
    monkeypatch.setattr(identity, "PROC", tmp_path)


def test_a_process_that_runs_exists(process: "subprocess.Popen[str]") -> None:
    assert still_exists(identity_of(process), HERE) is True


def test_a_process_that_has_ended_is_gone_whether_it_was_waited_for_or_not(
    process: "subprocess.Popen[str]",
) -> None:
    known = identity_of(process)
    process.kill()
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    assert still_exists(known, HERE) is False
    process.wait()
    assert still_exists(known, HERE) is False


def test_a_process_of_the_same_number_that_began_at_another_time_is_another(
    process: "subprocess.Popen[str]",
) -> None:
    assert still_exists(replace(identity_of(process), started="1"), HERE) is False


@pytest.mark.usefixtures("hidden")
def test_of_a_process_that_proc_hides_it_is_not_said_that_it_is_gone(
    process: "subprocess.Popen[str]",
) -> None:
    known = identity_of(process)
    assert still_exists(known, HERE) is None
    process.kill()
    process.wait()
    assert still_exists(known, HERE) is False, "the system itself says that there is no such process"


@pytest.mark.usefixtures("hidden")
@pytest.mark.parametrize(
    "error", [PermissionError(1, "EPERM"), PermissionError(13, "EACCES"), OSError(38, "ENOSYS")]
)
def test_a_process_that_may_not_be_asked_for_may_exist(
    process: "subprocess.Popen[str]", monkeypatch: pytest.MonkeyPatch, error: OSError
) -> None:
    def refuse(_pid: int, _signal: int) -> None:
        raise error

    known = identity_of(process)
    with monkeypatch.context() as patched:
        patched.setattr(os, "kill", refuse)
        assert still_exists(known, HERE) is None


@pytest.mark.parametrize("part", ["stat", "status of an unreadable file"])
def test_what_cannot_be_read_or_understood_says_nothing(
    process: "subprocess.Popen[str]", tmp_path: Path, monkeypatch: pytest.MonkeyPatch, part: str
) -> None:
    known = identity_of(process)
    folder = tmp_path / str(process.pid)
    folder.mkdir()
    (tmp_path / "self").symlink_to(str(os.getpid()))
    if part == "stat":
        (folder / "stat").write_text("cut off (in the mid")
    else:
        (folder / "stat").mkdir()
    monkeypatch.setattr(identity, "PROC", tmp_path)
    assert still_exists(known, HERE) is None


def test_a_proc_that_counts_in_another_namespace_says_nothing(
    process: "subprocess.Popen[str]", tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "self").symlink_to("4711")
    (tmp_path / str(process.pid)).mkdir()
    (tmp_path / str(process.pid) / "stat").write_text(f"{process.pid} (other) S " + "1 " * 49)
    monkeypatch.setattr(identity, "PROC", tmp_path)
    assert still_exists(identity_of(process), HERE) is None


@pytest.mark.parametrize(
    "elsewhere",
    [
        {"boot_id": "another host"},
        {"pid_namespace": "pid:[1] time:[1]"},
        {"boot_id": ""},
        {"pid_namespace": ""},
    ],
    ids=str,
)
def test_nothing_is_said_of_another_host_or_namespace_nor_where_they_are_unknown(
    elsewhere: dict[str, Any],
) -> None:
    gone = replace(HERE, pid=2**22 + 1)  # more than the system gives out
    assert still_exists(gone, HERE) is False
    assert still_exists(replace(gone, **elsewhere), HERE) is None
    assert still_exists(replace(gone, **elsewhere), replace(HERE, **elsewhere)) in {None, False}
    if "" in elsewhere.values():
        assert still_exists(replace(gone, **elsewhere), replace(HERE, **elsewhere)) is None


@pytest.mark.parametrize("pid", [0, -1, 2**70], ids=["group", "all", "too large"])
def test_a_number_that_is_not_that_of_a_process_says_nothing(pid: int) -> None:
    assert still_exists(replace(HERE, pid=pid), HERE) is None


def test_a_process_of_another_user_is_not_said_to_be_gone_on_a_host_with_hidepid(
    process: "subprocess.Popen[str]",
) -> None:
    known = identity_of(process)
    script = (
        "import os, sys; sys.path[:0] = [sys.argv[1]]\n"
        "from dbos_events.runtime.identity import *\n"
        "os.setgroups([]); os.setgid(65534); os.setuid(65534)\n"
        "here = this_process()\n"
        "known = ProcessIdentity(here.boot_id, here.pid_namespace, int(sys.argv[2]), sys.argv[3])\n"
        "print(os.path.exists(f'/proc/{known.pid}'), still_exists(known, here))"
    )
    inner = 'mount -t proc -o hidepid=2 proc /proc && exec "$@"'
    command = ["unshare", "--mount", "sh", "-c", inner, "sh", sys.executable, "-c", script, str(ROOT)]
    if os.geteuid() != 0 or shutil.which("unshare") is None:
        pytest.skip("needs root and unshare(1), to mount a /proc of its own")
    done = subprocess.run(
        [*command, str(known.pid), known.started], capture_output=True, text=True, timeout=60, check=False
    )
    if "mount:" in done.stderr or "unshare:" in done.stderr:
        pytest.skip(f"a /proc of its own cannot be mounted here: {done.stderr.strip()}")
    assert done.stdout.split() == ["False", "None"], done.stderr
