"""The files in docker/ name things that exist: folders, extras, commands, images, other services."""

import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.servers import kafka_binaries

ROOT = Path(__file__).parents[2]
DOCKERFILE = (ROOT / "docker" / "Dockerfile").read_text()
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "docker" / "compose.yaml").read_text())
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
SERVICES = COMPOSE["services"]
CONSUMER = SERVICES["consumer"]


def instruction(name: str) -> list[str]:
    """Return the arguments of the Dockerfile's last instruction of that name, written as a list."""
    found = re.findall(rf"^{name} (\[.*\])$", DOCKERFILE, re.MULTILINE)
    words: list[str] = json.loads(found[-1])
    return words


def run_command_line(*words: str) -> str:
    """Run the installed command line, with `--help` for what would not return."""
    program = Path(sys.executable).parent / words[0]
    done = subprocess.run([program, *words[1:]], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_image_copies_what_is_there() -> None:
    copied = re.findall(r"^COPY (?!--from)(.+) \S+$", DOCKERFILE, re.MULTILINE)
    names = [name for line in copied for name in line.split()]
    assert names
    assert all((ROOT / name).exists() for name in names)


def test_image_copies_what_the_wheel_is_built_from() -> None:
    ignored = (ROOT / "docker" / "Dockerfile.dockerignore").read_text()
    wheel = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["build"]["targets"]["wheel"]
    needed = {name.split("/")[0] for name in [*wheel["packages"], *wheel["force-include"]]}
    for name in needed | {"pyproject.toml", PROJECT["readme"], *PROJECT["license-files"]}:
        assert re.search(rf"^COPY .*\b{re.escape(name)}\b", DOCKERFILE, re.MULTILINE), name
        assert f"!{name}\n" in ignored


def test_image_installs_extras_that_exist() -> None:
    extras = re.findall(r"\.whl\)\[([\w,]+)\]", DOCKERFILE)
    assert extras
    assert {extra for group in extras for extra in group.split(",")} <= set(PROJECT["optional-dependencies"])


def test_image_runs_a_command_that_exists() -> None:
    entrypoint, command = instruction("ENTRYPOINT"), instruction("CMD")
    assert entrypoint[0] in PROJECT["scripts"]
    assert run_command_line(*entrypoint, command[0], "--help")


def test_composed_consumer_runs_a_command_and_a_module_that_exist() -> None:
    subcommand, module, *_ = CONSUMER["command"]
    assert run_command_line(*instruction("ENTRYPOINT"), subcommand, "--help")
    (mount,) = CONSUMER["volumes"]
    source, target, _ = mount.split(":")
    assert target == re.findall(r"^WORKDIR (\S+)$", DOCKERFILE, re.MULTILINE)[-1]
    folder = (ROOT / "docker" / source).resolve()
    assert (folder / f"{module}.py").exists() or (folder / module / "__init__.py").exists()


def test_composed_consumer_is_built_from_this_tree() -> None:
    context = (ROOT / "docker" / CONSUMER["build"]["context"]).resolve()
    assert context == ROOT
    assert (context / CONSUMER["build"]["dockerfile"]).is_file()


def test_composed_consumer_finds_its_servers() -> None:
    environment = CONSUMER["environment"]
    bootstrap = environment["DBOS_EVENTS_KAFKA__BOOTSTRAP_SERVERS"]
    assert f"://{bootstrap}" in SERVICES["kafka"]["environment"]["KAFKA_ADVERTISED_LISTENERS"]
    database = SERVICES["postgres"]["environment"]
    url = (
        f"postgresql://{database['POSTGRES_USER']}:{database['POSTGRES_PASSWORD']}"
        f"@postgres:5432/{database['POSTGRES_DB']}"
    )
    assert environment["DBOS_SYSTEM_DATABASE_URL"] == url


def test_broker_is_the_one_that_the_tests_run() -> None:
    assert SERVICES["kafka"]["image"] == f"apache/kafka:{kafka_binaries.version()}"


@pytest.mark.parametrize("service", sorted(CONSUMER["depends_on"]))
def test_services_that_others_wait_for_report_their_health(service: str) -> None:
    assert SERVICES[service]["healthcheck"]["test"]


def test_named_volumes_are_declared() -> None:
    mounts = [mount for service in SERVICES.values() for mount in service.get("volumes", ())]
    named = {mount.split(":")[0] for mount in mounts if mount[0] not in "./"}
    assert named == set(COMPOSE["volumes"])


# ------------------------------------------------------------------ the manifest for Kubernetes

MANIFESTS = {
    each["kind"]: each for each in yaml.safe_load_all((ROOT / "docker" / "kubernetes.yaml").read_text())
}


def container(kind: str) -> dict[str, Any]:
    found: dict[str, Any] = MANIFESTS[kind]["spec"]["template"]["spec"]["containers"][0]
    return found


def test_the_manifests_commands_and_variables_exist() -> None:
    from dbos_events.settings import Settings, _section_names

    for kind in ("Deployment", "Job"):
        command, *_ = container(kind)["args"]
        assert "Usage" in run_command_line("dbos-events", command, "--help")
        for variable in container(kind)["env"]:
            name = variable["name"]
            section = name.removeprefix("DBOS_EVENTS_").partition("__")[0].lower()
            assert name == "DBOS_SYSTEM_DATABASE_URL" or section in {
                *Settings.model_fields,
                *_section_names(),
            }


def test_the_manifests_probes_are_those_of_the_service() -> None:
    service = container("Deployment")
    port = service["args"][service["args"].index("--health-port") + 1]
    assert [str(one["containerPort"]) for one in service["ports"]] == [port]
    assert service["livenessProbe"]["httpGet"]["path"] == "/livez"
    assert service["readinessProbe"]["httpGet"]["path"] == "/readyz"


def test_the_manifests_grace_is_longer_than_a_stop_may_take() -> None:
    from dbos_events.settings import Settings

    grace = MANIFESTS["Deployment"]["spec"]["template"]["spec"]["terminationGracePeriodSeconds"]
    assert grace > Settings.model_fields["shutdown_timeout_seconds"].default + 10


def test_the_manifests_rollout_outlasts_the_longest_pause_of_a_breaker() -> None:
    from dbos_events import Breaker

    assert MANIFESTS["Deployment"]["spec"]["progressDeadlineSeconds"] > Breaker().max_open_seconds


def test_the_consumers_health_check_asks_where_it_answers() -> None:
    port = CONSUMER["command"][CONSUMER["command"].index("--health-port") + 1]
    assert f"127.0.0.1:{port}/readyz" in CONSUMER["healthcheck"]["test"][-1]
