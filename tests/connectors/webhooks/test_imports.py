"""What verification by HMAC does not need is not loaded for it, and is asked for by name where it is missing."""

import subprocess
import sys

LOADED = """
import sys
from dbos_events_webhooks import providers
endpoint = providers.github(secret="s")
print(type(endpoint.verify(endpoint.sign(b"{}"))).__name__)
print(sorted({name.partition(".")[0] for name in sys.modules} & {"cryptography", "starlette", "sqlalchemy"}))
"""
MISSING = """
import sys
sys.modules["cryptography"] = None
from dbos_events.errors import ConfigurationError
from dbos_events_webhooks import providers
try:
    providers.discord(public_key="0" * 64)
except ConfigurationError as error:
    print(error)
"""


def run(program: str) -> list[str]:
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60
    )
    return done.stdout.splitlines()


def test_verifying_by_hmac_loads_no_cryptography_and_no_server() -> None:
    assert run(LOADED) == ["Verified", "[]"]


def test_a_missing_package_is_asked_for_by_its_extra() -> None:
    (told,) = run(MISSING)
    assert "pip install 'dbos-events[webhooks]'" in told
