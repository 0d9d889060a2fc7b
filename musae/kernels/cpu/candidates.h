// From rows of frames to candidates, and from candidates to exact values in order.
//
// An exact value is dot(x, w_j) + b_j, vectors.h, wherever it is computed: a rescored candidate, a token that is rerun and a
// small batch get the same bits, and a row of the result does not depend on its neighbours.
#pragma once
#include "screen.h"

constexpr int64_t REFINED = 4;  // candidates for each of the k from which a second screen costs less than their exact values
constexpr int64_t NEXT = 4;  // pairs of latent and token whose rows are fetched in advance

// Keys order like values, and of equal values the lower index has the larger key. None is 0.
inline uint64_t key_of(float value, uint32_t index) {
    uint32_t bits;
    value += 0.0f;  // -0 equals 0
    std::memcpy(&bits, &value, 4);
    return uint64_t(bits >> 31 ? ~bits : bits | 0x80000000u) << 32 | uint32_t(~index);
}

inline void emit(uint64_t key, float *value, int64_t *index) {
    const uint32_t ordered = uint32_t(key >> 32), bits = ordered >> 31 ? ordered & 0x7fffffffu : ~ordered;
    std::memcpy(value, &bits, 4);
    *index = uint32_t(~uint32_t(key));
}

// Writes the k largest of m distinct keys in falling order, then slots of value `empty` and index 0. Each key's rank is counted
// where that is quicker than sorting.
inline void write_largest(uint64_t *keys, int64_t m, int64_t k, float empty, float *values, int64_t *indices) {
    if (m <= 256) {
        for (int64_t i = m; i % 8; ++i) keys[i] = 0;
        for (int64_t i = 0; i < m; ++i) {
            const __m512i mine = _mm512_set1_epi64(int64_t(keys[i]));
            int64_t rank = 0;
            for (int64_t j = 0; j < m; j += 8)
                rank += __builtin_popcount(_mm512_cmp_epu64_mask(_mm512_loadu_si512(keys + j), mine, _MM_CMPINT_NLE));
            if (rank < k) emit(keys[i], values + rank, indices + rank);
        }
    } else {
        const int64_t most = std::min(k, m);
        std::nth_element(keys, keys + most - 1, keys + m, std::greater<uint64_t>());
        std::sort(keys, keys + most, std::greater<uint64_t>());
        for (int64_t i = 0; i < most; ++i) emit(keys[i], values + i, indices + i);
    }
    for (int64_t i = m; i < k; ++i) values[i] = empty, indices[i] = 0;
}

// Rounds tokens to the level of the screen, in tiles of twelve, and sets their share of the bounds. Rows that are not finite, and
// those that fill the last tile, are closed.
inline void pack_tokens(const float *x, const int64_t *tokens, int64_t count, Candidates &c, uint32_t *tiles, uint8_t *bad) {
    const Packed &p = c.packed;
    Buffer<uint8_t> row((p.groups * 4 + 63) / 64 * 64);
    for (int64_t t = 0; t < (count + TOKENS - 1) / TOKENS * TOKENS; ++t) {
        uint32_t *out = tiles + t / TOKENS * p.groups * TOKENS + t % TOKENS;
        bool empty = t >= count;
        if (!empty) {
            const float *from = x + tokens[t] * p.d;
            c.set(t, p.level == Level::BYTES ? round_bytes(from, p.d, row, 128) : round_bf16(from, p.d, row));
            empty = !std::isfinite(c.alpha[t]) || !std::isfinite(c.beta[t]);
            bad[tokens[t]] = empty;
        }
        if (empty) c.alpha[t] = c.beta[t] = c.scale[t] = 0, c.close(t);
        for (int64_t i = 0; i < p.groups; ++i) {
            std::memcpy(out + i * TOKENS, row + 4 * i, 4);
            if (empty) out[i * TOKENS] = 0;
        }
    }
}

// All candidates by latent, so that a latent's row stays in the nearest cache while its tokens' rows come by.
struct Pairs {
    struct Pair {
        int32_t token, slot;
    };
    std::vector<int32_t> ends;  // of each latent's pairs
    Buffer<Pair> pairs;

    Pairs(const Candidates &c, int64_t tokens, int64_t total) : ends(c.packed.width + 1, 0), pairs(total + NEXT) {
        for (int64_t t = 0; t < tokens; ++t)
            for (int64_t i = 0; i < c.count[t]; ++i) ++ends[c.latents[t * c.capacity + i] + 1];
        for (int64_t j = 0; j < c.packed.width; ++j) ends[j + 1] += ends[j];
        for (int64_t t = 0; t < tokens; ++t)
            for (int64_t i = 0; i < c.count[t]; ++i) pairs[ends[c.latents[t * c.capacity + i]]++] = {int32_t(t), int32_t(i)};
        for (int64_t i = 0; i < NEXT; ++i) pairs[total + i] = {0, 0};  // looked at, for fetching, beyond the end
    }
};

