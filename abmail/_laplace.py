"""Gaussian posteriors of tables of rates: log odds with a structured normal prior, by Laplace's approximation.

A table has a row for each segment and a column for each arm. Its log odds are offset + X_s w + d_s: coefficients w that
all rows share, and a deviation d_s of each row, both normal around 0. Newton's method finds the mode in the form that
divides by no count (Rasmussen & Williams 2006, Gaussian Processes for Machine Learning, algorithm 3.1), for a whole
grid of prior variances at once; rows meet in w alone, so the work grows with their number in a straight line.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

__all__ = ["Fit", "Prior", "fit", "modes", "rate_of", "roots"]

_STEPS: Final = 30
_CLOSE: Final = 1e-5  # step after which the mode is reached: the next one would be near to its square
_HALVINGS: Final = 12
_NEGLIGIBLE: Final = 1e-3  # chance of a point of the grid that moves no weight worth speaking of
_JITTER: Final = 1e-10  # part of its scale that a covariance is lifted by, to be positive definite


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Prior:
    """Normal priors of a table's log odds, one for each point of a grid of variances.

    Attributes:
        own: (n_grid, n_arms, n_arms) covariance of a row's deviations.
        shared: (n_grid, p, p) covariance of the coefficients that the rows share; None where they share none.
        design: (n_rows, n_arms, p) what the coefficients are multiplied by; None for the identity.
        log_chance: (n_grid,) log prior chance of each point, up to a constant.
    """

    own: Floats
    shared: Floats | None
    design: Floats | None
    log_chance: Floats

    def at(self, chance: Floats) -> Prior:
        """One prior whose covariances are the grid's, averaged by (n_grid,) chances."""
        own = np.tensordot(chance, self.own, axes=1)[None]
        shared = None if self.shared is None else np.tensordot(chance, self.shared, axes=1)[None]
        return Prior(own=own, shared=shared, design=self.design, log_chance=np.zeros(1))

    def points(self, chosen: NDArray[np.int64]) -> Prior:
        """Some points of the grid."""
        shared = None if self.shared is None else self.shared[chosen]
        return Prior(own=self.own[chosen], shared=shared, design=self.design, log_chance=self.log_chance[chosen])


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Fit:
    """The posterior at each point of the grid that has a chance.

    Attributes:
        mean: (n_grid, n_rows, n_arms) log odds at the mode.
        cov: (n_grid, n_rows, n_arms, n_arms) covariance within each row.
        chance: (n_grid,) posterior chance of each point, sum 1.
        places: (n_grid,) which points of the prior's grid these are.
    """

    mean: Floats
    cov: Floats
    chance: Floats
    places: NDArray[np.int64]


@dataclass(slots=True, eq=False, kw_only=True)
class _State:
    """A point of Newton's method: log odds and what they are made of."""

    eta: Floats
    pull: Floats  # (n_grid, n_rows, n_arms) own^-1 d
    core: Floats  # (n_grid, p) w in units of the shared prior's root

    def toward(self, other: _State, step: Floats) -> _State:
        """A part of the way to another point, (n_grid,) fractions."""
        wide = step[:, None, None]
        return _State(
            eta=self.eta + wide * (other.eta - self.eta),
            pull=self.pull + wide * (other.pull - self.pull),
            core=self.core + step[:, None] * (other.core - self.core),
        )


def fit(k: Floats, m: Floats, prior: Prior, offset: float, *, start: Floats | None = None) -> Fit:
    """The posterior of a table's log odds.

    Args:
        k: (n_rows, n_arms) successes.
        m: (n_rows, n_arms) trials, not below the successes.
        prior: Priors on a grid of variances.
        offset: Log odds around which the prior lies.
        start: (n_rows, n_arms) log odds to start from; the offset by default.

    Returns:
        Modes, covariances, and the chance of each point of the grid by its evidence; hopeless points are left out.
    """
    table = _Table(k, m, prior, offset)
    state = table.mode(start)
    score = table.objective(state) - table.log_det(table.parts(state.eta)) / 2 + prior.log_chance
    chance = np.exp(score - score.max())
    chance /= chance.sum()
    kept = np.flatnonzero(chance > _NEGLIGIBLE)
    table = _Table(k, m, prior.points(kept), offset)
    mean, chance = state.eta[kept], chance[kept]
    return Fit(mean=mean, cov=table.covariance(table.parts(mean)), chance=chance / chance.sum(), places=kept)


