"""The figure of pi0-FAST: a prefix that is read once, and actions that are generated as text behind it."""

from __future__ import annotations

from simloop.policies.presets import Preset
from simloop.policies.tokenizers.prompts import ACTIONS_BEGIN, ACTIONS_END

from .cache_slots import cache_slots
from .canvas import Box
from .drawing import INFERENCE, TRAINING, Drawing, Label
from .grid import (
    LANES_TOP,
    LOOP_X,
    PREFIX_WIDTH,
    PREFIX_X,
    STEP_HEIGHT,
    SUFFIX_BOX_RIGHT,
    SUFFIX_BOX_X,
    SUFFIX_WIDTH,
    SUFFIX_X,
    TABLE_WIDTH,
    TABLE_Y,
    TOKENIZER_WIDTH,
    TOKENIZER_X,
    WIDTH,
)
from .observed import ObservedModel, Shape, shape_text
from .prefix_lane import BOX_WIDTH, BOX_X, language_expert, prefix_tokens, token_table
from .tokenizer_lane import FILL_WIDTH, MIDDLE, X, tokenizer
from .tokenizer_lane import WIDTH as TOKENIZER_BOX_WIDTH

HEIGHT = 896.0

# Columns: teacher forcing and reading in the prefix lane, decoding in the suffix lane.
TRAINING_X, READING_X = PREFIX_X + 28, PREFIX_X + 200
DECODING_X = 622.0
FIRST_LOGITS_X = 434.0
TARGETS_X = X - 5

# Rows.
SUFFIX_TOP = 292.0
JOIN_Y = 430.0
ALIGN_Y = 484.0
GEMMA_Y = 540.0
HEAD_Y = 668.0
PICK_Y = 750.0
DETOKENIZER_Y = 812.0


def token_figure(model: ObservedModel) -> str:
    """The picture of the autoregressive model."""
    config = model.config
    drawing = Drawing(
        model,
        width=WIDTH,
        height=HEIGHT,
        title="The model pi0-FAST",
        description=(
            "Tokenizers, prefix path and suffix path from left to right. One transformer reads cameras and "
            "prompt, and at inference goes on token by token with its cache; in training it reads the "
            "answer at once."
        ),
    )
    drawing.heading("pi0-FAST", f"chunks of {config.action_horizon} actions of size {config.action_dim}")
    bottom = HEIGHT - 10
    drawing.lane(TOKENIZER_X, LANES_TOP, TOKENIZER_WIDTH, bottom - LANES_TOP, "Tokenizers", "on the host")
    drawing.lane(
        PREFIX_X, LANES_TOP, PREFIX_WIDTH, bottom - LANES_TOP, "Prefix", "cameras and prompt, read once"
    )
    drawing.lane(
        SUFFIX_X, SUFFIX_TOP, SUFFIX_WIDTH, bottom - SUFFIX_TOP, "Suffix", "the answer, read token by token"
    )
    drawing.legend(SUFFIX_X + 6, LANES_TOP + 18, SUFFIX_WIDTH)
    cache = model.inference["read_prompt"].out[1].cache
    cache_slots(
        drawing, SUFFIX_X + 2, LANES_TOP + 128, SUFFIX_WIDTH - 4,
        slots=cache.k[2], suffix={"generated": Preset.answer_tokens},
        once="written once, padding first", again="filled one by one",
    )  # fmt: skip

    filled = tokenizer(drawing)
    action_tokenizer(drawing, filled)
    language, head = prefix(drawing)
    loss(drawing, filled, head)
    decoding = decoder(drawing, head)
    middle, y = (language.right + decoding.x) / 2, GEMMA_Y + 40
    drawing.flow(
        [(language.right, y), (decoding.x, y)], Label("cache:\nkeys, values, each", cache.k),
        stroke=INFERENCE, side="above", at=(middle, y),
    )  # fmt: skip
    return drawing.finish()


def action_tokenizer(drawing: Drawing, filled: Box) -> None:
    """In training the actions are a part of the text."""
    config = drawing.model.config
    chunk = Shape((config.action_horizon, config.action_dim))
    box = drawing.step(
        X,
        478,
        TOKENIZER_BOX_WIDTH,
        58,
        "FAST tokenizer:",
        "cosine transform,",
        "rounding, byte pairs",
        stroke=TRAINING,
    )
    x = X + FILL_WIDTH / 2
    ids = Label(f"answer ids,\n“{ACTIONS_BEGIN}… {ACTIONS_END}”")
    drawing.flow([(x, box.y), (x, filled.bottom)], ids, stroke=TRAINING)
    drawing.flow([(MIDDLE, box.bottom + 34), (MIDDLE, box.bottom)], Label("actions", chunk), stroke=TRAINING)


