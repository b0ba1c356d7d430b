"""What a program pays for that only declares: a driver is loaded with the first database that is opened."""

from __future__ import annotations

import subprocess
import sys

DECLARES = """
import sys
from dbos_events import App
app = App()
app.workflow(name="work")(lambda: None)
print(*[name for name in ("sqlalchemy", "psycopg", "alembic") if name in sys.modules])
"""


def test_an_app_that_is_declared_loads_no_driver_of_a_database() -> None:
    done = subprocess.run([sys.executable, "-c", DECLARES], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []
