#include "bf16_units.h"

#include "vec.h"

#include <ATen/Context.h>
#include <ATen/native/CPUBlas.h>

#include <algorithm>
#include <exception>

namespace ltvr {
namespace {

void multiply_on_units(
    int64_t rows, int64_t width, int64_t depth, const BFloat16* a, int64_t a_row, const Pair* b,
    float* c, int64_t c_row, bool add) {
  at::native::cpublas::brgemm(
      rows, width, depth, a_row, width, c_row, add, a, reinterpret_cast<const BFloat16*>(b), c,
      /*is_vnni=*/true);
}

void multiply_emulated(
    int64_t rows, int64_t width, int64_t depth, const BFloat16* a, int64_t a_row, const Pair* b,
    float* c, int64_t c_row, bool add) {
  for (int64_t r = 0; r < rows; ++r) {
    for (int64_t i = 0; i < width; i += Vec<float>::size()) {
      Vec<float> total = add ? Vec<float>::loadu(c + r * c_row + i) : Vec<float>(0);
      for (int64_t k = 0; k < depth; k += 2) {
        const auto pairs = Vec<int32_t>::loadu(b + k / 2 * width + i);
        const auto even = at::vec::cast<float>(pairs << Vec<int32_t>(16));
        const auto odd = at::vec::cast<float>(pairs & Vec<int32_t>(-65536));
        total = at::vec::fmadd(Vec<float>(a[r * a_row + k]), even, total);
        total = at::vec::fmadd(Vec<float>(a[r * a_row + k + 1]), odd, total);
      }
      total.store(c + r * c_row + i);
    }
  }
}

// Whether the units give the right product, tried on small integers, which are exact in any order
// of summation. That the CPU has the units is not enough: some versions of oneDNN lack the kernel
// for some CPUs, and oneDNN's own settings (ONEDNN_MAX_CPU_ISA) can switch it off.
[[maybe_unused]] bool units_multiply() {
  constexpr int64_t rows = 3, width = 16, depth = 4;
  BFloat16 a[rows * depth];
  Pair b[depth / 2 * width];
  float got[rows * width] = {}, expected[rows * width] = {};
  for (int i = 0; i < rows * depth; ++i) a[i] = static_cast<float>(i - 5);
  for (int i = 0; i < depth / 2 * width; ++i) {
    b[i] = {BFloat16(static_cast<float>(i % 7)), BFloat16(static_cast<float>(3 - i))};
  }
  multiply_emulated(rows, width, depth, a, depth, b, expected, width, false);
  try {
    const UnitsInUse in_use;
    multiply_on_units(rows, width, depth, a, depth, b, got, width, false);
  } catch (const std::exception&) {
    return false;
  }
  return std::equal(got, got + rows * width, expected);
}

}  // namespace

bool have_bf16_units() {
#if defined(CPU_CAPABILITY_AVX512)
  if (!at::globalContext().userEnabledMkldnn()) return false;
  // A CPU with AMX for bfloat16 also has the dot product, so one question covers both.
  static const bool have = __builtin_cpu_supports("avx512bf16") && units_multiply();
  return have;
#else
  return false;
#endif
}

void multiply_packed(
    int64_t rows, int64_t width, int64_t depth, const BFloat16* a, int64_t a_row, const Pair* b,
    float* c, int64_t c_row, bool add) {
  const auto multiply = have_bf16_units() ? multiply_on_units : multiply_emulated;
  multiply(rows, width, depth, a, a_row, b, c, c_row, add);
}

UnitsInUse::~UnitsInUse() {
  at::native::cpublas::brgemm_release();
}

}  // namespace ltvr
