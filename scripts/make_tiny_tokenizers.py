"""Make the small files that the tiny presets for Meta-World come with: tokenizers and statistics.

    python scripts/make_tiny_tokenizers.py [FOLDER]

writes a sentencepiece model in PaliGemma's arrangement, a FAST action tokenizer, and the normalization
statistics of state and actions to FOLDER (`policies/assets/metaworld`). Actions and states come from
episodes of the scripted experts. Everything is drawn from fixed seeds: running it again writes the same
files. About a minute on one core, nothing is rendered.
"""

from __future__ import annotations

import io
import itertools
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import sentencepiece
from sentencepiece import sentencepiece_model_pb2

from simloop.envs.interface import RenderSettings
from simloop.envs.registry import resolve_tasks, suite
from simloop.harness.adapters.registry import find_adapter
from simloop.policies.interface import Query
from simloop.policies.scripted import scripted_policy
from simloop.policies.tokenizers.fast_actions import fit_fast_actions
from simloop.policies.tokenizers.prompts import (
    ACTIONS_BEGIN,
    ACTIONS_END,
    fast_prompt,
    instruction_prompt,
    state_prompt,
)
from simloop.policies.tokenizers.sentencepiece_model import LOCATION_PIECES, SEGMENT_PIECES, SPECIAL_IDS
from simloop.policies.transforms.normalization import Normalizer, NormStats, RunningStats, save_norm_stats

FOLDER = Path(__file__).parent.parent / "policies" / "assets" / "metaworld"

ORDINARY_PIECES = 768  # 4 special, the newline, 256 bytes, and about 500 learnt from the sentences below.
USER_DEFINED = 4  # Piece types of sentencepiece's protocol buffer.
PROMPTS_PER_SENTENCE = 2

CHUNK_STEPS = 16
CHUNK_STRIDE = 4
EPISODES_PER_TASK = 4
ACTION_TOKENS = 512

# Words that people use to tell arms what to do, so that instructions outside Meta-World stay short too.
VERBS = (
    "pick up",
    "push",
    "pull",
    "slide",
    "lift",
    "place",
    "move",
    "grasp",
    "put",
    "turn",
    "press",
    "stack",
)
VERBS_OF_STATE = ("open", "close", "lock", "unlock", "reach for", "rotate", "wipe", "fold")
COLOURS = ("", "red ", "green ", "blue ", "black ", "white ", "yellow ")
OBJECTS = (
    "block",
    "cube",
    "bowl",
    "cup",
    "mug",
    "plate",
    "box",
    "ball",
    "can",
    "bottle",
    "book",
    "towel",
    "pen",
    "spoon",
)
FIXTURES = (
    "drawer",
    "door",
    "window",
    "cabinet",
    "microwave",
    "faucet",
    "lever",
    "handle",
    "button",
    "stove",
    "lid",
)
PLACES = (
    "on the table", "into the basket", "to the left", "to the right", "on the plate", "in the drawer",
    "to the goal", "behind the wall", "next to the box", "in front of the cabinet", "on the top shelf",
    "onto the peg", "into the hole",
)  # fmt: skip


def main() -> None:
    """Write all files."""
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "sentencepiece.model").write_bytes(sentencepiece_model())
    states, actions = expert_episodes()
    stats = statistics(states, actions)
    save_norm_stats(folder / "norm_stats.json", stats)
    fast = fit_fast_actions(list(action_chunks(actions, stats)), vocab_size=ACTION_TOKENS)
    fast.save(folder / "fast")
    lengths = [len(fast.encode(chunk)) for chunk in action_chunks(actions, stats)]
    print(f"{len(lengths)} chunks take {np.mean(lengths):.1f} tokens on average, {max(lengths)} at most.")
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        print(f"{path.stat().st_size:8d} bytes  {path}")


