"""Inverted blocks: exact term-at-a-time scoring, unions of postings, document frequencies."""

from __future__ import annotations

import numpy as np
from numba import carray

from . import AUX, COUNT, DATA, DOCIDS, EXTRA, FIRST, FLAGS, ITEMS, LAST, NORMS
from .dense import LARGEST, first_row, lower_bound, place_of
from .jit import count_trailing_zeros, inner, kernel, pointer, prefetch
from .topk import make_key, offer

AT_ONCE = 256  # postings of a list added at a time; they stay in the core's cache [chosen, not measured]
SIGNED = 16  # the chunk flag: some weights are negative or tiny


@inner
def find_term(terms, count, start, term):
    """Position of a term at or after ``start`` by galloping (callers ask ascending), or −1 − where it would stand."""
    step = 1
    high = start
    while high < count and terms[high] < term:
        start = high + 1
        high += step
        step <<= 1
    place = lower_bound(terms, start, min(high, count), term)
    return place if place < count and terms[place] == term else -1 - place


@inner(ordered=True)
def saturated(frequency, gain, norm):
    """BM25's weight of a term that a row says so often: float32, rounded after each step, wherever it is computed."""
    return frequency * gain / (frequency + norm)


@inner(ordered=True)
def finite(score):
    """A sum of products as a score: weights as large as no write takes any more may have added up to an infinity, or to no number."""
    return min(max(score, -LARGEST), LARGEST) if score == score else np.float32(0)


@inner(ordered=True)
def norms_between(lengths, first, last, fixed, slope, norms):
    """``fixed + slope · length`` of docids first … last that have a length, into norms[docid − first] (float32). lengths: a chunk table of
    uint32 values by row.
    """
    for c in range(len(lengths)):
        if lengths[c, LAST] < first or lengths[c, FIRST] > last:
            continue
        count = lengths[c, COUNT]
        values = carray(pointer(lengths[c, DATA]), count, np.uint32)
        if lengths[c, DOCIDS] != 0:
            docids = carray(pointer(lengths[c, DOCIDS]), count, np.uint32)
            i = lower_bound(docids, 0, count, first)
            while i < count and np.int64(docids[i]) <= last:
                norms[np.int64(docids[i]) - first] = fixed + slope * np.float32(values[i])
                i += 1
        else:
            begin = max(first, lengths[c, FIRST])
            inside = min(last, lengths[c, LAST]) - begin + 1
            own = values[begin - lengths[c, FIRST] :]
            out = norms[begin - first :]
            for i in range(inside):
                out[i] = fixed + slope * np.float32(own[i])


