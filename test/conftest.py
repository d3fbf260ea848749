"""Fixtures of all tests: contracts, small checkpoints, isolated ROS domains."""

import os
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ["ROS_AUTOMATIC_DISCOVERY_RANGE"] = "LOCALHOST"

import pytest

from rewact_ros.contract import Contract, load_contract

ROOT = Path(__file__).parents[1]
VX300S = ROOT / "config" / "robots" / "vx300s.yaml"
G1 = ROOT / "config" / "robots" / "g1.yaml"
SHARED_DATA = ROOT.parent / "shared" / "data"


@pytest.fixture(scope="session")
def vx300s() -> Contract:
    """Contract of the simulated arm."""
    return load_contract(VX300S)


@pytest.fixture(scope="session")
def g1() -> Contract:
    """Contract of the real humanoid data set."""
    return load_contract(G1)
