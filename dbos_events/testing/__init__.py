"""Tests of workflows and consumers without a server, without a broker, and without waiting."""
