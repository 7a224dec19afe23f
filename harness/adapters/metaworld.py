"""Meta-World's Sawyer for policies of the `metaworld` robot convention."""

from __future__ import annotations

from harness.adapters.interface import Adapter

METAWORLD = Adapter(
    suite="metaworld",
    robot="metaworld",
    cameras={
        # The view of published Meta-World results of vision policies: LeRobot moves the camera `corner2`
        # to where this suite's `corner4` stands, nearer to the table.
        "base_0_rgb": "corner4",
        # The camera on the hand; the one-armed robots of the pi0 family call theirs the left wrist.
        "left_wrist_0_rgb": "gripperPOV",
    },
)