def modes(k: Floats, m: Floats, prior: Prior, offset: float, *, start: Floats | None = None) -> Floats:
    """The modes alone, (n_grid, n_rows, n_arms) log odds. Arguments as `fit`."""
    return _Table(k, m, prior, offset).mode(start).eta


def roots(cov: Floats) -> Floats:
    """Lower triangular root of each covariance, (..., n, n)."""
    scale = np.trace(cov, axis1=-2, axis2=-1)[..., None, None] / cov.shape[-1]
    return np.linalg.cholesky(cov + _JITTER * scale * np.eye(cov.shape[-1]))


@dataclass(slots=True, eq=False, kw_only=True)
class _Meeting:
    """What the curvature says of the coefficients that the rows share."""

    root: Floats  # (n_grid, p, p) of their covariance
    own: Floats  # (n_grid, n_rows, n_arms, n_arms) (W^-1 + own)^-1
    seen: Floats  # the same times the design
    middle: Floats  # (n_grid, p, p) I + root' H root


@dataclass(slots=True, eq=False, kw_only=True)
class _Parts:
    """What the curvature W of the likelihood at a point leads to."""

    root: Floats  # (n_grid, n_rows, n_arms) of W
    inner: Floats  # (n_grid, n_rows, n_arms, n_arms) I + root own root
    meeting: _Meeting | None