def sentencepiece_model() -> bytes:
    """Train on prompts, then put the location and segmentation pieces at the end."""
    trained = io.BytesIO()
    sentencepiece.SentencePieceTrainer.Train(
        sentence_iterator=training_lines(),
        model_writer=trained,
        model_type="bpe",
        vocab_size=ORDINARY_PIECES,
        character_coverage=1.0,
        byte_fallback=True,
        split_digits=True,
        normalization_rule_name="identity",
        add_dummy_prefix=False,
        remove_extra_whitespaces=False,
        user_defined_symbols=["\n"],
        pad_id=SPECIAL_IDS["pad"],
        eos_id=SPECIAL_IDS["eos"],
        bos_id=SPECIAL_IDS["bos"],
        unk_id=SPECIAL_IDS["unk"],
        pad_piece="<pad>",
        eos_piece="<eos>",
        bos_piece="<bos>",
        num_threads=1,
        minloglevel=2,
    )
    model = sentencepiece_model_pb2.ModelProto()
    model.ParseFromString(trained.getvalue())
    appended = [f"<loc{i:04d}>" for i in range(LOCATION_PIECES)] + [
        f"<seg{i:03d}>" for i in range(SEGMENT_PIECES)
    ]
    for piece in appended:
        model.pieces.add(piece=piece, score=0.0, type=USER_DEFINED)
    model.trainer_spec.vocab_size = len(model.pieces)
    return model.SerializeToString(deterministic=True)


def training_lines() -> Iterator[str]:
    """Prompts in every format, with states drawn at random."""
    rng = np.random.default_rng(0)
    for sentence in sentences():
        for _ in range(PROMPTS_PER_SENTENCE):
            state = rng.uniform(-1, 1, 4)
            yield instruction_prompt(sentence)
            yield from state_prompt(sentence, state).split("\n")
            yield from fast_prompt(sentence, state).split("\n")
            yield ACTIONS_BEGIN + ACTIONS_END


def sentences() -> Iterator[str]:
    """The instructions of Meta-World, each as often as it takes to be learnt, and plain English."""
    for _ in range(10):
        for task in suite("metaworld").tasks():
            yield task.instruction
    for i, (verb, thing, place) in enumerate(itertools.product(VERBS, OBJECTS, PLACES)):
        yield f"{verb} the {COLOURS[i % len(COLOURS)]}{thing} {place}"
    for verb, fixture in itertools.product(VERBS_OF_STATE, FIXTURES):
        yield f"{verb} the {fixture}"


def expert_episodes() -> tuple[list[np.ndarray], list[np.ndarray]]:
    """States [t, s] and actions [t, a] of the scripted experts on the ten tasks of MT10."""
    expert = scripted_policy("expert")
    adapter = find_adapter("metaworld", expert.spec)
    states, actions = [], []
    for task in resolve_tasks("metaworld", ["MT10"]):
        env = suite("metaworld").make(task.name, RenderSettings())
        for seed in range(EPISODES_PER_TASK):
            env.reset(seed)
            episode: list[tuple[np.ndarray, np.ndarray]] = []
            success = False
            while not success and len(episode) < task.max_steps:
                query: Query = adapter.query(env, expert.spec, {}, task.instruction, key=0)
                action = expert.act(query)
                episode.append((query.state, action))
                success = env.step(adapter.actions(task, action[None])[0]).success
            states.append(np.stack([state for state, _ in episode]))
            actions.append(np.stack([action for _, action in episode]))
        env.close()
    return states, actions


def statistics(states: list[np.ndarray], actions: list[np.ndarray]) -> NormStats:
    """Statistics over all steps."""
    stats = {}
    for key, episodes in (("state", states), ("actions", actions)):
        running = RunningStats()
        running.update(np.concatenate(episodes).astype(np.float64))
        stats[key] = running.stats()
    return stats


def action_chunks(episodes: list[np.ndarray], stats: NormStats) -> Iterator[np.ndarray]:
    """Normalized chunks, and two at the corners of the range, so that their coefficients can be written."""
    size = episodes[0].shape[1]
    yield np.ones((CHUNK_STEPS, size))
    yield -np.ones((CHUNK_STEPS, size))
    normalizer = Normalizer("quantile", stats["actions"])
    for episode in episodes:
        normalized = normalizer.normalize(episode.astype(np.float64))
        for start in range(0, len(episode) - CHUNK_STEPS + 1, CHUNK_STRIDE):
            yield normalized[start : start + CHUNK_STEPS]


if __name__ == "__main__":
    main()
