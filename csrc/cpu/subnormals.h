// Arithmetic without subnormal numbers. Where features make the attention sharp, most of its
// gradient is below 1e-38, and an x86 CPU takes many times as long for a product with such a
// number: in the kernels, and in the matrix products that read what they wrote.
#pragma once

#if defined(__x86_64__)
#include <xmmintrin.h>
#endif

namespace ltvr {

// While it lives, the thread takes subnormal numbers for zero, and makes none. On other CPUs than
// x86 nothing is done.
class SubnormalsAreZero {
 public:
#if defined(__x86_64__)
  SubnormalsAreZero() : former_(_mm_getcsr()) {
    constexpr unsigned kResults = 0x8000, kOperands = 0x0040;  // FTZ and DAZ
    _mm_setcsr(former_ | kResults | kOperands);
  }
  ~SubnormalsAreZero() { _mm_setcsr(former_); }
#else
  SubnormalsAreZero() {}
  ~SubnormalsAreZero() {}
#endif
  SubnormalsAreZero(const SubnormalsAreZero&) = delete;
  SubnormalsAreZero& operator=(const SubnormalsAreZero&) = delete;

#if defined(__x86_64__)
 private:
  unsigned former_;
#endif
};

}  // namespace ltvr
