"""Who is connected here, and what each socket is told, in order; decisions only, the wire is handed in."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from typing import Protocol

from actors.realtime.session import Session
from configs.contracts.frames import TRY_LATER, CloseCode
from configs.contracts.realtime import DEVICES
from configs.settings import Realtime


class Wire(Protocol):
    """What a socket needs of its connection; ``actors.realtime.wire`` is the real one."""

    def write(self, payload: bytes) -> bool:
        """Sends one text frame now; False (nothing sent) while the peer does not take what was sent before."""
        ...

    def shut(self, code: CloseCode) -> None:
        """Sends a close frame, or only ends the connection when the peer takes nothing more. Repeating is harmless."""
        ...


class Socket:
    """One connected device: what it is told waits in a bounded queue while it is slow."""

    __slots__ = ("_bytes", "_outbox", "_settings", "_wire", "closed", "missed", "session", "watching")

    def __init__(self, session: Session, wire: Wire, settings: Realtime) -> None:
        self.session = session
        self.closed: CloseCode | None = None
        self.missed = False
        """Whether something was withheld while revocations were unknown."""
        self.watching: dict[str, tuple[str, object]] = {}
        """Conversation -> (the other member, what was last told of their presence)."""
        self._wire = wire
        self._settings = settings
        self._outbox: deque[bytes] = deque()
        self._bytes = 0

    def tell(self, payload: bytes) -> None:
        """Sends the frame after everything before it; a socket whose queue is full is closed."""
        if self.closed is not None or (not self._outbox and self._wire.write(payload)):
            return
        if len(self._outbox) >= self._settings.outbox_frames or self._bytes + len(payload) > self._settings.outbox_bytes:
            self.close(TRY_LATER)
            return
        self._outbox.append(payload)
        self._bytes += len(payload)

    def flush(self) -> None:
        """Goes on sending what waits, as far as the peer takes it."""
        outbox = self._outbox
        while outbox and self._wire.write(outbox[0]):
            self._bytes -= len(outbox.popleft())

    @property
    def waiting(self) -> int:
        return len(self._outbox)

    def close(self, code: CloseCode) -> None:
        """Ends the socket; what waits is not sent."""
        if self.closed is None:
            self.closed = code
            self._outbox.clear()
            self._bytes = 0
            self._wire.shut(code)


class Hub:
    """The open sockets of one gateway by person."""

    def __init__(self) -> None:
        self._by_user: dict[str, list[Socket]] = {}
        self._by_connection: dict[str, Socket] = {}
        self.told = self.overflowed = 0

    def __len__(self) -> int:
        return len(self._by_connection)

    def __iter__(self) -> Iterator[Socket]:
        return iter(self._by_connection.values())

    @property
    def people(self) -> int:
        return len(self._by_user)

    def attach(self, socket: Socket) -> list[Socket]:
        """Adds an open socket; answers the person's oldest here beyond the bound of devices, to be closed."""
        session = socket.session
        self._by_connection[session.connection_id] = socket
        mine = self._by_user.setdefault(session.user_id, [])
        mine.append(socket)
        if len(mine) <= DEVICES:
            return []
        # By the age that ids have, as all gateways see it: of many that connect at once some are attached out of turn.
        standing = sorted((each for each in mine if each.closed is None), key=lambda each: each.session.connection_id)
        return standing[: max(0, len(standing) - DEVICES)]

    def detach(self, socket: Socket) -> bool:
        """Takes a socket out; whether it was the person's last here. Harmless when it is not in."""
        session = socket.session
        if self._by_connection.pop(session.connection_id, None) is None:
            return False
        mine = self._by_user[session.user_id]
        mine.remove(socket)
        if mine:
            return False
        del self._by_user[session.user_id]
        return True

    def has(self, user_id: str) -> bool:
        return user_id in self._by_user

    def connection(self, connection_id: str) -> Socket | None:
        return self._by_connection.get(connection_id)

    def tell(self, user_id: str, payload: bytes) -> None:
        """Tells every device of a person that is connected here."""
        for socket in self._by_user.get(user_id, ()):
            if socket.closed is None:
                self.told += 1
                socket.tell(payload)
                self.overflowed += socket.closed is not None

    def withhold(self, user_id: str) -> None:
        """Notes that the person's devices here were not told something."""
        for socket in self._by_user.get(user_id, ()):
            socket.missed = True