@kernel(ordered=True)
def sparse_topk(table, terms, weights, signed, rows, filtered, low, high, lengths, saturation, norms, scores, touched, heap):
    """The best scores over inverted blocks [low, high), into a heap of len(heap) keys. Returns how many.

    terms: uint64 ascending, weights float32. A row is a match when it shares a term with the query. A score is the inner product; where
    saturation[0] isn't 0, stored weights are term frequencies, and count as BM25 has it: saturation is (gain, fixed, slope), float32, see
    ``saturated`` and ``norms_between``, and lengths the chunk table of the rows' lengths. norms: float32; scores: float32 zeros, touched:
    bool False, each as long as the widest block's docid span; the last two are left cleared. ``signed``: some query weight is negative or
    tiny.
    """
    k = len(heap)
    gain = saturation[0]
    parts = np.empty(AT_ONCE, np.float32)
    n = 0
    cursor = first_row(table, rows, filtered, low, high)
    begins = np.empty(len(terms), np.int64)
    ends = np.empty(len(terms), np.int64)
    factors = np.empty(len(terms), np.float32)
    for c in range(low, high):
        first = table[c, FIRST]
        last = table[c, LAST]
        span = last - first + 1
        vocabulary = table[c, ITEMS]
        block_terms = carray(pointer(table[c, DATA]), vocabulary, np.uint64)
        indptr = carray(pointer(table[c, AUX]), vocabulary + 1, np.uint32)
        postings = np.int64(indptr[vocabulary])
        docs = carray(pointer(table[c, EXTRA]), postings, np.uint16)
        valued = table[c, NORMS] != 0  # without weights each counts as 1
        values = carray(pointer(table[c, NORMS]), postings if valued else np.int64(0), np.float32)
        if filtered:
            while cursor < len(rows) and np.int64(rows[cursor]) < first:
                cursor += 1
            if cursor >= len(rows):
                break
            if np.int64(rows[cursor]) > last:
                continue
        # With weights all well above 0 a score is 0 only where nothing was added; otherwise the rows reached are marked.
        mark = signed or (table[c, FLAGS] & SIGNED) != 0
        # Find all lists first and call their beginnings into the cache: most lists are short, and waiting for memory is the cost.
        lists = 0
        position = 0
        for t in range(len(terms)):
            position = find_term(block_terms, vocabulary, position, terms[t])
            if position < 0:
                position = -1 - position
                continue
            begins[lists] = np.int64(indptr[position])
            ends[lists] = np.int64(indptr[position + 1])
            factors[lists] = weights[t]
            for line in range(min(16, (ends[lists] - begins[lists] + 15) >> 4)):
                prefetch(table[c, EXTRA] + 2 * begins[lists] + 64 * (line >> 1))
                prefetch(table[c, NORMS] + 4 * begins[lists] + 64 * line)
            lists += 1
        if lists == 0:
            continue
        if gain != 0:
            norms_between(lengths, first, last, saturation[1], saturation[2], norms)
        for t in range(lists):
            weight = factors[t]
            if gain != 0:
                p = begins[t]
                while p < ends[t]:  # weights of some postings first: that is vectorized
                    count = min(ends[t] - p, AT_ONCE)
                    own = carray(pointer(table[c, EXTRA] + 2 * p), count, np.uint16)
                    frequencies = carray(pointer(table[c, NORMS] + 4 * p), count, np.float32)
                    for i in range(count):
                        parts[i] = norms[own[i]]
                    for i in range(count):
                        parts[i] = weight * saturated(frequencies[i], gain, parts[i])
                    for i in range(count):
                        scores[own[i]] += parts[i]
                    if mark:
                        for i in range(count):
                            touched[own[i]] = True
                    p += count
            elif not valued:
                for p in range(begins[t], ends[t]):
                    scores[docs[p]] += weight
                    if mark:
                        touched[docs[p]] = True
            elif mark:
                for p in range(begins[t], ends[t]):
                    scores[docs[p]] += weight * values[p]
                    touched[docs[p]] = True
            else:
                for p in range(begins[t], ends[t]):
                    scores[docs[p]] += weight * values[p]
        floor = np.float32(-np.inf)
        if n == k:
            floor = threshold(heap)
        if filtered:
            while cursor < len(rows) and np.int64(rows[cursor]) <= last:
                i = np.int64(rows[cursor]) - first
                cursor += 1
                if not scores[i] < floor and (touched[i] if mark else scores[i] != 0):
                    n = offer(heap, n, k, make_key(finite(scores[i]), first + i))
                    if n == k:
                        floor = threshold(heap)
        else:
            for i in range(span):
                if not scores[i] < floor and (touched[i] if mark else scores[i] != 0):
                    n = offer(heap, n, k, make_key(finite(scores[i]), first + i))
                    if n == k:
                        floor = threshold(heap)
        scores[:span] = 0
        if mark:
            touched[:span] = False
    return n


@kernel(ordered=True)
def sparse_scores(table, terms, weights, rows, saturation, keys):
    """Scores of rows of a forward index (chunks of terms and weights by row) for a query, as keys; returns how many.

    terms, weights, saturation: as in ``sparse_topk``. rows: docids (uint32); keys (int64): one for each of them that shares a term with
    the query.
    Products are added in the order of terms, as ``sparse_topk`` does: both give the same score.
    """
    n = 0
    for i in range(len(rows)):
        c, position = place_of(table, np.int64(rows[i]))
        if c < 0:
            continue
        offsets = carray(pointer(table[c, DATA]), table[c, COUNT] + 1, np.uint32)
        held = carray(pointer(table[c, AUX]), table[c, ITEMS], np.uint64)
        valued = table[c, EXTRA] != 0  # without weights each counts as 1
        values = carray(pointer(table[c, EXTRA]), table[c, ITEMS] if valued else np.int64(0), np.float32)
        p, end = np.int64(offsets[position]), np.int64(offsets[position + 1])
        norm = np.float32(0)
        if saturation[0] != 0:
            length = np.int64(0)
            for item in range(p, end):
                length += np.int64(values[item])
            norm = saturation[1] + saturation[2] * np.float32(length)
        t = 0
        score = np.float32(0)
        shared = False
        while t < len(terms) and p < end:
            if held[p] < terms[t]:
                p += 1
            elif held[p] > terms[t]:
                t += 1
            else:
                if saturation[0] != 0:
                    score += weights[t] * saturated(values[p], saturation[0], norm)
                else:
                    score += weights[t] * values[p] if valued else weights[t]
                shared = True
                t += 1
                p += 1
        if shared:
            keys[n] = make_key(finite(score), np.int64(rows[i]))
            n += 1
    return n


