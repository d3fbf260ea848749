"""What only a GPU has: a compiled network beside the graph, and where the time of one goes."""

import time
from typing import Any

import numpy as np
import torch
import typer
from engines_cases import Call, Frame, settle

from rewact_ros.bench.figures import Bench
from rewact_ros.policy.checked_engine import CheckedEngine
from rewact_ros.policy.cuda_graph import CudaGraphEngine
from rewact_ros.policy.engine import TorchEngine
from rewact_ros.policy.runtimes import DTYPES, ServingEngine
from rewact_ros.policy.serving import ServingNetwork


class CompiledEngine(ServingEngine):
    """`torch.compile` with graphs of its own.

    No engine of ours: those graphs belong to the thread that compiled them, and a node compiles
    where it is configured but infers elsewhere.
    """

    def __init__(self, loaded: Any, precision: str):
        super().__init__(loaded, None)
        network = ServingNetwork(loaded)
        self._uploads = [
            torch.zeros(shape, dtype=dtype, pin_memory=True) for _, shape, dtype in network.inputs
        ]
        self._keys = [key for key, _, _ in network.inputs]
        network.set_precision(DTYPES[precision]).to("cuda")
        self._network = torch.compile(network, mode="max-autotune", fullgraph=True, dynamic=False)
        self._precision = precision

    @property
    def description(self) -> str:
        """What runs."""
        return f"torch.compile {self._precision} on {torch.cuda.get_device_name()}"

    def _run(self, inputs: dict[str, np.ndarray]) -> list[np.ndarray]:
        for key, pinned in zip(self._keys, self._uploads, strict=True):
            np.copyto(pinned.numpy(), inputs[key])
        tensors = [pinned.to("cuda", non_blocking=True) for pinned in self._uploads]
        torch.compiler.cudagraph_mark_step_begin()
        return [output.cpu().numpy() for output in self._network(*tensors)]


class CompiledGraphEngine(CudaGraphEngine):
    """Our graph of compiled kernels."""

    def _prepared(self, network: ServingNetwork) -> Any:
        return torch.compile(
            network, mode="max-autotune-no-cudagraphs", fullgraph=True, dynamic=False
        )


def compiled(loaded: Any, frames: list[Frame], precision: str) -> dict[str, Call]:
    """The compiled arms that work here, checked against torch as every engine is."""
    calls: dict[str, Call] = {}
    makers = {
        "torch_compile": lambda: CompiledEngine(loaded, precision),
        "torch_compile_in_graph": lambda: CompiledGraphEngine(loaded, precision, None),
    }
    for label, make in makers.items():
        try:
            fast = make()
        except Exception as error:  # a compiler has many families of them
            typer.echo(f"  {label}: {' '.join(str(error).split())[:300]}")
            continue
        reference = TorchEngine(loaded)
        served = CheckedEngine(loaded, fast, precision, reference, None, typer.echo)
        served.warm_up()
        settle(served, frames)
        if not served.fell_back:
            calls[f"{label}_{precision}"] = served.infer
    return calls


def stages(
    bench: Bench, name: str, loaded: Any, frames: list[Frame], precision: str, rounds: int
) -> None:
    """Time of each stage: the host's copy into pinned memory, then those on the device.

    The latter are each captured and replayed by themselves between two events.
    """
    serving = ServingNetwork(loaded)
    serving.set_precision(DTYPES[precision]).to("cuda")
    arrays = [frames[0][key][None] for key, _, _ in serving.inputs]
    pinned = [torch.from_numpy(array).pin_memory() for array in arrays]
    static = [tensor.to("cuda") for tensor in pinned]
    with torch.no_grad():
        outputs = serving(*static)
        results = [torch.zeros(x.shape, pin_memory=True) for x in outputs]
        megabytes = sum(array.nbytes for array in arrays) / 1e6
        bench.add(f"{name}_upload_size", megabytes, "MB")
        add(bench, f"{name}_stage_host_copy", _host_copies(pinned, arrays, rounds))
        for stage, work in {
            "upload": lambda: _copy(static, pinned),
            "pixels": lambda: serving.prepare(static),
            "all_but_copies": lambda: serving(*static),
            "download": lambda: _copy(results, outputs),
        }.items():
            add(bench, f"{name}_stage_{stage}", _replayed(work, rounds))


def add(bench: Bench, name: str, values: np.ndarray) -> None:
    """Median and tail in milliseconds."""
    for share in (50, 99):
        bench.add(f"{name}_p{share}", float(np.percentile(values, share)), "ms", n=len(values))


def _host_copies(pinned: list[torch.Tensor], arrays: list[np.ndarray], rounds: int) -> np.ndarray:
    """Milliseconds of copying one observation into pinned memory."""
    values = []
    for _ in range(rounds):
        started_s = time.perf_counter()
        for target, array in zip(pinned, arrays, strict=True):
            np.copyto(target.numpy(), array)
        values.append(1e3 * (time.perf_counter() - started_s))
    return np.array(values)


def _copy(targets: list[torch.Tensor], sources: Any) -> None:
    for target, source in zip(targets, sources, strict=True):
        target.copy_(source, non_blocking=True)


def _replayed(work: Any, rounds: int) -> np.ndarray:
    """Milliseconds on the device of work that is captured and replayed."""
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(3):
            kept = work()
        stream.synchronize()
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, stream=stream):
            kept = work()
        values = []
        for _ in range(rounds):
            start = torch.cuda.Event(enable_timing=True)
            end = torch.cuda.Event(enable_timing=True)
            start.record()
            graph.replay()
            end.record()
            end.synchronize()
            values.append(start.elapsed_time(end))
    del kept
    return np.array(values)
