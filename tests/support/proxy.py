"""A TCP proxy in front of a broker that understands just enough of Kafka to do damage on purpose.

It sees frames (size, api key, correlation id), so a test can say which request or answer is hit:

    def test_a_lost_answer(proxied_kafka):
        direct, proxy = proxied_kafka        # past the proxy, through it
        lost = proxy.swallow_response(Api.END_TXN)
        ...                                      # clients use proxy.bootstrap_servers
        lost.wait()
        proxy.refuse(1.5)
        assert proxy.seen[Api.END_TXN] == 2      # asked again

A fault strikes the `nth` request of an api, counted from the call on, and the `times - 1` after
it; with `client`, only those whose client id starts so.
"""

import asyncio
import contextlib
import math
import socket
import struct
import threading
import time
from collections import Counter
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any, Literal, Self, TypeAlias

from tests.support import answers
from worker.demo.broker import free_ports

_LISTENER = "PROXIED"

_Pending: TypeAlias = "tuple[int, int, Fault | None]"
"""A request that waits for its answer: api key, version, the fault that strikes it."""


class Api(IntEnum):
    """Keys of the requests that tests speak of; others are counted by their number."""

    PRODUCE = 0
    FETCH = 1
    LIST_OFFSETS = 2
    METADATA = 3
    OFFSET_COMMIT = 8
    OFFSET_FETCH = 9
    FIND_COORDINATOR = 10
    JOIN_GROUP = 11
    HEARTBEAT = 12
    LEAVE_GROUP = 13
    SYNC_GROUP = 14
    DESCRIBE_GROUPS = 15
    API_VERSIONS = 18
    INIT_PRODUCER_ID = 22
    OFFSET_FOR_LEADER_EPOCH = 23
    ADD_PARTITIONS_TO_TXN = 24
    ADD_OFFSETS_TO_TXN = 25
    END_TXN = 26
    TXN_OFFSET_COMMIT = 28
    DESCRIBE_CONFIGS = 32
    DESCRIBE_CLUSTER = 60
    DESCRIBE_PRODUCERS = 61
    DESCRIBE_TRANSACTIONS = 65
    LIST_TRANSACTIONS = 66


@dataclass(eq=False, kw_only=True)
class Fault:
    """What is to happen to some requests of an api, and whether it has happened."""

    kind: Literal["drop", "swallow", "hold_request", "hold_response"]
    api: int
    nth: int = 1
    times: float = 1
    client: str = ""
    close: bool = True
    refuse: float = 0.0
    seconds: float = math.inf
    hits: int = 0
    """Requests that it has struck; a swallowed or held answer counts once the broker gave it."""
    matched: int = 0
    _struck: threading.Event = field(default_factory=threading.Event)
    _released: threading.Event = field(default_factory=threading.Event)
    _answered: threading.Event = field(default_factory=threading.Event)

    def wait(self, timeout: float = 60.0) -> None:
        """Returns once it has struck."""
        if not self._struck.wait(timeout):
            raise AssertionError(f"{self.kind} of api {self.api!r}: not struck in {timeout:g} s")

    def wait_answered(self, timeout: float = 60.0) -> None:
        """Returns once a struck request's answer was passed on: the broker has done it."""
        if not self._answered.wait(timeout):
            raise AssertionError(f"{self.kind} of api {self.api!r}: not answered in {timeout:g} s")

    def release(self) -> None:
        """Lets what is held go on, and holds nothing more."""
        self._released.set()

    def cancel(self) -> None:
        """Strikes no more; what it holds goes on."""
        self.times = 0
        self.release()

    def _matches(self, api: int, client: str) -> bool:
        if api != self.api or not client.startswith(self.client):
            return False
        self.matched += 1
        return self.nth <= self.matched < self.nth + self.times

    def _missed(self) -> None:
        """The connection ended before the answer to a request that it was meant for.

        Such are the last words of a client that is gone, read when a request before them is let
        go on: without this the fault would be spent, and nobody struck.
        """
        if self.kind in {"swallow", "hold_response"}:
            # Of the requests that came after it some were let pass: they are not counted again.
            self.matched = self.nth - 1 + self.hits

    def _strike(self) -> None:
        self.hits += 1
        self._struck.set()

    async def _hold(self) -> None:
        self._strike()
        end = time.monotonic() + self.seconds
        # Released from another thread, which no event of asyncio's takes.
        while time.monotonic() < end and not self._released.is_set():  # noqa: ASYNC110
            await asyncio.sleep(0.01)


