// Certified screening: which latents can be among the k largest of h_j = x . w_j + b_j, found with products of few bits.
//
// Write x = x' + dx and w_j = w'_j + dw_j, where ' is rounding to bytes or to bfloat16. By Cauchy and Schwarz
//
//     |x . w_j - x' . w'_j|  =  |dx . w_j + x' . dw_j|  <=  |dx| |w_j| + |x'| |dw_j|.
//
// Bytes add up exactly in int32. Products of two bfloat16 numbers are exact in float32; the d additions of their accumulation,
// each with a relative error of at most u, add at most g |x'| |w'_j|, g = d u / (1 - d u), and g |start| for the start value. The
// exact float32 pass, which has the last word, differs from h_j by at most g (|x| |w_j| + |b_j|). GAMMA takes u = 2^-23, twice
// the unit of rounding to nearest, and 16 additions more: that covers the hardware's flushing of denormals (norms below TINY
// count as TINY), the conversion of bytes' sums, and the rounding of the bound itself. Together, with two numbers a token,
//
//     alpha = |dx| + 4 GAMMA |x|,   beta = |x'| (each a little more),
//     U_j = fl(x' . w'_j + b_j + 2 GAMMA |b_j| + alpha |w_j| + beta |dw_j|)
//
// U_j is at least the float32 value of latent j (|x'| |w'_j| is at most 1.01 |x| |w_j| in bfloat16, 4 |x| |w_j| in bytes, whose
// conversion takes but a few u). In bfloat16 the accumulator begins with all but the products, so that it *is* the bound and the
// screen costs one comparison: a latent is a candidate if U_j > T, T the token's threshold.
//
// T begins at 0 (ReLU: other latents are no latents) and rises, as candidates come in, to a guess below the k-th largest value.
// The guess needs no proof: after the candidates' exact values are known, the k-th largest of them, t, is compared with the last
// T. Every latent that was left out had U_j <= T at some time and T never falls, so if t > T its exact value is below t: the k
// largest candidates are the k largest latents, whatever their ties. A token that fails this, or has more candidates than fit, is
// reported, never answered.
#pragma once
#include "pack.h"

constexpr int64_t CACHE = 512 << 10;  // bytes of weights that stay in the second-level cache

// Candidates of the tokens of one range.
struct Candidates {
    static constexpr int64_t MOST = 1 << 15;  // largest capacity
    static constexpr int64_t NO_TOP = int64_t(1) << 40;

    int64_t k, expected, capacity;
    const Packed &packed;
    Buffer<float> bounds;     // U, [tokens, capacity]
    Buffer<int32_t> latents;  // [tokens, capacity]
    std::vector<int32_t> count, limit;
    std::vector<float> alpha, beta, scale, threshold;
    std::vector<uint8_t> failed;
    float caution;  // the guess lies so many margins below U: 2 are always enough, but errors average out over dimensions
    float typical;  // |dw| / |w|, for the guess alone

    // top: how many are wanted, NO_TOP for all above the floors; usual: a guess at how many there will be.
    Candidates(const Packed &p, int64_t tokens, int64_t top, int64_t usual, int64_t room)
        : k(top), expected(usual), capacity(room), packed(p), bounds(tokens * room), latents(tokens * room), count(tokens, 0),
          limit(tokens, int32_t(std::min(room, 2 * top + 128) - PANEL)), alpha(tokens, 0), beta(tokens, 0), scale(tokens, 0),
          threshold(tokens, 0), failed(tokens, 0), caution(1 + std::min(1.0f, 4 / std::sqrt(float(p.d)))), typical(p.typical) {}

    static int64_t room(int64_t k, int64_t width) { return std::min(width + 2 * PANEL, 8 * k + 512); }

    void set(int64_t token, const Rounded &r) {
        const float gamma = gamma_of(packed.d), more = 1.0001f + 2 * gamma;
        alpha[token] = more * (r.error + 4 * gamma * r.norm);
        beta[token] = more * (r.norm + r.error);
        scale[token] = r.scale;
    }

    // A threshold that nothing passes.
    void close(int64_t token) {
        count[token] = 0;
        threshold[token] = std::numeric_limits<float>::infinity();
    }

    void push(int64_t token, int64_t first, __m512 u, __mmask16 mask) {
        const int64_t at = token * capacity + count[token];
        const __m512i lanes = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
        _mm512_storeu_ps(bounds + at, _mm512_maskz_compress_ps(mask, u));
        const __m512i index = _mm512_add_epi32(_mm512_set1_epi32(int(first)), lanes);
        _mm512_storeu_si512(latents + at, _mm512_maskz_compress_epi32(mask, index));
        count[token] += __builtin_popcount(mask);
    }

