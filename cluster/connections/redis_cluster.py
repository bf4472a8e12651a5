"""redis-py clients of a Redis Cluster: they find each key's node, and a pipeline is one round trip a node.

redis-py's own cluster clients refuse EVALSHA in a pipeline, send node after node again one by one after a move, and raise
errors outside RedisError; these are its plain clients with another way out.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator, Sequence
from typing import Any, Final

import redis
import redis.asyncio
import redis.asyncio.client
import redis.client
from redis.backoff import NoBackoff
from redis.exceptions import AskError, ClusterDownError, MovedError, RedisError, ResponseError
from redis.exceptions import ConnectionError as Unreachable
from redis.retry import Retry

from cluster.connections.redis_lanes import RENEW_EVERY_S, ROUNDS, ClusterLane
from cluster.connections.redis_topology import ClusterAddress, Topology, read_topology
from configs.contracts.errors import DependencyUnavailable
from configs.contracts.slots import Split, split

Stack = Sequence[tuple[tuple[Any, ...], dict[str, Any]]]
Waiting = dict[str, list[int]]
"""Node -> places of the commands that it is to be sent; the node of ASK redirections begins with "?"."""

LOST: Final = (Unreachable, redis.exceptions.TimeoutError, OSError, TimeoutError)
ASKED: Final = "?"


class _Batch:
    """Commands on their way to their nodes, and what came back so far."""

    def __init__(self, stack: Stack) -> None:
        self.parts: Split = split([args for args, _ in stack])
        self.replies: list[Any] = [Unreachable("no node owns the slot")] * len(self.parts.sent)
        self._options: list[dict[str, Any]] = [{}] * len(self.parts.sent)
        for (start, _, name), (_, options) in zip(self.parts.spans, stack, strict=True):
            if not name:
                self._options[start] = options
        self.stale = False

    def placed(self, topology: Topology, places: Sequence[int]) -> Waiting:
        groups: Waiting = {}
        for place in places:
            if owner := topology.owner(self.parts.slots[place]):
                groups.setdefault(owner, []).append(place)
        return groups

    def commands(self, node: str, places: Sequence[int]) -> list[tuple[tuple[Any, ...], dict[str, Any]]]:
        """What is sent to the node."""
        stack: list[tuple[tuple[Any, ...], dict[str, Any]]] = []
        for place in places:
            if node.startswith(ASKED):
                stack.append((("ASKING",), {}))
            stack.append((tuple(self.parts.sent[place]), self._options[place]))
        return stack

    def take(self, node: str, places: Sequence[int], answers: Sequence[Any]) -> Waiting:
        """Keeps the answers; what moved is sent elsewhere."""
        moved: Waiting = {}
        answers = answers[1::2] if node.startswith(ASKED) and len(answers) == 2 * len(places) else answers
        for place, answer in zip(places, answers, strict=True):
            self.replies[place] = answer
            if isinstance(answer, AskError):
                self.stale = self.stale or isinstance(answer, MovedError)
                sign = "" if isinstance(answer, MovedError) else ASKED
                host = answer.host or node.removeprefix(ASKED).rpartition(":")[0]
                moved.setdefault(f"{sign}{host}:{answer.port}", []).append(place)
            elif isinstance(answer, ClusterDownError):
                self.stale = True
        return moved

    def result(self) -> list[Any]:
        return self.parts.together(self.replies)


def _parse(client: Any, connection: Any, name: str, options: dict[str, Any]) -> Any:
    return client.parse_response(connection, name, **options)


def _first_error(replies: Sequence[Any]) -> None:
    for reply in replies:
        if isinstance(reply, Exception):
            raise reply


class ClusterRedis(redis.Redis):
    """``redis.Redis`` for a cluster; connects when it is first used. Raises what that does."""

    def __init__(self, address: ClusterAddress, *, timeout_s: float) -> None:
        self._address = address
        self._timeout_s = timeout_s
        self._pools: dict[str, Any] = {}
        self._topology: Topology | None = None
        self._renewed_s = float("-inf")
        super().__init__(connection_pool=self._pool(address.seeds[0]))

    def _pool(self, node: str) -> Any:
        pool = self._pools.get(node)
        if pool is None:
            pool = self._pools[node] = redis.ConnectionPool.from_url(
                self._address.url(node), socket_timeout=self._timeout_s, socket_connect_timeout=self._timeout_s,
                retry=Retry(NoBackoff(), 0),
            )
        return pool

    def node(self, node: str) -> redis.Redis:
        """A client of one node."""
        return redis.Redis(connection_pool=self._pool(node))

    def servers(self) -> list[redis.Redis]:
        """A client of each node that the cluster's address names."""
        return [self.node(node) for node in self._address.seeds]

    def topology(self, *, renewed: bool = False) -> Topology:
        """Who owns which slot. Raises redis.ConnectionError: no node answers."""
        if self._topology is not None and not (renewed and time.monotonic() - self._renewed_s >= RENEW_EVERY_S):
            return self._topology
        error: Exception = Unreachable("no node of the cluster answers")
        known = self._topology.primaries if self._topology is not None else []
        for node in dict.fromkeys([*known, *self._address.seeds]):
            try:
                client: Any = self.node(node)
                reply: Any = client.execute_command("CLUSTER", "SLOTS")
            except (RedisError, OSError) as failure:
                error = failure
                continue
            if reply:
                self._topology = read_topology(reply, node)
                self._renewed_s = time.monotonic()
                return self._topology
        raise Unreachable("no node of the cluster answers") from error

    def run(self, stack: Stack) -> list[Any]:
        """One reply, or exception, a command."""
        batch = _Batch(stack)
        topology = self.topology()
        waiting = batch.placed(topology, range(len(batch.parts.sent)))
        again = True
        for _ in range(ROUNDS):
            moved, lost = self._round(batch, waiting)
            if lost or batch.stale:
                topology, batch.stale = self.topology(renewed=True), False
            if lost and again:
                again = False
                # Sent once more only where another node owns the slot by now.
                for node, places in batch.placed(topology, lost).items():
                    moved.setdefault(node, []).extend(place for place in places if place not in waiting.get(node, ()))
            waiting = {node: places for node, places in moved.items() if places}
            if not waiting:
                break
        return batch.result()

    def _round(self, batch: _Batch, waiting: Waiting) -> tuple[Waiting, list[int]]:
        """Writes to every node, then reads from every node; (what goes on elsewhere, what got no answer)."""
        moved: Waiting = {}
        lost: list[int] = []
        written: list[tuple[str, list[int], Any, Any, Any]] = []
        try:
            for node, places in waiting.items():
                pool = self._pool(node.removeprefix(ASKED))
                try:
                    connection = pool.get_connection()
                except LOST as error:
                    lost += places
                    batch.take(node, places, [_lost(error)] * len(places))
                    continue
                stack = batch.commands(node, places)
                written.append((node, places, stack, pool, connection))
                try:
                    connection.send_packed_command(connection.pack_commands([args for args, _ in stack]))
                except LOST:
                    connection.disconnect()
            for node, places, stack, _, connection in written:
                try:
                    answers = [self._answer(connection, args[0], options) for args, options in stack]
                except LOST as error:
                    connection.disconnect()
                    lost += places
                    answers = [_lost(error)] * len(places)
                for target, mine in batch.take(node, places, answers).items():
                    moved.setdefault(target, []).extend(mine)
        except BaseException:
            for *_, connection in written:
                connection.disconnect()
            raise
        finally:
            for *_, pool, connection in written:
                pool.release(connection)
        return moved, lost

    def _answer(self, connection: Any, name: str, options: dict[str, Any]) -> Any:
        if not connection.is_connected:
            raise Unreachable("the node closed the connection")
        try:
            return _parse(self, connection, name, options)
        except ResponseError as error:
            return error

    def execute_command(self, *args: Any, **options: Any) -> Any:
        (reply,) = self.run([(args, options)])
        if isinstance(reply, Exception):
            raise reply
        return reply

    def pipeline(self, transaction: bool = False, shard_hint: Any = None) -> _Pipeline:
        if transaction:
            raise NotImplementedError("no transaction spans the nodes of a cluster")
        return _Pipeline(self)

    def scan_iter(self, *args: Any, **options: Any) -> Iterator[Any]:
        """Every node's keys."""
        for node in self.topology(renewed=True).primaries:
            yield from self.node(node).scan_iter(*args, **options)

    def close(self) -> None:
        for pool in self._pools.values():
            pool.close()


