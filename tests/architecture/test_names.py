"""The core names no connector: what is said about one is said by the connector, or stands in one of these lines.

A name that has to stand somewhere else is a sign that the connector does not own what it is about.
"""

from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
CORE = ROOT / "dbos_events"
SUFFIXES = (".py", ".sql", ".toml", ".typed", ".json", ".md", ".txt")

TYPED = "dbos_events/bundled.py"
"""What is typed for the connectors that come with the package: the decorator, the message, the section."""

ALLOWED: dict[str, dict[str, set[str]]] = {
    "kafka": {
        "dbos_events/facade.py": {"kafka_consumer = _DEFAULT.kafka_consumer"},
        # A key of the peer's configuration that is accepted and does nothing.
        "dbos_events/settings.py": {
            '"kafka_queue_polling_interval_sec", "console_log_level", "otlp_log_level", "enable_otlp",'
        },
    },
    "webhook": {},
}


def lines_with(word: str) -> dict[str, set[str]]:
    """The lines of the core that hold the word, in any case, by their file; a file's own name counts as a line."""
    found: dict[str, set[str]] = {}
    for path in sorted(CORE.rglob("*")):
        if path.suffix not in SUFFIXES:
            continue
        place = path.relative_to(ROOT).as_posix()
        lines = [path.name, *path.read_text().splitlines()]
        held = {line.strip() for line in lines if word in line.lower()}
        if held:
            found[place] = held
    return found


@pytest.mark.parametrize("word", ALLOWED)
def test_the_core_names_a_connector_only_beside_the_facade(word: str) -> None:
    found = lines_with(word)
    found.pop(TYPED, None)

    assert found == ALLOWED[word]


def test_what_is_typed_for_connectors_is_a_decorator_a_message_and_a_section() -> None:
    import ast

    tree = ast.parse((ROOT / TYPED).read_text())
    classes = {node.name: node for node in tree.body if isinstance(node, ast.ClassDef)}
    methods = [
        one.name
        for node in classes.values()
        for one in node.body
        if isinstance(one, ast.FunctionDef | ast.AsyncFunctionDef)
    ]
    sections = [one.target.id for one in classes["DBOSConfig"].body if isinstance(one, ast.AnnAssign)]  # type: ignore[union-attr]

    assert methods == ["kafka_consumer"]
    assert sections == ["kafka"]
    assert lines_with("kafka")[TYPED]


def test_every_text_of_the_core_is_looked_at() -> None:
    strange = {
        path.suffix
        for path in CORE.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts and path.suffix not in SUFFIXES
    }
    assert not strange