inline int64_t total_of(const Candidates &c, int64_t tokens) {
    int64_t total = 0;
    for (int64_t t = 0; t < tokens; ++t) total += c.count[t];
    return total;
}

// Sharper bounds for the candidates of a screen in bytes: their products again, in bfloat16; then the thresholds rise once more.
inline void refine(const float *x, const float *W, const int64_t *tokens, int64_t count, Candidates &c) {
    const int64_t F = c.packed.width, d = c.packed.d, stride = (d + 31) / 32 * 64;
    const Pairs by_latent(c, count, total_of(c, count));
    Buffer<uint8_t> rows(count * stride), row(stride);
    for (int64_t t = 0; t < count; ++t) c.set(t, round_bf16(x + tokens[t] * d, d, rows + t * stride));
    int32_t at = 0;
    double ratio = 0;
    for (int64_t j = 0; j < F; ++j) {
        if (at == by_latent.ends[j]) continue;
        const Rounded r = round_bf16(W + j * d, d, row);
        if (r.norm > 0) ratio = std::max(ratio, double(r.error / r.norm));
        for (; at < by_latent.ends[j]; ++at) {
            const Pairs::Pair p = by_latent.pairs[at];
            const uint8_t *next = rows + by_latent.pairs[at + NEXT].token * stride;
            const float product = dot_bf16(row, rows + p.token * stride, stride, next);
            c.bounds[p.token * c.capacity + p.slot] =
                product + (c.packed.bias[j] + c.alpha[p.token] * r.norm + c.beta[p.token] * r.error);
        }
    }
    c.typical = float(ratio);
    c.finish(count);
}

// Exact values of all candidates, in place of their bounds.
inline void rescore(const float *x, const float *W, const float *b, const int64_t *tokens, int64_t count, Candidates &c) {
    const int64_t F = c.packed.width, d = c.packed.d, total = total_of(c, count);
    const Pairs by_latent(c, count, total);
    for (int64_t j = 0, at = 0; j < F; ++j)
        for (; at < by_latent.ends[j]; ++at) {
            const Pairs::Pair p = by_latent.pairs[at];
            c.bounds[p.token * c.capacity + p.slot] =
                dot(W + j * d, x + tokens[p.token] * d, d, x + tokens[by_latent.pairs[at + NEXT].token] * d) + b[j];
        }
}

// Screens the tokens; in bytes, and where that leaves many candidates, once more in bfloat16.
inline void screen(const float *x, const float *W, const int64_t *tokens, int64_t count, Candidates &c, uint8_t *bad) {
    const Packed &packed = c.packed;
    const int64_t groups = packed.groups, padded = (count + TOKENS - 1) / TOKENS * TOKENS;
    {
        Buffer<uint32_t> tiles(padded * groups);
        pack_tokens(x, tokens, count, c, tiles, bad);
        const int64_t block = std::max<int64_t>(1, CACHE / (groups * PANEL * 4 + 1));
        for (int64_t first = 0; first < packed.panels; first += block)
            for (int64_t t = 0; t < padded; t += TOKENS)
                for (int64_t p = first; p < std::min(packed.panels, first + block); ++p)
                    (packed.level == Level::BYTES ? screen_bytes : screen_bf16)(c, tiles + t * groups, t, p);
    }
    c.finish(count);
    if (packed.level == Level::BYTES && total_of(c, count) > REFINED * c.expected * count) refine(x, W, tokens, count, c);
}

// Whether bytes are fine enough: where the bound's width, in standard deviations of a pre-activation of random rows, is below
// COARSE, a few per cent of the latents are candidates, and twice as fast a screen is worth their refinement.
constexpr float COARSE = 0.9f;

inline bool bytes_pay(const float *x, int64_t n, int64_t d, const float *W, int64_t F) {
    if (d < 64 || d > 32768) return false;  // beyond, sums of bytes leave int32
    constexpr int64_t SAMPLE = 64;
    Buffer<uint8_t> row((d + 63) / 64 * 64);
    const auto coarseness = [&](const float *rows, int64_t count) {
        double sum = 0;
        const int64_t seen = std::min(count, SAMPLE);
        for (int64_t i = 0; i < seen; ++i) {
            const Rounded r = round_bytes(rows + i * count / seen * d, d, row, 0);
            if (r.norm > 0) sum += r.error / r.norm;
        }
        return sum / double(seen);
    };
    return (coarseness(x, n) + coarseness(W, F)) * std::sqrt(double(d)) < COARSE;
}

// Tokens whose candidates are kept at one time: 64 MB of them at most.
inline int64_t chunk_of(int64_t room) {
    return std::max(TOKENS, std::min<int64_t>(2304, (int64_t(64) << 20) / (8 * room)) / TOKENS * TOKENS);
}
