"""Benchmarks that run the peer, a hand-written loop and us side by side.

`python -m benchmarks` is the whole suite; each contestant is a process of its own
under `benchmarks.contestants`, which also runs where only that contestant is
installed. So nothing here may import more than the standard library at package level.
"""
