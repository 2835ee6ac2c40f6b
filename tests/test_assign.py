"""The same recipient always gets the same cell: frozen vectors, equal forms, balance and independence."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from abmail.assign import (
    HOLDOUT,
    assign,
    assign_array,
    assign_quota,
    assign_quota_array,
    hash52,
    hash52_array,
    unit_of,
)
from abmail.bandit import quantise
from abmail.spec import Experiment
from abmail.stats import Counts, ThompsonShares, compare_many, srm

VECTORS = json.loads((Path(__file__).parent / "golden" / "assignment.json").read_text(encoding="utf-8"))
MILLION = np.arange(1_000_000)


def experiment(name: str = "spring", *, holdout: float = 0.0, salt: str = "") -> Experiment:
    return Experiment.from_dict({
        "spec": 1, "name": name, "factors": {"subject": {"plain": "Hello", "number": "3 ways"}},
        "control": {"subject": "plain"}, "message": {"template": "mails/x.html.j2", "from": "a@example.com"},
        "audience": {"holdout": holdout}, **({"salt": salt} if salt else {}),
    })  # fmt: skip


def chi_square_p(observed: np.ndarray, expected: np.ndarray) -> float:
    from scipy.stats import chisquare

    return float(chisquare(observed.ravel(), expected.ravel()).pvalue)


def test_the_hashes_of_the_frozen_vectors_have_not_moved() -> None:
    assert len(VECTORS["hashes"]) >= 12
    for vector in VECTORS["hashes"]:
        assert hash52(vector["salt"], vector["id"]) == vector["hash"]


def test_the_cells_of_the_frozen_vectors_have_not_moved() -> None:
    assert len(VECTORS["cells"]) >= 8
    for vector in VECTORS["cells"]:
        exp = experiment(vector["experiment"], holdout=vector["holdout"])
        assert assign(exp, vector["id"], weights=vector["weights"]).cell == vector["cell"]


texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=40).filter(lambda s: not s.endswith("\0"))


@settings(deadline=None)
@given(st.lists(texts, max_size=30), texts)
def test_the_array_form_equals_the_scalar_form_to_the_bit(ids: list[str], salt: str) -> None:
    scalar = [hash52(salt, i) for i in ids]
    assert hash52_array(salt, ids).tolist() == scalar
    assert hash52_array(salt, np.array(ids, dtype=np.str_)).tolist() == scalar
    assert hash52_array(salt, np.array([i.encode() for i in ids], dtype=np.bytes_)).tolist() == scalar
    assert hash52_array(salt, np.array(ids, dtype=object)).tolist() == scalar


@settings(deadline=None)
@given(st.lists(st.integers(0, 2**64 - 1), min_size=1, max_size=30))
def test_integers_stand_for_their_decimal_text(ids: list[int]) -> None:
    assert hash52_array("s", np.array(ids, dtype=np.uint64)).tolist() == [hash52("s", str(i)) for i in ids]


@pytest.mark.parametrize("largest", [9, 10**7, 10**8 - 1, 10**8, 10**16 - 1, 10**16, 2**64 - 1])
def test_integers_of_every_number_of_digits_stand_for_their_text(largest: int) -> None:
    edges = {10**k - 1 for k in range(20)} | {10**k for k in range(20)} | {largest}
    ids = sorted(edge for edge in edges if edge <= largest)
    hashed = hash52_array("s", np.array(ids, dtype=np.uint64)).tolist()
    assert hashed == [hash52("s", str(i)) for i in ids]


@settings(deadline=None)
@given(st.lists(st.integers(-(2**63), 2**63 - 1), min_size=1, max_size=30))
def test_negative_integers_do_too(ids: list[int]) -> None:
    assert hash52_array("s", np.array(ids, dtype=np.int64)).tolist() == [hash52("s", str(i)) for i in ids]


@settings(deadline=None)
@given(
    st.lists(st.floats(0.001, 1.0), min_size=2, max_size=30),
    st.floats(0, 0.9),
    st.lists(texts, min_size=1, max_size=20),
)
def test_cells_agree_between_the_forms_for_any_weights(raw: list[float], holdout: float, ids: list[str]) -> None:
    weights = np.array(raw) / sum(raw)
    exp = experiment(holdout=holdout)
    scalar = [assign(exp, i, weights=weights) for i in ids]
    assert assign_array(exp, ids, weights=weights).tolist() == [a.cell for a in scalar]
    for assignment in scalar:
        share = holdout if assignment.held_out else (1 - holdout) * weights[assignment.cell]
        assert assignment.propensity == pytest.approx(share, abs=3e-6)


@settings(deadline=None)
@given(st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=12), max_size=8), st.integers(0, 2_000))
def test_long_texts_and_texts_with_a_nul_inside_hash_like_any_other(ids: list[str], n: int) -> None:
    mixed = [*(f"{i}." for i in ids), "é" * n, "a\0b"]
    assert hash52_array("s", mixed).tolist() == [hash52("s", i) for i in mixed]
    assert hash52_array("s", tuple(mixed)).tolist() == hash52_array("s", mixed).tolist()


def test_one_very_long_id_does_not_cost_memory_for_all_the_others() -> None:
    import tracemalloc

    ids = [*(f"u-{i}" for i in range(16_000)), "x" * 50_000]
    tracemalloc.start()
    hashed = hash52_array("s", ids)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert hashed[[0, -1]].tolist() == [hash52("s", ids[0]), hash52("s", ids[-1])]
    assert peak < 20_000_000


def test_a_list_border_does_not_change_a_hash() -> None:
    ids = [f"person{i}@example.com" for i in range(40_000)]
    assert hash52_array("s", ids).tolist() == hash52_array("s", np.array(ids)).tolist()


def test_a_chunk_border_does_not_change_a_hash() -> None:
    ids = np.array([f"u-{i}" for i in range(40_000)])
    whole = hash52_array("s", ids)
    assert whole[16_380:16_390].tolist() == [hash52("s", str(i)) for i in ids[16_380:16_390]]


def test_a_million_recipients_are_split_as_the_weights_say() -> None:
    weights = np.array([0.4, 0.3, 0.2, 0.1])
    cells = assign_array(experiment(holdout=0.1), MILLION, weights=weights)
    observed = np.bincount(cells + 1, minlength=5)
    assert chi_square_p(observed, np.concatenate([[0.1], 0.9 * weights]) * len(MILLION)) > 1e-4


@pytest.mark.parametrize("salt", ["", "other"])
def test_two_experiments_split_a_million_recipients_independently(salt: str) -> None:
    weights = [0.5, 0.3, 0.2]
    one = assign_array(experiment("one"), MILLION, weights=weights)
    two = assign_array(experiment("two", salt=salt), MILLION, weights=weights)
    table = np.zeros((3, 3))
    np.add.at(table, (one, two), 1)
    assert chi_square_p(table, np.outer(weights, weights) * len(MILLION)) > 1e-4


def test_similar_ids_are_split_like_any_others() -> None:
    ids = np.array([f"{i:06d}@example.com" for i in range(1_000_000)])
    hashed = hash52_array("s", ids)
    for shift in (0, 16, 32, 44):
        observed = np.bincount((hashed >> shift) & 255, minlength=256)
        assert chi_square_p(observed, np.full(256, len(ids) / 256)) > 1e-5


def test_the_holdout_does_not_depend_on_the_weights() -> None:
    exp = experiment(holdout=0.2)
    one = assign_array(exp, MILLION[:50_000], weights=[0.5, 0.5]) == HOLDOUT
    other = assign_array(exp, MILLION[:50_000], weights=[0.01, 0.99]) == HOLDOUT
    assert one.tolist() == other.tolist()


def test_a_cell_without_weight_gets_nobody() -> None:
    cells = assign_array(experiment(), MILLION[:100_000], weights=[0.0, 0.7, 0.0, 0.3, 0.0])
    assert set(cells.tolist()) == {1, 3}


def test_growing_one_cell_moves_nobody_out_of_it() -> None:
    small = assign_array(experiment(), MILLION[:50_000], weights=[0.3, 0.7])
    large = assign_array(experiment(), MILLION[:50_000], weights=[0.6, 0.4])
    assert set(large[small == 0].tolist()) == {0}


def test_with_the_company_as_unit_colleagues_get_the_same_text_to_hash() -> None:
    assert unit_of("r1", "example.co.jp", "company") == "example.co.jp"
    assert unit_of("r1", "example.co.jp", "recipient") == "r1"


def test_people_who_share_only_their_mailbox_provider_are_no_colleagues() -> None:
    assert [unit_of("r1", domain, "company") for domain in ("gmail.com", "docomo.ne.jp")] == ["r1", "r1"]


@pytest.mark.parametrize("weights", [[0.5, 0.6], [-0.1, 1.1], [float("nan"), 1.0], [], [[0.5, 0.5]]])
def test_weights_that_are_no_shares_are_refused_with_their_value(weights: list[float]) -> None:
    with pytest.raises(ValueError, match="weights"):
        assign(experiment(), "u", weights=weights)


@pytest.mark.parametrize("ids", [np.array([1.5]), [1, 2], np.array([None])])
def test_ids_of_another_type_are_refused(ids: object) -> None:
    with pytest.raises(TypeError, match="ids"):
        hash52_array("s", ids)  # type: ignore[arg-type]


@pytest.mark.parametrize("ids", [["a\0"], np.zeros((2, 2), dtype="U1")])
def test_ids_that_cannot_be_told_apart_are_refused(ids: object) -> None:
    with pytest.raises(ValueError, match="id"):
        hash52_array("s", ids)  # type: ignore[arg-type]


def test_no_ids_are_no_cells() -> None:
    assert assign_array(experiment(), [], weights=[0.5, 0.5]).tolist() == []
    assert assign_array(experiment(), np.array([], dtype=np.str_), weights=[0.5, 0.5]).tolist() == []


# -- exact shares ----------------------------------------------------------------------------------------------------

weights_of_cells = st.lists(st.floats(0.0, 1.0), min_size=2, max_size=12).filter(lambda w: sum(w) > 0.1)


@settings(deadline=None, max_examples=60)
@given(st.lists(texts, max_size=60), weights_of_cells, st.floats(0, 0.9), st.integers(0, 9))
def test_exact_shares_are_the_same_cells_in_both_forms(
    ids: list[str], raw: list[float], holdout: float, epoch: int
) -> None:
    weights = quantise(raw)
    exp = experiment(holdout=holdout)
    listed = assign_quota(exp, ids, weights=weights, epoch=epoch)
    assert assign_quota_array(exp, ids, weights=weights, epoch=epoch).tolist() == [a.cell for a in listed]
    for unit, quota in zip(ids, listed, strict=True):
        alone = assign(exp, unit, weights=weights)
        assert (quota.held_out, quota.u, quota.epoch) == (alone.held_out, alone.u, epoch)
        if not quota.held_out:
            assert quota.propensity == pytest.approx((1 - round(holdout * 2**20) / 2**20) * weights[quota.cell])
            assert weights[quota.cell] > 0
    units = dict(zip(ids, listed, strict=True))
    counts = np.bincount([a.cell for a in units.values() if not a.held_out], minlength=len(weights))
    assert np.abs(counts - counts.sum() * weights).max() < 1 + 1e-9


def test_exact_shares_depend_on_the_set_of_recipients_alone() -> None:
    exp = experiment()
    ids = [f"u-{i}" for i in range(101)]
    cells = dict(zip(ids, assign_quota_array(exp, ids, weights=[0.3, 0.7], epoch=4).tolist(), strict=True))
    moved = [*reversed(ids), *ids[:30]]
    assert assign_quota_array(exp, moved, weights=[0.3, 0.7], epoch=4).tolist() == [cells[i] for i in moved]
    later = assign_quota_array(exp, ids, weights=[0.3, 0.7], epoch=5)
    assert later.tolist() != list(cells.values())
    other = assign_quota_array(experiment(salt="other"), ids, weights=[0.3, 0.7], epoch=4)
    assert other.tolist() != list(cells.values())


def test_with_exact_shares_each_recipients_chance_is_the_weight() -> None:
    """7 people over 0.1 / 0.25 / 0.65: no share is a whole number, so the odd ones go round."""
    exp, ids, weights = experiment(), [f"u-{i}" for i in range(7)], np.array([0.1, 0.25, 0.65])
    drawn = np.array([assign_quota_array(exp, ids, weights=weights, epoch=epoch) for epoch in range(12_000)])
    for cell, weight in enumerate(weights):
        assert (drawn == cell).mean(axis=0) == pytest.approx(weight, abs=5.5 * 0.5 / np.sqrt(12_000))
        sizes = np.unique((drawn == cell).sum(axis=1))
        assert set(sizes.tolist()) <= {int(7 * weight), int(7 * weight) + 1}
    together = ((drawn[:, 0] == 2) & (drawn[:, 1] == 2)).mean()
    assert together < 0.65**2 - 0.01  # a place taken is a place less: not independent


def test_epochs_with_exact_shares_are_split_independently_of_each_other_and_of_the_usual_split() -> None:
    exp = experiment()
    ids = np.arange(200_000)
    splits = [assign_quota_array(exp, ids, weights=[0.5, 0.5], epoch=epoch) for epoch in (0, 1)]
    splits.append(assign_array(exp, ids, weights=[0.5, 0.5]))
    for one, other in ((0, 1), (0, 2), (1, 2)):
        table = np.bincount(splits[one] * 2 + splits[other], minlength=4)
        assert chi_square_p(table, np.full(4, 50_000)) > 1e-6


def test_comparing_exact_shares_under_a_bandit_keeps_its_error_rate() -> None:
    """A/A: each recipient's answer is settled beforehand, weights follow what came in, a look after every epoch."""
    runs, epochs, size, level = 1_500, 8, 150, 0.05
    rng = np.random.default_rng(11)
    exp = experiment()
    answers = rng.random((runs, epochs, size)) < 0.2
    n, k = np.zeros((runs, epochs, 2), dtype=int), np.zeros((runs, epochs, 2), dtype=int)
    policy = ThompsonShares(min_weight=0.1)
    for epoch in range(epochs):
        shares = policy.weights(n.sum(axis=1).astype(float), k.sum(axis=1).astype(float), epoch / epochs)
        for run in range(runs):
            weights = quantise(shares[run])
            cells = assign_quota_array(exp, np.arange(run * size, (run + 1) * size), weights=weights, epoch=epoch)
            n[run, epoch] = np.bincount(cells, minlength=2)
            k[run, epoch] = np.bincount(cells[answers[run, epoch]], minlength=2)
    decided = compare_many(n, k, looks=epochs, alpha=level, method="sequential")
    alarms = int((decided.winner >= 0).sum())
    assert alarms < 120  # 75 would be 5 %; more than 119 come once in a million
    assert alarms > 15


def test_with_exact_shares_the_sample_ratio_fits_better_than_chance() -> None:
    rng, exp = np.random.default_rng(12), experiment()
    for _ in range(60):
        sizes = rng.integers(20, 60, rng.integers(1, 9))
        weights = [quantise(rng.dirichlet([1, 1, 1]), floor=0.05) for _ in sizes]
        n = [
            np.bincount(assign_quota_array(exp, rng.integers(0, 10**9, size), weights=shares, epoch=epoch), minlength=3)
            for epoch, (size, shares) in enumerate(zip(sizes, weights, strict=True))
        ]
        checked = srm(Counts(n, np.zeros_like(n), weights=weights))
        assert checked.ok
        assert checked.p_value is None or checked.p_value > 0.5
