"""Real servers for tests: named by address, run in Docker, or started here and stopped again.

`SharedServers` belongs to one test run. `PostgresServer` and `KafkaServer` are servers with a life of
their own, for tests that stop, kill and restart them.
"""

from tests.servers.errors import ServerFailed as ServerFailed
from tests.servers.errors import ServerUnavailable as ServerUnavailable
from tests.servers.kafka import KafkaServer as KafkaServer
from tests.servers.kafka_cluster import KafkaCluster as KafkaCluster
from tests.servers.postgres import Postgres as Postgres
from tests.servers.postgres import PostgresServer as PostgresServer
from tests.servers.shared import RemoteServers as RemoteServers
from tests.servers.shared import Servers as Servers
from tests.servers.shared import SharedServers as SharedServers
