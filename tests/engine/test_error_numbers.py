"""Programs of DBOS Transact look at the numbers of errors."""

from __future__ import annotations

from typing import Any

import pytest

from dbos_events import App, errors
from dbos_events.error import DBOSErrorCode, DBOSException
from dbos_events.testing.plugin import MakeTestApp


@pytest.fixture
def app() -> App:
    return App()


def test_an_error_has_the_number_of_its_kind_also_when_it_was_recorded(
    app: App, dbos_test_app: MakeTestApp
) -> None:
    numbers: list[Any] = []

    @app.workflow()
    def sends() -> None:
        try:
            app.send("nobody", 1)
        except DBOSException as error:
            numbers.append(error.dbos_error_code)
        app.sleep(1000)

    dbos = dbos_test_app(app)
    handle = app.start_workflow(sends)
    dbos.run_until_idle()
    dbos.crash()
    handle.get_result()
    assert set(numbers) == {DBOSErrorCode.NonExistentWorkflowError.value}
    assert len(numbers) > 1, "the replay's, too"


def test_a_kind_without_a_number_has_that_of_the_kind_above_it_or_none() -> None:
    assert errors.ConfigurationError("x").dbos_error_code == DBOSErrorCode.InitializationError.value
    assert errors.TryAgain("x").dbos_error_code is None
    assert errors.DBOSWorkflowConflictIDError("w").dbos_error_code == 1
    assert DBOSException("x").dbos_error_code is None


def test_a_program_may_give_a_number_of_its_own(app: App, dbos_test_app: MakeTestApp) -> None:
    @app.workflow()
    def fails() -> None:
        raise DBOSException("mine", 99)

    dbos_test_app(app)
    handle = app.start_workflow(fails)
    with pytest.raises(DBOSException, match="mine") as raised:
        handle.get_result()
    assert raised.value.dbos_error_code == 99
    with pytest.raises(DBOSException, match="mine") as read_back:
        app.retrieve_workflow(handle.workflow_id).get_result()
    assert read_back.value.dbos_error_code == 99
