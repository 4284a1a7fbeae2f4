// What the CPU operators share: vectors, exp2, conversion of dtypes, and scratch memory.
//
// Every file of this folder is compiled once for each instruction set (setup.py), and PyTorch's
// at::vec with it: a vector is as wide as that instruction set allows.
#pragma once

#include <ATen/OpMathType.h>
#include <ATen/cpu/vec/functional.h>
#include <ATen/cpu/vec/vec.h>
#include <c10/core/CPUAllocator.h>
#include <c10/util/Unroll.h>

#include <algorithm>
#include <cstdint>
#include <type_traits>

namespace ltvr {

template <typename T>
using Vec = at::vec::Vectorized<T>;

// The type to compute in for tensors of type S: float32 for bfloat16 and float16, else S itself.
template <typename S>
using Compute = at::opmath_type<S>;

constexpr double kLog2e = 1.4426950408889634;

constexpr int64_t divide_up(int64_t a, int64_t b) {
  return (a + b - 1) / b;
}

// 2^x with a relative error of at most 2e-7. For x below -125 it returns 2^-125, which is as good
// as zero here; for x above 127 the result is not defined.
inline Vec<float> exp2(Vec<float> x) {
  // A float32 near 1.5 * 2^23 has no bits for a fraction. Adding this number therefore rounds x to
  // an integer, and leaves the integer in the low bits of the sum.
  const Vec<float> magic(12582912.0f);
  x = at::vec::clamp_min(x, Vec<float>(-125.0f));
  const Vec<float> rounded = x + magic;
  const Vec<float> f = x - (rounded - magic);
  Vec<float> p(0.0013264728477224708f);  // minimax polynomial of 2^f on [-1/2, 1/2]
  p = at::vec::fmadd(p, f, Vec<float>(0.009671512991189957f));
  p = at::vec::fmadd(p, f, Vec<float>(0.05550733581185341f));
  p = at::vec::fmadd(p, f, Vec<float>(0.24022242426872253f));
  p = at::vec::fmadd(p, f, Vec<float>(0.6931470036506653f));
  p = at::vec::fmadd(p, f, Vec<float>(1.0f));
  const auto exponent = at::vec::cast<int32_t>(rounded) << Vec<int32_t>(23);
  return at::vec::cast<float>(at::vec::cast<int32_t>(p) + exponent);
}

inline Vec<double> exp2(Vec<double> x) {
  return x.exp2();
}

template <typename T>
inline T sum(const Vec<T>& x) {
  return at::vec::vec_reduce_all<T>([](Vec<T> a, Vec<T> b) { return a + b; }, x);
}

template <typename T>
inline T maximum(const Vec<T>& x) {
  return at::vec::vec_reduce_all<T>([](Vec<T> a, Vec<T> b) { return at::vec::maximum(a, b); }, x);
}

// Returns x with the lanes from lane `count` on replaced by `fill`.
template <typename T>
inline Vec<T> keep(const Vec<T>& x, int64_t count, T fill) {
  constexpr int64_t width = Vec<T>::size();
  return count >= width ? x : Vec<T>::set(Vec<T>(fill), x, std::max<int64_t>(count, 0));
}

template <typename T>
T dot(const T* a, const T* b, int64_t size) {
  constexpr int64_t width = Vec<T>::size();
  T total = 0;
  int64_t i = 0;
  if (size >= width) {
    Vec<T> lanes(0);
    for (; i + width <= size; i += width) {
      lanes = at::vec::fmadd(Vec<T>::loadu(a + i), Vec<T>::loadu(b + i), lanes);
    }
    total = sum(lanes);
  }
  for (; i < size; ++i) total += a[i] * b[i];
  return total;
}

// Scratch memory of one thread, aligned to cache lines. It comes from the allocator of tensors, so
// that PyTorch's profiler counts it, if of the thread that the profiler runs on.
template <typename T>
class Buffer {
 public:
  explicit Buffer(int64_t size) : data_(c10::GetCPUAllocator()->allocate(size * sizeof(T))) {}
  T* get() const { return static_cast<T*>(data_.get()); }

 private:
  c10::DataPtr data_;
};

// Returns `source` in the type to compute in: `source` itself where it has that type, else
// `buffer`, filled with the converted numbers.
template <typename S>
const Compute<S>* converted(const S* source, Compute<S>* buffer, int64_t size) {
  if constexpr (std::is_same_v<S, Compute<S>>) {
    return source;
  } else {
    at::vec::convert(source, buffer, size);
    return buffer;
  }
}

}  // namespace ltvr
