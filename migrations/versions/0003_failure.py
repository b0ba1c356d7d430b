"""Generations, redrives and decisions about what was put aside.

Revision 0003. A retry or a redrive ends a generation of its workflow: `generations` keeps how it ended and
from which point of its history on the next one may differ. `decisions` is the audit of what operators did,
`edited_values` holds values that they gave to an event in place of the received one, which stays as it is.
Checkpoints move on with their workflow; `recorded_in` tells in which generation they were made.
"""

import sqlalchemy as sa
from alembic import context, op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

BIG = sa.BigInteger()
INT = sa.Integer()
TEXT = sa.Text()


def column(name, kind, *, null=False, key=False):
    return sa.Column(name, kind, nullable=null, primary_key=key)


def text_key(name, *, null=False, key=False):
    on_postgres = op.get_bind().dialect.name == "postgresql"
    return column(name, sa.Text(collation="C") if on_postgres else TEXT, null=null, key=key)


def upgrade() -> None:
    schema = context.config.attributes["schema"]
    create_generations(schema)
    create_decisions(schema)
    op.add_column("checkpoints", column("recorded_in", INT, null=True), schema=schema)
    for name in ("codec", "error_type", "error_message", "failed_steps"):
        op.add_column("quarantine", column(name, TEXT, null=True), schema=schema)
    where = sa.text("released_at IS NULL")
    op.create_index(
        "quarantine_waiting",
        "quarantine",
        ["quarantined_at", "workflow_id"],
        schema=schema,
        postgresql_where=where,
        sqlite_where=where,
    )
    facts = sa.table("schema_facts", sa.column("name"), sa.column("value"), schema=schema)
    compatible = facts.update().where(facts.c.name == "min_compatible_revision")
    op.execute(compatible.values(value="0003"))  # older code would run an event without its edited value


def create_generations(schema) -> None:
    op.create_table(
        "generations",
        text_key("workflow_id", key=True),
        column("generation", INT, key=True),
        column("attempt", INT),
        column("ended_as", TEXT),
        column("reason", TEXT, null=True),
        column("codec", TEXT, null=True),
        column("error", TEXT, null=True),
        column("error_type", TEXT, null=True),
        column("error_message", TEXT, null=True),
        column("diverged_at", INT, null=True),
        column("ended_at", BIG),
        column("next_at", BIG),
        schema=schema,
    )


def create_decisions(schema) -> None:
    number = BIG.with_variant(sa.Integer(), "sqlite")
    op.create_table(
        "decisions",
        sa.Column("id", number, sa.Identity(always=False), primary_key=True),
        text_key("workflow_id"),
        column("generation", INT),
        column("decision", TEXT),
        column("reason", TEXT, null=True),
        column("details", TEXT),
        column("decided_by", TEXT),
        column("decided_at", BIG),
        schema=schema,
    )
    op.create_index("decisions_workflow", "decisions", ["workflow_id", "id"], schema=schema)
    op.create_table(
        "edited_values",
        text_key("workflow_id", key=True),
        column("generation", INT, key=True),
        column("value", sa.LargeBinary()),
        column("edited_by", TEXT),
        column("edited_at", BIG),
        schema=schema,
    )