class Proxy:
    """Forwards connections to a broker's own listener for it.

    Its methods may be called from any thread; the forwarding is done on one of its own.

    Args:
        target: Port on loopback to forward to. Default: a free one, for `broker_properties`.
    """

    def __init__(self, target: int | None = None) -> None:
        self.port, free = free_ports(2)
        self.target = target or free
        self.seen: Counter[int] = Counter()
        """Requests by api key, as they came; dropped ones too."""
        self.answered: Counter[int] = Counter()
        """Answers by api key, as they were passed on."""
        self.connections = 0
        """Connections accepted so far."""
        self.beyond: Counter[int] = Counter()
        """Requests by api key that the broker of `offer` does not have."""
        self._faults: list[Fault] = []
        self._rate = math.inf
        self._free_at = 0.0
        self._offers: dict[int, int | None] = {}
        self._addresses: dict[int | None, tuple[str, int]] = {}
        self._unwritable: frozenset[int] = frozenset()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="proxy", daemon=True)
        self._listener: socket.socket | None = None
        self._refusal: asyncio.TimerHandle | None = None
        self._open: set[asyncio.Task[None]] = set()

    @property
    def bootstrap_servers(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def broker_properties(self) -> dict[str, str]:
        """Properties that give one broker a second listener, told to its clients as the proxy.

        The broker's own connections to itself (transaction markers) take the other listener.
        """
        listeners = "PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller_port}"
        advertised = f"PLAINTEXT://127.0.0.1:{{port}},{_LISTENER}://{self.bootstrap_servers}"
        protocols = ("CONTROLLER", "PLAINTEXT", _LISTENER)
        return {
            "listeners": f"{listeners},{_LISTENER}://127.0.0.1:{self.target}",
            "advertised.listeners": advertised,
            "listener.security.protocol.map": ",".join(f"{p}:PLAINTEXT" for p in protocols),
            "inter.broker.listener.name": "PLAINTEXT",
        }

    def drop_request(
        self, api: int, *, nth: int = 1, times: float = 1, refuse: float = 0.0, client: str = ""
    ) -> Fault:
        """Closes the connection instead of passing the request on: it never reaches the broker.

        With `refuse`, new connections are refused for so many seconds from then on.
        """
        return self._add(
            Fault(kind="drop", api=api, nth=nth, times=times, refuse=refuse, client=client)
        )

    def swallow_response(
        self,
        api: int,
        *,
        nth: int = 1,
        times: float = 1,
        close: bool = True,
        refuse: float = 0.0,
        client: str = "",
    ) -> Fault:
        """The broker does what is asked and answers; the client does not hear of it.

        The connection is closed in place of the answer, or with `close=False` stays open and
        brings nothing more, until the client gives it up.
        """
        return self._add(
            Fault(
                kind="swallow", api=api, nth=nth, times=times, close=close, refuse=refuse,
                client=client,
            )
        )  # fmt: skip

    def delay(
        self, api: int, seconds: float, *, nth: int = 1, times: float = math.inf, client: str = ""
    ) -> Fault:
        """Requests, and what follows on their connection, reach the broker so much later."""
        return self._add(
            Fault(
                kind="hold_request", api=api, nth=nth, times=times, seconds=seconds, client=client
            )
        )

    def hold_request(self, api: int, *, nth: int = 1, times: float = 1, client: str = "") -> Fault:
        """Keeps the request from the broker until `release()`."""
        return self._add(Fault(kind="hold_request", api=api, nth=nth, times=times, client=client))

    def hold_response(self, api: int, *, nth: int = 1, times: float = 1, client: str = "") -> Fault:
        """The broker does what is asked; the client hears of it after `release()`."""
        return self._add(Fault(kind="hold_response", api=api, nth=nth, times=times, client=client))

    def narrow(self, bytes_per_second: float) -> None:
        """Lets through no more of all clients' requests from now on."""
        self._rate = bytes_per_second

    def offer(self, offers: Mapping[int, int | None]) -> None:
        """From now on the broker has no more than these versions of these apis; None: lacks it.

        It says so when it is asked, and closes the connection at a request beyond them.
        """
        self._call(self._offers.update, offers)

    def advertise(self, host: str, port: int, *, broker: int | None = None) -> None:
        """From now on the broker with this id, or every broker, is advertised at this address."""
        self._call(self._addresses.update, {broker: (host, port)})

    def lacks_replicas(self, *partitions: int) -> None:
        """From now on the broker says of writes to these partitions that replicas lack them."""
        self._unwritable = frozenset(partitions)

    def refuse(self, seconds: float = math.inf, *, disconnect: bool = True) -> None:
        """Refuses new connections for so long, or until `accept()`, and closes those there are."""
        self._call(self._refuse, seconds)
        if disconnect:
            self.disconnect()

    def accept(self) -> None:
        """Ends a refusal."""
        self._await(self._listen())

    def disconnect(self) -> None:
        """Closes every connection."""
        self._await(self._close_connections())

    def clear(self) -> None:
        """Forgets all faults, offers, addresses and counts, and accepts."""
        for fault in self._faults:
            fault.cancel()
        self._rate = math.inf
        self._unwritable = frozenset()
        for forgotten in (self._faults, self._offers, self._addresses, self.beyond):
            forgotten.clear()
        self.seen.clear()
        self.answered.clear()
        self.accept()

    def start(self) -> Self:
        self._thread.start()
        self._await(self._listen())
        return self

    def stop(self) -> None:
        self._call(self._refuse, math.inf)
        self.disconnect()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _add(self, fault: Fault) -> Fault:
        self._call(self._faults.append, fault)
        return fault

    def _call(self, function: Callable[..., Any], *arguments: Any) -> None:
        async def run() -> None:
            function(*arguments)

        self._await(run())

    def _await(self, coroutine: Coroutine[Any, Any, None]) -> None:
        asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(30)

    # What follows runs on the proxy's thread.

    async def _listen(self) -> None:
        if self._refusal is not None:
            self._refusal.cancel()
            self._refusal = None
        if self._listener is None:
            # Not asyncio's server: one closed while it accepts leaves that connection open.
            self._listener = socket.create_server(("127.0.0.1", self.port), backlog=100)
            self._listener.setblocking(False)
            self._loop.add_reader(self._listener, self._accept, self._listener)

    def _refuse(self, seconds: float) -> None:
        if self._listener is not None:
            self._loop.remove_reader(self._listener)
            self._listener.close()
            self._listener = None
        if self._refusal is not None:
            self._refusal.cancel()
            self._refusal = None
        if seconds < math.inf:
            self._refusal = self._loop.call_later(seconds, self._listen_again)

    def _listen_again(self) -> None:
        self._loop.create_task(self._listen())

    async def _close_connections(self) -> None:
        for task in list(self._open):
            task.cancel()
        await asyncio.gather(*self._open, return_exceptions=True)

    def _accept(self, listener: socket.socket) -> None:
        try:
            connection, _ = listener.accept()
        except OSError:  # the client is gone again
            return
        connection.setblocking(False)
        self.connections += 1
        task = self._loop.create_task(self._serve(connection))
        self._open.add(task)
        task.add_done_callback(self._open.discard)
        task.add_done_callback(lambda _: connection.close())  # it may end before its first step

    async def _serve(self, connection: socket.socket) -> None:
        reader, writer = await asyncio.open_connection(sock=connection)
        try:
            await self._forward(reader, writer)
        finally:
            writer.transport.abort()

    async def _forward(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            answers, broker = await asyncio.open_connection("127.0.0.1", self.target)
        except OSError:  # no broker: the client finds its connection closed
            return
        pending: dict[int, _Pending] = {}
        pumps = [
            self._loop.create_task(self._requests(reader, broker, pending)),
            self._loop.create_task(self._answers(answers, writer, pending)),
        ]
        try:
            await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for pump in pumps:
                pump.cancel()
            broker.transport.abort()
            await asyncio.gather(*pumps, return_exceptions=True)
            for _, _, fault in pending.values():
                if fault is not None:
                    fault._missed()

    async def _requests(
        self,
        client: asyncio.StreamReader,
        broker: asyncio.StreamWriter,
        pending: dict[int, _Pending],
    ) -> None:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            while True:
                frame = await _frame(client)
                api, version, correlation, client_id = _header(frame)
                self.seen[api] += 1
                if self._is_beyond(api, version):
                    self.beyond[api] += 1
                    return
                fault = self._fault(api, client_id)
                if fault is not None and fault.kind == "drop":
                    self._struck(fault)
                    return
                if fault is not None and fault.kind == "hold_request":
                    await fault._hold()
                pending[correlation] = api, version, fault
                await self._pass(len(frame))
                broker.write(frame)
                await broker.drain()

    async def _pass(self, size: int) -> None:
        """Waits as long as the narrow link takes for a request; all connections share it."""
        now = time.monotonic()
        self._free_at = max(now, self._free_at) + size / self._rate
        if self._free_at > now:
            await asyncio.sleep(self._free_at - now)

    async def _answers(
        self,
        broker: asyncio.StreamReader,
        client: asyncio.StreamWriter,
        pending: dict[int, _Pending],
    ) -> None:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            while True:
                frame = await _frame(broker)
                api, version, fault = pending.pop(struct.unpack_from(">i", frame, 4)[0])
                if fault is not None and fault.kind == "swallow":
                    self._struck(fault)
                    if not fault.close:
                        await asyncio.Event().wait()  # until the client gives up
                    return
                if fault is not None and fault.kind == "hold_response":
                    await fault._hold()
                client.write(self._changed(frame, api, version))
                self.answered[api] += 1
                if fault is not None:
                    fault._answered.set()
                await client.drain()

    def _is_beyond(self, api: int, version: int) -> bool:
        if api not in self._offers or api == Api.API_VERSIONS:
            return False
        most = self._offers[api]
        return most is None or version > most

    def _changed(self, frame: bytes, api: int, version: int) -> bytes:
        if api == Api.API_VERSIONS and self._offers:
            return answers.clamped(frame, version, self._offers)
        if api == Api.METADATA and self._addresses:
            return answers.readdressed(frame, version, self._addresses)
        if api == Api.PRODUCE and self._unwritable:
            return answers.unwritten(frame, version, self._unwritable)
        return frame

    def _fault(self, api: int, client: str) -> Fault | None:
        # Every one counts the request, or the second of two would miss what the first took.
        found = [fault for fault in self._faults if fault._matches(api, client)]
        return found[0] if found else None

    def _struck(self, fault: Fault) -> None:
        if fault.refuse:
            self._refuse(fault.refuse)
        fault._strike()


async def _frame(stream: asyncio.StreamReader) -> bytes:
    size = await stream.readexactly(4)
    return size + await stream.readexactly(int.from_bytes(size))


def _header(frame: bytes) -> tuple[int, int, int, str]:
    """Api key, version, correlation id and client id of a request."""
    api, version, correlation, length = struct.unpack_from(">hhih", frame, 4)
    return api, version, correlation, frame[14 : 14 + max(length, 0)].decode(errors="replace")
