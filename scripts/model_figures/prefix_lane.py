"""The prefix lane, the same in all models: cameras and prompt as tokens, and the expert that reads them."""

from __future__ import annotations

from .canvas import Box, Stroke
from .drawing import DETAIL_SIZE, FRAME, GREY, PALIGEMMA, TINY_SIZE, TITLE_SIZE, Drawing, Label, count_text
from .grid import (
    GEMMA_HEIGHT,
    INSET,
    LANES_TOP,
    PREFIX_WIDTH,
    PREFIX_X,
    SMALL_HEIGHT,
    STEP_HEIGHT,
    TABLE_HEIGHT,
    TABLE_WIDTH,
    TABLE_Y,
    TWO_LINE_HEIGHT,
)
from .tokenizer_lane import IDS_X

BOX_X, BOX_WIDTH = PREFIX_X + INSET, PREFIX_WIDTH - 2 * INSET
MIDDLE = PREFIX_X + PREFIX_WIDTH / 2
TEXT_X, IMAGES_X = PREFIX_X + 36, PREFIX_X + 132  # Of the arrows of text tokens and image tokens.

_FRAME_TOP, _FRAME_HEIGHT, _FRAME_INSET = LANES_TOP + 94, 196.0, 14.0
_FRAME_BORDER = Stroke("#b5bdc9", 0.8)
_ARROW_IN_FRAME = 26.0


def prefix_tokens(drawing: Drawing, join_y: float) -> Box:
    """From images and token ids to the tokens of the prefix; returns the box that joins them."""
    trace = drawing.model.inference
    head = image_encoder(drawing)
    table = token_table(drawing, BOX_X, TABLE_Y)
    join = drawing.step(BOX_X, join_y, BOX_WIDTH, STEP_HEIGHT, "join along the sequence")
    embed = trace["embed"]
    y = table.middle.y
    ids = Label("token ids", embed.inputs[0])
    drawing.flow([(IDS_X, y), (table.x, y)], ids, at=(IDS_X + 28, y), side="above")
    drawing.flow([(TEXT_X, table.bottom), (TEXT_X, join.y)], Label("text tokens", embed.out))
    tokens = Label("image tokens", trace["image_encoder"].out.out, len(drawing.model.config.cameras))
    drawing.flow([(IMAGES_X, head.bottom), (IMAGES_X, join.y)], tokens, at=(IMAGES_X, y))
    return join


def image_encoder(drawing: Drawing) -> Box:
    """Cameras and SigLIP; returns the box that image tokens come from."""
    model, trace = drawing.model, drawing.model.inference
    encoder, call = model.config.image_encoder, trace["image_encoder"]
    first, *others = model.config.cameras
    drawing.write(MIDDLE, LANES_TOP + 48, f"{first},", colour=GREY, size=TINY_SIZE)
    drawing.write(MIDDLE, LANES_TOP + 59, ", ".join(others), colour=GREY, size=TINY_SIZE)

    drawing.canvas.rectangle(
        BOX_X, _FRAME_TOP, BOX_WIDTH, _FRAME_HEIGHT, fill=FRAME, stroke=_FRAME_BORDER, radius=4
    )
    count = count_text(model.count("image_encoder"))
    title_y = _FRAME_TOP + 15
    drawing.write(BOX_X + 8, title_y, "SigLIP", size=TITLE_SIZE, anchor="start", bold=True)
    drawing.write(BOX_X + BOX_WIDTH - 8, title_y, count, size=DETAIL_SIZE, anchor="end", colour=GREY)

    x, width, y = BOX_X + _FRAME_INSET, BOX_WIDTH - 2 * _FRAME_INSET, _FRAME_TOP + 26
    images = Label("images", call.inputs[0])
    drawing.flow([(MIDDLE, _FRAME_TOP - 29), (MIDDLE, y)], images, at=(MIDDLE, _FRAME_TOP - 15))
    patch = drawing.module(
        x, y, width, SMALL_HEIGHT,
        f"patches of {encoder.patch_size} × {encoder.patch_size}, positions",
        paths=["image_encoder/patch", "image_encoder/positions"], fill=PALIGEMMA,
    )  # fmt: skip
    y = patch.bottom + _ARROW_IN_FRAME
    drawing.flow([(MIDDLE, patch.bottom), (MIDDLE, y)], Label("patches", call.out.with_positions))
    blocks = drawing.module(
        x, y, width, TWO_LINE_HEIGHT,
        f"{encoder.depth} blocks, layer norm",
        f"{encoder.num_heads} heads of {encoder.head_dim}, MLP {encoder.mlp_dim}",
        paths=["image_encoder/blocks", "image_encoder/final_norm"], fill=PALIGEMMA,
    )  # fmt: skip
    y = blocks.bottom + _ARROW_IN_FRAME
    encoded = Label("patches", trace["image_encoder/head"].inputs[0])
    drawing.flow([(MIDDLE, blocks.bottom), (MIDDLE, y)], encoded)
    return drawing.module(
        x, y, width, SMALL_HEIGHT, "head to the language width", paths=["image_encoder/head"], fill=PALIGEMMA
    )


def token_table(
    drawing: Drawing,
    x: float,
    y: float,
    *,
    width: float = TABLE_WIDTH,
    title: str = "token table",
    shared: bool = False,
) -> Box:
    """The table that embeds token ids; transposed it scores them."""
    rows, columns = drawing.model.parameters["transformer/token_table"]
    return drawing.module(
        x, y, width, TABLE_HEIGHT, title, f"{rows} × {columns}",
        paths=["transformer/token_table"], fill=PALIGEMMA, shared=shared,
    )  # fmt: skip


def language_expert(
    drawing: Drawing, x: float, y: float, width: float, *about: str, shared: bool = False
) -> Box:
    """Gemma with the weights that PaliGemma has."""
    config = drawing.model.config.language
    return drawing.module(
        x, y, width, GEMMA_HEIGHT,
        "Gemma, language expert",
        f"{config.depth} layers of width {config.width}, MLP {config.mlp_dim}",
        f"{config.num_heads} query heads, {config.num_kv_heads} key head of {config.head_dim}",
        *about,
        paths=["transformer/experts/0"], fill=PALIGEMMA, shared=shared,
    )  # fmt: skip
