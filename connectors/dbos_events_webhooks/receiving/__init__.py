"""Requests into durable workflows: an ASGI app over verification and the inbox of the core."""
