// All latents whose pre-activation x . w_j + b_j is above a floor of their own: the screen of screen.h with thresholds that stay.
//
// The floors are taken off the biases, so that the threshold is 0 for all; what passes is computed exactly and compared exactly.
#pragma once
#include "candidates.h"

// counts[t] entries of row t, by falling value, at the front of values[t, room] and indices[t, room]. unfit[t] = 1: the row has
// more candidates than `room`, or something is not finite; its outputs mean nothing. `expected`: a guess at the usual count.
inline void above(const float *x, const float *W, const float *b, const float *floors, int64_t n, int64_t F, int64_t d,
                  int64_t expected, int64_t room, float *values, int64_t *indices, int64_t *counts, uint8_t *unfit,
                  int64_t threads) {
    std::memset(unfit, 1, size_t(n));
    if (room > Candidates::MOST) return;
    const Packed packed(bytes_pay(x, n, d, W, F) ? Level::BYTES : Level::BF16, W, b, floors, F, d, threads);
    if (!packed.finite) return;
    std::vector<int64_t> tokens(static_cast<size_t>(n));
    for (int64_t t = 0; t < n; ++t) tokens[t] = t;
    const int64_t chunk = chunk_of(room);
    parallel(n, threads, TOKENS, [&](int64_t begin, int64_t end) {
        Buffer<uint64_t> keys(room + 8);
        for (; begin < end; begin += chunk) {
            const int64_t count = std::min(end - begin, chunk);
            Candidates c(packed, (count + TOKENS - 1) / TOKENS * TOKENS, Candidates::NO_TOP, expected, room);
            screen(x, W, tokens.data() + begin, count, c, unfit);
            rescore(x, W, b, tokens.data() + begin, count, c);
            for (int64_t t = 0; t < count; ++t) {
                unfit[begin + t] |= c.failed[t];
                int64_t m = 0;
                for (int64_t i = 0; i < c.count[t]; ++i) {
                    const float value = c.bounds[t * room + i];
                    const int32_t latent = c.latents[t * room + i];
                    keys[m] = key_of(value, uint32_t(latent));
                    m += value > floors[latent];
                }
                counts[begin + t] = m;
                write_largest(keys, m, m, 0, values + (begin + t) * room, indices + (begin + t) * room);
            }
        }
    });
}
