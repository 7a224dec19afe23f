import json

import numpy as np
import pytest

from simloop.policies.transforms.normalization import (
    EntryStats,
    NormalizationError,
    Normalizer,
    RunningStats,
    identity_stats,
    load_norm_stats,
    nearly_constant,
    require_size,
    save_norm_stats,
)

STATS = EntryStats(
    mean=np.array([1.0, -2.0]), std=np.array([0.5, 4.0]), q01=np.array([0.0, -9.0]), q99=np.array([2.0, 7.0])
)
X = np.array([[0.0, -10.0], [2.5, 8.0]])


@pytest.mark.parametrize("kind", ["z_score", "quantile", "none"])
def test_unnormalize_inverts_normalize(kind):
    normalizer = Normalizer(kind, STATS)
    np.testing.assert_allclose(normalizer.unnormalize(normalizer.normalize(X)), X, atol=1e-12)


def test_z_scores_are_in_standard_deviations():
    np.testing.assert_allclose(Normalizer("z_score", STATS).normalize(X), [[-2, -2], [3, 2.5]], atol=1e-4)


def test_maps_quantiles_to_minus_one_and_one():
    normalizer = Normalizer("quantile", STATS)
    assert STATS.q01 is not None
    np.testing.assert_allclose(normalizer.normalize(STATS.q01), [-1, -1], atol=1e-6)
    np.testing.assert_allclose(normalizer.normalize(STATS.q99), [1, 1], atol=1e-6)


def test_does_not_clip():
    assert Normalizer("quantile", STATS).normalize(np.array([100.0, 0.0]))[0] > 50


def test_constant_entries_stay_finite():
    constant = EntryStats(*(np.full(1, value) for value in (3.0, 0.0, 3.0, 3.0)))
    for kind in ("z_score", "quantile"):
        normalizer = Normalizer(kind, constant)
        assert np.isfinite(normalizer.normalize(np.array([3.0]))).all()
        np.testing.assert_allclose(normalizer.unnormalize(np.array([0.0])), [3.0], atol=1e-6)


def test_padding_beyond_the_statistics_is_unchanged():
    wide = np.array([0.5, 0.5, 0.0, 7.0])
    for kind in ("z_score", "quantile"):
        np.testing.assert_allclose(Normalizer(kind, STATS).unnormalize(wide)[2:], [0.0, 7.0], rtol=2e-6)


def test_rejects_vectors_longer_than_the_statistics():
    with pytest.raises(NormalizationError, match="3 entries cannot be normalized with statistics of 2"):
        Normalizer("z_score", STATS).normalize(np.zeros(3))


def test_rejects_quantile_normalization_without_quantiles():
    without = EntryStats(mean=STATS.mean, std=STATS.std)
    assert Normalizer("z_score", without)
    with pytest.raises(NormalizationError, match="q01 and q99"):
        Normalizer("quantile", without)
    with pytest.raises(NormalizationError, match="there are none"):
        Normalizer("z_score")


def test_identity_statistics_change_nothing():
    for kind in ("z_score", "quantile"):
        np.testing.assert_allclose(Normalizer(kind, identity_stats(2)).normalize(X), X, atol=2e-5)


def test_running_statistics_equal_those_of_all_data():
    data = np.random.default_rng(0).normal(size=(4000, 3)) * [1.0, 5.0, 0.1]
    running = RunningStats()
    for batch in np.split(data, [100, 1000, 1001]):  # The range grows on the way.
        running.update(batch)
    found = running.stats()
    np.testing.assert_allclose(found.mean, data.mean(axis=0), atol=1e-12)
    np.testing.assert_allclose(found.std, data.std(axis=0), rtol=1e-10)
    width = np.ptp(data, axis=0) / 5000
    for got, q in ((found.q01, 0.01), (found.q99, 0.99)):
        assert got is not None
        assert np.all(np.abs(got - np.quantile(data, q, axis=0, method="inverted_cdf")) < 3 * width)


def test_batches_may_have_any_number_of_axes():
    data = np.random.default_rng(0).normal(size=(20, 6, 2))
    flat, nested = RunningStats(), RunningStats()
    flat.update(data.reshape(-1, 2))
    nested.update(data)
    np.testing.assert_array_equal(flat.stats().q99, nested.stats().q99)


