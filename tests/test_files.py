"""Files appear whole or not at all."""

import os
import threading

import pytest

from funcgrad.files import check_writable, is_stream, write_whole


def test_what_is_there_is_replaced_at_once(tmp_path):
    path = tmp_path / "file"
    write_whole(path, b"old")
    write_whole(path, b"new")
    assert path.read_bytes() == b"new"
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


def test_all_of_it_is_on_the_disk_before_it_takes_its_place(tmp_path, monkeypatch):
    path, events = tmp_path / "file", []
    replace = os.replace

    def fsync(number):
        events.append(("synced", os.fstat(number).st_size))

    def noted(source, target):
        events.append(("replaced", os.stat(source).st_size))
        replace(source, target)

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(os, "replace", noted)
    write_whole(path, b"content")
    assert events == [("synced", 7), ("replaced", 7)]


def test_a_failure_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch):
    path = tmp_path / "file"
    write_whole(path, b"old")

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        write_whole(path, b"new")
    assert path.read_bytes() == b"old"
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


def test_a_link_stays_and_its_target_is_replaced(tmp_path):
    (tmp_path / "folder").mkdir()
    (tmp_path / "link").symlink_to("folder/target")
    for content in (b"new", b"newer"):
        check_writable(tmp_path / "link")
        write_whole(tmp_path / "link", content)
        assert (tmp_path / "link").is_symlink()
        assert (tmp_path / "folder/target").read_bytes() == content
    assert os.listdir(tmp_path / "folder") == ["target"]


def test_a_pipe_is_written_to_and_stays(tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    read = []
    reader = threading.Thread(
        target=lambda: read.append(pipe.read_bytes()), daemon=True
    )
    reader.start()
    check_writable(pipe)
    write_whole(pipe, b"through")
    reader.join(timeout=10)
    assert read == [b"through"]
    assert pipe.is_fifo()


@pytest.fixture
def full(tmp_path):
    """Return a device that is always full, which only this test can lose."""
    path = tmp_path / "full"
    try:
        os.mknod(path, 0o20666, os.makedev(1, 7))
        open(path, "wb").close()
    except OSError as error:
        pytest.skip(f"no device can be made here: {error}")
    return path


def test_a_full_device_says_so_and_stays(full):
    check_writable(full)
    with pytest.raises(OSError, match="No space left"):
        write_whole(full, b"too much")
    assert full.is_char_device()
    assert os.listdir(full.parent) == ["full"]


def test_what_is_open_already_is_added_to(tmp_path, capfd):
    os.write(1, b"header\n")
    # A file here, as capfd's is; where nothing can be renamed, should this ever try.
    write_whole("/dev/fd/1", b"rows\n")
    assert is_stream("/dev/stdout")
    assert not is_stream(tmp_path)
    assert capfd.readouterr().out == "header\nrows\n"


def test_what_cannot_be_written_is_known_before(tmp_path):
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "file").write_text("")
    before = sorted(tmp_path.iterdir())
    for name, reason in {
        "": "Is a directory",
        "no/file": "No such file",
        "file/file": "Not a directory",
        "loop": "Too many levels of symbolic links",
        "x" * 300: "File name too long",
    }.items():
        for attempt in (check_writable, lambda path: write_whole(path, b"new")):
            with pytest.raises(OSError, match=reason):
                attempt(tmp_path / name)
    check_writable(tmp_path / "new")
    check_writable(tmp_path / "file")
    assert sorted(tmp_path.iterdir()) == before


def test_a_name_may_be_as_long_as_the_disk_allows(tmp_path):
    write_whole(tmp_path / ("x" * 255), b"new")
    assert len(os.listdir(tmp_path)) == 1