@inner
def threshold(heap):
    """The lowest kept score."""
    ordered = np.int32(heap[0] >> 32)
    return np.int32(ordered ^ ((ordered >> 31) & np.int32(0x7FFFFFFF))).view(np.float32)


@inner
def set_bits(docs, indptr, position, words):
    for p in range(np.int64(indptr[position]), np.int64(indptr[position + 1])):
        words[docs[p] >> 6] |= np.uint64(1) << np.uint64(docs[p] & 63)


@kernel
def postings_union(table, terms, start, words, out):
    """Docids ≥ start that hold any of the terms (uint64, ascending), ascending into ``out``. Returns how many.

    words: uint64 zeros, 1,024 of them (one bit a docid of a block); left cleared.
    """
    n = 0
    for c in range(len(table)):
        if table[c, LAST] < start:
            continue
        first = table[c, FIRST]
        vocabulary = table[c, ITEMS]
        block_terms = carray(pointer(table[c, DATA]), vocabulary, np.uint64)
        indptr = carray(pointer(table[c, AUX]), vocabulary + 1, np.uint32)
        docs = carray(pointer(table[c, EXTRA]), np.int64(indptr[vocabulary]), np.uint16)
        position = 0
        present = 0
        only = 0
        for t in range(len(terms)):
            if position >= vocabulary:
                break
            position = find_term(block_terms, vocabulary, position, terms[t])
            if position < 0:
                position = -1 - position
                continue
            present += 1
            if present == 1:
                only = position  # one term's postings are ascending already: bits are set from the second term on
                continue
            if present == 2:
                set_bits(docs, indptr, only, words)
            set_bits(docs, indptr, position, words)
        if present == 1:
            for p in range(np.int64(indptr[only]), np.int64(indptr[only + 1])):
                docid = first + np.int64(docs[p])
                if docid >= start:
                    out[n] = docid
                    n += 1
        elif present > 1:
            span = table[c, LAST] - first + 1
            for w in range((span + 63) >> 6):
                word = words[w]
                words[w] = 0
                while word != 0:
                    docid = first + w * 64 + count_trailing_zeros(word)
                    word &= word - np.uint64(1)
                    if docid >= start:
                        out[n] = docid
                        n += 1
    return n


@kernel
def document_frequencies(table, terms, dead, has_dead, out):
    """Live rows that hold each term (uint64, ascending) into ``out`` (int64 zeros). dead: uint64 words, a bit a docid."""
    for c in range(len(table)):
        first = table[c, FIRST]
        vocabulary = table[c, ITEMS]
        block_terms = carray(pointer(table[c, DATA]), vocabulary, np.uint64)
        indptr = carray(pointer(table[c, AUX]), vocabulary + 1, np.uint32)
        docs = carray(pointer(table[c, EXTRA]), np.int64(indptr[vocabulary]), np.uint16)
        position = 0
        for t in range(len(terms)):
            position = find_term(block_terms, vocabulary, position, terms[t])
            if position < 0:
                position = -1 - position
                continue
            low = np.int64(indptr[position])
            high = np.int64(indptr[position + 1])
            out[t] += high - low
            if has_dead:
                for p in range(low, high):
                    docid = first + np.int64(docs[p])
                    out[t] -= np.int64((dead[docid >> 6] >> np.uint64(docid & 63)) & np.uint64(1))


@kernel
def present_rows(table, start, out):
    """Docids ≥ start that chunks of any kind hold, ascending into ``out``. Returns how many."""
    n = 0
    for c in range(len(table)):
        if table[c, LAST] < start:
            continue
        count = table[c, COUNT]
        first = table[c, FIRST]
        if table[c, DOCIDS] != 0:
            docids = carray(pointer(table[c, DOCIDS]), count, np.uint32)
            for i in range(count):
                if np.int64(docids[i]) >= start:
                    out[n] = docids[i]
                    n += 1
        else:
            for docid in range(max(start, first), first + count):
                out[n] = docid
                n += 1
    return n
