"""Rotations by the batch: matrices (…, 3, 3) and vectors (…, 3) of axis times angle in rad."""

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]


def rotations(vectors: FloatArray) -> FloatArray:
    """(…, 3, 3) of rotation vectors (…, 3), by Rodrigues' formula."""
    angle = np.linalg.norm(vectors, axis=-1)[..., None, None]
    axis = vectors / np.maximum(angle[..., 0], 1e-300)
    zero = np.zeros(axis.shape[:-1])
    x, y, z = np.moveaxis(axis, -1, 0)
    rows = [zero, -z, y, z, zero, -x, -y, x, zero]
    cross = np.stack(rows, axis=-1).reshape(*axis.shape, 3)
    turned = np.eye(3) + np.sin(angle) * cross + (1.0 - np.cos(angle)) * cross @ cross
    return np.asarray(turned)


def rotation_vectors(turns: FloatArray) -> FloatArray:
    """(…, 3) of rotations (…, 3, 3), by angles up to half a turn, exact there too.

    By way of the quaternion (Shepperd 1978): the row of its outer product with the largest
    diagonal loses no digits.
    """
    m = np.moveaxis(turns.reshape(*turns.shape[:-2], 9), -1, 0)
    xx, yy, zz = m[0], m[4], m[8]
    yz, zx, xy = m[7] - m[5], m[2] - m[6], m[3] - m[1]
    rows = [
        [1 + xx - yy - zz, m[1] + m[3], m[2] + m[6], yz],
        [m[1] + m[3], 1 - xx + yy - zz, m[5] + m[7], zx],
        [m[2] + m[6], m[5] + m[7], 1 - xx - yy + zz, xy],
        [yz, zx, xy, 1 + xx + yy + zz],
    ]
    outer = np.stack([np.stack(row, axis=-1) for row in rows], axis=-2)
    largest = np.argmax(np.diagonal(outer, axis1=-2, axis2=-1), axis=-1)
    q = np.take_along_axis(outer, largest[..., None, None], axis=-2)[..., 0, :]
    q = q / np.linalg.norm(q, axis=-1, keepdims=True)
    q = np.where(q[..., 3:] < 0, -q, q)
    sine = np.linalg.norm(q[..., :3], axis=-1, keepdims=True)
    angle = 2.0 * np.arctan2(sine, q[..., 3:])
    return np.asarray(q[..., :3] * np.where(sine < 1e-9, 2.0, angle / np.maximum(sine, 1e-300)))
