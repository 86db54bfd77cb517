"""UUIDs."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from .base import AttributeType, wrong


class Uuid(AttributeType):
    """``uuid.UUID`` or its string form. ``array=True``: a list for each point."""

    kind = "uuid"
    stored = "uuid"
    plain = False
    python = (UUID,)
    message_list = "uuids"
    from_json = UUID

    @classmethod
    def coerce_one(cls, name: str, value: Any) -> bytes:
        if isinstance(value, str):
            try:
                value = UUID(value)
            except ValueError:
                raise wrong(name, value, "a UUID") from None
        if isinstance(value, bytes) and len(value) == 16:
            return value
        if not isinstance(value, UUID):
            raise wrong(name, value, "a UUID")
        return value.bytes

    @classmethod
    def restore_one(cls, stored: bytes) -> UUID:
        return UUID(bytes=bytes(stored))

    @classmethod
    def to_json(cls, value: UUID) -> str:
        return str(value)

    @classmethod
    def is_in_text(cls, text: str) -> bool:
        try:
            return len(text) == 36 and str(UUID(text)) == text.lower()
        except ValueError:
            return False

    @classmethod
    def to_arrow(cls, stored: bytes) -> str:
        return str(UUID(bytes=stored))