def test_rejects_a_single_vector():
    running = RunningStats()
    running.update(np.zeros((1, 2)))
    with pytest.raises(ValueError, match="at least 2 vectors; got 1"):
        running.stats()


def test_statistics_round_trip_through_a_file(tmp_path):
    without = EntryStats(mean=STATS.mean, std=STATS.std)
    save_norm_stats(tmp_path / "assets" / "norm_stats.json", {"state": STATS, "actions": without})
    read = load_norm_stats(tmp_path / "assets" / "norm_stats.json")
    np.testing.assert_array_equal(read["state"].q99, STATS.q99)
    assert read["actions"].q01 is None


@pytest.mark.parametrize(
    "content",
    [
        "not json",
        json.dumps({"state": {}}),
        json.dumps({"norm_stats": {"state": {"mean": [1.0]}}}),
        json.dumps({"norm_stats": {"state": {"mean": [1.0], "std": [1.0, 2.0]}}}),
    ],
)
def test_names_files_of_another_format(tmp_path, content):
    (tmp_path / "norm_stats.json").write_text(content)
    with pytest.raises(NormalizationError, match=r"norm_stats\.json"):
        load_norm_stats(tmp_path / "norm_stats.json")


def written(folder, **changes):
    one = {"mean": [0.0] * 3, "std": [1.0] * 3, "q01": [-1.0] * 3, "q99": [1.0] * 3}
    file = folder / "norm_stats.json"
    file.write_text(json.dumps({"norm_stats": {"state": one, "actions": one | changes}}))
    return file


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"std": [1.0, float("nan"), 1.0]}, "std of 'actions', entry 1, is nan"),
        ({"q99": [1.0, 1.0, None]}, "q99 of 'actions', entry 2, is null"),
        ({"std": [-1.0, 1.0, 1.0]}, "std of 'actions', entry 0, is -1"),
        ({"q01": [-1.0, 3.0, -1.0]}, "q01 of 'actions', entry 1, is 3; q01 is above q99"),
        ({"std": [1.0]}, "lists of one length"),
    ],
)
def test_names_file_key_and_entry_of_impossible_statistics(tmp_path, changes, named):
    with pytest.raises(NormalizationError, match=f"norm_stats.json: .*{named}"):
        load_norm_stats(written(tmp_path, **changes))


def test_reads_actions_under_the_key_action(tmp_path):
    file = written(tmp_path)
    file.write_text(file.read_text().replace('"actions"', '"action"'))
    assert load_norm_stats(file).keys() == {"state", "actions"}


def test_names_rlds_statistics_as_what_they_are(tmp_path):
    file = tmp_path / "dataset_statistics.json"
    file.write_text(json.dumps({"libero_x": {"action": {"mean": [0.0], "mask": [False]}, "proprio": {}}}))
    with pytest.raises(NormalizationError, match=r"RLDS statistics of libero_x, .* mask"):
        load_norm_stats(file)


def test_statistics_of_another_robot_are_told_from_padding():
    def stats(*std):
        ones = np.ones(len(std))
        return EntryStats(0 * ones, ones * std, -ones * std, ones * std)

    require_size("actions", stats(1, 1, 0, 0), 2)
    with pytest.raises(NormalizationError, match="4 entries; the robot has 2, and entry 3 varies"):
        require_size("actions", stats(1, 1, 0, 0.5), 2)
    with pytest.raises(NormalizationError, match="statistics of 2 entries; the robot has 3"):
        require_size("actions", stats(1, 1), 3)


def test_says_what_a_small_deviation_becomes_where_an_entry_hardly_varies():
    stats = EntryStats(*(np.array(x) for x in ([0.0, 0.0], [1.0, 0.0], [-1.0, 0.04], [1.0, 0.04])))
    assert nearly_constant("state", stats, "z_score", 2) == [
        "Entry 1 of state hardly varies in the statistics: a deviation of 0.001 becomes 1e+03 for the model."
    ]
    assert "becomes 2e+03" in nearly_constant("state", stats, "quantile", 2)[0]
    assert nearly_constant("state", stats, "none", 2) == []
