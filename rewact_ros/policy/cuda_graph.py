"""The network as one CUDA graph: upload, pixels, network and download in a single launch."""

import numpy as np
import torch

from .checkpoint import LoadedPolicy
from .runtimes import DTYPES, EngineError, ServingEngine
from .serving import ServingNetwork

_WARM_UPS = 3  # before the capture: cuDNN chooses its algorithms, cuBLAS takes its workspace


class CudaGraphEngine(ServingEngine):
    """torch on a GPU, captured once with static buffers; images go up as uint8 from pinned memory.

    All memory is taken in the constructor, so that a GPU that is too small shows when the node is
    configured, not when the robot moves.
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
        torch.backends.cudnn.benchmark = True
        network = ServingNetwork(loaded)
        network = network.set_precision(DTYPES[precision]).to(self._device)
        self._uploads = {
            key: torch.zeros(shape, dtype=dtype, pin_memory=True)
            for key, shape, dtype in network.inputs
        }
        inputs = [torch.zeros_like(x, device=self._device) for x in self._uploads.values()]
        self._stream = torch.cuda.Stream(self._device)
        with torch.no_grad(), torch.cuda.stream(self._stream):
            for _ in range(_WARM_UPS):
                outputs = network(*inputs)
            self._downloads = [torch.empty(x.shape, pin_memory=True) for x in outputs]
            self._stream.synchronize()
            self._graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(self._graph, stream=self._stream):
                for static, pinned in zip(inputs, self._uploads.values(), strict=True):
                    static.copy_(pinned, non_blocking=True)
                for pinned, output in zip(self._downloads, network(*inputs), strict=True):
                    pinned.copy_(output, non_blocking=True)
        self._kept = network, inputs  # the graph holds their addresses only

    @property
    def description(self) -> str:
        """What runs."""
        return f"torch_cuda_graph {self._precision} on {torch.cuda.get_device_name(self._device)}"

    def _run(self, inputs: dict[str, np.ndarray]) -> list[np.ndarray]:
        for key, pinned in self._uploads.items():
            np.copyto(pinned.numpy(), inputs[key])
        with torch.cuda.stream(self._stream):
            self._graph.replay()
        self._stream.synchronize()
        return [pinned.numpy().copy() for pinned in self._downloads]
