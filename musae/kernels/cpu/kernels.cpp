// Entry points of musae's CPU kernels, called by path.py through ctypes: row-major float32 and int64 arrays, no ownership; a bias
// may be null. 0: done; 1: out of memory or of another resource; 2: an index lies outside its range. Nothing throws across the
// border.
#include "above.h"
#include "adam.h"
#include "rows.h"
#include "topk.h"

namespace {
template <class Work>
int guarded(const Work &work) {
    try {
        return work();
    } catch (...) {
        return 1;
    }
}
}  // namespace

extern "C" {

int musae_topk(const float *x, const float *W, const float *b, int64_t n, int64_t F, int64_t d, int64_t k, float *values,
               int64_t *indices, uint8_t *bad, int64_t *passes, int64_t threads) {
    return guarded([&] {
        topk(x, W, b, n, F, d, k, values, indices, bad, passes, threads);
        return 0;
    });
}

int musae_above(const float *x, const float *W, const float *b, const float *floors, int64_t n, int64_t F, int64_t d,
                int64_t expected, int64_t room, float *values, int64_t *indices, int64_t *counts, uint8_t *unfit,
                int64_t threads) {
    return guarded([&] {
        above(x, W, b, floors, n, F, d, expected, room, values, indices, counts, unfit, threads);
        return 0;
    });
}

int musae_gather_sum(const float *weights, const int64_t *indices, const float *rows, const float *bias, float *out, int64_t n,
                     int64_t s, int64_t F, int64_t d, int64_t threads) {
    return guarded([&] {
        if (!within(indices, n * s, F)) return 2;
        gather_sum(weights, indices, rows, bias, out, n, s, d, threads);
        return 0;
    });
}

int musae_gather_dot(const float *upstream, const int64_t *indices, const float *rows, float *out, int64_t n, int64_t s,
                     int64_t F, int64_t d, int64_t threads) {
    return guarded([&] {
        if (!within(indices, n * s, F)) return 2;
        gather_dot(upstream, indices, rows, out, n, s, d, threads);
        return 0;
    });
}

int musae_transpose(const int64_t *indices, const float *weights, int64_t n, int64_t s, int64_t F, int64_t *slots,
                    int64_t *frames, int64_t *offsets) {
    return guarded([&] {
        if (!within(indices, n * s, F)) return 2;
        transpose(indices, weights, n * s, s, F, slots, frames, offsets);
        return 0;
    });
}

int musae_outer(const int64_t *slots, const int64_t *frames, const int64_t *offsets, const float *weights, const float *rows,
                float *out, int64_t F, int64_t d, int64_t threads) {
    return guarded([&] {
        outer(slots, frames, offsets, weights, rows, out, F, d, threads);
        return 0;
    });
}

int musae_total(const int64_t *slots, const int64_t *offsets, const float *weights, float *out, int64_t F) {
    return guarded([&] {
        total(slots, offsets, weights, out, F);
        return 0;
    });
}

int musae_adam(float *param, const float *grad, float *avg, float *sq, int64_t rows, int64_t d, int64_t step, double lr,
               double beta1, double beta2, double eps, double tiny, int unit_norm, int64_t threads) {
    return guarded([&] {
        adam(Adam(beta1, beta2, eps, tiny, lr, step, unit_norm), param, grad, avg, sq, rows, d, threads);
        return 0;
    });
}

int musae_adam_outer(float *param, const int64_t *slots, const int64_t *frames, const int64_t *offsets, const float *weights,
                     const float *rows, float *avg, float *sq, int64_t F, int64_t d, int64_t step, double lr, double beta1,
                     double beta2, double eps, double tiny, int unit_norm, int64_t threads) {
    return guarded([&] {
        const Adam update(beta1, beta2, eps, tiny, lr, step, unit_norm);
        adam_outer(update, param, slots, frames, offsets, weights, rows, avg, sq, F, d, threads);
        return 0;
    });
}
}
