"""Chunks: decoding returns what was encoded, joining and slicing keep every row, and every flipped byte is detected."""

from __future__ import annotations

import ctypes
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vectordb import CorruptionError
from vectordb.kernels import AUX, COUNT, DATA, DOCIDS, EXTRA, FIRST, FLAGS, ITEMS, LAST, NORMS
from vectordb.storage import chunks
from vectordb.storage.store import split

# Everything about a chunk comes from one seed, and how many rows with which gaps.
KINDS = st.sampled_from(["fixed", "ragged", "postings"])
makers = st.tuples(st.integers(0, 2**32 - 1), st.integers(1, 40), st.sampled_from([1, 1, 2, 50]), KINDS)


def docids_of(rng, rows, gap, start=0):
    return start + np.cumsum(rng.integers(1, gap + 1, rows)) - 1


def fixed_of(rng, docids):
    norms = rng.random(len(docids)).astype(np.float32) if rng.random() < 0.5 else None
    return chunks.fixed(docids, rng.integers(0, 99, (len(docids), 3)).astype(np.int64), norms)


def ragged_of(rng, docids):
    sizes = rng.integers(0, 4, len(docids)) * (rng.random() < 0.9)
    offsets = np.concatenate([[0], np.cumsum(sizes)])
    items = int(offsets[-1])
    extra = rng.random(items).astype(np.float32) if len(docids) % 2 else None
    return chunks.ragged(docids, offsets, rng.integers(0, 2**63, items).astype(np.uint64), extra)


def postings_of(rng, docids):
    sizes = rng.integers(0, 5, len(docids)) * (rng.random() < 0.9)
    pool = rng.integers(0, 2**64, 9, dtype=np.uint64, endpoint=False)
    terms = np.concatenate([rng.permutation(pool)[:n] for n in sizes] + [pool[:0]])
    weights = rng.standard_normal(len(terms)).astype(np.float32) if len(docids) % 2 else None
    return chunks.postings(docids, terms, np.repeat(docids, sizes), weights)


MAKE = {"fixed": fixed_of, "ragged": ragged_of, "postings": postings_of}


def rows_of(chunk) -> dict[int, tuple]:
    """docid → all that the chunk says of it."""
    if chunk.kind == chunks.POSTINGS:
        said = {docid: [] for docid in chunk.docids.tolist()}
        for t, term in enumerate(chunk.terms.tolist()):
            for p in range(chunk.indptr[t], chunk.indptr[t + 1]):
                weight = None if chunk.weights is None else float(chunk.weights[p])
                said[chunk.first + int(chunk.docs[p])].append((term, weight))
        return {docid: tuple(sorted(pairs)) for docid, pairs in said.items()}
    offsets = np.arange(len(chunk) + 1) if chunk.kind == chunks.FIXED else chunk.offsets
    said = {}
    for i, docid in enumerate(chunk.docids.tolist()):
        low, high = int(offsets[i]), int(offsets[i + 1])
        parts = [chunk.data[low:high].tobytes()]
        parts += [None if part is None else part[low:high].tobytes() for part in (getattr(chunk, "extra", None), chunk.norms)]
        said[docid] = tuple(parts)
    return said


@given(makers)
def test_a_chunk_is_decoded_as_it_was_encoded(maker):
    seed, rows, gap, kind = maker
    rng = np.random.default_rng(seed)
    chunk = MAKE[kind](rng, docids_of(rng, rows, gap, int(rng.integers(0, 2**32 - 4000))))
    value = bytes(chunks.encode(chunk))
    again = chunks.decode(value, "here")
    assert again.kind == chunk.kind
    assert rows_of(again) == rows_of(chunk)
    assert bytes(chunks.encode(again)) == value
    assert chunks.size_in(value[: chunks.HEADER]) == len(value)
    assert len(value) - 7 * 7 <= chunk.nbytes <= len(value) + 4 * rows  # "about": paddings, and docids that aren't listed


@given(makers)
def test_a_table_row_points_at_the_sections(maker):
    seed, rows, gap, kind = maker
    rng = np.random.default_rng(seed)
    chunk = MAKE[kind](rng, docids_of(rng, rows, gap))
    value = np.frombuffer(bytes(chunks.encode(chunk)), np.uint8).copy()
    row = chunks.table_row(value.data, "here")
    assert (row[FIRST], row[LAST], row[COUNT]) == (chunk.first, chunk.last, len(chunk))
    assert row[FLAGS] >> 4 & 1 == int(kind == "postings" and chunk.weights is not None and bool((chunk.weights < 1e-19).any()))

    def read(column, like):
        return np.frombuffer(ctypes.string_at(row[column], like.nbytes), like.dtype).reshape(like.shape)

    pointed = {
        "fixed": {"data": DATA, "norms": NORMS},
        "ragged": {"offsets": DATA, "data": AUX, "extra": EXTRA, "norms": NORMS},
        "postings": {"terms": DATA, "indptr": AUX, "docs": EXTRA, "weights": NORMS},
    }[kind]
    listed = chunk.last - chunk.first + 1 != len(chunk)
    for column, section in [*((pointed[name], getattr(chunk, name)) for name in pointed), (DOCIDS, chunk.docids if listed else None)]:
        if section is None:
            assert row[column] == 0
        else:
            np.testing.assert_array_equal(read(column, section), section)
            assert row[column] % 4 == value.ctypes.data % 4
    items = {"fixed": "docids", "ragged": "data", "postings": "terms"}[kind]
    assert row[ITEMS] == len(getattr(chunk, items)) == chunk.items


