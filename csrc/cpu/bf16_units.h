// Products of bfloat16 matrices, summed in float32, on the instructions that a CPU may have for
// them: AMX, or the dot product of AVX-512. They are called the bf16 units here. The kernels are
// those of oneDNN, which PyTorch contains and exports.
#pragma once

#include <c10/util/BFloat16.h>

#include <cstdint>

namespace ltvr {

using c10::BFloat16;

// The numbers of two consecutive rows in one column. The units read the right-hand matrix as rows
// of such pairs; where the number of rows is odd, the last row is paired with zeros.
struct Pair {
  BFloat16 even, odd;
};

// Whether this CPU has the units, and oneDNN is enabled and runs on them.
bool have_bf16_units();

// Whether they are also clearly faster than the float32 tiles, by a measurement of a fraction of a
// millisecond in the first call.
bool bf16_units_pay();

// c = a b, or c += a b if `add`. a is [rows, depth] and c [rows, width], with the distances of
// their rows in `a_row` and `c_row`; b is packed, [depth / 2, width]; width is a multiple of 16. A
// CPU without the units gets the same precision from an emulation, which is slow and for the tests.
void multiply_packed(
    int64_t rows, int64_t width, int64_t depth, const BFloat16* a, int64_t a_row, const Pair* b,
    float* c, int64_t c_row, bool add);

// A thread that multiplies on the units holds one of these: oneDNN configures AMX for the thread,
// and the destructor releases it.
struct UnitsInUse {
  ~UnitsInUse();
};

}  // namespace ltvr
