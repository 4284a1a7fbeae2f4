// What the CPU operators share: vectors, exp2, conversion, aligned scratch memory.
//
// Every file of this folder is compiled once for each instruction set (setup.py), at::vec with it.
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

// The type that a storage type computes in: float32 for bfloat16 and float16.
template <typename S>
using Compute = at::opmath_type<S>;

constexpr double kLog2e = 1.4426950408889634;

constexpr int64_t divide_up(int64_t a, int64_t b) {
  return (a + b - 1) / b;
}

// 2^x to 2e-7 relative; tiny instead of zero below 2^-125, not defined above 2^127.
inline Vec<float> exp2(Vec<float> x) {
  // Adding 1.5 * 2^23 rounds to an integer, which is then the low bits of the sum.
  const Vec<float> magic(12582912.0f);
  x = at::vec::clamp_min(x, Vec<float>(-125.0f));
  const Vec<float> rounded = x + magic;
  const Vec<float> f = x - (rounded - magic);
  Vec<float> p(0.0013264728477224708f);  // minimax on [-1/2, 1/2]
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

// x with the lanes from `count` on replaced by `fill`.
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

// Cache-aligned scratch memory of one thread, from the allocator of tensors: PyTorch's profiler
// counts that of the thread it runs on.
template <typename T>
class Buffer {
 public:
  explicit Buffer(int64_t size) : data_(c10::GetCPUAllocator()->allocate(size * sizeof(T))) {}
  T* get() const { return static_cast<T*>(data_.get()); }

 private:
  c10::DataPtr data_;
};

// `source` in the type to compute in: itself, or converted into `buffer`.
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
