"""The errors under the module name that programs written for DBOS Transact import."""

from dbos_events.errors import *  # noqa: F403
