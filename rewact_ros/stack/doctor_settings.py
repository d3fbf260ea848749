"""What `rewact doctor` is asked; apart, so that its options load nothing."""

from dataclasses import dataclass
from pathlib import Path

from rewact_ros.settings import check, setting

ENGINES = ("auto", "torch", "torch_cuda_graph", "onnxruntime", "openvino")


@dataclass(frozen=True)
class DoctorSettings:
    """What is examined; what is not given is not asked about."""

    contract: Path | None = setting(None, "contract of the robot; without one the machine alone")
    namespace: str = setting("/", "namespace of the robot")
    policy: Path | None = setting(None, "checkpoint that shall drive it", path=True)
    dataset: Path | None = setting(None, "training data; tells how each view looked", path=True)
    calibration: Path | None = setting(None, "the supervisor's calibration", path=True)
    engine: str = setting("auto", "that shall run the policy", choices=ENGINES)
    device: str = setting("cpu", "that it shall run on, such as cpu or cuda")
    recordings: Path = setting(Path("."), "folder that recordings shall go to", path=True)
    pictures: Path | None = setting(
        None, "write what each camera sees beside the training data; a PNG", path=True
    )
    seconds: float = setting(3.0, "to listen", "s", low=1.0, high=30.0)
    use_sim_time: bool = setting(False, "the robot follows /clock: compare stamps with it")

    def __post_init__(self) -> None:
        check(self)
        if self.pictures and not self.contract:
            raise ValueError("pictures: expected a contract that names the cameras, got none")
