"""The client's own network layer, without three of its faults."""

from __future__ import annotations

import random
import ssl
from typing import Any

import kafka.errors
from kafka.net.compat import KafkaNetClient
from kafka.net.inet import create_connection
from kafka.net.manager import KafkaConnectionManager
from kafka.net.selector import NetworkSelector
from kafka.net.transport import KafkaSSLTransport


def network(**options: Any) -> KafkaNetClient:
    """The network of one client: `kafka_client` among the client's options.

    kafka-python 3.0.12 drops `allow_auto_create_topics` on the way to its metadata requests: a
    consumer would silently create a deleted topic again, with one partition.
    """
    selector = NetworkSelector(**options)
    client = KafkaNetClient(net=selector, manager=_Manager(selector, **options), **options)
    client.cluster.config["allow_auto_create_topics"] = False
    return client


class _Manager(KafkaConnectionManager):  # type: ignore[misc]
    """Gives up a TLS handshake in time, and finds brokers that come back at other addresses.

    kafka-python 3.0.12 waits for ever for a broker that accepts a connection and then is silent, as
    one that is frozen: so does whoever asks it, or makes a client. And it asks only brokers that it
    knows: if all of them come back at other addresses, it never asks the bootstrap servers (KIP-899
    is not there).
    """

    def least_loaded_node(self) -> Any:
        """The node to ask: a bootstrap server while no known broker can be connected to."""
        known = [broker.node_id for broker in self.cluster.brokers()]
        if any(node not in self._backoff or self._connected(node) for node in known):
            return super().least_loaded_node()
        servers = [broker.node_id for broker in self.cluster.bootstrap_brokers()]
        random.shuffle(servers)
        free = (node for node in servers if self.connection_delay(node) <= 0)
        return next(free, None) or super().least_loaded_node()

    def _connected(self, node: Any) -> bool:
        connection = self._conns.get(node)
        return connection is not None and connection.connected

    async def _build_transport(self, node: Any, timeout_at: float | None = None) -> Any:
        if not self.ssl_enabled:
            return await super()._build_transport(node, timeout_at=timeout_at)
        sock = await create_connection(
            self._net,
            node.host,
            node.port,
            self.config["socket_options"],
            proxy_url=self.config["proxy_url"],
            timeout_at=timeout_at,
        )
        tls = {name: value for name, value in self.config.items() if name.startswith("ssl_")}
        try:
            transport = KafkaSSLTransport(self._net, sock, host=node.host, **tls)
            # The transport has wrapped the socket: this one has no descriptor any more.
            sock = transport._sock  # noqa: SLF001
            await _handshake(self._net, sock, timeout_at)
        except BaseException as error:
            sock.close()
            if not isinstance(error, Exception):  # the client is closed meanwhile
                raise
            raise kafka.errors.KafkaConnectionError(f"Handshake failed: {error}") from error
        return transport


async def _handshake(net: Any, sock: ssl.SSLSocket, timeout_at: float | None) -> None:
    while True:
        try:
            sock.do_handshake()
        except ssl.SSLWantReadError:
            await net.wait_read(sock, timeout_at=timeout_at)
        except ssl.SSLWantWriteError:
            await net.wait_write(sock, timeout_at=timeout_at)
        else:
            return
