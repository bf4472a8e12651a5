"""Batches of commands to a Redis Cluster: one round trip a node, all nodes at once."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any, Final

import hiredis
import structlog

from cluster.connections.redis_topology import ClusterAddress, Topology, read_topology
from configs.contracts.errors import DependencyUnavailable
from configs.contracts.slots import split

log = structlog.get_logger(__name__)

ROUNDS: Final = 4
"""Times that a command is sent on where its slot has moved; more moves in one batch are an error of the cluster."""
RENEW_EVERY_S: Final = 0.2
REST_S: Final = 0.5
"""A node that did not answer in time is not asked again for so long, so that one does not slow what the others serve."""


class Unanswered(hiredis.ReplyError):
    """Stands for the reply of a command whose node does not answer; it may have been carried out."""


class ClusterLane:
    """As ``RedisLane``, for a cluster: a connection a node, which carries one batch at a time.

    What the nodes that answer say is told also when others do not: those commands' replies are ``Unanswered``.
    """

    def __init__(self, address: ClusterAddress, *, timeout_s: float) -> None:
        from cluster.connections.reading import RedisLane

        self._address = address
        self._timeout_s = timeout_s
        self._lane = RedisLane
        self._lanes: dict[str, RedisLane] = {}
        self._topology: Topology | None = None
        self._stale = True
        self._renewed_s = float("-inf")
        self._resting: dict[str, float] = {}

    async def ask(self, commands: Sequence[Sequence[Any]]) -> list[Any]:
        """The replies in order; an error reply is a ``hiredis.ReplyError`` among them.

        A command may be carried out twice. Raises DependencyUnavailable: no node answers.
        """
        return (await self._ask(commands, marked=False))[0]

    async def ask_marked(self, commands: Sequence[Sequence[Any]]) -> tuple[list[Any], list[bool]]:
        """``ask``, and of each command whether the nodes that answered it hold their part of the read model completely."""
        return await self._ask(commands, marked=True)

    async def _ask(self, commands: Sequence[Sequence[Any]], *, marked: bool) -> tuple[list[Any], list[bool]]:
        parts = split(commands)
        replies: list[Any] = [Unanswered("no node owns the slot")] * len(parts.sent)
        complete = [False] * len(parts.sent)
        topology = await self._renewed()
        groups: dict[str, list[int]] = {}
        for index, slot in enumerate(parts.slots):
            groups.setdefault(topology.owner(slot), []).append(index)
        moved: dict[str, list[int]] = {}
        asking = False
        for _ in range(ROUNDS):
            work = [
                self._ask_node(node, [parts.sent[index] for index in mine], marked=marked, asking=asking, topology=topology)
                for node, mine in groups.items() if node
            ]
            answers = [await work[0]] if len(work) == 1 else await asyncio.gather(*work)
            moved, asking_next = {}, False
            for (answer, whole), mine in zip(answers, (mine for node, mine in groups.items() if node), strict=True):
                for index, reply in zip(mine, answer, strict=True):
                    replies[index], complete[index] = reply, whole
                    if isinstance(reply, hiredis.ReplyError) and (target := self._redirected(str(reply))):
                        moved.setdefault(target, []).append(index)
                        asking_next = asking_next or str(reply).startswith("ASK ")
            if not moved:
                break
            groups, asking = moved, asking_next
        whole_of = [all(complete[start:start + number]) for start, number, _ in parts.spans]
        return parts.together(replies), whole_of

    def _redirected(self, error: str) -> str:
        """The node to which an error reply sends; empty: it is another error. Notes what says that slots have moved."""
        words = error.split(" ")
        if words[0] in ("MOVED", "CLUSTERDOWN", "READONLY"):
            self._stale = True
        if words[0] not in ("MOVED", "ASK") or len(words) < 3:
            return ""
        host, _, port = words[2].rpartition(":")
        return f"{host or self._address.seeds[0].rpartition(':')[0]}:{port}"

    async def _ask_node(
        self, node: str, commands: Sequence[Sequence[Any]], *, marked: bool, asking: bool, topology: Topology
    ) -> tuple[list[Any], bool]:
        loop = asyncio.get_running_loop()
        if self._resting.get(node, 0.0) > loop.time():
            return [Unanswered("the node does not answer")] * len(commands), False
        lane = self._lanes.get(node)
        if lane is None:
            lane = self._lanes[node] = self._lane(self._address.url(node), timeout_s=self._timeout_s, learns_run=True)
        marker = topology.markers.get(node) if marked else None
        sent: list[Any] = [("GET", marker)] if marker is not None else []
        for command in commands:
            if asking:
                sent.append(("ASKING",))
            sent.append(command)
        try:
            answers = await lane.ask(sent)
        except DependencyUnavailable:
            self._resting[node] = loop.time() + REST_S
            self._stale = True
            return [Unanswered("the node does not answer")] * len(commands), False
        # A promoted replica has its predecessor's marker, and perhaps not its last writes.
        whole = marker is not None and bool(lane.run) and answers[0] == lane.run
        answers = answers[1:] if marker is not None else answers
        return answers[1::2] if asking else answers, whole

    async def topology(self) -> Topology:
        """Who owns which slot, asked anew where something said that it changed. Raises DependencyUnavailable."""
        return await self._renewed()

    def stale(self) -> None:
        """Says that somebody saw slots move, or a node go."""
        self._stale = True

    async def _renewed(self) -> Topology:
        loop = asyncio.get_running_loop()
        if self._topology is not None and (not self._stale or loop.time() - self._renewed_s < RENEW_EVERY_S):
            return self._topology
        self._renewed_s = loop.time()
        known = self._topology.primaries if self._topology is not None else []
        for node in dict.fromkeys([*known, *self._address.seeds]):
            if self._resting.get(node, 0.0) > loop.time():
                continue
            lane = self._lane(self._address.url(node), timeout_s=self._timeout_s / 2)
            try:
                (reply,) = await lane.ask([("CLUSTER", "SLOTS")])
            except DependencyUnavailable:
                self._resting[node] = loop.time() + REST_S
                continue
            finally:
                await lane.close()
            if isinstance(reply, list) and reply:
                self._adopt(read_topology(reply, node))
                break
        if self._topology is None:
            raise DependencyUnavailable("Redis does not answer", kind="no node of the cluster")
        return self._topology

    def _adopt(self, found: Topology) -> None:
        if self._topology is not None and found.owners != self._topology.owners:
            log.warning("redis_cluster_changed", primaries=found.primaries)
        self._topology = found
        # A node that does not answer is looked for again until another one owns its slots.
        self._stale = any(node in self._resting and self._resting[node] > self._renewed_s for node in found.primaries)

    async def close(self) -> None:
        lanes, self._lanes = self._lanes, {}
        for lane in lanes.values():
            await lane.close()
