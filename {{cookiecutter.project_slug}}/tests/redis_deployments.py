"""Redis beyond one node, for tests: a primary and its replica behind Sentinels, and a Cluster; real processes."""

import contextlib
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

from redis import Redis
from redis.crc import key_slot
from redis.exceptions import RedisError

from tests.redis_server import RedisServer, free_port

SERVICE = "chat"
NODE_TIMEOUT_MS = 500
"""Silence after which a server counts as dead."""

# Replicas come as a user of their own, so that a test can keep them away from the primary and nobody else.
_REPLICATION = (
    *("--user", "replica", "on", ">replica", "+psync", "+replconf", "+ping"),
    *("--masteruser", "replica", "--masterauth", "replica"),
    *("--repl-diskless-sync-delay", "0", "--repl-ping-replica-period", "1"),
    *("--shutdown-timeout", "0"),
)


def wait_for(condition: Callable[[], object], what: str, within_seconds: float = 30.0) -> None:
    """Blocks: for fixtures, and for what a test does to Redis while nothing else goes on."""
    deadline = time.monotonic() + within_seconds
    while True:
        with contextlib.suppress(RedisError, OSError):
            if condition():
                return
        assert time.monotonic() < deadline, f"not within {within_seconds} s: {what}"
        time.sleep(0.02)


def order(client: Redis, *command: str | bytes | int) -> Any:
    return client.execute_command(*command)  # type: ignore[no-untyped-call]


class Node(RedisServer):
    """A server that replicates, with a client to give it orders."""

    def __init__(self, directory: Path, *settings: str) -> None:
        directory.mkdir()
        super().__init__(directory, *_REPLICATION, *settings)
        self.control = Redis(host="127.0.0.1", port=self.port, socket_timeout=5)

    def order(self, *command: str | bytes | int) -> Any:
        return order(self.control, *command)

    def info(self, section: str) -> dict[str, Any]:
        return dict(self.control.info(section))

    def is_primary(self) -> bool:
        return bool(self.info("replication")["role"] == "master")

    def has_replica(self) -> bool:
        info = self.info("replication")
        return bool(info["connected_slaves"] and info["slave0"]["state"] == "online")

    def cut_off_replicas(self) -> None:
        """From now on no replica hears this primary, which goes on serving all others."""
        self.control.acl_setuser("replica", enabled=False)
        self.order("CLIENT", "KILL", "TYPE", "replica")
        wait_for(lambda: not self.info("replication")["connected_slaves"], "the replica is gone")

    def stop(self) -> None:
        """At once: a primary told to end while a child of it writes for a replica waits long for that child."""
        self.control.close()
        if self._process is not None:
            self.kill()
        super().stop()


class Sentinel(RedisServer):
    def __init__(self, directory: Path, primary: Node, quorum: int) -> None:
        directory.mkdir()
        super().__init__(directory)
        self._configuration = directory / "sentinel.conf"
        lines = [
            f"port {self.port}",
            "bind 127.0.0.1",
            f"dir {directory}",
            f"sentinel monitor {SERVICE} 127.0.0.1 {primary.port} {quorum}",
            f"sentinel down-after-milliseconds {SERVICE} {NODE_TIMEOUT_MS}",
            f"sentinel failover-timeout {SERVICE} 2000",
        ]
        self._configuration.write_text("\n".join([*lines, ""]))

    def command(self) -> list[str]:
        return [super().command()[0], str(self._configuration), "--sentinel"]


class SentinelDeployment:
    """A primary, a replica, and three Sentinels of which two must agree."""

    def __init__(self, directory: Path) -> None:
        self.nodes = [Node(directory / "one"), Node(directory / "two")]
        self.sentinels = [Sentinel(directory / f"sentinel-{number}", self.nodes[0], 2) for number in range(3)]
        hosts = ",".join(f"127.0.0.1:{sentinel.port}" for sentinel in self.sentinels)
        self.url = f"redis+sentinel://{hosts}/{SERVICE}/0"

    def start(self) -> None:
        for node in self.nodes:
            node.start()
        self.nodes[1].control.replicaof("127.0.0.1", self.nodes[0].port)
        wait_for(self.nodes[0].has_replica, "a replica")
        for sentinel in self.sentinels:
            sentinel.start()
        for sentinel in self.sentinels:
            wait_for(partial(self._sees_all, sentinel), "the Sentinels know each other")

    @staticmethod
    def _sees_all(sentinel: Sentinel) -> bool:
        with Redis(host="127.0.0.1", port=sentinel.port) as control:
            state = control.sentinel_master(SERVICE)
        return bool(state["num-slaves"] == 1 and state["num-other-sentinels"] == 2)

    @property
    def primary(self) -> Node:
        return next(node for node in self.nodes if node.process.poll() is None and node.is_primary())

    def fail_over(self) -> None:
        """Ask for another primary while the old one is well."""
        with Redis(host="127.0.0.1", port=self.sentinels[0].port) as control:
            order(control, "SENTINEL", "FAILOVER", SERVICE)

    def stop(self) -> None:
        for server in (*self.sentinels, *self.nodes):
            server.stop()


