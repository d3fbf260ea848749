"""One-time tokens: whether two messages come from one sender, on a graph that anybody joins."""

import hashlib
import secrets

# Longer texts are no tokens, and not worth hashing.
LONGEST = 128


class TokenSender:
    """Links messages: each shows the secret whose digest the one before it promised."""

    def __init__(self) -> None:
        self._secret = secrets.token_hex(32)

    def link(self) -> tuple[str, str]:
        """(`proof`, `next`) of one message, to be sent at once and in this order."""
        proof, self._secret = self._secret, secrets.token_hex(32)
        return proof, digest(self._secret)


class TokenReceiver:
    """Follows one sender from its first message on; a proof counts once.

    A sender that promised nothing (`next` empty) is not protected: anybody may go on for it.
    """

    def __init__(self, promised: str = "") -> None:
        self._promised = promised

    @property
    def protects(self) -> bool:
        """Whether only the sender itself can go on."""
        return bool(self._promised)

    def take(self, proof: str, promised: str) -> bool:
        """Whether a message comes from the same sender; if so, its `next` is what counts next."""
        if self._promised and not (
            len(proof) <= LONGEST and secrets.compare_digest(digest(proof), self._promised)
        ):
            return False
        self._promised = promised
        return True


class EpisodeOwners:
    """Who began each of the newest episodes, and alone may go on to tell of it."""

    # A verdict may be changed while the next episode already runs, and no later.
    EPISODES = 2

    def __init__(self) -> None:
        self._senders: dict[str, TokenReceiver] = {}

    def take(self, episode: str, begins: bool, proof: str, promised: str) -> bool:
        """Whether an event comes from the owner of its episode, who is the first that `begins` it.

        Args:
            proof, promised: `proof` and `next` of the event.
        """
        sender = self._senders.get(episode)
        if sender is not None:
            return sender.take(proof, promised)
        # One supervisor runs many episodes with one chain of tokens; another begins its own.
        known = (s for s in self._senders.values() if s.protects)
        sender = next((s for s in known if s.take(proof, promised)), None)
        if not begins:
            return False
        self._senders[episode] = sender or TokenReceiver(promised)
        while len(self._senders) > self.EPISODES:
            del self._senders[next(iter(self._senders))]
        return True


def digest(secret: str) -> str:
    """What a sender promises: the SHA-256 of its next secret, in hex."""
    return hashlib.sha256(secret.encode(errors="replace")).hexdigest()
