"""The gallery of the documentation is what its script makes from the recorded runs."""

from scripts.draw_gallery import ROOT, gallery


def test_the_gallery_is_made_from_its_recorded_runs():
    for name, content in gallery():
        assert (ROOT / "docs" / name).read_bytes() == content, f"{name}: run scripts/draw_gallery.py"
