"""The explanation of the second query of `tests.helpers.scripted_records`, which has one camera of four patches."""

from simloop.results.records.explanations import CameraAttention, CameraDistance, StoredExplanation

STORED = StoredExplanation(
    query=1,
    step=2,
    key=0,
    policy="a",
    instruction="lift the cup",
    cameras=(CameraAttention("top", 2, (0.1, 0.2, 0.3, 0.4)),),
    shares={"top": 0.75, "prompt": 0.25, "state": 0.0},
    words=(("cup", 1.0),),
    draws=4,
    spread=((0.1, 0.2), (0.3, 0.4)),
    differs=None,
    speeds=(1.0, 0.5),
    answer=None,
    sensitivities=({"name": "no prompt", "change": float("nan"), "by_action": [1.0, None]},),
    state=(),
    actions=(),
    images=(CameraDistance("top", 3.0, 100.0, 1.0, 2.0),),
)
