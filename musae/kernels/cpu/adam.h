// Dense Adam (Kingma & Ba 2015) without weight decay, row by row, as torch.optim.Adam; with unit norm the part of the gradient
// along the row is removed first and the row is scaled to norm 1 afterwards. A row and its moments stay in the nearest cache.
#pragma once
#include "rows.h"

struct Adam {
    float beta1, beta2, rest1, rest2;  // rest = 1 - beta, rounded from double as torch rounds it
    float rate;                        // lr / (1 - beta1^step)
    float scale;                       // 1 / sqrt(1 - beta2^step)
    float eps, tiny;
    bool unit_norm;

    Adam(double b1, double b2, double e, double least, double lr, int64_t step, bool unit)
        : beta1(float(b1)), beta2(float(b2)), rest1(float(1 - b1)), rest2(float(1 - b2)),
          rate(float(lr / (1 - std::pow(b1, double(step))))), scale(float(1 / std::sqrt(1 - std::pow(b2, double(step))))),
          eps(float(e)), tiny(float(least)), unit_norm(unit) {}

    void row(float *p, const float *g, float *avg, float *sq, int64_t d) const {
        const __m512 radial = _mm512_set1_ps(unit_norm ? dot(p, g, d, p) : 0.0f);
        const __m512 b1 = _mm512_set1_ps(beta1), r1 = _mm512_set1_ps(rest1);
        const __m512 b2 = _mm512_set1_ps(beta2), r2 = _mm512_set1_ps(rest2);
        const __m512 lr = _mm512_set1_ps(rate), root = _mm512_set1_ps(scale), e = _mm512_set1_ps(eps);
        __m512 norm = _mm512_setzero_ps();
        for (int64_t i = 0; i < d; i += 16) {
            const __mmask16 k = tail(d - i);
            prefetch(p + d + i), prefetch(avg + d + i), prefetch(sq + d + i);  // the next row
            __m512 x = _mm512_maskz_loadu_ps(k, p + i), grad = _mm512_maskz_loadu_ps(k, g + i);
            if (unit_norm) grad = _mm512_fnmadd_ps(radial, x, grad);
            const __m512 m = _mm512_fmadd_ps(r1, grad, _mm512_mul_ps(b1, _mm512_maskz_loadu_ps(k, avg + i)));
            const __m512 v = _mm512_fmadd_ps(_mm512_mul_ps(r2, grad), grad, _mm512_mul_ps(b2, _mm512_maskz_loadu_ps(k, sq + i)));
            _mm512_mask_storeu_ps(avg + i, k, m);
            _mm512_mask_storeu_ps(sq + i, k, v);
            x = _mm512_sub_ps(x, _mm512_div_ps(_mm512_mul_ps(lr, m), _mm512_fmadd_ps(_mm512_sqrt_ps(v), root, e)));
            norm = _mm512_mask3_fmadd_ps(x, x, norm, k);
            _mm512_mask_storeu_ps(p + i, k, x);
        }
        if (!unit_norm) return;
        const float length = std::sqrt(_mm512_reduce_add_ps(norm));
        const __m512 divisor = _mm512_set1_ps(length < tiny ? tiny : length);
        for (int64_t i = 0; i < d; i += 16) {
            const __mmask16 k = tail(d - i);
            _mm512_mask_storeu_ps(p + i, k, _mm512_div_ps(_mm512_maskz_loadu_ps(k, p + i), divisor));
        }
    }
};

inline void adam(const Adam &step, float *param, const float *grad, float *avg, float *sq, int64_t rows, int64_t d,
                 int64_t threads) {
    parallel(rows, threads, 16, [&](int64_t begin, int64_t end) {
        for (int64_t f = begin; f < end; ++f) step.row(param + f * d, grad + f * d, avg + f * d, sq + f * d, d);
    });
}

// The same with the gradient sum over a latent's slots of weights[slot] * rows[frame], which exists one row at a time.
inline void adam_outer(const Adam &step, float *param, const int64_t *slots, const int64_t *frames, const int64_t *offsets,
                       const float *weights, const float *rows, float *avg, float *sq, int64_t width, int64_t d,
                       int64_t threads) {
    parallel(width, threads, 16, [&](int64_t begin, int64_t end) {
        Buffer<float> grad(d);
        for (int64_t f = begin; f < end; ++f) {
            outer_row(slots, frames, offsets[f], offsets[f + 1], offsets[width] - 1, weights, rows, grad, d);
            step.row(param + f * d, grad, avg + f * d, sq + f * d, d);
        }
    });
}
