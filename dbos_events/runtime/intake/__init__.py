"""Intake: events become durable workflows, and the workflows become runs here or wait on a queue."""
