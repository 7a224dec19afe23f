"""The figures of pi0 and pi0.5: a prefix that is read once, and a suffix that is refined in a loop."""

from __future__ import annotations

from simloop.policies.presets import Preset

from .cache_slots import cache_slots
from .canvas import Box
from .drawing import ACTION_EXPERT, ALWAYS, INFERENCE, TRAINING, Drawing, Label
from .grid import (
    GEMMA_HEIGHT,
    LANES_TOP,
    LOOP_X,
    PREFIX_WIDTH,
    PREFIX_X,
    SMALL_HEIGHT,
    STEP_HEIGHT,
    SUFFIX_BOX_RIGHT,
    SUFFIX_BOX_X,
    SUFFIX_WIDTH,
    SUFFIX_X,
    TOKENIZER_WIDTH,
    TOKENIZER_X,
    TWO_LINE_HEIGHT,
    WIDTH,
)
from .observed import ObservedModel, shape_text
from .prefix_lane import BOX_WIDTH, BOX_X, MIDDLE, language_expert, prefix_tokens
from .tokenizer_lane import tokenizer

HEIGHT = 836.0
NAMES = {"pi0": "pi0", "pi05": "pi0.5"}

# Columns of the suffix lane.
ACTIONS_X, TIME_X, TARGET_X = 618.0, 712.0, 785.0
PAIR_X = 556.0  # Left edge of what holds noisy actions and time.
IN_X = 562.0  # Left edge of the projections of actions.
SINES_X = 676.0

# Rows of the suffix lane.
DRAW_Y = 82.0
TARGET_Y = 128.0
PAIR_Y = 196.0
INPUT_Y = 249.0
BESIDE_Y = 314.0
MLP_Y = 367.0
JOIN_Y = 444.0
GEMMA_Y = 500.0
OUT_Y = 628.0
SPLIT_Y = 696.0
LOSS_Y = 758.0


def flow_figure(model: ObservedModel, other: ObservedModel) -> str:
    """The picture of one flow model; what `other` does not have in the same way is marked."""
    config = model.config
    name = NAMES[config.family]
    drawing = Drawing(
        model,
        other=other,
        width=WIDTH,
        height=HEIGHT,
        title=f"The model {name}",
        description=(
            "Tokenizer, prefix path and suffix path from left to right. Keys and values of the prefix "
            "flow into the action expert, which runs once in training and in a loop at inference."
        ),
    )
    drawing.heading(name, f"chunks of {config.action_horizon} actions of size {config.action_dim}")
    upper = GEMMA_Y + GEMMA_HEIGHT + 12 - LANES_TOP
    drawing.lane(TOKENIZER_X, LANES_TOP, TOKENIZER_WIDTH, upper, "Tokenizer", "on the host")
    drawing.lane(PREFIX_X, LANES_TOP, PREFIX_WIDTH, upper, "Prefix", "cameras and prompt, read once")
    noisy = "state and noisy actions" if config.state_as == "token" else "noisy actions"
    lower = HEIGHT - 10 - LANES_TOP
    drawing.lane(SUFFIX_X, LANES_TOP, SUFFIX_WIDTH, lower, "Suffix", f"{noisy}, read in every step")

    tokenizer(drawing)
    language = prefix(drawing)
    pair = noisy_actions_and_time(drawing)
    expert = action_expert(drawing)
    suffix_tokens(drawing, pair, expert)
    shared_attention(drawing, language, expert)
    out = velocity(drawing, expert)
    loop(drawing, pair)
    loss(drawing, out)

    left = TOKENIZER_X + 6
    drawing.legend(left, 640, 440, other=NAMES[other.config.family])
    slots = model.inference["read_prefix"].out.cache.k[2]
    suffix = {"state": 1} if config.state_as == "token" else {}
    suffix["actions"] = config.action_horizon
    cache_slots(
        drawing,
        left,
        748,
        440,
        slots=slots,
        suffix=suffix,
        once="written once",
        again="written anew in every step",
    )
    return drawing.finish()


