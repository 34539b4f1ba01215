"""What affine maps do to images, in words that people know: turn, zoom, shift, stretch; and how they follow the pose.

Legend: X any axes, N images, P parts, 2 x and y; 22 and 23 rows and columns of linear and affine maps, from output to
input coordinates, both in [-1, 1], x first and y down.
"""

from dataclasses import dataclass

import numpy as np

from analysis.statistics import Floats


@dataclass(frozen=True)
class Recovered:
    """True and predicted values of one part of the pose, after what cannot be known of it was taken away.

    true_PN, predicted_PN: degrees or natural logarithms of scales (P is 1), or shifts to the right and down as
    shares of the image's width (P is 2). r2: share of the true values' variation that the predicted ones explain;
    below 0 they are worse than a constant.
    """

    true_PN: Floats
    predicted_PN: Floats
    r2: float


def angle_rad(theta_X23: Floats) -> Floats:
    """The angle of the rotation closest to each map, in radians, positive from x to y: clockwise in the picture."""
    return np.asarray(
        np.arctan2(theta_X23[..., 1, 0] - theta_X23[..., 0, 1], theta_X23[..., 0, 0] + theta_X23[..., 1, 1]),
        dtype=np.float64,
    )


def zoom(theta_X23: Floats) -> Floats:
    """Size of what is seen: above 1 more than the image, which shrinks."""
    return np.sqrt(np.abs(_determinant(theta_X23)))


def shift(theta_X23: Floats) -> Floats:
    """How far from the image's centre the map looks, as a share of the image's width."""
    return np.hypot(theta_X23[..., 0, 2], theta_X23[..., 1, 2]) / 2


def condition(theta_X23: Floats) -> Floats:
    """Ratio of the longer to the shorter axis of what is seen: 1 keeps shapes."""
    # In closed form, singular values of 2x2 matrices are many times faster than LAPACK's.
    a, b, c, d = (theta_X23[..., row, column] for row in (0, 1) for column in (0, 1))
    rotation, reflection = np.hypot(a + d, c - b), np.hypot(a - d, c + b)
    return np.asarray((rotation + reflection) / np.maximum(np.abs(rotation - reflection), 1e-9))


def recover_angle(theta_N23: Floats, true_N23: Floats) -> Recovered | None:
    """Angles in degrees, after the best constant turn is removed; None where the true ones do not vary.

    r2: the circular counterpart, 1 - sum(1 - cos(error)) / sum(1 - cos(spread of the truth)).
    """
    true_N, predicted_N = angle_rad(true_N23), angle_rad(theta_N23)
    truth = _circular_spread(true_N)
    if truth <= 1e-4:
        return None
    error_N = predicted_N - true_N
    turned_N = predicted_N - np.angle(np.exp(1j * error_N).mean())
    turned_N = np.arctan2(np.sin(turned_N), np.cos(turned_N))
    return Recovered(np.rad2deg(true_N)[None], np.rad2deg(turned_N)[None], 1 - _circular_spread(error_N) / truth)


def recover_scale(theta_N23: Floats, true_N23: Floats) -> Recovered | None:
    """Logarithms of scales, after the best constant factor is removed; None where the true ones do not vary."""
    true_N, predicted_N = (np.log(np.maximum(zoom(maps_N23), 1e-6)) for maps_N23 in (true_N23, theta_N23))
    truth = true_N.var()
    if truth <= 1e-5:
        return None
    error_N = predicted_N - true_N
    return Recovered(true_N[None], (predicted_N - error_N.mean())[None], float(1 - error_N.var() / truth))


def recover_shift(theta_N23: Floats, true_N23: Floats) -> Recovered | None:
    """Shifts, after the best choice of which place is the centre; None where the true ones do not vary."""
    true_N2, predicted_N2 = true_N23[:, :, 2], theta_N23[:, :, 2]
    truth = true_N2.var(axis=0).sum()
    if truth <= 1e-5:
        return None
    # Another choice of which place is the centre moves each map by that place, as its own image has it turned.
    known_N24 = np.concatenate([true_N23[:, :, :2], np.broadcast_to(np.eye(2), (len(true_N23), 2, 2))], axis=2)
    best_4 = np.linalg.lstsq(known_N24.reshape(-1, 4), (predicted_N2 - true_N2).reshape(-1))[0]
    moved_N2 = predicted_N2 - known_N24 @ best_4
    r2 = 1 - float(((moved_N2 - true_N2) ** 2).sum(axis=1).mean() / truth)
    return Recovered(true_N2.T / 2, moved_N2.T / 2, r2)


def _determinant(theta_X23: Floats) -> Floats:
    return np.asarray(theta_X23[..., 0, 0] * theta_X23[..., 1, 1] - theta_X23[..., 0, 1] * theta_X23[..., 1, 0])


def _circular_spread(angle_N: Floats) -> float:
    """Mean of 1 - cos of the distance from the circular mean."""
    return float(1 - np.abs(np.exp(1j * angle_N).mean()))
