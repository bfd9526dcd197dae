"""What may already be at the destination, and who else may be working on it."""

from __future__ import annotations

import hashlib
import os
import socket
import stat
import threading
import time
from pathlib import Path

import pytest

from hydraflow.api import fetch
from hydraflow.errors import (
    DestinationExistsError,
    DigestMismatchError,
    HydraError,
    StorageError,
)
from hydraflow.models import Outcome, Verification
from tests.faults.fronts import MIB, noise

DATA = noise(9 * MIB)
SMALL = noise(1000)
SHA256 = hashlib.sha256(SMALL).hexdigest()
DATE = "Wed, 01 Jan 2025 00:00:00 GMT"


@pytest.fixture
def url(origin):
    return origin.add("/small.bin", SMALL, last_modified=DATE)


@pytest.fixture
def get(settings):
    def get(url, dest, **options):
        return fetch(url, dest, settings=settings, **options)

    return get


def names(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


class TestPresent:
    def test_right_digest_asks_nobody(self, origin, url, tmp_path, get):
        (tmp_path / "x").write_bytes(SMALL)
        result = get(url, tmp_path / "x", digest=f"sha256:{SHA256}")
        assert (result.outcome, result.requests) == (Outcome.ALREADY_PRESENT, 0)
        assert result.verification is Verification.CALLER
        assert origin.ledger == []

    def test_wrong_digest(self, url, tmp_path, get):
        (tmp_path / "x").write_bytes(b"mine")
        with pytest.raises(DestinationExistsError, match="sha256"):
            get(url, tmp_path / "x", digest=f"sha256:{SHA256}")
        assert (tmp_path / "x").read_bytes() == b"mine"
        assert names(tmp_path) == ["x"]

    def test_fetched_before(self, origin, url, tmp_path, get):
        assert get(url, tmp_path / "x").outcome is Outcome.FETCHED
        served = origin.bytes_served()
        again = get(url, tmp_path / "x")
        assert again.outcome is Outcome.ALREADY_PRESENT
        assert origin.bytes_served() <= served + 1

    def test_server_digest(self, origin, tmp_path, get):
        headers = {"x-goog-hash": "md5=" + __import__("base64").b64encode(hashlib.md5(SMALL).digest()).decode()}
        url = origin.add("/g.bin", SMALL, headers=headers)
        (tmp_path / "x").write_bytes(SMALL)
        assert get(url, tmp_path / "x").verification is Verification.SERVER
        (tmp_path / "y").write_bytes(SMALL[:-1] + b"?")
        with pytest.raises(DestinationExistsError):
            get(url, tmp_path / "y")

    @pytest.mark.parametrize("mine", [b"", SMALL[:999], SMALL + b"x"])
    def test_other_size(self, url, tmp_path, get, mine):
        (tmp_path / "x").write_bytes(mine)
        with pytest.raises(DestinationExistsError, match="1,000"):
            get(url, tmp_path / "x")
        assert (tmp_path / "x").read_bytes() == mine

    def test_other_time(self, url, tmp_path, get):
        (tmp_path / "x").write_bytes(bytes(1000))
        with pytest.raises(DestinationExistsError, match="time"):
            get(url, tmp_path / "x")

    def test_size_that_the_server_does_not_tell(self, origin, tmp_path, get):
        url = origin.add("/chunked.bin", SMALL, ranges=False)
        rule = origin.when().chunked()
        (tmp_path / "x").write_bytes(SMALL)
        with pytest.raises(DestinationExistsError) as caught:
            get(url, tmp_path / "x")
        assert rule.fired == 1
        assert "has 0" not in str(caught.value)

    def test_overwrite(self, url, tmp_path, get):
        (tmp_path / "x").write_bytes(b"old")
        assert get(url, tmp_path / "x", overwrite=True).outcome is Outcome.FETCHED
        assert (tmp_path / "x").read_bytes() == SMALL
        assert names(tmp_path) == ["x"]

    def test_overwrite_keeps_the_old_until_the_new_is_verified(self, origin, url, tmp_path, get):
        (tmp_path / "x").write_bytes(b"old")
        rule = origin.when().flip(3)
        with pytest.raises(DigestMismatchError):
            get(url, tmp_path / "x", overwrite=True, digest=f"sha256:{SHA256}")
        assert rule.fired == 1
        assert (tmp_path / "x").read_bytes() == b"old"
        assert names(tmp_path) == ["x"]

    def test_not_found_leaves_the_old(self, origin, tmp_path, get):
        (tmp_path / "x").write_bytes(b"old")
        with pytest.raises(HydraError):
            get(f"{origin.url}/none", tmp_path / "x", overwrite=True)
        assert (tmp_path / "x").read_bytes() == b"old"
        assert names(tmp_path) == ["x"]

    def test_appears_meanwhile(self, origin, tmp_path, get):
        """Somebody else's file is not replaced, though it was not there at the beginning."""
        url = origin.add("/x.bin", DATA)
        rule = origin.when(request=2).head_delay(0.3)

        def intrude():
            while not rule.matched >= 2:
                time.sleep(0.01)
            (tmp_path / "x").write_bytes(b"theirs")

        thread = threading.Thread(target=intrude)
        thread.start()
        with pytest.raises(DestinationExistsError):
            get(url, tmp_path / "x")
        thread.join()
        assert (tmp_path / "x").read_bytes() == b"theirs"


class TestOddDestinations:
    def test_directory(self, url, tmp_path, get):
        assert get(url, tmp_path).path == tmp_path / "small.bin"

    def test_directory_in_the_way(self, url, tmp_path, get):
        (tmp_path / "small.bin").mkdir()
        with pytest.raises(StorageError, match="is a directory"):
            get(url, tmp_path, overwrite=True)
        assert names(tmp_path) == ["small.bin"]

    def test_new_directories(self, url, tmp_path, get):
        assert get(url, f"{tmp_path}/a/b/c/").path == tmp_path / "a/b/c/small.bin"

    def test_file_as_directory(self, url, tmp_path, get):
        (tmp_path / "f").write_bytes(b"")
        with pytest.raises(StorageError):
            get(url, tmp_path / "f" / "x")

    @pytest.mark.parametrize("overwrite", [False, True])
    def test_fifo(self, url, tmp_path, get, overwrite):
        os.mkfifo(tmp_path / "p")
        with pytest.raises(StorageError, match="neither"):
            get(url, tmp_path / "p", overwrite=overwrite)
        assert names(tmp_path) == ["p"]

    def test_device(self, url, get):
        with pytest.raises(StorageError, match="neither"):
            get(url, "/dev/null", overwrite=True)

    def test_symlink_to_the_same(self, url, tmp_path, get):
        (tmp_path / "real").write_bytes(SMALL)
        (tmp_path / "link").symlink_to("real")
        assert get(url, tmp_path / "link", digest=f"sha256:{SHA256}").outcome is Outcome.ALREADY_PRESENT

    def test_symlink_is_replaced_and_its_target_is_not(self, url, tmp_path, get):
        (tmp_path / "real").write_bytes(b"precious")
        (tmp_path / "link").symlink_to("real")
        get(url, tmp_path / "link", overwrite=True)
        assert (tmp_path / "real").read_bytes() == b"precious"
        assert not (tmp_path / "link").is_symlink()
        assert (tmp_path / "link").read_bytes() == SMALL

    def test_dangling_symlink(self, url, tmp_path, get):
        (tmp_path / "link").symlink_to("nowhere")
        with pytest.raises(StorageError):
            get(url, tmp_path / "link")
        assert names(tmp_path) == ["link"]

    @pytest.mark.parametrize("overwrite", [False, True])
    def test_socket(self, url, tmp_path, get, overwrite):
        with socket.socket(socket.AF_UNIX) as listening:
            listening.bind(os.path.relpath(tmp_path / "s"))  # such paths are short
            with pytest.raises(StorageError, match="neither"):
                get(url, tmp_path / "s", overwrite=overwrite)
        assert names(tmp_path) == ["s"]

    @pytest.mark.parametrize("kind", ["fifo", "/dev/zero", "socket"])
    def test_symlink_to_no_file(self, url, tmp_path, get, kind):
        """It is not read either: that could take for ever."""
        target = tmp_path / "target"
        if kind == "fifo":
            os.mkfifo(target)
        elif kind == "socket":
            os.mknod(target, stat.S_IFSOCK | 0o600)
        else:
            target.symlink_to(kind)
        (tmp_path / "link").symlink_to("target")
        with pytest.raises(DestinationExistsError, match="a link to something that is no file"):
            get(url, tmp_path / "link", digest=f"sha256:{SHA256}")
        assert get(url, tmp_path / "link", overwrite=True).path.read_bytes() == SMALL
        assert not (tmp_path / "link").is_symlink()
        assert names(tmp_path) == ["link", "target"]

    def test_symlink_to_a_directory(self, url, tmp_path, get):
        (tmp_path / "real").mkdir()
        (tmp_path / "small.bin").symlink_to("real")
        with pytest.raises(StorageError, match="is a directory"):
            get(url, tmp_path, overwrite=True)
        assert (tmp_path / "small.bin").is_symlink()
        assert get(url, tmp_path / "small.bin").path == tmp_path / "small.bin" / "small.bin"

    def test_dangling_symlink_is_replaced(self, url, tmp_path, get):
        """What it names is not made."""
        (tmp_path / "link").symlink_to("nowhere")
        assert get(url, tmp_path / "link", overwrite=True).path.read_bytes() == SMALL
        assert names(tmp_path) == ["link"]

    def test_a_directory_that_appears_meanwhile(self, origin, tmp_path, get):
        url = origin.add("/x.bin", DATA)
        rule = origin.when(request=2).head_delay(0.3)

        def intrude():
            while not rule.matched >= 2:
                time.sleep(0.01)
            (tmp_path / "x").mkdir()

        thread = threading.Thread(target=intrude)
        thread.start()
        with pytest.raises(StorageError):
            get(url, tmp_path / "x", overwrite=True)
        thread.join()
        assert (tmp_path / "x").is_dir()
        assert names(tmp_path / "x") == []

    def test_no_permission(self, url, tmp_path, get, monkeypatch):
        def refuse(*_args, **_options):
            raise PermissionError(13, "Permission denied")

        monkeypatch.setattr(os, "mkdir", refuse)
        with pytest.raises(StorageError, match="Permission denied") as caught:
            get(url, tmp_path / "x")
        assert caught.value.errno == 13

    @pytest.mark.parametrize("name", ["a" * 240, "ü" * 100, "x y", "-x", "\udcff"])
    def test_names(self, url, tmp_path, get, name):
        assert get(url, tmp_path / name).path.read_bytes() == SMALL

    def test_name_too_long_for_anything(self, url, tmp_path, get):
        with pytest.raises(StorageError):
            get(url, tmp_path / ("a" * 300))


class TestForeignState:
    """What lies in the state directory and is not ours is never followed, waited for or trusted."""

    @pytest.fixture
    def state(self, tmp_path):
        state = tmp_path / ".x.hydra"
        state.mkdir(mode=0o700)
        return state

    @pytest.mark.parametrize("content", [b"", b"HYDRAJ1\n", b"HYDRAJ1\n" + bytes(100), b"\x80pickle", noise(5000)])
    def test_journal_of_nonsense(self, url, tmp_path, get, state, content):
        (state / "journal").write_bytes(content)
        (state / "part-00000000").write_bytes(b"evil")
        assert get(url, tmp_path / "x").path.read_bytes() == SMALL
        assert names(tmp_path) == ["x"]

    def test_journal_is_a_fifo(self, url, tmp_path, get, state):
        os.mkfifo(state / "journal")
        assert get(url, tmp_path / "x").path.read_bytes() == SMALL

    @pytest.mark.parametrize("name", ["journal", "lock"])
    def test_symlinks_out(self, url, tmp_path, get, state, name):
        victim = tmp_path / "victim"
        victim.write_bytes(b"precious")
        (state / name).symlink_to(victim)
        try:
            get(url, tmp_path / "x")
        except StorageError:
            assert not (tmp_path / "x").exists()
        assert victim.read_bytes() == b"precious"

    def test_state_is_a_symlink(self, url, tmp_path, get):
        (tmp_path / "elsewhere").mkdir()
        (tmp_path / ".x.hydra").symlink_to("elsewhere")
        with pytest.raises(StorageError):
            get(url, tmp_path / "x")
        assert names(tmp_path / "elsewhere") == []

    def test_state_is_a_file(self, url, tmp_path, get):
        (tmp_path / ".x.hydra").write_bytes(b"")
        with pytest.raises(StorageError):
            get(url, tmp_path / "x")
        assert (tmp_path / ".x.hydra").read_bytes() == b""

    def test_strangers_in_the_state_directory_stay(self, url, tmp_path, get, state):
        (state / "notes.txt").write_bytes(b"theirs")
        assert get(url, tmp_path / "x").path.read_bytes() == SMALL
