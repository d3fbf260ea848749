"""Serve a Gymnasium environment to another Python environment, over a local socket.

Run by its path, with the Python of the environment that holds the suite. That one needs NumPy,
gymnasium and safetensors (Python 3.10 or newer), and nothing of this package:

    /opt/suite/bin/python env_server.py my_suite:make?width=96 --socket /run/user/1000/suite.sock

A frame is its length (8 bytes, little-endian) and a safetensors file. The tensor `__message__` is
JSON as bytes, the others are arrays by name: nothing that comes over the socket can run as a
program. A request says `do`: hello, reset (with a seed), step (with `action`) or render. The answer
holds what the environment gave, or `error`. One client is served at a time.
"""

from __future__ import annotations

import os
import sys

if __name__ == "__main__" and sys.path[0] == os.path.dirname(os.path.abspath(__file__)):
    sys.path[0] = os.getcwd()  # as `python -m` has it: the files beside this one are not asked for

import argparse
import contextlib
import importlib
import json
import random
import signal
import socket
import stat
import struct
import time
from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qsl

import gymnasium
import numpy as np
from safetensors.numpy import load, save

PROTOCOL = 1
LOOPBACK = "127.0.0.1"
LONGEST = 1 << 28  # bytes of a frame
_REQUEST = 1 << 24  # of one to the server
_PATIENCE_S = 30.0  # from a request's first byte to its last
_LENGTH = struct.Struct("<Q")
_MESSAGE = "__message__"
_FAULTS = (OSError, ValueError, TypeError, KeyError)


class EnvError(ValueError):
    """An environment that cannot be made or reached, or that does not fit the policy."""


class FrameError(ValueError):
    """What came over the socket is no frame."""


# frames -------------------------------------------------------------------------------------


def send(peer: socket.socket, message: dict[str, Any], arrays: Mapping[str, Any]) -> None:
    """Send a frame."""
    text = np.frombuffer(json.dumps(message).encode(), np.uint8)
    # C order, and 0-d arrays stay so.
    tensors = {key: np.array(value, order="C") for key, value in arrays.items()}
    data = save({**tensors, _MESSAGE: text})
    peer.sendall(_LENGTH.pack(len(data)) + data)


def receive(
    peer: socket.socket, longest: int, patience_s: float, waits: bool = False
) -> tuple[dict[str, Any], dict[str, Any]]:
    """The next frame: its message, and its arrays by name.

    Args:
        peer: the other side.
        longest: bytes that are accepted.
        patience_s: for all of the frame.
        waits: for the first byte as long as it takes.

    Raises:
        EOFError: the other side has closed the connection.
        TimeoutError: it did not come in time.
        FrameError: too long, or not what a frame holds.
    """
    peer.settimeout(None if waits else patience_s)
    first = _first(peer)
    end_s = time.monotonic() + patience_s
    (length,) = _LENGTH.unpack(first + _exactly(peer, _LENGTH.size - len(first), end_s))
    if length > longest:
        raise FrameError(f"a frame of {length} bytes, expected at most {longest}")
    data = _exactly(peer, length, end_s)
    try:
        tensors = load(data)
        message = json.loads(tensors.pop(_MESSAGE).tobytes())
    except Exception as error:  # safetensors has an exception of its own, which is none of these
        raise FrameError(f"a frame that is none: {_words(error)}") from None
    if not isinstance(message, dict):
        raise FrameError(f"a message that is no object: {str(message)[:80]}")
    return message, tensors


def _first(peer: socket.socket) -> bytes:
    data = peer.recv(_LENGTH.size)
    if not data:
        raise EOFError
    return data


def _exactly(peer: socket.socket, count: int, end_s: float) -> bytes:
    parts = bytearray()
    while len(parts) < count:
        left_s = end_s - time.monotonic()
        if left_s <= 0:
            raise TimeoutError
        peer.settimeout(left_s)
        data = peer.recv(min(count - len(parts), 1 << 20))
        if not data:
            raise EOFError
        parts += data
    return bytes(parts)


# environments -------------------------------------------------------------------------------


