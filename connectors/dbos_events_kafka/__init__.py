"""Kafka as a source of events, on confluent-kafka."""

from dbos_events_kafka.connector import connector as connector
