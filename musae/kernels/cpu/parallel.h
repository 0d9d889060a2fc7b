// Threads and memory. A region starts its own threads (OpenMP would bring a second pool beside torch's); each gets one
// contiguous range. No result depends on the ranges: rows, latents and tokens are computed independently of each other.
#pragma once
#include <cstdint>
#include <cstdlib>
#include <exception>
#include <map>
#include <mutex>
#include <new>
#include <sys/mman.h>
#include <thread>
#include <vector>

using std::int64_t;

// Calls work(begin, end) on up to `threads` ranges of [0, count) whose bounds are multiples of `grain`.
template <class Work>
void parallel(int64_t count, int64_t threads, int64_t grain, const Work &work) {
    const int64_t grains = (count + grain - 1) / grain;
    if (threads > grains) threads = grains;
    if (threads <= 1) {
        if (count > 0) work(int64_t(0), count);
        return;
    }
    std::vector<std::thread> pool;
    std::vector<std::exception_ptr> errors(threads);
    auto part = [&](int64_t t) {
        const int64_t begin = grains * t / threads * grain, end = grains * (t + 1) / threads * grain;
        try {
            work(begin, end < count ? end : count);
        } catch (...) {
            errors[t] = std::current_exception();
        }
    };
    for (int64_t t = 1; t < threads; ++t) {
        try {
            pool.emplace_back(part, t);
        } catch (...) {  // no more threads to be had
            part(t);
        }
    }
    part(0);
    for (auto &thread : pool) thread.join();
    for (auto &error : errors)
        if (error) std::rethrow_exception(error);
}

// Large blocks that were given back, for the next call: the page faults of fresh memory cost up to a third of an encoding.
class Pool {
  public:
    static constexpr size_t PAGE = size_t(1) << 21, KEPT = size_t(96) << 20;  // a huge page; bytes that are kept at most

    static Pool &instance() {
        static Pool *pool = new Pool;  // never destroyed: threads may outlive static objects
        return *pool;
    }

    // A block of at least `size` bytes, a multiple of PAGE; `size` becomes what it really has.
    void *take(size_t &size) {
        {
            std::lock_guard<std::mutex> hold(lock_);
            const auto found = blocks_.lower_bound(size);
            if (found != blocks_.end() && found->first <= 2 * size) {
                void *data = found->second;
                size = found->first;
                kept_ -= size;
                blocks_.erase(found);
                return data;
            }
        }
        void *data = std::aligned_alloc(PAGE, size);
        if (data) madvise(data, size, MADV_HUGEPAGE);
        return data;
    }

    void give(void *data, size_t size) {
        std::lock_guard<std::mutex> hold(lock_);
        if (kept_ + size > KEPT) return std::free(data);
        blocks_.emplace(size, data);
        kept_ += size;
    }

  private:
    std::mutex lock_;
    std::multimap<size_t, void *> blocks_;
    size_t kept_ = 0;
};

// Uninitialised memory, aligned to a cache line.
template <class T>
class Buffer {
  public:
    explicit Buffer(int64_t count) : size_(size_t(count > 0 ? count : 1) * sizeof(T)) {
        const size_t align = size_ >= Pool::PAGE ? Pool::PAGE : 64;
        size_ = (size_ + align - 1) / align * align;
        data_ = static_cast<T *>(size_ >= Pool::PAGE ? Pool::instance().take(size_) : std::aligned_alloc(64, size_));
        if (!data_) throw std::bad_alloc();
    }
    ~Buffer() {
        if (size_ >= Pool::PAGE) Pool::instance().give(data_, size_);
        else std::free(data_);
    }
    Buffer(const Buffer &) = delete;
    Buffer &operator=(const Buffer &) = delete;
    operator T *() const { return data_; }

  private:
    size_t size_;
    T *data_;
};
