"""Results as JSON: readable by every version of Python, and by people.  Errors too come back as what they were."""

from __future__ import annotations

from typing import Any

from prefect.serializers import JSONSerializer, prefect_json_object_decoder, prefect_json_object_encoder

from hydraflow import errors
from hydraflow.errors import HydraError

__all__ = ["SERIALIZER", "decode", "encode"]

_MARK = "__hydraflow_error__"
_PLAIN = (str, int, float, type(None))


def encode(value: Any) -> Any:
    """As Prefect does, but for hydraflow's errors: it would call their classes with nothing but a message."""
    if not isinstance(value, HydraError):
        return prefect_json_object_encoder(value)
    facts = {name: fact for name, fact in vars(value).items() if isinstance(fact, _PLAIN)}
    return {_MARK: type(value).__name__, "message": str(value), "facts": facts}


def decode(value: dict[str, Any]) -> Any:
    """What `encode` has made."""
    kind = getattr(errors, str(value.get(_MARK)), None)
    if kind is None:
        return prefect_json_object_decoder(value)
    message = value["message"]
    error = kind.__new__(kind, message)
    error.args = (message,)
    vars(error).update(value["facts"])
    return error


SERIALIZER = JSONSerializer(object_encoder=f"{__name__}.encode", object_decoder=f"{__name__}.decode")