def prefix(drawing: Drawing) -> Box:
    """The prefix lane; returns the language expert."""
    join = prefix_tokens(drawing, JOIN_Y)
    language = language_expert(drawing, BOX_X, GEMMA_Y, BOX_WIDTH)
    tokens = Label("prefix tokens", drawing.model.inference["embed_prefix"].out.tokens)
    drawing.flow([(MIDDLE, join.bottom), (MIDDLE, language.y)], tokens)
    return language


def noisy_actions_and_time(drawing: Drawing) -> Box:
    """Where a step starts: drawn between data and noise in training, at noise and t = 1 at inference."""
    call = drawing.model.training["flow_target"]
    actions, noise, time = call.inputs
    width = SUFFIX_BOX_RIGHT - PAIR_X
    target = drawing.step(
        PAIR_X,
        TARGET_Y,
        width,
        34,
        "x = t · noise + (1 − t) · actions",
        "u = noise − actions",
        stroke=TRAINING,
    )
    for x, source, label in (
        (PAIR_X + 26, "data", Label("actions", actions)),
        (PAIR_X + 93, "normal", Label("noise", noise)),
        (PAIR_X + 160, "beta", Label("time t", time)),
    ):
        box = drawing.step(x - 22, DRAW_Y, 44, 16, source, stroke=TRAINING)
        drawing.flow([(x, box.bottom), (x, target.y)], label, stroke=TRAINING)
    pair = drawing.step(PAIR_X, PAIR_Y, width, STEP_HEIGHT, "x, t")
    drawing.flow([(ACTIONS_X, target.bottom), (ACTIONS_X, pair.y)], Label("x", call.out[0]), stroke=TRAINING)
    drawing.flow([(TIME_X, target.bottom), (TIME_X, pair.y)], Label("t", time), stroke=TRAINING)

    start = drawing.step(SUFFIX_BOX_X, DRAW_Y, 44, 16, "normal", stroke=INFERENCE)
    x, y = start.middle.x - 6, pair.middle.y
    first = Label("noise\nat t = 1", drawing.model.inference["noise_from_keys"].out)
    drawing.flow([(x, start.bottom), (x, y), (pair.x, y)], first, stroke=INFERENCE, at=(x, y - 28))
    return pair


def action_expert(drawing: Drawing) -> Box:
    """The second expert."""
    config = drawing.model.config.action_expert
    assert config is not None
    adaptive = drawing.model.config.time_conditioning == "adaptive_norm"
    return drawing.module(
        SUFFIX_BOX_X, GEMMA_Y, SUFFIX_BOX_RIGHT - SUFFIX_BOX_X, GEMMA_HEIGHT,
        "Gemma, action expert",
        f"{config.depth} layers of width {config.width}, MLP {config.mlp_dim}",
        f"{config.num_heads} query heads, {config.num_kv_heads} key head of {config.head_dim}",
        "RMS norms with scale, shift and gate from the time" if adaptive else "plain RMS norms",
        paths=["transformer/experts/1"], fill=ACTION_EXPERT,
    )  # fmt: skip


def suffix_tokens(drawing: Drawing, pair: Box, expert: Box) -> None:
    """From noisy actions and time to what the action expert reads."""
    trace = drawing.model.inference
    into = drawing.module(
        IN_X, INPUT_Y, 2 * (ACTIONS_X - IN_X), SMALL_HEIGHT, "action_in_proj",
        paths=["action_in_proj"], fill=ACTION_EXPERT,
    )  # fmt: skip
    sines = drawing.step(
        SINES_X + 4, INPUT_Y, SUFFIX_BOX_RIGHT - SINES_X - 4, SMALL_HEIGHT, "sines and", "cosines"
    )
    (x,), (t, _) = trace["action_in_proj"].inputs, trace["embed_time"].inputs
    drawing.flow([(ACTIONS_X, pair.bottom), (ACTIONS_X, into.y)], Label("x", x))
    drawing.flow([(TIME_X, pair.bottom), (TIME_X, sines.y)], Label("t", t))
    if drawing.model.config.time_conditioning == "concatenate":
        time_beside_actions(drawing, into, sines)
    else:
        time_in_norms(drawing, into, sines, expert)


