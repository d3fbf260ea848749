"""Backbone and transformer of LeRobot's ACT for one observation, its constants computed once.

Beside `ACT.forward`: no VAE encoder, which only trains; the latent's token, all positional
embeddings (multiplied into the projections of the attention already) and the first self-attention
of the decoder are constants; frozen batch normalisation is folded into the convolutions; cameras of
one size go through the backbone as one batch.
"""

from collections.abc import Callable

import torch
from lerobot.policies.act.modeling_act import ACTDecoderLayer, ACTEncoderLayer
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_weights
from torchvision.ops.misc import FrozenBatchNorm2d

from .configuration_rewact import RewACTConfig
from .network import HistoryBackbone, RewACT


class ServingBody(nn.Module):
    """Backbone and transformer of one observation, by the network's own weights.

    Maps normalised vectors, (1, n * S) each, and prepared images, (n, 3, h, w) for each camera, to
    decoded tokens (chunk, D) in its dtype and features (D,) float32.
    """

    latent: Tensor
    start: Tensor

    def __init__(self, model: RewACT, config: RewACTConfig, images: list[Tensor]):
        super().__init__()
        self.steps = config.n_obs_steps
        self.one_batch = len({image.shape for image in images}) <= 1
        positions = [model.encoder_1d_feature_pos_embed.weight]
        projections = ("encoder_robot_state_input_proj", "encoder_env_state_input_proj")
        self.projections = nn.ModuleList(
            getattr(model, name) for name in projections if hasattr(model, name)
        )
        if images:
            backbone = model.backbone
            if isinstance(backbone, HistoryBackbone):
                backbone = backbone.backbone
            self.backbone = _without_batch_norm(backbone)
            self.project = model.encoder_img_feat_input_proj
            for image in images:
                feature_map = self.backbone(image)["feature_map"]
                position = model.encoder_cam_feat_pos_embed(feature_map)  # (1, D, h, w)
                positions.append(position.flatten(2)[0].T)
        position = torch.cat(positions)
        self.register_buffer("latent", model.encoder_latent_input_proj.bias[None].clone())
        norm_first = config.pre_norm
        self.encoder = nn.Sequential(
            *(_encoder_layer(layer, position, norm_first) for layer in model.encoder.layers)
        )
        self.encoder_norm = model.encoder.norm
        queries = model.decoder_pos_embed.weight
        layers = [_decoder_layer(x, queries, position, norm_first) for x in model.decoder.layers]
        # The first layer's self-attention reads zeros and positions: the same in every inference.
        self.register_buffer("start", layers[0].pop(0)(torch.zeros_like(queries)))
        self.decoder = nn.ModuleList([block for layer in layers for block in layer])
        self.decoder_norm = model.decoder.norm

    def forward(self, vectors: list[Tensor], images: list[Tensor]) -> tuple[Tensor, Tensor]:
        tokens = [project(x) for project, x in zip(self.projections, vectors, strict=True)]
        if images:
            batches = [torch.cat(images)] if self.one_batch else images
            tokens = [*tokens, *(self._image_tokens(batch) for batch in batches)]
        memory = self.encoder_norm(self.encoder(torch.cat([self.latent, *tokens])))
        decoded = self.start
        for block in self.decoder:
            decoded = block(decoded, memory)
        return self.decoder_norm(decoded), memory.float().mean(dim=0)

    def _image_tokens(self, images: Tensor) -> Tensor:
        """(cameras * n, 3, h, w), each camera's history together, to (cameras * h' * w', D)."""
        features = self.backbone(images)["feature_map"]
        if self.steps > 1:
            features = features.unflatten(0, (-1, self.steps)).flatten(1, 2)
        return self.project(features).permute(0, 2, 3, 1).reshape(-1, self.project.out_channels)


class _Residual(nn.Module):
    """x + block(norm(x)), or norm(x + block(x))."""

    def __init__(self, block: nn.Module, norm: nn.Module, norm_first: bool):
        super().__init__()
        self.block, self.norm, self.norm_first = block, norm, norm_first

    def forward(self, x: Tensor, memory: Tensor | None = None) -> Tensor:
        if self.norm_first:
            return x + self.block(self.norm(x), memory)
        return self.norm(x + self.block(x, memory))


class _FeedForward(nn.Module):
    def __init__(self, layer: ACTEncoderLayer | ACTDecoderLayer):
        super().__init__()
        self.rise, self.fall = layer.linear1, layer.linear2
        self.activation: Callable[[Tensor], Tensor] = layer.activation

    def forward(self, x: Tensor, memory: Tensor | None) -> Tensor:
        return self.fall(self.activation(self.rise(x)))


