"""Run one server as a child, and end it when the process that asked for it is gone.

    guard.py DIRECTORY LOG USER GROUP STOP_SIGNAL COMMAND...

USER and GROUP are numbers, or empty to stay who we are. Standard input comes from the owner: each line is
the number of a signal for the server. When it ends while the server still runs, the owner has died without
cleaning up: the server is stopped and DIRECTORY removed. This file runs on its own, without the rest of
the package.
"""

import contextlib
import os
import shutil
import subprocess
import sys
import threading
from pathlib import Path

GRACE_SECONDS = 20.0


def main() -> None:
    """Start the server, print its process id, and stay until it has ended."""
    directory, log, user, group, stop_signal, *command = sys.argv[1:]
    with Path(log).open("ab") as output:
        server = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            cwd=directory,
            user=int(user) if user else None,
            group=int(group) if group else None,
            extra_groups=[] if user else None,
        )
    print(server.pid, flush=True)

    abandoned = threading.Event()
    watcher = threading.Thread(target=_exit_with, args=(server, abandoned), daemon=True)
    watcher.start()
    for line in sys.stdin:
        server.send_signal(int(line))

    abandoned.set()
    server.send_signal(int(stop_signal))
    watcher.join(GRACE_SECONDS)
    if watcher.is_alive():
        server.kill()
        watcher.join()
    shutil.rmtree(directory, ignore_errors=True)


def _exit_with(server: "subprocess.Popen[bytes]", abandoned: threading.Event) -> None:
    status = server.wait()
    if not abandoned.is_set():
        with contextlib.suppress(BrokenPipeError):
            sys.stdout.flush()
        os._exit(status if status >= 0 else 128 - status)


if __name__ == "__main__":
    main()
