"""A random identity beside the number of an executor.

Revision 0008. Where a fail-over loses commits the database may issue a number again, and the process that has had it
would pass the fence of the one that has it now. The functions take both in one parameter: the identity in its upper
half, where 0 stands for any. So they keep their names, and processes of the release before go on calling them with
the bare number.
"""

import sqlalchemy as sa
from alembic import context, op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    schema = context.config.attributes["schema"]
    column = sa.Column("start_id", sa.BigInteger(), nullable=False, server_default=sa.text("0"))
    op.add_column("executors", column, schema=schema)
    bind = op.get_bind()
    if bind.dialect.name != "postgresql":
        return
    quoted = bind.dialect.identifier_preparer.quote_identifier(schema)
    first = context.script.get_revision("0006").module
    second = context.script.get_revision("0007").module
    for function in (
        first.WRITE_STEP,
        first.WRITE_STARTS,
        first.TAKE_IN,
        second.WRITE_ENDS,
        second.WRITE_BATCH,
    ):
        bind.exec_driver_sql(first.spelled(with_identity(second.with_parts(function)), quoted))


def with_identity(function: str) -> str:
    """The function as before, but for the fence."""
    return function.replace("CREATE FUNCTION", "CREATE OR REPLACE FUNCTION").replace("{fence}", FENCE)


FENCE = """PERFORM id FROM {schema}.executors
    WHERE id = executor_id & 4294967295 AND alive AND executor_id >> 32 IN (0, start_id) FOR KEY SHARE;
    IF NOT FOUND THEN
        RAISE EXCEPTION USING ERRCODE = 'DE001', MESSAGE = 'the executor is dead';
    END IF;
    executor_id := executor_id & 4294967295;"""
