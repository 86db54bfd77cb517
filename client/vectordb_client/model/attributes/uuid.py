"""UUIDs."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from .base import AttributeType, wrong


class Uuid(AttributeType):
    """``uuid.UUID`` or its string form. ``array=True``: a list for each point."""

    kind = "uuid"
    stored = "uuid"
    parts = ("category",)
    plain = False
    python = (UUID,)
    message_list = "uuids"

    def coerce_one(self, name: str, value: Any) -> bytes:
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

    def restore_one(self, stored: bytes) -> UUID:
        return UUID(bytes=bytes(stored))

    def from_json(self, value: str) -> UUID:
        return UUID(value)

    def to_json(self, value: UUID) -> str:
        return str(value)

    @staticmethod
    def is_in_text(text: str) -> bool:
        try:
            return len(text) == 36 and str(UUID(text)) == text.lower()
        except ValueError:
            return False

    def to_arrow(self, stored: bytes) -> str:
        return str(UUID(bytes=stored))
