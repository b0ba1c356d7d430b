"""The mock cluster's C functions, in the librdkafka inside confluent-kafka."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import confluent_kafka
from confluent_kafka import cimpl

from dbos_events.errors import ConnectorError

_Signature = tuple[Any, tuple[Any, ...]]

_HANDLE = ctypes.c_void_p
_TEXT = ctypes.c_char_p
_INT = ctypes.c_int
_INT16 = ctypes.c_int16
_INT32 = ctypes.c_int32

#: Name: (result, arguments). Errors are `rd_kafka_resp_err_t`, an enum, hence an int.
_FUNCTIONS: dict[str, _Signature] = {
    "conf_new": (_HANDLE, ()),
    "conf_set": (_INT, (_HANDLE, _TEXT, _TEXT, _TEXT, ctypes.c_size_t)),
    "conf_destroy": (None, (_HANDLE,)),
    "new": (_HANDLE, (_INT, _HANDLE, _TEXT, ctypes.c_size_t)),
    "destroy": (None, (_HANDLE,)),
    "err2str": (_TEXT, (_INT,)),
    "mock_cluster_new": (_HANDLE, (_HANDLE, _INT)),
    "mock_cluster_destroy": (None, (_HANDLE,)),
    "mock_cluster_bootstraps": (_TEXT, (_HANDLE,)),
    "mock_topic_create": (_INT, (_HANDLE, _TEXT, _INT, _INT)),
    "mock_topic_set_error": (None, (_HANDLE, _TEXT, _INT)),
    "mock_push_request_errors_array": (
        None,
        (_HANDLE, _INT16, ctypes.c_size_t, ctypes.POINTER(_INT)),
    ),
    "mock_clear_request_errors": (None, (_HANDLE, _INT16)),
    "mock_partition_set_leader": (_INT, (_HANDLE, _TEXT, _INT32, _INT32)),
    "mock_broker_set_down": (_INT, (_HANDLE, _INT32)),
    "mock_broker_set_up": (_INT, (_HANDLE, _INT32)),
    "mock_broker_set_rtt": (_INT, (_HANDLE, _INT32, _INT)),
}

#: Newer ones: a librdkafka without them serves all but the method that needs them.
_NEWER_FUNCTIONS: dict[str, _Signature] = {
    "mock_topic_delete": (_INT, (_HANDLE, _TEXT)),
    "mock_partition_delete_records": (
        _INT,
        (_HANDLE, _TEXT, _INT32, ctypes.c_int64),
    ),
    "mock_group_initial_rebalance_delay_ms": (None, (_HANDLE, _INT32)),
    "mock_set_group_consumer_session_timeout_ms": (None, (_HANDLE, _INT)),
    "mock_set_group_consumer_heartbeat_interval_ms": (None, (_HANDLE, _INT)),
    "mock_set_controller_id": (None, (_HANDLE, _INT32)),
}


class EmbeddedBrokerUnavailable(ConnectorError):
    """The installed confluent-kafka cannot run, or not do, what was asked."""

    code = "embedded-broker-unavailable"


class MockLibrary:
    """The typed functions, by their name without the leading `rd_kafka_`."""

    def __init__(self, shared_object: ctypes.CDLL) -> None:
        self._functions = _bind(shared_object, _FUNCTIONS) | _bind(shared_object, _NEWER_FUNCTIONS)

    @property
    def complete(self) -> bool:
        """Whether every function without which no broker can run is there."""
        return _FUNCTIONS.keys() <= self._functions.keys()

    def has(self, name: str) -> bool:
        """Whether this librdkafka is new enough for the function `name`."""
        return name in self._functions

    def call(self, name: str, *arguments: Any) -> Any:
        """The function's result, or `EmbeddedBrokerUnavailable` where it is missing."""
        if name not in self._functions:
            raise EmbeddedBrokerUnavailable(
                f"The librdkafka inside confluent-kafka {confluent_kafka.version()} "
                f"has no rd_kafka_{name}. "
                "Upgrade it: pip install -U 'confluent-kafka>=2.16'."
            )
        return self._functions[name](*arguments)

    def explain(self, error: int) -> str:
        """What librdkafka says about an error number."""
        text: bytes = self.call("err2str", error)
        return text.decode()


def load() -> MockLibrary:
    """The library of the installed wheel.

    Raises:
        EmbeddedBrokerUnavailable: this build of confluent-kafka hides the functions.
    """
    tried = []
    for path in _candidates():
        library = _open(path)
        if library is not None and library.complete:
            return library
        tried.append(str(path))
    raise EmbeddedBrokerUnavailable(
        "The embedded broker needs the mock cluster of librdkafka, and confluent-kafka "
        f"{confluent_kafka.version()} on this platform does not export it (looked in "
        f"{', '.join(tried)}). Install the wheel from PyPI in place of a build of your "
        "own (pip install --only-binary :all: confluent-kafka), or test against a "
        "Kafka server."
    )


def _candidates() -> Iterator[Path]:
    """The extension module, which leads to what it is linked with; then its neighbours.

    Looking a name up in the extension module also searches the libraries that it
    loaded (Linux, macOS), so that no name with a build's hash has to be guessed.
    """
    yield Path(cimpl.__file__)
    package = Path(confluent_kafka.__file__).parent
    for folder in (package.parent / "confluent_kafka.libs", package / ".dylibs"):
        yield from sorted(folder.glob("*rdkafka*"))


def _open(path: Path) -> MockLibrary | None:
    try:
        return MockLibrary(ctypes.CDLL(str(path)))
    except OSError:
        return None


def _bind(shared_object: ctypes.CDLL, signatures: dict[str, _Signature]) -> dict[str, Any]:
    bound = {}
    for name, (result, arguments) in signatures.items():
        function = getattr(shared_object, f"rd_kafka_{name}", None)
        if function is not None:
            function.restype = result
            function.argtypes = arguments
            bound[name] = function
    return bound
