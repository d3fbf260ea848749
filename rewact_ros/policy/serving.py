"""The network as it is served: one raw observation in, the chunk and the reward out.

`ServingNetwork` gives what `LoadedPolicy.predict` gives, processors included, as one function of
tensors of fixed shapes, so that it can be exported, captured in a CUDA graph or run in half
precision. It takes pixels as uint8 and resizes them itself; `serving_body` has the rest.
"""

import copy
from collections.abc import Sequence

import torch
import torch.nn.functional as F  # noqa: N812
from lerobot.configs import NormalizationMode
from lerobot.utils.constants import OBS_ENV_STATE, OBS_STATE
from torch import Tensor, nn

from .checkpoint import LoadedPolicy
from .modeling_rewact import RewACTPolicy
from .scaling import Scaling, action_line, input_scalings
from .serving_body import ServingBody


class ServingNetwork(nn.Module):
    """One observation to actions, features and raw reward; float32 outside the body.

    Attributes:
        inputs: key, shape and dtype of every argument of ``forward``, in order. The leading axis
            holds the n observations of the history, oldest first.
        outputs: names of what ``forward`` returns, in order.
    """

    def __init__(self, loaded: LoadedPolicy):
        """Copy the policy's weights, on the CPU in float32.

        Raises:
            ValueError: the policy is no RewACT, or its processors do more than scale each number.
        """
        super().__init__()
        policy = rewact_of(loaded)
        config = policy.config
        model = copy.deepcopy(policy.model).cpu().float().eval().requires_grad_(False)
        scalings = input_scalings(loaded)
        self.inputs: list[tuple[str, tuple[int, ...], torch.dtype]] = []
        self._vectors, self._cameras = nn.ModuleList(), nn.ModuleList()
        for key in (OBS_STATE, OBS_ENV_STATE):  # the order of ACT's tokens; it reads no others
            if key in config.input_features:
                shape = (config.n_obs_steps, *config.input_features[key].shape)
                self.inputs.append((key, shape, torch.float32))
                self._vectors.append(_Scale(scalings[key]))
        unit = config.normalization_mapping["VISUAL"] is NormalizationMode.IDENTITY
        for key, feature in config.image_features.items():
            channels, height, width = feature.shape
            shape = (config.n_obs_steps, height, width, channels)
            self.inputs.append((key, shape, torch.uint8))
            self._cameras.append(
                _Pixels(key, scalings[key], (height, width), config.image_size, unit)
            )
        with torch.no_grad():
            self._body = ServingBody(model, config, self._images_like())
        self._head = model.action_head
        self._eyes = copy.deepcopy(policy.eyes).cpu().float().eval() if policy.eyes else None
        self._skip = model.state_skip if config.state_skip else None
        offset, factor = action_line(loaded)
        self.register_buffer("_action_offset", offset.float())
        self.register_buffer("_action_factor", factor.float())
        self.outputs = ["actions", "features", *(["reward"] if policy.reward else [])]
        self.dtype = torch.float32
        self.requires_grad_(False).eval()

    def set_precision(self, dtype: torch.dtype) -> "ServingNetwork":
        """Run the body in another dtype, images channels-last; pixels and heads stay float32."""
        # torch's stubs know no memory_format.
        self._body.to(dtype=dtype, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.dtype = dtype
        return self

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        """Predict from one observation with its history.

        Args:
            inputs: as ``self.inputs`` says: vectors (n, S) float32 in contract units, images
                (n, H, W, 3) uint8 RGB.

        Returns:
            actions (chunk, A) in contract units, features (dim_model,) and, of a policy with a
            reward head, its raw outputs (K,); all float32.
        """
        vectors, images = self.prepare(inputs)
        flat = [x.reshape(1, -1).to(self.dtype) for x in vectors]
        decoded, features = self._body(flat, [self._cast(image) for image in images])
        decoded = decoded.float()
        actions = self._head.action(decoded)
        if self._skip is not None:
            actions = actions + self._skip(vectors[0][-1:])
        actions = actions * self._action_factor + self._action_offset
        if "reward" not in self.outputs:
            return actions, features
        if self._eyes is None:
            return actions, features, self._head.reward(decoded[:1]).squeeze(0)
        seen = [image.flatten(0, 1)[None] for image in images]
        return actions, features, self._eyes(seen).squeeze(0)

    def prepare(self, inputs: Sequence[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        """Scale vectors, (n, S) each; convert, resize and scale images, (n, 3, h, w) each."""
        count = len(self._vectors)
        vectors = [scale(x) for scale, x in zip(self._vectors, inputs[:count], strict=True)]
        images = [pixels(x) for pixels, x in zip(self._cameras, inputs[count:], strict=True)]
        return vectors, images

    def _cast(self, image: Tensor) -> Tensor:
        if self.dtype is torch.float32:
            return image
        return image.to(self.dtype, memory_format=torch.channels_last)

    def _images_like(self) -> list[Tensor]:
        """Prepared black images, for the size of their feature maps."""
        shapes = [shape for _, shape, dtype in self.inputs if dtype is torch.uint8]
        blank = [torch.zeros(shape, dtype=torch.uint8) for shape in shapes]
        return [prepare(image) for prepare, image in zip(self._cameras, blank, strict=True)]


def rewact_of(loaded: LoadedPolicy) -> RewACTPolicy:
    """The policy of which a `ServingNetwork` can be made.

    Raises:
        ValueError: it is of another type.
    """
    if not isinstance(loaded.policy, RewACTPolicy):
        raise ValueError(
            f"{loaded.path}: expected a policy of type {RewACTPolicy.name}, got "
            f"{type(loaded.policy).__name__}; use engine torch in fp32, which runs any type"
        )
    return loaded.policy


class _Scale(nn.Module):
    """(x - centre) * factor."""

    centre: Tensor
    factor: Tensor

    def __init__(self, scaling: Scaling):
        super().__init__()
        self.register_buffer("centre", scaling.centre.float())
        self.register_buffer("factor", scaling.factor.float())

    def forward(self, x: Tensor) -> Tensor:
        return (x - self.centre) * self.factor


class _Pixels(nn.Module):
    """uint8 images of one camera, (n, H, W, 3), to what the backbone takes, (n, 3, h, w) float32.

    The antialiased bilinear resize of ``images.resize_images`` is linear in rows and in columns, so
    here it is matrix products, which every runtime has.
    """

    centre: Tensor
    factor: Tensor
    columns: Tensor

    def __init__(
        self,
        key: str,
        scaling: Scaling,
        size: tuple[int, int],
        target: tuple[int, int] | None,
        unit: bool,
    ):
        super().__init__()
        self.resizes = target is not None and tuple(target) != tuple(size)
        self.rounds = unit
        centre, factor = scaling.centre[:, :1, :1].double(), scaling.factor[:, :1, :1].double()
        if not (
            torch.allclose(scaling.centre.double(), centre.expand_as(scaling.centre))
            and torch.allclose(scaling.factor.double(), factor.expand_as(scaling.factor))
        ):
            raise ValueError(f"{key}: expected one scaling per colour, got one per pixel")
        if unit:
            if not (torch.all(centre == 0) and torch.all(factor == 1)):
                raise ValueError(f"{key}: expected images that stay in [0, 1], as configured")
            centre, factor = centre + 0.5, factor / 0.25  # as RewACTPolicy does itself
        self.register_buffer("centre", (centre * 255).float())
        self.register_buffer("factor", (factor / 255).float())
        if target is not None and self.resizes:
            self.row_shape = (size[1], len(scaling.centre))
            self.rows = _Rows(_resize_matrix(size[0], target[0]))
            self.register_buffer("columns", _resize_matrix(size[1], target[1]).T.contiguous())

    def forward(self, images: Tensor) -> Tensor:
        if not self.resizes:
            return (images.permute(0, 3, 1, 2).float() - self.centre) * self.factor
        # Rows first: there the colours may stay interleaved, and what is left to permute is small.
        short = self.rows(images.flatten(2).float())
        pixels = short.unflatten(-1, self.row_shape).permute(0, 3, 1, 2) @ self.columns
        if self.rounds:
            pixels = pixels.round()
        return (pixels - self.centre) * self.factor


class _Rows(nn.Module):
    """matrix @ x for a matrix whose rows are zero but for a few neighbours, such as a resize's.

    Done in blocks of output rows, each of which reads only the input rows that it needs.
    """

    def __init__(self, matrix: Tensor, block: int = 24):
        super().__init__()
        self.spans: list[tuple[int, int]] = []
        for index, part in enumerate(matrix.split(block)):
            used = part.abs().sum(dim=0).nonzero()
            low, high = int(used.min()), int(used.max()) + 1
            self.spans.append((low, high))
            self.register_buffer(f"part{index}", part[:, low:high].contiguous())

    def forward(self, x: Tensor) -> Tensor:
        """Map (n, H, W) to (n, h, W)."""
        parts = [
            getattr(self, f"part{index}") @ x[:, low:high]
            for index, (low, high) in enumerate(self.spans)
        ]
        return torch.cat(parts, dim=1)


def _resize_matrix(size: int, target: int) -> Tensor:
    """(target, size) weights of torch's antialiased bilinear interpolation along one axis."""
    unit = torch.eye(size)[None, None]
    matrix = F.interpolate(
        unit, (target, size), mode="bilinear", align_corners=False, antialias=True
    )
    return matrix[0, 0].contiguous()
