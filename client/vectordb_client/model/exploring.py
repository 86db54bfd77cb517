"""The methods of a collection that say what the vectors of a field are like, with their documentation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from .aliases import DenseVector, FilterLike, VectorColumn
from .arguments import named
from .explorations import Exploration, Progress
from .explored import Clusters, Duplicates, Explored, Health, Neighbours
from .explored_labels import Axis, Classification, Probe
from .mining import mine
from .pseudo import PseudoQueries, pseudo
from .steps import run_steps
from .values import Id

RESULTS: dict[str, type[Explored]] = {
    "neighbours": Neighbours,
    "duplicates": Duplicates,
    "health": Health,
    "cluster": Clusters,
    "axis": Axis,
    "probe": Probe,
    "classify": Classification,
}


class Exploring:
    """Operations on a dense field. Each reads one state of the collection, and gives the same result for the same points and seed.

    A subclass implements ``_explore``.
    """

    schema: Any
    search_batch: Any
    scroll: Any
    get: Any

    def _explore(self, exploration: Exploration) -> Any:
        raise NotImplementedError

    @named
    def neighbours(
        self,
        field: str,
        k: int = 10,
        *,
        filter: FilterLike | None = None,
        recall: float | None = None,
        exact: bool = False,
        progress: Progress | None = None,
    ) -> Neighbours:
        """Find the k nearest other points of every point, through the index, many points at a time.

        Args:
            field: a dense vector field.
            k: the number of neighbours, 1 to 1,000.
            filter: only points that match, also as neighbours.
            recall: as in ``search``.
            exact: compare all pairs. The time grows with the square of the number of points.
            progress: called with the number of points that are done and of all points.

        Returns:
            The neighbours of each point that has a vector in the field.

        Raises:
            SchemaError: there is no such dense field.
            InvalidArgumentError: an argument is not valid.
            FilterError: the filter can't be read, or doesn't fit the schema.
            LimitError: the answer takes more memory than a call of the service may use: write a filter.

        Example:
            ```python
            for id, nearest in docs.neighbours("v", 5):
                print(id, nearest)
            ```
        """
        return self._explore(Exploration.of("neighbours", field, filter, progress, k=k, recall=recall, exact=exact))

    @named
    def duplicates(
        self,
        field: str,
        min_score: float | None = None,
        *,
        radius: float | None = None,
        filter: FilterLike | None = None,
        limit: int = 10_000,
        recall: float | None = None,
        exact: bool = False,
        progress: Progress | None = None,
    ) -> Duplicates:
        """Find all pairs of points that are at least this much alike.

        Args:
            field: a dense vector field.
            min_score: the lowest score of a pair, for cosine and dot.
            radius: the highest squared distance of a pair, for l2.
            filter: only pairs of points that both match.
            limit: the most pairs. If there are more, the result has the best ones, and ``more`` is True.
            recall: the share of the pairs of a point that are to be found, as in ``search``. A pair that one of its points misses is often
                found by the other.
            exact: compare all pairs. The time grows with the square of the number of points.
            progress: called with the number of points that are done and of all points.

        Returns:
            The pairs, the most alike first.

        Raises:
            SchemaError: there is no such dense field.
            InvalidArgumentError: an argument is not valid, or ``min_score`` and ``radius`` don't fit the metric.
            FilterError: the filter can't be read, or doesn't fit the schema.

        Example:
            ```python
            found = docs.duplicates("v", 0.98)
            for group in found.groups():
                print(group)
            docs.delete(found.redundant())
            ```
        """
        options = {"min_score": min_score, "radius": radius, "limit": limit, "recall": recall, "exact": exact}
        return self._explore(Exploration.of("duplicates", field, filter, progress, **options))

    @named
    def health(
        self,
        field: str,
        *,
        filter: FilterLike | None = None,
        sample: int = 20_000,
        k: int = 10,
        seed: int = 0,
        progress: Progress | None = None,
    ) -> Health:
        """Measure what the vectors of a field are like: rank, dead dimensions, lengths, duplicates, hubs and outliers.

        Args:
            field: a dense vector field.
            filter: only points that match.
            sample: look at this many points, 10 to 200,000. Which ones depends on their ids and the seed alone.
            k: neighbours of a point, for hubs and outliers. They are looked for among 5,000 points of the sample.
            seed: of the sample.
            progress: called with the work that is done, and all work.

        Returns:
            The measurements. ``print`` shows them, with what is unusual and what to do about it.

        Raises:
            SchemaError: there is no such dense field.
            InvalidArgumentError: an argument is not valid.
            FilterError: the filter can't be read, or doesn't fit the schema.
        """
        return self._explore(Exploration.of("health", field, filter, progress, sample=sample, k=k, seed=seed))

    @named
    def cluster(
        self,
        field: str,
        k: int | None = None,
        *,
        max_k: int = 64,
        filter: FilterLike | None = None,
        sample: int = 20_000,
        central: int = 5,
        with_centres: bool = False,
        seed: int = 0,
        progress: Progress | None = None,
    ) -> Clusters:
        """Put points into groups of similar vectors. The result doesn't depend on the order in which points were written.

        Clusters are split one after the other, each at the mean of its longest axis, without random starts. Without ``k``, the number is
        the one whose Gaussian mixture describes the sample best for its size (Bayesian information criterion).

        Args:
            field: a dense vector field.
            k: the number of clusters, 1 to 1,000; None finds it.
            max_k: the largest number to consider where ``k`` is None.
            filter: only points that match.
            sample: make the centres of this many points, 10 to 200,000; then all points are assigned. Which ones depends on their ids and
                the seed alone.
            central: the number of most central points to name for each cluster.
            with_centres: also return the centres, which are vectors: an API key needs the right to read vectors.
            seed: of the sample.
            progress: called with the work that is done, and all work.

        Returns:
            The label of each point that has a vector in the field, and what the clusters are like.

        Raises:
            SchemaError: there is no such dense field.
            InvalidArgumentError: an argument is not valid, or there are fewer different points than ``k``.
            FilterError: the filter can't be read, or doesn't fit the schema.

        Example:
            ```python
            found = docs.cluster("v")
            docs.update(ids=found.ids, attributes={"topic": found.labels.tolist()})
            ```
        """
        options = {"k": k, "max_k": max_k, "sample": sample, "central": central, "with_centres": with_centres, "seed": seed}
        return self._explore(Exploration.of("cluster", field, filter, progress, **options))

    @named
    def axis(
        self,
        field: str,
        low: Sequence[Id | DenseVector] | None = None,
        high: Sequence[Id | DenseVector] | None = None,
        *,
        low_text: Sequence[str] | None = None,
        high_text: Sequence[str] | None = None,
    ) -> Axis:
        """Find the direction from low to high examples of something, such as from cheap to precious, to order points by it.

        The direction is the difference of the means. Each example is held out in turn, and placed on the axis of the others.

        Args:
            field: a dense vector field.
            low: examples of the one end: ids of points, or vectors; at least 2 with ``low_text``.
            high: examples of the other end.
            low_text: texts that are examples of the one end, encoded by the field's encoder.
            high_text: texts that are examples of the other end.

        Returns:
            The axis. It holds vectors, so an API key needs the right to read them.

        Raises:
            PreconditionError: the held-out reliability is below 0.5, so the order would mean little. ``error.value`` is the reliability.
            NotFoundError: there is no point with an id.
            SchemaError: there is no such dense field.
            InvalidArgumentError: there are too few examples, one has no vector in the field, or a text has no encoder.
            EncoderError: a text can't be encoded.

        Example:
            ```python
            size = docs.axis("v", low=[1, 2, 3], high=[7, 8, 9])
            print(size.reliability)
            largest = docs.search({"v": size.vector}, limit=10)
            ```
        """
        options = {"low": low, "high": high, "low_text": low_text, "high_text": high_text}
        return self._explore(Exploration.of("axis", field, **options))

    @named
    def probe(
        self,
        field: str,
        positives: Sequence[Id | DenseVector],
        negatives: Sequence[Id | DenseVector] | None = None,
        k: int = 32,
        *,
        filter: FilterLike | None = None,
        sample: int = 500,
        seed: int = 0,
        progress: Progress | None = None,
    ) -> Probe:
        """Learn to separate points with a property from others, by the k dimensions that differ most: a sparse linear probe.

        Args:
            field: a dense vector field.
            positives: at least 2 examples that have the property: ids of points, or vectors.
            negatives: at least 2 examples that don't have it. None takes a sample of the other points.
            k: the number of dimensions.
            filter: without ``negatives``, take only points that match.
            sample: without ``negatives``, take this many points, at least 10. Which ones depends on their ids and the seed alone.
            seed: of the sample.
            progress: called with the work that is done, and all work.

        Returns:
            The dimensions with their weights, and how reliable they are. An API key needs the right to read vectors.

        Raises:
            PreconditionError: the held-out reliability is below 0.5. ``error.value`` is the reliability.
            NotFoundError: there is no point with an id.
            SchemaError: there is no such dense field.
            InvalidArgumentError: there are too few examples, or one has no vector in the field.

        Example:
            ```python
            spam = docs.probe("v", positives=[1, 4, 9, 12])
            print(spam.accuracy, spam.probability(vectors))
            ```
        """
        options = {"positives": positives, "negatives": negatives, "k": k, "sample": sample, "seed": seed}
        return self._explore(Exploration.of("probe", field, filter, progress, **options))

    @named
    def classify(
        self,
        field: str,
        label: str,
        *,
        method: str = "nearest",
        k: int = 10,
        filter: FilterLike | None = None,
        sample: int = 10_000,
        seed: int = 0,
        progress: Progress | None = None,
    ) -> Classification:
        """Measure how well an attribute can be predicted from the vectors of a field: each point from the others.

        Args:
            field: a dense vector field.
            label: an attribute with one Keyword, Bool or Int for each point. Points without a value are left out.
            method: "nearest": the value that most of the k nearest points have. "centroid": the value whose mean vector is nearest.
            k: the number of nearest points.
            filter: only points that match.
            sample: look at this many points, 10 to 200,000. Which ones depends on their ids and the seed alone.
            seed: of the sample.
            progress: called with the work that is done, and all work.

        Returns:
            Accuracy, the recall of each value, and the values that are taken for one another most often.

        Raises:
            SchemaError: there is no such field or attribute, or the attribute has another type or more than 1,000 values in the sample.
            InvalidArgumentError: an argument is not valid.
            FilterError: the filter can't be read, or doesn't fit the schema.

        Example:
            ```python
            found = docs.classify("v", "topic")
            print(found.accuracy, found.confused[:3])
            ```
        """
        options = {"label": label, "method": method, "k": k, "sample": sample, "seed": seed}
        return self._explore(Exploration.of("classify", field, filter, progress, **options))

    def mine_negatives(
        self,
        field: str,
        queries: VectorColumn | Sequence[str],
        relevant: Sequence[Any],
        *,
        n: int = 5,
        candidates: int = 100,
        margin: float = 0.05,
        filter: FilterLike | None = None,
        recall: float | None = None,
    ) -> list[list[tuple[Id, float]]]:
        """Find hard negatives to train an encoder or a reranker with: points that a search finds for a query and that aren't relevant.

        What scores nearly as high as a relevant point is often relevant, and was only never judged. So a negative scores less than the
        lowest relevant point, by a share of its score.

        Args:
            field: the vector field to search, of any kind: a BM25 field gives other negatives than a dense one.
            queries: n vectors of the field, or n texts if it has an encoder.
            relevant: for each query the id of a relevant point, a list of ids, or a mapping from id to grade, where 0 isn't relevant.
            n: the most negatives of a query.
            candidates: look among this many of the best points of each query.
            margin: the share of the score by which a negative is below the lowest relevant point of its query, 0 to 1. For l2, by which
                it is farther.
            filter: take only points that match as negatives.
            recall: as in ``search``.

        Returns:
            For each query a list of (id, score), the hardest first. It is shorter than n where few candidates are below the relevant
            points.

        Raises:
            InvalidArgumentError: an argument is not valid.
            NotFoundError: no relevant point of a query has a vector in the field.
            SchemaError: there is no such field.
            VectorDBError: what ``search_batch`` raises.

        Example:
            ```python
            negatives = docs.mine_negatives("v", queries, relevant=[[3], [8, 9]])
            ```
        """
        steps = mine(self.schema, field, queries, relevant, n, candidates, margin, filter, recall)
        return run_steps(steps, lambda arguments: self.search_batch(**arguments))

    def pseudo_queries(
        self, field: str, *, kind: str = "ict", n: int = 300, seed: int = 0, filter: FilterLike | None = None
    ) -> PseudoQueries:
        """Make queries of stored texts, to tune a fusion without judgements: a sentence asks for the text that it is from.

        A search finds a text too easily by a sentence that is in it, and most easily by its words. So tune on a branch in which the texts
        lack their sentences, as in the example: the inverse cloze task.

        Args:
            field: a Text attribute.
            kind: "ict": a sentence of each text, of 4 to 60 words; of a text with one sentence 8 words in a row.
            n: the most queries, 1 to 10,000; a hundred are enough to tune two fields.
            seed: of the choice of points and sentences. The same points and seed give the same queries.
            filter: make them of points that match.

        Returns:
            The queries, and for each the point that it asks for and the rest of its text. There are fewer than ``n`` where few texts are
            long enough.

        Raises:
            SchemaError: the field isn't a Text attribute.
            InvalidArgumentError: an argument is not valid, or no text is long enough.
            VectorDBError: what ``scroll`` and ``get`` raise.

        Example:
            ```python
            made = docs.pseudo_queries("text", n=200)
            db.branch("docs", "trial").update(ids=made.ids, attributes={"text": made.rests})
            tuned = db["trial"].tune_fusion(None, made.qrels, text={"words": made.texts, "meaning": made.texts})
            db.drop_collection("trial")
            docs.search(text={"words": "…", "meaning": "…"}, fusion=tuned.fusion)
            ```
        """
        steps = pseudo(self.schema, field, kind, n, seed, filter)
        return run_steps(steps, lambda read: getattr(self, read[0])(**read[1]))
