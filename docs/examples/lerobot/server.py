"""Serve a policy of LeRobot in openpi's protocol, with nothing but what its own environment has.

    python server.py CHECKPOINT     at 127.0.0.1 and the port in the environment variable PORT

Images are given to the policy in the order of its image features, vectors as its state.
"""

import os
import struct
import sys
import traceback

import numpy as np
import torch
from aiohttp import WSMsgType, web

NUMBERS = {
    0xCA: ">f", 0xCB: ">d", 0xCC: ">B", 0xCD: ">H", 0xCE: ">I", 0xCF: ">Q",
    0xD0: ">b", 0xD1: ">h", 0xD2: ">i", 0xD3: ">q",
}  # fmt: skip
CONSTANTS = {0xC0: None, 0xC2: False, 0xC3: True}
SIZED = {
    0xC4: ("bytes", ">B"), 0xC5: ("bytes", ">H"), 0xC6: ("bytes", ">I"), 0xD9: ("text", ">B"), 0xDA: ("text", ">H"),
    0xDB: ("text", ">I"), 0xDC: ("list", ">H"), 0xDD: ("list", ">I"), 0xDE: ("map", ">H"), 0xDF: ("map", ">I"),
}  # fmt: skip


class Reader:
    """Reads msgpack with NumPy arrays, of which openpi's messages consist."""

    def __init__(self, data):
        self.data, self.at = data, 0

    def take(self, size):
        if self.at + size > len(self.data):
            raise ValueError("the message ends too early")
        self.at += size
        return self.data[self.at - size : self.at]

    def number(self, form):
        return struct.unpack(form, self.take(struct.calcsize(form)))[0]

    def value(self):
        code = self.number(">B")
        if code < 0x80 or code >= 0xE0:
            return code if code < 0x80 else code - 256
        if code in CONSTANTS:
            return CONSTANTS[code]
        if code in NUMBERS:
            return self.number(NUMBERS[code])
        if code < 0xC0:
            kind = "map" if code < 0x90 else "list" if code < 0xA0 else "text"
            size = code & (31 if kind == "text" else 15)
        else:
            kind, form = SIZED[code]
            size = self.number(form)
        if kind == "map":
            return array_of({self.value(): self.value() for _ in range(size)})
        if kind == "list":
            return [self.value() for _ in range(size)]
        taken = self.take(size)
        return taken.decode() if kind == "text" else taken


def array_of(found):
    """The array that a map encodes; another map unchanged."""
    if b"__ndarray__" not in found:
        return found
    return np.frombuffer(found[b"data"], found[b"dtype"]).reshape(found[b"shape"])


def packed_actions(actions):
    """The message {"actions": actions} of an array [t, a] with t and a below 65536."""
    data = actions.astype("<f4").tobytes()
    entries = {
        "__ndarray__": b"\xc3",
        "data": struct.pack(">BI", 0xC6, len(data)) + data,
        "dtype": text("<f4"),
        "shape": b"\x92" + b"".join(struct.pack(">BH", 0xCD, size) for size in actions.shape),
    }
    array = b"\x84" + b"".join(
        struct.pack(">BB", 0xC4, len(key)) + key.encode() + entries[key] for key in entries
    )
    return b"\x81" + text("actions") + array


def text(short):
    """A text of up to 31 ASCII characters."""
    return bytes([0xA0 | len(short)]) + short.encode()


class Server:
    """Answers observations with chunks of a policy and its processors."""

    def __init__(self, policy, before, after):
        self.policy, self.before, self.after = policy.eval(), before, after

    def actions(self, observation):
        images = [np.array(value) for key, value in flat(observation) if np.ndim(value) == 3]
        vectors = [
            value for _, value in flat(observation) if isinstance(value, np.ndarray) and value.ndim == 1
        ]
        batch = {"observation.state": torch.from_numpy(np.concatenate(vectors).astype(np.float32))[None]}
        for name, image in zip(self.policy.config.image_features, images, strict=False):
            image = image if image.shape[0] == 3 else image.transpose(2, 0, 1)
            batch[name] = torch.from_numpy(np.ascontiguousarray(image)).float()[None] / 255
        with torch.no_grad():
            chunk = self.policy.predict_action_chunk(self.before(batch | {"task": [observation["prompt"]]}))
            return np.stack([self.after(action)[0].cpu().numpy() for action in chunk.unbind(1)])

    async def handle(self, request):
        socket = web.WebSocketResponse(max_msg_size=64 << 20, heartbeat=None)
        await socket.prepare(request)
        await socket.send_bytes(b"\x80")  # Metadata, an empty map.
        async for message in socket:
            if message.type is WSMsgType.BINARY:
                try:
                    await socket.send_bytes(packed_actions(self.actions(Reader(message.data).value())))
                except Exception:
                    await socket.send_str(traceback.format_exc())
        return socket

    def serve(self):
        application = web.Application()
        application.router.add_get("/", self.handle)
        web.run_app(application, host="127.0.0.1", port=int(os.environ["PORT"]), print=None)


def flat(observation):
    """Entries of an observation, those of its maps included, in the order of the client."""
    for key, value in observation.items():
        yield from flat(value) if isinstance(value, dict) else [(key, value)]


def main(checkpoint):
    """Serve the checkpoint in a folder."""
    from lerobot.configs.policies import PreTrainedConfig
    from lerobot.policies.factory import get_policy_class, make_pre_post_processors

    config = PreTrainedConfig.from_pretrained(checkpoint)
    policy = get_policy_class(config.type).from_pretrained(checkpoint, config=config)
    Server(policy, *make_pre_post_processors(config, checkpoint)).serve()


if __name__ == "__main__":
    main(sys.argv[1])
