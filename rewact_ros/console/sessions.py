"""Who may do what on the console: everybody looks, who has the token may lead, one at a time.

A session is a secret that the page keeps and sends by itself with each request. There is no cookie,
so a page of somebody else has nothing to ride on.
"""

import hmac
import secrets
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from rewact_ros.text import printable

NAME_LIMIT = 40
# A page left open over night is still logged in the next morning; nobody else's secret lives on.
SESSION_S = 24 * 3600.0
MOST_SESSIONS = 100
# Wrong tokens in a row after which each further try waits: guessing takes longer than the universe,
# and a person who mistyped waits a moment.
FREE_TRIES, WAIT_S = 5, 2.0


class NotAllowedError(RuntimeError):
    """The session may not do this; the message says why and what to do."""


@dataclass
class Session:
    """One page that was given the token.

    Attributes:
        secret: that it sends.
        name: of the person, for labels and for the others.
        seen_s: newest request, on the steady clock.
    """

    secret: str
    name: str
    seen_s: float


class Sessions:
    """All pages with the token, and the one of them that leads. Safe in any thread.

    Args:
        token: what control is asked for by.
        clock: s, steady.
    """

    def __init__(self, token: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._token, self._clock = token.encode(), clock
        self._lock = threading.Lock()
        self._sessions: dict[str, Session] = {}
        self._leader: Session | None = None
        self._wrong, self._blocked_until_s = 0, 0.0

    def log_in(self, token: str, name: str) -> Session:
        """A new session for who has the token.

        Raises:
            NotAllowedError: it is another token, or there were too many wrong ones.
        """
        with self._lock:
            now_s = self._clock()
            if now_s < self._blocked_until_s:
                left_s = self._blocked_until_s - now_s
                raise NotAllowedError(f"too many wrong tokens; try again in {left_s:.0f} s")
            if not hmac.compare_digest(token.encode("utf-8", "replace"), self._token):
                self._wrong += 1
                if self._wrong >= FREE_TRIES:
                    self._blocked_until_s = now_s + WAIT_S
                raise NotAllowedError(
                    "wrong token: expected the one that the console printed at its start, or that "
                    "of its token_file"
                )
            self._wrong = 0
            session = Session(secrets.token_urlsafe(24), _name(name), now_s)
            self._forget(now_s)
            self._sessions[session.secret] = session
            return session

    def find(self, secret: str) -> Session | None:
        """The session of a secret, which is seen now; None: there is none."""
        with self._lock:
            session, now_s = self._sessions.get(secret), self._clock()
            if session is None or now_s - session.seen_s > SESSION_S:
                return None
            session.seen_s = now_s
            return session

    def log_out(self, secret: str) -> None:
        """End a session, and its lead."""
        with self._lock:
            self._drop(secret)

    @property
    def leader(self) -> Session | None:
        """Who leads; None: nobody."""
        return self._leader

    def leads(self, session: Session | None) -> bool:
        """Whether it is this session that leads."""
        return session is not None and session is self._leader

    def require_lead(self, session: Session | None) -> Session:
        """The session, where it leads.

        Raises:
            NotAllowedError: it does not.
        """
        if session is None:
            raise NotAllowedError("read-only: log in with the console's token first")
        leader = self._leader
        if leader is None:
            raise NotAllowedError("nobody leads: press 'Take control' first")
        if leader is not session:
            raise NotAllowedError(f"{leader.name} has control; 'Take control' takes it from there")
        return session

    def take(self, session: Session, force: bool) -> None:
        """Let a session lead.

        Args:
            session: logged in.
            force: also where another leads, which learns it.

        Raises:
            NotAllowedError: another leads.
        """
        with self._lock:
            leader = self._leader
            if leader is not None and leader is not session and not force:
                raise NotAllowedError(f"{leader.name} has control; ask, or take it over openly")
            self._leader = session

    def leave(self, session: Session) -> None:
        """Let nobody lead, where it was this session."""
        with self._lock:
            if self._leader is session:
                self._leader = None

    def _forget(self, now_s: float) -> None:
        """Make room: what is too old goes, then what was not seen for longest; never who leads."""
        old = [s for s in self._sessions.values() if now_s - s.seen_s > SESSION_S]
        others = sorted(
            (s for s in self._sessions.values() if s is not self._leader), key=lambda s: s.seen_s
        )
        surplus = max(len(self._sessions) + 1 - MOST_SESSIONS, 0)
        for session in [*old, *others[:surplus]]:
            self._drop(session.secret)

    def _drop(self, secret: str) -> None:
        session = self._sessions.pop(secret, None)
        if session is not None and self._leader is session:
            self._leader = None


def _name(text: str) -> str:
    return printable(" ".join(text.split()), NAME_LIMIT) or "operator"
