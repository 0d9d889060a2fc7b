// Sparse products over rows of float32 matrices: see the path protocol in path.py for shapes.
#pragma once
#include "parallel.h"
#include "vectors.h"
#include <algorithm>

inline bool within(const int64_t *indices, int64_t count, int64_t width) {
    bool good = true;
    for (int64_t i = 0; i < count; ++i) good &= uint64_t(indices[i]) < uint64_t(width);
    return good;
}

// Both gathers take the columns of `rows` in blocks: a block of a large matrix stays in a cache that the matrix does not fit in.
inline void gather_sum(const float *weights, const int64_t *indices, const float *rows, const float *bias, float *out, int64_t n,
                       int64_t s, int64_t d, int64_t threads) {
    parallel(n, threads, 1, [&](int64_t begin, int64_t end) {
        const int64_t last = end * s - 1;
        for (int64_t c = 0; c < d; c += COLUMNS)
            for (int64_t t = begin; t < end; ++t)
                weighted_sum(out + t * d + c, bias ? bias + c : nullptr, std::min(COLUMNS, d - c), s,
                             [&](int64_t j) { return weights[t * s + j]; },
                             [&](int64_t j) { return rows + indices[std::min(t * s + j, last)] * d + c; });
    });
}

inline void gather_dot(const float *upstream, const int64_t *indices, const float *rows, float *out, int64_t n, int64_t s,
                       int64_t d, int64_t threads) {
    parallel(n, threads, 1, [&](int64_t begin, int64_t end) {
        const int64_t last = end * s - 1;
        for (int64_t c = 0; c < d; c += COLUMNS)
            for (int64_t t = begin; t < end; ++t)
                for (int64_t slot = t * s; slot < (t + 1) * s; ++slot) {
                    const float part = dot(upstream + t * d + c, rows + indices[slot] * d + c, std::min(COLUMNS, d - c),
                                           rows + indices[std::min(slot + AHEAD, last)] * d + c);
                    out[slot] = c ? out[slot] + part : part;
                }
        for (int64_t slot = begin * s; d == 0 && slot < end * s; ++slot) out[slot] = 0;
    });
}

// Counting sort of the slots by latent, stable; slots of weight 0 are left out. Returns the number kept.
inline int64_t transpose(const int64_t *indices, const float *weights, int64_t count, int64_t s, int64_t width, int64_t *slots,
                         int64_t *frames, int64_t *offsets) {
    for (int64_t f = 0; f <= width; ++f) offsets[f] = 0;
    for (int64_t i = 0; i < count; ++i) offsets[indices[i] + 1] += weights[i] != 0;
    for (int64_t f = 0; f < width; ++f) offsets[f + 1] += offsets[f];
    std::vector<int64_t> place(offsets, offsets + width);
    for (int64_t frame = 0, i = 0; i < count; ++frame)
        for (const int64_t last = i + s; i < last; ++i)
            if (weights[i] != 0) {
                const int64_t at = place[indices[i]]++;
                slots[at] = i;
                frames[at] = frame;
            }
    return offsets[width];
}

// The gradient row of one latent: the sum over its slots of weights[slot] * rows[frame].
inline void outer_row(const int64_t *slots, const int64_t *frames, int64_t begin, int64_t end, int64_t last, const float *weights,
                      const float *rows, float *out, int64_t d) {
    for (int64_t c = 0; c < d; c += COLUMNS)
        weighted_sum(out + c, nullptr, std::min(COLUMNS, d - c), end - begin,
                     [&](int64_t j) { return weights[slots[begin + j]]; },
                     [&](int64_t j) { return rows + frames[std::min(begin + j, last)] * d + c; });
}

inline void outer(const int64_t *slots, const int64_t *frames, const int64_t *offsets, const float *weights, const float *rows,
                  float *out, int64_t width, int64_t d, int64_t threads) {
    parallel(width, threads, 16, [&](int64_t begin, int64_t end) {
        for (int64_t f = begin; f < end; ++f)
            outer_row(slots, frames, offsets[f], offsets[f + 1], offsets[width] - 1, weights, rows, out + f * d, d);
    });
}

inline void total(const int64_t *slots, const int64_t *offsets, const float *weights, float *out, int64_t width) {
    for (int64_t f = 0; f < width; ++f) {
        float sum = 0;
        for (int64_t at = offsets[f]; at < offsets[f + 1]; ++at) sum += weights[slots[at]];
        out[f] = sum;
    }
}
