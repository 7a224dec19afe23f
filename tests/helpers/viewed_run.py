"""A recorded run that the tests of pages show."""

import dataclasses

import av
import numpy as np

from simloop.results.records.paths import step_records_path
from simloop.results.records.trajectories import Trajectories
from tests.helpers.run_folders import EPISODE, broken, failed, with_queries, write_run
from tests.helpers.scripted_records import recorded

HOSTILE = "</script><img src=x onerror=document.title='broken'>"
SCENES = "..tthhLL...t"


def film(file):
    file.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(file), "w") as container:
        stream = container.add_stream("libx264", rate=10)
        stream.width, stream.height, stream.pix_fmt = 64, 32, "yuv420p"
        for grey in range(0, 250, 20):
            frame = av.VideoFrame.from_ndarray(np.full((32, 64, 3), grey, np.uint8), format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode())


def write_viewed_run(folder):
    """Two policies on two tasks, recorded with images and videos; an error of a policy with a hostile name."""
    records = []
    for policy in ("a", "b"):
        for task in ("reach-v3", "push-v3"):
            for number in range(3):
                record = dataclasses.replace(
                    EPISODE, policy=policy, task=task, episode=number, steps=len(SCENES), queries=6
                )
                if policy == "b" and number:
                    record = dataclasses.replace(failed(record), steps=len(SCENES))
                video = f"videos/{policy}/{task}-{number}.mp4"
                film(folder / video)
                records.append(dataclasses.replace(record, video=video))
                dx = [0.1] * 4 + [0.1 if policy == "a" else 0.2] * 8
                steps = recorded(SCENES, dx=dx, episode=record)
                header = dataclasses.replace(steps.header, cameras=("top",))
                file = folder / step_records_path(record.key)
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_bytes(dataclasses.replace(steps, header=header).to_bytes())
    records.append(broken(dataclasses.replace(EPISODE, policy=HOSTILE), error=HOSTILE))
    made = [with_queries(record, [20.0] * record.queries) for record in records]
    return write_run(folder, [record for record, _ in made], made)


def images(_, records):
    return [{"top": np.full((16, 16, 3), 40 * i, np.uint8)} for i in range(len(records.queries))]


def gripper_crosses_the_image(_, records):
    """Trajectories from left to right through the middle of the only camera, and twice as far as was executed."""
    moments = len(records.steps) + 1
    path = [[((i + 0.5) / moments, 0.5, 1.0, 0.1)] for i in range(2 * moments)]
    plain = ((1.0, 0.0, 0.0, 0.0), (0.0, 1.0, 0.0, 0.0), (0.0, 0.0, 1.0, 0.0))
    predicted = [path[query.step : query.step + 4] for query in records.queries]
    as_it_is = ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0))
    return Trajectories(
        records.actions_sha256,
        path[:moments],
        predicted,
        {"top": [plain]},
        {"top": ("top", as_it_is)},
        ["top"],
        0.5,
    )