def time_beside_actions(drawing: Drawing, into: Box, sines: Box) -> None:
    """pi0: an MLP mixes the time into each action token; the state is a token in front of them."""
    trace = drawing.model.inference
    width = SUFFIX_BOX_RIGHT - IN_X
    beside = drawing.step(IN_X, BESIDE_Y, width, STEP_HEIGHT, "join along the width")
    mlp = drawing.module(
        IN_X, MLP_Y, width, TWO_LINE_HEIGHT, ("action_time_mlp_in · swish ·", "action_time_mlp_out"),
        paths=["action_time_mlp_in", "action_time_mlp_out"], fill=ACTION_EXPERT,
    )  # fmt: skip
    state = drawing.module(
        SUFFIX_BOX_X - 2, MLP_Y, 64, TWO_LINE_HEIGHT, "state_proj", paths=["state_proj"], fill=ACTION_EXPERT
    )
    join = drawing.step(
        SUFFIX_BOX_X, JOIN_Y, SUFFIX_BOX_RIGHT - SUFFIX_BOX_X, STEP_HEIGHT, "join along the sequence"
    )
    x, of_state = ACTIONS_X, state.middle.x
    mixed = Label("actions, time", trace["action_time_mlp_in"].inputs[0])
    tokens = Label("suffix tokens", trace["embed_suffix"].out.tokens)
    drawing.flow([(x, into.bottom), (x, beside.y)], Label("actions", trace["action_in_proj"].out))
    drawing.flow([(TIME_X, sines.bottom), (TIME_X, beside.y)], Label("time", trace["embed_time"].out))
    drawing.flow([(x, beside.bottom), (x, mlp.y)], mixed)
    drawing.flow([(x, mlp.bottom), (x, join.y)], Label("action tokens", trace["action_time_mlp_out"].out))
    drawing.flow([(of_state, MLP_Y - 34), (of_state, MLP_Y)], Label("state", trace["state_proj"].inputs[0]))
    drawing.flow(
        [(of_state, state.bottom), (of_state, join.y)], Label("state token", trace["state_proj"].out)
    )
    drawing.flow([(x, join.bottom), (x, GEMMA_Y)], tokens)


def time_in_norms(drawing: Drawing, into: Box, sines: Box, expert: Box) -> None:
    """pi0.5: action tokens stay as they are; the time reaches them through the norms of the expert."""
    trace = drawing.model.inference
    left = ACTIONS_X + 18
    mlp = drawing.module(
        left, MLP_Y - 26, SUFFIX_BOX_RIGHT - left, 69,
        ("time_mlp_in", "· swish ·", "time_mlp_out", "· swish"),
        paths=["time_mlp_in", "time_mlp_out"], fill=ACTION_EXPERT,
    )  # fmt: skip
    condition = Label("condition", trace["embed_suffix"].out.condition)
    tokens = Label("suffix tokens", trace["embed_suffix"].out.tokens)
    drawing.flow([(TIME_X, sines.bottom), (TIME_X, mlp.y)], Label("time", trace["embed_time"].out))
    drawing.flow([(TIME_X, mlp.bottom), (TIME_X, expert.y)], condition, side="left")
    drawing.flow([(ACTIONS_X, into.bottom), (ACTIONS_X, expert.y)], tokens, side="left")


