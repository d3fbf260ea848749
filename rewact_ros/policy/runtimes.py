"""Engines that run a `ServingNetwork`: torch in half precision, ONNX Runtime, OpenVINO."""

import functools
import importlib
import importlib.util
import sys
from abc import abstractmethod
from types import ModuleType
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from .checkpoint import LoadedPolicy
from .engine import Engine, Observation
from .policy import Estimate
from .reward_head import build_reward
from .serving import ServingNetwork, rewact_of

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


class EngineError(ValueError):
    """An engine that was asked for cannot run here; the message says why and what can."""


class ServingEngine(Engine):
    """Feeds arrays to a network of `ServingNetwork`'s signature."""

    def __init__(self, loaded: LoadedPolicy, rate_hz: float | None):
        """Take the policy.

        Raises:
            ValueError: it is of another type than RewACT.
        """
        super().__init__(loaded, rate_hz)
        self._reward = build_reward(rewact_of(loaded).config)

    def _predict(self, past: list[Observation]) -> Estimate:
        if len(past) == 1:
            inputs = {key: value[None] for key, value in past[0].items()}  # a view: nothing copied
        else:
            inputs = {key: np.stack([observation[key] for observation in past]) for key in past[0]}
        actions, features, *raw = (torch.from_numpy(x) for x in self._run(inputs))
        reward = self._reward.estimate(raw[0][None]) if self._reward else None
        return Estimate(actions[None], reward, features[None])

    @abstractmethod
    def _run(self, inputs: Observation) -> list[NDArray[np.float32]]:
        """Run on inputs with their leading axis n; returns fresh arrays in ``outputs``' order."""


class ServedTorchEngine(ServingEngine):
    """torch, eagerly; for bfloat16 and, on a GPU, float16."""

    def __init__(
        self, loaded: LoadedPolicy, precision: str, threads: int | None, rate_hz: float | None
    ):
        """Build the network.

        Raises:
            EngineError: float16 on a CPU.
            ValueError: the policy cannot be served in this form.
        """
        super().__init__(loaded, rate_hz)
        self._device = torch.device(loaded.config.device)
        if precision == "fp16" and self._device.type == "cpu":
            raise EngineError(
                "precision fp16: torch has no fast float16 on a CPU; use bf16 or fp32, or a GPU"
            )
        if threads is not None:
            torch.set_num_threads(threads)
        self._precision = precision
        network = ServingNetwork(loaded)
        self._keys = [key for key, _, _ in network.inputs]
        self._network = network.set_precision(DTYPES[precision]).to(self._device)

    @property
    def description(self) -> str:
        """What runs."""
        return f"torch {self._precision} on {self._device}"

    def _run(self, inputs: Observation) -> list[NDArray[np.float32]]:
        tensors = [torch.from_numpy(inputs[key]).to(self._device) for key in self._keys]
        return [output.cpu().numpy() for output in self._network(*tensors)]


class OnnxRuntimeEngine(ServingEngine):
    """ONNX Runtime on the CPU, float32."""

    def __init__(
        self, loaded: LoadedPolicy, model: bytes, threads: int | None, rate_hz: float | None
    ):
        """Load an exported model."""
        super().__init__(loaded, rate_hz)
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads or 0
        options.inter_op_num_threads = 1
        # Threads that wait in a loop would take the core that sends commands.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        options.log_severity_level = 3
        self._session = onnxruntime.InferenceSession(
            model, options, providers=["CPUExecutionProvider"]
        )
        self._keys = [argument.name for argument in self._session.get_inputs()]
        self._version = onnxruntime.__version__

    @property
    def description(self) -> str:
        """What runs."""
        return f"onnxruntime {self._version} fp32 on cpu"

    def _run(self, inputs: Observation) -> list[NDArray[np.float32]]:
        return self._session.run(None, {key: inputs[key] for key in self._keys})


class OpenVinoEngine(ServingEngine):
    """OpenVINO on the CPU, in float32, or in less where the CPU has instructions for it."""

    def __init__(
        self,
        loaded: LoadedPolicy,
        model: bytes,
        precision: str,
        threads: int | None,
        rate_hz: float | None,
    ):
        """Compile an exported model."""
        super().__init__(loaded, rate_hz)
        core = _openvino_core()
        settings = {
            "PERFORMANCE_HINT": "LATENCY",
            "NUM_STREAMS": 1,
            "INFERENCE_PRECISION_HINT": {"fp32": "f32", "bf16": "bf16", "fp16": "f16"}[precision],
            # Pinned to a core, it would fight with whatever else is pinned there.
            "ENABLE_CPU_PINNING": False,
        }
        if threads is not None:
            settings["INFERENCE_NUM_THREADS"] = threads
        compiled = core.compile_model(core.read_model(model), "CPU", settings)
        self._request = compiled.create_infer_request()
        # A port also has the names of what it was fused with.
        known = loaded.config.input_features
        self._keys = [next(n for n in port.names if n in known) for port in compiled.inputs]
        self._precision, self._version = precision, _openvino().__version__.split("-")[0]

    @property
    def description(self) -> str:
        """What runs."""
        return f"openvino {self._version} {self._precision} on cpu"

    def _run(self, inputs: Observation) -> list[NDArray[np.float32]]:
        outputs = self._request.infer({key: inputs[key] for key in self._keys}, share_inputs=True)
        return [np.array(output) for output in outputs.values()]


def openvino_computes(precision: str) -> bool:
    """Whether OpenVINO's CPU device has instructions for a precision."""
    return precision.upper() in _openvino_core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")


@functools.cache
def _openvino_core() -> Any:
    """The one core of the process, for ever.

    A core's CPU device gives the calling thread a signal stack, and on its end gives back the one
    from before, which a core that ended meanwhile may have unmapped: the next signal then kills.
    """
    return _openvino().Core()


def _openvino() -> ModuleType:
    """Import OpenVINO without its telemetry, which would call home from a child process."""
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
    return importlib.import_module("openvino")


def is_installed(package: str) -> bool:
    """Whether a runtime can be imported."""
    return importlib.util.find_spec(package) is not None


def brief(error: Exception) -> str:
    """An error on one line; runtimes like to print whole stacks."""
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= 300 else text[:297] + "..."
