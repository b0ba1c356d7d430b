"""docs/webhooks.md tells of every provider what its row says, of every reason its status, and of nothing else."""

from dbos_events_webhooks import Body, FirstOf, Header, Reason, Refused, providers
from dbos_events_webhooks.places import Place
from dbos_events_webhooks.rows import ALL, Row
from dbos_events_webhooks.schemes import ItemSecretScheme, TokenScheme
from dbos_events_webhooks.signature import SignatureScheme
from tests.documentation.pages import page, rows, section

TEXT = page("webhooks")


def place(where: Place | None) -> str:
    if isinstance(where, Header):
        return f"header `{where.name}`"
    if isinstance(where, Body):
        return f"`{'.'.join(where.names)}`"
    if isinstance(where, FirstOf):
        return ", else ".join(place(each) for each in where.places)
    return " with ".join(place(each) for each in where) if isinstance(where, tuple) else "digest"


def proof(row: Row) -> str:
    scheme = row.scheme
    if isinstance(scheme, SignatureScheme):
        return f"{scheme.algorithm} over `{scheme.content.replace('|', chr(92) + '|')}`"
    if isinstance(scheme, TokenScheme):
        return f"the secret in `{scheme.header}`"
    return f"the secret in every `{scheme.name}`" if isinstance(scheme, ItemSecretScheme) else "-"


def window(row: Row) -> str:
    stamped = isinstance(row.scheme, SignatureScheme) and row.scheme.timestamp is not None
    return f"{row.scheme.tolerance_seconds} s" if stamped else "-"  # type: ignore[attr-defined]


def signed(row: Row) -> str:
    """Whether the place of the id lies inside of the signature."""
    key = row.reading.key
    first = key.places[0] if isinstance(key, FirstOf) else key
    if not row.scheme.signs_body():
        return "no"
    inside = (
        isinstance(row.scheme, SignatureScheme)
        and isinstance(first, Header)
        and first.name == row.scheme.id_header
    )
    return "no" if isinstance(first, Header) and not inside else "yes"


def questions(row: Row) -> str:
    if not row.handshakes:
        return "-"
    (shake,) = row.handshakes
    return f"{shake.method}, {shake.whom}"


def expected(row: Row) -> list[str]:
    name = "`source` with `id`" if row.reading.cloudevents else place(row.reading.key)
    split = " ".join(f"`{path}`" for path in row.reading.split) or "-"
    cells = [f"`{row.name}`", row.title, proof(row), window(row), name, signed(row), split, questions(row)]
    return [*cells, str(row.accepted_status)]


def test_the_table_of_providers_is_the_rows() -> None:
    assert rows(section(TEXT, "## Providers")) == [expected(row) for row in ALL]


def test_every_row_has_its_function_and_every_function_its_row() -> None:
    functions = {
        name
        for name, value in vars(providers).items()
        if callable(value) and value.__module__ == providers.__name__
    }
    assert {name for name in functions if name[0].islower() and not name.startswith("_")} == (
        {row.name for row in ALL} | {"paypal"}
    )


def test_the_table_of_refusals_has_every_reason_with_its_status() -> None:
    told = {cells[0].strip("`"): cells[1] for cells in rows(section(TEXT, "## Refusals"))}
    assert told == {reason.value: str(Refused(reason, "").status) for reason in Reason}
