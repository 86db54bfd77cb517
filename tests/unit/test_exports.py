"""The public names: the list of exports is fixed here, because removing one breaks users."""

import tomllib

import vectordb_client

import vectordb
from tests.support.paths import ROOT
from vectordb.collection import Collection
from vectordb.database import Database

ERRORS = [
    "AlreadyExistsError",
    "AuthenticationError",
    "ClosedError",
    "CorruptionError",
    "DeadlineError",
    "EncoderError",
    "FilterError",
    "FormatVersionError",
    "InvalidArgumentError",
    "LimitError",
    "LockedError",
    "NotFoundError",
    "PermissionDeniedError",
    "PreconditionError",
    "RateLimitError",
    "SchemaError",
    "StorageError",
    "UnavailableError",
    "VectorDBError",
]
WORDS = [
    "Axis",
    "Classification",
    "Clusters",
    "Duplicates",
    "Health",
    "Neighbours",
    "Probe",
    "Analyzer",
    "Arm",
    "ArmScore",
    "Bool",
    "Boost",
    "BranchDiff",
    "BulkResult",
    "Change",
    "CollectionInfo",
    "DBSF",
    "Datetime",
    "Dense",
    "Decay",
    "DenseVector",
    "Derivation",
    "Diversity",
    "F",
    "Facet",
    "FacetCount",
    "FacetResult",
    "FailedPoint",
    "Filter",
    "FilterLike",
    "Float",
    "Fusion",
    "FusionLike",
    "FusionTuning",
    "Geo",
    "Group",
    "Hit",
    "Hits",
    "Id",
    "Ids",
    "FDE",
    "HNSW",
    "IVF",
    "If",
    "ImpactIndex",
    "Index",
    "Int",
    "Keyword",
    "Like",
    "Linear",
    "MergeResult",
    "MultiVector",
    "MultiVectors",
    "PCA",
    "Page",
    "Pick",
    "Attributes",
    "Category",
    "Cyclic",
    "Number",
    "Series",
    "CSR",
    "Concepts",
    "SAE",
    "Plan",
    "Point",
    "PointsLike",
    "Prefetch",
    "Prefix",
    "PseudoQueries",
    "Project",
    "PreparedSearch",
    "RRF",
    "Range",
    "Relative",
    "Rerank",
    "Schema",
    "Sparse",
    "SparseIndex",
    "SparseVector",
    "Text",
    "TokenLists",
    "TopTerms",
    "Uuid",
    "Value",
    "Vector",
    "VectorColumn",
    "WriteResult",
    "read_synonyms",
]


def public(kind):
    return {name for name in dir(kind) if not name.startswith("_")}


def test_vectordb_exports():
    assert set(vectordb.__all__) == {*ERRORS, *WORDS, "Collection", "Database", "restore", "__version__"}
    for name in vectordb.__all__:
        assert getattr(vectordb, name) is not None


def test_the_client_exports_the_same_words_as_the_same_objects():
    for name in (*ERRORS, *WORDS):
        assert getattr(vectordb_client, name) is getattr(vectordb, name), name
    assert {*ERRORS, *WORDS, "Client", "AsyncClient", "Collection", "AsyncCollection", "Filter", "__version__"} <= set(
        vectordb_client.__all__
    )


def test_a_client_has_the_surface_of_a_database():
    named = {"close", "collection", "collections", "create_collection", "drop_collection", "flush", "purge", "snapshot"}
    named |= {"alias", "aliases", "branch", "diff", "drop_alias", "merge", "rename_collection", "set_memory", "transaction"}
    assert public(Database) == named
    assert public(Database) - {"flush"} <= public(vectordb_client.Client)
    assert public(Collection) - {"apply_batch", "number", "reached", "revision"} <= public(vectordb_client.Collection)
    assert public(vectordb_client.Collection) <= public(vectordb_client.AsyncCollection)


def test_every_error_derives_from_one():
    for name in ERRORS:
        assert issubclass(getattr(vectordb, name), vectordb.VectorDBError)


def test_each_distribution_ships_every_package_of_its_folder():
    database, client, bench = ROOT / "vectordb", ROOT / "client" / "vectordb_client", ROOT / "bench"
    for project, places in {
        ROOT: {"vectordb": database, "vectordb_client": client},
        ROOT / "client": {"vectordb_client": client},
        bench: {"hybrid_vectordb_bench": bench},
    }.items():
        listed = tomllib.loads((project / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]
        expected = {
            ".".join([name, *init.parent.relative_to(place).parts]) for name, place in places.items() for init in place.rglob("__init__.py")
        }
        assert set(listed) == expected


def test_all_distributions_have_one_version():
    from hybrid_vectordb_bench._version import __version__ as of_the_benchmark

    assert vectordb.__version__ == vectordb_client.__version__ == of_the_benchmark