class _SelfAttention(nn.Module):
    """Attention of tokens (T, D) on themselves; queries and keys know their positions."""

    weight: Tensor
    constant: Tensor

    def __init__(self, source: nn.MultiheadAttention, position: Tensor):
        super().__init__()
        self.heads, self.out = source.num_heads, source.out_proj
        (q, k, v), (bias_q, bias_k, bias_v) = _projections(source)
        constant = [
            position @ q.T + bias_q,
            position @ k.T + bias_k,
            bias_v.expand(len(position), -1),
        ]
        self.register_buffer("weight", torch.cat([q, k, v]).T.contiguous())
        self.register_buffer("constant", torch.cat(constant, dim=1))

    def forward(self, x: Tensor, memory: Tensor | None) -> Tensor:
        query, key, value = (x @ self.weight + self.constant).chunk(3, dim=-1)
        return _attend(query, key, value, self.out, self.heads)


class _CrossAttention(nn.Module):
    """Attention of tokens (chunk, D) on the encoder's (T, D); values know no position."""

    query_weight: Tensor
    query_constant: Tensor
    weight: Tensor
    constant: Tensor

    def __init__(self, source: nn.MultiheadAttention, queries: Tensor, position: Tensor):
        super().__init__()
        self.heads, self.out = source.num_heads, source.out_proj
        (q, k, v), (bias_q, bias_k, bias_v) = _projections(source)
        constant = [position @ k.T + bias_k, bias_v.expand(len(position), -1)]
        self.register_buffer("query_weight", q.T.contiguous())
        self.register_buffer("query_constant", queries @ q.T + bias_q)
        self.register_buffer("weight", torch.cat([k, v]).T.contiguous())
        self.register_buffer("constant", torch.cat(constant, dim=1))

    def forward(self, x: Tensor, memory: Tensor) -> Tensor:
        query = x @ self.query_weight + self.query_constant
        key, value = (memory @ self.weight + self.constant).chunk(2, dim=-1)
        return _attend(query, key, value, self.out, self.heads)


def _projections(source: nn.MultiheadAttention) -> tuple[list[Tensor], list[Tensor]]:
    """Weights (D, D) and biases (D,) of query, key and value; the query's scaled by 1/sqrt(d)."""
    scale = (source.embed_dim // source.num_heads) ** -0.5
    weights, biases = list(source.in_proj_weight.chunk(3)), list(source.in_proj_bias.chunk(3))
    return [weights[0] * scale, *weights[1:]], [biases[0] * scale, *biases[1:]]


def _attend(query: Tensor, key: Tensor, value: Tensor, out: nn.Linear, heads: int) -> Tensor:
    """Softmax attention of scaled queries (Q, D) on (T, D), by heads; returns (Q, D)."""
    size = out.in_features
    query, key, value = (
        x.reshape(1, -1, heads, size // heads).transpose(1, 2) for x in (query, key, value)
    )
    mixed = (query @ key.transpose(-1, -2)).softmax(dim=-1) @ value
    return out(mixed.transpose(1, 2).reshape(-1, size))


def _encoder_layer(layer: ACTEncoderLayer, position: Tensor, norm_first: bool) -> nn.Module:
    return nn.Sequential(
        _Residual(_SelfAttention(layer.self_attn, position), layer.norm1, norm_first),
        _Residual(_FeedForward(layer), layer.norm2, norm_first),
    )


def _decoder_layer(
    layer: ACTDecoderLayer, queries: Tensor, position: Tensor, norm_first: bool
) -> list[nn.Module]:
    cross = _CrossAttention(layer.multihead_attn, queries, position)
    return [
        _Residual(_SelfAttention(layer.self_attn, queries), layer.norm1, norm_first),
        _Residual(cross, layer.norm2, norm_first),
        _Residual(_FeedForward(layer), layer.norm3, norm_first),
    ]


def _without_batch_norm(module: nn.Module) -> nn.Module:
    """Fold every frozen batch normalisation into the convolution before it (ResNets alternate)."""
    before: nn.Module | None = None
    for name, child in module.named_children():
        if isinstance(child, FrozenBatchNorm2d) and isinstance(before, nn.Conv2d):
            before.weight, before.bias = fuse_conv_bn_weights(
                before.weight,
                before.bias,
                child.running_mean,
                child.running_var,
                child.eps,
                child.weight,
                child.bias,
            )
            setattr(module, name, nn.Identity())
        else:
            _without_batch_norm(child)
        before = child
    return module
