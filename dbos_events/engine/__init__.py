"""Runs workflows: registry, context, effects, operations, replay, committer, runner."""
