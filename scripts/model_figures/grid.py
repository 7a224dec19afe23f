"""Where things are in every figure: three lanes side by side, and rows that they share."""

WIDTH = 804.0
LANES_TOP = 44.0
TOKENIZER_X, TOKENIZER_WIDTH = 10.0, 142.0
PREFIX_X, PREFIX_WIDTH = 162.0, 222.0
SUFFIX_X, SUFFIX_WIDTH = 484.0, 310.0
INSET = 10.0  # Of boxes in a lane.

TABLE_Y, TABLE_WIDTH, TABLE_HEIGHT = 352.0, 100.0, 44.0  # Token ids meet the model in this row.
GEMMA_HEIGHT = 92.0
SMALL_HEIGHT, TWO_LINE_HEIGHT = 31.0, 43.0  # Of modules with one and two lines over their size.
STEP_HEIGHT = 19.0

SUFFIX_BOX_X, SUFFIX_BOX_RIGHT = SUFFIX_X + INSET, 750.0
LOOP_X = 770.0  # What goes back up, right of all boxes.
