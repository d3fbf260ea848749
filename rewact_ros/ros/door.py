"""The door through which everything comes into a node: bounded, checked, and guarded.

One message must not end a process. A node that is `Guarded` refuses what is too large, does not
decode or makes its callback raise: that message is counted, named and dropped, and the next one is
taken. docs/command-path.md says what becomes of an error that no message explains.
"""

import importlib
import math
import re
import time
import traceback
from collections import Counter
from collections.abc import Callable
from functools import cache
from inspect import signature
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rclpy.exceptions import InvalidHandle
from rclpy.qos import QoSProfile
from rclpy.serialization import deserialize_message
from rclpy.service import Service
from rclpy.subscription import Subscription
from rclpy.timer import Timer
from rosidl_parser.definition import (
    AbstractNestedType,
    AbstractString,
    AbstractWString,
    BasicType,
    NamespacedType,
)

from rewact_ros.stamps import NANO
from rewact_ros.text import TEXT_LIMIT, printable

# What the mixin below uses is the node's; at run time the node stands behind it.
if TYPE_CHECKING:
    from rclpy.node import Node as _Node
else:
    _Node = object

# Of one message, without a payload and with one (`uint8[]`: a picture, a document). The former is
# known before anything of the message is decoded, and decoding is what costs.
MESSAGE_BYTES, PAYLOAD_BYTES = 128 << 10, 64 << 20
# A topic that goes on sending what is refused is named again so often, for each of so many reasons.
NAME_AGAIN_S, MOST_REASONS = 10.0, 100
# So long after it, a refusal or an error of our own is shown in /diagnostics.
SHOWN_S = 10.0


class MalformedError(ValueError):
    """A message is too large, does not decode or holds what its type forbids."""


def read_message(data: bytes, kind: type) -> Any:
    """Decode a serialized message and check it as `check_message` does.

    Raises:
        MalformedError: it is too large, does not decode, or is refused by `check_message`.
    """
    limit = PAYLOAD_BYTES if has_payload(kind) else MESSAGE_BYTES
    if len(data) > limit:
        raise MalformedError(f"expected at most {limit} bytes, got {len(data)}")
    try:
        message = deserialize_message(data, kind)
    except Exception as error:
        raise MalformedError(f"does not decode as {kind.__name__}: is it of that type?") from error
    check_message(message)
    return message


def check_message(message: Any) -> None:
    """Bound a message in place: its texts become printable and short.

    Raises:
        MalformedError: a payload is too large, or a stamp's nanoseconds are a second or more.
    """
    kind: type = type(message)
    for name, check in _checks(kind):
        check(message, name)


def _check_text(message: Any, name: str) -> None:
    text = getattr(message, name)
    if len(text) > TEXT_LIMIT or not text.isprintable():
        setattr(message, name, printable(text))


def _check_texts(message: Any, name: str) -> None:
    texts = getattr(message, name)
    if not "".join(texts).isprintable() or any(len(text) > TEXT_LIMIT for text in texts):
        setattr(message, name, [printable(text) for text in texts])


def _check_payload(message: Any, name: str) -> None:
    size = len(getattr(message, name))
    if size > PAYLOAD_BYTES:
        raise MalformedError(f"{name}: expected at most {PAYLOAD_BYTES} bytes, got {size}")


def _check_stamp(message: Any, name: str) -> None:
    nanosec = getattr(message, name).nanosec
    if nanosec >= NANO:
        raise MalformedError(f"{name}.nanosec: expected less than {NANO}, got {nanosec}")


def _check_inside(message: Any, name: str) -> None:
    check_message(getattr(message, name))


def _check_each(message: Any, name: str) -> None:
    for inside in getattr(message, name):
        check_message(inside)


@cache
def _checks(kind: Any) -> tuple[tuple[str, Callable[[Any, str], None]], ...]:
    """The fields of a message type that need a look, and which."""
    found: list[tuple[str, Callable[[Any, str], None]]] = []
    for name, slot in zip(kind.get_fields_and_field_types(), kind.SLOT_TYPES, strict=True):
        many = isinstance(slot, AbstractNestedType)
        inner = slot.value_type if many else slot
        if isinstance(inner, AbstractString | AbstractWString):
            found.append((name, _check_texts if many else _check_text))
        elif isinstance(inner, NamespacedType):
            if inner.name == "Time" and not many:
                found.append((name, _check_stamp))
            elif _checks(_class(inner)):
                found.append((name, _check_each if many else _check_inside))
        elif _is_payload(slot):
            found.append((name, _check_payload))
    return tuple(found)


@cache
def has_payload(kind: Any) -> bool:
    """Whether messages of a type are rightly large: they hold bytes of another format."""
    return any(_is_payload(slot) for slot in kind.SLOT_TYPES)


def _is_payload(slot: Any) -> bool:
    many = isinstance(slot, AbstractNestedType) and not hasattr(slot, "size")
    inner = slot.value_type if many else None
    return isinstance(inner, BasicType) and inner.typename in ("uint8", "octet", "char")


def _class(slot: NamespacedType) -> type:
    """Class of a part of a message; the types are those of an installed package."""
    return getattr(importlib.import_module(".".join(slot.namespaces)), slot.name)


