import pytest

from simloop.policies.files.downloads import DownloadError, PublishedFile


@pytest.fixture
def published(tmp_path, monkeypatch):
    monkeypatch.setenv("SIMLOOP_HOME", str(tmp_path / "home"))
    (tmp_path / "original").write_bytes(b"pieces")
    return PublishedFile((tmp_path / "original").as_uri(), "tokenizers/model")


def test_fetches_a_file_once(published, tmp_path):
    published.fetch()
    (tmp_path / "original").unlink()
    assert published.fetch().read_bytes() == b"pieces"


def test_uses_a_manually_copied_file(published, tmp_path):
    (tmp_path / "original").unlink()
    published.path.parent.mkdir(parents=True)
    published.path.write_bytes(b"by hand")
    assert published.fetch().read_bytes() == b"by hand"


def test_rejects_a_changed_file(published):
    published.fetch().write_bytes(b"other pieces")
    with pytest.raises(DownloadError, match="has changed: its sha256 was"):
        published.fetch()


def test_error_names_the_file_to_copy(published, tmp_path):
    (tmp_path / "original").unlink()
    with pytest.raises(DownloadError) as error:
        published.fetch()
    for part in (str(published.path), published.url, "SIMLOOP_HOME"):
        assert part in str(error.value)


def test_removes_partial_downloads(published, tmp_path):
    (tmp_path / "original").unlink()
    with pytest.raises(DownloadError):
        published.fetch()
    assert list(published.path.parent.iterdir()) == []