@given(makers, st.lists(st.integers(1, 40), max_size=3))
def test_joining_what_was_sliced_gives_the_same_rows(maker, cuts):
    seed, rows, gap, kind = maker
    rng = np.random.default_rng(seed)
    chunk = MAKE[kind](rng, docids_of(rng, rows, gap))
    bounds = sorted({0, rows, *(cut for cut in cuts if cut < rows)})
    pieces = [chunk.slice(low, high) for low, high in pairwise(bounds)]
    for piece, low, high in zip(pieces, bounds, bounds[1:]):
        expected = rows_of(chunk)
        assert rows_of(piece) == {docid: expected[docid] for docid in chunk.docids[low:high].tolist()}
    decoded = [chunks.decode(bytes(chunks.encode(piece)), "piece") for piece in pieces]
    assert rows_of(chunks.joined(decoded)) == rows_of(chunk)


@given(makers, st.data())
def test_picked_rows_are_those_asked_for(maker, data):
    seed, rows, gap, kind = maker
    rng = np.random.default_rng(seed)
    chunk = MAKE["ragged" if kind == "postings" else kind](rng, docids_of(rng, rows, gap))
    positions = np.array(data.draw(st.permutations(range(rows))))[: data.draw(st.integers(1, rows))]
    some = chunk.pick(positions)
    expected = rows_of(chunk)
    assert {docid: said[:2] for docid, said in rows_of(some).items()} == {
        docid: expected[docid][:2] for docid in chunk.docids[positions].tolist()
    }
    assert some.docids.tolist() == chunk.docids[positions].tolist()


@given(makers, st.integers(60, 2000))
def test_split_pieces_are_small_and_hold_every_row(maker, limit):
    seed, rows, gap, kind = maker
    rng = np.random.default_rng(seed)
    chunk = MAKE[kind](rng, docids_of(rng, rows, gap))
    pieces = list(split(chunk, limit))
    assert all(len(piece) == 1 or piece.nbytes <= limit for piece in pieces)
    assert {docid: said for piece in pieces for docid, said in rows_of(piece).items()} == rows_of(chunk)
    assert [docid for piece in pieces for docid in piece.docids.tolist()] == chunk.docids.tolist()


@settings(max_examples=5)
@given(st.integers(0, 2**32 - 1), st.sampled_from([1, 3]))
def test_postings_wider_than_a_block_are_split_at_blocks(seed, gap):
    rng = np.random.default_rng(seed)
    docids = docids_of(rng, 100_000, gap, start=5)
    owners = np.sort(rng.choice(docids, 50_000))
    owners = np.unique(owners)
    terms = rng.integers(0, 7, len(owners)).astype(np.uint64)
    pieces = [chunks.decode(bytes(chunks.encode(p)), "piece") for p in split(chunks.postings(docids, terms, owners), 8 << 20)]
    assert len(pieces) > 1
    assert all(piece.last - piece.first < chunks.BLOCK_ROWS for piece in pieces)
    for term in range(7):
        found = []
        for piece in pieces:
            at = np.flatnonzero(piece.terms == term)
            if len(at):
                found.append(piece.docs[piece.indptr[at[0]] : piece.indptr[at[0] + 1]].astype(np.int64) + piece.first)
        np.testing.assert_array_equal(np.concatenate(found), owners[terms == term])


@pytest.mark.parametrize("kind", MAKE)
def test_every_flipped_byte_is_noticed_and_named(kind):
    rng = np.random.default_rng(7)
    value = bytearray(chunks.encode(MAKE[kind](rng, docids_of(rng, 9, 2))))
    for at in range(len(value)):
        damaged = bytearray(value)
        damaged[at] ^= 1 << int(rng.integers(8))
        for read in (chunks.decode, chunks.table_row):
            with pytest.raises(CorruptionError, match="the third chunk") as caught:
                read(bytes(damaged), "the third chunk")
            assert caught.value.field == "the third chunk"


@pytest.mark.parametrize("kind", MAKE)
def test_a_truncated_or_empty_value_is_no_chunk(kind):
    rng = np.random.default_rng(7)
    value = bytes(chunks.encode(MAKE[kind](rng, docids_of(rng, 9, 2))))
    for size in (0, 1, 47, 48, len(value) - 8, len(value) - 1):
        with pytest.raises(CorruptionError):
            chunks.decode(value[:size], "here")
    with pytest.raises(CorruptionError):
        chunks.decode(value + b"\0" * 8, "here")