def arguments(spec: str) -> tuple[str, dict[str, Any]]:
    """Name and arguments of `NAME?key=value&…`, the values as JSON or plain text."""
    name, _, query = spec.partition("?")
    return name, {key: _value(text) for key, text in parse_qsl(query, keep_blank_values=True)}


def open_env(name: str, given: dict[str, Any]) -> gymnasium.Env:
    """Make an environment: `module:factory`, a registered id, or `package:ID`.

    Raises:
        EnvError: what the factory makes is none.
    """
    module, _, factory = name.rpartition(":")
    if module and factory.isidentifier():
        env = getattr(importlib.import_module(module), factory)(**given)
        if not isinstance(env, gymnasium.Env):
            raise EnvError(
                f"environment {name}: expected a gymnasium.Env from it, got {type(env).__name__}"
            )
        return env
    package = name.partition("/")[0] if "/" in name else ""
    if name not in gymnasium.registry and package.isidentifier():
        importlib.import_module(package)  # packages register their environments on import
    return gymnasium.make(name, **given)


def flatten(observation: Any, prefix: str = "") -> dict[str, Any]:
    """Nested dicts as one, keys joined by `/`: `pixels/top`; a bare array is `observation`.

    Pictures of bytes (3, H, W) become (H, W, 3).
    """
    if isinstance(observation, Mapping):
        flat: dict[str, Any] = {}
        for key, value in observation.items():
            flat.update(flatten(value, f"{prefix}/{key}" if prefix else str(key)))
        return flat
    array = np.asarray(observation)
    if array.ndim == 3 and array.dtype == np.uint8 and array.shape[0] == 3 != array.shape[2]:
        array = np.moveaxis(array, 0, -1)
    return {prefix or "observation": array}


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        return text


# the server ---------------------------------------------------------------------------------


class Served:
    """Answers requests about one environment.

    Args:
        name: of the environment, for people.
        env: it.
        rate_hz: of its steps; 0: what its `render_fps` says.
    """

    def __init__(self, name: str, env: gymnasium.Env, rate_hz: float = 0.0) -> None:
        self._name, self._env = name, env
        self._rate_hz = rate_hz or float(env.metadata.get("render_fps") or 0.0)

    def answer(
        self, message: dict[str, Any], arrays: dict[str, Any]
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """Message and arrays that answer a request; an environment's own fault is an `error`."""
        asked = {
            "hello": self._hello,
            "reset": self._reset,
            "step": self._step,
            "render": self._render,
        }.get(str(message.get("do")))
        if asked is None:
            return {"error": f"unknown request {str(message.get('do'))[:80]!r}"}, {}
        try:
            return asked(message, arrays)
        except Exception as error:  # an environment may raise anything; the client is told
            return {"error": _words(error)}, {}

    def _hello(self, message: dict[str, Any], arrays: dict[str, Any]) -> Any:
        space, spec = self._env.action_space, self._env.spec
        if not isinstance(space, gymnasium.spaces.Box):
            return {"error": f"action space: expected a Box, got {space}"}, {}
        limits = {"low": space.low, "high": space.high}
        return {
            "protocol": PROTOCOL,
            "name": self._name,
            "rate_hz": self._rate_hz,
            "max_steps": spec.max_episode_steps if spec else None,
            "render_mode": self._env.render_mode,
        }, limits

    def _reset(self, message: dict[str, Any], arrays: dict[str, Any]) -> Any:
        seed = int(message["seed"])
        # Some environments draw from these, whatever seed they are given.
        np.random.seed(seed % 2**32)
        random.seed(seed)
        given = self._env.reset(seed=seed)
        if not (isinstance(given, tuple) and len(given) == 2):
            raise TypeError(f"reset: expected observation and info, got {type(given).__name__}")
        return {"info": _plain(given[1])}, _numbers(given[0])

    def _step(self, message: dict[str, Any], arrays: dict[str, Any]) -> Any:
        given = self._env.step(arrays["action"])
        if not (isinstance(given, tuple) and len(given) == 5):
            raise TypeError(
                "step: expected observation, reward, terminated, truncated and info, got "
                f"{len(given)} values"
            )
        observation, reward, terminated, truncated, info = given
        return {
            "reward": float(reward),
            "terminated": bool(terminated),
            "truncated": bool(truncated),
            "info": _plain(info),
        }, _numbers(observation)

    def _render(self, message: dict[str, Any], arrays: dict[str, Any]) -> Any:
        picture = self._env.render() if self._env.render_mode == "rgb_array" else None
        if not isinstance(picture, np.ndarray):
            return {"error": f"it renders no picture (render_mode {self._env.render_mode})"}, {}
        return {}, {"picture": picture}


def serve(served: Served, listener: socket.socket, once: bool = False) -> None:
    """Serve one client after the other; `once`: only the first."""
    while True:
        peer, _ = listener.accept()
        with peer:
            try:
                while True:
                    request = receive(peer, _REQUEST, _PATIENCE_S, waits=True)
                    answer = served.answer(*request)
                    peer.settimeout(_PATIENCE_S)
                    send(peer, *answer)
            except EOFError:
                pass
            except (FrameError, OSError) as error:
                print(f"env_server: client dropped: {_words(error)}", file=sys.stderr, flush=True)
        if once:
            return


def _numbers(observation: Any) -> dict[str, Any]:
    """What is numbers that a frame holds in an observation; texts stay at home."""
    flat = flatten(observation).items()
    return {k: v for k, v in flat if v.dtype.kind in "biuf" and v.dtype.itemsize <= 8}


def _plain(info: Any) -> dict[str, Any]:
    """What JSON holds of an info: single values; of others the name alone."""
    plain: dict[str, Any] = {}
    for key, value in (info or {}).items():
        if isinstance(value, Mapping):
            plain[str(key)] = _plain(value)
            continue
        if isinstance(value, (np.ndarray, np.generic)):
            value = value.item() if value.size == 1 else None
        plain[str(key)] = value if isinstance(value, (bool, int, float, str)) else None
    return plain


def _words(error: BaseException) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())[:500]


