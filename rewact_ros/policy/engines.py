"""Which engine runs a policy: chosen by name, or the fastest that is there."""

import logging
from collections.abc import Callable

from .checked_engine import CheckedEngine
from .checkpoint import LoadedPolicy
from .cuda_graph import CudaGraphEngine
from .engine import Engine, TorchEngine
from .export import discard, exported
from .modeling_rewact import RewACTPolicy
from .runtimes import (
    DTYPES,
    EngineError,
    OnnxRuntimeEngine,
    OpenVinoEngine,
    ServedTorchEngine,
    ServingEngine,
    brief,
    is_installed,
    openvino_computes,
)
from .weights import slow_in

ENGINES = ("auto", "torch", "torch_cuda_graph", "onnxruntime", "openvino")
PRECISIONS = tuple(DTYPES)
_log = logging.getLogger(__name__)


def load_engine(
    loaded: LoadedPolicy,
    engine: str = "auto",
    precision: str = "fp32",
    threads: int | None = 1,
    rate_hz: float | None = None,
    report: Callable[[str], object] = _log.warning,
) -> Engine:
    """Make the engine that serves a policy; call its ``warm_up`` before the robot waits for it.

    Args:
        loaded: the policy, on the device where it shall run.
        engine: one of ``ENGINES``. ``auto``: on a GPU the CUDA graph, on a CPU OpenVINO, ONNX
            Runtime or torch, the first that is installed and has the precision.
        precision: one of ``PRECISIONS``; the tolerances are ``checked_engine.TOLERANCES``.
        threads: of the CPU (None: the runtime's own choice).
        rate_hz: rate of the data the policy was trained on; needed by one with a history.
        report: told when torch serves in place of an engine that failed or disagreed, and why.

    Raises:
        EngineError: unknown names, or the engine cannot run on this machine at all.
        ValueError: a history without a rate.
    """
    for what, value, known in (("engine", engine, ENGINES), ("precision", precision, PRECISIONS)):
        if value not in known:
            raise EngineError(f"{what}: expected one of {', '.join(known)}, got {value!r}")
    if engine == "auto":
        engine = _choose(loaded, precision)
    reference = TorchEngine(loaded, threads, rate_hz)
    if engine == "torch" and precision == "fp32":
        return reference
    try:
        fast = _build(engine, loaded, precision, threads, rate_hz, report)
    except EngineError:
        raise
    except Exception as error:  # each runtime has its own families
        discard(loaded)
        report(f"{reference.description} (instead of {engine} {precision}: {brief(error)})")
        return reference
    return CheckedEngine(loaded, fast, precision, reference, rate_hz, report)


def _choose(loaded: LoadedPolicy, precision: str) -> str:
    if not isinstance(loaded.policy, RewACTPolicy):
        return "torch"  # no other engine has networks of other types
    if loaded.config.device.startswith("cuda"):
        return "torch_cuda_graph"
    if is_installed("openvino") and openvino_computes(precision):
        return "openvino"
    if is_installed("onnxruntime") and precision == "fp32":
        return "onnxruntime"
    return "torch"


def _build(
    engine: str,
    loaded: LoadedPolicy,
    precision: str,
    threads: int | None,
    rate_hz: float | None,
    report: Callable[[str], object],
) -> ServingEngine:
    if engine == "torch":
        reason = slow_in(precision, loaded.config.device or "cpu")
        if reason is not None:
            report(f"engine torch, precision {reason}; set precision to fp32")
        return ServedTorchEngine(loaded, precision, threads, rate_hz)
    if engine == "torch_cuda_graph":
        return CudaGraphEngine(loaded, precision, rate_hz)
    if not is_installed(engine):
        raise EngineError(
            f"engine {engine}: not installed; pip install 'rewact_ros[engines]', or use torch"
        )
    if loaded.config.device != "cpu":
        raise EngineError(
            f"engine {engine}: runs on the CPU, got device {loaded.config.device}; "
            "set device to cpu, or engine to torch_cuda_graph"
        )
    if engine == "openvino":
        if not openvino_computes(precision):
            raise EngineError(
                f"precision {precision}: openvino has no fast {precision} on this CPU; use fp32"
            )
        return OpenVinoEngine(loaded, exported(loaded), precision, threads, rate_hz)
    if precision != "fp32":
        raise EngineError(
            f"precision {precision}: onnxruntime computes in fp32 here; use openvino or torch"
        )
    return OnnxRuntimeEngine(loaded, exported(loaded), threads, rate_hz)
