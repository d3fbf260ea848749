"""One-time tokens: whether two messages come from the same sender, on a graph that anybody joins."""

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


def digest(secret: str) -> str:
    """What a sender promises: the SHA-256 of its next secret, in hex."""
    return hashlib.sha256(secret.encode(errors="replace")).hexdigest()
