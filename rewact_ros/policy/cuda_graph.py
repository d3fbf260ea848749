"""The network as one CUDA graph: upload, pixels, network and download in a single launch."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from .checkpoint import LoadedPolicy
from .engine import Observation
from .runtimes import DTYPES, EngineError, ServingEngine
from .serving import ServingNetwork

_WARM_UPS = 3  # before the capture: cuDNN chooses its algorithms, cuBLAS takes its workspace


class CudaGraphEngine(ServingEngine):
    """torch on a GPU, captured once with static buffers; images go up as uint8 from pinned memory.

    All memory is taken in the constructor, so that a GPU that is too small shows when the node is
    configured, not when the robot moves. Weights are cast once (no autocast, whose casts would be
    captured and run every time).
    """

    def __init__(self, loaded: LoadedPolicy, precision: str, rate_hz: float | None):
        """Build the network and capture it.

        Raises:
            EngineError: no CUDA device, or the policy was loaded on another one.
            ValueError: the policy cannot be served in this form.
            RuntimeError: CUDA failed, its memory included.
        """
        super().__init__(loaded, rate_hz)
        self._device = torch.device(loaded.config.device)
        if not torch.cuda.is_available():
            raise EngineError(
                "engine torch_cuda_graph: expected a CUDA device, found none; use auto, openvino, "
                "onnxruntime or torch"
            )
        if self._device.type != "cuda":
            raise EngineError(
                f"engine torch_cuda_graph: expected device cuda, got {self._device}; "
                "set device to auto or cuda"
            )
        self._precision = precision
        torch.backends.cudnn.benchmark = True  # shapes never change here
        serving = ServingNetwork(loaded)
        serving.set_precision(DTYPES[precision]).to(self._device)
        self._static = [
            torch.zeros(shape, dtype=dtype, device=self._device)
            for _, shape, dtype in serving.inputs
        ]
        # Pinned memory: the copies of the graph read and write it while the host goes on.
        uploads = [torch.zeros(x.shape, dtype=x.dtype, pin_memory=True) for x in self._static]
        self._stream = torch.cuda.Stream(self._device)
        self._stream.wait_stream(torch.cuda.current_stream(self._device))
        with torch.no_grad(), torch.cuda.stream(self._stream):
            self._network = self._prepared(serving)
            for _ in range(_WARM_UPS):  # on the stream of the capture, as PyTorch asks
                outputs = self._network(*self._static)
            downloads = [torch.zeros(x.shape, pin_memory=True) for x in outputs]
            del outputs
            self._stream.synchronize()
            self._graph = torch.cuda.CUDAGraph()
            # Thread-local: another thread may run the engine that this one is to replace.
            with torch.cuda.graph(
                self._graph, stream=self._stream, capture_error_mode="thread_local"
            ):
                for static, pinned in zip(self._static, uploads, strict=True):
                    static.copy_(pinned, non_blocking=True)
                for pinned, output in zip(downloads, self._network(*self._static), strict=True):
                    pinned.copy_(output, non_blocking=True)
        # The graph holds addresses only: these, the network and its inputs must live as long.
        self._uploads = {
            key: pinned.numpy() for (key, _, _), pinned in zip(serving.inputs, uploads, strict=True)
        }
        self._downloads = [pinned.numpy() for pinned in downloads]

    def _prepared(self, network: ServingNetwork) -> nn.Module:
        """What is captured; a benchmark captures a compiled network instead."""
        return network

    @property
    def description(self) -> str:
        """What runs."""
        return f"torch_cuda_graph {self._precision} on {torch.cuda.get_device_name(self._device)}"

    def _run(self, inputs: Observation) -> list[NDArray[np.float32]]:
        for key, pinned in self._uploads.items():
            np.copyto(pinned, inputs[key])
        with torch.cuda.stream(self._stream):
            self._graph.replay()
        self._stream.synchronize()
        return [pinned.copy() for pinned in self._downloads]
