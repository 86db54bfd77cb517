"""What derivations do: how vectors of a derived field are made from those of its source, and what learned ones are fitted to.

A derivation is one class here and one line in ``DERIVATIONS``, beside its definition in ``vectordb_client/model/derivations.py``.
"""

from .attributes import AttributesMethod, SeriesMethod
from .base import Method, Parts, lengths
from .concepts import ConceptsMethod
from .fixed import PrefixMethod, ProjectMethod
from .learned import PCAMethod, PickMethod
from .sae import SAEMethod
from .sparse import CSRMethod

_METHODS = (
    PrefixMethod(),
    ProjectMethod(),
    PCAMethod(),
    PickMethod(),
    CSRMethod(),
    ConceptsMethod(),
    SAEMethod(),
    AttributesMethod(),
    SeriesMethod(),
)
DERIVATIONS: dict[str, Method] = {each.name: each for each in _METHODS}

__all__ = ["DERIVATIONS", "Method", "Parts", "lengths"]
