"""What video encoders print by themselves, beside everything that we say."""

import os

import av


def quiet_encoders() -> None:
    """Let encoders print errors only; call it before the first one is made in a process.

    x264 and x265 speak through libav, SVT-AV1 does not: it reads its level from the environment.
    """
    av.logging.set_libav_level(av.logging.ERROR)
    os.environ.setdefault("SVT_LOG", "1")