def shared_attention(drawing: Drawing, language: Box, expert: Box) -> None:
    """What reaches the suffix from the prefix: the cache at inference, one joint attention in training."""
    cache = drawing.model.inference["read_prefix"].out.cache
    _, keys, _ = drawing.model.training["heads_of"].out
    middle = (language.right + expert.x) / 2
    to_cache = Label("cache:\nkeys, values, each", cache.k)
    in_layers = Label("in every layer:\nkeys, values, each", keys)
    upper, lower = GEMMA_Y + 38, GEMMA_Y + 54
    drawing.flow(
        [(language.right, upper), (expert.x, upper)],
        to_cache,
        stroke=INFERENCE,
        side="above",
        at=(middle, upper),
    )
    drawing.flow(
        [(language.right, lower), (expert.x, lower)],
        in_layers,
        stroke=TRAINING,
        side="below",
        at=(middle, lower),
    )


def velocity(drawing: Drawing, expert: Box) -> tuple[float, float]:
    """The head of the action expert; returns where its output splits."""
    call = drawing.model.inference["action_out_proj"]
    out = drawing.module(
        IN_X, OUT_Y, 2 * (ACTIONS_X - IN_X), SMALL_HEIGHT, "action_out_proj",
        paths=["action_out_proj"], fill=ACTION_EXPERT,
    )  # fmt: skip
    at_actions = Label("outputs at actions", call.inputs[0])
    drawing.flow([(ACTIONS_X, expert.bottom), (ACTIONS_X, out.y)], at_actions)
    split = (ACTIONS_X, SPLIT_Y)
    drawing.flow([(ACTIONS_X, out.bottom), split], Label("velocity v", call.out), head=False, side="left")
    drawing.canvas.dot(*split, ALWAYS.colour)
    return split


def loop(drawing: Drawing, pair: Box) -> None:
    """Inference: the velocity moves the noisy actions, and they are read again."""
    trace = drawing.model.inference
    x, t = trace["euler_step"].out[0], trace["euler_step"].inputs[3]
    euler = drawing.step(
        SINES_X, SPLIT_Y - 18, SUFFIX_BOX_RIGHT - SINES_X, 36, "x + Δt · v,", "t + Δt", stroke=INFERENCE
    )
    drawing.flow(
        [(ACTIONS_X, SPLIT_Y), (euler.x, SPLIT_Y)],
        Label("v", trace["velocity_from"].out),
        stroke=INFERENCE,
        side="above",
    )
    back = [(euler.right, SPLIT_Y), (LOOP_X, SPLIT_Y), (LOOP_X, pair.middle.y), (pair.right, pair.middle.y)]
    again = Label(f"x {shape_text(x)} and t {shape_text(t)}, {Preset.flow_steps} steps in all")
    drawing.flow(back, again, stroke=INFERENCE, side="along", at=(LOOP_X, 430))
    done = euler.middle.x
    drawing.flow(
        [(done, euler.bottom), (done, euler.bottom + 30)], Label("actions", trace.out), stroke=INFERENCE
    )


def loss(drawing: Drawing, split: tuple[float, float]) -> None:
    """Training: the velocity is compared with that of the straight line."""
    trace = drawing.model.training
    _, target = trace["flow_target"].out
    box = drawing.step(IN_X, LOSS_Y, 2 * (ACTIONS_X - IN_X), 30, "mean of (v − u)²", stroke=TRAINING)
    x, _ = split
    drawing.flow([split, (x, box.y)], Label("v", trace["action_out_proj"].out), stroke=TRAINING)
    start = TARGET_Y + 17
    path = [(SUFFIX_BOX_RIGHT, start), (TARGET_X, start), (TARGET_X, box.middle.y), (box.right, box.middle.y)]
    to_target = Label("target u", target)
    drawing.flow(path, to_target, stroke=TRAINING, side="below", at=(TARGET_X - 52, box.middle.y))
    drawing.flow([(x, box.bottom), (x, box.bottom + 28)], Label("loss", trace.out), stroke=TRAINING)
