"""The JSON form of filters under the import path of earlier versions: ``from vectordb_client.filter import from_dict, to_dict``."""

from .model.filter import F, Filter, from_dict, to_dict

__all__ = ["F", "Filter", "from_dict", "to_dict"]
