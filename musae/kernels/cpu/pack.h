// Rows rounded to 8 bits or to bfloat16, with what the rounding may have cost, in the layouts that the screen multiplies.
//
// A group is what one lane of a dot-product instruction takes: 2 bfloat16 or 4 bytes, 32 bits either way. Latents are packed in
// panels of 32, [group][32 latents], tokens in tiles of 12, [group][12 tokens]. Bytes are multiples of a row's largest
// magnitude / 127: signed for latents; for tokens 128 more, unsigned, which `start` takes off again.
#pragma once
#include "parallel.h"
#include "vectors.h"
#include <algorithm>
#include <cstring>
#include <limits>

enum class Level { BYTES, BF16 };

constexpr int64_t TOKENS = 12, PANEL = 32;  // 12 x 32 accumulators fill 24 of the 32 registers
constexpr float TINY = 1e-12f;              // a row that is not zero counts as at least so long: below, squares underflow

constexpr int64_t per_group(Level level) { return level == Level::BYTES ? 4 : 2; }
inline int64_t groups_of(Level level, int64_t d) { return (d + per_group(level) - 1) / per_group(level); }
inline float gamma_of(int64_t d) { return float(d + 16) * 0x1p-23f; }

struct Rounded {
    float norm, error;  // upper bounds of |row| and |row - rounded row|
    float scale;        // of bytes
    int32_t sum;        // of bytes
};

// 32 floats -> 32 bfloat16, round to nearest even; lanes 0-15 from lo.
inline __m512i to_bf16(__m512 lo, __m512 hi) { return (__m512i)_mm512_cvtne2ps_pbh(hi, lo); }
inline __m512 from_bf16(__m256i half) { return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(half), 16)); }

inline Rounded measured(__m512 norm, __m512 error, __m512 most, int64_t d) {
    const float slack = 1 + gamma_of(d), length = std::sqrt(_mm512_reduce_add_ps(norm)) * slack;
    if (length < TINY && _mm512_reduce_max_ps(most) > 0) return {TINY, TINY, 0, 0};
    return {length, std::sqrt(_mm512_reduce_add_ps(error)) * slack + 0x1p-21f * length, 0, 0};
}

inline __m512 magnitude(__m512 v) { return _mm512_abs_ps(v); }

// Rounds a row of d floats to `out`, with zeros up to a multiple of 64 bytes.
inline Rounded round_bf16(const float *row, int64_t d, uint8_t *out) {
    __m512 norm = _mm512_setzero_ps(), error = norm, most = norm;
    for (int64_t i = 0; i < d; i += 32) {
        const __m512 lo = _mm512_maskz_loadu_ps(tail(d - i), row + i);
        const __m512 hi = i + 16 < d ? _mm512_maskz_loadu_ps(tail(d - i - 16), row + i + 16) : _mm512_setzero_ps();
        const __m512i both = to_bf16(lo, hi);
        _mm512_storeu_si512(out + 2 * i, both);
        const __m512 dl = _mm512_sub_ps(lo, from_bf16(_mm512_castsi512_si256(both)));
        const __m512 dh = _mm512_sub_ps(hi, from_bf16(_mm512_extracti64x4_epi64(both, 1)));
        norm = _mm512_fmadd_ps(hi, hi, _mm512_fmadd_ps(lo, lo, norm));
        error = _mm512_fmadd_ps(dh, dh, _mm512_fmadd_ps(dl, dl, error));
        most = _mm512_max_ps(most, _mm512_max_ps(magnitude(lo), magnitude(hi)));
    }
    return measured(norm, error, most, d);
}

inline void store_bytes(uint8_t *out, __m128i bytes) { _mm_storeu_si128(reinterpret_cast<__m128i *>(out), bytes); }

// The same to bytes, each with `offset` added.
inline Rounded round_bytes(const float *row, int64_t d, uint8_t *out, uint8_t offset) {
    __m512 most = _mm512_setzero_ps(), norm = most, error = most;
    for (int64_t i = 0; i < d; i += 16) most = _mm512_max_ps(most, magnitude(_mm512_maskz_loadu_ps(tail(d - i), row + i)));
    const float largest = _mm512_reduce_max_ps(most), scale = largest / 127;
    // beyond these, all bytes are 0 and the error is the row
    const float inverse = scale > 1e-30f && largest < 1e30f ? 1 / scale : 0.0f;
    const __m512 factor = _mm512_set1_ps(inverse), unit = _mm512_set1_ps(inverse > 0 ? scale : 0.0f);
    __m512i sum = _mm512_setzero_si512();
    for (int64_t i = 0; i < d; i += 16) {
        const __m512 v = _mm512_maskz_loadu_ps(tail(d - i), row + i);
        const __m512i q = _mm512_max_epi32(_mm512_min_epi32(_mm512_cvtps_epi32(_mm512_mul_ps(v, factor)), _mm512_set1_epi32(127)),
                                           _mm512_set1_epi32(-127));
        const __m512 delta = _mm512_fnmadd_ps(_mm512_cvtepi32_ps(q), unit, v);
        norm = _mm512_fmadd_ps(v, v, norm);
        error = _mm512_fmadd_ps(delta, delta, error);
        sum = _mm512_add_epi32(sum, q);
        store_bytes(out + i, _mm512_cvtepi32_epi8(_mm512_add_epi32(q, _mm512_set1_epi32(offset))));
    }
    for (int64_t i = (d + 15) / 16 * 16; i % 64; i += 16) store_bytes(out + i, _mm_setzero_si128());
    Rounded r = measured(norm, error, most, d);
    r.scale = inverse > 0 ? scale : 0.0f;
    r.sum = _mm512_reduce_add_epi32(sum);
    return r;
}

