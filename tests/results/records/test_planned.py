"""The plan of a run, as its configuration records it."""

from simloop.results.records.planned import PlannedEpisodes


def test_reads_the_plan_from_the_config_of_a_run():
    experiment = {"suite": "metaworld", "policies": ["expert"], "episodes": 5, "tasks": ["MT10"]}
    assert PlannedEpisodes.from_config({"experiment": experiment}) == PlannedEpisodes(
        "metaworld", ("expert",), 5
    )
    assert PlannedEpisodes.from_config({"experiment": experiment, "tasks": ["reach-v3"]}) == PlannedEpisodes(
        "metaworld", ("expert",), 5, ("reach-v3",)
    )
    assert PlannedEpisodes.from_config({}) is None
