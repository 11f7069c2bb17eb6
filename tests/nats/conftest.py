"""Servers for the tests of the NATS store."""

from tests.nats.fixtures import cluster, nats_program, own_cluster, own_server, server, store, two, wire

__all__ = ["cluster", "nats_program", "own_cluster", "own_server", "server", "store", "two", "wire"]
