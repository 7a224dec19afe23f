import io

from rich.console import Console

from simloop.policies.files.progress import progress_bar


def show(console: Console) -> None:
    with progress_bar("pi0-tiny", unit="bytes", console=console) as update:
        update(1024, 2048)
        update(2048, 2048, text="done")


def test_bar_ends_full_on_a_terminal():
    screen = io.StringIO()
    show(Console(file=screen, width=100, force_terminal=True, color_system=None))
    assert "pi0-tiny" in screen.getvalue()
    assert "2.0/2.0 KiB" in screen.getvalue()
    assert "done" in screen.getvalue()


def test_prints_nothing_to_a_file():
    screen = io.StringIO()
    show(Console(file=screen, width=100))
    assert screen.getvalue().strip() == ""
