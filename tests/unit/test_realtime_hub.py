"""Who is told what, in order, within bounds."""

from __future__ import annotations

import pytest

from actors.realtime.hub import Hub, Socket
from actors.realtime.session import Session
from configs.contracts.access_tokens import Identity
from configs.contracts.frames import TOO_MANY_DEVICES, TRY_LATER, CloseCode
from configs.contracts.realtime import DEVICES
from configs.settings import Realtime

SETTINGS = Realtime(outbox_frames=4, outbox_bytes=65_536)


class Peer:
    """A connection that takes ``room`` more frames."""

    def __init__(self, room: int = 1_000_000) -> None:
        self.room = room
        self.got: list[bytes] = []
        self.ended: list[CloseCode] = []

    def write(self, payload: bytes) -> bool:
        if not self.room:
            return False
        self.room -= 1
        self.got.append(payload)
        return True

    def shut(self, code: CloseCode) -> None:
        self.ended.append(code)


def connected(hub: Hub, user_id: str, number: int = 0, peer: Peer | None = None) -> tuple[Socket, Peer]:
    session = Session(f"{number:012x}-{user_id}", SETTINGS, 0.0)
    session.authenticated(Identity(user_id, "family", "user", 1e12))
    peer = peer or Peer()
    socket = Socket(session, peer, SETTINGS)
    for oldest in hub.attach(socket):
        oldest.close(TOO_MANY_DEVICES)
    return socket, peer


def test_every_device_of_a_person_is_told_and_nobody_else() -> None:
    hub = Hub()
    _, phone = connected(hub, "ada", 1)
    _, laptop = connected(hub, "ada", 2)
    _, other = connected(hub, "ben", 3)
    hub.tell("ada", b"hello")
    hub.tell("nobody", b"lost")
    assert (phone.got, laptop.got, other.got) == ([b"hello"], [b"hello"], [])


def test_a_slow_device_gets_everything_in_order_once_it_takes_it() -> None:
    hub = Hub()
    socket, peer = connected(hub, "ada", peer=Peer(room=1))
    for number in range(4):
        hub.tell("ada", b"%d" % number)
    assert (peer.got, socket.waiting) == ([b"0"], 3)
    peer.room = 2
    socket.flush()
    # There is room for one, but three came before it: it must not overtake them.
    peer.room = 1
    socket.tell(b"4")
    assert peer.got == [b"0", b"1", b"2"]
    peer.room = 10
    socket.flush()
    assert peer.got == [b"0", b"1", b"2", b"3", b"4"]


@pytest.mark.parametrize("payload", [b"x", b"x" * 30_000], ids=["frames", "bytes"])
def test_a_device_that_takes_nothing_is_closed_when_its_queue_is_full_and_the_others_are_not(payload: bytes) -> None:
    hub = Hub()
    stuck, peer = connected(hub, "ada", 1, Peer(room=0))
    _, well = connected(hub, "ada", 2)
    for _ in range(5):
        hub.tell("ada", payload)
    assert peer.ended == [TRY_LATER]
    assert hub.overflowed == 1
    assert (stuck.waiting, len(well.got), well.ended) == (0, 5, [])


def test_the_newest_devices_of_a_person_stay() -> None:
    hub = Hub()
    peers = [connected(hub, "ada", number)[1] for number in range(DEVICES + 3)]
    assert [bool(peer.ended) for peer in peers] == [True] * 3 + [False] * DEVICES
    assert all(code is TOO_MANY_DEVICES for peer in peers for code in peer.ended)


def test_devices_that_are_attached_out_of_turn_stay_by_their_age() -> None:
    hub = Hub()
    numbers = [*range(DEVICES), DEVICES + 1, DEVICES]
    peers = {number: connected(hub, "ada", number)[1] for number in numbers}
    assert [number for number in numbers if peers[number].ended] == [0, 1]
    late = connected(hub, "ada", 1)[1]
    assert late.ended, "it is older than the ten that are there"


def test_a_person_is_forgotten_with_the_last_device_and_leaving_twice_is_harmless() -> None:
    hub = Hub()
    first, _ = connected(hub, "ada", 1)
    second, _ = connected(hub, "ada", 2)
    assert not hub.detach(first)
    assert hub.detach(second)
    assert not hub.detach(second)
    assert (len(hub), hub.people, hub.has("ada")) == (0, 0, False)


def test_a_closed_device_is_told_nothing_more() -> None:
    hub = Hub()
    socket, peer = connected(hub, "ada")
    socket.close(TRY_LATER)
    socket.close(TOO_MANY_DEVICES)
    hub.tell("ada", b"late")
    assert (peer.got, peer.ended) == ([], [TRY_LATER])