class ClusterDeployment:
    """Three primaries with a third of the slots each, and a replica of the first."""

    def __init__(self, directory: Path) -> None:
        self.nodes: list[Node] = []
        for number in range(4):
            self.nodes.append(
                Node(
                    directory / f"node-{number}",
                    *("--cluster-enabled", "yes", "--cluster-port", str(free_port())),
                    *("--cluster-node-timeout", str(NODE_TIMEOUT_MS), "--cluster-replica-validity-factor", "0"),
                )
            )
        self.url = "redis+cluster://" + ",".join(f"127.0.0.1:{node.port}" for node in self.nodes)
        self.primaries, self.replica = self.nodes[:3], self.nodes[3]

    def start(self) -> None:
        for number, node in enumerate(self.nodes):
            node.start()
            node.order("CLUSTER", "SET-CONFIG-EPOCH", number + 1)
        for node, (first, last) in zip(self.primaries, [(0, 5460), (5461, 10922), (10923, 16383)], strict=True):
            node.order("CLUSTER", "ADDSLOTSRANGE", first, last)
        for node in self.nodes:
            bus_port = str(node.control.config_get("cluster-port")["cluster-port"])
            for other in self.nodes:
                if other is not node:
                    other.order("CLUSTER", "MEET", "127.0.0.1", node.port, bus_port)
        for node in self.nodes:
            wait_for(partial(self._is, node, "cluster_known_nodes", "4"), "all nodes know each other")
        wait_for(self._replicate, "the replica accepts its primary")
        wait_for(self.nodes[0].has_replica, "a replica")
        for node in self.nodes:
            wait_for(partial(self._is, node, "cluster_state", "ok"), "the cluster is well")
            wait_for(partial(self._knows_the_replica, node), "the replica is known")

    @staticmethod
    def _is(node: Node, name: str, value: str) -> bool:
        return bool(node.order("CLUSTER INFO")[name] == value)

    def _replicate(self) -> bool:
        return bool(self.replica.order("CLUSTER", "REPLICATE", self.id_of(self.nodes[0])))

    def _knows_the_replica(self, node: Node) -> bool:
        return str(self.replica.port) in str(node.order("CLUSTER SLOTS"))

    @staticmethod
    def id_of(node: Node) -> str:
        told: Any = node.order("CLUSTER MYID")
        return told.decode() if isinstance(told, bytes) else str(told)

    def owner_of(self, key: str) -> Node:
        """The primary that a node of the cluster names for a key."""
        slot = key_slot(key.encode())
        asked = next(node for node in self.nodes if node.process.poll() is None)
        with Redis(host="127.0.0.1", port=asked.port) as control:
            control.response_callbacks.clear()
            for first, last, primary, *_ in order(control, "CLUSTER SLOTS"):
                if first <= slot <= last:
                    return next(node for node in self.nodes if node.port == primary[1])
        raise AssertionError(f"nobody has slot {slot}")

    def move(self, key: str, target: Node) -> None:
        """Move the slot of a key, key by key and slowly, as a resharding of a large slot does."""
        slot, source = key_slot(key.encode()), self.owner_of(key)
        target.order("CLUSTER", "SETSLOT", slot, "IMPORTING", self.id_of(source))
        source.order("CLUSTER", "SETSLOT", slot, "MIGRATING", self.id_of(target))
        while keys := source.order("CLUSTER", "GETKEYSINSLOT", slot, 1):
            source.order("MIGRATE", "127.0.0.1", target.port, "", 0, 5000, "KEYS", *keys)
            time.sleep(0.1)
        for node in (target, source, *self.nodes):
            if node.is_primary():
                node.order("CLUSTER", "SETSLOT", slot, "NODE", self.id_of(target))

    def stop(self) -> None:
        for node in self.nodes:
            node.stop()


@contextlib.contextmanager
def running(deployment: SentinelDeployment | ClusterDeployment) -> Iterator[None]:
    try:
        deployment.start()
        yield
    finally:
        deployment.stop()
