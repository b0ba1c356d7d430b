"""A process that publishes, told by its standard input when to go on: see test_published_between_processes.py.

The workflow writes numbers, then a step writes chunks and waits for a line; then comes the end of the stream.
"""

import json
import sys

from dbos_events import App, SetWorkflowID

options = json.loads(sys.argv[1])
app = App(
    {
        "name": "publisher",
        "system_database_url": options["url"],
        "lease_seconds": 1.0,
        "application_version": "1",
    }
)


def say(text: str) -> None:
    print(text, flush=True)  # noqa: T201


@app.step()
def chunks(life: int) -> None:
    for letter in "xyz":
        app.write_stream("s", f"{letter}{life}")
    app.set_event("life", life)
    say("holds")
    sys.stdin.readline()


@app.workflow()
def publishes() -> None:
    for number in range(3):
        app.write_stream("s", number)
    chunks(options["life"])
    app.write_stream("s", "end")
    app.close_stream("s")


if __name__ == "__main__":
    with app:
        if options["life"] == 1:
            with SetWorkflowID("w"):
                app.start_workflow(publishes)
        app.retrieve_workflow("w").get_result(polling_interval_sec=0.05)