class _Pipeline(redis.client.Pipeline):
    def __init__(self, client: ClusterRedis) -> None:
        self._client = client
        super().__init__(client.connection_pool, client.response_callbacks, False, None)

    def execute(self, raise_on_error: bool = True) -> list[Any]:
        stack: Any = self.command_stack
        self.command_stack = []
        replies = self._client.run(stack) if stack else []
        if raise_on_error:
            _first_error(replies)
        return replies


class AsyncClusterRedis(redis.asyncio.Redis):
    """``redis.asyncio.Redis`` for a cluster; connects when it is first used. Raises what that does."""

    def __init__(self, address: ClusterAddress, *, timeout_s: float, connections: int) -> None:
        self._address = address
        self._options: dict[str, Any] = {
            "max_connections": connections, "timeout": timeout_s, "socket_timeout": timeout_s,
            "socket_connect_timeout": timeout_s, "retry": redis.asyncio.retry.Retry(NoBackoff(), 0),
        }
        self._pools: dict[str, Any] = {}
        self._lane = ClusterLane(address, timeout_s=timeout_s)
        super().__init__(connection_pool=self._pool(address.seeds[0]))

    def _pool(self, node: str) -> Any:
        pool = self._pools.get(node)
        if pool is None:
            pool = self._pools[node] = redis.asyncio.BlockingConnectionPool.from_url(self._address.url(node), **self._options)
        return pool

    async def run(self, stack: Stack) -> list[Any]:
        """One reply, or exception, a command."""
        batch = _Batch(stack)
        waiting = batch.placed(await self._topology(), range(len(batch.parts.sent)))
        for _ in range(ROUNDS):
            groups = list(waiting.items())
            answers = await asyncio.gather(*(self._ask(batch, node, places) for node, places in groups))
            waiting = {}
            for (node, places), mine in zip(groups, answers, strict=True):
                for target, moved in batch.take(node, places, mine).items():
                    waiting.setdefault(target, []).extend(moved)
            if batch.stale or any(isinstance(reply, LOST) for reply in batch.replies):
                self._lane.stale()
            if not waiting:
                break
        return batch.result()

    async def _topology(self) -> Topology:
        try:
            return await self._lane.topology()
        except DependencyUnavailable as error:
            raise Unreachable(error.message) from error

    async def _ask(self, batch: _Batch, node: str, places: Sequence[int]) -> list[Any]:
        pipeline: Any = redis.asyncio.Redis(connection_pool=self._pool(node.removeprefix(ASKED))).pipeline(transaction=False)
        pipeline.command_stack = batch.commands(node, places)
        try:
            answers: list[Any] = await pipeline.execute(raise_on_error=False)
            return answers
        except LOST as error:
            return [_lost(error)] * len(places)

    async def execute_command(self, *args: Any, **options: Any) -> Any:
        (reply,) = await self.run([(args, options)])
        if isinstance(reply, Exception):
            raise reply
        return reply

    def pipeline(self, transaction: bool = False, shard_hint: Any = None) -> _AsyncPipeline:
        if transaction:
            raise NotImplementedError("no transaction spans the nodes of a cluster")
        return _AsyncPipeline(self)

    async def aclose(self, close_connection_pool: bool | None = None) -> None:
        await self._lane.close()
        for pool in self._pools.values():
            await pool.aclose()


class _AsyncPipeline(redis.asyncio.client.Pipeline):
    def __init__(self, client: AsyncClusterRedis) -> None:
        self._client = client
        super().__init__(client.connection_pool, client.response_callbacks, False, None)

    async def execute(self, raise_on_error: bool = True) -> list[Any]:
        stack: Any = self.command_stack
        self.command_stack = []
        replies = await self._client.run(stack) if stack else []
        if raise_on_error:
            _first_error(replies)
        return replies


def _lost(error: BaseException) -> Exception:
    """As an error that callers of redis-py expect."""
    return error if isinstance(error, RedisError) else Unreachable(f"{type(error).__name__}: the node does not answer")