class _Table:
    """Counts and priors, ready for Newton's method."""

    def __init__(self, k: Floats, m: Floats, prior: Prior, offset: float) -> None:
        self.k, self.m, self.prior, self.offset = k, m, prior, offset
        self.root = None if prior.shared is None else roots(prior.shared)
        self.n_grid, self.n_arms = len(prior.own), prior.own.shape[-1]

    def mode(self, start: Floats | None) -> _State:
        """The highest point of the posterior, for each point of the grid."""
        shape = (self.n_grid, *self.k.shape)
        p = 0 if self.root is None else self.root.shape[-1]
        flat = np.full(shape, self.offset)
        state = _State(eta=flat, pull=np.zeros(shape), core=np.zeros((self.n_grid, p)))
        if start is not None:  # the first step from anywhere lands on a point made of the prior's parts
            state = self._newton(np.broadcast_to(start, shape))
        for _ in range(_STEPS):
            aim = self._newton(state.eta)
            moved = self._damped(state, aim)
            done = np.abs(moved.eta - state.eta).max(initial=0.0) < _CLOSE
            state = moved
            if done:
                break
        return state

    def objective(self, state: _State) -> Floats:
        """Log likelihood and log prior up to constants, (n_grid,)."""
        fall = self.k * np.logaddexp(0.0, -state.eta) + (self.m - self.k) * np.logaddexp(0.0, state.eta)
        own = (state.pull * _times(self.prior.own[:, None], state.pull)).sum(axis=(1, 2))
        total: Floats = -fall.sum(axis=(1, 2)) - own / 2 - (state.core**2).sum(axis=1) / 2
        return total

    def parts(self, eta: Floats) -> _Parts:
        """What the curvature of the likelihood at these log odds leads to."""
        rate = rate_of(eta)
        root = np.sqrt(self.m * rate * (1 - rate))
        inner = root[..., :, None] * self.prior.own[:, None] * root[..., None, :]
        inner += np.eye(self.n_arms)
        if self.root is None:
            return _Parts(root=root, inner=inner, meeting=None)
        own = root[..., :, None] * np.linalg.inv(inner) * root[..., None, :]
        seen, held = self._designed(own)
        middle = np.eye(self.root.shape[-1]) + self.root.swapaxes(1, 2) @ held @ self.root
        meeting = _Meeting(root=self.root, own=own, seen=seen, middle=middle)
        return _Parts(root=root, inner=inner, meeting=meeting)

    def log_det(self, parts: _Parts) -> Floats:
        """Log determinant of I + (covariance of the prior) W, (n_grid,)."""
        total: Floats = _log_det(parts.inner).sum(axis=1)
        return total if parts.meeting is None else total + _log_det(parts.meeting.middle)

    def covariance(self, parts: _Parts) -> Floats:
        """Posterior covariance within each row, (n_grid, n_rows, n_arms, n_arms)."""
        prior, meeting = self.prior.own[:, None], parts.meeting
        if meeting is None:
            lean = np.linalg.solve(parts.inner, parts.root[..., :, None] * prior)
            cov: Floats = prior - (prior * parts.root[..., None, :]) @ lean
        else:
            design = np.eye(self.n_arms) if self.prior.design is None else self.prior.design
            lean = (design - prior @ meeting.seen) @ meeting.root[:, None]
            shared = lean @ np.linalg.solve(meeting.middle[:, None], lean.swapaxes(2, 3))
            cov = prior - prior @ meeting.own @ prior + shared
        return (cov + cov.swapaxes(2, 3)) / 2

    def _newton(self, eta: Floats) -> _State:
        """Where the full step from these log odds leads."""
        parts, rate = self.parts(eta), rate_of(eta)
        b = self.m * rate * (1 - rate) * (eta - self.offset) + self.k - self.m * rate
        prior, meeting = self.prior.own[:, None], parts.meeting
        if meeting is None:
            pull = b - parts.root * _solved(parts.inner, parts.root * _times(prior, b))
            return _State(eta=self.offset + _times(prior, pull), pull=pull, core=np.zeros((self.n_grid, 0)))
        design = self.prior.design
        pull = b - _times(meeting.own, _times(prior, b))
        force = pull.sum(axis=1) if design is None else np.einsum("skp,gsk->gp", design, pull)
        core = _solved(meeting.middle, _times(meeting.root.swapaxes(1, 2), force))
        w = _times(meeting.root, core)
        fixed = w[:, None] if design is None else np.einsum("skp,gp->gsk", design, w)
        pull = pull - _times(meeting.seen, w[:, None])
        return _State(eta=self.offset + fixed + _times(prior, pull), pull=pull, core=core)

    def _damped(self, state: _State, aim: _State) -> _State:
        """The full step, halved where it would lead down."""
        before, step = self.objective(state), np.ones(self.n_grid)
        for _ in range(_HALVINGS):
            moved = state.toward(aim, step)
            worse = self.objective(moved) < before - 1e-9 * (1 + np.abs(before))
            if not worse.any():
                break
            step[worse] /= 2
        return moved

    def _designed(self, own: Floats) -> tuple[Floats, Floats]:
        """``own`` times the design, and the information on the shared coefficients (n_grid, p, p)."""
        design = self.prior.design
        if design is None:
            return own, own.sum(axis=1)
        seen, p = own @ design, design.shape[-1]
        held: Floats = design.reshape(-1, p).T @ seen.reshape(len(own), -1, p)
        return seen, held


def rate_of(eta: Floats) -> Floats:
    """Rates of log odds, the same shape."""
    from scipy.special import expit

    rate: Floats = expit(eta)
    return rate


def _times(matrix: Floats, vector: Floats) -> Floats:
    product: Floats = (matrix @ vector[..., None])[..., 0]
    return product


def _solved(matrix: Floats, vector: Floats) -> Floats:
    return np.asarray(np.linalg.solve(matrix, vector[..., None])[..., 0], dtype=np.float64)


def _log_det(matrix: Floats) -> Floats:
    """Log determinant of positive definite matrices, (...)."""
    factor = np.linalg.cholesky(matrix)
    log_det: Floats = 2 * np.log(np.diagonal(factor, axis1=-2, axis2=-1)).sum(axis=-1)
    return log_det
