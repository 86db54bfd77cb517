"""Derivations: how the vectors of a derived field are made from those of its source. Frozen values with a JSON form.

A derivation is a frozen dataclass, whose fields are its options, under its name in ``DERIVATIONS``. What it does is in
``vectordb/derivations``, under the same name.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..errors import SchemaError, listing, shown
from .arguments import named_class
from .attribute_derivations import Attributes, Series
from .checks import check_flag
from .derivation import Derivation
from .options import check_integer

MAX_SEED = 2**63 - 1
MAX_SPARSITY = 65_536
MIN_SAMPLE, MAX_SAMPLE = 100, 1_000_000
USUAL_SAMPLE = 20_000
MIN_HIDDEN, MAX_HIDDEN, MAX_K = 16, 16_384, 512
MAX_WORDS, USUAL_WORDS = 4_096, 8  # of Concepts: in all, and of a point
MAX_CONCEPT_BYTES = 480  # of UTF-8, as for the word of a term


@named_class
@dataclass(frozen=True)
class Prefix(Derivation):
    """The first dimensions of the source, scaled to the length of the whole vector.

    It suits models that put what matters most into the first dimensions ("Matryoshka Representation Learning", Kusupati et al. 2022).

    Attributes:
        source: the dense field whose vectors are cut.
    """

    source: str
    name = "prefix"


@named_class
@dataclass(frozen=True)
class Project(Derivation):
    """A very sparse random projection (Li, Hastie and Church 2006; FastRP, Chen et al. 2019), which needs no sample.

    Each number of the projection is 0 with the probability 1 − 1/s, else +√s or −√s with equal probability, divided by √dim. So inner
    products and distances are kept on average.

    Attributes:
        source: the dense field whose vectors are projected.
        s: how sparse it is, 1 to 65,536. 3 keeps a third of the numbers.
        seed: 0 to 2^63 − 1. The same seed gives the same projection.
    """

    source: str
    s: int = 3
    seed: int = 0
    name = "project"

    def __post_init__(self):
        super().__post_init__()
        check_integer("s", self.s, 1, MAX_SPARSITY)
        check_integer("seed", self.seed, 0, MAX_SEED)


@named_class
@dataclass(frozen=True)
class PCA(Derivation):
    """A projection on the directions of most variance, which are fitted to a sample of the source's vectors.

    For the metric "l2" the variance is that around the mean; for "dot" and "cosine" it is that around 0, because inner products depend on
    where 0 is. For "cosine" the vectors of the sample are scaled to length 1.

    Attributes:
        source: the dense field whose vectors are projected. It has at most 4,096 dimensions.
        sample: the largest number of vectors that it is fitted to, 100 to 1,000,000.
        seed: which of the vectors these are, 0 to 2^63 − 1. The same seed and the same points give the same projection.
    """

    source: str
    sample: int = USUAL_SAMPLE
    seed: int = 0
    name = "pca"
    learned = True

    def __post_init__(self):
        super().__post_init__()
        check_integer("sample", self.sample, MIN_SAMPLE, MAX_SAMPLE)
        check_integer("seed", self.seed, 0, MAX_SEED)


@named_class
@dataclass(frozen=True)
class Pick(Derivation):
    """The dimensions of most variance among a sample of the source's vectors, as ``PCA`` measures it. The others are left out.

    Attributes:
        source: the dense field whose dimensions are picked.
        sample: the largest number of vectors that are looked at, 100 to 1,000,000.
        seed: which of the vectors these are, 0 to 2^63 − 1. The same seed and the same points give the same dimensions.
    """

    source: str
    sample: int = USUAL_SAMPLE
    seed: int = 0
    name = "pick"
    learned = True

    def __post_init__(self):
        super().__post_init__()
        check_integer("sample", self.sample, MIN_SAMPLE, MAX_SAMPLE)
        check_integer("seed", self.seed, 0, MAX_SEED)


@named_class
@dataclass(frozen=True)
class CSR(Derivation):
    """Sparse codes of dense vectors, learned from a sample of them by a k-sparse autoencoder ("Beyond Matryoshka: Revisiting Sparse Coding
    for Adaptive Representation", Wen et al. 2025). It is for sparse fields: ``Sparse(derived=CSR("v"))``.

    A point has at most k of ``hidden`` terms, those that fit its vector best. A query has as many, or fewer: ``TopTerms(vector, k=8)``.
    The source has the metric "cosine" or "dot".

    Attributes:
        source: the dense field whose vectors are coded. It has at most 4,096 dimensions.
        hidden: the number of different terms, 16 to 16,384; None: four times the dimensions of the source.
        k: terms of a point, 1 to 512, fewer than ``hidden``.
        sample: the largest number of vectors that it is fitted to, 100 to 1,000,000. A fit needs twice as many as ``hidden``.
        seed: which of the vectors these are, and their order, 0 to 2^63 − 1. The same seed and the same points give the same codes.
    """

    source: str
    hidden: int | None = None
    k: int = 32
    sample: int = USUAL_SAMPLE
    seed: int = 0
    name = "csr"
    learned = True
    makes = "sparse"

    def __post_init__(self):
        super().__post_init__()
        _check_width(self)

    def width(self, source_dim: int) -> int:
        """The number of different terms."""
        return self.hidden or 4 * source_dim


@named_class
@dataclass(frozen=True)
class SAE(Derivation):
    """Concepts that are found in dense vectors by a sparse autoencoder ("Sparse Autoencoders Find Highly Interpretable Features in Language
    Models", Cunningham et al. 2023). It is for sparse fields: ``Sparse(derived=SAE("v"))``.

    Term i is the concept with the number i. Its weight is how much of the concept's direction the vector has, when it is scaled to
    length 1. A point has the k strongest of ``hidden`` concepts. A fit gives each concept a label from the attributes of the points that
    have most of it; ``set_terms`` gives it a name of yours, which later fits keep. ``F.concept("codes", 17) >= 0.3`` filters by a concept,
    and the option ``steer={17: 0.8}`` of a search moves the query towards one. The source has the metric "cosine" or "dot".

    Attributes:
        source: the dense field whose vectors are looked at. It has at most 4,096 dimensions.
        hidden: the number of concepts, 16 to 16,384; None: four times the dimensions of the source.
        k: concepts of a point, 1 to 512, fewer than ``hidden``.
        signed: keep the k largest in absolute value, with their signs (AbsTopK), so that one concept has two opposite sides. Such a field
            has negative weights and is searched exactly.
        sample: the largest number of vectors that it is fitted to, 100 to 1,000,000. A fit needs twice as many as ``hidden``.
        seed: which of the vectors these are, and their order, 0 to 2^63 − 1. The same seed and the same points give the same concepts.
    """

    source: str
    hidden: int | None = None
    k: int = 32
    signed: bool = False
    sample: int = USUAL_SAMPLE
    seed: int = 0
    name = "sae"
    learned = True
    makes = "sparse"
    steers = True

    def __post_init__(self):
        super().__post_init__()
        _check_width(self)
        check_flag("signed", self.signed, SchemaError)

    def width(self, source_dim: int) -> int:
        """The number of concepts."""
        return self.hidden or 4 * source_dim


def _check_width(given: CSR | SAE) -> None:
    """Check the options that autoencoders have in common. Raises SchemaError."""
    if given.hidden is not None:
        check_integer("hidden", given.hidden, MIN_HIDDEN, MAX_HIDDEN)
    check_integer("k", given.k, 1, MAX_K)
    check_integer("sample", given.sample, MIN_SAMPLE, MAX_SAMPLE)
    check_integer("seed", given.seed, 0, MAX_SEED)


@named_class
@dataclass(frozen=True)
class Concepts(Derivation):
    """How well a vector fits each of some words, for sparse fields: ``Sparse(derived=Concepts("v", words=["war", "music"]))``.

    The encoder of the source makes a vector of each word, as of a query, when the field is created. The weight of a word for a point is the
    cosine of both vectors; the k largest positive ones are kept. Nothing is fitted to points. The idea is that of concept bottleneck
    models (Koh et al. 2020), without training.

    Term i is the word at position i, so ``explain`` shows words. A query is a vector of the source, words with weights
    (``{"war": 1.0, "music": 0.5}``), or terms with weights.

    Attributes:
        source: the dense field whose vectors are compared with the words. It has an encoder.
        words: 1 to 4,096 words or phrases in one line each, all different, at most 480 bytes long.
        k: words of a point, 1 to 512, at most as many as there are; None: 8, or all if there are fewer.
    """

    source: str
    words: Sequence[str] = ()
    k: int | None = None
    name = "concepts"
    makes = "sparse"

    def __post_init__(self):
        super().__post_init__()
        words = _checked_concepts(self.words)
        k = min(USUAL_WORDS, len(words)) if self.k is None else self.k
        object.__setattr__(self, "words", words)
        object.__setattr__(self, "k", k)
        check_integer("k", k, 1, MAX_K)
        if k > len(words):
            what = f"k of Concepts is {k}, but there {'is 1 word' if len(words) == 1 else f'are {len(words)} words'}"
            raise SchemaError(f"{what}; write k={len(words)}, or more words", field="k", value=k)

    def options(self) -> dict[str, Any]:
        return super().options() | {"words": list(self.words)}

    def width(self, source_dim: int) -> int:
        """The number of words."""
        return len(self.words)


def _checked_concepts(words: Any) -> tuple[str, ...]:
    """Check the words of ``Concepts``. Raises SchemaError, which names the word."""
    such = "words=['war', 'music']"
    if isinstance(words, (str, bytes, Mapping)) or not isinstance(words, Sequence):
        raise SchemaError(f"words of Concepts must be a list of strings, such as {such}, not {shown(words)}", field="words", value=words)
    if not 1 <= len(words) <= MAX_WORDS:
        raise SchemaError(f"Concepts needs 1 to {MAX_WORDS} words, such as {such}, not {len(words)}", field="words", value=len(words))
    seen: dict[str, int] = {}
    for position, word in enumerate(words):
        usable = isinstance(word, str) and word.isprintable() and bool(word.strip())
        if not usable or len(word.encode()) > MAX_CONCEPT_BYTES:
            what = f"words[{position}] of Concepts must be a text in one line, of at most {MAX_CONCEPT_BYTES} bytes and not blank"
            raise SchemaError(f"{what}, not {shown(word)}", field="words", value=word)
        if word in seen:
            what = f"words of Concepts has {shown(word)} twice, at {seen[word]} and {position}; write each word once"
            raise SchemaError(what, field="words", value=word)
        seen[word] = position
    return tuple(words)


def nameless(data: Mapping[str, Any]) -> dict[str, Any]:
    """The JSON form of a derivation without the names of what it reads, which renames change."""
    parts = [{**each, "attribute": None} if isinstance(each, Mapping) else None for each in data.get("attributes", ())]
    return {**data, "source": None, **({"attributes": parts} if parts else {})}


DERIVATIONS: dict[str, type[Derivation]] = {
    each.name: each for each in (Prefix, Project, PCA, Pick, CSR, Concepts, SAE, Attributes, Series)
}
MAX_PCA_DIM = 4_096  # of the source: a fit takes dim² numbers and dim³ steps


def check_derivation(value: Any, encoder: Any, source: Any) -> None:
    """Check the option ``derived`` of a field beside ``encoder`` and ``source``. Raises SchemaError."""
    if value is None:
        return
    if not isinstance(value, Derivation):
        named = isinstance(value, type) and issubclass(value, Derivation)
        such = f"{value.__name__ if named else 'Prefix'}('v')"
        raise SchemaError(f"derived must be a derivation such as {such}, not {shown(value)}", field="derived", value=value)
    if encoder is not None or source is not None:
        what = f"a derived field has neither encoder nor source: its vectors are made from {listing(value.sources)}; leave them out"
        raise SchemaError(what, field="derived", value=value)


def derivation_of(data: Any, field: str) -> Any:
    """The derivation of a field in JSON data; any other value as it is. Raises SchemaError."""
    if not isinstance(data, Mapping):
        return data
    options = dict(data)
    name = options.pop("by", None)
    if not isinstance(name, str) or name not in DERIVATIONS:
        what = f"vector field {field!r} is derived by {shown(name)}, which this version doesn't know; it knows {', '.join(DERIVATIONS)}"
        raise SchemaError(what, field=field, value=name)
    known = {each.name for each in dataclasses.fields(DERIVATIONS[name])}  # type: ignore[arg-type]
    for option in options:
        if option not in known:
            what = f"derivation {name!r} of vector field {field!r} has no option {shown(option)}; there are: {', '.join(sorted(known))}"
            raise SchemaError(what, field=field, value=option)
    if "source" in known and "source" not in options:
        raise SchemaError(f"derivation {name!r} of vector field {field!r} names no source", field=field, value=dict(data))
    return DERIVATIONS[name].of_options(options)
