"""The computer: ROS's environment, room, limits and clocks."""

from collections.abc import Iterator
from pathlib import Path

from rewact_ros.checks.facts import Facts, Machine
from rewact_ros.checks.finding import Finding, error, warning

RANGES = ("OFF", "LOCALHOST", "SUBNET", "SYSTEM_DEFAULT")
# Above 101 a domain's ports fall into the range from which Linux hands out ephemeral ones.
LAST_DOMAIN, HIGHEST_DOMAIN = 101, 232
OPEN_FILES = 1024
SHARED_MEMORY = 64 << 20
GIGA = 1_000_000_000
MEMORY = 1 * GIGA
DISK = 2 * GIGA  # the recorder's `min_free_gb`
BUSY = 2.0
PROFILES = ("FASTRTPS_DEFAULT_PROFILES_FILE", "FASTDDS_DEFAULT_PROFILES_FILE")


def environment(facts: Facts) -> Iterator[Finding]:
    """Whether ROS and its messages are there, and its variables lead somewhere."""
    machine = _machine(facts)
    for package in machine.missing:
        yield error(
            f"package {package}", "installed", "not to be found", "source ROS, or install it"
        )
    for name in PROFILES:
        path = machine.environment.get(name, "")
        if path and not Path(path).is_file():
            yield error(name, "a file", path, "correct the path, or unset it")
    if machine.environment.get("ROS_LOCALHOST_ONLY"):
        yield warning(
            "ROS_LOCALHOST_ONLY",
            "unset",
            machine.environment["ROS_LOCALHOST_ONLY"],
            "it is deprecated: use ROS_AUTOMATIC_DISCOVERY_RANGE=LOCALHOST",
        )


def rmw(facts: Facts) -> Iterator[Finding]:
    """Whether the middleware is the one that was asked for."""
    machine = _machine(facts)
    asked = machine.environment.get("RMW_IMPLEMENTATION", "")
    if not machine.rmw or (asked and asked != machine.rmw):
        got = f"{machine.rmw} is in use" if machine.rmw else "none that loads"
        yield error(
            "RMW_IMPLEMENTATION", asked or "a middleware", got, "install it, or unset the variable"
        )
    elif "fastrtps" not in machine.rmw:
        yield warning(
            "RMW_IMPLEMENTATION",
            "rmw_fastrtps_cpp, which the package is tried with",
            machine.rmw,
            "all nodes must have the same; publishers are told apart by numbers that others lack",
        )


def domain(facts: Facts) -> Iterator[Finding]:
    """Whether domain and discovery range can be."""
    known = _machine(facts).environment
    text = known.get("ROS_DOMAIN_ID", "").strip()
    if text and not (text.isdecimal() and int(text) <= HIGHEST_DOMAIN):
        mend = "all nodes of the robot have the same number"
        yield error("ROS_DOMAIN_ID", f"a number from 0 to {LAST_DOMAIN}", text, mend)
    elif text and int(text) > LAST_DOMAIN:
        mend = "its ports may be taken by other programs"
        yield warning("ROS_DOMAIN_ID", f"a number from 0 to {LAST_DOMAIN}", text, mend)
    reach = known.get("ROS_AUTOMATIC_DISCOVERY_RANGE", "")
    if reach and reach not in RANGES:
        yield error(
            "ROS_AUTOMATIC_DISCOVERY_RANGE", f"one of {', '.join(RANGES)}", reach, "correct it"
        )
    elif reach == "OFF":
        yield error(
            "ROS_AUTOMATIC_DISCOVERY_RANGE",
            "LOCALHOST or SUBNET",
            "OFF",
            "no node finds another, not even on this machine",
        )


def disk(facts: Facts) -> Iterator[Finding]:
    """Whether recordings have room."""
    for folder, free in _machine(facts).disk_free.items():
        if free < DISK:
            yield error(
                f"disk of {folder}",
                f"{DISK / GIGA:g} GB free, the recorder's min_free_gb",
                f"{free / GIGA:.2f} GB",
                "make room, or record to another disk",
            )


def memory(facts: Facts) -> Iterator[Finding]:
    """Whether there is memory for nodes and pictures."""
    free = _machine(facts).memory_free
    if free < MEMORY:
        yield error(
            "memory", f"{MEMORY / GIGA:g} GB free", f"{free / GIGA:.2f} GB", "end other programs"
        )


def shared_memory(facts: Facts) -> Iterator[Finding]:
    """Whether pictures can go through shared memory."""
    free = _machine(facts).shared_memory_free
    if free < SHARED_MEMORY:
        yield error(
            "/dev/shm",
            f"{SHARED_MEMORY >> 20} MiB free",
            f"{free >> 20} MiB",
            "remove what dead nodes left there (fastrtps_*), or start the container with "
            "--shm-size=512m",
        )


def open_files(facts: Facts) -> Iterator[Finding]:
    """Whether a node may open enough files and sockets."""
    limit = _machine(facts).open_files
    if limit < OPEN_FILES:
        yield error(
            "open files", f"at least {OPEN_FILES}", f"{limit}", f"ulimit -n {OPEN_FILES}, or more"
        )


def realtime(facts: Facts) -> Iterator[Finding]:
    """Whether hil may have a real-time priority; without one it works, less evenly."""
    if not _machine(facts).realtime:
        yield warning(
            "real time",
            "permission for SCHED_FIFO (rtprio)",
            "none",
            "add `@realtime - rtprio 98` to /etc/security/limits.conf, or start with --cap-add "
            "SYS_NICE",
        )


def time_sync(facts: Facts) -> Iterator[Finding]:
    """Whether this machine's clock is kept in step with others."""
    machine = _machine(facts)
    alone = machine.environment.get("ROS_AUTOMATIC_DISCOVERY_RANGE") == "LOCALHOST"
    if machine.synchronised is False and not alone:
        yield warning(
            "system clock",
            "kept in step (chrony, systemd-timesyncd, PTP)",
            "not in step",
            "start one where the robot has several computers: stamps are compared",
        )


def load(facts: Facts) -> Iterator[Finding]:
    """Whether the cores have time for a robot."""
    machine = _machine(facts)
    if machine.load > BUSY * machine.cores:
        yield warning(
            "load",
            f"at most {BUSY * machine.cores:g} processes that want {machine.cores} cores",
            f"{machine.load:.1f}",
            "end other programs: what rates and gaps say here is theirs, too",
        )


def _machine(facts: Facts) -> Machine:
    assert facts.machine is not None
    return facts.machine