    // Makes room: raises the threshold, or fails. Kept out of the tiles' code, whose registers are full.
    __attribute__((noinline)) void raise(int64_t token) {
        if (count[token] >= k) tighten(token);
        const int64_t most = capacity - PANEL;
        if (count[token] > most) {
            failed[token] = 1;
            return close(token);
        }
        limit[token] = int32_t(std::min(most, std::max<int64_t>(limit[token], 3 * count[token])));
    }

    // Raises the threshold to about the k-th largest U - caution (alpha + beta typical) |w|, and forgets the candidates below.
    void tighten(int64_t token) {
        const int64_t m = count[token];
        const __m512 spread = _mm512_set1_ps(caution * (alpha[token] + beta[token] * typical));
        alignas(64) float low[MOST];
        __m512 top = _mm512_setzero_ps();
        for (int64_t i = 0; i < m; i += 16) {
            const __mmask16 on = tail(m - i);
            const __m512i j = _mm512_maskz_loadu_epi32(on, latents + token * capacity + i);
            const __m512 w = _mm512_mask_i32gather_ps(_mm512_setzero_ps(), on, j, packed.norm, 4);
            const __m512 u = _mm512_maskz_loadu_ps(on, bounds + token * capacity + i);
            const __m512 value = _mm512_max_ps(_mm512_maskz_fnmadd_ps(on, spread, w, u), _mm512_setzero_ps());
            _mm512_store_ps(low + i, value);
            top = _mm512_max_ps(top, value);
        }
        const auto reach = [&](float level) {
            const __m512 l = _mm512_set1_ps(level);
            int64_t above = 0;
            for (int64_t i = 0; i < m; i += 16)
                above += __builtin_popcount(_mm512_cmp_ps_mask(_mm512_load_ps(low + i), l, _CMP_GE_OQ));
            return above >= k;
        };
        // bisection on the bits of positive floats, from a 256th of the largest if that is reached
        const auto bits = [](float f) { uint32_t b; std::memcpy(&b, &f, 4); return b; };
        const auto number = [](uint32_t b) { float f; std::memcpy(&f, &b, 4); return f; };
        const float best = _mm512_reduce_max_ps(top);
        uint32_t lo = bits(threshold[token]), hi = bits(best) + 1;
        if (number(lo) < best / 256 && reach(best / 256)) lo = bits(best / 256);
        while (lo + (1 << 16) < hi) {
            const uint32_t middle = lo + (hi - lo) / 2;
            (reach(number(middle)) ? lo : hi) = middle;
        }
        const float level = number(lo) * (1 - 0x1p-20f);
        if (level > threshold[token]) {
            threshold[token] = level;
            keep(token);
        }
    }

    // The last word of a screen.
    void finish(int64_t tokens) {
        for (int64_t t = 0; t < tokens; ++t) {
            raise(t);
            keep(t);
        }
    }

    // Forgets the candidates whose bound the threshold has reached.
    void keep(int64_t token) {
        float *u = bounds + token * capacity;
        int32_t *j = latents + token * capacity;
        const __m512 l = _mm512_set1_ps(threshold[token]);
        int64_t kept = 0;
        for (int64_t i = 0; i < count[token]; i += 16) {
            const __mmask16 on = tail(count[token] - i);
            const __m512 value = _mm512_maskz_loadu_ps(on, u + i);
            const __m512i index = _mm512_maskz_loadu_epi32(on, j + i);
            const __mmask16 m = _mm512_mask_cmp_ps_mask(on, value, l, _CMP_GT_OQ);
            const int passed = __builtin_popcount(m);
            _mm512_mask_storeu_ps(u + kept, tail(passed), _mm512_maskz_compress_ps(m, value));  // not into the next token's
            _mm512_mask_storeu_epi32(j + kept, tail(passed), _mm512_maskz_compress_epi32(m, index));
            kept += passed;
        }
        count[token] = int32_t(kept);
    }
};

inline void offer(Candidates &c, int64_t token, int64_t panel, __m512 low, __m512 high) {
    const __m512 t = _mm512_set1_ps(c.threshold[token]);
    const __mmask16 m0 = _mm512_cmp_ps_mask(low, t, _CMP_GT_OQ), m1 = _mm512_cmp_ps_mask(high, t, _CMP_GT_OQ);
    if (!(m0 | m1)) return;
    if (m0) c.push(token, panel * PANEL, low, m0);
    if (m1) c.push(token, panel * PANEL + 16, high, m1);
    if (c.count[token] >= c.limit[token]) c.raise(token);
}

