// Products of bfloat16 matrices on the CPU's bf16 units, AMX or the dot product of AVX-512, with
// float32 sums: oneDNN's kernels, as ATen exports them.
#pragma once

#include <c10/util/BFloat16.h>

#include <cstdint>

namespace ltvr {

using c10::BFloat16;

// One column of two consecutive rows. The units take the right-hand matrix packed, as rows of
// pairs; a single row at its end is paired with zeros.
struct Pair {
  BFloat16 even, odd;
};

// Whether this CPU has the units and oneDNN, enabled, runs on them.
bool have_bf16_units();

// c [rows, width] = a [rows, depth] b, plus c if `add`: b is packed, [depth / 2, width], width a
// multiple of 16. Without the units slow, and as exact.
void multiply_packed(
    int64_t rows, int64_t width, int64_t depth, const BFloat16* a, int64_t a_row, const Pair* b,
    float* c, int64_t c_row, bool add);

// A thread's use of the units, which it gives back at the end.
struct UnitsInUse {
  ~UnitsInUse();
};

}  // namespace ltvr
