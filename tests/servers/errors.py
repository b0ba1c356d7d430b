"""What goes wrong on the way to a server."""


class ServerUnavailable(Exception):
    """No server can be had on this machine; the text says in one line how to get one."""


class ServerFailed(Exception):
    """A server was started and did not come up; the text ends with the tail of its log."""
