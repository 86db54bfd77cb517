"""What derivations do: how vectors of a derived field are made from those of its source, and what learned ones are fitted to.

A derivation is one class here and one line in ``DERIVATIONS``, beside its definition in ``vectordb_client/model/derivations.py``.
"""

from .base import Method, Parts, lengths
from .fixed import PrefixMethod, ProjectMethod
from .learned import PCAMethod, PickMethod
from .sparse import CSRMethod

DERIVATIONS: dict[str, Method] = {each.name: each for each in (PrefixMethod(), ProjectMethod(), PCAMethod(), PickMethod(), CSRMethod())}

__all__ = ["DERIVATIONS", "Method", "Parts", "lengths"]