def prefix(drawing: Drawing) -> tuple[Box, Box]:
    """The prefix lane, for reading and for teacher forcing; returns the transformer and its head."""
    training, inference = drawing.model.training, drawing.model.inference
    join = prefix_tokens(drawing, JOIN_Y)
    align = drawing.step(READING_X - 76, ALIGN_Y, 88, STEP_HEIGHT, "align to the right", stroke=INFERENCE)
    language = language_expert(drawing, BOX_X, GEMMA_Y, BOX_WIDTH)
    before, aligned = inference["embed_prefix"].out.tokens, inference["align_right"].out[0]
    drawing.flow(
        [(READING_X, join.bottom), (READING_X, align.y)],
        Label("prefix tokens", before),
        stroke=INFERENCE,
        side="left",
    )
    drawing.flow(
        [(READING_X, align.bottom), (READING_X, language.y)],
        Label("prefix tokens", aligned),
        stroke=INFERENCE,
        side="left",
    )
    forced = Label("all but\nthe last", training["transformer"].inputs[0][0])
    drawing.flow([(TRAINING_X, join.bottom), (TRAINING_X, language.y)], forced, stroke=TRAINING)

    head = token_table(
        drawing, BOX_X, HEAD_Y, width=BOX_WIDTH, title="head: token table, transposed", shared=True
    )
    predicting = Label("outputs at text", training["predicting_outputs"].out)
    last = Label("last output", inference["logits"].inputs[0])
    drawing.flow([(TRAINING_X, language.bottom), (TRAINING_X, head.y)], predicting, stroke=TRAINING)
    drawing.flow([(READING_X, language.bottom), (READING_X, head.y)], last, stroke=INFERENCE, side="left")
    return language, head


def loss(drawing: Drawing, filled: Box, head: Box) -> None:
    """Training: every text token is predicted from those before it."""
    trace = drawing.model.training
    logits = trace["logits"].out
    box = drawing.step(BOX_X, PICK_Y, 130, 32, "cross-entropy of the", "answer’s tokens", stroke=TRAINING)
    drawing.flow([(TRAINING_X, head.bottom), (TRAINING_X, box.y)], Label("logits", logits), stroke=TRAINING)
    y = box.middle.y
    path = [(filled.x, filled.middle.y), (TARGETS_X, filled.middle.y), (TARGETS_X, y), (box.x, y)]
    targets = Label("token ids from the\nsecond on, as targets", Shape(logits[:2]))
    drawing.flow(path, targets, stroke=TRAINING, at=(TARGETS_X + 2, y - 20))
    drawing.flow(
        [(TRAINING_X, box.bottom), (TRAINING_X, box.bottom + 34)], Label("loss", trace.out), stroke=TRAINING
    )


def decoder(drawing: Drawing, prefix_head: Box) -> Box:
    """Inference: the loop over tokens; returns the transformer that reads one token."""
    model = drawing.model
    trace, config = model.inference, model.config
    _, of_token = trace.all("embed")[:2]
    x = DECODING_X
    table = token_table(drawing, x - TABLE_WIDTH / 2, TABLE_Y, shared=True)
    gemma = language_expert(
        drawing,
        SUFFIX_BOX_X,
        GEMMA_Y,
        SUFFIX_BOX_RIGHT - SUFFIX_BOX_X,
        "writes one more slot of the cache",
        shared=True,
    )
    head = token_table(
        drawing, SUFFIX_BOX_X + 38, HEAD_Y, width=180, title="head: token table, transposed", shared=True
    )
    pick = drawing.step(x - 60, PICK_Y, 120, 32, "the likeliest token", stroke=INFERENCE)
    token = trace["decode"].inputs[1]
    logits, _ = trace["decode"].out
    drawing.flow([(x, table.bottom), (x, gemma.y)], Label("token", of_token.out), stroke=INFERENCE)
    drawing.flow(
        [(x, gemma.bottom), (x, head.y)], Label("output", trace["logits"].inputs[0]), stroke=INFERENCE
    )
    drawing.flow([(x, head.bottom), (x, pick.y)], Label("logits", logits), stroke=INFERENCE)
    y, head_y = pick.middle.y, prefix_head.middle.y
    path = [(prefix_head.right, head_y), (FIRST_LOGITS_X, head_y), (FIRST_LOGITS_X, y), (pick.x, y)]
    first = Label("logits of the\nfirst token", trace["read_prompt"].out[0])
    drawing.flow(path, first, stroke=INFERENCE, at=(FIRST_LOGITS_X, y - 22))
    loop = [(pick.right, y), (LOOP_X, y), (LOOP_X, table.middle.y), (table.right, table.middle.y)]
    again = f"token id {shape_text(token)}, until the end token, at most {Preset.answer_tokens} in all"
    drawing.flow(loop, Label(again), stroke=INFERENCE, side="along", at=(LOOP_X, 560))
    done = drawing.step(
        x - 100,
        DETOKENIZER_Y,
        200,
        32,
        "FAST tokenizer, on the host:",
        "byte pairs, inverse cosine transform",
        stroke=INFERENCE,
    )
    drawing.flow([(x, pick.bottom), (x, done.y)], Label("token ids", trace.out.tokens), stroke=INFERENCE)
    chunk = Label("actions", Shape((config.action_horizon, config.action_dim)))
    drawing.flow([(x, done.bottom), (x, done.bottom + 30)], chunk, stroke=INFERENCE)
    return gemma