// What a bound has beside the products: b_j + alpha |w_j| + beta |dw_j|.
inline __m512 margin(const Packed &p, int64_t at, __m512 alpha, __m512 beta) {
    const __m512 near = _mm512_fmadd_ps(alpha, _mm512_load_ps(p.norm + at), _mm512_load_ps(p.bias + at));
    return _mm512_fmadd_ps(beta, _mm512_load_ps(p.error + at), near);
}

// Twelve tokens against one panel.
inline void screen_bf16(Candidates &c, const uint32_t *x, int64_t token, int64_t panel) {
    const Packed &p = c.packed;
    const uint32_t *w = p.weights + panel * p.groups * PANEL;
    __m512 sum[TOKENS][2];
#pragma GCC unroll 12
    for (int r = 0; r < TOKENS; ++r) {
        const __m512 alpha = _mm512_set1_ps(c.alpha[token + r]), beta = _mm512_set1_ps(c.beta[token + r]);
        sum[r][0] = margin(p, panel * PANEL, alpha, beta);
        sum[r][1] = margin(p, panel * PANEL + 16, alpha, beta);
    }
    for (int64_t i = 0; i < p.groups; ++i, w += PANEL, x += TOKENS) {
        const __m512bh w0 = (__m512bh)_mm512_load_si512(w), w1 = (__m512bh)_mm512_load_si512(w + 16);
#pragma GCC unroll 12
        for (int r = 0; r < TOKENS; ++r) {
            const __m512bh v = (__m512bh)_mm512_set1_epi32(int(x[r]));
            sum[r][0] = _mm512_dpbf16_ps(sum[r][0], v, w0);
            sum[r][1] = _mm512_dpbf16_ps(sum[r][1], v, w1);
        }
    }
#pragma GCC unroll 12
    for (int r = 0; r < TOKENS; ++r) offer(c, token + r, panel, sum[r][0], sum[r][1]);
}

// The intrinsic, spelt out: compilers keep copies of its accumulators on the stack.
inline void dot_bytes(__m512i &sum, __m512i unsigned_bytes, __m512i signed_bytes) {
    asm("vpdpbusd %2, %1, %0" : "+v"(sum) : "v"(unsigned_bytes), "v"(signed_bytes));
}

inline void screen_bytes(Candidates &c, const uint32_t *x, int64_t token, int64_t panel) {
    const Packed &p = c.packed;
    const uint32_t *w = p.weights + panel * p.groups * PANEL;
    const int64_t at = panel * PANEL;
    __m512i sum[TOKENS][2];
#pragma GCC unroll 12
    for (int r = 0; r < TOKENS; ++r) {
        sum[r][0] = _mm512_load_si512(p.start + at);
        sum[r][1] = _mm512_load_si512(p.start + at + 16);
    }
    for (int64_t i = 0; i < p.groups; ++i, w += PANEL, x += TOKENS) {
        const __m512i w0 = _mm512_load_si512(w), w1 = _mm512_load_si512(w + 16);
#pragma GCC unroll 12
        for (int r = 0; r < TOKENS; ++r) {
            const __m512i v = _mm512_set1_epi32(int(x[r]));
            dot_bytes(sum[r][0], v, w0);
            dot_bytes(sum[r][1], v, w1);
        }
    }
    const __m512 s0 = _mm512_load_ps(p.scale + at), s1 = _mm512_load_ps(p.scale + at + 16);
#pragma GCC unroll 12
    for (int r = 0; r < TOKENS; ++r) {
        const __m512 alpha = _mm512_set1_ps(c.alpha[token + r]), beta = _mm512_set1_ps(c.beta[token + r]);
        const __m512 scale = _mm512_set1_ps(c.scale[token + r]);
        const __m512 low = _mm512_mul_ps(_mm512_cvtepi32_ps(sum[r][0]), s0);
        const __m512 high = _mm512_mul_ps(_mm512_cvtepi32_ps(sum[r][1]), s1);
        offer(c, token + r, panel, _mm512_fmadd_ps(low, scale, margin(p, at, alpha, beta)),
              _mm512_fmadd_ps(high, scale, margin(p, at + 16, alpha, beta)));
    }
}
