"""From logits to probabilities, and how good these are."""

import math

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from numpy.typing import NDArray
from torch import Tensor

from rewact_ros.reward import metrics


def calibrate(logits: NDArray[np.float32], success: NDArray[np.bool_]) -> tuple[float, float]:
    """Fit temperature and offset so that sigmoid(logit / temperature + offset) is a probability.

    Temperature scaling (Guo et al. 2017) with the offset of Platt (1999), which undoes the class
    ratio of the training batches: they hold more successes than the robot sees.

    Args:
        logits: (N,) of held-out frames, in their natural proportion.
        success: (N,).

    Returns:
        temperature in [0.05, 20] and offset, at the smallest log loss.
    """
    z = torch.from_numpy(np.asarray(logits, np.float64))
    # Platt's targets keep the fit finite where the classes are separable.
    n_success, n_fail = int(success.sum()), int((~success).sum())
    high, low = (n_success + 1) / (n_success + 2), 1 / (n_fail + 2)
    target = torch.from_numpy(np.where(success, high, low))
    parameters = torch.zeros(2, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS([parameters], max_iter=200, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimizer.zero_grad()
        scaled = z * parameters[0].clamp(-3, 3).exp() + parameters[1]
        loss = F.binary_cross_entropy_with_logits(scaled, target)
        loss.backward()
        return loss

    optimizer.step(closure)
    scale, offset = parameters.detach().tolist()
    return math.exp(-min(max(scale, -3.0), 3.0)), offset


def judge(probability: NDArray[np.float32], success: NDArray[np.bool_]) -> dict[str, float]:
    """Figures of probabilities (N,) against what was so: AUC, ECE, Brier, accuracy at 0.5."""
    return {
        "auc": metrics.roc_auc(probability, success),
        "ece": metrics.calibration_error(probability, success),
        "brier": metrics.brier_score(probability, success),
        "accuracy": float(((probability >= 0.5) == success).mean()),
        "frames": float(len(success)),
    }


def log_loss(logits: NDArray[np.float32], success: NDArray[np.bool_]) -> float:
    """Mean log loss of logits (N,) against outcomes (N,), nat."""
    target = torch.from_numpy(success).float()
    return float(F.binary_cross_entropy_with_logits(torch.from_numpy(logits), target))
