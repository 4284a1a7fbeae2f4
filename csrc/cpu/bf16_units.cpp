#include "bf16_units.h"

#include "tile.h"
#include "vec.h"

#include <ATen/Context.h>
#include <ATen/native/CPUBlas.h>
#include <torch/library.h>

#include <algorithm>
#include <chrono>
#include <exception>
#include <limits>

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

template <typename F>
double seconds(F&& f) {
  const auto start = std::chrono::steady_clock::now();
  f();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

// How many times as fast as float32 tiles the units make a product of the size that the attention
// needs. Both are timed in turn, a few microseconds each, and the shortest times are compared: what
// disturbs a measurement makes it longer.
double speed_of_units() {
  constexpr int64_t rows = 4 * kRows, width = 2 * kPanel<float>, depth = 64;
  const Buffer<BFloat16> a(rows * depth);
  const Buffer<Pair> b(depth / 2 * width);
  const Buffer<float> float_a(rows * depth), float_b(width * depth), c(rows * width);
  std::fill_n(a.get(), rows * depth, BFloat16(1));
  std::fill_n(b.get(), depth / 2 * width, Pair{1, 1});
  std::fill_n(float_a.get(), rows * depth, 1.0f);
  std::fill_n(float_b.get(), width * depth, 1.0f);

  const UnitsInUse in_use;
  double on_units = std::numeric_limits<double>::infinity(), on_tiles = on_units;
  for (int round = 0; round < 30; ++round) {
    on_units = std::min(on_units, seconds([&] {
                          multiply_on_units(
                              rows, width, depth, a.get(), depth, b.get(), c.get(), width, false);
                        }));
    on_tiles = std::min(
        on_tiles, seconds([&] {
          for (int64_t row = 0; row < rows; row += kRows) {
            for_products<kRows>(
                float_a.get() + row * depth, float_b.get(), width, depth,
                [&](auto& tile, int64_t key) { tile.store(c.get() + row * width + key, width); });
          }
        }));
  }
  return on_tiles / on_units;
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

bool bf16_units_pay() {
  // AMX multiplies sixteen times as many numbers a cycle, by its specification. The dot product of
  // AVX-512 is faster than the tiles on some CPUs (AMD Zen 4: 1.84 times, measured) and slower on
  // others (0.65 times, measured). The bar is far from all of these, so that a CPU decides alike in
  // every run: other bits come from the units than from the tiles.
  if (!at::globalContext().userEnabledMkldnn()) return false;
  static const bool pay = have_bf16_units() && speed_of_units() > 1.2;
  return pay;
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

TORCH_LIBRARY_IMPL(ltvr, CompositeExplicitAutograd, m) {
  m.impl("_bf16_units_pay", &ltvr::bf16_units_pay);
}
