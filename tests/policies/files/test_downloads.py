import hashlib

import pytest

from simloop.policies.files.downloads import DownloadError, PublishedFile


@pytest.fixture
def published(tmp_path, monkeypatch):
    monkeypatch.setenv("SIMLOOP_HOME", str(tmp_path / "home"))
    (tmp_path / "original").write_bytes(b"pieces")
    sha256 = hashlib.sha256(b"pieces").hexdigest()
    return PublishedFile((tmp_path / "original").as_uri(), "tokenizers/model", sha256, 6)


def test_fetches_a_file_once(published, tmp_path):
    published.fetch()
    (tmp_path / "original").unlink()
    assert published.fetch().read_bytes() == b"pieces"


def test_uses_a_manually_copied_file(published, tmp_path):
    (tmp_path / "original").unlink()
    published.path.parent.mkdir(parents=True)
    published.path.write_bytes(b"pieces")
    assert published.fetch().read_bytes() == b"pieces"


def test_rejects_a_file_with_another_content_than_the_known_one(published):
    published.fetch().write_bytes(b"other!")
    with pytest.raises(
        DownloadError, match=r"Wanted the published model of 6 bytes with sha256 .* Delete .*model"
    ):
        published.fetch()


@pytest.mark.parametrize("content", [b"piece", b"other!", b"pieces" * 10])
def test_keeps_no_download_with_another_content(published, tmp_path, content):
    (tmp_path / "original").write_bytes(content)
    with pytest.raises(DownloadError, match=f"got {min(len(content), 7)} bytes .*from file:"):
        published.fetch()
    assert list(published.path.parent.iterdir()) == []


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