class Refusals:
    """What did not get in, or went wrong inside, by topic or part.

    Attributes:
        counts: how often.
        reasons: the last of each, one line.
        faults: errors of our own, which no message explains.
        is_fault: the last one was such an error.
    """

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.reasons: dict[str, str] = {}
        self.faults = 0
        self.is_fault = False
        self._last, self._last_s = "", -math.inf
        self._named_s: dict[tuple[str, str], float] = {}

    def add(self, what: str, reason: str, fault: bool = False) -> bool:
        """Count one; whether it is to be named now."""
        now_s = time.monotonic()
        self.counts[what] += 1
        self.reasons[what] = reason
        self.faults += fault
        self._last, self._last_s, self.is_fault = what, now_s, fault
        # The same words with other numbers are the same reason; who varies words is named less.
        key = (what, re.sub(r"[\d.]+", "", reason)[:60])
        if key not in self._named_s and len(self._named_s) >= MOST_REASONS:
            key = (what, "")
        if now_s - self._named_s.get(key, -math.inf) < NAME_AGAIN_S:
            return False
        self._named_s[key] = now_s
        return True

    def newest(self) -> str:
        """The last one in one line while it is news, or an empty string."""
        what = self._last
        if time.monotonic() - self._last_s > SHOWN_S:
            return ""
        did = "failed" if self.is_fault else "refused"
        return f"{what}: {did} {self.counts[what]} times, last: {self.reasons[what]}"


class Guarded(_Node):
    """Mixin of a node, before `Node` or `LifecycleNode`: all that it subscribes to has a door.

    Subscriptions whose callback raises drop the message. A service answers with the error. A timer
    or service that raises is an error of our own: `internal_fault` decides what becomes of it.

    Attributes:
        refusals: shown in `/diagnostics`.
    """

    refusals: Refusals

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self.refusals = Refusals()  # first: with sim time, Node itself subscribes to /clock
        super().__init__(*args, **kwargs)

    def refuse(self, topic: str, error: Exception) -> None:
        """Drop a message: count it, and name the reason now and then."""
        reason = _reason(error)
        if self.refusals.add(topic, reason):
            count = self.refusals.counts[topic]
            so_far = f" ({count} so far)" if count > 1 else ""
            self.get_logger().warning(f"{topic}: message refused{so_far}: {reason}")

    def internal_fault(self, what: str, error: Exception) -> None:
        """An error of our own: it is logged with its traceback, and the node goes on."""
        if self.refusals.add(what, _reason(error), fault=True):
            trace = "".join(traceback.format_exception(error))
            self.get_logger().error(f"{what}: internal error, please report it: {trace}")

    def create_subscription(
        self,
        msg_type: type,
        topic: str,
        callback: Callable[..., object],
        qos_profile: QoSProfile | int,
        *,
        raw: bool = False,
        **arguments: Any,
    ) -> Subscription:
        """As `Node.create_subscription`; what raw ones hold is their reader's to check."""
        make = _InformedDoor if takes_info(callback) else _Door
        door = make(self, msg_type, topic, callback, raw)
        return super().create_subscription(
            msg_type, topic, door, qos_profile, raw=door.takes_bytes, **arguments
        )

    def create_service(
        self,
        srv_type: type,
        srv_name: str,
        callback: Callable[[Any, Any], Any],
        **arguments: Any,
    ) -> Service:
        """As `Node.create_service`."""

        def answer(request: Any, response: Any) -> Any:
            try:
                if not srv_name.startswith(self.get_fully_qualified_name()):  # its parameters
                    check_message(request)
                return callback(request, response)
            except Exception as error:
                _let_shutdown_pass(self, error)
                self.internal_fault(f"service {srv_name}", error)
                if hasattr(response, "success") and hasattr(response, "message"):
                    response.success, response.message = False, f"failed: {_reason(error)}"
                return response

        return super().create_service(srv_type, srv_name, answer, **arguments)

    def create_timer(
        self,
        timer_period_sec: float,
        callback: Callable[[], object],
        *args: Any,
        **arguments: Any,
    ) -> Timer:
        """As `Node.create_timer`."""

        def act() -> None:
            try:
                callback()
            except Exception as error:
                _let_shutdown_pass(self, error)
                self.internal_fault(f"timer {getattr(callback, '__name__', '')}", error)

        return super().create_timer(timer_period_sec, act, *args, **arguments)


class _Door:
    """A callback that never raises because of what a message holds."""

    def __init__(
        self, node: Any, kind: type, topic: str, callback: Callable[..., object], raw: bool
    ) -> None:
        # Pictures are taken decoded: that copies them once less.
        self.takes_bytes = raw or not has_payload(kind)
        self._node, self._kind, self._topic, self._callback = node, kind, topic, callback
        self._raw = raw

    def __call__(self, message: Any) -> None:
        self._take(message)

    def _take(self, message: Any, *info: Any) -> None:
        try:
            if not self.takes_bytes:
                check_message(message)
            elif not self._raw:
                message = read_message(message, self._kind)
            self._callback(message, *info)
        except Exception as error:
            _let_shutdown_pass(self._node, error)
            self._node.refuse(self._topic, error)


class _InformedDoor(_Door):
    """The same for a callback that also takes what the middleware says of the message."""

    def __call__(self, message: Any, info: Any) -> None:  # type: ignore[override]
        self._take(message, info)


def takes_info(callback: Callable[..., object]) -> bool:
    """Whether a subscription's callback also wants what the middleware says of the message."""
    try:
        signature(callback).bind(None)
    except TypeError:
        return True
    return False


def _let_shutdown_pass(node: Any, error: Exception) -> None:
    """What fails because the process ends is no fault of a message."""
    if isinstance(error, InvalidHandle) or not node.context.ok():
        raise error


def _reason(error: Exception) -> str:
    """One line; where an error does not explain itself, with its kind and place."""
    if isinstance(error, ValueError) and str(error):
        return printable(error)
    place = traceback.extract_tb(error.__traceback__)[-1:]
    where = "".join(f", at {Path(frame.filename).name}:{frame.lineno}" for frame in place)
    return printable(f"{type(error).__name__}: {error}{where}")