def _listen(path: str, port: int | None) -> tuple[socket.socket, str]:
    """A listening socket that only this machine (a path: only this user) reaches, and its name."""
    if not path:
        listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((LOOPBACK, port or 0))
        name = f"{LOOPBACK}:{listener.getsockname()[1]}"
    else:
        _remove_stale(path)
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        mask = os.umask(0o177)
        try:
            listener.bind(path)
        finally:
            os.umask(mask)
        name = path
    listener.listen(1)
    return listener, name


def _remove_stale(path: str) -> None:
    """A socket that nobody listens to is left over from a server that was killed."""
    if not os.path.exists(path):
        return
    if not stat.S_ISSOCK(os.stat(path).st_mode):
        raise OSError(f"{path}: expected no file or a socket there")
    with contextlib.closing(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)) as other:
        try:
            other.connect(path)
        except ConnectionRefusedError:
            os.unlink(path)
            return
    raise OSError(f"{path}: another server listens there")


def main() -> int:
    """Serve what the command line names, until a signal."""
    parser = argparse.ArgumentParser(description="Serve a Gymnasium environment on this machine.")
    parser.add_argument("env", help="module:factory, a registered id or package:ID; ?key=value&…")
    place = parser.add_mutually_exclusive_group(required=True)
    place.add_argument("--socket", default="", help="path of a Unix socket")
    place.add_argument("--port", type=int, help="of the loopback interface; 0: any free")
    parser.add_argument("--rate-hz", type=float, default=0.0, help="of steps; 0: its render_fps")
    parser.add_argument("--once", action="store_true", help="end when the first client has left")
    chosen = parser.parse_args()
    for name in ("SIGINT", "SIGTERM"):
        signal.signal(getattr(signal, name), lambda *_: sys.exit(0))
    try:
        env = open_env(*arguments(chosen.env))
        listener, where = _listen(chosen.socket, chosen.port)
    except (ImportError, AttributeError, gymnasium.error.Error, *_FAULTS) as error:
        print(f"env_server: {chosen.env}: {_words(error)}", file=sys.stderr)
        return 2
    try:
        print(f"env_server: {chosen.env} at {where}", flush=True)
        serve(Served(chosen.env, env, chosen.rate_hz), listener, chosen.once)
    finally:
        listener.close()
        if chosen.socket:
            os.unlink(chosen.socket)
        env.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
