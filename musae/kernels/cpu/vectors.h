// Loops over one row of d floats, 16 lanes at a time with a masked tail. Rows need no alignment.
#pragma once
#include <cmath>
#include <cstdint>
#include <immintrin.h>

using std::int64_t;

inline __mmask16 tail(int64_t left) { return left >= 16 ? __mmask16(0xffff) : __mmask16((1u << left) - 1); }

inline void prefetch(const float *p) { _mm_prefetch(reinterpret_cast<const char *>(p), _MM_HINT_T0); }

// a . b: four accumulators of 16 lanes each, added as (0 + 1) + (2 + 3), then the lanes as a tree. Every product meets at most
// d / 64 + 8 additions, so the error is below (d / 64 + 9) 2^-24 sum |a_i b_i|. `next` is fetched while the loop runs.
inline float dot(const float *a, const float *b, int64_t d, const float *next) {
    __m512 s0 = _mm512_setzero_ps(), s1 = s0, s2 = s0, s3 = s0;
    int64_t i = 0;
    for (; i + 64 <= d; i += 64) {
        for (int64_t line = 0; line < 64; line += 16) prefetch(next + i + line);
        s0 = _mm512_fmadd_ps(_mm512_loadu_ps(a + i), _mm512_loadu_ps(b + i), s0);
        s1 = _mm512_fmadd_ps(_mm512_loadu_ps(a + i + 16), _mm512_loadu_ps(b + i + 16), s1);
        s2 = _mm512_fmadd_ps(_mm512_loadu_ps(a + i + 32), _mm512_loadu_ps(b + i + 32), s2);
        s3 = _mm512_fmadd_ps(_mm512_loadu_ps(a + i + 48), _mm512_loadu_ps(b + i + 48), s3);
    }
    for (; i < d; i += 16) {
        const __mmask16 m = tail(d - i);
        s0 = _mm512_fmadd_ps(_mm512_maskz_loadu_ps(m, a + i), _mm512_maskz_loadu_ps(m, b + i), s0);
    }
    return _mm512_reduce_add_ps(_mm512_add_ps(_mm512_add_ps(s0, s1), _mm512_add_ps(s2, s3)));
}

// The same of two rows of bfloat16 that zeros fill up to `bytes`, a multiple of 64.
inline float dot_bf16(const uint8_t *a, const uint8_t *b, int64_t bytes, const uint8_t *next) {
    const auto at = [](const uint8_t *p) { return (__m512bh)_mm512_loadu_si512(p); };
    __m512 s0 = _mm512_setzero_ps(), s1 = s0, s2 = s0, s3 = s0;
    int64_t i = 0;
    for (; i + 256 <= bytes; i += 256) {
        for (int64_t line = 0; line < 256; line += 64) _mm_prefetch(reinterpret_cast<const char *>(next + i + line), _MM_HINT_T0);
        s0 = _mm512_dpbf16_ps(s0, at(a + i), at(b + i));
        s1 = _mm512_dpbf16_ps(s1, at(a + i + 64), at(b + i + 64));
        s2 = _mm512_dpbf16_ps(s2, at(a + i + 128), at(b + i + 128));
        s3 = _mm512_dpbf16_ps(s3, at(a + i + 192), at(b + i + 192));
    }
    for (; i < bytes; i += 64) s0 = _mm512_dpbf16_ps(s0, at(a + i), at(b + i));
    return _mm512_reduce_add_ps(_mm512_add_ps(_mm512_add_ps(s0, s1), _mm512_add_ps(s2, s3)));
}

constexpr int64_t COLUMNS = 256;  // of a row that are summed at a time: 16 accumulators
constexpr int64_t AHEAD = 8;      // rows that are fetched in advance: they lie anywhere in memory

// out[0, 16 N) = sum_j weight(j) * row(j)[0, 16 N), added in the order of j; a row of weight 0 is not read. row(j) is asked for,
// and fetched, up to AHEAD beyond count. `bias`, where there is one, is added last. Lanes beyond the mask, in the last vector,
// are left alone.
template <int N, class Weight, class Row>
inline void sum_columns(float *out, const float *bias, __mmask16 last, int64_t count, const Weight &weight, const Row &row) {
    __m512 sum[N];
#pragma GCC unroll 16
    for (int i = 0; i < N; ++i) sum[i] = _mm512_setzero_ps();
    for (int64_t j = 0; j < count; ++j) {
        const float w = weight(j);
        const float *next = row(j + AHEAD);
        if (w == 0) continue;
        const float *r = row(j);
        const __m512 v = _mm512_set1_ps(w);
#pragma GCC unroll 16
        for (int i = 0; i < N; ++i) {
            prefetch(next + 16 * i);
            const __m512 part = i + 1 < N ? _mm512_loadu_ps(r + 16 * i) : _mm512_maskz_loadu_ps(last, r + 16 * i);
            sum[i] = _mm512_fmadd_ps(v, part, sum[i]);
        }
    }
#pragma GCC unroll 16
    for (int i = 0; i < N; ++i) {
        const __mmask16 m = i + 1 < N ? __mmask16(0xffff) : last;
        if (bias) sum[i] = _mm512_add_ps(sum[i], _mm512_maskz_loadu_ps(m, bias + 16 * i));
        _mm512_mask_storeu_ps(out + 16 * i, m, sum[i]);
    }
}

// The same for `columns` <= COLUMNS.
template <class Weight, class Row>
inline void weighted_sum(float *out, const float *bias, int64_t columns, int64_t count, const Weight &weight, const Row &row) {
    if (columns == COLUMNS) return sum_columns<16>(out, bias, 0xffff, count, weight, row);
    for (int64_t i = 0; i < columns; i += 64) {
        const int64_t left = columns - i;
        const float *b = bias ? bias + i : nullptr;
        const auto shifted = [&](int64_t j) { return row(j) + i; };
        if (left > 48) sum_columns<4>(out + i, b, tail(left - 48), count, weight, shifted);
        else if (left > 32) sum_columns<3>(out + i, b, tail(left - 32), count, weight, shifted);
        else if (left > 16) sum_columns<2>(out + i, b, tail(left - 16), count, weight, shifted);
        else sum_columns<1>(out + i, b, tail(left), count, weight, shifted);
    }
}
