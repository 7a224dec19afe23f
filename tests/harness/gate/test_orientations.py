import numpy as np
import PIL.Image

from simloop.harness.gate.demonstrations import image_findings
from simloop.harness.gate.orientations import best_match, orientation_of


def scene(seed: int) -> np.ndarray:
    colours = np.random.default_rng(seed).integers(0, 256, (6, 6, 3), np.uint8)
    return np.asarray(PIL.Image.fromarray(colours).resize((96, 96), PIL.Image.Resampling.BICUBIC))


SHOWN = {"base": scene(1), "wrist": scene(2)}


def noisy(image: np.ndarray) -> np.ndarray:
    noise = np.random.default_rng(0).normal(0, 20, image.shape)
    return np.clip(image + noise, 0, 255).astype(np.uint8)


def test_the_exact_change_of_an_image_is_named():
    assert orientation_of(SHOWN["base"][::-1, ::-1], SHOWN["base"]) == "rotated by 180 degrees"
    assert orientation_of(SHOWN["base"] // 2, SHOWN["base"]) is None


def test_a_similar_image_is_recognized_in_every_orientation():
    match = best_match(noisy(SHOWN["base"][::-1]), "base", SHOWN)
    assert (match.camera, match.orientation) == ("base", "upside down and mirrored")
    assert match.correlation > 0.9 > match.as_it_is


def test_turned_and_swapped_images_are_refused_beside_demonstrations():
    assert list(image_findings({name: noisy(image) for name, image in SHOWN.items()}, SHOWN)) == []
    (found,) = image_findings({"base": noisy(SHOWN["base"][::-1, ::-1])}, SHOWN)
    assert found.verdict == "FAIL"
    assert "base is rotated by 180 degrees" in found.text
    (found,) = image_findings({"base": noisy(SHOWN["base"][..., ::-1])}, SHOWN)
    assert found.verdict == "FAIL"
    assert "with red and blue exchanged" in found.text
    found, _ = image_findings({"base": SHOWN["wrist"], "wrist": SHOWN["base"]}, SHOWN)
    assert found.verdict == "FAIL"
    assert found.text.startswith("swapped cameras: base shows what wrist shows in the demonstrations")
    (found,) = image_findings({"base": scene(3)}, SHOWN)
    assert found.verdict == "note"
    assert "resembles no camera" in found.text
