"""Results as JSON: readable by every version of Python, and by people.  Errors too come back as what they were."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from prefect.serializers import JSONSerializer, prefect_json_object_decoder, prefect_json_object_encoder

from hydraflow.errors import HydraError

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["SERIALIZER", "decode", "encode"]

_MARK, _GROUP = "__hydraflow_error__", "__hydraflow_errors__"
_PLAIN = (str, int, float, type(None))


def encode(value: Any) -> Any:
    """As Prefect does, but for what it would make anew with nothing but a message: hydraflow's errors, and groups."""
    if isinstance(value, BaseExceptionGroup):
        return {_GROUP: list(value.exceptions), "message": value.message}
    if not isinstance(value, HydraError):
        return prefect_json_object_encoder(value)
    facts = {name: fact for name, fact in vars(value).items() if isinstance(fact, _PLAIN) or name == "__notes__"}
    return {_MARK: type(value).__name__, "message": str(value), "facts": facts}


def decode(value: dict[str, Any]) -> Any:
    """What `encode` has made."""
    if _GROUP in value:
        return BaseExceptionGroup(value["message"], value[_GROUP])
    kind = next((each for each in _kinds(HydraError) if each.__name__ == value.get(_MARK)), None)
    if kind is None:
        return prefect_json_object_decoder(value)
    message = value["message"]
    error = kind.__new__(kind, message)
    error.args = (message,)
    vars(error).update(value["facts"])
    return error


def _kinds(kind: type[HydraError]) -> Iterator[type[HydraError]]:
    yield kind
    for each in kind.__subclasses__():
        yield from _kinds(each)


SERIALIZER = JSONSerializer(object_encoder=f"{__name__}.encode", object_decoder=f"{__name__}.decode")