inline void transpose16(__m512i r[16]) {
    __m512i t[16];
    for (int i = 0; i < 16; i += 2) {
        t[i] = _mm512_unpacklo_epi32(r[i], r[i + 1]);
        t[i + 1] = _mm512_unpackhi_epi32(r[i], r[i + 1]);
    }
    for (int i = 0; i < 16; i += 4) {
        r[i] = _mm512_unpacklo_epi64(t[i], t[i + 2]);
        r[i + 1] = _mm512_unpackhi_epi64(t[i], t[i + 2]);
        r[i + 2] = _mm512_unpacklo_epi64(t[i + 1], t[i + 3]);
        r[i + 3] = _mm512_unpackhi_epi64(t[i + 1], t[i + 3]);
    }
    for (int i = 0; i < 4; ++i) {
        t[i] = _mm512_shuffle_i32x4(r[i], r[i + 4], 0x88);
        t[i + 4] = _mm512_shuffle_i32x4(r[i], r[i + 4], 0xdd);
        t[i + 8] = _mm512_shuffle_i32x4(r[i + 8], r[i + 12], 0x88);
        t[i + 12] = _mm512_shuffle_i32x4(r[i + 8], r[i + 12], 0xdd);
    }
    for (int i = 0; i < 4; ++i) {
        r[i] = _mm512_shuffle_i32x4(t[i], t[i + 8], 0x88);
        r[i + 8] = _mm512_shuffle_i32x4(t[i], t[i + 8], 0xdd);
        r[i + 4] = _mm512_shuffle_i32x4(t[i + 4], t[i + 12], 0x88);
        r[i + 12] = _mm512_shuffle_i32x4(t[i + 4], t[i + 12], 0xdd);
    }
}

// The encoder's rows. Padding latents have bias -infinity; where latents have floors, those are taken off the biases.
struct Packed {
    Level level;
    int64_t width, d, groups, panels;
    Buffer<uint32_t> weights;
    Buffer<float> norm, error, bias;  // |w_j|, |w_j - w'_j|, b_j (less its floor) with room for its rounding
    Buffer<float> scale;              // of bytes
    Buffer<int32_t> start;            // -128 times the sum of the bytes
    float typical = 0;                // mean of error / norm
    bool finite = true;

    Packed(Level l, const float *W, const float *b, const float *floors, int64_t F, int64_t depth, int64_t threads)
        : level(l), width(F), d(depth), groups(groups_of(l, depth)), panels((F + PANEL - 1) / PANEL),
          weights(panels * groups * PANEL), norm(panels * PANEL), error(panels * PANEL), bias(panels * PANEL),
          scale(panels * PANEL), start(panels * PANEL) {
        parallel(panels, threads, 1, [&](int64_t begin, int64_t end) {
            const int64_t stride = (groups * 4 + 63) / 64 * 64;
            Buffer<uint8_t> rows(PANEL * stride);
            for (int64_t p = begin; p < end; ++p) pack(W, b, floors, p, rows, stride);
        });
        double sum = 0;
        for (int64_t j = 0; j < F; ++j) {
            finite &= std::isfinite(norm[j]) && std::isfinite(bias[j]);
            if (norm[j] > 0) sum += error[j] / norm[j];
        }
        typical = float(sum / double(F));
    }

  private:
    void pack(const float *W, const float *b, const float *floors, int64_t panel, uint8_t *rows, int64_t stride) {
        const float slack = 2 * gamma_of(d);
        for (int64_t j = 0; j < PANEL; ++j) {
            const int64_t latent = panel * PANEL + j;
            Rounded r = {0, 0, 0, 0};
            if (latent < width) {
                uint8_t *out = rows + j * stride;
                r = level == Level::BYTES ? round_bytes(W + latent * d, d, out, 0) : round_bf16(W + latent * d, d, out);
                const float floor = floors ? floors[latent] : 0.0f, size = std::fabs(b[latent]) + std::fabs(floor);
                bias[latent] = b[latent] - floor + slack * size + (size > 0 ? 1e-36f : 0.0f);
            } else {
                std::memset(rows + j * stride, 0, size_t(stride));
                bias[latent] = -std::numeric_limits<float>::infinity();
            }
            norm[latent] = r.norm, error[latent] = r.error, scale[latent] = r.scale, start[latent] = -128 * r.sum;
        }
        for (int64_t half = 0; half < 2; ++half)
            for (int64_t i = 0; i < groups; i += 16) {
                __m512i block[16];
                for (int64_t j = 0; j < 16; ++j) block[j] = _mm512_loadu_si512(rows + (half * 16 + j) * stride + 4 * i);
                transpose16(block);
                uint32_t *out = weights + (panel * groups + i) * PANEL + half * 16;
                for (int64_t j = 0; j < 16 && i + j < groups; ++j) _mm512_store_si512(out + j * PANEL, block[j]);
            }
    }
};
