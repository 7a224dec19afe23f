import pytest

from simloop.policies.files.downloads import DownloadError, PublishedFile


@pytest.fixture
def published(tmp_path, monkeypatch):
    monkeypatch.setenv("SIMLOOP_HOME", str(tmp_path / "home"))
    (tmp_path / "original").write_bytes(b"pieces")
    return PublishedFile((tmp_path / "original").as_uri(), "tokenizers/model")


def test_a_file_is_fetched_once(published, tmp_path):
    published.fetch()
    (tmp_path / "original").unlink()
    assert published.fetch().read_bytes() == b"pieces"


def test_a_file_put_there_by_hand_needs_no_network(published, tmp_path):
    (tmp_path / "original").unlink()
    published.path.parent.mkdir(parents=True)
    published.path.write_bytes(b"by hand")
    assert published.fetch().read_bytes() == b"by hand"


def test_a_file_that_changed_since_its_first_use_is_refused(published):
    published.fetch().write_bytes(b"other pieces")
    with pytest.raises(DownloadError, match="has changed: its sha256 was"):
        published.fetch()


def test_without_network_the_error_says_what_to_put_where(published, tmp_path):
    (tmp_path / "original").unlink()
    with pytest.raises(DownloadError) as error:
        published.fetch()
    for part in (str(published.path), published.url, "SIMLOOP_HOME"):
        assert part in str(error.value)


def test_a_failed_download_leaves_nothing_behind(published, tmp_path):
    (tmp_path / "original").unlink()
    with pytest.raises(DownloadError):
        published.fetch()
    assert list(published.path.parent.iterdir()) == []
