"""Import and export of JSON-lines, JSON, CSV, Parquet and Arrow files.

``sources``, ``rows`` and ``arrow`` read rows, ``forms`` converts them to points, ``infer`` infers a schema, ``load`` writes the points;
``files`` exports.
"""

from .files import export_points, export_stream
from .forms import Columns
from .infer import Inference, attribute_type, infer, infer_schema
from .load import ImportResult, NewCollection, import_points, state_file
from .sources import FORMATS, MAX_ROW_BYTES, Source

__all__ = [
    "FORMATS",
    "MAX_ROW_BYTES",
    "Columns",
    "ImportResult",
    "Inference",
    "NewCollection",
    "Source",
    "attribute_type",
    "export_points",
    "export_stream",
    "import_points",
    "infer",
    "infer_schema",
    "state_file",
]
