"""The error tree: its shape, its exit codes, and the way between processes."""

from __future__ import annotations

import copy
import errno
import inspect
import pickle

import pytest

from hydraflow import errors

CHANGED = {"was": '"a"', "now": '"b"'}
SIZES = {"expected": 10, "actual": 9}
DIGESTS = {"algorithm": "md5", "expected": "0" * 32, "actual": "1" * 32, "source": "caller"}

#: Class, parent in the tree, other base, exit code, and what it needs or may have beyond the common arguments.
TREE = [
    (errors.HydraError, Exception, None, 1, {}),
    (errors.ConfigurationError, errors.HydraError, ValueError, 2, {}),
    (errors.RequestError, errors.HydraError, None, 3, {"status": 418}),
    (errors.NotFoundError, errors.RequestError, None, 3, {"status": 404}),
    (errors.AccessDeniedError, errors.RequestError, None, 3, {"status": 403}),
    (errors.TransferError, errors.HydraError, None, 4, {"attempts": 3, "last": "503"}),
    (errors.ConnectError, errors.TransferError, None, 4, {"attempts": 3, "last": "refused"}),
    (errors.StalledError, errors.TransferError, None, 4, {"attempts": 3, "last": "silence"}),
    (errors.ConnectionDroppedError, errors.TransferError, None, 4, {"attempts": 3, "last": "reset"}),
    (errors.DeadlineExceededError, errors.TransferError, None, 4, {"attempts": 3, "last": ""}),
    (errors.RemoteProtocolError, errors.HydraError, None, 4, {}),
    (errors.ResourceChangedError, errors.HydraError, None, 7, CHANGED),
    (errors.IntegrityError, errors.HydraError, None, 5, {}),
    (errors.SizeMismatchError, errors.IntegrityError, None, 5, SIZES),
    (errors.DigestMismatchError, errors.IntegrityError, None, 5, DIGESTS),
    (errors.DigestConflictError, errors.IntegrityError, None, 5, {}),
    (errors.UnverifiableError, errors.IntegrityError, None, 5, {}),
    (errors.StorageError, errors.HydraError, OSError, 6, {"code": errno.EIO}),
    (errors.DiskFullError, errors.StorageError, OSError, 6, {"code": errno.ENOSPC}),
    (errors.DestinationExistsError, errors.StorageError, OSError, 6, {"code": errno.EEXIST}),
    (errors.DestinationBusyError, errors.StorageError, OSError, 8, {"code": errno.EWOULDBLOCK}),
    (errors.SinkError, errors.HydraError, None, 6, {}),
    (errors.ReaderGoneError, errors.SinkError, BrokenPipeError, 141, {}),
    (errors.NoReaderError, errors.SinkError, None, 6, {}),
]
each_error = pytest.mark.parametrize(
    ("kind", "parent", "other", "exit_code", "extra"), TREE, ids=[row[0].__name__ for row in TREE]
)
MESSAGE = "expected this, found that"


def facts(error: errors.HydraError) -> dict:
    return {"type": type(error), "args": error.args, "str": str(error), "errno": getattr(error, "errno", None)} | vars(
        error
    )


def test_the_table_is_complete():
    defined = {kind for _, kind in inspect.getmembers(errors, inspect.isclass) if kind.__module__ == errors.__name__}
    assert {row[0] for row in TREE} == defined
    assert {kind.__name__ for kind in defined} == set(errors.__all__)


@each_error
def test_place_in_the_tree(kind, parent, other, exit_code, extra):
    assert kind.__bases__[0] is parent
    assert other is None or issubclass(kind, other)
    assert not issubclass(kind, TimeoutError), "Prefect would take it for a timeout of its own"
    assert f"{kind.__name__} " in errors.__doc__ or f"{kind.__name__}\n" in errors.__doc__


@each_error
def test_exit_codes(kind, parent, other, exit_code, extra):
    assert kind(MESSAGE, **extra).exit_code == exit_code


@each_error
def test_message_url_and_hint(kind, parent, other, exit_code, extra):
    error = kind(MESSAGE, **extra)
    assert str(error) == MESSAGE
    assert error.args == (MESSAGE,)
    assert error.url is None
    assert error.hint == kind.default_hint
    for name, value in extra.items():
        assert getattr(error, "errno" if name == "code" else name) == value
    told = kind(MESSAGE, **extra, url="http://h/x", hint="Do this.")
    assert (told.url, told.hint) == ("http://h/x", "Do this.")
    assert kind(MESSAGE, **extra, hint="").hint == ""


@each_error
def test_pickling_keeps_everything(kind, parent, other, exit_code, extra):
    error = kind(MESSAGE, **extra, url="http://h/x", hint="Do this.")
    error.add_note("seen on the way")
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        twin = pickle.loads(pickle.dumps(error, protocol))
        assert facts(twin) == facts(error)
        assert twin.__notes__ == ["http://h/x", "Do this.", "seen on the way"]
        assert facts(pickle.loads(pickle.dumps(twin, protocol))) == facts(error), "and once more"


@each_error
def test_copying_keeps_everything(kind, parent, other, exit_code, extra):
    error = kind(MESSAGE, **extra, url="http://h/x")
    assert facts(copy.copy(error)) == facts(copy.deepcopy(error)) == facts(error)


@each_error
def test_it_can_be_raised_and_caught_as_its_bases(kind, parent, other, exit_code, extra):
    for base in (kind, parent, other or parent, errors.HydraError):
        with pytest.raises(base, match=f"^{MESSAGE}") as caught:
            raise kind(MESSAGE, **extra)
        assert type(caught.value) is kind


def test_an_error_without_a_message_shows_its_name():
    error = errors.IntegrityError.__new__(errors.IntegrityError)
    assert str(error) == "IntegrityError"


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (errno.ENOSPC, errors.DiskFullError),
        (errno.EDQUOT, errors.DiskFullError),
        (errno.EACCES, errors.StorageError),
        (errno.EIO, errors.StorageError),
    ],
)
def test_an_error_of_the_system_is_mapped_once(code, kind):
    wrapped = errors.StorageError.wrap(OSError(code, "No luck"), "cannot write x", url="http://h/x")
    assert type(wrapped) is kind
    assert (str(wrapped), wrapped.errno, wrapped.url) == ("cannot write x: No luck", code, "http://h/x")
    assert errors.StorageError.wrap(wrapped, "cannot write y") is wrapped


def test_an_error_of_the_system_without_a_number():
    wrapped = errors.StorageError.wrap(OSError("odd"), "cannot write x")
    assert (str(wrapped), wrapped.errno) == ("cannot write x: odd", None)
    assert pickle.loads(pickle.dumps(wrapped)).errno is None


def test_a_subclass_maps_to_itself():
    wrapped = errors.DestinationBusyError.wrap(OSError(errno.EAGAIN, "Try again"), "cannot lock x")
    assert type(wrapped) is errors.DestinationBusyError
