// The k largest latents of ReLU(x W^T + b): a screen in bytes (screen.h) whose candidates are screened again in bfloat16, exact
// values of what is left in float32. Frames that bytes cannot certify are screened in bfloat16, and those that this cannot either
// are computed in float32 throughout; so is all where frames are few. Where bytes are too coarse, bfloat16 comes first.
#pragma once
#include "candidates.h"

constexpr int64_t FEW = 16;  // tokens below which rounding and packing the weights costs more than it saves

// The exact pass over all latents for the given tokens. A block of weights serves every token before the next is read.
// bad[token] is set where a value is not finite.
inline void exact(const float *x, const float *W, const float *b, const int64_t *tokens, int64_t count, int64_t F, int64_t d,
                  int64_t k, float *values, int64_t *indices, uint8_t *bad) {
    const int64_t block = std::max<int64_t>(1, CACHE / (d * int64_t(sizeof(float)) + 1)), room = 2 * k + 256;
    Buffer<uint64_t> keys(count * room + 8);
    std::vector<int64_t> size(count, 0);
    std::vector<float> least(count, 0);
    for (int64_t start = 0; start < F; start += block)
        for (int64_t i = 0; i < count; ++i) {
            const float *row = x + tokens[i] * d;
            uint64_t *mine = keys + i * room;
            for (int64_t j = start; j < std::min(F, start + block); ++j) {
                const float value = dot(row, W + j * d, d, W + j * d) + b[j];
                if (!std::isfinite(value)) bad[tokens[i]] = 1;
                if (!(value > least[i])) continue;  // an equal of higher index comes after the k that are there
                mine[size[i]++] = key_of(value, uint32_t(j));
                if (size[i] < room) continue;
                std::nth_element(mine, mine + k - 1, mine + room, std::greater<uint64_t>());
                size[i] = k;
                int64_t unused;
                emit(mine[k - 1], &least[i], &unused);
            }
        }
    for (int64_t i = 0; i < count; ++i)
        write_largest(keys + i * room, size[i], k, 0, values + tokens[i] * k, indices + tokens[i] * k);
}

// Screens the given tokens and writes their results; returns those that could not be certified.
inline std::vector<int64_t> screened(const float *x, const float *W, const float *b, const Packed &packed, const int64_t *tokens,
                                     int64_t count, int64_t k, float *values, int64_t *indices, uint8_t *bad) {
    Candidates c(packed, (count + TOKENS - 1) / TOKENS * TOKENS, k, k, Candidates::room(k, packed.width));
    screen(x, W, tokens, count, c, bad);
    rescore(x, W, b, tokens, count, c);
    std::vector<int64_t> again;
    Buffer<uint64_t> keys(c.capacity + 8);
    for (int64_t t = 0; t < count; ++t) {
        if (bad[tokens[t]]) continue;
        float *value = values + tokens[t] * k;
        int64_t m = 0;
        for (int64_t i = 0; i < c.count[t]; ++i) {
            const float v = c.bounds[t * c.capacity + i];
            keys[m] = key_of(v, uint32_t(c.latents[t * c.capacity + i]));
            m += v > 0;
        }
        write_largest(keys, m, k, 0, value, indices + tokens[t] * k);
        if (c.failed[t] || (c.threshold[t] > 0 && !(value[k - 1] > c.threshold[t]))) again.push_back(tokens[t]);
    }
    return again;
}

// bad[t] = 1: row t of x or some latent is not finite, or too large for its norm to be; the row's outputs mean nothing.
// passes[0..2]: tokens that were settled after the screen in bytes, after that in bfloat16, by the exact pass.
inline void topk(const float *x, const float *W, const float *b, int64_t n, int64_t F, int64_t d, int64_t k, float *values,
                 int64_t *indices, uint8_t *bad, int64_t *passes, int64_t threads) {
    std::memset(bad, 0, size_t(n));
    passes[0] = passes[1] = passes[2] = 0;
    std::vector<int64_t> tokens(static_cast<size_t>(n));
    for (int64_t t = 0; t < n; ++t) tokens[t] = t;
    const int64_t room = Candidates::room(k, F);
    const bool screens = n >= FEW && room <= Candidates::MOST;
    for (int level = screens ? !bytes_pay(x, n, d, W, F) : 2; level < 2 && int64_t(tokens.size()) >= FEW; ++level) {
        const Packed packed(level ? Level::BF16 : Level::BYTES, W, b, nullptr, F, d, threads);
        if (!packed.finite) {
            std::memset(bad, 1, size_t(n));
            return;
        }
        const int64_t chunk = chunk_of(room);
        std::vector<int64_t> again;
        std::mutex lock;
        parallel(int64_t(tokens.size()), threads, TOKENS, [&](int64_t begin, int64_t end) {
            for (; begin < end; begin += chunk) {
                const int64_t count = std::min(end - begin, chunk);
                const auto failed = screened(x, W, b, packed, tokens.data() + begin, count, k, values, indices, bad);
                std::lock_guard<std::mutex> hold(lock);
                again.insert(again.end(), failed.begin(), failed.end());
            }
        });
        passes[level] = int64_t(tokens.size() - again.size());
        std::sort(again.begin(), again.end());
        tokens = again;
    }
    passes[2] = int64_t(tokens.size());
    parallel(int64_t(tokens.size()), threads, 1, [&](int64_t begin, int64_t end) {
        const int64_t chunk = std::max<int64_t>(FEW, (int64_t(64) << 20) / (8 * (2 * k + 256)));
        for (; begin < end; begin += chunk)
            exact(x, W, b, tokens.data() + begin, std::min(end - begin, chunk), F, d, k, values, indices, bad);
    });
}
